//! The certificates in use, what is pending, and what happened: everything of ACME that requests, handshakes, the admin
//! listener and the orders share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::certificate::{AcmeCertificate, SharedCertificate, SharedCertificates};
use super::challenges::Challenges;
use super::leader::LeaderClient;
use super::record::{OrderRecord, OrderRecords};
use crate::domain::renewal;

/// Certificates by host, in lower case.
pub type AcmeCertificates = BTreeMap<String, Arc<AcmeCertificate>>;

/// All of ACME in this process. Empty without `listeners[].tls.acme`.
#[derive(Debug, Default)]
pub struct AcmeState {
    certificates: ArcSwap<AcmeCertificates>,
    pub challenges: Arc<Challenges>,
    pub records: Mutex<OrderRecords>,
    /// Orders that brought a certificate, or certificates that came from the followed ICM.
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    leader: ArcSwapOption<LeaderClient>,
    /// A listener has `acme`.
    configured: AtomicBool,
    /// Why the followed ICM gives no certificates; empty while it does.
    pub leader_error: Mutex<String>,
    /// The list of the followed ICM that is in use.
    leader_digest: Mutex<String>,
    changed: Notify,
}

impl AcmeState {
    #[must_use]
    pub fn certificates(&self) -> Arc<AcmeCertificates> {
        self.certificates.load_full()
    }

    #[must_use]
    pub fn certificate(&self, host: &str) -> Option<Arc<AcmeCertificate>> {
        self.certificates.load().get(host).cloned()
    }

    /// Adds a certificate, or replaces the one of this host.
    pub fn set_certificate(&self, host: &str, certificate: Arc<AcmeCertificate>) {
        self.certificates.rcu(|old| {
            let mut new = AcmeCertificates::clone(old);
            new.insert(host.to_owned(), Arc::clone(&certificate));
            new
        });
    }

    /// Forgets all other hosts; their files stay.
    pub fn retain_hosts(&self, hosts: &[&str]) {
        self.configured.store(!hosts.is_empty(), Relaxed);
        let is_kept = |host: &String| hosts.contains(&host.as_str());
        self.certificates.rcu(|old| {
            old.iter()
                .filter(|(host, _)| is_kept(host))
                .map(|(host, one)| (host.clone(), Arc::clone(one)))
                .collect::<AcmeCertificates>()
        });
        self.records.lock().retain(|host, _| is_kept(host));
    }

    #[must_use]
    pub fn record(&self, host: &str) -> OrderRecord {
        self.records.lock().get(host).cloned().unwrap_or_default()
    }

    /// When the certificate of this host is ordered next, in seconds since 1970. One of another ACME server is due at once.
    #[must_use]
    pub fn next_order(&self, host: &str, directory: &str, now: u64) -> u64 {
        let record = self.record(host);
        let is_of_other = record.directory.is_some_and(|issuer| issuer != directory);
        let certificate = self.certificate(host).filter(|_| !is_of_other);
        let validity = certificate.as_ref().map(|certificate| certificate.validity);
        let spread = certificate.map_or(0.0, |certificate| certificate.spread);
        renewal::next_order(validity, spread, record.paused_until, now)
    }

    /// Whether a request may be for a pending challenge. One load of a flag without `acme`.
    #[must_use]
    pub fn may_answer_challenges(&self) -> bool {
        self.configured.load(Relaxed) && (!self.challenges.is_empty() || self.leader.load().is_some())
    }

    /// The followed ICM, which may have pending challenges that come to this one.
    #[must_use]
    pub fn leader(&self) -> Option<Arc<LeaderClient>> {
        if self.configured.load(Relaxed) { self.leader.load_full() } else { None }
    }

    pub fn set_leader(&self, leader: Option<Arc<LeaderClient>>) {
        self.leader.store(leader);
    }

    #[must_use]
    pub fn leader_digest(&self) -> String {
        self.leader_digest.lock().clone()
    }

    pub fn set_leader_digest(&self, digest: String) {
        *self.leader_digest.lock() = digest;
    }

    /// What an ICM that follows this one takes over; without the certificates if it has the list with this digest.
    #[must_use]
    pub fn shared(&self, known: Option<&str>) -> SharedCertificates {
        let certificates = self.certificates();
        let mut hash = Sha256::new();
        for (host, certificate) in certificates.iter() {
            hash.update(host.as_bytes());
            hash.update(certificate.pem.as_bytes());
        }
        let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let list = certificates
            .iter()
            .map(|(host, one)| SharedCertificate { host: host.clone(), pem: one.pem.clone() });
        let list = (known != Some(digest.as_str())).then(|| list.collect());
        SharedCertificates { digest, certificates: list }
    }

    /// Tells the task that orders certificates to look again.
    pub fn notify_changed(&self) {
        self.changed.notify_one();
    }

    pub async fn wait_for_change(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_certificate() -> AcmeState {
        let state = AcmeState::default();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["www.acme.example".to_owned()]).unwrap();
        let pem = format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem());
        let certificate = AcmeCertificate::parse("www.acme.example", pem).unwrap();
        state.set_certificate("www.acme.example", Arc::new(certificate));
        state
    }

    #[test]
    fn a_certificate_of_another_acme_server_is_replaced_at_once() {
        let state = with_certificate();
        let staging = OrderRecord { directory: Some("https://staging".into()), ..OrderRecord::default() };
        state.records.lock().insert("www.acme.example".to_owned(), staging);
        let next = |directory| state.next_order("www.acme.example", directory, 1_000);
        assert!(next("https://staging") > 1_000);
        assert_eq!(next("https://production"), 0);
        state.records.lock().clear();
        assert!(next("https://production") > 1_000, "of a followed ICM, whose ACME server is not known");
    }

    #[test]
    fn an_icm_that_follows_gets_the_keys_only_when_the_list_has_changed() {
        let state = with_certificate();
        let first = state.shared(None);
        assert!(first.certificates.as_ref().unwrap()[0].pem.contains("PRIVATE KEY"));
        assert!(state.shared(Some(&first.digest)).certificates.is_none());
        state.retain_hosts(&[]);
        let second = state.shared(Some(&first.digest));
        assert!(second.certificates.unwrap().is_empty() && second.digest != first.digest);
    }
}

//! The task that keeps the certificates from ACME valid: it orders them one after the other, or takes them from the followed ICM.
//! An order that fails changes nothing in use, is an event, and is followed by a pause that is saved.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::acme::certificate::AcmeCertificate;
use crate::acme::leader::LeaderClient;
use crate::acme::order::{self, OrderFailure, OrderRequest};
use crate::acme::storage::AcmeFolder;
use crate::config::Settings;
use crate::config::settings::{AcmeChallengeType, AcmeSettings, Follow};
use crate::domain::renewal;
use crate::edge::tls::Certificates;
use crate::state::Balancer;
use crate::util::clock;

/// The longest sleep, because the wall clock may be set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// How often the followed ICM is asked while a host has no certificate.
const MISSING_INTERVAL: Duration = Duration::from_secs(2);

/// A background task; ends when dropped.
#[derive(Debug)]
pub struct AcmeOrders(AbortHandle);

impl AcmeOrders {
    /// Must not be started before this process owns the state, or two processes would order at once.
    #[must_use]
    pub fn start(balancer: &Arc<Balancer>, certificates: &Arc<Certificates>) -> Self {
        let task = run(Arc::clone(balancer), Arc::clone(certificates));
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for AcmeOrders {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What counts if a host is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeSource {
    Memory,
    /// Another process of this ICM may have written meanwhile.
    Files,
}

/// Reads what is saved about the hosts of the settings, and forgets all others. Blocks.
pub fn load_from_state_dir(balancer: &Balancer, source: AcmeSource) {
    let settings = Arc::clone(&balancer.snapshot().settings);
    let hosts: Vec<&str> = settings.acme_hosts().into_iter().map(|(host, _)| host).collect();
    balancer.acme.retain_hosts(&hosts);
    let Some(folder) = settings.state_dir.as_deref().map(AcmeFolder::new).filter(|_| !hosts.is_empty())
    else {
        return;
    };
    for (host, record) in folder.load_records() {
        if hosts.contains(&host.as_str()) {
            let mut records = balancer.acme.records.lock();
            if source == AcmeSource::Files {
                records.remove(&host);
            }
            records.entry(host).or_insert(record);
        }
    }
    for host in hosts {
        if source == AcmeSource::Memory && balancer.acme.certificate(host).is_some() {
            continue;
        }
        match folder.load_certificate(host) {
            Ok(Some(certificate)) => balancer.acme.set_certificate(host, Arc::new(certificate)),
            Ok(None) => {}
            Err(error) => {
                log::error!(target: "icm::acme", "the saved certificate cannot be used, ordering another: {error}");
            }
        }
    }
}

/// Gives the listeners the certificates that there are.
pub fn install(balancer: &Balancer, certificates: &Certificates) {
    let settings = Arc::clone(&balancer.snapshot().settings);
    certificates.install_acme(&settings);
    certificates.publish_expiry(&settings, &balancer.statistics);
}

async fn run(balancer: Arc<Balancer>, certificates: Arc<Certificates>) {
    let (owned, installed) = (Arc::clone(&balancer), Arc::clone(&certificates));
    let load = move || {
        load_from_state_dir(&owned, AcmeSource::Files);
        install(&owned, &installed);
    };
    if let Err(error) = tokio::task::spawn_blocking(load).await {
        log::error!(target: "icm::acme", "cannot read what is saved about certificates: {error}");
    }
    loop {
        let settings = Arc::clone(&balancer.snapshot().settings);
        let hosts = settings.acme_hosts();
        set_leader(&balancer, settings.follow.as_ref().filter(|_| !hosts.is_empty()));
        let folder = settings.state_dir.as_deref().map(AcmeFolder::new).filter(|_| !hosts.is_empty());
        let sleep = match (folder, balancer.acme.leader()) {
            (None, _) => MAX_SLEEP,
            (Some(folder), Some(leader)) => {
                take_over(&balancer, &certificates, &settings, &leader, &folder).await
            }
            (Some(folder), None) => order_next(&balancer, &certificates, &settings, &folder).await,
        };
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = balancer.acme.wait_for_change() => {}
        }
    }
}

fn set_leader(balancer: &Balancer, follow: Option<&Follow>) {
    let current = balancer.acme.leader();
    match (follow, current) {
        (Some(follow), Some(current)) if current.is_for(follow) => {}
        (follow, _) => balancer.acme.set_leader(follow.map(|follow| Arc::new(LeaderClient::new(follow)))),
    }
}

/// Orders the certificate that is due first. Returns when to look again.
async fn order_next(
    balancer: &Balancer,
    certificates: &Certificates,
    settings: &Settings,
    folder: &AcmeFolder,
) -> Duration {
    let now = clock::unix_secs();
    let due = |host: &str, acme: &AcmeSettings| balancer.acme.next_order(host, &acme.directory, now);
    let first = settings.acme_hosts().into_iter().min_by_key(|(host, acme)| due(host, acme));
    let Some((host, acme)) = first else {
        return MAX_SLEEP;
    };
    let wait = due(host, acme).saturating_sub(now);
    if wait > 0 {
        return Duration::from_secs(wait).min(MAX_SLEEP);
    }
    order_one(balancer, certificates, folder, host, acme).await;
    Duration::ZERO
}

async fn order_one(
    balancer: &Balancer,
    certificates: &Certificates,
    folder: &AcmeFolder,
    host: &str,
    acme: &Arc<AcmeSettings>,
) {
    let preference = preference(balancer, host, acme);
    begin_record(balancer, folder, host).await;
    log::info!(target: "icm::acme", "{host}: ordering a certificate from {}", acme.directory);
    let request = OrderRequest {
        host: host.to_owned(),
        acme: Arc::clone(acme),
        folder: folder.clone(),
        challenges: Arc::clone(&balancer.acme.challenges),
        preference,
    };
    match order::order(&request).await {
        Ok(issued) => {
            let by = issued.challenge.map_or("an earlier validation", AcmeChallengeType::as_str);
            let text = format!(
                "{host}: new certificate from {} by {by}, valid until {}",
                acme.directory,
                time(issued.certificate.validity.not_after)
            );
            let pem = issued.certificate.pem.clone();
            use_certificate(balancer, certificates, host, issued.certificate);
            save_certificate(folder, host, pem).await;
            balancer.acme.succeeded.fetch_add(1, Relaxed);
            balancer.events.record(log::Level::Info, "acme", None, text);
            end_record(balancer, folder, host, Ok((issued.challenge, acme.directory.clone()))).await;
        }
        Err(failure) => {
            balancer.acme.failed.fetch_add(1, Relaxed);
            let error = failure.error.to_string();
            end_record(balancer, folder, host, Err(failure)).await;
            let next = time(balancer.acme.record(host).paused_until);
            let text =
                format!("{host}: no new certificate from {}: {error}; next order at {next}", acme.directory);
            record_failure(balancer, host, text);
        }
    }
}

/// An error once the certificate in use has expired or there is none, else a warning.
fn record_failure(balancer: &Balancer, host: &str, text: String) {
    let valid = balancer.acme.certificate(host).map(|one| one.validity.not_after);
    let (level, consequence) = match valid {
        None => (log::Level::Error, "until then TLS handshakes for it fail".to_owned()),
        Some(end) if end < clock::unix_secs() => {
            (log::Level::Error, format!("the one in use has expired on {}", time(end)))
        }
        Some(end) => (log::Level::Warn, format!("the one in use is valid until {}", time(end))),
    };
    balancer.events.record(level, "acme", None, format!("{text}; {consequence}"));
}

/// The challenges in the order in which they are tried: after a failure another one comes first.
fn preference(balancer: &Balancer, host: &str, acme: &AcmeSettings) -> Vec<AcmeChallengeType> {
    let record = balancer.acme.record(host);
    let preferred = acme.challenges.iter().position(|c| record.challenge.as_deref() == Some(c.as_str()));
    let first = renewal::challenge_number(preferred.unwrap_or(0), record.failures, acme.challenges.len());
    let mut challenges = acme.challenges.clone();
    challenges.rotate_left(first.min(acme.challenges.len()));
    challenges
}

/// Counts the order as failed until it succeeds: a process that ends meanwhile, again and again, must not order at each
/// start.
async fn begin_record(balancer: &Balancer, folder: &AcmeFolder, host: &str) {
    let now = clock::unix_secs();
    update_record(balancer, folder, host, |record| {
        record.failures = record.failures.saturating_add(1);
        record.attempted = now;
        record.paused_until =
            now.saturating_add(renewal::pause_after_failure(record.failures, fastrand::f64(), None));
        "the process ended before the order did".clone_into(&mut record.error);
    })
    .await;
}

async fn end_record(
    balancer: &Balancer,
    folder: &AcmeFolder,
    host: &str,
    result: Result<(Option<AcmeChallengeType>, String), OrderFailure>,
) {
    let now = clock::unix_secs();
    update_record(balancer, folder, host, |record| match result {
        Ok((challenge, directory)) => {
            record.failures = 0;
            record.directory = Some(directory);
            record.paused_until = now.saturating_add(renewal::MIN_ORDER_INTERVAL);
            record.error.clear();
            record.challenge = challenge.map(|c| c.as_str().to_owned()).or(record.challenge.take());
        }
        Err(failure) => {
            let pause = renewal::pause_after_failure(record.failures, fastrand::f64(), failure.pause);
            record.paused_until = now.saturating_add(pause);
            record.error = failure.error.to_string();
        }
    })
    .await;
}

async fn update_record(
    balancer: &Balancer,
    folder: &AcmeFolder,
    host: &str,
    change: impl FnOnce(&mut crate::acme::record::OrderRecord),
) {
    let records = {
        let mut records = balancer.acme.records.lock();
        change(records.entry(host.to_owned()).or_default());
        records.clone()
    };
    let folder = folder.clone();
    let saved = tokio::task::spawn_blocking(move || folder.save_records(&records)).await;
    if let Ok(Err(error)) = saved {
        log::error!(target: "icm::acme", "state_dir: cannot save the record of orders: {error}");
    }
}

/// Without a file the certificate is in use, and lost with the process.
async fn save_certificate(folder: &AcmeFolder, host: &str, pem: String) {
    let (folder, owned) = (folder.clone(), host.to_owned());
    let saved = tokio::task::spawn_blocking(move || folder.save_certificate(&owned, &pem)).await;
    if let Ok(Err(error)) = saved {
        log::error!(target: "icm::acme", "{host}: state_dir: cannot save the new certificate: {error}");
    }
}

fn use_certificate(balancer: &Balancer, certificates: &Certificates, host: &str, new: AcmeCertificate) {
    // A reload may have removed the host meanwhile.
    if balancer.snapshot().settings.acme_hosts().iter().any(|(known, _)| *known == host) {
        balancer.acme.set_certificate(host, Arc::new(new));
        install(balancer, certificates);
    }
}

/// Takes the certificates of the followed ICM. Returns when to ask again.
async fn take_over(
    balancer: &Balancer,
    certificates: &Certificates,
    settings: &Settings,
    leader: &LeaderClient,
    folder: &AcmeFolder,
) -> Duration {
    let hosts: Vec<&str> = settings.acme_hosts().into_iter().map(|(host, _)| host).collect();
    let is_missing = |host: &&str| balancer.acme.certificate(host).is_none();
    let had_all = !hosts.iter().any(is_missing);
    let known = if had_all { balancer.acme.leader_digest() } else { String::new() };
    let refresh = settings.follow.as_ref().map_or(MAX_SLEEP, |follow| follow.refresh);
    let error = match leader.certificates(&known).await {
        Ok(shared) => {
            let mut problems = Vec::new();
            for one in shared.certificates.unwrap_or_default() {
                if !hosts.contains(&one.host.as_str()) {
                    continue;
                }
                if let Err(problem) = accept(balancer, certificates, folder, &one.host, one.pem, leader).await
                {
                    problems.push(format!("{}: {problem}", one.host));
                }
            }
            let missing: Vec<&str> = hosts.iter().copied().filter(|host| is_missing(host)).collect();
            if !missing.is_empty() {
                problems.push(format!("it has no certificate for {} yet", missing.join(", ")));
            }
            // A list with a problem is asked for again.
            balancer.acme.set_leader_digest(if problems.is_empty() { shared.digest } else { String::new() });
            problems.join("; ")
        }
        Err(error) => error.to_string(),
    };
    note_leader_error(balancer, leader, error);
    if hosts.iter().any(is_missing) { refresh.min(MISSING_INTERVAL) } else { clock::jitter(refresh) }
}

/// Uses a certificate of the followed ICM. One that has expired does not replace a valid one.
async fn accept(
    balancer: &Balancer,
    certificates: &Certificates,
    folder: &AcmeFolder,
    host: &str,
    pem: String,
    leader: &LeaderClient,
) -> Result<(), String> {
    let current = balancer.acme.certificate(host);
    if current.as_ref().is_some_and(|current| current.pem == pem) {
        return Ok(());
    }
    let new = AcmeCertificate::parse(host, pem)?;
    let now = clock::unix_secs();
    if new.validity.not_after < now && current.is_some_and(|current| current.validity.not_after >= now) {
        return Err("its certificate has expired".to_owned());
    }
    let pem = new.pem.clone();
    let until = time(new.validity.not_after);
    use_certificate(balancer, certificates, host, new);
    save_certificate(folder, host, pem).await;
    balancer.acme.succeeded.fetch_add(1, Relaxed);
    let text = format!("{host}: new certificate from {}, valid until {until}", leader.origin());
    balancer.events.record(log::Level::Info, "acme", None, text);
    Ok(())
}

/// Records an event when the error changes.
fn note_leader_error(balancer: &Balancer, leader: &LeaderClient, error: String) {
    let mut known = balancer.acme.leader_error.lock();
    if *known == error {
        return;
    }
    if error.is_empty() {
        let text = format!("{} gives certificates again", leader.origin());
        balancer.events.record(log::Level::Info, "acme", None, text);
    } else {
        balancer.acme.failed.fetch_add(1, Relaxed);
        let text = format!("certificates of {}: {error}; those in use stay", leader.origin());
        balancer.events.record(log::Level::Warn, "acme", None, text);
    }
    *known = error;
}

/// A time for people, in UTC.
#[must_use]
pub fn time(unix_secs: u64) -> String {
    let at = i64::try_from(unix_secs).ok().and_then(|s| chrono::DateTime::from_timestamp(s, 0));
    at.map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}

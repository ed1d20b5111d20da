//! The certificates from ACME that one listener has, and its answer to TLS-ALPN-01. Apart from the certificates of files, which
//! only a reload replaces.

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use crate::acme::AcmeState;
use crate::acme::challenges::ACME_ALPN;

/// The hosts of one listener in the order of the configuration, and their certificates.
#[derive(Debug, Default)]
pub struct InstalledCertificates {
    by_host: AHashMap<String, Arc<CertifiedKey>>,
    /// The first host with a certificate.
    first: Option<Arc<CertifiedKey>>,
    /// Hosts without a certificate yet.
    waiting: Vec<String>,
}

#[derive(Debug)]
pub struct AcmeStore {
    state: Arc<AcmeState>,
    installed: ArcSwap<InstalledCertificates>,
}

/// What ACME says about a handshake.
#[derive(Debug)]
pub enum AcmeChoice {
    /// The ACME server asks. Without a pending challenge the handshake fails.
    Challenge(Option<Arc<CertifiedKey>>),
    /// The SNI is a host with a certificate.
    Host(Arc<CertifiedKey>),
    Other,
}

impl AcmeStore {
    pub fn new(state: &Arc<AcmeState>) -> Self {
        Self { state: Arc::clone(state), installed: ArcSwap::default() }
    }

    pub fn install(&self, hosts: &[String]) {
        let certificates = self.state.certificates();
        let mut installed = InstalledCertificates::default();
        for host in hosts {
            let Some(certificate) = certificates.get(host) else {
                installed.waiting.push(host.clone());
                continue;
            };
            installed.first.get_or_insert_with(|| Arc::clone(&certificate.key));
            installed.by_host.insert(host.clone(), Arc::clone(&certificate.key));
        }
        self.installed.store(Arc::new(installed));
    }

    /// Every host with a certificate.
    pub fn installed(&self) -> Vec<(String, Arc<CertifiedKey>)> {
        let installed = self.installed.load();
        let mut all: Vec<_> = installed.by_host.iter().map(|(h, key)| (h.clone(), Arc::clone(key))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    pub fn resolve(&self, hello: &ClientHello<'_>) -> AcmeChoice {
        let name = hello.server_name();
        let offered = || hello.alpn().into_iter().flatten();
        if offered().any(|protocol| protocol == ACME_ALPN) {
            // It must be the only protocol (RFC 8737 section 3), and HTTP must never follow such a handshake.
            let is_alone = offered().count() == 1;
            return AcmeChoice::Challenge(
                name.filter(|_| is_alone).and_then(|name| self.state.challenges.tls(name)),
            );
        }
        let installed = self.installed.load();
        // rustls has the name in lower case.
        let found = name.and_then(|name| installed.by_host.get(name.trim_end_matches('.')));
        found.map_or(AcmeChoice::Other, |certificate| AcmeChoice::Host(Arc::clone(certificate)))
    }

    /// For clients without a matching SNI, if there are no certificates in files. A host that waits for its certificate gets
    /// none: that of another host would only be a stranger warning.
    pub fn first(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let installed = self.installed.load();
        let waits =
            name.is_some_and(|name| installed.waiting.iter().any(|host| host == name.trim_end_matches('.')));
        installed.first.clone().filter(|_| !waits)
    }
}

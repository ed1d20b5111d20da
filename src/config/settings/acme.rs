//! `listeners[].tls.acme`: certificates from an ACME server. Apart from the listeners, because several of them may name
//! one host, which has one certificate.

use std::path::PathBuf;
use std::sync::Arc;

use super::Settings;

/// The directory of Let's Encrypt (<https://letsencrypt.org/docs/acme-protocol-updates/>).
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `acme` of a listener. The loader has checked that there is a `state_dir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// Where the authority sends warnings; identifies the account together with `directory`.
    pub email: String,
    /// The `https` URL of the ACME server's directory.
    pub directory: String,
    /// Authorities that may have issued the ACME server's own certificate.
    pub ca_file: Option<PathBuf>,
    /// The certificates of `ca_file` in DER.
    pub ca: Option<Arc<Vec<Vec<u8>>>>,
    /// Exact names in lower case, at least one; the first is for clients without a matching SNI.
    pub hosts: Vec<String>,
    /// What is tried, in this order; at least one.
    pub challenges: Vec<AcmeChallengeType>,
}

/// How the ACME server checks that this ICM answers for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallengeType {
    /// A file over plain HTTP, on port 80 (RFC 8555 section 8.3).
    Http01,
    /// A certificate in a TLS handshake, on port 443 (RFC 8737).
    TlsAlpn01,
}

impl AcmeChallengeType {
    /// Its name in ACME and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// The port that the ACME server connects to.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Http01 => 80,
            Self::TlsAlpn01 => 443,
        }
    }
}

impl Settings {
    /// Every host with a certificate from ACME, once, in the order of the file.
    #[must_use]
    pub fn acme_hosts(&self) -> Vec<(&str, &Arc<AcmeSettings>)> {
        let mut hosts: Vec<(&str, &Arc<AcmeSettings>)> = Vec::new();
        for acme in self.listeners.iter().filter_map(|l| l.tls.as_ref()?.acme.as_ref()) {
            for host in &acme.hosts {
                if !hosts.iter().any(|(known, _)| known == host) {
                    hosts.push((host, acme));
                }
            }
        }
        hosts
    }
}

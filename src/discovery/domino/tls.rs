//! TLS toward the servers: which authorities are trusted, and a Pingora connector that cannot panic.
//!
//! Certificates are always verified unless the configuration has `verify: false`.

use std::sync::Arc;

use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::tls::CaType;
use pingora::tls::{CertificateDer, RootCertStore, load_platform_certs_incl_env_into_store};
use pingora::utils::tls::{WrappedX509, parse_x509};

use crate::config::settings::UpstreamTls;

/// Idle connections in the pool of one client.
const MAX_IDLE_CONNECTIONS: usize = 16;

/// Pingora builds a verifier even if nothing is verified, and fails without any authority. This self-signed
/// certificate is used then; its key no longer exists.
const PLACEHOLDER_CA: &str = include_str!("placeholder-ca.txt");

/// An empty CA file for Pingora, if the platform's cannot be read or must not be used.
const NO_CA_FILE: &str = "/dev/null";

pub(crate) fn connector(tls: &UpstreamTls) -> TransportConnector {
    let mut options = ConnectorOptions::new(MAX_IDLE_CONNECTIONS);
    options.ca_file = if tls.ca.is_none() { fallback_ca_file() } else { Some(NO_CA_FILE.to_owned()) };
    TransportConnector::new(Some(options))
}

/// The CA file to give Pingora if the platform's store cannot be read, because Pingora's constructors would panic. This
/// happens in a container without `ca-certificates`, or if `SSL_CERT_FILE` names a missing file.
pub(crate) fn fallback_ca_file() -> Option<String> {
    let error = load_platform_certs_incl_env_into_store(&mut RootCertStore::empty()).err()?;
    log::warn!(
        target: "icm::tls",
        "cannot read the platform's certificate authorities, so none of them is trusted: {error}"
    );
    Some(NO_CA_FILE.to_owned())
}

/// The authorities for each connection, if the configuration has a `ca_file` or nothing is verified; `None` = the
/// platform's.
pub(crate) fn ca_certificates(tls: &UpstreamTls) -> Option<Arc<CaType>> {
    let placeholder: Vec<Vec<u8>>;
    let list: &[Vec<u8>] = match (&tls.ca, tls.verify) {
        (Some(list), true) => list,
        (_, false) => {
            placeholder = vec![decode_hex(PLACEHOLDER_CA)];
            &placeholder
        }
        (None, true) => return None,
    };
    let mut trusted = Vec::with_capacity(list.len());
    for der in list {
        match parse_certificate(der) {
            Some(certificate) => trusted.push(certificate),
            None => {
                log::warn!(target: "icm::tls", "cannot read a certificate of the upstream `ca_file`; it is ignored")
            }
        }
    }
    Some(trusted.into())
}

/// Checks with rustls first, because Pingora's parser panics on bytes that are no certificate.
fn parse_certificate(der: &[u8]) -> Option<WrappedX509> {
    RootCertStore::empty().add(CertificateDer::from(der.to_vec())).ok()?;
    let der = der.to_vec();
    std::panic::catch_unwind(move || WrappedX509::new(der, parse_x509)).ok()
}

fn decode_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .filter_map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ca: Option<Vec<Vec<u8>>>, verify: bool) -> UpstreamTls {
        UpstreamTls { ca_file: None, ca: ca.map(Arc::new), verify }
    }

    #[test]
    fn the_placeholder_is_a_certificate_and_is_used_only_without_verification() {
        assert_eq!(ca_certificates(&settings(None, false)).unwrap().len(), 1);
        assert!(ca_certificates(&settings(None, true)).is_none());
    }

    #[test]
    fn bytes_that_are_no_certificate_are_ignored_and_never_replaced_by_the_platforms_store() {
        let trusted = ca_certificates(&settings(Some(vec![b"nonsense".to_vec()]), true)).unwrap();
        assert!(trusted.is_empty());
        let _ = connector(&settings(Some(Vec::new()), true));
    }
}

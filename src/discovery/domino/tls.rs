//! TLS toward the servers: which authorities are trusted, and a Pingora connector that cannot panic.
//!
//! In: `upstream_tls` of the configuration. Out: a connector and the options of each peer. It never
//! skips the verification unless `verify: false` stands in the file.

use std::sync::Arc;

use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::tls::CaType;
use pingora::tls::{CertificateDer, RootCertStore, load_platform_certs_incl_env_into_store};
use pingora::utils::tls::{WrappedX509, parse_x509};

use crate::config::settings::UpstreamTls;

/// Idle connections kept by one client.
const MAX_IDLE_CONNECTIONS: usize = 16;

/// Pingora builds a verifier even where nothing is verified, and refuses to without any authority.
/// This one stands in then: a self-signed certificate whose key was thrown away.
const PLACEHOLDER_CA: &str = include_str!("placeholder-ca.txt");

/// Where Pingora finds authorities when the platform has none that can be read: none.
const NO_CA_FILE: &str = "/dev/null";

/// A connector with the authorities of `tls`.
pub(crate) fn connector(tls: &UpstreamTls) -> TransportConnector {
    let mut options = ConnectorOptions::new(MAX_IDLE_CONNECTIONS);
    options.ca_file = if tls.ca.is_none() { fallback_ca_file() } else { Some(NO_CA_FILE.to_owned()) };
    TransportConnector::new(Some(options))
}

/// What Pingora is to read instead of the platform's store, if that cannot be read: its constructors panic then, as
/// in a container without `ca-certificates` or with an `SSL_CERT_FILE` that is not there.
pub(crate) fn fallback_ca_file() -> Option<String> {
    let error = load_platform_certs_incl_env_into_store(&mut RootCertStore::empty()).err()?;
    log::warn!(
        target: "icm::tls",
        "the platform's certificate authorities cannot be read, so no server's certificate is trusted by them: {error}"
    );
    Some(NO_CA_FILE.to_owned())
}

/// The authorities for each connection, where the configuration names a `ca_file` or where nothing
/// is verified; `None` = the platform's.
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
                log::warn!(target: "icm::tls", "a certificate of the upstream `ca_file` cannot be read and is left out")
            }
        }
    }
    Some(trusted.into())
}

/// Pingora's parser panics on what is no certificate, rustls tells.
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
    fn the_placeholder_is_a_certificate_and_stands_in_only_where_nothing_is_verified() {
        assert_eq!(ca_certificates(&settings(None, false)).unwrap().len(), 1);
        assert!(ca_certificates(&settings(None, true)).is_none());
    }

    #[test]
    fn bytes_that_are_no_certificate_are_left_out_and_never_replaced_by_the_platform() {
        let trusted = ca_certificates(&settings(Some(vec![b"nonsense".to_vec()]), true)).unwrap();
        assert!(trusted.is_empty());
        let _ = connector(&settings(Some(Vec::new()), true));
    }
}

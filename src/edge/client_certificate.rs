//! The certificate that a client showed in its TLS handshake, and the acceptor that keeps it for the requests of the
//! connection.
//!
//! It is separate from [`super::tls`], which decides whether a handshake succeeds. A resumed session has the certificate of
//! the handshake that it resumes, because rustls keeps it in the ticket.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::tls::TlsAcceptor;
use rustls::ServerConfig;

use super::tls::TlsError;
use crate::util::clock;

/// A verified certificate of a client, in the forms that requests need. Made once for each connection.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// DER in base64 without line breaks.
    pub base64: String,
    /// The subject, such as `CN=Jane Doe, O=Acme`.
    pub subject: String,
    /// The IANA name of the connection's cipher suite.
    pub cipher: String,
    /// In seconds since 1970.
    not_after: i64,
}

impl ClientCertificate {
    fn read(der: &[u8], cipher: &str) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(Self {
            base64: STANDARD.encode(der),
            subject: parsed.subject().to_string(),
            // rustls names the suites of TLS 1.3 in its own way.
            cipher: cipher.replacen("TLS13_", "TLS_", 1),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }

    /// The certificate of the client's connection, unless it has expired since the handshake, or since the one that a
    /// resumed session goes back to.
    #[must_use]
    pub fn of_connection(digest: &SslDigest) -> Option<Arc<Self>> {
        let certificate = digest.extension.get::<Arc<Self>>()?;
        certificate.is_valid_at(clock::unix_secs()).then(|| Arc::clone(certificate))
    }

    fn is_valid_at(&self, unix_secs: u64) -> bool {
        i64::try_from(unix_secs).is_ok_and(|now| now <= self.not_after)
    }
}

/// Puts the certificate into the digest of the connection, which every session of it shares.
struct KeepCertificate;

#[async_trait]
impl TlsAccept for KeepCertificate {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        let cipher = tls.current_cipher_name().unwrap_or_default();
        let certificate = ClientCertificate::read(tls.peer_certificate_der()?, cipher)?;
        // The digest only lends its value, and a request needs one of its own: hence the inner `Arc`.
        Some(Arc::new(Arc::new(certificate)))
    }
}

/// Accepts connections with TLS, and keeps the certificate of each client that shows one.
///
/// # Errors
/// When Pingora refuses its own defaults.
pub fn acceptor_with_certificates(config: Arc<ServerConfig>) -> Result<Acceptor, TlsError> {
    let mut settings = TlsSettings::with_callbacks(Box::new(KeepCertificate))
        .map_err(|e| TlsError::Settings(e.to_string()))?;
    // Pingora has no acceptor with callbacks for a configuration that exists already, so that its own is replaced.
    settings.set_cert_resolver(Arc::clone(&config.cert_resolver));
    let mut acceptor = settings.build();
    acceptor.acceptor = TlsAcceptor::from(config);
    Ok(acceptor)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn jane() -> (Vec<u8>, ClientCertificate) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.distinguished_name.push(DnType::CommonName, "Jane Doe");
        params.not_after = date_time_ymd(2031, 1, 1);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let certificate = ClientCertificate::read(&der, "TLS13_AES_256_GCM_SHA384").unwrap();
        (der, certificate)
    }

    #[test]
    fn a_certificate_has_the_forms_that_domino_and_the_log_need() {
        let (der, jane) = jane();
        assert_eq!(STANDARD.decode(&jane.base64).unwrap(), der);
        assert!(jane.base64.bytes().all(|byte| byte.is_ascii_graphic()), "{}", jane.base64);
        assert_eq!((&*jane.subject, &*jane.cipher), ("O=Acme, CN=Jane Doe", "TLS_AES_256_GCM_SHA384"));
        let of_tls12 = ClientCertificate::read(&der, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384").unwrap();
        assert_eq!(of_tls12.cipher, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384");
        assert_eq!(ClientCertificate::read(b"no certificate", ""), None);
    }

    #[test]
    fn a_certificate_counts_until_it_expires_however_long_its_connection_lasts() {
        let (_, jane) = jane();
        let end = 1_924_992_000;
        assert!(jane.is_valid_at(end - 1) && jane.is_valid_at(end));
        assert!(!jane.is_valid_at(end + 1) && !jane.is_valid_at(u64::MAX));
    }
}

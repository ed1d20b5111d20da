//! A certificate of one host with its key, as one PEM text. One text and one file, so that a certificate can never be paired
//! with the key of another one.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use crate::domain::renewal::CertificateValidity;
use crate::util::crypto;

/// A certificate that can be used, and when it is renewed.
pub struct AcmeCertificate {
    /// The key and then the chain, the host's own certificate first.
    pub pem: String,
    pub key: Arc<CertifiedKey>,
    pub validity: CertificateValidity,
    /// From 0 to 1, the same for the whole life of the certificate.
    pub spread: f64,
}

impl std::fmt::Debug for AcmeCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeCertificate").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl AcmeCertificate {
    /// # Errors
    /// When the text has no key or no certificate, they do not belong together, or the certificate is not for `host`.
    pub fn parse(host: &str, pem: String) -> Result<Self, String> {
        let key =
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| format!("no private key: {e}"))?;
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("not valid PEM: {e}"))?;
        let leaf = chain.first().ok_or("no certificate")?;
        let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
        webpki::EndEntityCert::try_from(leaf)
            .and_then(|leaf| leaf.verify_is_valid_for_subject_name(&name))
            .map_err(|e| format!("the certificate is not for {host}: {e}"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|e| e.to_string())?;
        let seconds = |timestamp: i64| u64::try_from(timestamp).unwrap_or(0);
        let validity = CertificateValidity {
            not_before: seconds(parsed.validity().not_before.timestamp()),
            not_after: seconds(parsed.validity().not_after.timestamp()),
        };
        let spread = f64::from(crc32fast::hash(leaf)) / f64::from(u32::MAX);
        let key = CertifiedKey::from_der(chain, key, &crypto::provider()).map_err(|e| e.to_string())?;
        Ok(Self { pem, key: Arc::new(key), validity, spread })
    }

    #[must_use]
    pub fn renewal(&self) -> u64 {
        self.validity.renewal(self.spread)
    }
}

/// A certificate with its key, for an ICM that follows this one.
#[derive(Clone, Serialize, Deserialize)]
pub struct SharedCertificate {
    pub host: String,
    pub pem: String,
}

/// `/acme/certificates` of the admin listener.
#[derive(Clone, Serialize, Deserialize)]
pub struct SharedCertificates {
    /// Identifies this list; sent back as `known`.
    pub digest: String,
    /// Absent if the digest is `known`.
    pub certificates: Option<Vec<SharedCertificate>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_matching_certificate_for_the_host_is_accepted_and_the_key_is_never_shown() {
        let pair = |host: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
            (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
        };
        let (key, chain) = pair("www.acme.example");
        let good = AcmeCertificate::parse("www.acme.example", format!("{key}{chain}")).unwrap();
        assert!(good.validity.not_after > good.validity.not_before && (0.0..=1.0).contains(&good.spread));
        assert!(!format!("{good:?}").contains("PRIVATE"), "{good:?}");
        let (other_key, _) = pair("www.acme.example");
        for (host, text, error) in [
            ("mail.acme.example", format!("{key}{chain}"), "not for mail.acme.example"),
            ("www.acme.example", format!("{other_key}{chain}"), "key"),
            ("www.acme.example", chain.clone(), "no private key"),
            ("www.acme.example", key.clone(), "no certificate"),
            ("www.acme.example", String::new(), "no private key"),
        ] {
            let found = AcmeCertificate::parse(host, text).unwrap_err();
            assert!(found.to_lowercase().contains(error), "{found}");
        }
    }
}

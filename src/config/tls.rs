//! Certificates, keys and CA files. A file that is unreadable, does not match or has expired is an error here, not in a
//! handshake.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::file_access::Named;
use super::keys;
use super::reader::{Item, Map};
use super::settings::{CertificateFiles, ClientCertificateMode, ClientCertificates};
use super::values::ValueError;

/// In bytes. A bundle of all public roots has a quarter of a megabyte.
const MAX_PEM_FILE: u64 = 4 << 20;
const DAY: i64 = 24 * 3600;
/// A certificate that expires sooner gets a warning.
const EXPIRY_WARNING: i64 = 30 * DAY;

/// The certificate of a map with `cert` and `key`.
pub(super) fn certificate(map: &Map<'_>) -> Option<CertificateFiles> {
    let (cert_item, key_item) = (map.required("cert"), map.required("key"));
    let cert = cert_item.file(Named::Public, MAX_PEM_FILE);
    let key = key_item.secret_file(MAX_PEM_FILE);
    let (cert, cert_pem) = cert?;
    let chain = certificates(&cert_item, &cert_pem.bytes);
    let (key, key_pem) = key?;
    let private = private_key(&key_item, &key_pem.bytes);
    let chain = chain?;
    let leaf = chain.first().cloned();
    check_order(&cert_item, &chain);
    match CertifiedKey::from_der(chain, private?, &crate::util::crypto::provider()) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            key_item.error(
                ValueError::new(format!("this key does not belong to the certificate in {}", cert.display()))
                    .hint("the server's own certificate must be the first in the file"),
            );
            return None;
        }
        Err(error) => {
            cert_item.error(ValueError::new(format!("{} cannot be used: {error}", cert.display())));
            return None;
        }
    }
    check_time(&cert_item, &leaf?);
    Some(CertificateFiles { cert, key })
}

/// The certificates of a CA file in DER; at least one.
pub(super) fn authorities(item: &Item<'_>) -> Option<(PathBuf, Arc<Vec<Vec<u8>>>)> {
    let (path, content) = item.file(Named::Public, MAX_PEM_FILE)?;
    let list = certificates(item, &content.bytes)?;
    let mut store = rustls::RootCertStore::empty();
    for (i, certificate) in list.iter().enumerate() {
        if let Err(error) = store.add(certificate.clone()) {
            item.error(ValueError::new(format!(
                "certificate {} in {} cannot be used: {error}",
                i + 1,
                path.display()
            )));
            return None;
        }
    }
    Some((path, Arc::new(list.into_iter().map(|c| c.to_vec()).collect())))
}

/// `client_certificates` of a listener. Without `mode` a certificate is required.
pub(super) fn client_certificates(item: &Item<'_>) -> Option<ClientCertificates> {
    item.value?;
    let map = item.map(keys::CLIENT_CERTIFICATES);
    let modes = [("request", ClientCertificateMode::Request), ("require", ClientCertificateMode::Require)];
    let mode = map.get("mode").choice(&modes).unwrap_or(ClientCertificateMode::Require);
    let (ca_file, ca) = authorities(&map.required("ca_file"))?;
    Some(ClientCertificates { ca_file, ca, mode })
}

fn certificates(item: &Item<'_>, pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(list) if !list.is_empty() => Some(list),
        Ok(_) => {
            item.error(
                ValueError::new("the file has no certificate")
                    .hint("it must be PEM, with `-----BEGIN CERTIFICATE-----`"),
            );
            None
        }
        Err(error) => {
            item.error(ValueError::new(format!("the file is not valid PEM: {error}")));
            None
        }
    }
}

fn private_key(item: &Item<'_>, pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    if let Ok(key) = PrivateKeyDer::from_pem_slice(pem) {
        return Some(key);
    }
    let encrypted = String::from_utf8_lossy(pem).contains("ENCRYPTED");
    item.error(if encrypted {
        ValueError::new("the private key is encrypted")
            .hint("store it without a password, readable only by its owner")
    } else {
        ValueError::new("the file has no private key")
            .hint("it must be PEM, with `-----BEGIN PRIVATE KEY-----`")
    });
    None
}

/// Warns unless the next certificate has issued each one. Many clients do not sort them.
fn check_order(item: &Item<'_>, chain: &[CertificateDer<'_>]) {
    let parsed: Vec<_> =
        chain.iter().filter_map(|c| x509_parser::parse_x509_certificate(c).ok().map(|(_, c)| c)).collect();
    for (n, pair) in parsed.windows(2).enumerate() {
        if let [one, next] = pair
            && one.issuer().as_raw() != next.subject().as_raw()
        {
            item.warn(format!(
                "certificate {} of the file did not issue certificate {}: the issuer of each certificate must come \
                 next, here {}",
                n + 2,
                n + 1,
                one.issuer()
            ));
            return;
        }
    }
}

fn check_time(item: &Item<'_>, certificate: &CertificateDer<'_>) {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return };
    let now = crate::util::clock::unix_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    let left = validity.not_after.timestamp() - now;
    if left < 0 {
        item.error(
            ValueError::new(format!("the certificate has expired on {}", validity.not_after))
                .hint("renew it, browsers refuse it"),
        );
    } else if left < EXPIRY_WARNING {
        item.warn(format!("the certificate expires in {} days, on {}", left / DAY, validity.not_after));
    }
    if validity.not_before.timestamp() > now {
        item.warn(format!("the certificate is not valid before {}", validity.not_before));
    }
}

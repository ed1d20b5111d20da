//! Certificates of the listeners, chosen by SNI and swapped on a reload without touching a connection.
//!
//! In: files that the configuration has checked. Out: a resolver for rustls. A certificate is chosen
//! by the names it carries, exact or wildcard; the first of the list is the default.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::TlsSettings;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::config::settings::{CertificateFiles, ListenerTls};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is no PEM, or not readable.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Pingora or rustls refused the settings.
    #[error("TLS: {0}")]
    Settings(String),
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct CertificateStore(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl CertificateStore {
    /// Of a listener.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit.
    pub fn load(tls: &ListenerTls) -> Result<Self, TlsError> {
        Self::of(&tls.certificates)
    }

    /// Of some files, the first being the default.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit.
    pub fn of(files: &[CertificateFiles]) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(read(files)?)))
    }

    /// Reads the files again; the old certificates stay when one of them is wrong.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit.
    pub fn renew(&self, files: &[CertificateFiles]) -> Result<(), TlsError> {
        self.0.store(Arc::new(read(files)?));
        Ok(())
    }
}

fn read(files: &[CertificateFiles]) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    files
        .iter()
        .map(|f| {
            let wrong = |path: &PathBuf, reason: String| TlsError::File { path: path.clone(), reason };
            let chain = CertificateDer::pem_file_iter(&f.cert)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| wrong(&f.cert, e.to_string()))?;
            let key = PrivateKeyDer::from_pem_file(&f.key).map_err(|e| wrong(&f.key, e.to_string()))?;
            CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
                .map(Arc::new)
                .map_err(|e| wrong(&f.cert, e.to_string()))
        })
        .collect()
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.0.load();
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok()).and_then(|name| {
            all.iter().find(|key| {
                let leaf = key.cert.first().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
                leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
            })
        });
        named.or_else(|| all.first()).cloned()
    }
}

/// Settings of a TLS listener.
///
/// # Errors
/// When the client CA file cannot be used.
pub fn listener(tls: &ListenerTls, store: Arc<CertificateStore>) -> Result<TlsSettings, TlsError> {
    let mut settings = with_store(store)?;
    if tls.h2 {
        settings.enable_h2();
    }
    if let Some(path) = &tls.client_ca_file {
        let wrong = |reason: String| TlsError::File { path: path.clone(), reason };
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
            roots.add(der.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        settings.set_client_cert_verifier(verifier);
    }
    Ok(settings)
}

/// Settings that take their certificates from a store.
///
/// # Errors
/// When Pingora refuses them.
pub fn with_store(store: Arc<CertificateStore>) -> Result<TlsSettings, TlsError> {
    let mut settings = TlsSettings::intermediate("", "").map_err(|e| TlsError::Settings(e.to_string()))?;
    settings.set_cert_resolver(store);
    Ok(settings)
}

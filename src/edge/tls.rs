//! Certificates of the listeners, chosen by SNI and swapped on a reload without touching a connection.
//!
//! In: files that the configuration has checked. Out: a resolver for rustls. A certificate is chosen
//! by the names it carries, exact or wildcard; the first of the list is the default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use crate::config::Settings;
use crate::config::settings::{CertificateFiles, ListenerTls};
use crate::telemetry::statistics::{CertificateExpiry, Statistics};
use crate::util::crypto::{self, Ticketer};

/// Sessions that a listener remembers for clients that keep no ticket.
const MAX_CACHED_SESSIONS: usize = 10_240;

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
    /// rustls refused the settings.
    #[error("TLS: {0}")]
    Settings(String),
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct CertificateStore(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl CertificateStore {
    /// Of some files, the first being the default.
    fn of(files: &[CertificateFiles]) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(read_certificates(files)?))))
    }

    /// One of the certificates is for this host name.
    #[must_use]
    pub fn covers_name(&self, name: &str) -> bool {
        ServerName::try_from(name).is_ok_and(|name| self.0.load().iter().any(|key| matches_name(key, &name)))
    }
}

/// All stores of this process, as it was started: a listener has the one of its address for good.
#[derive(Debug)]
pub struct Certificates {
    listeners: Vec<(SocketAddr, Arc<CertificateStore>)>,
    admin: Option<Arc<CertificateStore>>,
}

/// Certificates that were read and wait to be put in place.
#[derive(Debug)]
pub struct CertificateRenewal(Vec<(Arc<CertificateStore>, Vec<Arc<CertifiedKey>>)>);

impl Certificates {
    /// Reads every certificate that the settings name.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit.
    pub fn load(settings: &Settings) -> Result<Self, TlsError> {
        let of = |address, tls: &ListenerTls| Ok((address, CertificateStore::of(&tls.certificates)?));
        let listeners = settings.listeners.iter();
        let listeners = listeners.filter_map(|l| l.tls.as_ref().map(|tls| of(l.address, tls)));
        let admin = settings.admin.tls.as_ref().map(|f| CertificateStore::of(std::slice::from_ref(f)));
        Ok(Self { listeners: listeners.collect::<Result<_, TlsError>>()?, admin: admin.transpose()? })
    }

    /// The store of the listener at this address, if it has TLS.
    #[must_use]
    pub fn for_listener(&self, address: SocketAddr) -> Option<Arc<CertificateStore>> {
        self.listeners.iter().find(|(a, _)| *a == address).map(|(_, store)| Arc::clone(store))
    }

    /// The store of the admin and statpub listeners, if they have TLS.
    #[must_use]
    pub fn for_admin(&self) -> Option<Arc<CertificateStore>> {
        self.admin.clone()
    }

    /// Tells the metrics when the certificates that are shown now end.
    pub fn publish_expiry(&self, settings: &Settings, statistics: &Statistics) {
        let mut all = Vec::new();
        let mut note = |address: SocketAddr, store: &CertificateStore, files: &[CertificateFiles]| {
            for (key, file) in store.0.load().iter().zip(files) {
                all.extend(not_after(key).map(|expires_unix_secs| CertificateExpiry {
                    listener: address.to_string(),
                    file: file.cert.display().to_string(),
                    expires_unix_secs,
                }));
            }
        };
        for (address, store) in &self.listeners {
            let tls = settings.listeners.iter().find(|l| l.address == *address).and_then(|l| l.tls.as_ref());
            note(*address, store, tls.map(|tls| tls.certificates.as_slice()).unwrap_or_default());
        }
        if let (Some(store), Some(files)) = (&self.admin, &settings.admin.tls) {
            note(settings.admin.address, store, std::slice::from_ref(files));
        }
        *statistics.certificates.lock() = all;
    }

    /// Reads the files again and changes nothing yet: one bad file spoils the whole renewal.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit.
    pub fn read_renewal(&self, settings: &Settings) -> Result<CertificateRenewal, TlsError> {
        let mut renewal = Vec::new();
        for (address, store) in &self.listeners {
            let tls = settings.listeners.iter().find(|l| l.address == *address).and_then(|l| l.tls.as_ref());
            if let Some(tls) = tls {
                renewal.push((Arc::clone(store), read_certificates(&tls.certificates)?));
            }
        }
        if let (Some(store), Some(files)) = (&self.admin, &settings.admin.tls) {
            renewal.push((Arc::clone(store), read_certificates(std::slice::from_ref(files))?));
        }
        Ok(CertificateRenewal(renewal))
    }
}

impl CertificateRenewal {
    /// From the next handshake on.
    pub fn install(self) {
        for (store, certificates) in self.0 {
            store.0.store(Arc::new(certificates));
        }
    }
}

fn read_certificates(files: &[CertificateFiles]) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    files
        .iter()
        .map(|f| {
            let wrong = |path: &PathBuf, reason: String| TlsError::File { path: path.clone(), reason };
            let chain = CertificateDer::pem_file_iter(&f.cert)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| wrong(&f.cert, e.to_string()))?;
            let key = PrivateKeyDer::from_pem_file(&f.key).map_err(|e| wrong(&f.key, e.to_string()))?;
            CertifiedKey::from_der(chain, key, &crypto::provider())
                .map(Arc::new)
                .map_err(|e| wrong(&f.cert, e.to_string()))
        })
        .collect()
}

/// Seconds since 1970 at which the server's own certificate ends.
fn not_after(key: &CertifiedKey) -> Option<i64> {
    let (_, leaf) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
    Some(leaf.validity().not_after.timestamp())
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.0.load();
        let named = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok())
            .and_then(|name| all.iter().find(|key| matches_name(key, &name)));
        named.or_else(|| all.first()).cloned()
    }
}

/// The certificate carries this name, exactly or by a wildcard.
fn matches_name(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = key.cert.first().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
    leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok())
}

/// TLS of a proxy listener.
///
/// # Errors
/// When the client CA file cannot be used.
pub fn listener_config(
    tls: &ListenerTls,
    store: Arc<CertificateStore>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = match (&tls.client_ca_file, &tls.client_ca) {
        (Some(path), Some(authorities)) => {
            let wrong = |reason: String| TlsError::File { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for der in authorities.iter() {
                roots.add(CertificateDer::from(der.clone())).map_err(|e| wrong(e.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::provider()).build();
            verifier.map_err(|e| wrong(e.to_string()))?
        }
        _ => WebPkiClientVerifier::no_client_auth(),
    };
    let protocols: &[&[u8]] = if tls.h2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    server_config(store, verifier, protocols)
}

/// TLS of the admin and statpub listeners: HTTP/1.1, nobody asked for a certificate.
///
/// # Errors
/// When rustls refuses its own defaults.
pub fn internal_config(store: Arc<CertificateStore>) -> Result<Arc<ServerConfig>, TlsError> {
    server_config(store, WebPkiClientVerifier::no_client_auth(), &[b"http/1.1"])
}

/// TLS 1.2 and 1.3, with AEAD suites alone, in our order: rustls has no others. A client that offers only
/// protocols that we do not speak is refused (RFC 7301 section 3.2). Sessions are resumed by ticket or, where a
/// client takes none, from a cache; each listener has keys and cache of its own, so that nobody gets past a
/// listener's client certificates with a session of another.
fn server_config(
    store: Arc<CertificateStore>,
    verifier: Arc<dyn ClientCertVerifier>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |e: rustls::Error| TlsError::Settings(e.to_string());
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(wrong)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(store);
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    config.ignore_client_order = true;
    config.ticketer = Ticketer::new().map_err(wrong)?;
    config.session_storage = ServerSessionMemoryCache::new(MAX_CACHED_SESSIONS);
    Ok(Arc::new(config))
}

//! TLS of the listeners: certificates chosen by SNI and replaced on a reload without closing a connection.
//!
//! A certificate is chosen by its names, exact or wildcard; the first in the configuration is the default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::acme_store::{AcmeChoice, AcmeStore};
use super::session_tickets::Resumption;
use crate::acme::AcmeState;
use crate::acme::challenges::ACME_ALPN;
use crate::acme::storage::AcmeFolder;
use crate::config::Settings;
use crate::config::settings::{
    CertificateFiles, ClientCertificateMode, ClientCertificates, ListenerTls, TlsProtocol, TlsVersion,
};
use crate::telemetry::statistics::{CertificateExpiry, Statistics};
use crate::util::crypto;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("TLS: {0}")]
    Settings(String),
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct CertificateStore {
    files: ArcSwap<Vec<Arc<CertifiedKey>>>,
    acme: Option<AcmeStore>,
}

impl CertificateStore {
    fn read(files: &[CertificateFiles], acme: Option<AcmeStore>) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { files: ArcSwap::from_pointee(read_certificates(files)?), acme }))
    }

    #[must_use]
    pub fn covers_name(&self, name: &str) -> bool {
        ServerName::try_from(name)
            .is_ok_and(|name| self.files.load().iter().any(|key| matches_name(key, &name)))
    }
}

/// The stores of this process. Listeners do not change after the start, so a store keeps its address.
#[derive(Debug)]
pub struct Certificates {
    listeners: Vec<(SocketAddr, Arc<CertificateStore>)>,
    admin: Option<Arc<CertificateStore>>,
}

/// Certificates that were read but not yet installed.
#[derive(Debug)]
pub struct CertificateRenewal(Vec<(Arc<CertificateStore>, Vec<Arc<CertifiedKey>>)>);

impl Certificates {
    /// Reads every certificate that the settings name, and takes those from ACME that there are.
    ///
    /// # Errors
    /// When a file cannot be read, or a key does not match its certificate.
    pub fn load(settings: &Settings, acme: &Arc<AcmeState>) -> Result<Self, TlsError> {
        let listeners = settings.listeners.iter().filter_map(|listener| {
            let tls = listener.tls.as_ref()?;
            let store = tls.acme.as_ref().map(|_| AcmeStore::new(acme));
            Some(CertificateStore::read(&tls.certificates, store).map(|store| (listener.address, store)))
        });
        let admin =
            settings.admin.tls.as_ref().map(|f| CertificateStore::read(std::slice::from_ref(f), None));
        let all = Self { listeners: listeners.collect::<Result<_, TlsError>>()?, admin: admin.transpose()? };
        all.install_acme(settings);
        Ok(all)
    }

    /// Gives each listener the certificates from ACME for the hosts that it has in these settings. Takes effect with the
    /// next handshake.
    pub fn install_acme(&self, settings: &Settings) {
        for (address, store) in &self.listeners {
            let listener = settings.listeners.iter().find(|listener| listener.address == *address);
            let acme = listener.and_then(|listener| listener.tls.as_ref()?.acme.as_ref());
            if let (Some(store), Some(acme)) = (&store.acme, acme) {
                store.install(&acme.hosts);
            }
        }
    }

    #[must_use]
    pub fn for_listener(&self, address: SocketAddr) -> Option<Arc<CertificateStore>> {
        self.listeners.iter().find(|(a, _)| *a == address).map(|(_, store)| Arc::clone(store))
    }

    /// Also for the statpub listener.
    #[must_use]
    pub fn for_admin(&self) -> Option<Arc<CertificateStore>> {
        self.admin.clone()
    }

    /// Publishes as a metric when the installed certificates expire.
    pub fn publish_expiry(&self, settings: &Settings, statistics: &Statistics) {
        let mut all = Vec::new();
        for (address, store, files) in self.with_files(settings) {
            for (key, file) in store.files.load().iter().zip(files) {
                all.extend(not_after(key).map(|expires_unix_secs| CertificateExpiry {
                    listener: address.to_string(),
                    file: file.cert.display().to_string(),
                    expires_unix_secs,
                }));
            }
            let folder = settings.state_dir.as_deref().map(AcmeFolder::new);
            for (host, key) in store.acme.iter().flat_map(AcmeStore::installed) {
                all.extend(not_after(&key).map(|expires_unix_secs| {
                    CertificateExpiry {
                        listener: address.to_string(),
                        file: folder
                            .as_ref()
                            .map_or(host.clone(), |f| f.certificate_file(&host).display().to_string()),
                        expires_unix_secs,
                    }
                }));
            }
        }
        *statistics.certificates.lock() = all;
    }

    /// Reads the files again without installing them, so that one bad file cancels the whole renewal.
    ///
    /// # Errors
    /// When a file cannot be read, or a key does not match its certificate.
    pub fn read_renewal(&self, settings: &Settings) -> Result<CertificateRenewal, TlsError> {
        self.with_files(settings)
            .map(|(_, store, files)| Ok((Arc::clone(store), read_certificates(files)?)))
            .collect::<Result<_, TlsError>>()
            .map(CertificateRenewal)
    }

    /// The stores that still have TLS in these settings, with their address and files.
    fn with_files<'a>(
        &'a self,
        settings: &'a Settings,
    ) -> impl Iterator<Item = (SocketAddr, &'a Arc<CertificateStore>, &'a [CertificateFiles])> {
        let listeners = self.listeners.iter().filter_map(|(address, store)| {
            let listener = settings.listeners.iter().find(|l| l.address == *address)?;
            Some((*address, store, listener.tls.as_ref()?.certificates.as_slice()))
        });
        let admin = self.admin.as_ref().zip(settings.admin.tls.as_ref());
        let admin = admin.map(|(store, files)| (settings.admin.address, store, std::slice::from_ref(files)));
        listeners.chain(admin)
    }
}

impl CertificateRenewal {
    /// Takes effect with the next handshake.
    pub fn install(self) {
        for (store, certificates) in self.0 {
            store.files.store(Arc::new(certificates));
        }
    }
}

fn read_certificates(files: &[CertificateFiles]) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    files
        .iter()
        .map(|f| {
            let error = |path: &PathBuf, reason: String| TlsError::File { path: path.clone(), reason };
            let chain = CertificateDer::pem_file_iter(&f.cert)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| error(&f.cert, e.to_string()))?;
            let key = PrivateKeyDer::from_pem_file(&f.key).map_err(|e| error(&f.key, e.to_string()))?;
            CertifiedKey::from_der(chain, key, &crypto::provider())
                .map(Arc::new)
                .map_err(|e| error(&f.cert, e.to_string()))
        })
        .collect()
}

/// When the leaf certificate expires, in seconds since 1970.
fn not_after(key: &CertifiedKey) -> Option<i64> {
    let (_, leaf) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
    Some(leaf.validity().not_after.timestamp())
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.acme.as_ref().map(|acme| acme.resolve(&hello)) {
            Some(AcmeChoice::Challenge(certificate)) => return certificate,
            Some(AcmeChoice::Host(certificate)) => return Some(certificate),
            Some(AcmeChoice::Other) | None => {}
        }
        let all = self.files.load();
        let named = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok())
            .and_then(|name| all.iter().find(|key| matches_name(key, &name)));
        named.or_else(|| all.first()).cloned().or_else(|| self.acme.as_ref()?.first(hello.server_name()))
    }
}

fn matches_name(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = key.cert.first().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
    leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok())
}

/// TLS settings of a proxy listener, and what verifies the certificates of its clients.
///
/// # Errors
/// When the client CA file cannot be used.
pub fn listener_config(
    tls: &ListenerTls,
    store: Arc<CertificateStore>,
    resumption: Resumption,
) -> Result<(Arc<ServerConfig>, Arc<dyn ClientCertVerifier>), TlsError> {
    let verifier = match &tls.client_certificates {
        Some(settings) => client_verifier(settings)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut protocols: Vec<&[u8]> = if tls.h2 { vec![b"h2", b"http/1.1"] } else { vec![b"http/1.1"] };
    if tls.acme.is_some() {
        protocols.push(ACME_ALPN);
    }
    let config = server_config(store, Arc::clone(&verifier), &protocols, &tls.protocol, resumption)?;
    Ok((config, verifier))
}

/// Refuses every certificate that does not verify, also where a client may come without one: a client that shows a
/// certificate expects to be known by it.
fn client_verifier(settings: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let error = |reason: String| TlsError::File { path: settings.ca_file.clone(), reason };
    let mut roots = RootCertStore::empty();
    for der in settings.ca.iter() {
        roots.add(CertificateDer::from(der.clone())).map_err(|e| error(e.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::provider());
    let builder = match settings.mode {
        ClientCertificateMode::Request => builder.allow_unauthenticated(),
        ClientCertificateMode::Require => builder,
    };
    builder.build().map_err(|e| error(e.to_string()))
}

/// TLS settings of the admin and statpub listeners: HTTP/1.1 without client certificates.
///
/// # Errors
/// When rustls refuses its own defaults.
pub fn internal_config(
    store: Arc<CertificateStore>,
    resumption: Resumption,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (no_clients, protocol) = (WebPkiClientVerifier::no_client_auth(), TlsProtocol::default());
    server_config(store, no_clients, &[b"http/1.1"], &protocol, resumption)
}

/// AEAD suites in the server's order. A client whose ALPN has no protocol of the listener is refused (RFC 7301 section 3.2).
fn server_config(
    store: Arc<CertificateStore>,
    verifier: Arc<dyn ClientCertVerifier>,
    protocols: &[&[u8]],
    protocol: &TlsProtocol,
    resumption: Resumption,
) -> Result<Arc<ServerConfig>, TlsError> {
    let error = |e: rustls::Error| TlsError::Settings(e.to_string());
    let provider = crypto::restricted_provider(&protocol.suites, &protocol.groups);
    let versions: &[&_] = match protocol.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(error)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(store);
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    config.ignore_client_order = true;
    config.ticketer = resumption.tickets;
    config.session_storage = resumption.sessions;
    Ok(Arc::new(config))
}

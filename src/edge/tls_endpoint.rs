//! The TLS of a listener as a connection meets it: the settings in force, which a reload replaces, and the handshake.
//!
//! It is separate from `tls`, which makes the settings, because it knows Pingora's streams.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::tls::TlsStream;
use pingora::protocols::{IO, Ssl};
use pingora::{Error, ErrorType};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

use super::client_certificate::acceptor_with_certificates;
use super::session_tickets::{
    ClientCertificateScope, GeneratedTicketKeys, Resumption, SessionTickets, TicketScope,
};
use super::tls::{self, CertificateStore, Certificates, TlsError};
use crate::config::Settings;
use crate::config::settings::{ClientCertificateMode, ListenerTls};

/// Sessions in a listener's cache, for clients without session tickets.
const MAX_CACHED_SESSIONS: usize = 10_240;

/// What a handshake needs. Each connection takes the one in force when it is accepted.
pub struct TlsHandshake {
    acceptor: Acceptor,
    /// `None`: clients are not asked for a certificate.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    sessions: Arc<dyn StoresServerSessions>,
    scope: TicketScope,
}

impl TlsHandshake {
    /// # Errors
    /// When the client does not finish a handshake, or its certificate is not accepted.
    pub async fn run<S: IO + 'static>(&self, stream: S) -> pingora::Result<TlsStream<S>> {
        let stream = self.acceptor.tls_handshake(stream).await?;
        if let Some(verifier) = &self.verifier {
            verify_again(&**verifier, &stream)?;
        }
        Ok(stream)
    }

    fn new(
        tls: &ListenerTls,
        store: Arc<CertificateStore>,
        scope: TicketScope,
        resumption: Resumption,
    ) -> Result<Self, TlsError> {
        let sessions = Arc::clone(&resumption.sessions);
        let (config, verifier) = tls::listener_config(tls, store, resumption)?;
        let verifier = verifier.offer_client_auth().then_some(verifier);
        let acceptor = match verifier {
            Some(_) => acceptor_with_certificates(config)?,
            None => Acceptor::from_server_config(config),
        };
        Ok(Self { acceptor, verifier, sessions, scope })
    }
}

/// A resumed session has the client's certificate of its first handshake, and rustls does not look at it again: it may
/// have expired since then.
fn verify_again<S: IO>(verifier: &dyn ClientCertVerifier, stream: &TlsStream<S>) -> pingora::Result<()> {
    let refuse = |why: String| Error::explain(ErrorType::TLSHandshakeFailure, why);
    match stream.get_ssl().and_then(|tls| tls.peer_cert_chain_der()).and_then(<[_]>::split_first) {
        Some((leaf, intermediates)) => verifier
            .verify_client_cert(leaf, intermediates, UnixTime::now())
            .map(drop)
            .map_err(|error| refuse(format!("the client's certificate is no longer accepted: {error}"))),
        None if verifier.client_auth_mandatory() => Err(refuse("the client has no certificate".to_owned())),
        None => Ok(()),
    }
}

/// The TLS of one listener.
pub struct TlsEndpoint(ArcSwap<TlsHandshake>);

impl TlsEndpoint {
    #[must_use]
    pub fn current(&self) -> Arc<TlsHandshake> {
        self.0.load_full()
    }
}

/// The TLS of all proxy listeners. Listeners do not change after the start.
pub struct TlsEndpoints {
    listeners: Vec<(SocketAddr, Arc<TlsEndpoint>)>,
    generated: Arc<GeneratedTicketKeys>,
}

/// Settings that were checked but are not yet in force.
pub struct TlsRenewal(Vec<(Arc<TlsEndpoint>, TlsHandshake)>);

impl TlsRenewal {
    /// Takes effect with the next connection.
    pub fn install(self) {
        for (endpoint, handshake) in self.0 {
            endpoint.0.store(Arc::new(handshake));
        }
    }
}

impl TlsEndpoints {
    /// # Errors
    /// When rustls refuses the settings.
    pub fn load(
        settings: &Settings,
        certificates: &Certificates,
        generated: Arc<GeneratedTicketKeys>,
    ) -> Result<Self, TlsError> {
        let mut endpoints = Self { listeners: Vec::new(), generated };
        for listener in &settings.listeners {
            let (Some(tls), Some(store)) = (&listener.tls, certificates.for_listener(listener.address))
            else {
                continue;
            };
            let handshake = endpoints.handshake(listener.address, tls, store, None)?;
            let endpoint = Arc::new(TlsEndpoint(ArcSwap::from_pointee(handshake)));
            endpoints.listeners.push((listener.address, endpoint));
        }
        Ok(endpoints)
    }

    #[must_use]
    pub fn for_listener(&self, address: SocketAddr) -> Option<Arc<TlsEndpoint>> {
        self.listeners.iter().find(|(a, _)| *a == address).map(|(_, endpoint)| Arc::clone(endpoint))
    }

    /// The TLS of the admin or statpub listener. It does not change on a reload.
    ///
    /// # Errors
    /// When rustls refuses its own defaults.
    pub fn internal(
        &self,
        address: SocketAddr,
        store: Arc<CertificateStore>,
    ) -> Result<Arc<TlsEndpoint>, TlsError> {
        let scope = TicketScope::new(Some(address), None);
        let sessions = ServerSessionMemoryCache::new(MAX_CACHED_SESSIONS);
        let tickets = Arc::new(SessionTickets::generated(Arc::clone(&self.generated), scope));
        let resumption = Resumption { tickets, sessions: Arc::clone(&sessions) as _ };
        let acceptor = Acceptor::from_server_config(tls::internal_config(store, resumption)?);
        let handshake = TlsHandshake { acceptor, verifier: None, sessions, scope };
        Ok(Arc::new(TlsEndpoint(ArcSwap::from_pointee(handshake))))
    }

    /// Applies new settings to the listeners that still have TLS in them, without installing them.
    ///
    /// # Errors
    /// When rustls refuses the settings.
    pub fn read_renewal(
        &self,
        settings: &Settings,
        certificates: &Certificates,
    ) -> Result<TlsRenewal, TlsError> {
        let mut renewal = Vec::new();
        for (address, endpoint) in &self.listeners {
            let listener = settings.listeners.iter().find(|listener| listener.address == *address);
            let Some(tls) = listener.and_then(|listener| listener.tls.as_ref()) else { continue };
            let Some(store) = certificates.for_listener(*address) else { continue };
            let handshake = self.handshake(*address, tls, store, Some(&endpoint.current()))?;
            renewal.push((Arc::clone(endpoint), handshake));
        }
        Ok(TlsRenewal(renewal))
    }

    fn handshake(
        &self,
        address: SocketAddr,
        tls: &ListenerTls,
        store: Arc<CertificateStore>,
        before: Option<&TlsHandshake>,
    ) -> Result<TlsHandshake, TlsError> {
        let has_file = !tls.ticket_secrets.is_empty();
        let scope = TicketScope::new((!has_file).then_some(address), client_certificates(tls));
        let tickets = if has_file {
            SessionTickets::from_secrets(tls.ticket_secrets.iter().map(|secret| &*secret.0), scope)
        } else {
            SessionTickets::generated(Arc::clone(&self.generated), scope)
        };
        // Sessions of clients without tickets outlive a reload, but not other settings for client certificates.
        let sessions = match before.filter(|before| before.scope == scope) {
            Some(before) => Arc::clone(&before.sessions),
            None => ServerSessionMemoryCache::new(MAX_CACHED_SESSIONS),
        };
        TlsHandshake::new(tls, store, scope, Resumption { tickets: Arc::new(tickets), sessions })
    }
}

fn client_certificates(tls: &ListenerTls) -> Option<ClientCertificateScope<'_>> {
    let clients = tls.client_certificates.as_ref()?;
    let required = clients.mode == ClientCertificateMode::Require;
    Some(ClientCertificateScope { required, authorities: &clients.ca })
}

#[cfg(test)]
#[path = "tls_endpoint_tests.rs"]
mod tests;

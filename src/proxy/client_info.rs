//! The address, scheme and port of the client. The forwarding headers of trusted proxies are used; those of any other
//! client are ignored.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use pingora_proxy::Session;

use crate::config::settings::Listener;
use crate::edge::client_certificate::ClientCertificate;
use crate::state::Snapshot;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    pub address: Option<IpAddr>,
    /// Whether the client uses TLS to this listener or to a trusted proxy.
    pub tls: bool,
    /// From `X-Forwarded-Port` of a trusted proxy.
    pub port: Option<u16>,
}

pub(super) fn client_of(session: &Session, listener: Option<&Listener>) -> ClientInfo {
    let peer = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip().to_canonical());
    let tls = session.digest().is_some_and(|d| d.ssl_digest.is_some());
    let direct = ClientInfo { address: peer, tls, port: None };
    let Some(listener) = listener else { return direct };
    let trusted = |ip: &IpAddr| listener.trusted_proxies.iter().any(|net| net.contains(ip));
    if !peer.as_ref().is_some_and(trusted) {
        return direct;
    }
    let headers = &session.req_header().headers;
    ClientInfo {
        address: forwarded_for(headers, trusted).or(peer),
        tls: nearest_to_client(headers, "x-forwarded-proto").and_then(is_secure).unwrap_or(tls),
        port: nearest_to_client(headers, "x-forwarded-port")
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0),
    }
}

/// The certificate of the client's own TLS connection to this listener. A trusted proxy shows its own, which says nothing
/// about the client behind it.
pub(super) fn certificate_of(
    session: &Session,
    listener: Option<&Listener>,
) -> Option<Arc<ClientCertificate>> {
    let listener = listener?;
    listener.tls.as_ref()?.client_certificates.as_ref()?;
    let peer = session.client_addr()?.as_inet()?.ip().to_canonical();
    if listener.trusted_proxies.iter().any(|net| net.contains(&peer)) {
        return None;
    }
    ClientCertificate::of_connection(session.digest()?.ssl_digest.as_deref()?)
}

pub(super) fn listener_of<'s>(snapshot: &'s Snapshot, session: &Session) -> Option<&'s Listener> {
    let local = session.server_addr()?.as_inet()?;
    let listeners = &snapshot.settings.listeners;
    listeners
        .iter()
        .find(|l| l.address == *local)
        .or_else(|| listeners.iter().find(|l| l.address.port() == local.port()))
}

/// An address as proxies write it: plain, in brackets, or with a port.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|at| at.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|ip| ip.to_canonical())
}

/// The client is the first address from the right that is no trusted proxy.
fn forwarded_for(headers: &HeaderMap, trusted: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let mut client = None;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for text in value.to_str().unwrap_or_default().rsplit(',') {
            let Some(ip) = forwarded_address(text.trim()) else { return client };
            client = Some(ip);
            if !trusted(&ip) {
                return client;
            }
        }
    }
    client
}

/// The first element: each further proxy appends its own.
fn nearest_to_client<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let first = headers.get(name)?.to_str().ok()?.split(',').next()?;
    Some(first.trim())
}

/// Whether a scheme means TLS; `None` if it is unknown.
fn is_secure(scheme: &str) -> Option<bool> {
    let is_one_of = |known: [&str; 2]| known.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if is_one_of(["https", "wss"]) { Some(true) } else { is_one_of(["http", "ws"]).then_some(false) }
}

#[cfg(test)]
mod tests {
    use super::is_secure;

    #[test]
    fn a_websocket_scheme_counts_as_the_http_scheme_below_it() {
        for (scheme, secure) in [
            ("https", Some(true)),
            ("WSS", Some(true)),
            ("HTTP", Some(false)),
            ("ws", Some(false)),
            ("", None),
            ("gopher", None),
            ("httpsx", None),
        ] {
            assert_eq!(is_secure(scheme), secure, "{scheme}");
        }
    }
}

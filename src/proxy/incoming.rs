//! Who sends this request, by which listener, and is its head one that every parser reads alike.
//!
//! In: a head as Pingora parsed it. Out: the client's address and scheme, the host, a refusal. It looks at
//! nothing that belongs to a cluster, except for the login form, which says for which database it was shown.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method, Version, header};
use pingora::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::Routed;
use super::response_validation::is_plain_number;
use super::route;
use crate::balancer::Snapshot;
use crate::config::settings::{Limits, Listener};
use crate::pages::Problem;
use crate::url;
use crate::util::host::is_authority;

/// The longest login form that is read before a server is chosen.
const LONGEST_FORM: usize = 16 * 1024;

/// A login form says in `RedirectTo` which database it was shown for.
///
/// # Errors
/// When the client's body cannot be read.
pub async fn login_form(session: &mut Session, routed: &mut Routed, target: &[u8]) -> Result<()> {
    // Where the URL names a database that only some hold, the form has no say.
    let speaks_for_others = routed.found.as_ref().is_none_or(|found| routed.view.is_everywhere(found));
    let wanted = routed.entry.is_none()
        && speaks_for_others
        && !routed.entries.is_empty()
        && session.req_header().method == Method::POST
        && url::parse(target).command.server_command() == Some(url::ServerCommand::Login)
        && !session.req_header().headers.contains_key(header::EXPECT)
        && content_length(&session.req_header().headers).is_some_and(|n| n <= LONGEST_FORM as u64);
    if !wanted || matches!(routed.hint, Some((_, crate::select::Hint::RedirectTo))) {
        return Ok(());
    }
    session.as_mut().enable_retry_buffering();
    let mut form = Vec::new();
    while let Some(chunk) = session.as_mut().read_request_body().await? {
        form.extend_from_slice(&chunk);
        if form.len() > LONGEST_FORM {
            return Ok(());
        }
    }
    if let Some(value) = url::argument(&form, b"RedirectTo")
        && let Some((member, found)) =
            route::entry_of_url(&routed.cluster, &routed.view, &value, &routed.entries)
    {
        routed.hint = Some((member, crate::select::Hint::RedirectTo));
        routed.hinted = found;
    }
    Ok(())
}

/// Requests that no two parsers need read alike. How HTTP/1 frames its bodies the gate has settled before.
#[must_use]
pub fn malformed(session: &Session, limits: &Limits) -> Option<Problem> {
    let head = session.req_header();
    let headers = &head.headers;
    if head.raw_path().len() as u64 > limits.uri_bytes {
        return Some(Problem::UriTooLong);
    }
    let (mut bytes, mut blank) = (0, false);
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        blank |= matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    }
    if headers.len() > limits.header_count || bytes as u64 > limits.header_bytes {
        return Some(Problem::HeadersTooLarge);
    }
    // HTTP/1.1 has blanks around a value that are no part of it, HTTP/2 has none (RFC 9113 section 8.2.1).
    if blank {
        return Some(Problem::BadRequest("A header field's value begins or ends with a blank."));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || !is_plain_number(length.as_bytes()))
    {
        return Some(Problem::BadRequest("Content-Length is not one number."));
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Some(Problem::BadRequest("The request names more than one host."));
    }
    None
}

/// Gives a request with an absolute target the origin form and the Host that its target names, which wins
/// over the header (RFC 9112 section 3.2.2), so that nobody behind this has two forms to mind.
///
/// # Errors
/// A refusal for every other form but `OPTIONS *`.
pub fn to_origin_form(head: &mut RequestHeader) -> std::result::Result<(), Problem> {
    let raw = head.raw_path();
    if raw.first() == Some(&b'/') || (raw == b"*" && head.method == Method::OPTIONS) {
        return Ok(());
    }
    const NOT_A_TARGET: Problem = Problem::BadRequest("The request's target is neither a path nor a URL.");
    let (host, target) = url::path_and_query_of_absolute(raw).ok_or(NOT_A_TARGET)?;
    let target = match target.first() {
        Some(b'/') => target.to_vec(),
        // `http://www.acme.example?OpenServer` has an empty path, which stands for the root.
        Some(b'?') => [b"/", target].concat(),
        _ => return Err(NOT_A_TARGET),
    };
    let host = HeaderValue::from_bytes(host).map_err(|_| NOT_A_TARGET)?;
    head.set_raw_path(&target).map_err(|_| NOT_A_TARGET)?;
    head.insert_header(header::HOST, host).map_err(|_| NOT_A_TARGET)
}

/// The declared length of the body.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The authority of HTTP/2, else the Host header; `None` where it is no host, with or without a port.
#[must_use]
pub fn authority_of(head: &RequestHeader) -> Option<Box<str>> {
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let text = authority.or_else(|| head.headers.get(header::HOST).and_then(|h| h.to_str().ok()))?.trim();
    // An empty port is no port (RFC 3986 section 3.2.3).
    let host_and_port = text.strip_suffix(':').unwrap_or(text);
    is_authority(host_and_port.as_bytes()).then(|| text.into())
}

/// The address that an HTTP/1.0 client without Host has connected to: it reached us by that, and links that name it
/// work. `None` for every other request.
#[must_use]
pub fn authority_of_http_1_0(session: &Session, tls: bool) -> Option<Box<str>> {
    let head = session.req_header();
    if head.version != Version::HTTP_10 || head.headers.contains_key(header::HOST) {
        return None;
    }
    let local = session.server_addr()?.as_inet()?;
    let (ip, port) = (local.ip().to_canonical(), local.port());
    Some(match (ip, port == default_port(tls)) {
        (IpAddr::V6(ip), true) => format!("[{ip}]").into(),
        (ip, true) => ip.to_string().into(),
        (ip, false) => SocketAddr::new(ip, port).to_string().into(),
    })
}

/// The port that a URL of this scheme need not name.
#[must_use]
pub fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// The listener that a connection came in by.
#[must_use]
pub fn listener_of<'s>(snapshot: &'s Snapshot, session: &Session) -> Option<&'s Listener> {
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

/// The authority of the same place over TLS. A client that wrote the very port it came in by reaches us
/// directly, so it is sent to the port of the listener with TLS; any other comes through something that
/// maps ports, and the default one is meant.
#[must_use]
pub fn secure_authority(snapshot: &Snapshot, listener: Option<&Listener>, authority: &str) -> String {
    let host = crate::balancer::hosts::host_name(authority);
    let written: Option<u16> = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let direct = written.is_some() && written == listener.map(|l| l.address.port());
    let tls = snapshot.settings.listeners.iter().find(|l| l.tls.is_some()).map(|l| l.address.port());
    match tls.filter(|port| direct && *port != 443) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Who sends a request, and how it reached the public name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// `None` where the socket has none.
    pub address: Option<IpAddr>,
    /// By TLS, to us or to a trusted proxy.
    pub tls: bool,
    /// The port that a trusted proxy names.
    pub port: Option<u16>,
}

/// The client's address, scheme and port: a trusted proxy's word counts, nobody else's.
#[must_use]
pub fn client_of(session: &Session, listener: Option<&Listener>) -> Client {
    let peer = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip().to_canonical());
    let tls = session.digest().is_some_and(|d| d.ssl_digest.is_some());
    let direct = Client { address: peer, tls, port: None };
    let Some(listener) = listener else { return direct };
    let trusted = |ip: &IpAddr| listener.trusted_proxies.iter().any(|net| net.contains(ip));
    if !peer.as_ref().is_some_and(trusted) {
        return direct;
    }
    let headers = &session.req_header().headers;
    Client {
        address: forwarded_for(headers, trusted).or(peer),
        tls: nearest_to_client(headers, "x-forwarded-proto").and_then(is_secure).unwrap_or(tls),
        port: nearest_to_client(headers, "x-forwarded-port")
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0),
    }
}

/// From the right: the first address that is no trusted proxy is the client.
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

/// What the proxy says that the client itself reached: each further proxy appends its own view.
fn nearest_to_client<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let first = headers.get(name)?.to_str().ok()?.split(',').next()?;
    Some(first.trim())
}

/// Whether a scheme means TLS; `None` for one that is unknown. WebSocket has schemes of its own.
fn is_secure(scheme: &str) -> Option<bool> {
    let is_one_of = |known: [&str; 2]| known.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if is_one_of(["https", "wss"]) { Some(true) } else { is_one_of(["http", "ws"]).then_some(false) }
}

#[cfg(test)]
mod tests {
    use pingora_http::RequestHeader;

    use super::{authority_of, is_secure};

    #[test]
    fn a_scheme_of_websocket_is_the_one_below_it() {
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

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        let is_authority = |text: &str| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            head.insert_header("host", text).unwrap();
            authority_of(&head).is_some_and(|authority| *authority == *text)
        };
        for good in
            ["www.acme.example", "a_b~c:80", "10.0.0.1:", "[2001:db8::1]", "[::1]:8443", "localhost:65535"]
        {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:80:90", "a:65536", "a:+1", "a/b", "a, b", "u@h", "[::1", "[x]", "[::1]80",
            "a b", "a#",
        ] {
            assert!(!is_authority(bad), "{bad}");
        }
    }
}

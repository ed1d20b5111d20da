//! The host and port that a request is for.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::{Version, header};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::config::settings::Listener;
use crate::state::{Snapshot, host_table};
use crate::util::host::is_authority;

/// `None` if the request names no valid host.
pub(super) fn of_request(session: &Session, tls: bool) -> Option<Cow<'_, str>> {
    named(session.req_header()).map(Cow::Borrowed).or_else(|| of_http_1_0(session, tls).map(Cow::Owned))
}

/// `:authority` of HTTP/2, else the Host header.
fn named(head: &RequestHeader) -> Option<&str> {
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let text = authority.or_else(|| head.headers.get(header::HOST).and_then(|h| h.to_str().ok()))?.trim();
    // An empty port is no port (RFC 3986 section 3.2.3).
    let host_and_port = text.strip_suffix(':').unwrap_or(text);
    is_authority(host_and_port.as_bytes()).then_some(text)
}

/// For an HTTP/1.0 client without Host, the address that it connected to.
fn of_http_1_0(session: &Session, tls: bool) -> Option<String> {
    let head = session.req_header();
    if head.version != Version::HTTP_10 || head.headers.contains_key(header::HOST) {
        return None;
    }
    let local = session.server_addr()?.as_inet()?;
    let (ip, port) = (local.ip().to_canonical(), local.port());
    Some(match (ip, port == default_port(tls)) {
        (IpAddr::V6(ip), true) => format!("[{ip}]"),
        (ip, true) => ip.to_string(),
        (ip, false) => SocketAddr::new(ip, port).to_string(),
    })
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// The same host over TLS. A client that wrote the port of the listener connects directly, so it gets the port of the
/// listener with TLS. Any other client comes through a port mapping and gets the default port.
pub(super) fn over_tls(snapshot: &Snapshot, listener: Option<&Listener>, authority: &str) -> String {
    let host = host_table::strip_port(authority);
    let written: Option<u16> = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let direct = written.is_some() && written == listener.map(|l| l.address.port());
    let tls = snapshot.settings.listeners.iter().find(|l| l.tls.is_some()).map(|l| l.address.port());
    match tls.filter(|port| direct && *port != 443) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pingora_http::RequestHeader;

    use super::named;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        let is_authority = |text: &str| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            head.insert_header("host", text).unwrap();
            named(&head).is_some_and(|authority| *authority == *text)
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

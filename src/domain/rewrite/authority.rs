//! Finds the server that the host and port of a URL name. Names are compared without case and trailing dot, addresses
//! by value; nothing is resolved.

use std::net::{IpAddr, Ipv6Addr};

use http::uri::Scheme;

use crate::domain::cluster::HostPort;

/// A host in comparable form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    /// In lower case, without a trailing dot.
    Name(String),
}

impl Host {
    /// Parses an address with or without brackets, or a name.
    pub(super) fn parse(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()),
        }
    }

    /// True if this is `domain` or a name below it.
    pub(super) fn is_within(&self, domain: &Self) -> bool {
        match (self, domain) {
            (Self::Name(name), Self::Name(domain)) => {
                name == domain
                    || (!domain.is_empty()
                        && name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.')))
            }
            _ => self == domain,
        }
    }
}

/// A host with an optional port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

impl Authority {
    /// `None` for an empty host, user information, an invalid port, or bytes that a host name cannot contain: no URL of
    /// ours has these.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = if text.starts_with('[') {
            let (inner, rest) = text.strip_prefix('[')?.split_once(']')?;
            inner.parse::<Ipv6Addr>().ok()?;
            (inner, rest)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            let (host, rest) = text.split_at_checked(end)?;
            if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)) {
                return None;
            }
            (host, rest)
        };
        let port = match strip_port_colon(port)? {
            "" => None,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { host: Host::parse(host), port })
    }

    /// The explicit port, else the default port of the scheme.
    pub(super) fn port_for(&self, scheme: &Scheme) -> u16 {
        self.port.unwrap_or_else(|| default_port(scheme))
    }
}

/// The text after the colon; an empty port is no port (RFC 3986 section 3.2.3).
fn strip_port_colon(rest: &str) -> Option<&str> {
    if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
}

pub(super) fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// How URLs can name a server: by its host name and its addresses, with its HTTP or HTTPS port.
#[derive(Clone, Debug)]
pub struct ServerNames {
    hostname: Host,
    hosts: Vec<Host>,
    http: Option<u16>,
    https: Option<u16>,
}

impl ServerNames {
    /// Takes the host name and the ports of a server; `None` = the port is disabled in the Server document.
    #[must_use]
    pub fn new(hostname: &str, http: Option<&HostPort>, https: Option<&HostPort>) -> Self {
        let hostname = Host::parse(hostname);
        let mut hosts = vec![hostname.clone()];
        for at in [http, https].into_iter().flatten() {
            let host = Host::parse(&at.host);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Self { hostname, hosts, http: http.map(|at| at.port), https: https.map(|at| at.port) }
    }

    /// True if one of the hosts is within `domain`.
    pub(super) fn is_within(&self, domain: &Host) -> bool {
        self.hosts.iter().any(|host| host.is_within(domain))
    }

    fn listens_on(&self, authority: &Authority, scheme: Option<&Scheme>) -> bool {
        let on = |scheme: &Scheme, port: Option<u16>| port == Some(authority.port_for(scheme));
        self.hosts.contains(&authority.host)
            && match scheme {
                Some(s) if *s == Scheme::HTTPS => on(s, self.https),
                Some(s) => on(s, self.http),
                None => on(&Scheme::HTTP, self.http) || on(&Scheme::HTTPS, self.https),
            }
    }
}

/// The position of the server that `authority` names, preferring `serving` if several share a host and port. `scheme`
/// is `None` for a URL that begins with `//`.
///
/// A host name without a port names its server even if the configuration has another port for it: Domino writes its own
/// default port, not that of a port forwarding in between. The host name must belong to a single server. An address
/// without a port can belong to any service.
pub(super) fn find_server(
    servers: &[ServerNames],
    serving: usize,
    authority: &Authority,
    scheme: Option<&Scheme>,
) -> Option<usize> {
    let first = |is: &dyn Fn(&ServerNames) -> bool| {
        servers
            .get(serving)
            .filter(|server| is(server))
            .map(|_| serving)
            .or_else(|| servers.iter().position(is))
    };
    if let Some(found) = first(&|server| server.listens_on(authority, scheme)) {
        return Some(found);
    }
    if authority.port.is_some() || matches!(authority.host, Host::Address(_)) {
        return None;
    }
    let mut named = servers.iter().enumerate().filter(|(_, server)| server.hostname == authority.host);
    match (named.next(), named.next()) {
        (Some((only, _)), None) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_case_trailing_dot_and_spelling_of_addresses() {
        assert_eq!(Host::parse("Web1.ACME.example."), Host::parse("web1.acme.example"));
        assert_eq!(Host::parse("[2001:DB8:0::1]"), Host::parse("2001:db8::1"));
        assert!(Host::parse("a.acme.example").is_within(&Host::parse("acme.example")));
        assert!(!Host::parse("xacme.example").is_within(&Host::parse("acme.example")));
        assert!(!Host::parse("10.0.0.11").is_within(&Host::parse("0.0.11")));
    }

    #[test]
    fn an_invalid_authority_is_refused() {
        for bad in
            ["", ":80", "user@web1", "web1:x", "web1:99999", "web1:+8", "[::1", "[x]:80", "[::1]x", "we b"]
        {
            assert_eq!(Authority::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Authority::parse(b"web1:").map(|a| a.port), Some(None), "an empty port is no port");
    }
}

//! Who a host and port in a URL mean: a member of the cluster, ourselves, or somebody else.
//!
//! In: `host[:port]` as it stands in a URL. Out: the index of a member. Names are compared without
//! regard to case and to a dot at the end, addresses by value; nothing is resolved.

use std::net::{IpAddr, Ipv6Addr};

use http::uri::Scheme;

use crate::domain::cluster::HostPort;

/// A host as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    /// Lower case, without a dot at the end.
    Name(String),
}

impl Host {
    /// Takes an address with or without brackets, or a name.
    pub(super) fn parse(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()),
        }
    }

    /// True when this is `domain` itself or a name below it.
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

/// A host and the port that was written behind it, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

impl Authority {
    /// `None` for an empty host, user information, a port that is no number, or octets that no
    /// host name holds: such a URL is nobody's of ours.
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

    /// The port written, else the scheme's own.
    pub(super) fn port_for(&self, scheme: &Scheme) -> u16 {
        self.port.unwrap_or_else(|| default_port(scheme))
    }
}

/// What stands behind the colon; an empty port is no port (RFC 3986 section 3.2.3).
fn strip_port_colon(rest: &str) -> Option<&str> {
    if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
}

/// 443 for `https`, else 80.
pub(super) fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// The names by which a server's own URLs may name it: its host name and its addresses, each with
/// the HTTP and the HTTPS port.
#[derive(Clone, Debug)]
pub struct ServerNames {
    hostname: Host,
    hosts: Vec<Host>,
    http: Option<u16>,
    https: Option<u16>,
}

impl ServerNames {
    /// From a member's host name and ports; `None` = the port is disabled in the Server document.
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

    /// True when this host is one of the member's.
    pub(super) fn has_host(&self, host: &Host) -> bool {
        self.hosts.contains(host)
    }

    /// True when one of the member's host names lies in `domain`.
    pub(super) fn is_within(&self, domain: &Host) -> bool {
        self.hosts.iter().any(|host| host.is_within(domain))
    }

    fn listens_on(&self, authority: &Authority, scheme: Option<&Scheme>) -> bool {
        let on = |scheme: &Scheme, port: Option<u16>| port == Some(authority.port_for(scheme));
        self.has_host(&authority.host)
            && match scheme {
                Some(s) if *s == Scheme::HTTPS => on(s, self.https),
                Some(s) => on(s, self.http),
                None => on(&Scheme::HTTP, self.http) || on(&Scheme::HTTPS, self.https),
            }
    }
}

/// The member that `authority` names; the serving one where several share a host and port.
/// `scheme` is `None` for a URL that begins with `//`.
///
/// A host name without a port names its server even where the configuration reaches that server on
/// another port: Domino writes its own default port, not that of a port forwarding in between. This
/// holds for the host name only and only where it is one server's; an address without a port may be
/// anything's.
pub(super) fn find_server(
    servers: &[ServerNames],
    serving: usize,
    authority: &Authority,
    scheme: Option<&Scheme>,
) -> Option<usize> {
    let first = |is: &dyn Fn(&ServerNames) -> bool| {
        servers.get(serving).filter(|m| is(m)).map(|_| serving).or_else(|| servers.iter().position(is))
    };
    if let Some(found) = first(&|m| m.listens_on(authority, scheme)) {
        return Some(found);
    }
    if authority.port.is_some() || matches!(authority.host, Host::Address(_)) {
        return None;
    }
    let mut named = servers.iter().enumerate().filter(|(_, m)| m.hostname == authority.host);
    match (named.next(), named.next()) {
        (Some((only, _)), None) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_compare_without_case_dot_and_spelling_of_an_address() {
        assert_eq!(Host::parse("Web1.ACME.example."), Host::parse("web1.acme.example"));
        assert_eq!(Host::parse("[2001:DB8:0::1]"), Host::parse("2001:db8::1"));
        assert!(Host::parse("a.acme.example").is_within(&Host::parse("acme.example")));
        assert!(!Host::parse("xacme.example").is_within(&Host::parse("acme.example")));
        assert!(!Host::parse("10.0.0.11").is_within(&Host::parse("0.0.11")));
    }

    #[test]
    fn what_is_no_plain_host_and_port_is_nobody() {
        for bad in
            ["", ":80", "user@web1", "web1:x", "web1:99999", "web1:+8", "[::1", "[x]:80", "[::1]x", "we b"]
        {
            assert_eq!(Authority::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Authority::parse(b"web1:").map(|a| a.port), Some(None), "an empty port is no port");
    }
}

//! URLs with placeholders for a server, as availability sources and the request for a replication have them. Apart from
//! the requests, because each placeholder value is encoded and the address is resolved in the same way for all.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::domino::{DominoRequest, fault::single_line};
use crate::domain::cluster::ServerName;

/// The server that a URL is about.
#[derive(Clone, Copy, Debug)]
pub struct ServerPlace<'a> {
    /// Its common name replaces `{name}`.
    pub name: &'a ServerName,
    /// Replaces `{hostname}` in the URL.
    pub hostname: &'a str,
    /// Its IP address replaces `{address}`; the port is not used.
    pub address: SocketAddr,
}

/// Why there is no address to send a request to.
#[derive(Debug, thiserror::Error)]
pub enum ServerUrlError {
    /// The configured URL is invalid for this server after its placeholders were replaced.
    #[error("`{url}` is not a URL, for {server}")]
    Invalid { url: String, server: ServerName },
    #[error("{host}: host name cannot be resolved: {reason}")]
    Resolve { host: String, reason: String },
}

/// A GET of the URL for this server. The timeout is that of the request, and limits the resolution of its host name too.
///
/// # Errors
/// When the URL is invalid for this server, or its host name does not resolve.
pub async fn get(
    template: &str,
    server: &ServerPlace<'_>,
    timeout: Duration,
) -> Result<DominoRequest, ServerUrlError> {
    let text = expand(template, server);
    let url = ExpandedUrl::parse(&text)
        .ok_or_else(|| ServerUrlError::Invalid { url: single_line(&text), server: server.name.clone() })?;
    let address = url.resolve(server, timeout).await?;
    let mut request = DominoRequest::get(address, url.https, &url.host, url.target);
    request.timeout = timeout;
    Ok(request)
}

/// Characters that the value of a placeholder must not add to a URL.
const PLACEHOLDER_VALUE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'&')
    .add(b'\\');

/// Replaces the placeholders of a URL.
fn expand(template: &str, server: &ServerPlace<'_>) -> String {
    let address = match server.address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let name = utf8_percent_encode(server.name.common(), PLACEHOLDER_VALUE).to_string();
    let hostname = if server.hostname.contains(':') {
        format!("[{}]", server.hostname)
    } else {
        server.hostname.to_owned()
    };
    template
        .replace("[{address}]", &address)
        .replace("{address}", &address)
        .replace("{hostname}", &hostname)
        .replace("{name}", &name)
}

struct ExpandedUrl {
    https: bool,
    host: String,
    port: u16,
    target: String,
}

impl ExpandedUrl {
    /// Parses `http://host[:port][/path][?query]`. A fragment is removed, user information is refused.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().split('#').next()?;
        let (scheme, rest) = text.split_once("://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at_checked(end)?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => match authority.find(':') {
                Some(colon) => authority.split_at_checked(colon)?,
                None => (authority, ""),
            },
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
            None if !port.is_empty() => return None,
            None if https => 443,
            None => 80,
        };
        if host.is_empty() || host.contains(['@', ' ']) || tail.chars().any(|c| c.is_control() || c == ' ') {
            return None;
        }
        let target = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
        Some(Self { https, host: host.to_owned(), port, target })
    }

    /// If the host is the host name of the server, uses the known address of the server, because DNS may resolve that name
    /// to this balancer.
    async fn resolve(
        &self,
        server: &ServerPlace<'_>,
        timeout: Duration,
    ) -> Result<SocketAddr, ServerUrlError> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, self.port));
        }
        if self.host.eq_ignore_ascii_case(server.hostname) {
            return Ok(SocketAddr::new(server.address.ip(), self.port));
        }
        let failed = |reason: String| ServerUrlError::Resolve { host: self.host.clone(), reason };
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        match tokio::time::timeout(timeout, lookup).await {
            Ok(Ok(mut addresses)) => addresses.next().ok_or_else(|| failed("no address".to_owned())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no response within {:?}", timeout))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_in_a_url() {
        let name = ServerName::parse("Web 1/Acme").unwrap();
        let expanded = |template: &str, address: &str| {
            let (hostname, address) = ("web1.acme.example", address.parse().unwrap());
            expand(template, &ServerPlace { name: &name, hostname, address })
        };
        assert_eq!(
            expanded("http://{address}:9100/metrics", "10.0.0.11:80"),
            "http://10.0.0.11:9100/metrics"
        );
        assert_eq!(expanded("http://{address}:9100/metrics", "[::1]:80"), "http://[::1]:9100/metrics");
        assert_eq!(expanded("http://[{address}]:9100/", "[::1]:80"), "http://[::1]:9100/");
        assert_eq!(
            expanded("https://{hostname}/stat/{name}?x", "10.0.0.11:80"),
            "https://web1.acme.example/stat/Web%201?x"
        );
    }

    #[test]
    fn urls_are_parsed_or_refused() {
        let split =
            |text: &str| ExpandedUrl::parse(text).map(|url| (url.https, url.host, url.port, url.target));
        assert_eq!(split("http://a.example"), Some((false, "a.example".into(), 80, "/".into())));
        assert_eq!(split("HTTPS://[::1]:9/x?y#z"), Some((true, "::1".into(), 9, "/x?y".into())));
        assert_eq!(split("https://a.example?y"), Some((true, "a.example".into(), 443, "/?y".into())));
        for bad in [
            "",
            "ftp://a/",
            "http://",
            "http://:80/",
            "http://a:0/",
            "http://a:b/",
            "http://[::1/",
            "http://[::1]9/",
            "http://u@a/",
            "http://a/x y",
        ] {
            assert!(split(bad).is_none(), "{bad}");
        }
    }
}

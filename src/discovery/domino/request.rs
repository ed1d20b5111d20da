//! One request to a Domino server, and the percent-encoding of paths and forms.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// A request to an address that is already resolved.
#[derive(Clone, Debug)]
pub struct DominoRequest {
    pub method: Method,
    pub address: SocketAddr,
    pub https: bool,
    /// For SNI and the certificate check; empty = the address.
    pub hostname: String,
    pub host_header: String,
    /// Path and query, percent-encoded.
    pub target: String,
    /// Without Host and Content-Length, which the client adds.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// From connect to the last byte of the response's body.
    pub timeout: Duration,
    /// Limit for the response's body, in bytes.
    pub max_body: usize,
}

impl DominoRequest {
    /// A GET with a timeout of 30 s and a body of at most 16 MiB.
    #[must_use]
    pub fn get(address: SocketAddr, https: bool, hostname: &str, target: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            address,
            https,
            hostname: hostname.to_owned(),
            host_header: host_header(hostname, address, https),
            target: target.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(30),
            max_body: 16 << 20,
        }
    }

    /// A POST of a form to the same server, without the headers of `self`.
    #[must_use]
    pub fn post_form(&self, target: &str, body: Bytes) -> Self {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        Self {
            method: Method::POST,
            target: target.to_owned(),
            headers: vec![(http::header::CONTENT_TYPE, form)],
            body,
            ..self.clone()
        }
    }

    /// The URL for messages, always on one line.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let host = match self.host_header.as_str() {
            "" => self.address.to_string(),
            host => host.to_owned(),
        };
        super::fault::single_line(&format!("{scheme}://{host}{}", self.target))
    }

    /// The name that the certificate must have. Never empty, because an empty one would switch off verification.
    pub(crate) fn tls_name(&self) -> String {
        let name = self.hostname.trim_end_matches('.');
        if name.is_empty() { self.address.ip().to_string() } else { name.to_owned() }
    }
}

/// The value of a Host header; the port is left out if it is the scheme's default.
#[must_use]
pub fn host_header(hostname: &str, address: SocketAddr, https: bool) -> String {
    let host = match hostname {
        "" => address.ip().to_string(),
        name => name.to_owned(),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let default_port = if https { 443 } else { 80 };
    if address.port() == default_port { host } else { format!("{host}:{}", address.port()) }
}

/// Characters left unencoded in a path segment, so that view names such as `($Pathname)` stay readable.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'(')
    .remove(b')')
    .remove(b'$')
    .remove(b'!')
    .remove(b'*')
    .remove(b',')
    .remove(b'@');

/// Leaves only the unreserved characters of RFC 3986 unencoded.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes one path segment, including slashes.
#[must_use]
pub fn encode_segment(text: &str) -> String {
    percent_encode(text.as_bytes(), PATH_SEGMENT).to_string()
}

/// Encodes a path below the data directory; both separators are understood: `/mail/jdoe.nsf`.
#[must_use]
pub fn encode_database_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for segment in path.split(['/', '\\']).filter(|segment| !segment.is_empty()) {
        out.push('/');
        out.push_str(&encode_segment(segment));
    }
    out
}

/// Encodes a value of a form or a query.
#[must_use]
pub fn encode_form(value: &[u8]) -> String {
    percent_encode(value, UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_names_stay_readable_and_blanks_and_slashes_are_encoded() {
        assert_eq!(encode_segment("($Pathname)"), "($Pathname)");
        assert_eq!(encode_segment("ICM Servers"), "ICM%20Servers");
        assert_eq!(encode_segment("a/b\\c?d#e%"), "a%2Fb%5Cc%3Fd%23e%25");
        assert_eq!(encode_database_path("mail\\j doe.nsf"), "/mail/j%20doe.nsf");
        assert_eq!(encode_database_path("/cldbdir.nsf"), "/cldbdir.nsf");
        assert_eq!(encode_form("p&ss wörd=+".as_bytes()), "p%26ss%20w%C3%B6rd%3D%2B");
    }

    #[test]
    fn the_host_header_omits_the_default_port_and_brackets_ipv6() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(host_header("web1.acme.example", at("10.0.0.1:80"), false), "web1.acme.example");
        assert_eq!(host_header("web1.acme.example", at("10.0.0.1:80"), true), "web1.acme.example:80");
        assert_eq!(host_header("", at("[::1]:8080"), false), "[::1]:8080");
    }
}

//! One request to a Domino server, and how paths and forms are written.
//!
//! In: an address that was resolved before, a host name, a target. Out: what `Client` sends. It
//! never resolves a name.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Everything about one request.
#[derive(Clone, Debug)]
pub struct DominoRequest {
    /// GET or POST.
    pub method: Method,
    /// Where to connect.
    pub address: SocketAddr,
    /// Speak TLS.
    pub https: bool,
    /// For SNI and the certificate check; empty = the address.
    pub hostname: String,
    /// The Host header, with the port unless it is the scheme's own.
    pub host_header: String,
    /// Path and query, percent-encoded.
    pub target: String,
    /// Beside Host and Content-Length.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Empty for GET.
    pub body: Bytes,
    /// Over everything, from the connection to the last octet of the body.
    pub timeout: Duration,
    /// Most octets of an answer's body.
    pub max_body: usize,
}

impl DominoRequest {
    /// A GET with a limit of 30 s and 16 MiB.
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

    /// A POST of a form to the same server.
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

    /// For messages: on one line whatever the target holds.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let host = match self.host_header.as_str() {
            "" => self.address.to_string(),
            host => host.to_owned(),
        };
        super::fault::single_line(&format!("{scheme}://{host}{}", self.target))
    }

    /// The name that the certificate must carry: never empty, because an empty one would switch the
    /// verification off.
    pub(crate) fn tls_name(&self) -> String {
        let name = self.hostname.trim_end_matches('.');
        if name.is_empty() { self.address.ip().to_string() } else { name.to_owned() }
    }
}

/// `web1.acme.example`, `web1.acme.example:8080`, `[::1]:8080`.
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

/// What may stand for itself in a path segment: view names such as `($Pathname)` stay readable.
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

/// Unreserved characters only.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One path segment; a slash in it is encoded too.
#[must_use]
pub fn encode_segment(text: &str) -> String {
    percent_encode(text.as_bytes(), PATH_SEGMENT).to_string()
}

/// A database path below the data directory, either separator: `/mail/jdoe.nsf`.
#[must_use]
pub fn encode_database_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for segment in path.split(['/', '\\']).filter(|segment| !segment.is_empty()) {
        out.push('/');
        out.push_str(&encode_segment(segment));
    }
    out
}

/// A value of a form, or of a query.
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
    fn the_host_header_leaves_the_usual_port_out_and_brackets_ipv6() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(host_header("web1.acme.example", at("10.0.0.1:80"), false), "web1.acme.example");
        assert_eq!(host_header("web1.acme.example", at("10.0.0.1:80"), true), "web1.acme.example:80");
        assert_eq!(host_header("", at("[::1]:8080"), false), "[::1]:8080");
    }
}

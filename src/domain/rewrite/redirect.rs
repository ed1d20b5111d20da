//! Redirect mode: the URL under which a browser reaches the chosen server directly, as Domino's ICM sends it
//! (<https://help.hcltechsw.com/domino/11.0.0/admin/conf_howtheinternetclustermanagerworks_c.html>). The result is
//! always a single header value, and always names that host.

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::ops::Range;

use http::uri::Scheme;

use super::authority::default_port;

/// `scheme://hostname[:port]` and the target, which is path and query as the client sent them.
///
/// `server_path` replaces a range of the target with the percent-encoded path of the database on the server; a range
/// outside the target is ignored. Bytes that are invalid in a URL are percent-encoded, or dropped from the host name.
#[must_use]
pub fn redirect_location(
    scheme: &Scheme,
    hostname: &str,
    port: u16,
    server_path: Option<(Range<usize>, &str)>,
    target: &[u8],
) -> String {
    let mut out = String::with_capacity(hostname.len() + target.len() + 32);
    let bare = hostname.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<Ipv6Addr>().is_ok() {
        out = format!("{scheme}://[{bare}]");
    } else {
        let _ = write!(out, "{scheme}://");
        out.extend(hostname.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')));
    }
    if port != default_port(scheme) {
        let _ = write!(out, ":{port}");
    }
    let replaced = server_path.and_then(|(range, path)| {
        Some(
            [target.get(..range.start)?, path.as_bytes(), target.get(range.end.max(range.start)..)?].concat(),
        )
    });
    push_target(&mut out, replaced.as_deref().unwrap_or(target));
    out
}

/// Appends path and query, and percent-encodes what could end the header or the URL.
fn push_target(out: &mut String, target: &[u8]) {
    if target.first() != Some(&b'/') {
        out.push('/');
    }
    for byte in target {
        if byte.is_ascii_graphic() {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

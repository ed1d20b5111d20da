//! Redirect mode: the URL by which a browser reaches the chosen server itself.
//!
//! In: what the Server document says of the server, where the database lies there, and the client's
//! target. Out: an absolute URL that is always one header value and always names that host. The ICM
//! of Domino answers the same way: it sends the browser to the server
//! (<https://help.hcltechsw.com/domino/11.0.0/admin/conf_howtheinternetclustermanagerworks_c.html>).

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::ops::Range;

use http::uri::Scheme;

use super::authority::default_port;

/// `scheme://hostname[:port]` and the target, with the database's path at `range` of the target
/// replaced where the server has another one.
///
/// `hostname` comes without brackets, `target` is path and query as the client sent them, and the
/// server's path is percent-encoded and begins with `/`. Octets that may not stand in a URL are
/// percent-encoded, in a host name they are left out; a range that does not lie in the target is
/// ignored.
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

/// Path and query, as they are but for what would end the header or the URL.
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

//! Rewrites a `Set-Cookie` value for the public name and path: drops a `Domain` that only the servers' own network
//! knows, and replaces a `Path` that the browser will never request. The rest stays byte for byte.

use super::authority::{Authority, Host};
use super::{RewriteContext, database_path};

/// The cookie as a browser should store it, or `None` if nothing has to change.
///
/// `Domain` is removed if it covers a server but not the public host, so the cookie then belongs to the public host
/// alone. A domain that covers the public host stays, because an `LtpaToken` needs it
/// (<https://help.hcl-software.com/domino/12.0.2/admin/conf_multiserversessionbasedauthenticationsinglesignon_t.html>).
/// `Path` becomes `/` if the request was for a database (`in_database`) that has another path on the server
/// ([`RewriteContext::database_paths`]), and the cookie's path is within that database or covers it but not the
/// client's path.
#[must_use]
pub fn rewrite_set_cookie(value: &[u8], context: &RewriteContext<'_>, in_database: bool) -> Option<Vec<u8>> {
    let mut parts = value.split(|b| *b == b';');
    let mut out = parts.next()?.to_vec();
    let mut changed = false;
    for part in parts {
        let (name, attribute) = match part.iter().position(|b| *b == b'=') {
            Some(i) => (part.get(..i)?.trim_ascii(), part.get(i + 1..)?.trim_ascii()),
            None => (part.trim_ascii(), &b""[..]),
        };
        if name.eq_ignore_ascii_case(b"domain") && covers_only_servers(attribute, context) {
            changed = true;
            continue;
        }
        out.push(b';');
        if name.eq_ignore_ascii_case(b"path") && in_database && is_unreachable_path(attribute, context) {
            changed = true;
            // Keeps whitespace and the attribute name.
            let before = part.iter().position(|b| *b == b'=').map_or(0, |i| i + 1);
            out.extend_from_slice(part.get(..before)?);
            out.push(b'/');
        } else {
            out.extend_from_slice(part);
        }
    }
    changed.then_some(out)
}

/// True for a domain that covers a server but not the public host.
fn covers_only_servers(domain: &[u8], context: &RewriteContext<'_>) -> bool {
    let Ok(domain) = std::str::from_utf8(domain) else { return false };
    // A leading dot is ignored (RFC 6265 section 5.2.3).
    let domain = Host::parse(domain.strip_prefix('.').unwrap_or(domain));
    let public = Authority::parse(context.public_authority.as_bytes());
    let covers_public = public.is_some_and(|public| public.host.is_within(&domain));
    !covers_public && context.servers.iter().any(|server| server.is_within(&domain))
}

/// True for a path that the browser will not request, because the public path of the database differs.
fn is_unreachable_path(path: &[u8], context: &RewriteContext<'_>) -> bool {
    let Some((server_path, public)) = context.database_paths else { return false };
    let inside = database_path::prefix_len(path, server_path).is_some();
    inside || (path_matches(path, server_path.as_bytes()) && !path_matches(path, public.as_bytes()))
}

/// RFC 6265 section 5.1.4: a cookie path covers a request path that begins with it.
fn path_matches(cookie: &[u8], request: &[u8]) -> bool {
    cookie.first() == Some(&b'/')
        && request.strip_prefix(cookie).is_some_and(|rest| {
            rest.is_empty() || rest.first() == Some(&b'/') || cookie.last() == Some(&b'/')
        })
}

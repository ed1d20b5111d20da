//! Rewrites the URLs in responses to the public name and path: `Location`, `Content-Location`, `X-XspLocation`,
//! `Refresh` and `Link`. Relative references, foreign hosts and everything behind the path of the database stay byte
//! for byte.

use std::ops::Range;

use http::HeaderName;
use http::header;
use http::uri::Scheme;

use super::authority::{self, Authority, default_port};
use super::{RewriteContext, database_path};

/// A rewritten header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrittenUrl {
    /// The complete new value.
    pub value: Vec<u8>,
    /// The server that an absolute URL named; `None` for the public host or a path. If it is another server than the
    /// serving one, the user's entry moves there; else the next request would return to the server that redirected it.
    pub server: Option<usize>,
    /// Path and query in `value`, without a fragment: the target that the client will request. Empty for a URL that
    /// ends with its host.
    pub target: Range<usize>,
}

/// The public form of a header field; `None` for a field without a URL, for `Link`, and if nothing has to change.
#[must_use]
pub fn rewrite_header(name: &HeaderName, value: &[u8], context: &RewriteContext<'_>) -> Option<RewrittenUrl> {
    match name.as_str() {
        "refresh" => rewrite_refresh(value, context),
        // XPages: an absolute internal URL (<https://serverdevworker.com/166645cec9>).
        "x-xsplocation" => rewrite_location(value, context),
        _ if *name == header::LOCATION || *name == header::CONTENT_LOCATION => {
            rewrite_location(value, context)
        }
        _ => None,
    }
}

/// The public form of a single URL.
#[must_use]
pub(super) fn rewrite_location(value: &[u8], context: &RewriteContext<'_>) -> Option<RewrittenUrl> {
    rewrite_url(value, 0..value.len(), context)
}

/// The public form of `5; url=http://web1.acme.example/...`, with or without quotes and in any case
/// (<https://html.spec.whatwg.org/#shared-declarative-refresh-steps>).
#[must_use]
pub(super) fn rewrite_refresh(value: &[u8], context: &RewriteContext<'_>) -> Option<RewrittenUrl> {
    let separator = value.iter().position(|b| matches!(b, b';' | b','))?;
    let mut start = skip_whitespace(value, separator + 1);
    if value.get(start..start + 3).is_some_and(|word| word.eq_ignore_ascii_case(b"url")) {
        let equals = skip_whitespace(value, start + 3);
        if value.get(equals) == Some(&b'=') {
            start = skip_whitespace(value, equals + 1);
        }
    }
    let mut end = value.len();
    if let Some(quote @ (b'"' | b'\'')) = value.get(start) {
        start += 1;
        end = value.iter().skip(start).position(|b| b == quote).map_or(end, |i| start + i);
    }
    rewrite_url(value, start..end, context)
}

/// Rewrites every `<URL>` of a `Link` field (RFC 8288 section 3); `None` if nothing has to change.
#[must_use]
pub fn rewrite_link(value: &[u8], context: &RewriteContext<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + 64);
    let (mut rest, mut changed) = (value, false);
    while let Some(open) = memchr::memchr(b'<', rest) {
        let (before, behind) = rest.split_at_checked(open + 1)?;
        let Some(end) = memchr::memchr(b'>', behind) else { break };
        let (url, after) = behind.split_at_checked(end)?;
        out.extend_from_slice(before);
        match rewrite_location(url, context) {
            Some(rewritten) => {
                changed = true;
                out.extend_from_slice(&rewritten.value);
            }
            None => out.extend_from_slice(url),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    changed.then_some(out)
}

fn skip_whitespace(value: &[u8], from: usize) -> usize {
    from + value.iter().skip(from).take_while(|b| matches!(b, b' ' | b'\t')).count()
}

/// An absolute or path-absolute URL in its parts.
struct UrlReference<'a> {
    /// `None` for `//host/...` and for a path.
    scheme: Option<Scheme>,
    /// `None` for a path.
    authority: Option<&'a [u8]>,
    /// Path, query and fragment.
    rest: &'a [u8],
}

impl<'a> UrlReference<'a> {
    /// `None` for a relative reference and for schemes other than http and https.
    fn parse(url: &'a [u8]) -> Option<Self> {
        let (scheme, behind) = match url.iter().position(|b| *b == b':') {
            Some(4) if url.get(..4)?.eq_ignore_ascii_case(b"http") => (Some(Scheme::HTTP), url.get(5..)?),
            Some(5) if url.get(..5)?.eq_ignore_ascii_case(b"https") => (Some(Scheme::HTTPS), url.get(6..)?),
            _ => (None, url),
        };
        match behind.strip_prefix(b"//") {
            Some(behind) => {
                let end = behind.iter().position(|b| b"/?#\\".contains(b)).unwrap_or(behind.len());
                let (authority, rest) = behind.split_at_checked(end)?;
                Some(Self { scheme, authority: Some(authority), rest })
            }
            None if scheme.is_none() && url.first() == Some(&b'/') => {
                Some(Self { scheme: None, authority: None, rest: url })
            }
            None => None,
        }
    }
}

/// Rewrites the URL at `range` of `value` and keeps the text around it.
fn rewrite_url(value: &[u8], range: Range<usize>, context: &RewriteContext<'_>) -> Option<RewrittenUrl> {
    if value.iter().any(u8::is_ascii_control) || !is_visible_ascii(context.public_authority) {
        return None;
    }
    let url = value.get(range.clone())?;
    let blanks = url.len() - url.trim_ascii_start().len();
    let url = url.trim_ascii();
    let start = range.start + blanks;
    let reference = UrlReference::parse(url)?;
    let (prefix, server) = match reference.authority {
        None => (Vec::new(), None),
        Some(authority) => public_prefix(authority, reference.scheme.as_ref(), context)?,
    };
    let path_end = reference.rest.iter().position(|b| b"?#".contains(b)).unwrap_or(reference.rest.len());
    let (path, behind) = reference.rest.split_at_checked(path_end)?;
    let path = public_path(path, server, context);

    let mut out = Vec::with_capacity(value.len() + 64);
    out.extend_from_slice(value.get(..start)?);
    out.extend_from_slice(&prefix);
    let target_start = out.len();
    out.extend_from_slice(&path);
    out.extend_from_slice(behind);
    let fragment = memchr::memchr(b'#', behind).map_or(0, |i| behind.len() - i);
    let target = target_start..out.len() - fragment;
    out.extend_from_slice(value.get(start + url.len()..)?);
    // Report a URL of another server even if its text does not change.
    let moves = server.is_some_and(|named| named != context.serving);
    (moves || out != value).then_some(RewrittenUrl { value: out, server, target })
}

/// The public scheme and authority, and the server that was named. `None` for foreign hosts.
fn public_prefix(
    authority: &[u8],
    scheme: Option<&Scheme>,
    context: &RewriteContext<'_>,
) -> Option<(Vec<u8>, Option<usize>)> {
    let named = Authority::parse(authority)?;
    let public = |scheme: Option<&Scheme>| {
        let scheme = scheme.map_or(String::new(), |s| format!("{s}:"));
        format!("{scheme}//{}", context.public_authority).into_bytes()
    };
    if let Some(server) = authority::find_server(context.servers, context.serving, &named, scheme) {
        return Some((public(scheme.map(|_| context.public_scheme)), Some(server)));
    }
    // Domino builds URLs from the client's Host and the scheme of its own port.
    let ours = Authority::parse(context.public_authority.as_bytes())?;
    if named.host != ours.host {
        return None;
    }
    let public_port = ours.port_for(context.public_scheme);
    match scheme {
        None if named.port_for(context.public_scheme) == public_port => Some((public(None), None)),
        // A server without TLS behind our TLS writes `http`, with the port of the client's Host or its own.
        Some(s) if *s == Scheme::HTTP || s == context.public_scheme => {
            let ours = named.port == ours.port || [public_port, default_port(s)].contains(&named.port_for(s));
            ours.then(|| (public(Some(context.public_scheme)), None))
        }
        // The server redirects to TLS. Undoing that would make a redirect loop.
        Some(s) if named.port_for(s) == default_port(s) => Some(([b"https://", authority].concat(), None)),
        _ => None,
    }
}

/// The path that the client should request.
fn public_path(path: &[u8], server: Option<usize>, context: &RewriteContext<'_>) -> Vec<u8> {
    let own = || {
        let (server_path, public) = context.database_paths?;
        let rest = path.get(database_path::prefix_len(path, server_path)?..)?;
        is_visible_ascii(public).then(|| [public.as_bytes(), rest].concat())
    };
    // The public may know another database by a path of this server.
    let by_server = || {
        let public = (context.public_path)(server?, path)?;
        (public.starts_with('/') && is_visible_ascii(&public)).then(|| public.into_bytes())
    };
    let is_own = server.is_none_or(|named| named == context.serving);
    is_own.then(own).flatten().or_else(by_server).unwrap_or_else(|| path.to_vec())
}

/// True for text that cannot end a header line or a URL.
fn is_visible_ascii(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

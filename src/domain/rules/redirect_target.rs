//! The URL of a redirect with placeholders for parts of the request. It is parsed when the configuration is loaded, so that
//! no request can lead a browser to a host that the configuration does not name.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::util::host::is_authority;

/// Bytes that must not be in a `Location` as they are. Bytes beyond ASCII are encoded in any case.
const UNSAFE_IN_URL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'\\');

/// A URL, or a path on the same host, with the placeholders `{path}`, `{query}` and `{host}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// The path as it came, with exactly one leading slash.
    Path,
    /// The query with its `?`; nothing if there is none.
    Query,
    /// The host that the client named, without port.
    Host,
}

/// Why a text is no target of a redirect, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RedirectTargetError {
    #[error("a placeholder is not closed or not known, known are `{{path}}`, `{{query}}` and `{{host}}`")]
    Placeholder,
    #[error("it has a space, or a character outside ASCII, which must be percent-encoded")]
    Character,
    #[error("it is neither a URL nor a path, write `https://...` or `/...`")]
    NotAUrl,
    #[error("the host is missing or not valid, write a name or `{{host}}` between `//` and `/`")]
    Host,
    #[error("`{{path}}` begins with a slash itself, leave out the slash before it")]
    SlashBeforePath,
    #[error("`{{query}}` brings its `?`, so it must be the first query, and at the end")]
    Query,
}

impl RedirectTarget {
    /// Reads a URL or a path with placeholders.
    ///
    /// # Errors
    /// Where it is no URL, or where a request could decide to which host it leads.
    pub fn parse(text: &str) -> Result<Self, RedirectTargetError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RedirectTargetError::Character);
        }
        let parts = split(text)?;
        check_authority(&parts)?;
        let mut before = String::new();
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => before.push_str(text),
                Part::Path if before.ends_with('/') => return Err(RedirectTargetError::SlashBeforePath),
                Part::Path if before.contains(['?', '#']) => return Err(RedirectTargetError::Query),
                Part::Query if before.contains(['?', '#']) || at + 1 != parts.len() => {
                    return Err(RedirectTargetError::Query);
                }
                Part::Host => before.push_str("host"),
                Part::Path | Part::Query => {}
            }
        }
        Ok(Self { parts })
    }

    /// The URL for a request: its path and query as they came, and the host and port that it named.
    #[must_use]
    pub fn expand(&self, target: &[u8], authority: &str) -> String {
        let (path, query) = match memchr::memchr(b'?', target) {
            Some(at) => target.split_at_checked(at).unwrap_or((target, b"")),
            None => (target, &b""[..]),
        };
        let mut url = String::with_capacity(64 + target.len());
        for part in &self.parts {
            let written = match part {
                Part::Text(text) => write!(url, "{text}"),
                Part::Path => write!(url, "{}", local_url(path)),
                Part::Query => write!(url, "{}", encoded(query)),
                Part::Host => write!(url, "{}", host_of(authority)),
            };
            debug_assert!(written.is_ok(), "a string takes every text");
        }
        url
    }
}

/// A path with its query as a URL on the same host. A second slash or backslash would begin the name of a host.
#[must_use]
pub fn local_url(path: &[u8]) -> String {
    format!("/{}", encoded(trim_slashes(path)))
}

fn encoded(bytes: &[u8]) -> percent_encoding::PercentEncode<'_> {
    percent_encode(bytes, UNSAFE_IN_URL)
}

fn trim_slashes(path: &[u8]) -> &[u8] {
    let first = path.iter().position(|byte| !matches!(byte, b'/' | b'\\')).unwrap_or(path.len());
    path.get(first..).unwrap_or_default()
}

/// The host of an authority; an IPv6 address with its brackets.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn split(mut text: &str) -> Result<Vec<Part>, RedirectTargetError> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (literal, rest) =
            text.split_once('{').map_or((text, None), |(before, rest)| (before, Some(rest)));
        if literal.contains('}') {
            return Err(RedirectTargetError::Placeholder);
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        let Some(rest) = rest else { break };
        let (name, after) = rest.split_once('}').ok_or(RedirectTargetError::Placeholder)?;
        parts.push(match name {
            "path" => Part::Path,
            "query" => Part::Query,
            "host" => Part::Host,
            _ => return Err(RedirectTargetError::Placeholder),
        });
        text = after;
    }
    Ok(parts)
}

/// The host must be in the text, or be the one of the request.
fn check_authority(parts: &[Part]) -> Result<(), RedirectTargetError> {
    let first = match parts.first() {
        Some(Part::Text(text)) => text,
        Some(Part::Path) => return Ok(()),
        _ => return Err(RedirectTargetError::NotAUrl),
    };
    let lower = first.to_ascii_lowercase();
    let scheme = ["https://", "http://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let Some(scheme) = scheme else {
        let is_path = first.starts_with('/') && !first.starts_with("//") && !first.contains('\\');
        // `/` and `{path}` would be two slashes.
        return if is_path { Ok(()) } else { Err(RedirectTargetError::NotAUrl) };
    };
    let mut authority = String::new();
    for (at, part) in parts.iter().enumerate() {
        match part {
            Part::Text(text) => {
                let text = if at == 0 { text.get(scheme.len()..).unwrap_or_default() } else { text };
                let end = text.find(['/', '?', '#']);
                authority.push_str(end.and_then(|end| text.get(..end)).unwrap_or(text));
                if end.is_some() {
                    break;
                }
            }
            // Any valid name does for the check.
            Part::Host => authority.push_str("host"),
            Part::Path | Part::Query => break,
        }
    }
    if is_authority(authority.as_bytes()) { Ok(()) } else { Err(RedirectTargetError::Host) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(to: &str, target: &str) -> String {
        RedirectTarget::parse(to).unwrap().expand(target.as_bytes(), "www.acme.example:8443")
    }

    #[test]
    fn placeholders_stand_for_parts_of_the_request() {
        let to = "https://new.acme.example{path}{query}";
        assert_eq!(expand(to, "/a%20b/c.nsf?Open&x=1?2"), "https://new.acme.example/a%20b/c.nsf?Open&x=1?2");
        assert_eq!(expand(to, "/a"), "https://new.acme.example/a");
        assert_eq!(expand("https://{host}:9443/x{path}", "/"), "https://www.acme.example:9443/x/");
        assert_eq!(expand("/new.html{query}", "/old?a"), "/new.html?a");
        assert_eq!(expand("http://old.{host}", "/"), "http://old.www.acme.example");
        let ipv6 = RedirectTarget::parse("https://{host}{path}").unwrap();
        assert_eq!(ipv6.expand(b"/a", "[::1]:80"), "https://[::1]/a");
        assert_eq!(ipv6.expand(b"/a", "[::1]"), "https://[::1]/a");
    }

    #[test]
    fn a_request_cannot_lead_to_another_host_or_add_a_field() {
        for target in ["//evil.example/", "/\\evil.example/", "\\\\evil.example", "///evil.example/"] {
            assert!(expand("{path}", target).starts_with("/evil.example"), "{target}");
        }
        assert_eq!(expand("https://a.example{path}", "*"), "https://a.example/*");
        assert_eq!(expand("{path}{query}", "/a\r\nX: y?\u{e9}\\"), "/a%0D%0AX:%20y?%C3%A9%5C");
    }

    #[test]
    fn a_target_is_wrong_where_its_meaning_is_not_clear() {
        use RedirectTargetError as E;
        for (to, error) in [
            ("https://a.example/{path}", E::SlashBeforePath),
            ("/{path}", E::SlashBeforePath),
            ("https://a.example{path}?{query}", E::Query),
            ("https://a.example/?a=1&{query}", E::Query),
            ("https://a.example{query}/x", E::Query),
            ("https://a.example/#x{path}", E::Query),
            ("https://a.example/{uri}", E::Placeholder),
            ("https://a.example/{path", E::Placeholder),
            ("https://a.example/}", E::Placeholder),
            ("www.a.example", E::NotAUrl),
            ("//a.example", E::NotAUrl),
            ("/\\a.example", E::NotAUrl),
            ("javascript:alert(1)", E::NotAUrl),
            ("{query}", E::NotAUrl),
            ("{host}/x", E::NotAUrl),
            ("", E::NotAUrl),
            ("https://{path}", E::Host),
            ("https:///x", E::Host),
            ("https://u@a.example/", E::Host),
            ("https://a.example:x/", E::Host),
            ("https://a b", E::Character),
            ("https://b\u{fc}ro.example", E::Character),
        ] {
            assert_eq!(RedirectTarget::parse(to), Err(error), "{to}");
        }
    }

    proptest! {
        #[test]
        fn every_result_is_a_header_value_on_the_host_of_the_configuration(
            target in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let to = RedirectTarget::parse("https://a.example{path}{query}").unwrap();
            let url = to.expand(&target, "w");
            prop_assert!(url.starts_with("https://a.example/"));
            prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
            let local = RedirectTarget::parse("{path}").unwrap().expand(&target, "w");
            prop_assert!(local.starts_with('/') && !local.starts_with("//") && !local.contains('\\'));
        }
    }
}

//! The request of a cluster that failed last, for the status page. Nothing of its query is kept, and only the beginning of
//! its path.

use serde::Serialize;

/// Longer paths end with `…`.
const MAX_PATH_CHARS: usize = 200;
/// Longer methods are cut; those of RFC 9110 have 7 characters at most.
const MAX_METHOD_CHARS: usize = 20;

/// A request to which no server gave a response that could be passed on whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedRequest {
    /// When it ended, in milliseconds since 1970.
    pub at: u64,
    pub method: String,
    /// What comes before the query.
    pub path: String,
    /// What the client got; 0 = no response.
    pub status: u16,
    /// The code of the error page; `None` = the response of a server, or a part of it.
    pub page: Option<&'static str>,
    /// Why selection chose the server of the last attempt, or none.
    pub why: &'static str,
    /// Milliseconds from its head to its end.
    pub total_ms: u64,
    /// In their order; empty if no server was chosen.
    pub attempts: Vec<FailedRequestAttempt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedRequestAttempt {
    /// The server's abbreviated name.
    pub server: String,
    /// Why it failed; `None` = its response was passed on, or the client left.
    pub cause: Option<&'static str>,
    /// How long it took in milliseconds.
    pub ms: u64,
}

/// The path of a request target without its query, which may hold what is private. Domino takes `!` for `?`,
/// and both may be percent-encoded (see `domain/url`).
#[must_use]
pub fn path_without_query(target: &[u8]) -> String {
    let begins_query = |rest: &[u8]| {
        matches!(rest, [b'?' | b'!', ..] | [b'%', b'3', b'f' | b'F', ..] | [b'%', b'2', b'1', ..])
    };
    let end = (0..target.len()).find(|at| target.get(*at..).is_some_and(begins_query));
    let path = target.get(..end.unwrap_or(target.len())).unwrap_or_default();
    shorten(&String::from_utf8_lossy(path), MAX_PATH_CHARS)
}

/// The method of a request, which a client may choose freely.
#[must_use]
pub fn short_method(method: &str) -> String {
    shorten(method, MAX_METHOD_CHARS)
}

fn shorten(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_contains_a_query_and_is_not_long() {
        for (target, path) in [
            ("/sales/orders.nsf", "/sales/orders.nsf"),
            ("/names.nsf?Login&Username=jane&Password=secret", "/names.nsf"),
            ("/names.nsf!Login&Password=secret", "/names.nsf"),
            ("/names.nsf%3FLogin&Password=secret", "/names.nsf"),
            ("/names.nsf%3flogin", "/names.nsf"),
            ("/names.nsf%21login", "/names.nsf"),
            ("/a%20b%2", "/a%20b%2"),
            ("", ""),
        ] {
            assert_eq!(path_without_query(target.as_bytes()), path);
        }
        let long = path_without_query("/ä".repeat(500).as_bytes());
        assert_eq!((long.chars().count(), long.chars().last()), (MAX_PATH_CHARS + 1, Some('…')));
        assert_eq!(path_without_query(b"/\xff\x00"), "/\u{fffd}\0");
        assert_eq!(short_method(&"X".repeat(90)).chars().count(), MAX_METHOD_CHARS + 1);
    }
}

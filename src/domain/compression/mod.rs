//! Which responses are compressed for a client, and with which coding: a pure decision from the heads of a request and its
//! response.
//!
//! It is separate from the encoders, which need libraries, and from the header maps of the proxy.

mod accept_encoding;
pub mod entity_tag;

pub use accept_encoding::{ContentCoding, choose};

/// What a cluster compresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressionPolicy {
    /// Media types in lower case; `text/` stands for all types that begin so.
    pub types: Vec<String>,
    /// Shorter bodies stay as they are, if their length is known; in bytes.
    pub min_size: u64,
    /// In the order in which the server prefers them.
    pub algorithms: Vec<ContentCoding>,
    /// Whether responses that set a session cookie are compressed, too.
    pub with_session_cookies: bool,
}

impl CompressionPolicy {
    /// The media types that are compressed unless the configuration names others. Images, fonts in WOFF and archives are
    /// compressed already.
    pub const DEFAULT_TYPES: [&'static str; 16] = [
        "text/html",
        "text/css",
        "text/plain",
        "text/xml",
        "text/csv",
        "text/calendar",
        "text/javascript",
        "application/javascript",
        "application/x-javascript",
        "application/json",
        "application/manifest+json",
        "application/xml",
        "application/xhtml+xml",
        "application/atom+xml",
        "application/rss+xml",
        "image/svg+xml",
    ];
    /// A response of one TCP segment is not faster for being smaller.
    pub const DEFAULT_MIN_SIZE: u64 = 1024;
}

impl Default for CompressionPolicy {
    fn default() -> Self {
        Self {
            types: Self::DEFAULT_TYPES.map(str::to_owned).to_vec(),
            min_size: Self::DEFAULT_MIN_SIZE,
            algorithms: ContentCoding::ALL.to_vec(),
            with_session_cookies: false,
        }
    }
}

/// What the decision depends on, except for `Accept-Encoding`.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one field of a head")]
pub struct ResponseFacts<'a> {
    /// The status of the response.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// The length of the body, if it is known.
    pub length: Option<u64>,
    /// Whether a content coding other than `identity` was applied.
    pub is_encoded: bool,
    /// Whether the body is a part of the resource.
    pub is_partial: bool,
    /// Whether `Cache-Control` has `no-transform`.
    pub forbids_transformation: bool,
    /// Whether the response gives the client a session.
    pub sets_session: bool,
    /// Whether the client gets a body in the first place, and can read a changed one: not for HEAD, with `Range`, or over
    /// HTTP/1.0.
    pub takes_other_body: bool,
}

/// What happens to the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionDecision {
    /// It is sent as it is, whatever the client accepts.
    NotCompressible,
    /// It is sent as it is to this client; caches must know that others may get another form.
    AsItIs,
    /// It is compressed like this.
    Compress(ContentCoding),
}

impl CompressionPolicy {
    /// Decides for one response. `accepted` are the lines of `Accept-Encoding`, which are read only if they matter.
    pub fn decide<'a>(
        &self,
        facts: &ResponseFacts<'_>,
        accepted: impl Iterator<Item = &'a [u8]>,
    ) -> CompressionDecision {
        let has_body = facts.status >= 200 && !matches!(facts.status, 204 | 205 | 206 | 304);
        let is_large = facts.length.is_none_or(|length| length > 0 && length >= self.min_size);
        if !has_body
            || !is_large
            || facts.is_encoded
            || facts.is_partial
            || facts.forbids_transformation
            || (facts.sets_session && !self.with_session_cookies)
            || !facts.content_type.is_some_and(|value| self.has_type(value))
        {
            return CompressionDecision::NotCompressible;
        }
        if !facts.takes_other_body {
            return CompressionDecision::AsItIs;
        }
        choose(accepted, &self.algorithms).map_or(CompressionDecision::AsItIs, CompressionDecision::Compress)
    }

    fn has_type(&self, content_type: &[u8]) -> bool {
        let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
        let media_type = content_type.get(..end).unwrap_or_default().trim_ascii();
        self.types.iter().any(|known| {
            let known = known.as_bytes();
            match known.strip_suffix(b"/") {
                Some(_) => {
                    media_type.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
                }
                None => media_type.eq_ignore_ascii_case(known),
            }
        })
    }
}

/// Whether a value of `Content-Encoding` names a coding.
#[must_use]
pub fn is_coded(content_encoding: &[u8]) -> bool {
    elements(content_encoding).any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// Whether a value of `Cache-Control` forbids that the body is changed.
#[must_use]
pub fn forbids_transformation(cache_control: &[u8]) -> bool {
    elements(cache_control).any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// The value of `Vary` that also names `Accept-Encoding`; `None` if it does already.
pub fn vary_on_encoding<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"Accept-Encoding";
    let mut joined = Vec::new();
    for name in lines.flat_map(elements) {
        if name == b"*" || name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        joined.extend_from_slice(name);
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(NAME);
    Some(joined)
}

/// The elements of a list, trimmed, without empty ones.
fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::CompressionDecision::{AsItIs, Compress, NotCompressible};
    use super::*;

    const PAGE: ResponseFacts<'_> = ResponseFacts {
        status: 200,
        content_type: Some(b"text/html; charset=UTF-8"),
        length: Some(5000),
        is_encoded: false,
        is_partial: false,
        forbids_transformation: false,
        sets_session: false,
        takes_other_body: true,
    };

    fn decide(facts: ResponseFacts<'_>) -> CompressionDecision {
        CompressionPolicy::default().decide(&facts, [b"gzip".as_slice()].into_iter())
    }

    #[test]
    fn a_text_of_some_length_is_compressed() {
        let gzip = Compress(ContentCoding::Gzip);
        assert_eq!(decide(PAGE), gzip);
        assert_eq!(decide(ResponseFacts { length: None, ..PAGE }), gzip, "unknown length");
        assert_eq!(decide(ResponseFacts { length: Some(1024), ..PAGE }), gzip);
        assert_eq!(decide(ResponseFacts { status: 404, ..PAGE }), gzip);
        assert_eq!(decide(ResponseFacts { content_type: Some(b"IMAGE/SVG+XML ;a=b"), ..PAGE }), gzip);
    }

    #[test]
    fn what_must_not_change_does_not_vary() {
        for facts in [
            ResponseFacts { length: Some(1023), ..PAGE },
            ResponseFacts { length: Some(0), ..PAGE },
            ResponseFacts { status: 206, ..PAGE },
            ResponseFacts { status: 204, ..PAGE },
            ResponseFacts { status: 304, ..PAGE },
            ResponseFacts { status: 101, ..PAGE },
            ResponseFacts { is_encoded: true, ..PAGE },
            ResponseFacts { is_partial: true, ..PAGE },
            ResponseFacts { forbids_transformation: true, ..PAGE },
            ResponseFacts { sets_session: true, ..PAGE },
            ResponseFacts { content_type: None, ..PAGE },
            ResponseFacts { content_type: Some(b"image/png"), ..PAGE },
            ResponseFacts { content_type: Some(b"text/event-stream"), ..PAGE },
            ResponseFacts { content_type: Some(b"text/htmlx"), ..PAGE },
        ] {
            assert_eq!(decide(facts), NotCompressible, "{facts:?}");
        }
    }

    #[test]
    fn a_client_that_takes_no_other_body_still_learns_that_there_may_be_one() {
        assert_eq!(decide(ResponseFacts { takes_other_body: false, ..PAGE }), AsItIs);
        let refuses = [b"gzip;q=0".as_slice()];
        assert_eq!(CompressionPolicy::default().decide(&PAGE, refuses.into_iter()), AsItIs);
    }

    #[test]
    fn types_may_be_ranges_and_sessions_may_be_allowed() {
        let policy = CompressionPolicy {
            types: vec!["text/".to_owned()],
            with_session_cookies: true,
            min_size: 0,
            ..CompressionPolicy::default()
        };
        let decide = |facts| policy.decide(&facts, [b"br".as_slice()].into_iter());
        let login = ResponseFacts { sets_session: true, length: Some(1), ..PAGE };
        assert_eq!(decide(login), Compress(ContentCoding::Brotli));
        assert_eq!(
            decide(ResponseFacts { content_type: Some(b"application/json"), ..PAGE }),
            NotCompressible
        );
    }

    #[test]
    fn lists_of_a_head_are_read_whole() {
        assert!(is_coded(b"gzip") && is_coded(b"identity, br") && !is_coded(b" Identity ") && !is_coded(b""));
        assert!(forbids_transformation(b"max-age=5, No-Transform") && !forbids_transformation(b"no-store"));
        let vary = |lines: &[&str]| {
            vary_on_encoding(lines.iter().map(|line| line.as_bytes())).map(|v| String::from_utf8(v).unwrap())
        };
        assert_eq!(vary(&[]).as_deref(), Some("Accept-Encoding"));
        assert_eq!(vary(&["Cookie", "Accept, "]).as_deref(), Some("Cookie, Accept, Accept-Encoding"));
        assert_eq!(vary(&["Cookie, accept-ENCODING"]), None);
        assert_eq!(vary(&["*"]), None);
    }
}

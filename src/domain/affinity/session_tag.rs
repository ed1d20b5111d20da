//! The tag of a session cookie: its server, and the lengths of its path and domain. It is appended to the name of the
//! cookie or prepended to its value, as `0f3a9c21` or `0f3a9c21.14.12`.

/// Separates the tag from the name or value of the cookie.
pub const SEPARATOR: u8 = b'~';
const TAG_LEN: usize = 8;
/// The tag, and two lengths of up to five digits, each with a dot.
const MAX_LEN: usize = TAG_LEN + 12;

/// What a browser does not send with a session cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTag {
    /// The tag of its server.
    pub tag: u32,
    /// Length of its `Path`.
    pub path: usize,
    /// Length of its `Domain`; 0 = none.
    pub domain: usize,
}

impl SessionTag {
    /// Parses the text after the name of a cookie: `~0f3a9c21`.
    #[must_use]
    pub fn parse_after_name(rest: &[u8]) -> Option<Self> {
        Self::parse(rest.strip_prefix(&[SEPARATOR])?)
    }

    /// Splits a tagged value, `0f3a9c21~...`, into tag and value.
    #[must_use]
    pub fn parse_before_value(text: &[u8]) -> Option<(Self, &[u8])> {
        let end = text.iter().take(MAX_LEN + 1).position(|b| *b == SEPARATOR)?;
        let (tag, value) = text.split_at_checked(end)?;
        Some((Self::parse(tag)?, value.get(1..)?))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (tag, lengths) = text.split_at_checked(TAG_LEN)?;
        if !tag.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let tag = u32::from_str_radix(std::str::from_utf8(tag).ok()?, 16).ok()?;
        if lengths.is_empty() {
            return Some(Self { tag, path: 1, domain: 0 });
        }
        let mut numbers = lengths.strip_prefix(b".")?.split(|b| *b == b'.').map(|digits| {
            let plain = matches!(digits.first(), Some(b'1'..=b'9')) && digits.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(digits).ok().filter(|_| plain)?.parse::<usize>().ok()
        });
        let path = numbers.next()??;
        let domain = match numbers.next() {
            Some(domain) => domain?,
            None => 0,
        };
        numbers.next().is_none().then_some(Self { tag, path, domain })
    }
}

impl std::fmt::Display for SessionTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tag, path, domain } = self;
        match (path, domain) {
            (1, 0) => write!(f, "{tag:08x}"),
            (path, 0) => write!(f, "{tag:08x}.{path}"),
            (path, domain) => write!(f, "{tag:08x}.{path}.{domain}"),
        }
    }
}

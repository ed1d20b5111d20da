//! The lexical rules of HTTP/1.1: tokens, field values, targets and line ends.
//!
//! The other modules of the gate share them; limits and meaning are theirs.

/// RFC 9110 section 5.6.2: methods, field names, names of extensions.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let special =
            matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        // Evaluated at compile time, with an index below 128.
        #[allow(clippy::indexing_slicing)]
        {
            table[byte as usize] = byte.is_ascii_alphanumeric() || special;
        }
        byte += 1;
    }
    table
};

pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The length of the token at the beginning of `text`.
pub(super) fn token_length(text: &[u8]) -> usize {
    text.iter().position(|o| !is_token_byte(*o)).unwrap_or(text.len())
}

/// RFC 9110 section 5.5: visible characters, spaces, tabs and bytes above 0x7F.
pub(super) fn is_field_value(text: &[u8]) -> bool {
    // Only a loop without an early exit is vectorized.
    !text.iter().fold(false, |bad, o| bad | ((*o < 0x20) & (*o != b'\t')) | (*o == 0x7F))
}

/// The result for all bytes of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetCheck {
    Clean,
    /// Some are visible ASCII that must be percent-encoded in a URL.
    Unencoded,
    /// Some are not visible ASCII, or begin a fragment, which a request must not have (RFC 9112 section 3.2).
    Bad,
}

pub(super) fn check_target_bytes(text: &[u8]) -> TargetCheck {
    // Vectorized, as in `is_field_value`.
    let flaws = text.iter().fold(0, |flaws, byte| {
        let bad = (*byte <= 0x20) | (*byte >= 0x7F) | (*byte == b'#');
        flaws | u8::from(bad) << 1 | u8::from(must_be_encoded(*byte))
    });
    match flaws {
        0 => TargetCheck::Clean,
        1 => TargetCheck::Unencoded,
        _ => TargetCheck::Bad,
    }
}

/// Characters that scripts send unencoded and URL parsers refuse. All parsers accept the others that RFC 3986 excludes
/// (`^`, `|`, `{`, `}`, `\\`), so those pass unchanged.
fn must_be_encoded(byte: u8) -> bool {
    (byte == b'"') | (byte == b'<') | (byte == b'>') | (byte == b'`')
}

/// Each byte of a target, and whether it must be percent-encoded. Every parser accepts a backtick in a query.
pub(super) fn with_encoding_flags(target: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    target.iter().scan(false, |in_query, byte| {
        *in_query |= *byte == b'?';
        Some((*byte, must_be_encoded(*byte) && !(*in_query && *byte == b'`')))
    })
}

/// Removes spaces and tabs at both ends.
pub(super) fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// How a line ends, and at which position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    CrLf(usize),
    /// A CR or an LF alone.
    Bare(usize),
    /// No line end before this position, from which the next search starts.
    Incomplete(usize),
}

/// Finds the end of the first line at or after `from`.
pub(super) fn find_line_end(bytes: &[u8], from: usize) -> LineEnd {
    let rest = bytes.get(from..).unwrap_or_default();
    let Some(length) = memchr::memchr2(b'\r', b'\n', rest) else { return LineEnd::Incomplete(bytes.len()) };
    let end = from + length;
    match rest.get(length..) {
        Some([b'\r', b'\n', ..]) => LineEnd::CrLf(end),
        Some([b'\r']) => LineEnd::Incomplete(end),
        _ => LineEnd::Bare(end),
    }
}

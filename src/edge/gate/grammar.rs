//! The alphabet of HTTP/1.1 and its lines.
//!
//! In: octets. Out: whether they are a token or a field value, and where a line ends. It knows no limit and no
//! meaning.

/// Octets of a token (RFC 9110 section 5.6.2): methods, field names, names of extensions.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let special = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        // The index is below 128: this loop runs when the program is compiled.
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

/// How many of the first octets may stand in a token.
pub(super) fn token_length(text: &[u8]) -> usize {
    text.iter().position(|o| !is_token_byte(*o)).unwrap_or(text.len())
}

/// Whether a field value holds nothing but what RFC 9110 section 5.5 allows: visible octets, blanks, tabs and
/// octets above 0x7F.
pub(super) fn is_field_value(text: &[u8]) -> bool {
    // Looks at every octet, because a loop without an exit is the one that is done sixteen octets at a time.
    !text.iter().fold(false, |bad, o| bad | ((*o < 0x20) & (*o != b'\t')) | (*o == 0x7F))
}

/// What the bytes of a request target are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetCheck {
    /// All may stand there.
    Clean,
    /// Some are visible, but no URL has them unless they are percent-encoded.
    Unencoded,
    /// Some are not visible ASCII, or begin a fragment, which is never sent (RFC 9112 section 3.2).
    Bad,
}

pub(super) fn check_target_bytes(text: &[u8]) -> TargetCheck {
    // One loop without an exit, as in `is_value`.
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

/// Characters that scripts send as they are and parsers of URLs refuse. Others that RFC 3986 leaves out as well
/// (`^`, `|`, `{`, `}`, `\\`) are understood by everybody and pass as they are.
fn must_be_encoded(byte: u8) -> bool {
    (byte == b'"') | (byte == b'<') | (byte == b'>') | (byte == b'`')
}

/// Each byte of a target, and whether it has to be percent-encoded. The backtick of a query need not: every parser takes
/// it there.
pub(super) fn with_encoding_flags(target: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    target.iter().scan(false, |in_query, byte| {
        *in_query |= *byte == b'?';
        Some((*byte, must_be_encoded(*byte) && !(*in_query && *byte == b'`')))
    })
}

/// Without the blanks and tabs around it.
pub(super) fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// With CR LF, the CR at this place.
    CrLf(usize),
    /// With a CR or LF without the other, at this place.
    Bare(usize),
    /// Not yet: its text goes to this place at least, and only from there needs to be searched again.
    Incomplete(usize),
}

/// Where the first line of the octets from `from` on ends.
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

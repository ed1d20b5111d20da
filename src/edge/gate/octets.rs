//! The alphabet of HTTP/1.1 and its lines.
//!
//! In: octets. Out: whether they are a token or a field value, and where a line ends. It knows no limit and no
//! meaning.

/// Octets of a token (RFC 9110 section 5.6.2): methods, field names, names of extensions.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0u8;
    while octet < 128 {
        let special = matches!(
            octet,
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
            table[octet as usize] = octet.is_ascii_alphanumeric() || special;
        }
        octet += 1;
    }
    table
};

pub(super) fn is_token_octet(octet: u8) -> bool {
    TOKEN.get(usize::from(octet)).copied().unwrap_or_default()
}

/// How many of the first octets may stand in a token.
pub(super) fn token_length(text: &[u8]) -> usize {
    text.iter().position(|o| !is_token_octet(*o)).unwrap_or(text.len())
}

/// Whether a field value holds nothing but what RFC 9110 section 5.5 allows: visible octets, blanks, tabs and
/// octets above 0x7F.
pub(super) fn is_value(text: &[u8]) -> bool {
    // Looks at every octet, because a loop without an exit is the one that is done sixteen octets at a time.
    !text.iter().fold(false, |bad, o| bad | ((*o < 0x20) & (*o != b'\t')) | (*o == 0x7F))
}

/// What the bytes of a request target are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetBytes {
    /// All may stand there.
    Clean,
    /// Some are visible, but no URL has them unless they are percent-encoded.
    Unencoded,
    /// Some are not visible ASCII, or begin a fragment, which is never sent (RFC 9112 section 3.2).
    Bad,
}

pub(super) fn target_bytes(text: &[u8]) -> TargetBytes {
    // One loop without an exit, as in `is_value`.
    let flaws = text.iter().fold(0, |flaws, byte| {
        let bad = (*byte <= 0x20) | (*byte >= 0x7F) | (*byte == b'#');
        flaws | u8::from(bad) << 1 | u8::from(is_unencoded(*byte))
    });
    match flaws {
        0 => TargetBytes::Clean,
        1 => TargetBytes::Unencoded,
        _ => TargetBytes::Bad,
    }
}

/// Characters that scripts send as they are and parsers of URLs refuse. Others that RFC 3986 leaves out as well
/// (`^`, `|`, `{`, `}`, `\\`) are understood by everybody and pass as they are.
fn is_unencoded(byte: u8) -> bool {
    (byte == b'"') | (byte == b'<') | (byte == b'>') | (byte == b'`')
}

/// Each byte of a target, and whether it has to be percent-encoded. The backtick of a query need not: every parser takes
/// it there.
pub(super) fn with_flaws(target: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    target.iter().scan(false, |in_query, byte| {
        *in_query |= *byte == b'?';
        Some((*byte, is_unencoded(*byte) && !(*in_query && *byte == b'`')))
    })
}

/// Without the blanks and tabs around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// With CR LF, the CR at this place.
    Whole(usize),
    /// With a CR or LF without the other, at this place.
    Broken(usize),
    /// Not yet: its text goes to this place at least, and only from there needs to be searched again.
    Open(usize),
}

/// Where the first line of the octets from `from` on ends.
pub(super) fn line_end(octets: &[u8], from: usize) -> LineEnd {
    let rest = octets.get(from..).unwrap_or_default();
    let Some(length) = memchr::memchr2(b'\r', b'\n', rest) else { return LineEnd::Open(octets.len()) };
    let end = from + length;
    match rest.get(length..) {
        Some([b'\r', b'\n', ..]) => LineEnd::Whole(end),
        Some([b'\r']) => LineEnd::Open(end),
        _ => LineEnd::Broken(end),
    }
}

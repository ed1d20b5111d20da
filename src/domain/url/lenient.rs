//! Detects paths in which a lenient server would open another database than the one we route by.
//!
//! Both sides must read the path alike. A server that decodes twice, strips path parameters, accepts overlong UTF-8 or,
//! on Windows, drops trailing dots and blanks would open what the directory knows elsewhere, or not at all.

use smallvec::SmallVec;
use std::ops::Range;

use super::database_name::{bare_replica_id, is_database_name};
use crate::domain::directory::{FoldBuffer, fold_plain_path, fold_url_path};
use crate::util::percent::PercentDecoder;

type PathBytes = SmallVec<[u8; 256]>;

/// No server is expected to decode a path more often.
const MAX_DECODINGS: usize = 4;

/// True if a lenient server could open another database than the one at `database`, or climb out of the path.
pub(super) fn may_open_other_database(path: &[u8], database: Option<&Range<usize>>) -> bool {
    if !needs_lenient_check(path) {
        return false;
    }
    let expected = database.and_then(|range| path.get(range.clone()));
    let mut folded = FoldBuffer::default();
    let expected: Option<PathBytes> = expected.map(|raw| fold_url_path(raw, &mut folded).into());
    let mut text = trailing_plus_to_space(path);
    for _ in 0..MAX_DECODINGS {
        if any_server_differs(&text, expected.as_deref()) {
            return true;
        }
        let decoded: PathBytes = PercentDecoder::new(&text).values().collect();
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    // Still encoded: no honest client sends this.
    any_server_differs(&text, expected.as_deref()) || PercentDecoder::new(&text).any(|byte| byte.encoded)
}

/// A quick look at the bytes that settles usual paths: false if all servers read the path alike.
fn needs_lenient_check(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in PercentDecoder::new(path) {
        let ends = byte.is_separator() || matches!(byte.value, b'?' | b'!');
        let ends_badly = ends && matches!(before, b'.' | b' ' | b'+');
        // `%25` may hide a second encoding; C0, C1, E0 and F0 can begin overlong UTF-8.
        let hides = (byte.encoded && byte.value == b'%') || matches!(byte.value, 0xc0 | 0xc1 | 0xe0 | 0xf0);
        if ends_badly || hides || matches!(byte.value, b';' | b':') {
            return true;
        }
        before = byte.value;
    }
    matches!(before, b'.' | b' ' | b'+')
}

/// A server may read `+` at the end of a name as a blank.
fn trailing_plus_to_space(path: &[u8]) -> PathBytes {
    let mut out: PathBytes = path.into();
    let mut at_end = true;
    for byte in out.iter_mut().rev() {
        match byte {
            b'/' | b'\\' => at_end = true,
            b'+' if at_end => *byte = b' ',
            _ => at_end = false,
        }
    }
    out
}

/// What a server leaves out of a path.
#[derive(Clone, Copy)]
struct Leniency {
    strips_parameters: bool,
    /// Drops dots and blanks at the end of a name, as Windows does.
    strips_trailing: bool,
}

fn any_server_differs(text: &[u8], expected: Option<&[u8]>) -> bool {
    let bytes: PathBytes = PercentDecoder::new(text).values().collect();
    let decoded = decode_overlong(&bytes);
    [false, true].into_iter().any(|strips_parameters| {
        [false, true].into_iter().any(|strips_trailing| {
            let leniency = Leniency { strips_parameters, strips_trailing };
            finds_other_database(&bytes, expected, leniency)
                || (decoded != bytes && finds_other_database(&decoded, expected, leniency))
        })
    })
}

/// Replaces overlong UTF-8 by the ASCII bytes it encodes.
fn decode_overlong(bytes: &[u8]) -> PathBytes {
    let mut out = PathBytes::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let (byte, length) = overlong_byte(rest).unwrap_or((*first, 1));
        out.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// An ASCII byte encoded in two to four bytes of UTF-8, which is invalid, and their number.
fn overlong_byte(text: &[u8]) -> Option<(u8, usize)> {
    let tail = |b: &u8| (0x80..0xc0).contains(b).then_some(*b & 0x3f);
    let (high, low, length) = match text {
        [first @ (0xc0 | 0xc1), low, ..] => (*first & 1, tail(low)?, 2),
        [0xe0, high @ (0x80 | 0x81), low, ..] => (*high & 1, tail(low)?, 3),
        [0xf0, 0x80, high @ (0x80 | 0x81), low, ..] => (*high & 1, tail(low)?, 4),
        _ => return None,
    };
    Some((high << 6 | low, length))
}

/// Walks a decoded path as a lenient server would, and compares the database found.
fn finds_other_database(path: &[u8], expected: Option<&[u8]>, leniency: Leniency) -> bool {
    let (mut path_so_far, mut found) = (PathBytes::new(), false);
    for segment in path.split(|b| matches!(b, b'/' | b'\\')) {
        let name = segment_name(segment, leniency);
        if matches!(name, b"." | b"..") || segment.iter().any(u8::is_ascii_control) {
            return true;
        }
        let name = if leniency.strips_trailing { trim_trailing_dots_and_spaces(name) } else { name };
        if found || name.is_empty() {
            continue;
        }
        let is_first = path_so_far.is_empty();
        path_so_far.push(b'/');
        path_so_far.extend_from_slice(name);
        found = is_database_name(name) || is_first && bare_replica_id(name).is_some();
    }
    let mut folded = FoldBuffer::default();
    found.then(|| fold_plain_path(&path_so_far, &mut folded)) != expected
}

/// A segment without path parameters (RFC 3986 section 3.3) and without what follows a database's name: a command, or a
/// stream (`leads.nsf::$DATA` is the file itself on NTFS).
fn segment_name(segment: &[u8], leniency: Leniency) -> &[u8] {
    let name = match segment.iter().position(|b| *b == b';') {
        Some(at) if leniency.strips_parameters => segment.get(..at).unwrap_or_default(),
        _ => segment,
    };
    let ends = name.iter().enumerate().filter(|(_, b)| matches!(b, b':' | b'?' | b'!')).map(|(at, _)| at);
    let database = ends.filter_map(|at| name.get(..at)).find(|name| {
        is_database_segment(name)
            || leniency.strips_trailing && is_database_segment(trim_trailing_dots_and_spaces(name))
    });
    database.unwrap_or(name)
}

fn is_database_segment(name: &[u8]) -> bool {
    is_database_name(name) || bare_replica_id(name).is_some()
}

fn trim_trailing_dots_and_spaces(mut name: &[u8]) -> &[u8] {
    while let [shorter @ .., b'.' | b' '] = name {
        name = shorter;
    }
    name
}

#[cfg(test)]
#[path = "lenient_tests.rs"]
mod tests;

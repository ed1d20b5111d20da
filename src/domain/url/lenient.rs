//! The database that a careless server would open, where that may be another one than we route by.
//!
//! In: a path and the database part found in it. Out: whether a server could find another. A request is
//! routed by one reading of its path and forwarded as it came, so both sides must read it alike: a server
//! that decodes twice, cuts path parameters off, takes overlong UTF-8 or, on Windows, drops dots and blanks
//! at the end of a name would open what the directory knows elsewhere, or not at all.
//! Ordinary paths are settled by one look at their octets.

use smallvec::SmallVec;
use std::ops::Range;

use super::database_name::{bare_replica_id, is_database_name};
use crate::domain::directory::{FoldBuffer, fold_plain_path, fold_url_path};
use crate::util::percent::PercentDecoder;

/// Room for a path.
type PathBytes = SmallVec<[u8; 256]>;

/// How often a server might decode: nobody more often than we have patience for.
const MAX_DECODINGS: usize = 4;

/// True when a lenient server could open another database than `database` says, or climb out of the path.
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
    // Still encoded: nobody means well by that.
    any_server_differs(&text, expected.as_deref()) || PercentDecoder::new(&text).any(|byte| byte.encoded)
}

/// Whether there is anything in the path that servers may read in different ways.
fn needs_lenient_check(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in PercentDecoder::new(path) {
        let ends = byte.is_separator() || matches!(byte.value, b'?' | b'!');
        let ends_badly = ends && matches!(before, b'.' | b' ' | b'+');
        // `%25` may hide a second encoding; C0, C1, E0 and F0 begin overlong UTF-8.
        let hides = (byte.encoded && byte.value == b'%') || matches!(byte.value, 0xc0 | 0xc1 | 0xe0 | 0xf0);
        if ends_badly || hides || matches!(byte.value, b';' | b':') {
            return true;
        }
        before = byte.value;
    }
    matches!(before, b'.' | b' ' | b'+')
}

/// `+` at the end of a name may stand for a blank.
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

/// What a server leaves out or not.
#[derive(Clone, Copy)]
struct Leniency {
    /// Cuts path parameters off.
    strips_parameters: bool,
    /// Drops dots and blanks at the end of a name.
    strips_trailing: bool,
}

/// Whether a server of any habits could differ.
fn any_server_differs(text: &[u8], expected: Option<&[u8]>) -> bool {
    let bytes: PathBytes = PercentDecoder::new(text).values().collect();
    let short = decode_overlong(&bytes);
    [false, true].into_iter().any(|strips_parameters| {
        [false, true].into_iter().any(|strips_trailing| {
            let leniency = Leniency { strips_parameters, strips_trailing };
            finds_other_database(&bytes, expected, leniency)
                || (short != bytes && finds_other_database(&short, expected, leniency))
        })
    })
}

/// With overlong UTF-8 made short.
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

/// An ASCII octet spelled in two to four octets of UTF-8, which no valid text has.
fn overlong_byte(text: &[u8]) -> Option<(u8, usize)> {
    let tail = |o: &u8| (0x80..0xc0).contains(o).then_some(*o & 0x3f);
    let (high, low, length) = match text {
        [first @ (0xc0 | 0xc1), low, ..] => (*first & 1, tail(low)?, 2),
        [0xe0, high @ (0x80 | 0x81), low, ..] => (*high & 1, tail(low)?, 3),
        [0xf0, 0x80, high @ (0x80 | 0x81), low, ..] => (*high & 1, tail(low)?, 4),
        _ => return None,
    };
    Some((high << 6 | low, length))
}

/// Walks a decoded path as a lenient server would, and compares the database that it finds.
fn finds_other_database(path: &[u8], expected: Option<&[u8]>, leniency: Leniency) -> bool {
    let (mut path_so_far, mut found) = (PathBytes::new(), false);
    for segment in path.split(|o| matches!(o, b'/' | b'\\')) {
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

/// A segment without path parameters (RFC 3986 section 3.3) and without what stands behind a database as a
/// stream of it (`leads.nsf::$DATA` is the file itself on NTFS) or as its command.
fn segment_name(segment: &[u8], leniency: Leniency) -> &[u8] {
    let name = match segment.iter().position(|o| *o == b';') {
        Some(at) if leniency.strips_parameters => segment.get(..at).unwrap_or_default(),
        _ => segment,
    };
    let ends = name.iter().enumerate().filter(|(_, o)| matches!(o, b':' | b'?' | b'!')).map(|(at, _)| at);
    let database = ends.filter_map(|at| name.get(..at)).find(|name| {
        is_database_segment(name)
            || leniency.strips_trailing && is_database_segment(trim_trailing_dots_and_spaces(name))
    });
    database.unwrap_or(name)
}

fn is_database_segment(name: &[u8]) -> bool {
    is_database_name(name) || bare_replica_id(name).is_some()
}

/// Windows drops dots and blanks at the end of a name.
fn trim_trailing_dots_and_spaces(mut name: &[u8]) -> &[u8] {
    while let [shorter @ .., b'.' | b' '] = name {
        name = shorter;
    }
    name
}

#[cfg(test)]
#[path = "lenient_tests.rs"]
mod tests;

//! The database that a careless server would open, where that may be another one than we route by.
//!
//! In: a path and the database part found in it. Out: whether a server could find another. A request is
//! routed by one reading of its path and forwarded as it came, so both sides must read it alike: a server
//! that decodes twice, cuts path parameters off, takes overlong UTF-8 or, on Windows, drops dots and blanks
//! at the end of a name would open what the directory knows elsewhere, or not at all.
//! Ordinary paths are settled by one look at their octets.

use smallvec::SmallVec;
use std::ops::Range;

use super::target::{bare_replica_id, is_database_name};
use crate::domain::directory::{Folded, fold, fold_plain};
use crate::util::percent::Decoded;

/// Room for a path.
type Path = SmallVec<[u8; 256]>;

/// How often a server might decode: nobody more often than we have patience for.
const DECODINGS: usize = 4;

/// True when a lenient server could open another database than `database` says, or climb out of the path.
pub(super) fn reads_otherwise(path: &[u8], database: Option<&Range<usize>>) -> bool {
    if !is_odd(path) {
        return false;
    }
    let ours = database.and_then(|range| path.get(range.clone()));
    let mut folded = Folded::default();
    let ours: Option<Path> = ours.map(|raw| fold(raw, &mut folded).into());
    let mut text = with_blanks(path);
    for _ in 0..DECODINGS {
        if may_differ(&text, ours.as_deref()) {
            return true;
        }
        let decoded: Path = Decoded::new(&text).values().collect();
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    // Still encoded: nobody means well by that.
    may_differ(&text, ours.as_deref()) || Decoded::new(&text).any(|octet| octet.encoded)
}

/// Whether there is anything in the path that servers may read in different ways.
fn is_odd(path: &[u8]) -> bool {
    let mut before = 0;
    for octet in Decoded::new(path) {
        let ends = octet.is_separator() || matches!(octet.value, b'?' | b'!');
        let ends_badly = ends && matches!(before, b'.' | b' ' | b'+');
        // `%25` may hide a second encoding; C0, C1, E0 and F0 begin overlong UTF-8.
        let hides =
            (octet.encoded && octet.value == b'%') || matches!(octet.value, 0xc0 | 0xc1 | 0xe0 | 0xf0);
        if ends_badly || hides || matches!(octet.value, b';' | b':') {
            return true;
        }
        before = octet.value;
    }
    matches!(before, b'.' | b' ' | b'+')
}

/// `+` at the end of a name may stand for a blank.
fn with_blanks(path: &[u8]) -> Path {
    let mut out: Path = path.into();
    let mut at_end = true;
    for octet in out.iter_mut().rev() {
        match octet {
            b'/' | b'\\' => at_end = true,
            b'+' if at_end => *octet = b' ',
            _ => at_end = false,
        }
    }
    out
}

/// What a server leaves out or not.
#[derive(Clone, Copy)]
struct Habits {
    /// Cuts path parameters off.
    parameters: bool,
    /// Drops dots and blanks at the end of a name.
    tails: bool,
}

/// Whether a server of any habits could differ.
fn may_differ(text: &[u8], ours: Option<&[u8]>) -> bool {
    let octets: Path = Decoded::new(text).values().collect();
    let short = shortened(&octets);
    [false, true].into_iter().any(|parameters| {
        [false, true].into_iter().any(|tails| {
            let habits = Habits { parameters, tails };
            differs(&octets, ours, habits) || (short != octets && differs(&short, ours, habits))
        })
    })
}

/// With overlong UTF-8 made short.
fn shortened(octets: &[u8]) -> Path {
    let mut out = Path::new();
    let mut rest = octets;
    while let Some(first) = rest.first() {
        let (octet, length) = overlong(rest).unwrap_or((*first, 1));
        out.push(octet);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// An ASCII octet spelled in two to four octets of UTF-8, which no valid text has.
fn overlong(text: &[u8]) -> Option<(u8, usize)> {
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
fn differs(path: &[u8], ours: Option<&[u8]>, habits: Habits) -> bool {
    let (mut walked, mut found) = (Path::new(), false);
    for segment in path.split(|o| matches!(o, b'/' | b'\\')) {
        let name = name_of(segment, habits);
        if matches!(name, b"." | b"..") || segment.iter().any(u8::is_ascii_control) {
            return true;
        }
        let name = if habits.tails { without_tail(name) } else { name };
        if found || name.is_empty() {
            continue;
        }
        let is_first = walked.is_empty();
        walked.push(b'/');
        walked.extend_from_slice(name);
        found = is_database_name(name) || is_first && bare_replica_id(name).is_some();
    }
    let mut folded = Folded::default();
    found.then(|| fold_plain(&walked, &mut folded)) != ours
}

/// A segment without path parameters (RFC 3986 section 3.3) and without what stands behind a database as a
/// stream of it (`leads.nsf::$DATA` is the file itself on NTFS) or as its command.
fn name_of(segment: &[u8], habits: Habits) -> &[u8] {
    let name = match segment.iter().position(|o| *o == b';') {
        Some(at) if habits.parameters => segment.get(..at).unwrap_or_default(),
        _ => segment,
    };
    let ends = name.iter().enumerate().filter(|(_, o)| matches!(o, b':' | b'?' | b'!')).map(|(at, _)| at);
    let database = ends
        .filter_map(|at| name.get(..at))
        .find(|name| names_database(name) || habits.tails && names_database(without_tail(name)));
    database.unwrap_or(name)
}

fn names_database(name: &[u8]) -> bool {
    is_database_name(name) || bare_replica_id(name).is_some()
}

/// Windows drops dots and blanks at the end of a name.
fn without_tail(mut name: &[u8]) -> &[u8] {
    while let [shorter @ .., b'.' | b' '] = name {
        name = shorter;
    }
    name
}

#[cfg(test)]
#[path = "lenient_tests.rs"]
mod tests;

//! Scans paths of the usual kind, which every server reads alike: no escapes, no marks, no names that end in a dot. They
//! are nearly all paths, and take a fifth of the time that the careful scan of [`super::target`] takes.

use std::ops::Range;

use super::database_name::{bare_replica_id, is_database_name};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// Needs the careful scan.
    Other,
    /// Part of a name.
    Name,
    Slash,
}

#[allow(clippy::indexing_slicing)] // only at compile time
const BYTES: [Byte; 256] = {
    let mut bytes = [Byte::Other; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'$' | b'+' | b',' | b'=')
        {
            bytes[byte as usize] = Byte::Name;
        }
        byte += 1;
    }
    bytes[b'/' as usize] = Byte::Slash;
    bytes
};

/// Where the database is in the path, if the path is of the usual kind.
pub(super) fn scan(path: &[u8]) -> Option<Option<Range<usize>>> {
    let mut database = None;
    // Where the first name begins. The database part begins there as well.
    let mut first = None;
    let mut start = 0;
    for (at, byte) in path.iter().enumerate() {
        match BYTES.get(usize::from(*byte)) {
            Some(Byte::Name) => {}
            Some(Byte::Slash) => {
                end_segment(path, start..at, &mut first, &mut database)?;
                start = at + 1;
            }
            _ => return None,
        }
    }
    end_segment(path, start..path.len(), &mut first, &mut database)?;
    Some(database)
}

/// `None` if the segment is not of the usual kind.
fn end_segment(
    path: &[u8],
    range: Range<usize>,
    first: &mut Option<usize>,
    database: &mut Option<Range<usize>>,
) -> Option<()> {
    let segment = path.get(range.clone())?;
    let Some(last) = segment.last() else { return Some(()) };
    // Dot segments, and names that a server may read without their end.
    if matches!(last, b'.' | b'+') {
        return None;
    }
    let is_first = first.is_none();
    let begin = *first.get_or_insert(range.start);
    let is_replica_id = || is_first && matches!(segment.len(), 16..=19) && bare_replica_id(segment).is_some();
    if database.is_none() && (is_database_name(segment) || is_replica_id()) {
        *database = Some(begin..range.end);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_usual_path_ends_with_the_first_segment_that_has_the_ending() {
        for (path, database) in [
            ("/sales/leads.nsf/By+Region", Some("sales/leads.nsf")),
            ("/a.nsf/b.nsf", Some("a.nsf")),
            ("//a//B.NSF", Some("a//B.NSF")),
            ("/__C1257A000041D2E0/view", Some("__C1257A000041D2E0")),
            ("/a/C1257A000041D2E0/view", None),
            ("/icons/actn010.gif", None),
            ("", None),
            ("/", None),
        ] {
            let found = scan(path.as_bytes()).unwrap();
            assert_eq!(found.map(|range| &path.as_bytes()[range]), database.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn a_path_that_a_server_may_read_otherwise_is_not_of_the_usual_kind() {
        for path in [
            "/..", "/./a", "/a./b", "/a+", "/a%20b", "/a;b", "/a:b", "/a!b", "/a\\b", "/a b", "/\u{fc}",
            "/a\n",
        ] {
            assert_eq!(scan(path.as_bytes()), None, "{path}");
        }
    }
}

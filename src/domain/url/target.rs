//! Splits a request target into path, database, command and query, and finds what makes it dangerous.
//!
//! Every piece is a slice of the target: `path`, one byte `?` or `!`, and `query` make up the target again.

use super::argument;
use super::command::{Command, ServerCommand};
use super::database_name::{bare_replica_id, is_database_suffix};
use super::lenient;
use super::locator::{self, Locator};
use super::usual_path;
use crate::domain::directory::ReplicaId;
use crate::util::percent::{DecodedByte, PercentDecoder, decode_into, decodes_to};
use std::borrow::Cow;
use std::ops::Range;

/// What one request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The raw text before `?` or `!`.
    pub path: &'a [u8],
    /// The raw text after it.
    pub query: Option<&'a [u8]>,
    /// The database that the path names.
    pub database: Option<DatabasePart<'a>>,
    /// The first token of the query.
    pub command: Command<'a>,
    /// The object that the path names behind the database.
    pub locator: Locator,
    /// The object is an attachment of a document or resource: `$file` and a name.
    pub attachment: bool,
    /// Why a server may read the path differently; such a request must be refused.
    pub hazard: Option<Hazard>,
}

/// The database part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabasePart<'a> {
    /// As the client sent it, without leading slashes.
    pub raw: &'a [u8],
    /// The position of `raw` in the target: replacing these bytes replaces the database.
    pub range: Range<usize>,
    /// The replica ID, if the URL names the database by it.
    pub replica: Option<ReplicaId>,
}

/// Why this parser and a server may read a path differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hazard {
    /// A segment `.` or `..`, plain or percent-encoded, between slashes of either kind.
    DotSegment,
    /// A control byte (0 to 31 or 127), plain or percent-encoded.
    ControlByte,
    /// A lenient server would open another database: path parameters, double encoding, overlong UTF-8, or trailing dots
    /// and blanks, where they change which database the path names.
    AmbiguousDatabase,
}

impl<'a> Target<'a> {
    /// The decoded value of the first argument `name` in any case; empty for an argument without `=`, such as `&Login`.
    /// The command is not an argument.
    #[must_use]
    pub fn argument(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        argument::find_argument(self.arguments(), name)
    }

    /// Whether an argument `name` has a decoded value that passes `test`. An argument may occur several times.
    #[must_use]
    pub fn any_argument(&self, name: &[u8], test: impl FnMut(&[u8]) -> bool) -> bool {
        argument::any_argument(self.arguments(), name, test)
    }

    /// A form that Domino serves under the name of its directory, whether or not the database exists, or the URL to
    /// which an identity provider sends users back: `/names.nsf?Login`, `?SAMLLogin`, `?Logout`.
    #[must_use]
    pub fn is_login_form(&self) -> bool {
        let command = self.command.server_command();
        matches!(
            command,
            Some(
                ServerCommand::Login
                    | ServerCommand::ProviderLogin
                    | ServerCommand::Logout
                    | ServerCommand::ChangePassword
            )
        ) && self.is_names_nsf()
    }

    /// The URL names `names.nsf` in the data directory, and nothing in it.
    #[must_use]
    pub fn is_names_nsf(&self) -> bool {
        // Servers disagree whether the text after an encoded mark is a command or part of the name.
        let ends = |database: &DatabasePart<'_>| {
            self.path.get(database.range.end..).is_some_and(|rest| rest.iter().all(|b| *b == b'/'))
        };
        self.database.as_ref().is_some_and(|d| decodes_to(d.raw, b"names.nsf") && ends(d))
    }

    /// The query without its command.
    pub(super) fn arguments(&self) -> &'a [u8] {
        let query = self.query.unwrap_or_default();
        query.get(self.command.raw().len()..).unwrap_or_default()
    }
}

/// Parses an origin-form request target.
///
/// The path ends at the first `?`, or before it at a `!` that begins a command behind the database part or at the root.
/// If the target also has a `?`, a `!` begins only a command that Domino defines, because view names may contain `!`.
#[must_use]
pub fn parse(target: &[u8]) -> Target<'_> {
    let question = memchr::memchr(b'?', target);
    let before = target.get(..question.unwrap_or(target.len())).unwrap_or_default();
    let usual = usual_path::scan(before);
    let is_usual = usual.is_some();
    let scan = match usual {
        Some(database) => PathScan { database, bang: None, hazard: None },
        None => scan_path(before, question.is_some()),
    };
    let mark = scan.bang.or(question);
    let path = target.get(..mark.unwrap_or(target.len())).unwrap_or_default();
    let query = mark.and_then(|mark| target.get(mark + 1..));
    let command = Command::from_query(query);
    let rest = scan.database.as_ref().and_then(|range| path.get(range.end..)).unwrap_or_default();
    let (locator, attachment) = locator::locate(rest, &command);
    let hazard = scan.hazard.or_else(|| {
        let is_ambiguous = !is_usual && lenient::may_open_other_database(path, scan.database.as_ref());
        is_ambiguous.then_some(Hazard::AmbiguousDatabase)
    });
    let database = scan.database.and_then(|range| {
        let raw = target.get(range.clone())?;
        Some(DatabasePart { raw, range, replica: replica_id(raw) })
    });
    Target { path, query, database, command, locator, attachment, hazard }
}

/// What a single pass over the path finds.
struct PathScan {
    database: Option<Range<usize>>,
    bang: Option<usize>,
    hazard: Option<Hazard>,
}

/// The part of the current segment that was read.
#[derive(Default)]
struct Segment {
    /// The last four bytes, decoded and in lower case, the latest in the lowest byte.
    suffix: u32,
    dots: usize,
    length: usize,
}

impl Segment {
    fn push(&mut self, value: u8) {
        self.suffix = self.suffix << 8 | u32::from(value.to_ascii_lowercase());
        self.length += 1;
        self.dots += usize::from(value == b'.');
    }

    fn is_dots(&self) -> bool {
        matches!(self.length, 1 | 2) && self.dots == self.length
    }

    fn has_database_suffix(&self) -> bool {
        is_database_suffix(&self.suffix.to_be_bytes())
    }

    /// A replica ID without ending, which Domino accepts as well: `/__C1257A000041D2E0/view`. Only the `first` segment
    /// of a path can be one.
    fn is_replica_id(&self, first: Option<&[u8]>) -> bool {
        matches!(self.length, 16..=19) && first.is_some_and(|raw| bare_replica_id(raw).is_some())
    }
}

fn scan_path(path: &[u8], has_question: bool) -> PathScan {
    let mut scan = PathScan { database: None, bang: None, hazard: None };
    let first_raw = |start: Option<usize>, is_first: bool, end: usize| {
        start.filter(|_| is_first).and_then(|from| path.get(from..end))
    };
    let mut segment = Segment::default();
    // The first byte that is not a separator.
    let mut start = None;
    let mut is_first = true;
    for byte in PercentDecoder::new(path) {
        let DecodedByte { value, at, encoded } = byte;
        if value < 0x20 || value == 0x7f {
            scan.hazard = Some(Hazard::ControlByte);
        }
        if byte.is_separator() {
            scan.end_segment(&segment, first_raw(start, is_first, at), start, at);
            is_first &= segment.length == 0;
            segment = Segment::default();
            continue;
        }
        if matches!(value, b'!' | b'?') {
            let first = first_raw(start, is_first, at);
            let is_database = segment.has_database_suffix() || segment.is_replica_id(first);
            let may_follow = start.is_none() || scan.database.is_some() || is_database;
            if !encoded && may_follow && begins_command(path.get(at + 1..).unwrap_or_default(), has_question)
            {
                scan.end_segment(&segment, first, start, at);
                scan.bang = Some(at);
                return scan;
            }
            // A mark right after the ending that begins no command, such as an encoded one: some servers read a command,
            // any other finds no such file. So the database is the better guess.
            if is_database {
                scan.set_database(start, at);
            }
        }
        start = start.or(Some(at));
        segment.push(value);
    }
    scan.end_segment(&segment, first_raw(start, is_first, path.len()), start, path.len());
    scan
}

impl PathScan {
    /// `first` is the raw segment if it is the first of the path.
    fn end_segment(&mut self, segment: &Segment, first: Option<&[u8]>, start: Option<usize>, end: usize) {
        if segment.is_dots() {
            self.hazard = self.hazard.or(Some(Hazard::DotSegment));
        }
        if segment.has_database_suffix() || segment.is_replica_id(first) {
            self.set_database(start, end);
        }
    }

    fn set_database(&mut self, start: Option<usize>, end: usize) {
        if self.database.is_none() {
            self.database = start.map(|start| start..end);
        }
    }
}

/// True if the text after a `!` is a command: it begins with a letter and has no slash before the arguments.
fn begins_command(text: &[u8], has_question: bool) -> bool {
    let token = argument::first_token(text);
    PercentDecoder::new(token).next().is_some_and(|first| first.value.is_ascii_alphabetic())
        && !token.iter().any(|b| matches!(b, b'/' | b'\\'))
        && (!has_question || Command::from_token(token).is_known())
}

/// The replica ID of a database part that is `__<16 hex>.nsf` or `<16 hex>.nsf`, with or without the ending.
fn replica_id(raw: &[u8]) -> Option<ReplicaId> {
    // Two underscores, sixteen digits and a colon, and the ending.
    let mut buffer = [0; 23];
    let text = decode_into(raw, &mut buffer)?;
    let (stem, suffix) = text.split_at_checked(text.len().checked_sub(4)?)?;
    if suffix.eq_ignore_ascii_case(b".nsf") {
        ReplicaId::from_bytes(stem)
    } else {
        ReplicaId::from_bytes(text)
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;

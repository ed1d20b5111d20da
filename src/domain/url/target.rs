//! A request target taken apart.
//!
//! In: the origin-form target as octets. Out: where its path ends, which part of it names the
//! database, the command, the kind of object, and what makes it dangerous. Every piece is a slice
//! of the target: `path`, one octet `?` or `!`, and `query` are the target again. Never allocates for
//! a path that every server reads alike, and never decides whether such a database exists.

use super::argument;
use super::command::{Command, ServerCommand};
use super::database_name::{bare_replica_id, is_database_suffix};
use super::lenient;
use super::locator::{self, Locator};
use crate::domain::directory::ReplicaId;
use crate::util::percent::{DecodedByte, PercentDecoder, decode_into, decodes_to};
use std::borrow::Cow;
use std::ops::Range;

/// What one request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// What stands before `?` or `!`, raw.
    pub path: &'a [u8],
    /// What stands behind it, raw.
    pub query: Option<&'a [u8]>,
    /// The database part of the path.
    pub database: Option<DatabasePart<'a>>,
    /// The first token of the query.
    pub command: Command<'a>,
    /// What stands behind the database.
    pub locator: Locator,
    /// An attachment of a document or resource: `$file` and a name behind it.
    pub attachment: bool,
    /// Why the path may mean one thing here and another to a server; such a request must be refused.
    pub hazard: Option<Hazard>,
}

/// The database part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabasePart<'a> {
    /// As the client spelled it, without leading slashes.
    pub raw: &'a [u8],
    /// Where `raw` stands in the target: replacing just these octets replaces the database.
    pub range: Range<usize>,
    /// The replica ID, where the URL names the database by it.
    pub replica: Option<ReplicaId>,
}

/// What makes a path ambiguous between this parser and a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hazard {
    /// A segment `.` or `..`, plain or percent-encoded, between slashes of either kind.
    DotSegment,
    /// A control octet (0 to 31 or 127), plain or percent-encoded, NUL above all.
    ControlByte,
    /// A careless server would open another database than the one that the request is routed by: path
    /// parameters, encoding within encoding, overlong UTF-8, or dots and blanks at the end of a name, where
    /// they change which database the path names.
    AmbiguousDatabase,
}

impl<'a> Target<'a> {
    /// The decoded value of the first argument called `name` (ASCII case does not count), empty for
    /// one without `=` such as `&Login`. The command is not an argument.
    #[must_use]
    pub fn argument(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        argument::find_argument(self.arguments(), name)
    }

    /// The forms that Domino shows and takes under the name of its directory whether or not there is one, and the URLs
    /// to which identity providers send users back: `/names.nsf?Login`, `?SAMLLogin`, `?Logout` and their kind.
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
        // Behind an encoded mark stands what one server takes for a command and another for a name.
        let ends = |database: &DatabasePart<'_>| {
            self.path.get(database.range.end..).is_some_and(|rest| rest.iter().all(|b| *b == b'/'))
        };
        self.database.as_ref().is_some_and(|d| decodes_to(d.raw, b"names.nsf") && ends(d))
    }

    /// The query without the command.
    pub(super) fn arguments(&self) -> &'a [u8] {
        let query = self.query.unwrap_or_default();
        query.get(self.command.raw().len()..).unwrap_or_default()
    }
}

/// Takes an origin-form request target apart.
///
/// The path ends at the first `?`, or before it at a `!` behind the database part or at the root
/// that begins a command. Where the target has a `?` as well, a `!` begins a command only if it is
/// one of Domino's own, since names of views may contain `!`.
#[must_use]
pub fn parse(target: &[u8]) -> Target<'_> {
    let question = memchr::memchr(b'?', target);
    let scan =
        scan_path(target.get(..question.unwrap_or(target.len())).unwrap_or_default(), question.is_some());
    let mark = scan.bang.or(question);
    let path = target.get(..mark.unwrap_or(target.len())).unwrap_or_default();
    let query = mark.and_then(|mark| target.get(mark + 1..));
    let command = Command::from_query(query);
    let rest = scan.database.as_ref().and_then(|range| path.get(range.end..)).unwrap_or_default();
    let (locator, attachment) = locator::locate(rest, &command);
    let hazard = scan.hazard.or_else(|| {
        lenient::may_open_other_database(path, scan.database.as_ref()).then_some(Hazard::AmbiguousDatabase)
    });
    let database = scan.database.and_then(|range| {
        let raw = target.get(range.clone())?;
        Some(DatabasePart { raw, range, replica: replica_id(raw) })
    });
    Target { path, query, database, command, locator, attachment, hazard }
}

/// What one walk along the path finds.
struct PathScan {
    database: Option<Range<usize>>,
    bang: Option<usize>,
    hazard: Option<Hazard>,
}

/// The segment being walked, as far as it was seen.
#[derive(Default)]
struct Segment {
    /// The last four octets, decoded and in lower case, the latest in the lowest place.
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

    /// The endings that close the database part.
    fn has_database_suffix(&self) -> bool {
        is_database_suffix(&self.suffix.to_be_bytes())
    }

    /// A replica ID alone, which Domino takes for the database as well: `/__C1257A000041D2E0/view`. Only a path's
    /// `first` segment can be one.
    fn is_replica_id(&self, first: Option<&[u8]>) -> bool {
        matches!(self.length, 16..=19) && first.is_some_and(|raw| bare_replica_id(raw).is_some())
    }
}

fn scan_path(path: &[u8], has_question: bool) -> PathScan {
    let mut found = PathScan { database: None, bang: None, hazard: None };
    let mut segment = Segment::default();
    // The first octet that is not a separator.
    let mut start = None;
    let mut is_first = true;
    for byte in PercentDecoder::new(path) {
        let DecodedByte { value, at, encoded } = byte;
        if value < 0x20 || value == 0x7f {
            found.hazard = Some(Hazard::ControlByte);
        }
        if byte.is_separator() {
            found.end_segment(
                &segment,
                start.filter(|_| is_first).and_then(|from| path.get(from..at)),
                start,
                at,
            );
            is_first &= segment.length == 0;
            segment = Segment::default();
            continue;
        }
        if matches!(value, b'!' | b'?') {
            let raw = start.filter(|_| is_first).and_then(|from| path.get(from..at));
            let is_database = segment.has_database_suffix() || segment.is_replica_id(raw);
            let may_follow = start.is_none() || found.database.is_some() || is_database;
            if !encoded && may_follow && begins_command(path.get(at + 1..).unwrap_or_default(), has_question)
            {
                found.end_segment(&segment, raw, start, at);
                found.bang = Some(at);
                return found;
            }
            // An encoded mark right behind the ending: a server that decodes first sees a command
            // there, one that does not will not find the file. So the database is the better guess.
            if encoded && is_database {
                found.set_database(start, at);
            }
        }
        start = start.or(Some(at));
        segment.push(value);
    }
    let raw = start.filter(|_| is_first).and_then(|from| path.get(from..));
    found.end_segment(&segment, raw, start, path.len());
    found
}

impl PathScan {
    /// `first` is the segment as it was spelled, where it is the path's first one.
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

/// Whether the text behind a `!` is a command: a letter first, and no slash before the arguments.
fn begins_command(text: &[u8], has_question: bool) -> bool {
    let token = argument::first_token(text);
    token.first().is_some_and(u8::is_ascii_alphabetic)
        && !token.iter().any(|o| matches!(o, b'/' | b'\\'))
        && (!has_question || Command::from_token(token).is_known())
}

/// The replica ID of `__<16 hex>.nsf` or `<16 hex>.nsf`, with or without the ending, which must be the whole database part.
fn replica_id(raw: &[u8]) -> Option<ReplicaId> {
    // Two underscores, seventeen digits with the colon, and the ending.
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

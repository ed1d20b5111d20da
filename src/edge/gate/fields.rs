//! A section of field lines: those of a head, or a trailer section.
//!
//! In: the octets of the section, line by line, also while more of them come. Out: each field's name and value,
//! valid by grammar and within the limits, and where the section ends. It never scans a line twice, and knows
//! no field by name.

use super::HeadLimits;
use super::grammar::{LineEnd, find_line_end, is_field_value, token_length, trim_ows};
use super::refusal::{self, Refusal};

/// How far a section has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSection {
    /// Where its first line begins.
    start: usize,
    /// Where the line begins that has not been read yet.
    line: usize,
    /// To where that line has been searched for its end.
    searched: usize,
    count: usize,
}

/// What comes next in a section.
pub(super) enum FieldEvent<'a> {
    /// A field; blanks around the value are gone.
    Field { name: &'a [u8], value: &'a [u8] },
    /// The empty line was read; what follows begins at this place.
    End(usize),
    /// The line is not complete.
    Incomplete,
}

impl FieldSection {
    pub fn starting_at(start: usize) -> Self {
        Self { start, line: start, searched: start, count: 0 }
    }

    /// The next line of `octets`, which are always the same with more behind them.
    pub fn next<'a>(&mut self, bytes: &'a [u8], limits: &HeadLimits) -> Result<FieldEvent<'a>, Refusal> {
        // What is refused depends on the first octets that are too many or wrong, never on how many come at
        // once; so a line is measured before its end is judged, and its end before its text.
        let (end, whole) = match find_line_end(bytes, self.searched) {
            LineEnd::Incomplete(end) => {
                self.searched = end;
                let too_large = end.saturating_sub(self.start) > limits.header_bytes;
                return if too_large { Err(refusal::FIELDS_TOO_LARGE) } else { Ok(FieldEvent::Incomplete) };
            }
            LineEnd::CrLf(end) => (end, true),
            LineEnd::Bare(end) => (end, false),
        };
        let line = bytes.get(self.line..end).unwrap_or_default();
        if !line.is_empty() && end.saturating_add(2).saturating_sub(self.start) > limits.header_bytes {
            return Err(refusal::FIELDS_TOO_LARGE);
        }
        if !whole {
            return Err(refusal::LINE_END);
        }
        if line.is_empty() {
            return Ok(FieldEvent::End(end + 2));
        }
        self.count += 1;
        if self.count > limits.header_count {
            return Err(refusal::FIELDS_TOO_LARGE);
        }
        self.line = end + 2;
        self.searched = self.line;
        parse_field(line)
    }
}

/// `name ":" OWS value OWS` (RFC 9112 section 5), nothing before the name and nothing between name and colon.
fn parse_field(line: &[u8]) -> Result<FieldEvent<'_>, Refusal> {
    if let Some(b' ' | b'\t') = line.first() {
        return Err(refusal::FOLDED_FIELD);
    }
    let Some((name, [b':', value @ ..])) = line.split_at_checked(token_length(line)) else {
        return Err(refusal::FIELD_NAME);
    };
    if name.is_empty() {
        return Err(refusal::FIELD_NAME);
    }
    if !is_field_value(value) {
        return Err(refusal::FIELD_VALUE);
    }
    Ok(FieldEvent::Field { name, value: trim_ows(value) })
}

//! A section of field lines: those of a head, or a trailer section.
//!
//! It checks grammar and limits for both, whatever the fields mean, and scans no line twice.

use super::HeadLimits;
use super::grammar::{LineEnd, find_line_end, is_field_value, token_length, trim_ows};
use super::refusal::{self, Refusal};

/// How far a section has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSection {
    start: usize,
    /// Where the next line begins.
    line: usize,
    /// How far that line was searched for its end.
    searched: usize,
    count: usize,
}

pub(super) enum FieldEvent<'a> {
    /// Without the whitespace around the value.
    Field {
        name: &'a [u8],
        value: &'a [u8],
        /// The position of the line.
        line: usize,
    },
    /// The empty line; the next byte is at this position.
    End(usize),
    Incomplete,
}

impl FieldSection {
    pub fn starting_at(start: usize) -> Self {
        Self { start, line: start, searched: start, count: 0 }
    }

    /// The position of the section.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Reads the next line. `bytes` may only grow between calls.
    pub fn next<'a>(&mut self, bytes: &'a [u8], limits: &HeadLimits) -> Result<FieldEvent<'a>, Refusal> {
        // The refusal must not depend on the pieces in which bytes come. So a line's length is checked first, then its end,
        // then its text.
        let (end, is_crlf) = match find_line_end(bytes, self.searched) {
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
        if !is_crlf {
            return Err(refusal::LINE_END);
        }
        if line.is_empty() {
            return Ok(FieldEvent::End(end + 2));
        }
        self.count += 1;
        if self.count > limits.header_count {
            return Err(refusal::FIELDS_TOO_LARGE);
        }
        let at = std::mem::replace(&mut self.line, end + 2);
        self.searched = self.line;
        parse_field(line, at)
    }
}

/// `name ":" OWS value OWS` (RFC 9112 section 5), without whitespace before the name or the colon.
fn parse_field(line: &[u8], at: usize) -> Result<FieldEvent<'_>, Refusal> {
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
    Ok(FieldEvent::Field { name, value: trim_ows(value), line: at })
}

//! The head of a request, and how long the body behind it is.
//!
//! In: the octets from the head's first one on, again and again with more behind them until it is complete. Out:
//! its length and the framing of the body. Lines are judged in order, each once, so that what comes in pieces is
//! judged like what comes at once.

use super::HeadLimits;
use super::fields::{FieldEvent, FieldSection};
use super::grammar::{LineEnd, find_line_end, is_token_byte, trim_ows};
use super::refusal::{self, Refusal};
use super::request_line::{self, RequestLine};
use crate::util::host;

/// How the end of a body is found (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// So many octets; without any statement none.
    Length(u64),
    Chunked,
}

/// What can be said of a head so far.
pub(super) enum HeadProgress {
    /// Complete: so many octets, which pass as they are or must be written anew.
    Complete {
        length: usize,
        framing: BodyFraming,
        rewrite: bool,
    },
    /// The empty line before the request line, of so many octets.
    EmptyLine(usize),
    Incomplete,
}

/// How far a head has been read, and what is known from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestHead {
    /// Octets at the last look; fewer next time would be another head.
    pub seen: usize,
    /// An empty line was dropped before it.
    skipped_empty_line: bool,
    /// To where the request line has been searched for its end.
    searched: usize,
    fields: Option<(RequestLine, FieldSection)>,
    has_host: bool,
    /// Host is the target's host in another spelling, which not every parser takes for the same.
    host_differs_in_case: bool,
    length: Option<u64>,
    chunked: bool,
}

impl RequestHead {
    pub fn inspect(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<HeadProgress, Refusal> {
        if bytes.len() < self.seen {
            *self = Self { skipped_empty_line: self.skipped_empty_line, ..Self::default() };
        }
        self.seen = bytes.len();
        let (request, mut fields) = match self.fields {
            Some(known) => known,
            None => match self.request_line(bytes, limits)? {
                RequestLineProgress::Line(request, fields) => (request, fields),
                RequestLineProgress::EmptyLine => {
                    *self = Self { skipped_empty_line: true, ..Self::default() };
                    return Ok(HeadProgress::EmptyLine(2));
                }
                RequestLineProgress::Incomplete => return Ok(HeadProgress::Incomplete),
            },
        };
        loop {
            match fields.next(bytes, limits)? {
                FieldEvent::Field { name, value } => self.check_field(&request, bytes, name, value)?,
                FieldEvent::End(length) => {
                    let framing = self.framing(&request)?;
                    let rewrite = request.unencoded | self.host_differs_in_case;
                    return Ok(HeadProgress::Complete { length, framing, rewrite });
                }
                FieldEvent::Incomplete => {
                    self.fields = Some((request, fields));
                    return Ok(HeadProgress::Incomplete);
                }
            }
        }
    }

    fn request_line(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<RequestLineProgress, Refusal> {
        match bytes {
            [b'\r', b'\n', ..] if !self.skipped_empty_line => return Ok(RequestLineProgress::EmptyLine),
            [b'\r', b'\n', ..] => return Err(refusal::EMPTY_LINES),
            [b'\r'] => return Ok(RequestLineProgress::Incomplete),
            // What begins like this is TLS, or no protocol at all; no need to wait for the end of its line.
            [first, ..] if !is_token_byte(*first) => return Err(refusal::NO_REQUEST),
            _ => {}
        }
        let (end, whole) = match find_line_end(bytes, self.searched) {
            LineEnd::Incomplete(end) => {
                self.searched = end;
                request_line::check_length(bytes.get(..end).unwrap_or_default(), limits)?;
                return Ok(RequestLineProgress::Incomplete);
            }
            LineEnd::CrLf(end) => (end, true),
            LineEnd::Bare(end) => (end, false),
        };
        let line = bytes.get(..end).unwrap_or_default();
        request_line::check_length(line, limits)?;
        if !whole {
            return Err(refusal::LINE_END);
        }
        Ok(RequestLineProgress::Line(request_line::parse(line, limits)?, FieldSection::starting_at(end + 2)))
    }

    /// Takes notice of a field that says where the request goes or how long it is.
    fn check_field(
        &mut self,
        request: &RequestLine,
        bytes: &[u8],
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"Host") => {
                if self.has_host {
                    return Err(refusal::DUPLICATE_HOST);
                }
                // A target that is a URL says it again. Parsers differ in whom they believe.
                let named = request.authority.map(|(start, end)| bytes.get(start..end).unwrap_or_default());
                let same = named.is_none_or(|named| named.eq_ignore_ascii_case(value));
                match value {
                    [] => return Err(refusal::HOST_MISSING),
                    name if !host::is_authority(name) => return Err(refusal::HOST),
                    _ if !same => return Err(refusal::HOST_MISMATCH),
                    _ => {
                        self.has_host = true;
                        self.host_differs_in_case = named.is_some_and(|named| named != value);
                    }
                }
            }
            14 if name.eq_ignore_ascii_case(b"Content-Length") => {
                if self.chunked {
                    return Err(refusal::LENGTH_AND_CODING);
                }
                if self.length.is_some() {
                    return Err(refusal::DUPLICATE_LENGTH);
                }
                self.length = Some(parse_content_length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"Transfer-Encoding") => {
                if self.length.is_some() {
                    return Err(refusal::LENGTH_AND_CODING);
                }
                if request.is_1_0 {
                    return Err(refusal::CODING_IN_1_0);
                }
                if self.chunked {
                    return Err(refusal::CODING);
                }
                check_transfer_encoding(value)?;
                self.chunked = true;
            }
            10 if name.eq_ignore_ascii_case(b"Connection") => check_connection(value)?,
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, request: &RequestLine) -> Result<BodyFraming, Refusal> {
        if !self.has_host && !request.is_1_0 {
            return Err(refusal::HOST_MISSING);
        }
        Ok(if self.chunked { BodyFraming::Chunked } else { BodyFraming::Length(self.length.unwrap_or(0)) })
    }
}

enum RequestLineProgress {
    Line(RequestLine, FieldSection),
    EmptyLine,
    Incomplete,
}

/// Digits without a sign, a leading zero or a comma, up to 2^63 - 1: beyond it, parsers of signed numbers
/// disagree with others.
fn parse_content_length(value: &[u8]) -> Result<u64, Refusal> {
    let number = match value {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => value.iter().try_fold(0u64, |sum, o| {
            let digit = o.is_ascii_digit().then(|| u64::from(o - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        }),
        _ => None,
    };
    number.filter(|n| i64::try_from(*n).is_ok()).ok_or(refusal::LENGTH)
}

/// `chunked` and nothing else. A list that would be legal with codings we do not undo is 501
/// (RFC 9112 section 6.1), everything else is wrong.
fn check_transfer_encoding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    const KNOWN_CODINGS: [&[u8]; 6] =
        [b"gzip", b"x-gzip", b"compress", b"x-compress", b"deflate", b"identity"];
    let mut list = value.split(|o| *o == b',').map(trim_ows);
    let ends_chunked = list.next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let legal =
        ends_chunked && list.all(|coding| KNOWN_CODINGS.iter().any(|o| coding.eq_ignore_ascii_case(o)));
    Err(if legal { refusal::CODING_UNKNOWN } else { refusal::CODING })
}

/// Who removes the fields that Connection names must not be made to remove those that frame the request or
/// say where it goes (RFC 9110 section 7.6.1).
fn check_connection(value: &[u8]) -> Result<(), Refusal> {
    const PROTECTED_FIELDS: [&[u8]; 3] = [b"Host", b"Content-Length", b"Transfer-Encoding"];
    let is_protected = |option: &[u8]| PROTECTED_FIELDS.iter().any(|kept| option.eq_ignore_ascii_case(kept));
    if value.split(|o| *o == b',').map(trim_ows).any(is_protected) {
        Err(refusal::CONNECTION)
    } else {
        Ok(())
    }
}

//! The head of a request, and how long the body behind it is.
//!
//! In: the octets from the head's first one on, again and again with more behind them until it is complete. Out:
//! its length and the framing of the body. Lines are judged in order, each once, so that what comes in pieces is
//! judged like what comes at once.

use super::Limits;
use super::fields::{Fields, Next};
use super::octets::{LineEnd, is_token_octet, line_end, trim};
use super::refusal::{self, Refusal};
use super::request_line::{self, RequestLine};
use crate::util::host;

/// How the end of a body is found (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many octets; without any statement none.
    Length(u64),
    Chunked,
}

/// What can be said of a head so far.
pub(super) enum Found {
    /// Complete: so many octets, which pass as they are or must be written anew.
    Whole {
        length: usize,
        framing: Framing,
        rewrite: bool,
    },
    /// The empty line before the request line, of so many octets.
    EmptyLine(usize),
    Open,
}

/// How far a head has been read, and what is known from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// Octets at the last look; fewer next time would be another head.
    pub seen: usize,
    /// An empty line was dropped before it.
    skipped: bool,
    /// To where the request line has been searched for its end.
    searched: usize,
    fields: Option<(RequestLine, Fields)>,
    has_host: bool,
    /// Host is the target's host in another spelling, which not every parser takes for the same.
    host_differs_in_case: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Head {
    pub fn look(&mut self, octets: &[u8], limits: &Limits) -> Result<Found, Refusal> {
        if octets.len() < self.seen {
            *self = Self { skipped: self.skipped, ..Self::default() };
        }
        self.seen = octets.len();
        let (request, mut fields) = match self.fields {
            Some(known) => known,
            None => match self.request_line(octets, limits)? {
                Started::Line(request, fields) => (request, fields),
                Started::EmptyLine => {
                    *self = Self { skipped: true, ..Self::default() };
                    return Ok(Found::EmptyLine(2));
                }
                Started::Open => return Ok(Found::Open),
            },
        };
        loop {
            match fields.next(octets, limits)? {
                Next::Field { name, value } => self.field(&request, octets, name, value)?,
                Next::End(length) => {
                    let framing = self.framing(&request)?;
                    let rewrite = request.unencoded | self.host_differs_in_case;
                    return Ok(Found::Whole { length, framing, rewrite });
                }
                Next::Open => {
                    self.fields = Some((request, fields));
                    return Ok(Found::Open);
                }
            }
        }
    }

    fn request_line(&mut self, octets: &[u8], limits: &Limits) -> Result<Started, Refusal> {
        match octets {
            [b'\r', b'\n', ..] if !self.skipped => return Ok(Started::EmptyLine),
            [b'\r', b'\n', ..] => return Err(refusal::EMPTY_LINES),
            [b'\r'] => return Ok(Started::Open),
            // What begins like this is TLS, or no protocol at all; no need to wait for the end of its line.
            [first, ..] if !is_token_octet(*first) => return Err(refusal::NO_REQUEST),
            _ => {}
        }
        let (end, whole) = match line_end(octets, self.searched) {
            LineEnd::Open(end) => {
                self.searched = end;
                request_line::check_length(octets.get(..end).unwrap_or_default(), limits)?;
                return Ok(Started::Open);
            }
            LineEnd::Whole(end) => (end, true),
            LineEnd::Broken(end) => (end, false),
        };
        let line = octets.get(..end).unwrap_or_default();
        request_line::check_length(line, limits)?;
        if !whole {
            return Err(refusal::LINE_END);
        }
        Ok(Started::Line(request_line::parse(line, limits)?, Fields::from(end + 2)))
    }

    /// Takes notice of a field that says where the request goes or how long it is.
    fn field(
        &mut self,
        request: &RequestLine,
        octets: &[u8],
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"Host") => {
                if self.has_host {
                    return Err(refusal::HOST_TWICE);
                }
                // A target that is a URL says it again. Parsers differ in whom they believe.
                let named = request.authority.map(|(start, end)| octets.get(start..end).unwrap_or_default());
                let same = named.is_none_or(|named| named.eq_ignore_ascii_case(value));
                match value {
                    [] => return Err(refusal::HOST_MISSING),
                    name if !host::is_authority(name) => return Err(refusal::HOST),
                    _ if !same => return Err(refusal::HOST_AND_TARGET),
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
                    return Err(refusal::LENGTH_TWICE);
                }
                self.length = Some(length(value)?);
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
                coding(value)?;
                self.chunked = true;
            }
            10 if name.eq_ignore_ascii_case(b"Connection") => connection(value)?,
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, request: &RequestLine) -> Result<Framing, Refusal> {
        if !self.has_host && !request.is_1_0 {
            return Err(refusal::HOST_MISSING);
        }
        Ok(if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) })
    }
}

enum Started {
    Line(RequestLine, Fields),
    EmptyLine,
    Open,
}

/// Digits without a sign, a leading zero or a comma, up to 2^63 - 1: beyond it, parsers of signed numbers
/// disagree with others.
fn length(value: &[u8]) -> Result<u64, Refusal> {
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
fn coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    const OTHERS: [&[u8]; 6] = [b"gzip", b"x-gzip", b"compress", b"x-compress", b"deflate", b"identity"];
    let mut list = value.split(|o| *o == b',').map(trim);
    let ends_chunked = list.next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let legal = ends_chunked && list.all(|coding| OTHERS.iter().any(|o| coding.eq_ignore_ascii_case(o)));
    Err(if legal { refusal::CODING_UNKNOWN } else { refusal::CODING })
}

/// Who removes the fields that Connection names must not be made to remove those that frame the request or
/// say where it goes (RFC 9110 section 7.6.1).
fn connection(value: &[u8]) -> Result<(), Refusal> {
    const KEPT: [&[u8]; 3] = [b"Host", b"Content-Length", b"Transfer-Encoding"];
    let is_kept = |option: &[u8]| KEPT.iter().any(|kept| option.eq_ignore_ascii_case(kept));
    if value.split(|o| *o == b',').map(trim).any(is_kept) { Err(refusal::CONNECTION) } else { Ok(()) }
}

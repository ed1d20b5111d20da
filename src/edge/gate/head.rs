//! The head of a request, and the framing of the body after it.
//!
//! Each line is checked once and in order, so that the result does not depend on the pieces in which bytes come.

use super::HeadLimits;
use super::fields::{FieldEvent, FieldSection};
use super::grammar::{LineEnd, find_line_end, is_token_byte, trim_ows};
use super::record::Recorder;
use super::refusal::{self, Refusal};
use super::request_line::{self, RequestLine};
use crate::util::host;

/// How the end of a body is found (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// 0 if the head has no framing field.
    Length(u64),
    Chunked,
}

pub(super) enum HeadProgress {
    Complete {
        length: usize,
        framing: BodyFraming,
        rewrite: bool,
    },
    /// An empty line of this length before the request line.
    EmptyLine(usize),
    Incomplete,
}

/// How far a head was read, and what its fields contain so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestHead {
    /// Bytes at the last call; if there are fewer at the next, it is another head.
    pub seen: usize,
    skipped_empty_line: bool,
    /// How far the request line was searched for its end.
    searched: usize,
    fields: Option<(RequestLine, FieldSection)>,
    has_host: bool,
    /// Host and the target's host differ only in case, which some parsers take for different hosts.
    host_differs_in_case: bool,
    length: Option<u64>,
    chunked: bool,
}

impl RequestHead {
    pub fn inspect(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
        recorder: &mut Recorder,
    ) -> Result<HeadProgress, Refusal> {
        if bytes.len() < self.seen {
            *self = Self { skipped_empty_line: self.skipped_empty_line, ..Self::default() };
        }
        self.seen = bytes.len();
        let (request, mut fields) = match self.fields {
            Some(known) => known,
            None => match self.request_line(bytes, limits)? {
                RequestLineProgress::Line(request, fields) => {
                    recorder.begin(bytes.get(..fields.start()).unwrap_or_default());
                    (request, fields)
                }
                RequestLineProgress::EmptyLine => {
                    *self = Self { skipped_empty_line: true, ..Self::default() };
                    return Ok(HeadProgress::EmptyLine(2));
                }
                RequestLineProgress::Incomplete => return Ok(HeadProgress::Incomplete),
            },
        };
        loop {
            match fields.next(bytes, limits)? {
                FieldEvent::Field { name, value, line } => {
                    self.check_field(&request, bytes, name, value)?;
                    recorder.field(bytes, line, name, value);
                }
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
            // TLS, for example; its line may never end.
            [first, ..] if !is_token_byte(*first) => return Err(refusal::NO_REQUEST),
            _ => {}
        }
        let (end, is_crlf) = match find_line_end(bytes, self.searched) {
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
        if !is_crlf {
            return Err(refusal::LINE_END);
        }
        Ok(RequestLineProgress::Line(request_line::parse(line, limits)?, FieldSection::starting_at(end + 2)))
    }

    /// Checks the fields for routing and framing.
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
                if value.is_empty() {
                    return Err(refusal::HOST_MISSING);
                }
                if !host::is_authority(value) {
                    return Err(refusal::HOST);
                }
                // Parsers differ in which of the two they use.
                let target = request.authority.map(|(start, end)| bytes.get(start..end).unwrap_or_default());
                if target.is_some_and(|target| !target.eq_ignore_ascii_case(value)) {
                    return Err(refusal::HOST_MISMATCH);
                }
                self.has_host = true;
                self.host_differs_in_case = target.is_some_and(|target| target != value);
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

/// Digits without a sign, a leading zero or a comma, up to 2^63 - 1: signed and unsigned parsers disagree above that.
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

/// Allows only `chunked`. A valid list with codings that the proxy cannot decode is a 501 (RFC 9112 section 6.1), anything
/// else a 400.
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

/// A recipient removes the fields that `Connection` names (RFC 9110 section 7.6.1). These must not be fields for framing or
/// routing.
fn check_connection(value: &[u8]) -> Result<(), Refusal> {
    const PROTECTED_FIELDS: [&[u8]; 3] = [b"Host", b"Content-Length", b"Transfer-Encoding"];
    let is_protected = |option: &[u8]| PROTECTED_FIELDS.iter().any(|kept| option.eq_ignore_ascii_case(kept));
    if value.split(|o| *o == b',').map(trim_ows).any(is_protected) {
        Err(refusal::CONNECTION)
    } else {
        Ok(())
    }
}

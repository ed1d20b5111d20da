//! A chunked body with its trailer section (RFC 9112 section 7.1).
//!
//! Data passes as it comes. A size line passes when it is complete, and the last chunk together with its trailer section.

use super::fields::{FieldEvent, FieldSection};
use super::grammar::{LineEnd, find_line_end, token_length};
use super::refusal::{self, Refusal};
use super::{GateVerdict, HeadLimits};

/// With extensions, which no known client sends.
const MAX_SIZE_LINE_LEN: usize = 256;
/// The digits of a 64-bit integer; leading zeros count.
const MAX_SIZE_DIGITS: usize = 16;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum ChunkedBody {
    Size,
    /// Data, with this many bytes (1 or more) to come.
    Data(u64),
    /// The line end after the data.
    DataEnd,
    /// The last chunk's size line, until the trailer section after it is complete.
    Last(FieldSection),
    Done,
}

impl ChunkedBody {
    pub fn inspect(&mut self, bytes: &[u8], limits: &HeadLimits) -> GateVerdict {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            let step = if rest.is_empty() { Ok(None) } else { self.advance(rest, limits) };
            match step {
                Ok(Some(length)) => passed += length,
                // Valid bytes pass first; the rest is inspected again from its beginning.
                Ok(None) | Err(_) if passed > 0 => return GateVerdict::Pass(passed),
                Ok(None) => return GateVerdict::NeedMore,
                Err(refusal) => return GateVerdict::Refuse(refusal),
            }
            if let Self::Done = self {
                return GateVerdict::Pass(passed);
            }
        }
    }

    /// Reads one element at the beginning of `rest`, which is not empty. Returns its length, or `None` if it is incomplete.
    fn advance(&mut self, rest: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        match self {
            Self::Size => {
                let Some((size, length)) = parse_size_line(rest)? else { return Ok(None) };
                if size > 0 {
                    *self = Self::Data(size);
                    return Ok(Some(length));
                }
                let mut fields = FieldSection::starting_at(length);
                let end = read_trailers(&mut fields, rest, limits)?;
                *self = if end.is_some() { Self::Done } else { Self::Last(fields) };
                Ok(end)
            }
            Self::Data(left) => {
                let length = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                Ok(Some(length))
            }
            Self::DataEnd => match rest {
                [b'\r', b'\n', ..] => {
                    *self = Self::Size;
                    Ok(Some(2))
                }
                [b'\r'] => Ok(None),
                _ => Err(refusal::CHUNK_END),
            },
            Self::Last(fields) => {
                let end = read_trailers(fields, rest, limits)?;
                if end.is_some() {
                    *self = Self::Done;
                }
                Ok(end)
            }
            Self::Done => Ok(None),
        }
    }
}

/// The size, and the length of the line; `None` if the line is incomplete.
fn parse_size_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, Refusal> {
    let end = match find_line_end(bytes, 0) {
        LineEnd::Incomplete(end) | LineEnd::CrLf(end) | LineEnd::Bare(end) if end > MAX_SIZE_LINE_LEN => {
            return Err(refusal::CHUNK_LINE);
        }
        LineEnd::Incomplete(_) => return Ok(None),
        LineEnd::Bare(_) => return Err(refusal::LINE_END),
        LineEnd::CrLf(end) => end,
    };
    let line = bytes.get(..end).unwrap_or_default();
    let digits = line.iter().position(|o| !o.is_ascii_hexdigit()).unwrap_or(line.len());
    let (number, extensions) = line.split_at_checked(digits).unwrap_or_default();
    if !(1..=MAX_SIZE_DIGITS).contains(&number.len()) {
        return Err(refusal::CHUNK_SIZE);
    }
    let size = number.iter().fold(0u64, |sum, o| {
        let digit = char::from(*o).to_digit(16).unwrap_or_default();
        (sum << 4) | u64::from(digit)
    });
    if i64::try_from(size).is_err() {
        return Err(refusal::CHUNK_SIZE);
    }
    if !are_valid_extensions(extensions) {
        return Err(refusal::CHUNK_EXTENSION);
    }
    Ok(Some((size, end + 2)))
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the bad whitespace of RFC 9112 section 7.1.1.
fn are_valid_extensions(mut text: &[u8]) -> bool {
    while let [b';', rest @ ..] = text {
        let Some((name, rest)) = rest.split_at_checked(token_length(rest)) else { return false };
        if name.is_empty() {
            return false;
        }
        text = match rest {
            [b'=', b'"', quoted @ ..] => match skip_quoted_string(quoted) {
                Some(rest) => rest,
                None => return false,
            },
            [b'=', value @ ..] => match value.split_at_checked(token_length(value)) {
                Some((token, rest)) if !token.is_empty() => rest,
                _ => return false,
            },
            _ => rest,
        };
    }
    text.is_empty()
}

/// Returns what follows the closing quote; `None` without one, or with a control character before it.
fn skip_quoted_string(mut text: &[u8]) -> Option<&[u8]> {
    let is_allowed = |byte: u8| byte == b'\t' || (byte >= 0x20 && byte != 0x7F);
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is_allowed(*byte) => rest,
            _ => return None,
        };
    }
}

/// Reads on in the trailer section. Returns where it ends, or `None` if it is incomplete.
fn read_trailers(
    fields: &mut FieldSection,
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<usize>, Refusal> {
    loop {
        match fields.next(bytes, limits)? {
            FieldEvent::Field { name, .. } if is_forbidden_in_trailers(name) => return Err(refusal::TRAILER),
            FieldEvent::Field { .. } => {}
            FieldEvent::End(end) => return Ok(Some(end)),
            FieldEvent::Incomplete => return Ok(None),
        }
    }
}

/// Fields for the framing or routing of a message, or about its connection (RFC 9110 section 6.5.1).
fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"Content-Length",
        b"Transfer-Encoding",
        b"Host",
        b"Connection",
        b"Upgrade",
        b"TE",
        b"Trailer",
        b"Expect",
    ];
    NAMES.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

//! A body in chunks, with its trailer section (RFC 9112 section 7.1).
//!
//! In: the octets of the body, in pieces. Out: how many of them may pass. Data passes as it comes; a size line, and
//! the last chunk with the trailer section, only when complete. It collects nothing.

use super::fields::{Fields, Next};
use super::octets::{LineEnd, line_end, token_length};
use super::refusal::{self, Refusal};
use super::{Limits, Verdict};

/// The longest line with a size and extensions. Nobody is known to use extensions.
const LONGEST_SIZE_LINE: usize = 256;
/// As many digits as an integer of 64 bits has; leading zeros count.
const MOST_DIGITS: usize = 16;

/// Where in the body the next octet is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunked {
    /// At a size line.
    Size,
    /// Within data, with so many octets (1 or more) to come.
    Data(u64),
    /// At the line end behind the data.
    DataEnd,
    /// At the last chunk's size line, held until the trailer section behind it is complete.
    Last(Fields),
    /// Behind the body.
    Done,
}

impl Chunked {
    pub fn look(&mut self, octets: &[u8], limits: &Limits) -> Verdict {
        let mut passed = 0;
        loop {
            let rest = octets.get(passed..).unwrap_or_default();
            let step = if rest.is_empty() { Ok(None) } else { self.step(rest, limits) };
            match step {
                Ok(Some(length)) => passed += length,
                // What is clean goes first; the rest is looked at again, from its own beginning.
                Ok(None) | Err(_) if passed > 0 => return Verdict::Pass(passed),
                Ok(None) => return Verdict::More,
                Err(refusal) => return Verdict::Refuse(refusal),
            }
            if let Self::Done = self {
                return Verdict::Pass(passed);
            }
        }
    }

    /// Goes on by one unit at the beginning of `rest`, which is not empty: how long it is, or nothing when it is
    /// not complete.
    fn step(&mut self, rest: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        match self {
            Self::Size => {
                let Some((size, length)) = size_line(rest)? else { return Ok(None) };
                if size > 0 {
                    *self = Self::Data(size);
                    return Ok(Some(length));
                }
                let mut fields = Fields::from(length);
                let end = trailers(&mut fields, rest, limits)?;
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
                let end = trailers(fields, rest, limits)?;
                if end.is_some() {
                    *self = Self::Done;
                }
                Ok(end)
            }
            Self::Done => Ok(None),
        }
    }
}

/// The size and the length of a whole size line.
fn size_line(octets: &[u8]) -> Result<Option<(u64, usize)>, Refusal> {
    let (end, open, whole) = match line_end(octets, 0) {
        LineEnd::Open(end) => (end, true, false),
        LineEnd::Whole(end) => (end, false, true),
        LineEnd::Broken(end) => (end, false, false),
    };
    if end > LONGEST_SIZE_LINE {
        return Err(refusal::CHUNK_LINE);
    }
    if open {
        return Ok(None);
    }
    if !whole {
        return Err(refusal::LINE_END);
    }
    let line = octets.get(..end).unwrap_or_default();
    let digits = line.iter().position(|o| !o.is_ascii_hexdigit()).unwrap_or(line.len());
    let (number, extensions) = line.split_at_checked(digits).unwrap_or_default();
    if !(1..=MOST_DIGITS).contains(&number.len()) {
        return Err(refusal::CHUNK_SIZE);
    }
    let size = number.iter().fold(0u64, |sum, o| {
        let digit = char::from(*o).to_digit(16).unwrap_or_default();
        (sum << 4) | u64::from(digit)
    });
    if i64::try_from(size).is_err() {
        return Err(refusal::CHUNK_SIZE);
    }
    if !are_extensions(extensions) {
        return Err(refusal::CHUNK_EXTENSION);
    }
    Ok(Some((size, end + 2)))
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the blanks that RFC 9112 section 7.1.1 calls bad.
fn are_extensions(mut text: &[u8]) -> bool {
    while let [b';', rest @ ..] = text {
        let Some((name, rest)) = rest.split_at_checked(token_length(rest)) else { return false };
        if name.is_empty() {
            return false;
        }
        text = match rest {
            [b'=', b'"', quoted @ ..] => match after_quoted(quoted) {
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

/// What follows the closing quote; nothing if there is none, or a control character before it.
fn after_quoted(mut text: &[u8]) -> Option<&[u8]> {
    let may_stand = |octet: u8| octet == b'\t' || (octet >= 0x20 && octet != 0x7F);
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', octet, rest @ ..] | [octet, rest @ ..] if may_stand(*octet) => rest,
            _ => return None,
        };
    }
}

/// Reads the trailer section on; where it ends.
fn trailers(fields: &mut Fields, octets: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
    loop {
        match fields.next(octets, limits)? {
            Next::Field { name, .. } if is_for_heads_only(name) => return Err(refusal::TRAILER),
            Next::Field { .. } => {}
            Next::End(end) => return Ok(Some(end)),
            Next::Open => return Ok(None),
        }
    }
}

/// Fields that frame or route a message, or speak of its connection (RFC 9110 section 6.5.1).
fn is_for_heads_only(name: &[u8]) -> bool {
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

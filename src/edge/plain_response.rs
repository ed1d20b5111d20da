//! The bytes of a response to a plain request: the head in the form and order of Pingora's HTTP/1 session, and the framing
//! of the body.
//!
//! It is separate from [`super::plain_session`], because it knows no connection.

use std::io::Write;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

use super::raw_request::{ResponseFraming, SerializedHead};

/// What most heads need.
const HEAD_CAPACITY: usize = 512;
const CRLF: &[u8] = b"\r\n";
const CHUNK_END: &[u8] = CRLF;
const CHUNK_END_AND_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The name of Pingora's error for a body that is shorter than its Content-Length.
const PREMATURE_BODY_END: ErrorType = ErrorType::new("PrematureBodyEnd");

/// The bytes of a 1xx head.
pub(super) fn interim_head(head: &ResponseHeader) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEAD_CAPACITY);
    write_head(head, &mut bytes)?;
    Ok(bytes)
}

/// The bytes of a final head, which gets the fields that only the connection's end can know.
pub(super) fn final_head(head: &mut ResponseHeader, closes: bool) -> Result<Vec<u8>> {
    head.insert_header(DATE, get_cached_date())?;
    head.insert_header(CONNECTION, connection(closes))?;
    interim_head(head)
}

/// As [`final_head`], for a head that is bytes already.
pub(super) fn complete_serialized(head: SerializedHead, closes: bool) -> Vec<u8> {
    let SerializedHead { mut bytes, has_date, .. } = head;
    bytes.truncate(bytes.len().saturating_sub(CRLF.len()));
    if !has_date {
        push(&mut bytes, &[b"Date: ", get_cached_date().as_bytes(), CRLF]);
    }
    push(&mut bytes, &[b"Connection: ", connection(closes).as_bytes(), CRLF, CRLF]);
    bytes
}

fn connection(closes: bool) -> &'static str {
    if closes { "close" } else { "keep-alive" }
}

fn write_head(head: &ResponseHeader, bytes: &mut Vec<u8>) -> Result<()> {
    let version = match head.version {
        Version::HTTP_11 => "HTTP/1.1 ",
        Version::HTTP_10 => "HTTP/1.0 ",
        Version::HTTP_09 => "HTTP/0.9 ",
        _ => return Error::e_explain(ErrorType::WriteError, "serializing response header"),
    };
    let reason = head.get_reason_phrase().unwrap_or_default();
    push(bytes, &[version.as_bytes(), head.status.as_str().as_bytes(), b" ", reason.as_bytes(), CRLF]);
    head.header_to_h1_wire(bytes);
    bytes.extend_from_slice(CRLF);
    Ok(())
}

fn push(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
}

/// How the body after a final head ends. `of_head` is what the head says.
pub(super) fn framing(status: StatusCode, method: &Method, of_head: ResponseFraming) -> ResponseFraming {
    // These have no body, whatever their head says.
    if method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return ResponseFraming::Length(0);
    }
    of_head
}

/// What the fields of a head say about its body. The proxy has validated them.
pub(super) fn framing_of(headers: &HeaderMap) -> ResponseFraming {
    if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
        if last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return ResponseFraming::Chunked;
        }
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    length.map_or(ResponseFraming::UntilClose, ResponseFraming::Length)
}

/// How far the body was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BodyProgress {
    /// Before the final head.
    #[default]
    NotBegun,
    Length {
        total: u64,
        written: u64,
    },
    Chunked,
    UntilClose,
    Complete,
}

/// The line before the bytes of a chunk: 16 hexadecimal digits at most, and the line's end.
#[derive(Debug, Default)]
pub(super) struct ChunkSizeLine {
    bytes: [u8; 18],
}

impl ChunkSizeLine {
    fn write(&mut self, size: usize) -> &[u8] {
        let room = self.bytes.len();
        let mut rest = &mut self.bytes[..];
        let written = write!(rest, "{size:X}\r\n").map_or(0, |()| room - rest.len());
        self.bytes.get(..written).unwrap_or_default()
    }
}

impl BodyProgress {
    pub fn begin(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::Length(total) => Self::Length { total, written: 0 },
            ResponseFraming::Chunked => Self::Chunked,
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }

    pub fn is_finished(self) -> bool {
        match self {
            Self::Complete => true,
            Self::Length { total, written } => written >= total,
            Self::NotBegun | Self::Chunked | Self::UntilClose => false,
        }
    }

    /// What to write for the next bytes of the body: before them, the bytes, and after them. Bytes beyond the announced
    /// length are left out.
    pub fn next<'d>(&mut self, data: &'d [u8], is_last: bool, line: &'d mut ChunkSizeLine) -> [&'d [u8]; 3] {
        match self {
            Self::NotBegun | Self::Complete => [&[]; 3],
            Self::UntilClose => [&[], data, &[]],
            Self::Length { total, written } => {
                let room = usize::try_from(total.saturating_sub(*written)).unwrap_or(usize::MAX);
                let fits = data.get(..room).unwrap_or(data);
                if fits.len() < data.len() {
                    log::warn!(target: "icm::proxy", "a response's body is longer than its Content-Length of {total}");
                }
                *written += fits.len() as u64;
                [&[], fits, &[]]
            }
            Self::Chunked if is_last => {
                *self = Self::Complete;
                if data.is_empty() {
                    [&[], &[], LAST_CHUNK]
                } else {
                    [line.write(data.len()), data, CHUNK_END_AND_LAST_CHUNK]
                }
            }
            Self::Chunked if data.is_empty() => [&[]; 3],
            Self::Chunked => [line.write(data.len()), data, CHUNK_END],
        }
    }

    /// Ends the body, after [`Self::next`] for the last bytes.
    ///
    /// # Errors
    /// When bytes of the announced length are missing.
    pub fn end(&mut self) -> Result<()> {
        match *self {
            Self::Length { total, written } if written < total => Error::e_explain(
                PREMATURE_BODY_END,
                format!("Content-length: {total} bytes written: {written}"),
            ),
            Self::NotBegun => Ok(()),
            _ => {
                *self = Self::Complete;
                Ok(())
            }
        }
    }
}

//! Where the body of a response ends, and its content without the framing of HTTP/1 (RFC 9112 sections 6.3 and 7.1).
//!
//! It knows no sockets, so that tests can feed it any split of the same bytes. The ends are those that Pingora's client
//! finds (`init_body_reader` and `BodyReader` in `pingora-core`).

use bytes::{Buf, Bytes, BytesMut};
use http::{StatusCode, Version};
use httparse::Status;
use pingora::{Error, ErrorType};

use super::response_head::{ResponseField, ResponseHead, single_length};

/// Bytes of the line with the size of a chunk, with its extensions. As in Pingora's client.
const MAX_CHUNK_LINE_BYTES: usize = 8 * 1024;
/// Bytes of all trailers. As in Pingora's client.
const MAX_TRAILER_BYTES: usize = 64 * 1024;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// By definition there is no body: a response to HEAD, 1xx, 204 and 304.
    None,
    /// The number of bytes is known.
    Length(u64),
    /// Chunks, the last of which is empty.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

impl BodyFraming {
    /// The framing that a head announces, after `response_validation` has made it unambiguous.
    pub fn of<H: ResponseHead>(head: &H, request_is_head: bool) -> Self {
        let status = head.status();
        let has_no_body =
            status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_no_body || request_is_head {
            return Self::None;
        }
        // The last coding counts; the validation leaves `chunked` alone.
        if let Some(coding) = head.all(ResponseField::TransferEncoding).last() {
            let last = coding.rsplit(|b| *b == b',').next().unwrap_or_default();
            return if last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                Self::Chunked
            } else {
                Self::UntilClose
            };
        }
        single_length(head).map_or(Self::UntilClose, Self::Length)
    }
}

/// Whether the server keeps the connection open after this response, by its head alone. Asked before the head is
/// changed for the client; a body that ends with the connection, or that the request asked for `close`, is another reason.
pub fn keeps_connection<H: ResponseHead>(head: &H) -> bool {
    if head.status() == StatusCode::SWITCHING_PROTOCOLS {
        return false;
    }
    let options = || {
        let lines = head.all(ResponseField::Connection);
        lines.flat_map(|line| line.split(|b| *b == b',')).map(<[u8]>::trim_ascii)
    };
    if options().any(|option| option.eq_ignore_ascii_case(b"close")) {
        return false;
    }
    head.version() == Version::HTTP_11
        || (options().any(|option| option.eq_ignore_ascii_case(b"keep-alive"))
            && !head.has(ResponseField::TransferEncoding))
}

/// Why the framing of a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBody {
    /// The line before a chunk does not begin with its size, or is too long.
    #[error("the size of a chunk is not valid")]
    ChunkSize,
    /// The chunk is longer or shorter than its size.
    #[error("a chunk does not end with CRLF")]
    ChunkEnd,
    /// A bare CR or LF, or too many bytes, behind the last chunk.
    #[error("the trailers are not valid")]
    Trailers,
}

impl From<MalformedBody> for Box<Error> {
    fn from(cause: MalformedBody) -> Self {
        upstream_error(ErrorType::new("InvalidChunk"), &cause)
    }
}

/// The connection ended before the body did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server closed the connection before the end of the body")]
pub struct TruncatedBody;

impl From<TruncatedBody> for Box<Error> {
    fn from(cause: TruncatedBody) -> Self {
        upstream_error(ErrorType::ConnectionClosed, &cause)
    }
}

fn upstream_error(kind: ErrorType, cause: &dyn std::error::Error) -> Box<Error> {
    let mut e = Error::explain(kind, cause.to_string());
    e.as_up();
    e.set_retry(false);
    e
}

/// What [`BodyDecoder::next`] found at the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyPiece {
    /// Content without framing; never empty.
    Data(Bytes),
    /// The exact end. What follows stays in the buffer.
    End,
    /// Nothing without more bytes of the connection.
    NeedMore,
}

/// Follows a body through the bytes of its connection.
#[derive(Debug)]
pub struct BodyDecoder {
    state: Progress,
    /// Found behind the content that was returned last.
    malformed: Option<MalformedBody>,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    Length(u64),
    UntilClose,
    ChunkSize,
    /// Bytes that are missing, at least one.
    Chunk(u64),
    ChunkEnd,
    /// Bytes of trailers so far, and whether a line has begun.
    Trailers(usize, bool),
    End,
}

impl BodyDecoder {
    /// For a body of which nothing was taken yet.
    #[must_use]
    pub const fn new(framing: BodyFraming) -> Self {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => Progress::End,
            BodyFraming::Length(length) => Progress::Length(length),
            BodyFraming::Chunked => Progress::ChunkSize,
            BodyFraming::UntilClose => Progress::UntilClose,
        };
        Self { state, malformed: None }
    }

    /// Takes what belongs to the body from the front of `received`; content is not copied.
    ///
    /// The framing behind content is taken with it, so that [`Self::is_at_end`] is true at once if the end was received.
    /// Extensions of chunks and trailers are dropped.
    ///
    /// # Errors
    /// The framing is malformed, now and in every later call.
    pub fn next(&mut self, received: &mut BytesMut) -> Result<BodyPiece, MalformedBody> {
        if self.malformed.is_none() {
            self.malformed = self.take_framing(received).err();
        }
        if let Some(malformed) = self.malformed {
            return Err(malformed);
        }
        let data = match self.state {
            Progress::End => return Ok(BodyPiece::End),
            Progress::UntilClose => received.split(),
            Progress::Length(left) | Progress::Chunk(left) => {
                let length = usize::try_from(left).map_or(received.len(), |left| left.min(received.len()));
                let left = left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
                self.state = match (self.state, left) {
                    (Progress::Chunk(_), 0) => Progress::ChunkEnd,
                    (Progress::Chunk(_), left) => Progress::Chunk(left),
                    (_, 0) => Progress::End,
                    (_, left) => Progress::Length(left),
                };
                received.split_to(length)
            }
            Progress::ChunkSize | Progress::ChunkEnd | Progress::Trailers(..) => BytesMut::new(),
        };
        if data.is_empty() {
            return Ok(BodyPiece::NeedMore);
        }
        self.malformed = self.take_framing(received).err();
        Ok(BodyPiece::Data(data.freeze()))
    }

    /// The server has closed the connection, and all that it sent was taken.
    ///
    /// # Errors
    /// The body is not complete.
    pub fn end_of_connection(&mut self) -> Result<(), TruncatedBody> {
        if !matches!(self.state, Progress::UntilClose | Progress::End) {
            return Err(TruncatedBody);
        }
        self.state = Progress::End;
        Ok(())
    }

    /// Whether the whole body was taken.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        matches!(self.state, Progress::End)
    }

    /// Takes what stands between two pieces of content.
    fn take_framing(&mut self, received: &mut BytesMut) -> Result<(), MalformedBody> {
        loop {
            self.state = match self.state {
                Progress::ChunkSize => match take_size(received)? {
                    None => return Ok(()),
                    Some(0) => Progress::Trailers(0, false),
                    Some(size) => Progress::Chunk(size),
                },
                Progress::ChunkEnd => match take_crlf(received, MalformedBody::ChunkEnd)? {
                    false => return Ok(()),
                    true => Progress::ChunkSize,
                },
                Progress::Trailers(_, false) if starts_line_end(received) => {
                    match take_crlf(received, MalformedBody::Trailers)? {
                        false => return Ok(()),
                        true => Progress::End,
                    }
                }
                Progress::Trailers(bytes, _) => {
                    if received.is_empty() {
                        return Ok(());
                    }
                    let line = memchr::memchr2(b'\r', b'\n', received);
                    let length = line.unwrap_or(received.len());
                    let bytes = bytes + length;
                    if bytes > MAX_TRAILER_BYTES {
                        return Err(MalformedBody::Trailers);
                    }
                    received.advance(length);
                    self.state = Progress::Trailers(bytes, true);
                    if line.is_none() || !take_crlf(received, MalformedBody::Trailers)? {
                        return Ok(());
                    }
                    Progress::Trailers(bytes + 2, false)
                }
                Progress::Length(_) | Progress::Chunk(_) | Progress::UntilClose | Progress::End => {
                    return Ok(());
                }
            };
        }
    }
}

fn starts_line_end(received: &BytesMut) -> bool {
    matches!(received.first(), Some(b'\r' | b'\n'))
}

/// Takes the line before a chunk. `None` if it is not complete.
fn take_size(received: &mut BytesMut) -> Result<Option<u64>, MalformedBody> {
    let line = received.get(..MAX_CHUNK_LINE_BYTES).unwrap_or(received);
    // The parser takes a line without a number for the last chunk, which would hide that the body is truncated.
    if line.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
        return Err(MalformedBody::ChunkSize);
    }
    match httparse::parse_chunk_size(line) {
        Ok(Status::Complete((length, size))) if i64::try_from(size).is_ok() => {
            received.advance(length);
            Ok(Some(size))
        }
        Ok(Status::Partial) if line.len() < MAX_CHUNK_LINE_BYTES => Ok(None),
        _ => Err(MalformedBody::ChunkSize),
    }
}

/// Takes the end of a line. False if it is not complete.
fn take_crlf(received: &mut BytesMut, malformed: MalformedBody) -> Result<bool, MalformedBody> {
    match received.get(..2).unwrap_or(received) {
        b"\r\n" => {
            received.advance(2);
            Ok(true)
        }
        b"" | b"\r" => Ok(false),
        _ => Err(malformed),
    }
}

//! The head of a response as it came: one buffer, a table of its lines, and the changed values beside it.
//!
//! Most lines go to the client unchanged, so they are copied once, with the line before and the line after, and are never
//! put into a header map.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use httparse::Status;
use pingora::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use smallvec::SmallVec;

use super::response_head::{ResponseField, ResponseFieldSet, ResponseHead, single_length};

/// Lines of a head, as in Pingora's client (`MAX_HEADERS`).
const MAX_LINES: usize = 256;
/// Bytes of an incomplete head, as in Pingora's client (`MAX_HEADER_SIZE`).
const MAX_INCOMPLETE_BYTES: usize = 1_048_575;
/// Lines without an allocation; Domino sends about ten.
const USUAL_LINES: usize = 16;

/// Why a head cannot be read. Pingora's client refuses the same heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHead {
    /// Bytes that are not HTTP/1, or too many lines.
    #[error("the head is not valid: {0}")]
    Syntax(httparse::Error),
    /// The head does not end within the limit.
    #[error("the head is larger than {MAX_INCOMPLETE_BYTES} bytes")]
    TooLarge,
    /// The number of the status is below 100.
    #[error("the status is not valid")]
    StatusCode,
    /// The name of a field is longer than any parser takes.
    #[error("the name of a field is too long")]
    FieldName,
    /// The length is not one number.
    #[error("Content-Length is not one number")]
    ContentLength,
}

impl From<MalformedHead> for Box<Error> {
    fn from(cause: MalformedHead) -> Self {
        let mut e = Error::explain(ErrorType::InvalidHTTPHeader, cause.to_string());
        e.as_up();
        e.set_retry(false);
        e
    }
}

/// One line. Positions at or behind the end of the received head are in the changed values.
#[derive(Clone, Copy, Debug)]
struct Line {
    name_start: u32,
    value_start: u32,
    value_len: u32,
    /// 0 for a line that was added; its name is that of the known field.
    name_len: u16,
    known: Option<ResponseField>,
}

/// A head as it came, with what the proxy has changed.
#[derive(Clone, Debug)]
pub struct RawResponseHead {
    received: Bytes,
    changed: Vec<u8>,
    lines: SmallVec<[Line; USUAL_LINES]>,
    fields: ResponseFieldSet,
    status: StatusCode,
    version: Version,
    /// Start and length of the reason phrase.
    reason: (u32, u32),
}

impl RawResponseHead {
    /// Takes a head from the front of `received`. `None` if it is not complete; nothing is taken then.
    ///
    /// # Errors
    /// The bytes are not the head of a response.
    pub fn parse(received: &mut BytesMut) -> Result<Option<Self>, MalformedHead> {
        let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_LINES];
        let mut response = httparse::Response::new(&mut []);
        // The leniency of Pingora's client.
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true);
        config.allow_obsolete_multiline_headers_in_responses(true);
        let buffer: &[u8] = received;
        let parsed = config.parse_response_with_uninit_headers(&mut response, buffer, &mut headers);
        let Status::Complete(length) = parsed.map_err(MalformedHead::Syntax)? else {
            return if received.len() > MAX_INCOMPLETE_BYTES {
                Err(MalformedHead::TooLarge)
            } else {
                Ok(None)
            };
        };
        let mut head = Self::of_parsed(&response, buffer, length)?;
        head.received = received.split_to(length).freeze();
        head.resolve_length()?;
        Ok(Some(head))
    }

    /// The table of a parsed head, without the head itself.
    fn of_parsed(
        response: &httparse::Response<'_, '_>,
        buffer: &[u8],
        length: usize,
    ) -> Result<Self, MalformedHead> {
        let start = buffer.as_ptr().addr();
        let position = |at: *const u8| u32::try_from(at.addr().wrapping_sub(start));
        let size = |n: usize| u32::try_from(n).map_err(|_| MalformedHead::TooLarge);
        // A phrase with bytes above 0x7F is read as an empty one, which is not in the buffer.
        let reason = response.reason.filter(|reason| !reason.is_empty()).unwrap_or_default();
        let reason = (position(reason.as_ptr()).unwrap_or_default(), size(reason.len())?);
        let code = response.code.unwrap_or_default();
        let mut head = Self {
            received: Bytes::new(),
            changed: Vec::new(),
            lines: SmallVec::with_capacity(response.headers.len()),
            fields: ResponseFieldSet::default(),
            status: StatusCode::from_u16(code).map_err(|_| MalformedHead::StatusCode)?,
            version: if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 },
            reason,
        };
        for header in response.headers.iter() {
            let known = ResponseField::of(header.name.as_bytes());
            let mut value = (position(header.value.as_ptr()), size(header.value.len())?);
            if memchr::memchr(b'\n', header.value).is_some() {
                // Folded lines, which Pingora joins.
                let joined = pingora_http::header_value_from_slice(header.value);
                value = (Ok(size(length + head.changed.len())?), size(joined.len())?);
                head.changed.extend_from_slice(joined.as_bytes());
            }
            head.lines.push(Line {
                name_start: position(header.name.as_ptr()).map_err(|_| MalformedHead::TooLarge)?,
                value_start: value.0.map_err(|_| MalformedHead::TooLarge)?,
                value_len: value.1,
                name_len: u16::try_from(header.name.len()).map_err(|_| MalformedHead::FieldName)?,
                known,
            });
            if let Some(field) = known {
                head.fields.insert(field);
            }
        }
        Ok(head)
    }

    /// A transfer coding overrides a length (RFC 9112 section 6.3); otherwise all lengths must be the same number.
    fn resolve_length(&mut self) -> Result<(), MalformedHead> {
        if !self.has(ResponseField::ContentLength) {
            return Ok(());
        }
        if self.has(ResponseField::TransferEncoding) {
            self.remove(ResponseField::ContentLength);
            return Ok(());
        }
        single_length(self).map(|_| ()).ok_or(MalformedHead::ContentLength)
    }

    /// Appends the head for an HTTP/1 client: status line, lines, empty line.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        const CRLF: &[u8] = b"\r\n";
        out.reserve(self.received.len() + self.changed.len() + 32);
        out.extend_from_slice(if self.version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.bytes(self.reason.0, self.reason.1));
        out.extend_from_slice(CRLF);
        // Neighbouring lines that stand in the buffer as they are written are copied together.
        let (mut start, mut end) = (0, 0);
        for line in &self.lines {
            if let Some(next) = self.received_line(line) {
                if next.0 != end {
                    out.extend_from_slice(self.received.get(start..end).unwrap_or_default());
                    start = next.0;
                }
                end = next.1;
                continue;
            }
            out.extend_from_slice(self.received.get(start..end).unwrap_or_default());
            (start, end) = (0, 0);
            out.extend_from_slice(self.name(line));
            out.extend_from_slice(b": ");
            out.extend_from_slice(self.bytes(line.value_start, line.value_len));
            out.extend_from_slice(CRLF);
        }
        out.extend_from_slice(self.received.get(start..end).unwrap_or_default());
        out.extend_from_slice(CRLF);
    }

    /// Start and end of a line that was received as it is written: `Name: value` and CRLF.
    fn received_line(&self, line: &Line) -> Option<(usize, usize)> {
        let start = to_usize(line.name_start);
        let colon = start + usize::from(line.name_len);
        let value = to_usize(line.value_start);
        let end = value + to_usize(line.value_len);
        let is_written_so = line.name_len > 0
            && self.received.get(colon..value) == Some(b": ")
            && self.received.get(end..end + 2) == Some(b"\r\n");
        is_written_so.then_some((start, end + 2))
    }

    /// The same head in a header map, with the names in their case, for Pingora's sessions.
    ///
    /// # Errors
    /// Pingora does not take a name.
    pub fn to_pingora(&self) -> Result<Box<ResponseHeader>> {
        let mut head = ResponseHeader::build(self.status, Some(self.lines.len()))?;
        head.set_version(self.version);
        let reason = self.bytes(self.reason.0, self.reason.1);
        head.set_reason_phrase(Some(std::str::from_utf8(reason).unwrap_or_default()))?;
        for line in &self.lines {
            let value = self.bytes(line.value_start, line.value_len);
            let value = if to_usize(line.value_start) < self.received.len() {
                pingora_http::header_value_from_raw(self.received.slice_ref(value))
            } else {
                pingora_http::header_value_from_slice(value)
            };
            let name = self.name(line);
            match line.known.filter(|_| line.name_len == 0) {
                Some(added) => head.append_header(added.name(), value)?,
                None if to_usize(line.name_start) >= self.received.len() => {
                    head.append_header(Bytes::copy_from_slice(name), value)?
                }
                None => head.append_header(self.received.slice_ref(name), value)?,
            };
        }
        Ok(Box::new(head))
    }

    /// The names and values of all lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.name(line), self.bytes(line.value_start, line.value_len)))
    }

    fn name(&self, line: &Line) -> &[u8] {
        match line.known.filter(|_| line.name_len == 0) {
            Some(added) => added.name().as_bytes(),
            None => self.bytes(line.name_start, line.name_len.into()),
        }
    }

    fn bytes(&self, start: u32, length: u32) -> &[u8] {
        part_of(&self.received, &self.changed, start, length)
    }

    /// Keeps of all lines with this name the first one, as `first` if that is given. Adds it if there is none.
    fn replace_named(&mut self, name: &[u8], mut first: Option<Line>) {
        let Self { received, changed, lines, .. } = self;
        lines.retain(|line| {
            let has_name = match line.known.filter(|_| line.name_len == 0) {
                Some(added) => added.name().as_bytes(),
                None => part_of(received, changed, line.name_start, line.name_len.into()),
            };
            if !has_name.eq_ignore_ascii_case(name) {
                return true;
            }
            let Some(new) = first.take() else { return false };
            *line = new;
            true
        });
        lines.extend(first);
    }

    /// Keeps a value. Returns its start and its length.
    fn keep(&mut self, value: &[u8]) -> Result<(u32, u32)> {
        let invalid = |cause: &'static str| {
            let mut e = Error::explain(ErrorType::InvalidHTTPHeader, cause);
            e.as_in();
            e
        };
        // The bytes that a `HeaderValue` takes.
        if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7F) {
            return Err(invalid("a value has control characters"));
        }
        let start = u32::try_from(self.received.len() + self.changed.len());
        let length = u32::try_from(value.len());
        let (Ok(start), Ok(length)) = (start, length) else { return Err(invalid("the head is too large")) };
        self.changed.extend_from_slice(value);
        Ok((start, length))
    }
}

impl ResponseHead for RawResponseHead {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn version(&self) -> Version {
        self.version
    }

    fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    fn fields(&self) -> ResponseFieldSet {
        self.fields
    }

    fn has(&self, field: ResponseField) -> bool {
        self.fields.contains(field)
    }

    fn first(&self, field: ResponseField) -> Option<&[u8]> {
        if !self.fields.contains(field) {
            return None;
        }
        self.all(field).next()
    }

    fn all(&self, field: ResponseField) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.iter().filter(move |line| line.known == Some(field));
        lines.map(|line| self.bytes(line.value_start, line.value_len))
    }

    fn set(&mut self, field: ResponseField, value: impl AsRef<[u8]> + TryInto<HeaderValue>) -> Result<()> {
        if !self.fields.contains(field) {
            return self.append(field, value);
        }
        let (value_start, value_len) = self.keep(value.as_ref())?;
        let mut is_first = true;
        self.lines.retain(|line| {
            if line.known != Some(field) {
                return true;
            }
            (line.value_start, line.value_len) = (value_start, value_len);
            std::mem::take(&mut is_first)
        });
        Ok(())
    }

    fn append(&mut self, field: ResponseField, value: impl AsRef<[u8]> + TryInto<HeaderValue>) -> Result<()> {
        let (value_start, value_len) = self.keep(value.as_ref())?;
        self.lines.push(Line { name_start: 0, value_start, value_len, name_len: 0, known: Some(field) });
        self.fields.insert(field);
        Ok(())
    }

    fn replace_each(
        &mut self,
        field: ResponseField,
        values: impl IntoIterator<Item = Option<Vec<u8>>>,
    ) -> Result<()> {
        let mut values = values.into_iter();
        for at in 0..self.lines.len() {
            if self.lines.get(at).is_none_or(|line| line.known != Some(field)) {
                continue;
            }
            let Some(value) = values.next() else { break };
            if let Some(Ok(kept)) = value.map(|value| self.keep(&value))
                && let Some(line) = self.lines.get_mut(at)
            {
                (line.value_start, line.value_len) = kept;
            }
        }
        Ok(())
    }

    fn remove(&mut self, field: ResponseField) {
        if self.fields.contains(field) {
            self.lines.retain(|line| line.known != Some(field));
            self.fields.remove(field);
        }
    }

    fn set_named(&mut self, name: &HeaderName, spelling: &Bytes, value: &HeaderValue) -> Result<()> {
        let name = name.as_str().as_bytes();
        let (name_start, name_len) = self.keep(spelling)?;
        let (value_start, value_len) = self.keep(value.as_bytes())?;
        let name_len = u16::try_from(name_len).map_err(|_| MalformedHead::FieldName)?;
        let known = ResponseField::of(name);
        self.replace_named(name, Some(Line { name_start, value_start, value_len, name_len, known }));
        if let Some(field) = known {
            self.fields.insert(field);
        }
        Ok(())
    }

    fn remove_named(&mut self, name: &HeaderName) {
        let name = name.as_str().as_bytes();
        match ResponseField::of(name) {
            Some(field) => self.remove(field),
            None => self.replace_named(name, None),
        }
    }
}

/// A part of a received head, or of the changed values behind it.
fn part_of<'a>(received: &'a [u8], changed: &'a [u8], start: u32, length: u32) -> &'a [u8] {
    let (start, length) = (to_usize(start), to_usize(length));
    let (buffer, start) = match start.checked_sub(received.len()) {
        None => (received, start),
        Some(start) => (changed, start),
    };
    buffer.get(start..start + length).unwrap_or_default()
}

/// Lossless on every platform that has sockets.
fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

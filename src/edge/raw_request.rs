//! The head of a plain request as it came, for the proxy and the client's session: most lines of a head go to the server
//! unread and unchanged, so only the others become entries of a header map.
//!
//! It is separate from the session, because the proxy uses it and knows nothing of connections. It is found through the
//! extensions of the request's head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use parking_lot::Mutex;
use pingora::Result;
use pingora::protocols::Stream;
use pingora_http::RequestHeader;

use super::gate::{HeadRecord, RawLine};

/// Whether a line with this name goes to the server unread and unchanged: no hook of the proxy reads, changes or drops such
/// fields. Every other field is an entry of the header map.
#[must_use]
pub fn is_passed_on_unread(name: &[u8]) -> bool {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        3 => is(b"DNT"),
        6 => is(b"Pragma"),
        7 => is(b"Sec-GPC"),
        8 => is(b"Priority") || is(b"If-Match") || is(b"If-Range"),
        9 => is(b"Sec-CH-UA") || is(b"Save-Data"),
        12 => is(b"Content-Type"),
        13 => is(b"Cache-Control") || is(b"If-None-Match"),
        14 => is(b"Sec-Fetch-User") || is(b"Sec-CH-UA-Arch") || is(b"Accept-Charset"),
        15 => {
            is(b"Accept-Encoding")
                || is(b"Accept-Language")
                || is(b"Sec-CH-UA-Model")
                || is(b"Sec-CH-UA-WoW64")
        }
        16 => is(b"Sec-CH-UA-Mobile"),
        17 => is(b"If-Modified-Since") || is(b"Sec-CH-UA-Bitness"),
        18 => is(b"Sec-CH-UA-Platform"),
        19 => is(b"If-Unmodified-Since"),
        22 => is(b"Sec-CH-UA-Form-Factors"),
        25 => is(b"Upgrade-Insecure-Requests"),
        26 => is(b"Sec-CH-UA-Platform-Version"),
        27 => is(b"Sec-CH-UA-Full-Version-List"),
        _ => false,
    }
}

/// The values of a field of the client's request, whether or not it is in the header map: for fields that only some
/// configurations read. Costs a pass over all lines of the head.
pub fn field_values<'h>(head: &'h RequestHeader, name: &str) -> impl Iterator<Item = &'h [u8]> {
    // A completed head has every line in its map.
    let raw = RawRequest::of(head).filter(|_| !head.has_case() && is_passed_on_unread(name.as_bytes()));
    let unread = raw.into_iter().flat_map(|raw| raw.lines());
    let unread = unread.filter(move |(line, ..)| line.eq_ignore_ascii_case(name.as_bytes()));
    let mapped = head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    unread.map(|(_, value, _)| value).chain(mapped)
}

/// The head of a plain request, and what the proxy and the client's session tell each other about the connection.
#[derive(Debug)]
pub struct RawRequest {
    head: Bytes,
    record: Box<HeadRecord>,
    closes: AtomicBool,
    /// The head of the response, from the proxy to the session. Only one task uses it, and `returned`.
    response: Mutex<Option<SerializedHead>>,
    /// The connection, between the end of this request and the next one.
    returned: Mutex<Option<Stream>>,
}

impl RawRequest {
    pub(super) fn new(head: Bytes, mut record: Box<HeadRecord>) -> Self {
        for line in &mut record.lines {
            line.kept = !is_passed_on_unread(line.name(&head));
        }
        let closes = AtomicBool::new(record.closes);
        Self { head, record, closes, response: Mutex::new(None), returned: Mutex::new(None) }
    }

    /// That of a request with this head; `None` if the request is not plain.
    #[must_use]
    pub fn of(head: &RequestHeader) -> Option<&Arc<Self>> {
        head.extensions.get::<Arc<Self>>()
    }

    /// All lines in their order, each with whether it is also in the header map. No hook changes the fields of a plain
    /// request before its head is completed or written to a server.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
        let lines = self.record.lines.iter();
        lines.map(|line| (line.name(&self.head), line.value(&self.head), line.kept))
    }

    /// Closes the connection after this response. Pingora's sessions have `set_keepalive`, which does nothing for this one.
    pub fn close_after_response(&self) {
        self.closes.store(true, Relaxed);
    }

    /// Whether the connection closes after this response, by the wish of the client or of the proxy.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes.load(Relaxed)
    }

    /// The whole head as it came.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The head that the session sends in place of the next final head that it gets, of which only the status counts.
    pub fn set_response_head(&self, head: SerializedHead) {
        *self.response.lock() = Some(head);
    }

    pub(super) fn take_response_head(&self) -> Option<SerializedHead> {
        self.response.lock().take()
    }

    /// Leaves the connection here for the next request, because Pingora drops a session of this kind.
    pub(super) fn return_stream(&self, stream: Stream) {
        *self.returned.lock() = Some(stream);
    }

    pub(super) fn take_stream(&self) -> Option<Stream> {
        self.returned.lock().take()
    }

    /// The head for the hooks, without the lines that are passed on unread. `None` if the `http` library refuses a part.
    pub(super) fn header(self: &Arc<Self>) -> Option<RequestHeader> {
        let mut parts = Request::new(()).into_parts().0;
        parts.method = Method::from_bytes(self.record.method(&self.head)).ok()?;
        parts.uri = Uri::from_maybe_shared(self.part(self.record.target(&self.head))).ok()?;
        parts.headers.reserve(self.record.lines.iter().filter(|line| line.kept).count());
        for line in self.record.lines.iter().filter(|line| line.kept) {
            let name = HeaderName::from_bytes(line.name(&self.head)).ok()?;
            parts.headers.try_append(name, self.value(line)?).ok()?;
        }
        parts.extensions.insert(Arc::clone(self));
        Some(RequestHeader::from(parts))
    }

    /// A part of the head, without a copy.
    fn part(&self, part: &[u8]) -> Bytes {
        self.head.slice_ref(part)
    }

    fn value(&self, line: &RawLine) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.part(line.value(&self.head))).ok()
    }
}

/// Makes the head of a plain request complete, for Pingora's loop: every line in the client's order and spelling, with the
/// present values of the map. Fields that are only in the map follow. Other heads stay as they are.
///
/// # Errors
/// When a field cannot be added, which the checks of the gate rule out.
pub fn complete_head(head: &mut RequestHeader) -> Result<()> {
    let Some(raw) = RawRequest::of(head).map(Arc::clone).filter(|_| !head.has_case()) else { return Ok(()) };
    let lines = &raw.record.lines;
    let mut complete =
        RequestHeader::build(head.method.clone(), head.raw_path(), Some(lines.len().saturating_add(8)))?;
    complete.set_version(head.version);
    for (at, line) in lines.iter().enumerate() {
        let name = line.name(&raw.head);
        if !line.kept {
            if let Some(value) = raw.value(line) {
                complete.append_header(raw.part(name), value)?;
            }
            continue;
        }
        let same_name = |other: &&RawLine| other.kept && other.name(&raw.head).eq_ignore_ascii_case(name);
        let earlier = lines.iter().take(at).filter(same_name).count();
        let now = HeaderName::from_bytes(name).ok();
        let now = now.and_then(|name| head.headers.get_all(name).iter().nth(earlier));
        if let Some(value) = now {
            complete.append_header(raw.part(name), value.clone())?;
        }
    }
    let is_line = |name: &HeaderName| {
        lines
            .iter()
            .any(|line| line.kept && line.name(&raw.head).eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    for (name, value) in head.headers.iter().filter(|(name, _)| !is_line(name)) {
        complete.append_header(name, value.clone())?;
    }
    *complete.extensions_mut() = std::mem::take(head.extensions_mut());
    *head = complete;
    Ok(())
}

/// How the client finds the end of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// Bytes of the body. The session sends none to HEAD and after a 204 or 304, whatever this says.
    Length(u64),
    /// The head says `Transfer-Encoding: chunked`; the session adds the chunks.
    Chunked,
    /// The body ends with the connection, which the session then closes.
    UntilClose,
}

/// A response's head that is bytes already, for [`RawRequest::set_response_head`].
#[derive(Clone, Debug)]
pub struct SerializedHead {
    /// From the status line to the empty line, without `Connection`, which the session adds.
    pub bytes: Vec<u8>,
    /// What `bytes` says about the body.
    pub framing: ResponseFraming,
    /// Whether there is a `Date` line. The session adds one if there is none.
    pub has_date: bool,
}

#[cfg(test)]
#[path = "raw_request_tests.rs"]
mod tests;

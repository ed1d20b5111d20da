//! The deadlines of an HTTP/2 client: for its preface and SETTINGS, the end of each header block, request bodies, and
//! reading its responses.
//!
//! It follows the frames of both directions. The `h2` library, which does everything else in HTTP/2 including limits against
//! floods, has no such deadlines.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::ClientLimits;
use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameEvent, FrameHeader, FrameParser, GOAWAY, HEADERS,
    RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::interim::InterimResponses;
use super::pending_responses::PendingResponses;
use super::read_buffer::ReadBuffer;
use super::response_windows::{Overdue, ResponseWindows};
use super::timeouts::{ACK_CHECK_INTERVAL, AckProgress, MinRateBudget, Timer};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The receive window of a stream.
pub const INITIAL_STREAM_WINDOW: u32 = 256 * 1024;
/// The initial window of a connection (RFC 9113 section 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
/// Bounds memory only; the library refuses streams far below this.
const MAX_STREAMS: usize = 1024;
/// The RST_STREAM code for a client that reads a response too slowly (RFC 9113 section 7).
const ENHANCE_YOUR_CALM: u8 = 11;

/// The protocol state of one HTTP/2 connection, as far as deadlines depend on it.
#[derive(Debug)]
pub struct Http2 {
    /// How many bytes of the preface were read.
    preface: usize,
    reading: FrameParser,
    writing: FrameParser,
    /// The first frame, which must be SETTINGS, has begun.
    settings_seen: bool,
    /// Between HEADERS and the END_HEADERS flag.
    in_block: bool,
    deadline: Option<Instant>,
    /// The last stream that the client opened.
    last_opened: u32,
    /// From our GOAWAY; later streams have no deadlines.
    last_accepted: u32,
    /// Requests whose bodies have not ended.
    bodies: Vec<RequestBody>,
    /// The receive window of the connection.
    window: i64,
    budget: MinRateBudget,
    pub(super) buffered: ReadBuffer,
    responses: ResponseWindows,
    pending: Arc<PendingResponses>,
    /// RST_STREAM frames of our own that are to be sent to the client.
    notices: Vec<u8>,
    in_written_block: bool,
    /// The same frames, for the library to read as if the client had sent them.
    injected: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct RequestBody {
    stream: u32,
    window: i64,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            preface: 0,
            reading: FrameParser::default(),
            writing: FrameParser::default(),
            settings_seen: false,
            in_block: false,
            deadline: None,
            last_opened: 0,
            last_accepted: u32::MAX,
            bodies: Vec::new(),
            window: DEFAULT_WINDOW,
            budget: MinRateBudget::default(),
            buffered: ReadBuffer::default(),
            responses: ResponseWindows::default(),
            pending: Arc::default(),
            notices: Vec::new(),
            in_written_block: false,
            injected: Vec::new(),
        }
    }
}

impl Http2 {
    #[must_use]
    pub(super) fn new(pending: Arc<PendingResponses>) -> Self {
        Self { pending, ..Self::default() }
    }

    /// Follows bytes that were read, and returns how many may pass unchanged. It stops before an incomplete frame header,
    /// and before a frame to which `http2_input` adds a field.
    ///
    /// # Errors
    /// When the connection does not begin with the preface and SETTINGS, or has too many streams.
    pub(super) fn track_read(&mut self, bytes: &[u8], client_limits: &ClientLimits) -> Result<usize> {
        let mut at = 0;
        for wanted in PREFACE.iter().skip(self.preface) {
            let Some(byte) = bytes.get(at) else { return Ok(at) };
            if byte != wanted {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    "the connection does not begin with the HTTP/2 preface",
                ));
            }
            (at, self.preface) = (at + 1, self.preface + 1);
        }
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.reading.is_at_boundary() {
                let Some(head) = FrameHeader::parse(rest) else { break };
                if self.is_trailers(&head) || self.is_request(&head) {
                    break;
                }
            }
            at += self.advance(rest, client_limits)?;
        }
        Ok(at)
    }

    /// Follows one frame of any type.
    pub(super) fn track_frame(&mut self, frame: &[u8], client_limits: &ClientLimits) -> Result<()> {
        let mut at = 0;
        while let Some(rest) = frame.get(at..).filter(|rest| !rest.is_empty()) {
            at += self.advance(rest, client_limits)?;
        }
        Ok(())
    }

    fn advance(&mut self, bytes: &[u8], client_limits: &ClientLimits) -> Result<usize> {
        let (taken, step) = self.reading.advance(bytes);
        match step {
            Some(FrameEvent::Header(head)) => self.on_frame_header(head, client_limits)?,
            Some(FrameEvent::Payload(head, length, last)) => {
                if head.kind == SETTINGS && head.flags & ACK == 0 {
                    self.responses.read_settings(bytes.get(..taken).unwrap_or_default());
                    self.pending.set_initial_window(self.responses.initial_window_size());
                }
                self.on_payload(head, length, last, client_limits);
            }
            None => {}
        }
        Ok(taken)
    }

    /// Whether these are the HEADERS of a stream that is already open.
    pub(super) fn is_trailers(&self, head: &FrameHeader) -> bool {
        head.kind == HEADERS && head.stream <= self.last_opened && self.preface == PREFACE.len()
    }

    /// Whether this HEADERS frame opens a stream and has the whole header block.
    pub(super) fn is_request(&self, head: &FrameHeader) -> bool {
        head.kind == HEADERS
            && head.stream > self.last_opened
            && head.flags & END_HEADERS != 0
            && self.settings_seen
    }

    /// Starts the deadline of a header block, if it is not running.
    pub(super) fn expect_header_block(&mut self, client_limits: &ClientLimits) {
        self.deadline.get_or_insert_with(|| Instant::now() + client_limits.header_timeout);
    }

    pub(super) fn interims(&self) -> &InterimResponses {
        &self.pending.interims
    }

    fn on_frame_header(&mut self, head: FrameHeader, client_limits: &ClientLimits) -> Result<()> {
        let FrameHeader { length, kind, flags, stream } = head;
        if !self.settings_seen {
            if kind != SETTINGS {
                return Err(Error::new(ErrorKind::InvalidData, "the first HTTP/2 frame is not SETTINGS"));
            }
            self.settings_seen = true;
            self.deadline = None;
        }
        if kind == HEADERS || kind == CONTINUATION {
            if !self.in_block {
                self.deadline = Some(Instant::now() + client_limits.header_timeout);
            }
            self.in_block = flags & END_HEADERS == 0;
        }
        let is_trailers = self.is_trailers(&head);
        if kind == HEADERS && !is_trailers {
            self.last_opened = stream;
            if stream <= self.last_accepted {
                if !self.responses.open_stream(stream, MAX_STREAMS) {
                    return Err(Error::new(ErrorKind::InvalidData, "too many HTTP/2 streams"));
                }
                if flags & END_STREAM == 0 {
                    self.bodies.push(RequestBody { stream, window: i64::from(INITIAL_STREAM_WINDOW) });
                }
            }
        } else if is_trailers {
            self.body_ended(stream);
        } else if kind == SETTINGS {
            self.responses.begin_settings();
        }
        if length == 0 {
            self.on_payload(head, 0, Some(0), client_limits);
        }
        Ok(())
    }

    fn on_payload(
        &mut self,
        head: FrameHeader,
        bytes: usize,
        last: Option<u32>,
        client_limits: &ClientLimits,
    ) {
        if head.kind == DATA && bytes > 0 {
            self.budget
                .add_progress(bytes, client_limits.min_rate.saturating_mul(self.bodies.len().max(1) as u64));
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.window -= bytes;
            if let Some(body) = self.bodies.iter_mut().find(|body| body.stream == head.stream) {
                body.window -= bytes;
            }
        }
        let Some(first_word) = last else { return };
        // A header block ends with the last byte of its last frame.
        if !self.in_block {
            self.deadline = None;
        }
        match head.kind {
            DATA if head.flags & END_STREAM != 0 => self.body_ended(head.stream),
            WINDOW_UPDATE => self.responses.add_window(head.stream, first_word),
            RST_STREAM => self.stream_closed(head.stream),
            _ => {}
        }
    }

    fn stream_closed(&mut self, stream: u32) {
        self.body_ended(stream);
        self.responses.close_stream(stream);
    }

    fn body_ended(&mut self, stream: u32) {
        self.bodies.retain(|body| body.stream != stream);
        if self.bodies.is_empty() {
            self.budget = MinRateBudget::default();
        }
    }

    /// Follows bytes that were written: windows granted to the client, streams closed, and responses sent.
    pub(super) fn track_written(&mut self, mut bytes: &[u8], client_limits: &ClientLimits) {
        while !bytes.is_empty() {
            let (taken, step) = self.writing.advance(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            match step {
                Some(FrameEvent::Header(FrameHeader { kind: CONTINUATION, flags, .. })) => {
                    self.in_written_block = flags & END_HEADERS == 0;
                }
                Some(FrameEvent::Header(FrameHeader {
                    kind: kind @ (HEADERS | DATA),
                    flags,
                    stream,
                    ..
                })) => {
                    if kind == HEADERS {
                        self.responses.headers_sent(stream);
                        self.in_written_block = flags & END_HEADERS == 0;
                    }
                    if flags & END_STREAM != 0 {
                        self.stream_closed(stream);
                    }
                }
                Some(FrameEvent::Payload(FrameHeader { kind: DATA, stream, .. }, taken, _)) => {
                    self.responses.data_sent(stream, taken, client_limits.min_rate, self.pending.count());
                }
                Some(FrameEvent::Payload(FrameHeader { kind, stream, .. }, _, Some(word))) => match kind {
                    WINDOW_UPDATE if stream == 0 => self.window += i64::from(word),
                    WINDOW_UPDATE => {
                        if let Some(body) = self.bodies.iter_mut().find(|body| body.stream == stream) {
                            body.window += i64::from(word);
                        }
                    }
                    RST_STREAM => self.stream_closed(stream),
                    GOAWAY => {
                        self.last_accepted = word;
                        self.bodies.retain(|body| body.stream <= word);
                        self.responses.close_streams_after(word);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// Resets a stream whose client does not read its response. Both the client and the library get an RST_STREAM.
    pub(super) fn reset_stream(&mut self, stream: u32) {
        self.stream_closed(stream);
        self.pending.refuse_queued();
        let [a, b, c, d] = stream.to_be_bytes();
        let frame = [0, 0, 4, RST_STREAM, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM];
        self.notices.extend(frame);
        self.injected.extend(frame);
    }

    /// Gives the injected frames to the library. False if there are none.
    pub(super) fn read_injected(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.injected.len().min(buf.remaining());
        buf.put_slice(self.injected.drain(..length).as_slice());
        length > 0
    }

    pub(super) fn close(&self) {
        self.pending.refuse_queued();
    }

    /// Frames of our own that may be written now; `None` in the middle of a frame or a header block.
    pub fn take_notices(&mut self) -> Option<Vec<u8>> {
        let interims = self.pending.interims.has_pending();
        if !interims && self.notices.is_empty() || !self.writing.is_at_boundary() || self.in_written_block {
            return None;
        }
        let mut notices = std::mem::take(&mut self.notices);
        if interims {
            for (stream, frame) in self.pending.interims.take() {
                if self.responses.accepts_interim(stream) {
                    notices.extend(frame);
                }
            }
        }
        Some(notices)
    }

    /// While an interim response waits, a write must end with the current frame, so that the interim response is sent
    /// before the final one.
    pub(super) fn write_limit(&self) -> Option<usize> {
        let remaining = self.writing.remaining();
        (remaining > 0 && self.pending.interims.has_pending()).then_some(remaining)
    }

    /// Whether the client can send more of a body: one has not ended, and no window is closed.
    fn expects_body(&self) -> bool {
        self.window > 0 && self.bodies.iter().any(|body| body.window > 0)
    }

    /// Ready when the client has missed a deadline. For request bodies it must reach the minimum rate times the number of
    /// open bodies, on any of them. `ack_progress` returns what it has acknowledged.
    pub(super) fn poll_timeout(
        &mut self,
        cx: &mut Context<'_>,
        client_limits: &ClientLimits,
        timer: &mut Timer,
        ack_progress: impl Fn() -> Option<AckProgress>,
    ) -> Poll<Overdue> {
        if !self.settings_seen && self.deadline.is_none() {
            self.deadline = Some(Instant::now() + client_limits.header_timeout);
        }
        loop {
            let body = if client_limits.min_rate > 0 && self.expects_body() {
                Some(self.budget.start_waiting())
            } else {
                self.budget.add_progress(0, client_limits.min_rate);
                None
            };
            let request = self.deadline.into_iter().chain(body).min();
            let request = request.map(|at| (at, Some(Overdue::Connection)));
            let response =
                self.responses.deadline(client_limits.min_rate, self.pending.count(), &ack_progress);
            let Some((at, overdue)) = request.into_iter().chain(response).min_by_key(|(at, _)| *at) else {
                return Poll::Pending;
            };
            ready!(timer.poll(cx, at));
            match overdue {
                None => {}
                Some(Overdue::Connection) => return Poll::Ready(Overdue::Connection),
                Some(stream) if self.reading.is_at_boundary() => return Poll::Ready(stream),
                // Nothing can be injected in the middle of a frame: wait for the rest of it.
                Some(_) => {
                    ready!(timer.poll(cx, at + ACK_CHECK_INTERVAL));
                    return Poll::Ready(Overdue::Connection);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "http2_tests.rs"]
pub(super) mod tests;

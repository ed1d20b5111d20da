//! What an HTTP/2 connection owes by when: its preface and settings first, the end of each header block, the
//! bodies of the requests that it has begun, and that it takes its answers.
//!
//! In: the client's octets and ours, as they pass. Out: is it time to close. Everything else about HTTP/2, its floods
//! included, is the `h2` library's, and what it needs to be told is `http2_input`'s. It keeps no byte.

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
/// Octets of one request's body that may be under way to us.
pub const INITIAL_STREAM_WINDOW: u32 = 256 * 1024;
/// What a connection has before it is granted more (RFC 9113 section 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
/// Streams that are followed at a time; the library refuses them long before.
const MAX_STREAMS: usize = 1024;
/// RST_STREAM's code for a stream whose client takes too little of its answer (RFC 9113 section 7).
const ENHANCE_YOUR_CALM: u8 = 11;

/// See the module's description.
#[derive(Debug)]
pub struct Http2 {
    /// Octets of the preface that were seen.
    preface: usize,
    reading: FrameParser,
    writing: FrameParser,
    /// The first frame has begun.
    settings_seen: bool,
    /// A header block has begun and not ended.
    in_block: bool,
    deadline: Option<Instant>,
    /// The last stream that the client opened.
    last_opened: u32,
    /// The last stream that we still take; of others nothing is waited for.
    last_accepted: u32,
    /// Requests whose bodies have not ended.
    bodies: Vec<RequestBody>,
    /// Octets that the client may send on all streams together.
    window: i64,
    budget: MinRateBudget,
    pub(super) buffered: ReadBuffer,
    responses: ResponseWindows,
    pending: Arc<PendingResponses>,
    /// Frames of ours that the client has not been sent.
    notices: Vec<u8>,
    /// A header block of ours has begun and not ended.
    in_written_block: bool,
    /// The same frames, which the library has not read.
    injected: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct RequestBody {
    stream: u32,
    /// Octets that the client may send.
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
    /// Of a connection whose answers wait here.
    #[must_use]
    pub fn new(pending: Arc<PendingResponses>) -> Self {
        Self { pending, ..Self::default() }
    }

    /// Follows octets that were read. Out: how many may pass as they are. It stops before a frame's head that is not
    /// complete, and before a frame that must be seen as a whole.
    ///
    /// # Errors
    /// When the connection does not begin with the preface and a SETTINGS frame, or must end for what it says.
    pub(super) fn track_read(&mut self, bytes: &[u8], client_limits: &ClientLimits) -> Result<usize> {
        let mut at = 0;
        for wanted in PREFACE.iter().skip(self.preface) {
            let Some(byte) = bytes.get(at) else { return Ok(at) };
            if byte != wanted {
                return Err(Error::new(ErrorKind::InvalidData, "no HTTP/2 preface"));
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

    /// Follows a whole frame, whatever it is.
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

    /// Whether a frame begins another field section of a stream that has one.
    pub(super) fn is_trailers(&self, head: &FrameHeader) -> bool {
        head.kind == HEADERS && head.stream <= self.last_opened && self.preface == PREFACE.len()
    }

    /// Whether a frame is the whole head of a request.
    pub(super) fn is_request(&self, head: &FrameHeader) -> bool {
        head.kind == HEADERS
            && head.stream > self.last_opened
            && head.flags & END_HEADERS != 0
            && self.settings_seen
    }

    /// A header block has begun.
    pub(super) fn expect_header_block(&mut self, client_limits: &ClientLimits) {
        self.deadline.get_or_insert_with(|| Instant::now() + client_limits.header_timeout);
    }

    /// Where interim answers of this connection wait.
    pub(super) fn interims(&self) -> &InterimResponses {
        &self.pending.interims
    }

    /// A frame of the client's begins.
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
        let Some(word) = last else { return };
        // A block ends with the last octet of its last frame.
        if !self.in_block {
            self.deadline = None;
        }
        match head.kind {
            DATA if head.flags & END_STREAM != 0 => self.body_ended(head.stream),
            WINDOW_UPDATE => self.responses.add_window(head.stream, word),
            RST_STREAM => self.stream_closed(head.stream),
            _ => {}
        }
    }

    /// Neither side sends anything more on this stream.
    fn stream_closed(&mut self, stream: u32) {
        self.body_ended(stream);
        self.responses.close_stream(stream);
    }

    /// Nothing more of this stream is waited for.
    fn body_ended(&mut self, stream: u32) {
        self.bodies.retain(|body| body.stream != stream);
        if self.bodies.is_empty() {
            self.budget = MinRateBudget::default();
        }
    }

    /// Follows octets that were written: what the client may send, what we no longer want, and what of the answers
    /// has left.
    pub fn track_written(&mut self, mut bytes: &[u8], client_limits: &ClientLimits) {
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

    /// Ends a stream whose client does not take its answer: the library reads a frame as if the client had sent it, and
    /// the client hears the same.
    pub fn reset_stream(&mut self, stream: u32) {
        self.stream_closed(stream);
        self.pending.refuse_queued();
        let [a, b, c, d] = stream.to_be_bytes();
        let frame = [0, 0, 4, RST_STREAM, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM];
        self.notices.extend(frame);
        self.injected.extend(frame);
    }

    /// Gives the library what it has to read before anything of the client's. False when that is nothing.
    pub fn read_injected(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.injected.len().min(buf.remaining());
        buf.put_slice(self.injected.drain(..length).as_slice());
        length > 0
    }

    /// The connection is over.
    pub fn close(&self) {
        self.pending.refuse_queued();
    }

    /// What the client must be told now; nothing while a frame, or a header block, has begun and not ended.
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

    /// How many bytes may be written at once: to the end of the current frame where an interim answer waits for it, so
    /// that it never comes behind the answer.
    pub fn write_limit(&self) -> Option<usize> {
        let rest = self.writing.remaining();
        (rest > 0 && self.pending.interims.has_pending()).then_some(rest)
    }

    /// Whether it is the client's turn to send a body: one has begun, and it may go on.
    fn expects_body(&self) -> bool {
        self.window > 0 && self.bodies.iter().any(|body| body.window > 0)
    }

    /// Ready when the client owes something for too long. It owes the minimum rate for each body that it has
    /// begun, and may send it on whichever it likes. `look` says what it has acknowledged of what was written.
    pub fn poll_timeout(
        &mut self,
        cx: &mut Context<'_>,
        client_limits: &ClientLimits,
        timer: &mut Timer,
        look: impl Fn() -> Option<AckProgress>,
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
            let own = self.deadline.into_iter().chain(body).min();
            let own = own.map(|at| (at, Some(Overdue::Connection)));
            let answer = self.responses.deadline(client_limits.min_rate, self.pending.count(), &look);
            let Some((at, overdue)) = own.into_iter().chain(answer).min_by_key(|(at, _)| *at) else {
                return Poll::Pending;
            };
            ready!(timer.poll(cx, at));
            match overdue {
                None => {}
                Some(Overdue::Connection) => return Poll::Ready(Overdue::Connection),
                Some(stream) if self.reading.is_at_boundary() => return Poll::Ready(stream),
                // The rest of a frame is on its way, and the end of the stream goes behind it.
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

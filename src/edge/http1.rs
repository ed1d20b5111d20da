//! The reading side of an HTTP/1.1 connection: the gate and its buffer in front of Pingora's parser.
//!
//! It passes whole, clean heads and then the body, but no byte beyond the current message: pipelined requests are buffered,
//! so responses cannot be mixed up. Bytes that are clean on arrival pass in the reader's buffer, without a copy.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::ClientLimits;
use super::read_buffer::{READ_CHUNK, ReadBuffer};
use super::timeouts::{MinRateBudget, Timer};
use crate::edge::gate::{self, Gate, GateStage, GateVerdict, HeadRecord, Refusal};

/// Bytes that a client may send before the current response is complete. The rest stays in the socket.
const MAX_PIPELINED_BYTES: usize = 16 * 1024;

/// A client that has closed its side may be gone, or may only have sent its last request. It still gets a response that
/// comes within this time.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

const SLOW_HEAD: Refusal = Refusal { status: 408, reason: "The request's header did not arrive in time." };
const SLOW_BODY: Refusal = Refusal { status: 408, reason: "The request's body arrived too slowly." };

/// What of the current request is still to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Head,
    Body,
    /// Nothing: the response is in progress.
    Response,
    Tunnel,
}

/// The outer error is a failed connection.
pub type ReadResult = Result<std::result::Result<(), ReadEnd>>;

/// Why there are no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The client has closed its side, or sent no request in time.
    Eof,
    /// The request is refused; true if no response has started, so that the refusal can be sent.
    Refused(Refusal, bool),
}

#[derive(Debug, Default)]
pub struct Http1 {
    gate: Gate,
    buffered: ReadBuffer,
    /// `buffered` has bytes that the gate has not inspected.
    has_unchecked: bool,
    phase: Phase,
    had_request: bool,
    /// For the head or its first byte; in [`Phase::Response`], for the response of a half-closed client.
    deadline: Option<Instant>,
    head_started: bool,
    budget: MinRateBudget,
    upgrade_requested: bool,
    /// The whole request passed in one read.
    arrived_at_once: bool,
    response_started: bool,
    read_closed: bool,
}

impl Http1 {
    /// Prepares for the next request. False if the current one was not read to its end, or no other can come.
    pub fn next_request(&mut self, client_limits: &ClientLimits) -> bool {
        let is_at_end = self.read_closed && self.buffered.bytes.is_empty();
        if self.phase != Phase::Response || self.buffered.readable > 0 || is_at_end {
            return false;
        }
        self.phase = Phase::Head;
        self.had_request = true;
        self.deadline = None;
        self.head_started = false;
        self.upgrade_requested = false;
        self.arrived_at_once = false;
        self.response_started = false;
        self.has_unchecked = !self.buffered.bytes.is_empty();
        if self.has_unchecked {
            self.begin_head(client_limits);
        }
        true
    }

    /// Whether input will be left unread. Closing then resets the connection, and the client may lose the response.
    pub fn has_unread_input(&self) -> bool {
        !self.read_closed && (self.phase == Phase::Body || !self.buffered.bytes.is_empty())
    }

    /// Whether Pingora has read the whole request at once. It then polls for input after each write of the response.
    #[must_use]
    pub fn awaits_response_only(&self) -> bool {
        self.arrived_at_once && self.buffered.readable == 0 && self.phase == Phase::Response
    }

    /// Looks in what is written for the final response's head, or for a 101 that opens a tunnel.
    pub fn track_written(&mut self, bytes: &[u8]) {
        if self.response_started {
            return;
        }
        // Pingora writes each head in one piece: `HTTP/1.1 200 ...`.
        let status = if bytes.starts_with(b"HTTP/1.") { bytes.get(9..12) } else { None };
        match status {
            Some(b"101") if self.upgrade_requested => {
                self.gate.tunnel();
                self.phase = Phase::Tunnel;
                self.buffered.readable = self.buffered.bytes.len();
                self.response_started = true;
            }
            Some([b'1', ..]) => {}
            _ => self.response_started = true,
        }
    }

    /// Whether the heads of plain requests can be taken, from the next one on.
    pub fn record_heads(&mut self, is_on: bool) {
        self.gate.record_heads(is_on);
    }

    /// Takes the head that has just passed if its request is plain.
    pub(crate) fn take_plain_head(&mut self) -> Option<(Bytes, Box<HeadRecord>)> {
        let record = self.gate.take_record()?;
        (self.phase == Phase::Response).then(|| (self.buffered.take_readable(), record))
    }

    /// Puts back a head that was taken, for another parser.
    pub fn put_back_head(&mut self, head: &[u8]) {
        let mut bytes = BytesMut::from(head);
        bytes.extend_from_slice(&self.buffered.bytes);
        self.buffered.bytes = bytes;
        self.buffered.readable = head.len();
    }

    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.phase == Phase::Head
    }

    /// Ready when the next head is complete in the buffer. An idle connection needs no read buffer of Pingora's.
    pub fn poll_head<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        client_limits: &ClientLimits,
        timer: &mut Timer,
    ) -> Poll<ReadResult> {
        while self.buffered.readable == 0 {
            if self.has_unchecked {
                self.has_unchecked = false;
                if let Err(refusal) = self.check_buffered(client_limits) {
                    return self.refuse(refusal);
                }
                continue;
            }
            match self.buffered.fill(stream, cx, READ_CHUNK) {
                Poll::Ready(Ok(0)) => return self.end_of_input(),
                Poll::Ready(Ok(bytes)) => {
                    self.body_bytes_read(bytes, client_limits);
                    self.has_unchecked = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_timeout(cx, client_limits, timer),
            }
        }
        Poll::Ready(Ok(Ok(())))
    }

    /// Fills `buf` with bytes that may pass. If it is empty when ready, there will be no more.
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        client_limits: &ClientLimits,
        timer: &mut Timer,
    ) -> Poll<ReadResult> {
        loop {
            if self.buffered.readable > 0 {
                self.buffered.drain_into(buf);
                return Poll::Ready(Ok(Ok(())));
            }
            if self.phase == Phase::Response {
                return self.watch_client(stream, cx, timer);
            }
            if self.phase == Phase::Tunnel {
                return Pin::new(stream).poll_read(cx, buf).map_ok(Ok);
            }
            if self.has_unchecked || !self.buffered.bytes.is_empty() {
                match ready!(self.poll_head(stream, cx, client_limits, timer))? {
                    Ok(()) => continue,
                    end => return Poll::Ready(Ok(end)),
                }
            }
            let before = buf.filled().len();
            match Pin::new(&mut *stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before => return self.end_of_input(),
                Poll::Ready(Ok(())) => match self.check_in_place(buf, before, client_limits) {
                    Ok(0) => continue,
                    Ok(_) => return Poll::Ready(Ok(Ok(()))),
                    Err(refusal) => return self.refuse(refusal),
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_timeout(cx, client_limits, timer),
            }
        }
    }

    /// Inspects what was read into the reader's buffer, leaves there what may pass, and keeps the rest. Returns how many
    /// bytes pass.
    fn check_in_place(
        &mut self,
        buf: &mut ReadBuf<'_>,
        before: usize,
        client_limits: &ClientLimits,
    ) -> std::result::Result<usize, Refusal> {
        let read = buf.filled().get(before..).unwrap_or_default();
        self.body_bytes_read(read.len(), client_limits);
        let (passed, kept) = match self.gate.inspect(read, &client_limits.head_limits) {
            GateVerdict::Pass(bytes) => {
                let (passed, kept) = read.split_at(bytes.min(read.len()));
                self.message_bytes_passed(passed);
                self.has_unchecked = !kept.is_empty();
                (passed.len(), kept)
            }
            GateVerdict::Rewrite(length) => {
                let (head, kept) = read.split_at(length.min(read.len()));
                self.rewrite(head);
                self.has_unchecked = !kept.is_empty();
                (0, kept)
            }
            GateVerdict::Skip(bytes) => {
                let kept = read.get(bytes..).unwrap_or_default();
                self.has_unchecked = !kept.is_empty();
                self.begin_head(client_limits);
                (0, kept)
            }
            GateVerdict::NeedMore => {
                self.begin_head(client_limits);
                (0, read)
            }
            GateVerdict::Refuse(refusal) => {
                buf.set_filled(before);
                return Err(refusal);
            }
        };
        self.buffered.bytes.extend_from_slice(kept);
        buf.set_filled(before + passed);
        Ok(passed)
    }

    fn check_buffered(&mut self, client_limits: &ClientLimits) -> std::result::Result<(), Refusal> {
        match self.gate.inspect(&self.buffered.bytes, &client_limits.head_limits) {
            GateVerdict::Pass(bytes) => {
                self.buffered.readable = bytes.min(self.buffered.bytes.len());
                let buffered = std::mem::take(&mut self.buffered.bytes);
                self.message_bytes_passed(buffered.get(..self.buffered.readable).unwrap_or_default());
                self.buffered.bytes = buffered;
                self.has_unchecked = self.buffered.readable < self.buffered.bytes.len();
            }
            GateVerdict::Rewrite(length) => {
                let buffered = std::mem::take(&mut self.buffered.bytes);
                let (head, rest) = buffered.split_at(length.min(buffered.len()));
                self.rewrite(head);
                self.buffered.bytes.extend_from_slice(rest);
                self.has_unchecked = !rest.is_empty();
            }
            GateVerdict::Skip(bytes) => {
                self.buffered.bytes.advance(bytes.min(self.buffered.bytes.len()));
                self.has_unchecked = !self.buffered.bytes.is_empty();
                self.begin_head(client_limits);
            }
            GateVerdict::NeedMore => self.begin_head(client_limits),
            GateVerdict::Refuse(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Buffers the rewritten head in place of this one. The buffer must be empty.
    fn rewrite(&mut self, head: &[u8]) {
        let head = gate::rewrite_head(head);
        self.message_bytes_passed(&head);
        self.buffered.readable = head.len();
        self.buffered.bytes.extend_from_slice(&head);
    }

    fn message_bytes_passed(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Head {
            self.upgrade_requested = has_upgrade(bytes);
            self.deadline = None;
            // A sequence of small bodies, each just after its head, is not one slow body.
            self.budget = MinRateBudget::default();
        }
        let is_complete = self.gate.stage() != GateStage::Body;
        self.arrived_at_once = is_complete && self.phase == Phase::Head;
        self.phase = if is_complete { Phase::Response } else { Phase::Body };
    }

    /// During a response: buffers what the client sends ahead, and notices when it closes.
    fn watch_client<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        timer: &mut Timer,
    ) -> Poll<ReadResult> {
        while !self.read_closed && self.buffered.bytes.len() < MAX_PIPELINED_BYTES {
            let room = READ_CHUNK.min(MAX_PIPELINED_BYTES - self.buffered.bytes.len());
            self.read_closed = ready!(self.buffered.fill(stream, cx, room))? == 0;
        }
        if self.read_closed {
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + HALF_CLOSED_TIMEOUT);
            ready!(timer.poll(cx, deadline));
            return self.end_of_input();
        }
        // With a full buffer no waker is registered; the next request reads again.
        Poll::Pending
    }

    fn begin_head(&mut self, client_limits: &ClientLimits) {
        if self.phase == Phase::Head && !self.head_started {
            self.head_started = true;
            self.deadline = Some(Instant::now() + client_limits.header_timeout);
        }
    }

    fn body_bytes_read(&mut self, bytes: usize, client_limits: &ClientLimits) {
        if self.phase == Phase::Body {
            self.budget.add_progress(bytes, client_limits.min_rate);
        }
    }

    fn end_of_input(&mut self) -> Poll<ReadResult> {
        self.read_closed = true;
        Poll::Ready(Ok(Err(ReadEnd::Eof)))
    }

    fn refuse(&self, refusal: Refusal) -> Poll<ReadResult> {
        Poll::Ready(Ok(Err(ReadEnd::Refused(refusal, !self.response_started))))
    }

    fn poll_timeout(
        &mut self,
        cx: &mut Context<'_>,
        client_limits: &ClientLimits,
        timer: &mut Timer,
    ) -> Poll<ReadResult> {
        if self.phase == Phase::Body {
            if client_limits.min_rate == 0 {
                return Poll::Pending;
            }
            let deadline = self.budget.start_waiting();
            ready!(timer.poll(cx, deadline));
            return self.refuse(SLOW_BODY);
        }
        let timeout =
            if self.had_request { client_limits.idle_timeout } else { client_limits.header_timeout };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + timeout);
        ready!(timer.poll(cx, deadline));
        if self.head_started { self.refuse(SLOW_HEAD) } else { Poll::Ready(Ok(Err(ReadEnd::Eof))) }
    }
}

/// Whether a head that has passed the gate has the field `Upgrade`.
fn has_upgrade(head: &[u8]) -> bool {
    const UPGRADE_FIELD: &[u8] = b"upgrade:";
    memchr::memchr_iter(b'\n', head).any(|end| {
        head.get(end + 1..end + 1 + UPGRADE_FIELD.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(UPGRADE_FIELD))
    })
}

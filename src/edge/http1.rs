//! The reading side of an HTTP/1.1 connection: the gate and its buffer in front of Pingora's parser.
//!
//! In: the client's octets as they are read. Out: heads that are whole and clean, bodies in order, and never an
//! octet beyond the current message: what a client sends ahead is held until its turn, so answers are never
//! mixed. Octets that are clean when they arrive pass in the reader's own buffer, without a copy.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::ClientLimits;
use super::read_buffer::{READ_CHUNK, ReadBuffer};
use super::timeouts::{MinRateBudget, Timer};
use crate::edge::gate::{self, Gate, GateStage, GateVerdict, Refusal};

/// Octets that a client may send ahead of an answer; the rest waits in its own system.
const MAX_PIPELINED_BYTES: usize = 16 * 1024;

/// A client that has closed its side may be gone, or may have said all that it wants to say: it gets an answer that
/// comes so soon. Later the server's work would be for nobody.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

const SLOW_HEAD: Refusal = Refusal { status: 408, reason: "The request's head did not arrive in time." };
const SLOW_BODY: Refusal = Refusal { status: 408, reason: "The request's body arrived too slowly." };

/// Where the current request is, as far as reading goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its head has not passed.
    Head,
    /// Some of its body has not passed.
    Body,
    /// It has passed as a whole; its answer is awaited.
    Response,
    /// It has become a tunnel.
    Tunnel,
}

/// Octets were given out, or this came instead; or the connection failed.
pub type ReadResult = Result<std::result::Result<(), ReadEnd>>;

/// What reading came to, besides octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The client has said all that it will say, or we have waited long enough for it to begin.
    Eof,
    /// The client must hear this; true where it still can be, before any octet of an answer.
    Refused(Refusal, bool),
}

/// See the module's description.
#[derive(Debug)]
pub struct Http1 {
    gate: Gate,
    buffered: ReadBuffer,
    /// Some of the rest was not looked at yet.
    has_unchecked: bool,
    phase: Phase,
    /// No request came before this one.
    is_first_request: bool,
    /// By when the head must be there, or its first octet.
    deadline: Option<Instant>,
    head_started: bool,
    budget: MinRateBudget,
    upgrade_requested: bool,
    /// The current request has passed, and it passed in one piece.
    arrived_at_once: bool,
    response_started: bool,
    /// The client has closed its side.
    read_closed: bool,
}

impl Default for Http1 {
    fn default() -> Self {
        Self {
            gate: Gate::new(),
            buffered: ReadBuffer::default(),
            has_unchecked: false,
            phase: Phase::Head,
            is_first_request: true,
            deadline: None,
            head_started: false,
            budget: MinRateBudget::default(),
            upgrade_requested: false,
            arrived_at_once: false,
            response_started: false,
            read_closed: false,
        }
    }
}

impl Http1 {
    /// The answer is complete: on to the next request. False if this one was not read to its end.
    pub fn next_request(&mut self, client_limits: &ClientLimits) -> bool {
        let nothing_left = self.read_closed && self.buffered.bytes.is_empty();
        if self.phase != Phase::Response || self.buffered.readable > 0 || nothing_left {
            return false;
        }
        self.phase = Phase::Head;
        self.is_first_request = false;
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

    /// Something that the client has sent, or is about to send, will not be read: closing at once would reset
    /// the connection, and the answer with it.
    pub fn has_unread_input(&self) -> bool {
        !self.read_closed && (self.phase == Phase::Body || !self.buffered.bytes.is_empty())
    }

    /// Whoever reads has the whole request, and got it at once: for the rest of the answer it asks after each write whether
    /// the client is still there.
    #[must_use]
    pub fn awaits_response_only(&self) -> bool {
        self.arrived_at_once && self.buffered.readable == 0 && self.phase == Phase::Response
    }

    /// What goes to the client: a head that ends the waiting, or opens the tunnel.
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

    /// The head has not passed yet, so nobody else has seen this request.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.phase == Phase::Head
    }

    /// Waits until something may pass that is held here: the next head as a whole. So a client that says nothing
    /// costs no more than this.
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

    /// Fills `buf` with octets that may pass. Nothing in it when ready means that there will be no more.
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
                Poll::Ready(Ok(())) => {
                    let passed = self.check_in_place(buf, before, client_limits);
                    match passed {
                        Ok(0) => continue,
                        Ok(_) => return Poll::Ready(Ok(Ok(()))),
                        Err(refusal) => return self.refuse(refusal),
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_timeout(cx, client_limits, timer),
            }
        }
    }

    /// Looks at what was just read into the reader's own buffer, leaves there what may pass, and holds the
    /// rest. Out: how much passes.
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

    /// Holds, with nothing before it, what may go in place of this head.
    fn rewrite(&mut self, head: &[u8]) {
        let head = gate::rewrite_head(head);
        self.message_bytes_passed(&head);
        self.buffered.readable = head.len();
        self.buffered.bytes.extend_from_slice(&head);
    }

    /// These octets of the current message may go.
    fn message_bytes_passed(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Head {
            self.upgrade_requested = has_upgrade(bytes);
            self.deadline = None;
            // Small bodies that come a moment after their heads, one after another, are not one slow body.
            self.budget = MinRateBudget::default();
        }
        let whole = self.gate.stage() != GateStage::Body;
        self.arrived_at_once = whole && self.phase == Phase::Head;
        self.phase = if whole { Phase::Response } else { Phase::Body };
    }

    /// While an answer is under way: holds what the client sends ahead, and sees that it goes.
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
        // Nobody wakes this up, and nobody needs to: the next request asks by itself.
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

    /// Nothing is there to read and it is the client's turn.
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
            if self.is_first_request { client_limits.header_timeout } else { client_limits.idle_timeout };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + timeout);
        ready!(timer.poll(cx, deadline));
        if self.head_started { self.refuse(SLOW_HEAD) } else { Poll::Ready(Ok(Err(ReadEnd::Eof))) }
    }
}

/// Whether a whole clean head has the field `Upgrade`.
fn has_upgrade(head: &[u8]) -> bool {
    const UPGRADE_FIELD: &[u8] = b"upgrade:";
    memchr::memchr_iter(b'\n', head).any(|end| {
        head.get(end + 1..end + 1 + UPGRADE_FIELD.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(UPGRADE_FIELD))
    })
}

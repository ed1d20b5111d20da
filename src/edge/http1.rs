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

use super::Rules;
use super::held::{Held, PIECE};
use super::patience::{Timer, Turn};
use crate::edge::gate::{self, Gate, Refusal, Stage, Verdict};

/// Octets that a client may send ahead of an answer; the rest waits in its own system.
const AHEAD: usize = 16 * 1024;

/// A client that has closed its side may be gone, or may have said all that it wants to say: it gets an answer that
/// comes so soon. Later the server's work would be for nobody.
const CLOSED: Duration = Duration::from_secs(2);

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
    Answer,
    /// It has become a tunnel.
    Tunnel,
}

/// Octets were given out, or this came instead; or the connection failed.
pub type Read = Result<std::result::Result<(), End>>;

/// What reading came to, besides octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has said all that it will say, or we have waited long enough for it to begin.
    Quiet,
    /// The client must hear this; true where it still can be, before any octet of an answer.
    Refused(Refusal, bool),
}

/// See the module's description.
#[derive(Debug)]
pub struct Http1 {
    gate: Gate,
    held: Held,
    /// Some of the rest was not looked at yet.
    news: bool,
    phase: Phase,
    /// No request came before this one.
    first: bool,
    /// By when the head must be there, or its first octet.
    deadline: Option<Instant>,
    head_begun: bool,
    turn: Turn,
    wants_upgrade: bool,
    /// The current request has passed, and it passed in one piece.
    in_one_piece: bool,
    answer_begun: bool,
    /// The client has closed its side.
    ended: bool,
}

impl Default for Http1 {
    fn default() -> Self {
        Self {
            gate: Gate::new(),
            held: Held::default(),
            news: false,
            phase: Phase::Head,
            first: true,
            deadline: None,
            head_begun: false,
            turn: Turn::default(),
            wants_upgrade: false,
            in_one_piece: false,
            answer_begun: false,
            ended: false,
        }
    }
}

impl Http1 {
    /// The answer is complete: on to the next request. False if this one was not read to its end.
    pub fn next_request(&mut self, rules: &Rules) -> bool {
        let said_all = self.ended && self.held.bytes.is_empty();
        if self.phase != Phase::Answer || self.held.clean > 0 || said_all {
            return false;
        }
        self.phase = Phase::Head;
        self.first = false;
        self.deadline = None;
        self.head_begun = false;
        self.wants_upgrade = false;
        self.in_one_piece = false;
        self.answer_begun = false;
        self.news = !self.held.bytes.is_empty();
        if self.news {
            self.begin_head(rules);
        }
        true
    }

    /// Something that the client has sent, or is about to send, will not be read: closing at once would reset
    /// the connection, and the answer with it.
    pub fn leaves_something_unread(&self) -> bool {
        !self.ended && (self.phase == Phase::Body || !self.held.bytes.is_empty())
    }

    /// Whoever reads has the whole request, and got it at once: for the rest of the answer it asks after each write whether
    /// the client is still there.
    #[must_use]
    pub fn only_answers(&self) -> bool {
        self.in_one_piece && self.held.clean == 0 && self.phase == Phase::Answer
    }

    /// What goes to the client: a head that ends the waiting, or opens the tunnel.
    pub fn wrote(&mut self, octets: &[u8]) {
        if self.answer_begun {
            return;
        }
        // Pingora writes each head in one piece: `HTTP/1.1 200 ...`.
        let status = if octets.starts_with(b"HTTP/1.") { octets.get(9..12) } else { None };
        match status {
            Some(b"101") if self.wants_upgrade => {
                self.gate.tunnel();
                self.phase = Phase::Tunnel;
                self.held.clean = self.held.bytes.len();
                self.answer_begun = true;
            }
            Some([b'1', ..]) => {}
            _ => self.answer_begun = true,
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
        rules: &Rules,
        timer: &mut Timer,
    ) -> Poll<Read> {
        while self.held.clean == 0 {
            if self.news {
                self.news = false;
                if let Err(refusal) = self.look_at_held(rules) {
                    return self.refuse(refusal);
                }
                continue;
            }
            match self.held.read_behind(stream, cx, PIECE) {
                Poll::Ready(Ok(0)) => return self.end(),
                Poll::Ready(Ok(octets)) => {
                    self.moved(octets, rules);
                    self.news = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_patience(cx, rules, timer),
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
        rules: &Rules,
        timer: &mut Timer,
    ) -> Poll<Read> {
        loop {
            if self.held.clean > 0 {
                self.held.give(buf);
                return Poll::Ready(Ok(Ok(())));
            }
            if self.phase == Phase::Answer {
                return self.watch(stream, cx, timer);
            }
            if self.phase == Phase::Tunnel {
                return Pin::new(stream).poll_read(cx, buf).map_ok(Ok);
            }
            if self.news || !self.held.bytes.is_empty() {
                match ready!(self.poll_head(stream, cx, rules, timer))? {
                    Ok(()) => continue,
                    end => return Poll::Ready(Ok(end)),
                }
            }
            let before = buf.filled().len();
            match Pin::new(&mut *stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before => return self.end(),
                Poll::Ready(Ok(())) => {
                    let passed = self.look_in_place(buf, before, rules);
                    match passed {
                        Ok(0) => continue,
                        Ok(_) => return Poll::Ready(Ok(Ok(()))),
                        Err(refusal) => return self.refuse(refusal),
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_patience(cx, rules, timer),
            }
        }
    }

    /// Looks at what was just read into the reader's own buffer, leaves there what may pass, and holds the
    /// rest. Out: how much passes.
    fn look_in_place(
        &mut self,
        buf: &mut ReadBuf<'_>,
        before: usize,
        rules: &Rules,
    ) -> std::result::Result<usize, Refusal> {
        let read = buf.filled().get(before..).unwrap_or_default();
        self.moved(read.len(), rules);
        let (passed, kept) = match self.gate.look(read, &rules.head) {
            Verdict::Pass(octets) => {
                let (passed, kept) = read.split_at(octets.min(read.len()));
                self.passed(passed);
                self.news = !kept.is_empty();
                (passed.len(), kept)
            }
            Verdict::Rewrite(length) => {
                let (head, kept) = read.split_at(length.min(read.len()));
                self.rewrite(head);
                self.news = !kept.is_empty();
                (0, kept)
            }
            Verdict::Skip(octets) => {
                let kept = read.get(octets..).unwrap_or_default();
                self.news = !kept.is_empty();
                self.begin_head(rules);
                (0, kept)
            }
            Verdict::More => {
                self.begin_head(rules);
                (0, read)
            }
            Verdict::Refuse(refusal) => {
                buf.set_filled(before);
                return Err(refusal);
            }
        };
        self.held.bytes.extend_from_slice(kept);
        buf.set_filled(before + passed);
        Ok(passed)
    }

    fn look_at_held(&mut self, rules: &Rules) -> std::result::Result<(), Refusal> {
        match self.gate.look(&self.held.bytes, &rules.head) {
            Verdict::Pass(octets) => {
                self.held.clean = octets.min(self.held.bytes.len());
                let held = std::mem::take(&mut self.held.bytes);
                self.passed(held.get(..self.held.clean).unwrap_or_default());
                self.held.bytes = held;
                self.news = self.held.clean < self.held.bytes.len();
            }
            Verdict::Rewrite(length) => {
                let held = std::mem::take(&mut self.held.bytes);
                let (head, rest) = held.split_at(length.min(held.len()));
                self.rewrite(head);
                self.held.bytes.extend_from_slice(rest);
                self.news = !rest.is_empty();
            }
            Verdict::Skip(octets) => {
                self.held.bytes.advance(octets.min(self.held.bytes.len()));
                self.news = !self.held.bytes.is_empty();
                self.begin_head(rules);
            }
            Verdict::More => self.begin_head(rules),
            Verdict::Refuse(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Holds, with nothing before it, what may go in place of this head.
    fn rewrite(&mut self, head: &[u8]) {
        let head = gate::rewritten(head);
        self.passed(&head);
        self.held.clean = head.len();
        self.held.bytes.extend_from_slice(&head);
    }

    /// These octets of the current message may go.
    fn passed(&mut self, octets: &[u8]) {
        if self.phase == Phase::Head {
            self.wants_upgrade = has_upgrade(octets);
            self.deadline = None;
            // Small bodies that come a moment after their heads, one after another, are not one slow body.
            self.turn = Turn::default();
        }
        let whole = self.gate.stage() != Stage::Body;
        self.in_one_piece = whole && self.phase == Phase::Head;
        self.phase = if whole { Phase::Answer } else { Phase::Body };
    }

    /// While an answer is under way: holds what the client sends ahead, and sees that it goes.
    fn watch<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        timer: &mut Timer,
    ) -> Poll<Read> {
        while !self.ended && self.held.bytes.len() < AHEAD {
            let room = PIECE.min(AHEAD - self.held.bytes.len());
            self.ended = ready!(self.held.read_behind(stream, cx, room))? == 0;
        }
        if self.ended {
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + CLOSED);
            ready!(timer.poll(cx, deadline));
            return self.end();
        }
        // Nobody wakes this up, and nobody needs to: the next request asks by itself.
        Poll::Pending
    }

    fn begin_head(&mut self, rules: &Rules) {
        if self.phase == Phase::Head && !self.head_begun {
            self.head_begun = true;
            self.deadline = Some(Instant::now() + rules.header_timeout);
        }
    }

    fn moved(&mut self, octets: usize, rules: &Rules) {
        if self.phase == Phase::Body {
            self.turn.moved(octets, rules.min_rate);
        }
    }

    fn end(&mut self) -> Poll<Read> {
        self.ended = true;
        Poll::Ready(Ok(Err(End::Quiet)))
    }

    fn refuse(&self, refusal: Refusal) -> Poll<Read> {
        Poll::Ready(Ok(Err(End::Refused(refusal, !self.answer_begun))))
    }

    /// Nothing is there to read and it is the client's turn.
    fn poll_patience(&mut self, cx: &mut Context<'_>, rules: &Rules, timer: &mut Timer) -> Poll<Read> {
        if self.phase == Phase::Body {
            if rules.min_rate == 0 {
                return Poll::Pending;
            }
            let deadline = self.turn.wait();
            ready!(timer.poll(cx, deadline));
            return self.refuse(SLOW_BODY);
        }
        let patience = if self.first { rules.header_timeout } else { rules.idle_timeout };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + patience);
        ready!(timer.poll(cx, deadline));
        if self.head_begun { self.refuse(SLOW_HEAD) } else { Poll::Ready(Ok(Err(End::Quiet))) }
    }
}

/// Whether a whole clean head has the field `Upgrade`.
fn has_upgrade(head: &[u8]) -> bool {
    const FIELD: &[u8] = b"upgrade:";
    memchr::memchr_iter(b'\n', head).any(|end| {
        head.get(end + 1..end + 1 + FIELD.len()).is_some_and(|name| name.eq_ignore_ascii_case(FIELD))
    })
}

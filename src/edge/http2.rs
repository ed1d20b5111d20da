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

use super::Rules;
use super::answers::{Answers, Overdue};
use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Head, RST_STREAM, SETTINGS,
    Step, WINDOW_UPDATE,
};
use super::held::Held;
use super::interim::Interims;
use super::patience::{Acknowledged, LOOK_INTERVAL, Timer, Turn};
use super::waiting::Waiting;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of one request's body that may be under way to us.
pub const WINDOW: u32 = 256 * 1024;
/// What a connection has before it is granted more (RFC 9113 section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;
/// Streams that are followed at a time; the library refuses them long before.
const MAX_STREAMS: usize = 1024;
/// RST_STREAM's code for a stream whose client takes too little of its answer (RFC 9113 section 7).
const ENHANCE_YOUR_CALM: u8 = 11;

/// See the module's description.
#[derive(Debug)]
pub struct Http2 {
    /// Octets of the preface that were seen.
    preface: usize,
    reading: Frames,
    writing: Frames,
    /// The first frame has begun.
    opened: bool,
    /// A header block has begun and not ended.
    in_block: bool,
    deadline: Option<Instant>,
    /// The last stream that the client opened.
    newest: u32,
    /// The last stream that we still take; of others nothing is waited for.
    last: u32,
    /// Requests whose bodies have not ended.
    bodies: Vec<Body>,
    /// Octets that the client may send on all streams together.
    window: i64,
    turn: Turn,
    pub(super) held: Held,
    answers: Answers,
    waiting: Arc<Waiting>,
    /// Frames of ours that the client has not been sent.
    notices: Vec<u8>,
    /// A header block of ours has begun and not ended.
    writing_block: bool,
    /// The same frames, which the library has not read.
    injected: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    stream: u32,
    /// Octets that the client may send.
    window: i64,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            preface: 0,
            reading: Frames::default(),
            writing: Frames::default(),
            opened: false,
            in_block: false,
            deadline: None,
            newest: 0,
            last: u32::MAX,
            bodies: Vec::new(),
            window: FIRST_WINDOW,
            turn: Turn::default(),
            held: Held::default(),
            answers: Answers::default(),
            waiting: Arc::default(),
            notices: Vec::new(),
            writing_block: false,
            injected: Vec::new(),
        }
    }
}

impl Http2 {
    /// Of a connection whose answers wait here.
    #[must_use]
    pub fn new(waiting: Arc<Waiting>) -> Self {
        Self { waiting, ..Self::default() }
    }

    /// Follows octets that were read. Out: how many may pass as they are. It stops before a frame's head that is not
    /// complete, and before a frame that must be seen as a whole.
    ///
    /// # Errors
    /// When the connection does not begin with the preface and a SETTINGS frame, or must end for what it says.
    pub(super) fn follow(&mut self, octets: &[u8], rules: &Rules) -> Result<usize> {
        let mut at = 0;
        for wanted in PREFACE.iter().skip(self.preface) {
            let Some(octet) = octets.get(at) else { return Ok(at) };
            if octet != wanted {
                return Err(Error::new(ErrorKind::InvalidData, "no HTTP/2 preface"));
            }
            (at, self.preface) = (at + 1, self.preface + 1);
        }
        while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
            if self.reading.is_between() {
                let Some(head) = Head::of(rest) else { break };
                if self.is_trailers(&head) || self.is_request(&head) {
                    break;
                }
            }
            at += self.step(rest, rules)?;
        }
        Ok(at)
    }

    /// Follows a whole frame, whatever it is.
    pub(super) fn follow_all(&mut self, frame: &[u8], rules: &Rules) -> Result<()> {
        let mut at = 0;
        while let Some(rest) = frame.get(at..).filter(|rest| !rest.is_empty()) {
            at += self.step(rest, rules)?;
        }
        Ok(())
    }

    fn step(&mut self, octets: &[u8], rules: &Rules) -> Result<usize> {
        let (taken, step) = self.reading.next(octets);
        match step {
            Some(Step::Head(head)) => self.head(head, rules)?,
            Some(Step::Payload(head, length, last)) => {
                if head.kind == SETTINGS && head.flags & ACK == 0 {
                    self.answers.settings_bytes(octets.get(..taken).unwrap_or_default());
                    self.waiting.initial_window(self.answers.initial_window_size());
                }
                self.payload(head, length, last, rules);
            }
            None => {}
        }
        Ok(taken)
    }

    /// Whether a frame begins another field section of a stream that has one.
    pub(super) fn is_trailers(&self, head: &Head) -> bool {
        head.kind == HEADERS && head.stream <= self.newest && self.preface == PREFACE.len()
    }

    /// Whether a frame is the whole head of a request.
    pub(super) fn is_request(&self, head: &Head) -> bool {
        head.kind == HEADERS && head.stream > self.newest && head.flags & END_HEADERS != 0 && self.opened
    }

    /// A header block has begun.
    pub(super) fn owes_a_block(&mut self, rules: &Rules) {
        self.deadline.get_or_insert_with(|| Instant::now() + rules.header_timeout);
    }

    /// Where interim answers of this connection wait.
    pub(super) fn interims(&self) -> &Interims {
        &self.waiting.interims
    }

    /// A frame of the client's begins.
    fn head(&mut self, head: Head, rules: &Rules) -> Result<()> {
        let Head { length, kind, flags, stream } = head;
        if !self.opened {
            if kind != SETTINGS {
                return Err(Error::new(ErrorKind::InvalidData, "the first HTTP/2 frame is not SETTINGS"));
            }
            self.opened = true;
            self.deadline = None;
        }
        if kind == HEADERS || kind == CONTINUATION {
            if !self.in_block {
                self.deadline = Some(Instant::now() + rules.header_timeout);
            }
            self.in_block = flags & END_HEADERS == 0;
        }
        let is_trailers = self.is_trailers(&head);
        if kind == HEADERS && !is_trailers {
            self.newest = stream;
            if stream <= self.last {
                if !self.answers.opened(stream, MAX_STREAMS) {
                    return Err(Error::new(ErrorKind::InvalidData, "too many HTTP/2 streams"));
                }
                if flags & END_STREAM == 0 {
                    self.bodies.push(Body { stream, window: i64::from(WINDOW) });
                }
            }
        } else if is_trailers {
            self.end(stream);
        } else if kind == SETTINGS {
            self.answers.settings();
        }
        if length == 0 {
            self.payload(head, 0, Some(0), rules);
        }
        Ok(())
    }

    fn payload(&mut self, head: Head, octets: usize, last: Option<u32>, rules: &Rules) {
        if head.kind == DATA && octets > 0 {
            self.turn.moved(octets, rules.min_rate.saturating_mul(self.bodies.len().max(1) as u64));
            let octets = i64::try_from(octets).unwrap_or(i64::MAX);
            self.window -= octets;
            if let Some(body) = self.bodies.iter_mut().find(|body| body.stream == head.stream) {
                body.window -= octets;
            }
        }
        let Some(word) = last else { return };
        // A block ends with the last octet of its last frame.
        if !self.in_block {
            self.deadline = None;
        }
        match head.kind {
            DATA if head.flags & END_STREAM != 0 => self.end(head.stream),
            WINDOW_UPDATE => self.answers.granted(head.stream, word),
            RST_STREAM => self.reset(head.stream),
            _ => {}
        }
    }

    /// Neither side sends anything more on this stream.
    fn reset(&mut self, stream: u32) {
        self.end(stream);
        self.answers.ended(stream);
    }

    /// Nothing more of this stream is waited for.
    fn end(&mut self, stream: u32) {
        self.bodies.retain(|body| body.stream != stream);
        if self.bodies.is_empty() {
            self.turn = Turn::default();
        }
    }

    /// Follows octets that were written: what the client may send, what we no longer want, and what of the answers
    /// has left.
    pub fn wrote(&mut self, mut octets: &[u8], rules: &Rules) {
        while !octets.is_empty() {
            let (taken, step) = self.writing.next(octets);
            octets = octets.get(taken..).unwrap_or_default();
            match step {
                Some(Step::Head(Head { kind: CONTINUATION, flags, .. })) => {
                    self.writing_block = flags & END_HEADERS == 0;
                }
                Some(Step::Head(Head { kind: kind @ (HEADERS | DATA), flags, stream, .. })) => {
                    if kind == HEADERS {
                        self.answers.begun(stream);
                        self.writing_block = flags & END_HEADERS == 0;
                    }
                    if flags & END_STREAM != 0 {
                        self.reset(stream);
                    }
                }
                Some(Step::Payload(Head { kind: DATA, stream, .. }, taken, _)) => {
                    self.answers.sent(stream, taken, rules.min_rate, self.waiting.answers());
                }
                Some(Step::Payload(Head { kind, stream, .. }, _, Some(word))) => match kind {
                    WINDOW_UPDATE if stream == 0 => self.window += i64::from(word),
                    WINDOW_UPDATE => {
                        if let Some(body) = self.bodies.iter_mut().find(|body| body.stream == stream) {
                            body.window += i64::from(word);
                        }
                    }
                    RST_STREAM => self.reset(stream),
                    GOAWAY => {
                        self.last = word;
                        self.bodies.retain(|body| body.stream <= word);
                        self.answers.ended_after(word);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// Ends a stream whose client does not take its answer: the library reads a frame as if the client had sent it, and
    /// the client hears the same.
    pub fn end_stream(&mut self, stream: u32) {
        self.reset(stream);
        self.waiting.refuse();
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
        self.waiting.refuse();
    }

    /// What the client must be told now; nothing while a frame, or a header block, has begun and not ended.
    pub fn take_notices(&mut self) -> Option<Vec<u8>> {
        let interims = self.waiting.interims.wait();
        if !interims && self.notices.is_empty() || !self.writing.is_between() || self.writing_block {
            return None;
        }
        let mut notices = std::mem::take(&mut self.notices);
        if interims {
            for (stream, frame) in self.waiting.interims.take() {
                if self.answers.takes_interim(stream) {
                    notices.extend(frame);
                }
            }
        }
        Some(notices)
    }

    /// How many bytes may be written at once: to the end of the current frame where an interim answer waits for it, so
    /// that it never comes behind the answer.
    pub fn write_limit(&self) -> Option<usize> {
        let rest = self.writing.rest();
        (rest > 0 && self.waiting.interims.wait()).then_some(rest)
    }

    /// Whether it is the client's turn to send a body: one has begun, and it may go on.
    fn owes_a_body(&self) -> bool {
        self.window > 0 && self.bodies.iter().any(|body| body.window > 0)
    }

    /// Ready when the client owes something for too long. It owes the minimum rate for each body that it has
    /// begun, and may send it on whichever it likes. `look` says what it has acknowledged of what was written.
    pub fn poll_patience(
        &mut self,
        cx: &mut Context<'_>,
        rules: &Rules,
        timer: &mut Timer,
        look: impl Fn() -> Option<Acknowledged>,
    ) -> Poll<Overdue> {
        if !self.opened && self.deadline.is_none() {
            self.deadline = Some(Instant::now() + rules.header_timeout);
        }
        loop {
            let body = if rules.min_rate > 0 && self.owes_a_body() {
                Some(self.turn.wait())
            } else {
                self.turn.moved(0, rules.min_rate);
                None
            };
            let own = self.deadline.into_iter().chain(body).min();
            let own = own.map(|at| (at, Some(Overdue::Connection)));
            let answer = self.answers.deadline(rules.min_rate, self.waiting.answers(), &look);
            let Some((at, overdue)) = own.into_iter().chain(answer).min_by_key(|(at, _)| *at) else {
                return Poll::Pending;
            };
            ready!(timer.poll(cx, at));
            match overdue {
                None => {}
                Some(Overdue::Connection) => return Poll::Ready(Overdue::Connection),
                Some(stream) if self.reading.is_between() => return Poll::Ready(stream),
                // The rest of a frame is on its way, and the end of the stream goes behind it.
                Some(_) => {
                    ready!(timer.poll(cx, at + LOOK_INTERVAL));
                    return Poll::Ready(Overdue::Connection);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "http2_tests.rs"]
pub(super) mod tests;

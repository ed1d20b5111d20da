//! The answers of an HTTP/2 connection, and how long their client may keep each of them waiting.
//!
//! In: what both sides say about windows, what of the answers leaves, and how many answers have bytes that wait
//! ([`super::waiting`]). Out: the stream, or the connection, whose client takes less than the minimum rate. The `h2`
//! library knows the windows too, but tells nobody.
//!
//! A stream whose own window is closed is held to the minimum rate by itself: however little it is granted, only the
//! bytes that leave buy time. Where the connection's window is closed the library shares it out in turn, so the
//! connection owes the rate of all answers that wait. A silent server costs nobody anything: its answer has no bytes
//! that wait.

use tokio::time::Instant;

use super::patience::{Acknowledged, Acknowledgements, LOOK_INTERVAL, Turn};

/// What is sent before anything was granted (RFC 9113 section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;
const INITIAL_WINDOW_SIZE: u16 = 4;
const HEADER_TABLE_SIZE: u16 = 1;
/// What it is before it was set.
const FIRST_TABLE_SIZE: u32 = 4096;
/// Bytes of one entry of a SETTINGS frame.
const ENTRY: usize = 6;
/// Without the reserved bit.
const NUMBER: u32 = 0x7fff_ffff;

/// Whose client takes too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Of this stream.
    Stream(u32),
    /// Of all streams together.
    Connection,
}

/// The answers of one connection that are under way to its client.
#[derive(Debug)]
pub struct Answers {
    /// What a new stream may be sent: the client's SETTINGS_INITIAL_WINDOW_SIZE.
    initial: i64,
    /// What all streams together may be sent.
    window: i64,
    turn: Turn,
    open: Vec<Answer>,
    /// Bytes of DATA that left so far.
    sent: u64,
    /// The entry of a SETTINGS frame that is being read.
    entry: [u8; ENTRY],
    seen: usize,
    /// The client wants a smaller table for fields, which the next block of fields must acknowledge.
    small_table: bool,
    acknowledgements: Acknowledgements,
}

#[derive(Debug)]
struct Answer {
    stream: u32,
    window: i64,
    /// Its head has left.
    begun: bool,
    turn: Turn,
    /// What all answers had sent when this one last did.
    sent: u64,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            initial: FIRST_WINDOW,
            window: FIRST_WINDOW,
            turn: Turn::default(),
            open: Vec::new(),
            sent: 0,
            entry: [0; ENTRY],
            seen: 0,
            small_table: false,
            acknowledgements: Acknowledgements::default(),
        }
    }
}

impl Answers {
    /// The client opened a stream. False when it has too many of them.
    #[must_use]
    pub fn opened(&mut self, stream: u32, most: usize) -> bool {
        let (window, turn) = (self.initial, Turn::default());
        self.open.push(Answer { stream, window, begun: false, turn, sent: 0 });
        self.open.len() <= most
    }

    /// Whether an interim answer may stand on this stream: its request has begun, and its answer has not. Only the
    /// library can begin a block where the table's size changes.
    #[must_use]
    pub fn takes_interim(&self, stream: u32) -> bool {
        !self.small_table && self.open.iter().any(|answer| answer.stream == stream && !answer.begun)
    }

    /// Nothing more is sent on this stream.
    pub fn ended(&mut self, stream: u32) {
        if let Some(at) = self.open.iter().position(|answer| answer.stream == stream) {
            self.open.swap_remove(at);
        }
    }

    /// Nothing is sent on any stream behind this one.
    pub fn ended_after(&mut self, last: u32) {
        self.open.retain(|answer| answer.stream <= last);
    }

    /// A SETTINGS frame of the client's begins.
    pub fn settings(&mut self) {
        self.seen = 0;
    }

    /// Bytes of it.
    pub fn settings_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.entry.get_mut(self.seen) {
                *place = *byte;
            }
            self.seen += 1;
            if self.seen == ENTRY {
                self.seen = 0;
                let [a, b, number @ ..] = self.entry;
                if u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE {
                    self.initial_window(i64::from(u32::from_be_bytes(number) & NUMBER));
                } else if u16::from_be_bytes([a, b]) == HEADER_TABLE_SIZE {
                    self.small_table |= u32::from_be_bytes(number) < FIRST_TABLE_SIZE;
                }
            }
        }
    }

    /// Applies to open streams, too, whose windows may so become negative (RFC 9113 section 6.9.2).
    fn initial_window(&mut self, size: i64) {
        let more = size - std::mem::replace(&mut self.initial, size);
        self.open.iter_mut().for_each(|answer| answer.window += more);
    }

    /// What a new stream may be sent.
    #[must_use]
    pub fn initial_window_size(&self) -> i64 {
        self.initial
    }

    /// The client takes so many bytes more; stream 0 is the connection.
    pub fn granted(&mut self, stream: u32, bytes: u32) {
        let bytes = i64::from(bytes & NUMBER);
        if stream == 0 {
            self.window += bytes;
        } else if let Some(answer) = self.answer(stream) {
            answer.window += bytes;
        }
    }

    /// The head of an answer left.
    pub fn begun(&mut self, stream: u32) {
        if let Some(answer) = self.answer(stream) {
            answer.begun = true;
        }
    }

    /// Bytes of an answer's body left.
    pub fn sent(&mut self, stream: u32, bytes: usize, rate: u64, waiting: usize) {
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.window -= length;
        self.sent += bytes as u64;
        self.turn.moved(bytes, share(rate, waiting));
        let sent = self.sent;
        if let Some(answer) = self.answer(stream) {
            answer.window -= length;
            answer.turn.moved(bytes, rate);
            answer.sent = sent;
        }
    }

    fn answer(&mut self, stream: u32) -> Option<&mut Answer> {
        self.open.iter_mut().find(|answer| answer.stream == stream)
    }

    /// When to ask again, while anything is kept waiting; with what is overdue if it still waits then. `waiting` is how
    /// many answers have bytes that wait, `look` what the client has acknowledged.
    pub fn deadline(
        &mut self,
        rate: u64,
        waiting: usize,
        look: impl FnOnce() -> Option<Acknowledged>,
    ) -> Option<(Instant, Option<Overdue>)> {
        if rate == 0 {
            return None;
        }
        self.acknowledge(rate, waiting, look);
        let is_closed = self.window <= 0 && self.open.iter().any(|answer| answer.begun);
        let (mut is_any, mut first) = (is_closed, None);
        let mut keep = |turn: &mut Turn, is_kept_waiting: bool, overdue| {
            is_any |= is_kept_waiting;
            if !is_kept_waiting || waiting == 0 {
                return turn.moved(0, rate);
            }
            let at = turn.wait();
            if first.is_none_or(|(first, _)| at < first) {
                first = Some((at, Some(overdue)));
            }
        };
        keep(&mut self.turn, is_closed, Overdue::Connection);
        for answer in &mut self.open {
            keep(&mut answer.turn, answer.begun && answer.window <= 0, Overdue::Stream(answer.stream));
        }
        if !is_any {
            self.acknowledgements.stop();
            return None;
        }
        // Nobody is woken when bytes begin to wait.
        let Some((at, overdue)) = first else { return Some((Instant::now() + LOOK_INTERVAL, None)) };
        let next = self.acknowledgements.next_look();
        Some(if next < at { (next, None) } else { (at, overdue) })
    }

    /// Bytes that left earlier may reach the client only now.
    fn acknowledge(&mut self, rate: u64, waiting: usize, look: impl FnOnce() -> Option<Acknowledged>) {
        let Some((bytes, unacknowledged)) = self.acknowledgements.look(look) else { return };
        self.turn.acknowledged(bytes, unacknowledged, share(rate, waiting));
        let each = bytes.checked_div(waiting.max(1) as u64).unwrap_or(0);
        for answer in &mut self.open {
            // What other answers sent behind this one's bytes is acknowledged after them.
            let own = unacknowledged.saturating_sub(self.sent - answer.sent);
            answer.turn.acknowledged(each, own, rate);
        }
    }
}

/// What a connection owes for all that wait.
fn share(rate: u64, waiting: usize) -> u64 {
    rate.saturating_mul(waiting.max(1) as u64)
}

//! The answers of an HTTP/2 connection, and how long their client may keep each of them waiting.
//!
//! In: what both sides say about windows, what of the answers leaves, and how many answers have bytes that wait
//! ([`super::pending_responses`]). Out: the stream, or the connection, whose client takes less than the minimum rate. The `h2`
//! library knows the windows too, but tells nobody.
//!
//! A stream whose own window is closed is held to the minimum rate by itself: however little it is granted, only the
//! bytes that leave buy time. Where the connection's window is closed the library shares it out in turn, so the
//! connection owes the rate of all answers that wait. A silent server costs nobody anything: its answer has no bytes
//! that wait.

use tokio::time::Instant;

use super::timeouts::{ACK_CHECK_INTERVAL, AckProgress, AckTracker, MinRateBudget};

/// What is sent before anything was granted (RFC 9113 section 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
/// What it is before it was set.
const DEFAULT_HEADER_TABLE_SIZE: u32 = 4096;
/// Bytes of one entry of a SETTINGS frame.
const SETTINGS_ENTRY_LEN: usize = 6;
/// Without the reserved bit.
const U31_MASK: u32 = 0x7fff_ffff;

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
pub struct ResponseWindows {
    /// What a new stream may be sent: the client's SETTINGS_INITIAL_WINDOW_SIZE.
    initial: i64,
    /// What all streams together may be sent.
    window: i64,
    turn: MinRateBudget,
    open: Vec<ResponseWindow>,
    /// Bytes of DATA that left so far.
    sent: u64,
    /// The entry of a SETTINGS frame that is being read.
    entry: [u8; SETTINGS_ENTRY_LEN],
    seen: usize,
    /// The client wants a smaller table for fields, which the next block of fields must acknowledge.
    small_table: bool,
    acks: AckTracker,
}

#[derive(Debug)]
struct ResponseWindow {
    stream: u32,
    window: i64,
    /// Its head has left.
    begun: bool,
    turn: MinRateBudget,
    /// What all answers had sent when this one last did.
    sent: u64,
}

impl Default for ResponseWindows {
    fn default() -> Self {
        Self {
            initial: DEFAULT_WINDOW,
            window: DEFAULT_WINDOW,
            turn: MinRateBudget::default(),
            open: Vec::new(),
            sent: 0,
            entry: [0; SETTINGS_ENTRY_LEN],
            seen: 0,
            small_table: false,
            acks: AckTracker::default(),
        }
    }
}

impl ResponseWindows {
    /// The client opened a stream. False when it has too many of them.
    #[must_use]
    pub fn open_stream(&mut self, stream: u32, max_streams: usize) -> bool {
        let (window, turn) = (self.initial, MinRateBudget::default());
        self.open.push(ResponseWindow { stream, window, begun: false, turn, sent: 0 });
        self.open.len() <= max_streams
    }

    /// Whether an interim answer may stand on this stream: its request has begun, and its answer has not. Only the
    /// library can begin a block where the table's size changes.
    #[must_use]
    pub fn accepts_interim(&self, stream: u32) -> bool {
        !self.small_table && self.open.iter().any(|response| response.stream == stream && !response.begun)
    }

    /// Nothing more is sent on this stream.
    pub fn close_stream(&mut self, stream: u32) {
        if let Some(at) = self.open.iter().position(|response| response.stream == stream) {
            self.open.swap_remove(at);
        }
    }

    /// Nothing is sent on any stream behind this one.
    pub fn close_streams_after(&mut self, last: u32) {
        self.open.retain(|response| response.stream <= last);
    }

    /// A SETTINGS frame of the client's begins.
    pub fn begin_settings(&mut self) {
        self.seen = 0;
    }

    /// Bytes of it.
    pub fn read_settings(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.entry.get_mut(self.seen) {
                *place = *byte;
            }
            self.seen += 1;
            if self.seen == SETTINGS_ENTRY_LEN {
                self.seen = 0;
                let [a, b, number @ ..] = self.entry;
                if u16::from_be_bytes([a, b]) == SETTINGS_INITIAL_WINDOW_SIZE {
                    self.set_initial_window(i64::from(u32::from_be_bytes(number) & U31_MASK));
                } else if u16::from_be_bytes([a, b]) == SETTINGS_HEADER_TABLE_SIZE {
                    self.small_table |= u32::from_be_bytes(number) < DEFAULT_HEADER_TABLE_SIZE;
                }
            }
        }
    }

    /// Applies to open streams, too, whose windows may so become negative (RFC 9113 section 6.9.2).
    fn set_initial_window(&mut self, size: i64) {
        let more = size - std::mem::replace(&mut self.initial, size);
        self.open.iter_mut().for_each(|response| response.window += more);
    }

    /// What a new stream may be sent.
    #[must_use]
    pub fn initial_window_size(&self) -> i64 {
        self.initial
    }

    /// The client takes so many bytes more; stream 0 is the connection.
    pub fn add_window(&mut self, stream: u32, bytes: u32) {
        let bytes = i64::from(bytes & U31_MASK);
        if stream == 0 {
            self.window += bytes;
        } else if let Some(response) = self.response(stream) {
            response.window += bytes;
        }
    }

    /// The head of an answer left.
    pub fn headers_sent(&mut self, stream: u32) {
        if let Some(response) = self.response(stream) {
            response.begun = true;
        }
    }

    /// Bytes of an answer's body left.
    pub fn data_sent(&mut self, stream: u32, bytes: usize, rate: u64, waiting: usize) {
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.window -= length;
        self.sent += bytes as u64;
        self.turn.add_progress(bytes, total_rate(rate, waiting));
        let sent = self.sent;
        if let Some(response) = self.response(stream) {
            response.window -= length;
            response.turn.add_progress(bytes, rate);
            response.sent = sent;
        }
    }

    fn response(&mut self, stream: u32) -> Option<&mut ResponseWindow> {
        self.open.iter_mut().find(|response| response.stream == stream)
    }

    /// When to ask again, while anything is kept waiting; with what is overdue if it still waits then. `waiting` is how
    /// many answers have bytes that wait, `look` what the client has acknowledged.
    pub fn deadline(
        &mut self,
        rate: u64,
        waiting: usize,
        look: impl FnOnce() -> Option<AckProgress>,
    ) -> Option<(Instant, Option<Overdue>)> {
        if rate == 0 {
            return None;
        }
        self.acknowledge(rate, waiting, look);
        let is_closed = self.window <= 0 && self.open.iter().any(|response| response.begun);
        let (mut is_any, mut first) = (is_closed, None);
        let mut keep = |turn: &mut MinRateBudget, is_kept_waiting: bool, overdue| {
            is_any |= is_kept_waiting;
            if !is_kept_waiting || waiting == 0 {
                return turn.add_progress(0, rate);
            }
            let at = turn.start_waiting();
            if first.is_none_or(|(first, _)| at < first) {
                first = Some((at, Some(overdue)));
            }
        };
        keep(&mut self.turn, is_closed, Overdue::Connection);
        for response in &mut self.open {
            keep(
                &mut response.turn,
                response.begun && response.window <= 0,
                Overdue::Stream(response.stream),
            );
        }
        if !is_any {
            self.acks.stop();
            return None;
        }
        // Nobody is woken when bytes begin to wait.
        let Some((at, overdue)) = first else { return Some((Instant::now() + ACK_CHECK_INTERVAL, None)) };
        let next = self.acks.next_check();
        Some(if next < at { (next, None) } else { (at, overdue) })
    }

    /// Bytes that left earlier may reach the client only now.
    fn acknowledge(&mut self, rate: u64, waiting: usize, look: impl FnOnce() -> Option<AckProgress>) {
        let Some((bytes, unacknowledged)) = self.acks.check(look) else { return };
        self.turn.add_acknowledged(bytes, unacknowledged, total_rate(rate, waiting));
        let each = bytes.checked_div(waiting.max(1) as u64).unwrap_or(0);
        for response in &mut self.open {
            // What other answers sent behind this one's bytes is acknowledged after them.
            let own = unacknowledged.saturating_sub(self.sent - response.sent);
            response.turn.add_acknowledged(each, own, rate);
        }
    }
}

/// What a connection owes for all that wait.
fn total_rate(rate: u64, waiting: usize) -> u64 {
    rate.saturating_mul(waiting.max(1) as u64)
}

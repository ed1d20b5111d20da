//! The send windows of an HTTP/2 connection, and the minimum rate at which a client must read its responses.
//!
//! The `h2` library has the windows too, but does not expose them. A stream with a closed window must reach the minimum rate
//! by itself; only bytes that are sent count, not bytes granted. While the connection's window is closed, the library
//! distributes it over all streams, so the connection must reach the rate of all pending responses together. A slow server
//! does not matter: its response has no pending bytes ([`super::pending_responses`]).

use tokio::time::Instant;

use super::timeouts::{ACK_CHECK_INTERVAL, AckProgress, AckTracker, MinRateBudget};

/// The initial windows (RFC 9113 section 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
/// RFC 9113 section 6.5.2.
const DEFAULT_HEADER_TABLE_SIZE: u32 = 4096;
const SETTINGS_ENTRY_LEN: usize = 6;
/// Removes the reserved bit of a window size.
const U31_MASK: u32 = 0x7fff_ffff;

/// What must be closed because the client is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    Stream(u32),
    Connection,
}

/// The open responses of one connection.
#[derive(Debug)]
pub struct ResponseWindows {
    /// From the client's SETTINGS: the window of a new stream.
    initial: i64,
    /// The window of the connection, for all streams together.
    window: i64,
    budget: MinRateBudget,
    open: Vec<ResponseWindow>,
    /// Bytes of DATA sent so far on all streams.
    sent: u64,
    /// The entry of a SETTINGS frame that is being read, and how many of its bytes were read.
    entry: [u8; SETTINGS_ENTRY_LEN],
    entry_len: usize,
    /// The client reduced its HPACK table, which the next header block must acknowledge.
    small_table: bool,
    acks: AckTracker,
}

#[derive(Debug)]
struct ResponseWindow {
    stream: u32,
    window: i64,
    /// Its HEADERS were sent.
    begun: bool,
    budget: MinRateBudget,
    /// [`ResponseWindows::sent`] when this response last sent DATA.
    sent: u64,
}

impl Default for ResponseWindows {
    fn default() -> Self {
        Self {
            initial: DEFAULT_WINDOW,
            window: DEFAULT_WINDOW,
            budget: MinRateBudget::default(),
            open: Vec::new(),
            sent: 0,
            entry: [0; SETTINGS_ENTRY_LEN],
            entry_len: 0,
            small_table: false,
            acks: AckTracker::default(),
        }
    }
}

impl ResponseWindows {
    /// False if the client has opened too many streams.
    #[must_use]
    pub fn open_stream(&mut self, stream: u32, max_streams: usize) -> bool {
        let (window, budget) = (self.initial, MinRateBudget::default());
        self.open.push(ResponseWindow { stream, window, begun: false, budget, sent: 0 });
        self.open.len() <= max_streams
    }

    /// Whether an interim response may be sent on this stream: it is open and its final response has not begun. After a
    /// table size change only the library can encode the next header block.
    #[must_use]
    pub fn accepts_interim(&self, stream: u32) -> bool {
        !self.small_table && self.open.iter().any(|response| response.stream == stream && !response.begun)
    }

    pub fn close_stream(&mut self, stream: u32) {
        if let Some(at) = self.open.iter().position(|response| response.stream == stream) {
            self.open.swap_remove(at);
        }
    }

    pub fn close_streams_after(&mut self, last: u32) {
        self.open.retain(|response| response.stream <= last);
    }

    pub fn begin_settings(&mut self) {
        self.entry_len = 0;
    }

    /// Reads the next piece of a SETTINGS frame's payload.
    pub fn read_settings(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(slot) = self.entry.get_mut(self.entry_len) {
                *slot = *byte;
            }
            self.entry_len += 1;
            if self.entry_len == SETTINGS_ENTRY_LEN {
                self.entry_len = 0;
                let [a, b, value @ ..] = self.entry;
                let value = u32::from_be_bytes(value);
                match u16::from_be_bytes([a, b]) {
                    SETTINGS_INITIAL_WINDOW_SIZE => self.set_initial_window(i64::from(value & U31_MASK)),
                    SETTINGS_HEADER_TABLE_SIZE => self.small_table |= value < DEFAULT_HEADER_TABLE_SIZE,
                    _ => {}
                }
            }
        }
    }

    /// Also changes the windows of open streams, which may become negative (RFC 9113 section 6.9.2).
    fn set_initial_window(&mut self, size: i64) {
        let change = size - std::mem::replace(&mut self.initial, size);
        self.open.iter_mut().for_each(|response| response.window += change);
    }

    #[must_use]
    pub fn initial_window_size(&self) -> i64 {
        self.initial
    }

    /// Applies a WINDOW_UPDATE; stream 0 is the connection.
    pub fn add_window(&mut self, stream: u32, bytes: u32) {
        let bytes = i64::from(bytes & U31_MASK);
        if stream == 0 {
            self.window += bytes;
        } else if let Some(response) = self.response(stream) {
            response.window += bytes;
        }
    }

    pub fn headers_sent(&mut self, stream: u32) {
        if let Some(response) = self.response(stream) {
            response.begun = true;
        }
    }

    /// `pending` is the number of responses with pending bytes.
    pub fn data_sent(&mut self, stream: u32, bytes: usize, rate: u64, pending: usize) {
        let length = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.window -= length;
        self.sent += bytes as u64;
        self.budget.add_progress(bytes, total_rate(rate, pending));
        let sent = self.sent;
        if let Some(response) = self.response(stream) {
            response.window -= length;
            response.budget.add_progress(bytes, rate);
            response.sent = sent;
        }
    }

    fn response(&mut self, stream: u32) -> Option<&mut ResponseWindow> {
        self.open.iter_mut().find(|response| response.stream == stream)
    }

    /// The next check while a window is closed, and what is overdue if that is still so then.
    pub fn deadline(
        &mut self,
        rate: u64,
        pending: usize,
        ack_progress: impl FnOnce() -> Option<AckProgress>,
    ) -> Option<(Instant, Option<Overdue>)> {
        if rate == 0 {
            return None;
        }
        self.add_acknowledged(rate, pending, ack_progress);
        let is_connection_closed = self.window <= 0 && self.open.iter().any(|response| response.begun);
        let (mut is_any_closed, mut first) = (false, None);
        let mut check = |budget: &mut MinRateBudget, is_closed: bool, overdue| {
            is_any_closed |= is_closed;
            if !is_closed || pending == 0 {
                return budget.add_progress(0, rate);
            }
            let at = budget.start_waiting();
            if first.is_none_or(|(first, _)| at < first) {
                first = Some((at, Some(overdue)));
            }
        };
        check(&mut self.budget, is_connection_closed, Overdue::Connection);
        for response in &mut self.open {
            let is_closed = response.begun && response.window <= 0;
            check(&mut response.budget, is_closed, Overdue::Stream(response.stream));
        }
        if !is_any_closed {
            self.acks.stop();
            return None;
        }
        // No response has pending bytes now. When one gets some, this task is not woken, so it polls.
        let Some((at, overdue)) = first else { return Some((Instant::now() + ACK_CHECK_INTERVAL, None)) };
        let next = self.acks.next_check();
        Some(if next < at { (next, None) } else { (at, overdue) })
    }

    /// Bytes that were sent earlier may reach the client only now.
    fn add_acknowledged(
        &mut self,
        rate: u64,
        pending: usize,
        ack_progress: impl FnOnce() -> Option<AckProgress>,
    ) {
        let Some((bytes, unacknowledged)) = self.acks.check(ack_progress) else { return };
        self.budget.add_acknowledged(bytes, unacknowledged, total_rate(rate, pending));
        let each = bytes / pending.max(1) as u64;
        for response in &mut self.open {
            // DATA of other responses that was sent after this one's is acknowledged after it.
            let own = unacknowledged.saturating_sub(self.sent - response.sent);
            response.budget.add_acknowledged(each, own, rate);
        }
    }
}

/// The minimum rate of all pending responses together.
fn total_rate(rate: u64, pending: usize) -> u64 {
    rate.saturating_mul(pending.max(1) as u64)
}

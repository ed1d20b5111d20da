//! How long a client may keep us waiting: deadlines, and turns at a minimum rate.
//!
//! In: when waiting begins, how many octets then moved. Out: has patience ended. Only waiting for the client is
//! counted, so a slow server never costs a client its connection. Nothing here looks at a clock as long as
//! octets are there when they are asked for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time over which a rate is a mean.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);
/// While a client keeps us waiting, what it acknowledges is looked at this often.
pub const ACK_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The one timer of a connection. It is registered when it is first needed, and again only when it fires or
/// when a deadline comes nearer: one that moves away, as most do, costs nothing.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once the deadline has passed; before that the task is woken in time to ask again.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// The client's turns in one direction. It begins with half a minute; waiting uses that up, and every octet
/// buys back the time that it may take at the minimum rate, up to half a minute again.
#[derive(Debug)]
pub struct MinRateBudget {
    remaining: Duration,
    waiting_since: Option<Instant>,
    /// Bytes that bought nothing, because nothing was missing. They buy once more when the client acknowledges them
    /// later: until then they may lie in this machine's socket.
    unspent_bytes: u64,
}

impl Default for MinRateBudget {
    fn default() -> Self {
        Self { remaining: RATE_WINDOW, waiting_since: None, unspent_bytes: 0 }
    }
}

impl MinRateBudget {
    /// We wait for the client. Out: how long at most.
    pub fn start_waiting(&mut self) -> Instant {
        *self.waiting_since.get_or_insert_with(Instant::now) + self.remaining
    }

    /// So many octets moved, at this minimum rate a second.
    pub fn add_progress(&mut self, bytes: usize, rate: u64) {
        self.stop();
        let bytes = bytes as u64;
        let unused = if self.remaining < RATE_WINDOW && rate > 0 { self.refill(bytes, rate) } else { bytes };
        self.unspent_bytes = self.unspent_bytes.saturating_add(unused);
    }

    /// The client acknowledged so many bytes of those that moved before, and at most `unacknowledged` of them it has
    /// not.
    pub fn add_acknowledged(&mut self, bytes: u64, unacknowledged: u64, rate: u64) {
        self.stop();
        let bytes = bytes.min(self.unspent_bytes);
        let unused = if rate > 0 { self.refill(bytes, rate) } else { 0 };
        self.unspent_bytes = (self.unspent_bytes - bytes + unused).min(unacknowledged);
    }

    fn stop(&mut self) {
        if let Some(waiting_since) = self.waiting_since.take() {
            self.remaining = self.remaining.saturating_sub(waiting_since.elapsed());
        }
    }

    /// Out: bytes that were not needed.
    fn refill(&mut self, bytes: u64, rate: u64) -> u64 {
        let bought = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let missing = RATE_WINDOW.saturating_sub(self.remaining);
        self.remaining += bought.min(missing);
        (bought.saturating_sub(missing).as_secs_f64() * rate as f64) as u64
    }
}

/// What a connection's peer has acknowledged of what was written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckProgress {
    /// All bytes so far.
    pub bytes: u64,
    /// Bytes that are written and not acknowledged.
    pub unacknowledged: u64,
}

/// What of it is new, seen at intervals. What is acknowledged in the first of them does not count: it may have been
/// written, and taken by the client's machine, just before the waiting began.
#[derive(Debug, Default)]
pub struct AckTracker {
    next: Option<Instant>,
    seen: Option<u64>,
}

impl AckTracker {
    /// When to look next.
    pub fn next_check(&mut self) -> Instant {
        *self.next.get_or_insert_with(|| Instant::now() + ACK_CHECK_INTERVAL)
    }

    /// Bytes that are new, when it is time to look.
    pub fn check(&mut self, look: impl FnOnce() -> Option<AckProgress>) -> Option<(u64, u64)> {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        self.next = Some(now + ACK_CHECK_INTERVAL);
        let AckProgress { bytes, unacknowledged } = look()?;
        let before = self.seen.replace(bytes).unwrap_or(bytes);
        Some((bytes.saturating_sub(before), unacknowledged))
    }

    /// Nothing is waited for.
    pub fn stop(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Moves `octets` every `pause` until patience ends. Out: how long that took, a day at most.
    async fn lasts(bytes: usize, pause: Duration, rate: u64) -> Duration {
        let (mut turn, mut timer, begin) = (MinRateBudget::default(), Timer::default(), Instant::now());
        while begin.elapsed() < Duration::from_secs(86_400) {
            let deadline = turn.start_waiting();
            let patience = poll_fn(|cx| timer.poll(cx, deadline));
            if tokio::time::timeout(pause, patience).await.is_ok() {
                break;
            }
            turn.add_progress(bytes, rate);
        }
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_is_ended_after_the_window_and_a_fast_one_never() {
        let seconds = Duration::from_secs;
        let stalled = lasts(0, seconds(3600), 512).await;
        assert!((29..=31).contains(&stalled.as_secs()), "{stalled:?}");
        assert!(lasts(512, seconds(1), 512).await >= seconds(86_400));
        // Bursts count as the mean that they are.
        assert!(lasts(20 * 512, seconds(20), 512).await >= seconds(86_400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_at_half_the_rate_lasts_two_windows() {
        let lasted = lasts(256, Duration::from_secs(1), 512).await;
        assert!((55..=62).contains(&lasted.as_secs()), "{lasted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_left_for_the_socket_at_once_count_when_the_client_acknowledges_them() {
        // 64 KiB are written at once, of which the client acknowledges `a_second`.
        async fn lasts(a_second: u64) -> u64 {
            let (mut turn, begin) = (MinRateBudget::default(), Instant::now());
            turn.add_progress(65_536, 512);
            let mut acks = AckTracker::default();
            while Instant::now() < turn.start_waiting() {
                tokio::time::sleep_until(acks.next_check().min(turn.start_waiting())).await;
                let acknowledged = 65_536.min(begin.elapsed().as_secs() * a_second);
                let state = AckProgress { bytes: acknowledged, unacknowledged: 65_536 - acknowledged };
                if let Some((bytes, unacknowledged)) = acks.check(|| Some(state)) {
                    turn.add_acknowledged(bytes, unacknowledged, 512);
                }
            }
            begin.elapsed().as_secs()
        }
        let lasted = lasts(0).await;
        assert!((29..=33).contains(&lasted), "{lasted}");
        assert!((29..=33).contains(&lasts(65_536).await), "the client's machine took them at once");
        assert!((90..=130).contains(&lasts(682).await), "until all are acknowledged, and half a minute");
        let lasted = lasts(128).await;
        assert!((36..=45).contains(&lasted), "a quarter of the rate: {lasted}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_keeps_a_deadline_that_comes_nearer_and_one_that_moves_away() {
        let mut timer = Timer::default();
        let begin = Instant::now();
        let at = |s| begin + Duration::from_secs(s);
        let now = poll_fn(|cx| Poll::Ready(timer.poll(cx, at(60)))).await;
        assert!(now.is_pending());
        poll_fn(|cx| timer.poll(cx, at(5))).await;
        assert!((5..7).contains(&begin.elapsed().as_secs()));
        poll_fn(|cx| timer.poll(cx, at(20))).await;
        assert!((20..22).contains(&begin.elapsed().as_secs()));
    }
}

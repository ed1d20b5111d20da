//! Deadlines and minimum rates of clients, for both HTTP versions.
//!
//! Only time spent waiting for the client counts, so a slow server never ends a client's connection. The clock is not read
//! while reads and writes complete at once.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time over which a rate is averaged.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);
/// How often a slow client's TCP acknowledgements are checked.
pub const ACK_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The timer of a connection. A deadline that moves later, as most do, does not reset it; the timer checks the deadline
/// when it fires.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
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

/// How much longer a client may keep one direction waiting. It starts at [`RATE_WINDOW`]; waiting uses it up, and every
/// byte adds the time that it may take at the minimum rate, up to the window again.
#[derive(Debug)]
pub struct MinRateBudget {
    remaining: Duration,
    waiting_since: Option<Instant>,
    /// Bytes that added no time because the budget was full. They may still be in the local socket buffer, so they count
    /// when the client acknowledges them.
    unspent_bytes: u64,
}

impl Default for MinRateBudget {
    fn default() -> Self {
        Self { remaining: RATE_WINDOW, waiting_since: None, unspent_bytes: 0 }
    }
}

impl MinRateBudget {
    /// Starts the wait for the client, and returns its deadline.
    pub fn start_waiting(&mut self) -> Instant {
        *self.waiting_since.get_or_insert_with(Instant::now) + self.remaining
    }

    /// `bytes` moved; `rate` is the minimum in bytes per second.
    pub fn add_progress(&mut self, bytes: usize, rate: u64) {
        self.stop();
        let bytes = bytes as u64;
        let unused = if self.remaining < RATE_WINDOW && rate > 0 { self.refill(bytes, rate) } else { bytes };
        self.unspent_bytes = self.unspent_bytes.saturating_add(unused);
    }

    /// The client acknowledged `bytes` that moved earlier; at most `unacknowledged` are left.
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

    /// Returns the bytes that exceed the window.
    fn refill(&mut self, bytes: u64, rate: u64) -> u64 {
        let earned = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let missing = RATE_WINDOW.saturating_sub(self.remaining);
        self.remaining += earned.min(missing);
        (earned.saturating_sub(missing).as_secs_f64() * rate as f64) as u64
    }
}

/// TCP acknowledgements of a connection's peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckProgress {
    /// Acknowledged since the connection began.
    pub bytes: u64,
    /// Written and not acknowledged.
    pub unacknowledged: u64,
}

/// Samples [`AckProgress`] at intervals. What is acknowledged in the first interval does not count: it may have reached
/// the client's kernel just before the wait began.
#[derive(Debug, Default)]
pub struct AckTracker {
    next: Option<Instant>,
    seen: Option<u64>,
}

impl AckTracker {
    pub fn next_check(&mut self) -> Instant {
        *self.next.get_or_insert_with(|| Instant::now() + ACK_CHECK_INTERVAL)
    }

    /// Bytes acknowledged since the last check, and bytes unacknowledged; `None` before the next check is due.
    pub fn check(&mut self, ack_progress: impl FnOnce() -> Option<AckProgress>) -> Option<(u64, u64)> {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        self.next = Some(now + ACK_CHECK_INTERVAL);
        let AckProgress { bytes, unacknowledged } = ack_progress()?;
        let before = self.seen.replace(bytes).unwrap_or(bytes);
        Some((bytes.saturating_sub(before), unacknowledged))
    }

    pub fn stop(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Moves `bytes` every `pause` until the budget is used up. Returns how long that took, a day at most.
    async fn time_until_timeout(bytes: usize, pause: Duration, rate: u64) -> Duration {
        let (mut budget, mut timer, begin) = (MinRateBudget::default(), Timer::default(), Instant::now());
        while begin.elapsed() < Duration::from_secs(86_400) {
            let deadline = budget.start_waiting();
            let expired = poll_fn(|cx| timer.poll(cx, deadline));
            if tokio::time::timeout(pause, expired).await.is_ok() {
                break;
            }
            budget.add_progress(bytes, rate);
        }
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_client_times_out_after_the_window_and_a_fast_one_never() {
        let seconds = Duration::from_secs;
        let stalled = time_until_timeout(0, seconds(3600), 512).await;
        assert!((29..=31).contains(&stalled.as_secs()), "{stalled:?}");
        assert!(time_until_timeout(512, seconds(1), 512).await >= seconds(86_400));
        // Bursts are averaged.
        assert!(time_until_timeout(20 * 512, seconds(20), 512).await >= seconds(86_400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_at_half_the_rate_times_out_after_two_windows() {
        let lasted = time_until_timeout(256, Duration::from_secs(1), 512).await;
        assert!((55..=62).contains(&lasted.as_secs()), "{lasted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_in_the_socket_buffer_count_when_the_client_acknowledges_them() {
        // Writes 64 KiB at once, of which the client acknowledges `per_second`.
        async fn seconds_until_timeout(per_second: u64) -> u64 {
            let (mut budget, begin) = (MinRateBudget::default(), Instant::now());
            budget.add_progress(65_536, 512);
            let mut acks = AckTracker::default();
            while Instant::now() < budget.start_waiting() {
                tokio::time::sleep_until(acks.next_check().min(budget.start_waiting())).await;
                let acknowledged = 65_536.min(begin.elapsed().as_secs() * per_second);
                let state = AckProgress { bytes: acknowledged, unacknowledged: 65_536 - acknowledged };
                if let Some((bytes, unacknowledged)) = acks.check(|| Some(state)) {
                    budget.add_acknowledged(bytes, unacknowledged, 512);
                }
            }
            begin.elapsed().as_secs()
        }
        let lasted = seconds_until_timeout(0).await;
        assert!((29..=33).contains(&lasted), "{lasted}");
        let lasted = seconds_until_timeout(65_536).await;
        assert!((29..=33).contains(&lasted), "acknowledged at once, then nothing: {lasted}");
        let lasted = seconds_until_timeout(682).await;
        assert!((90..=130).contains(&lasted), "until all are acknowledged, and one window: {lasted}");
        let lasted = seconds_until_timeout(128).await;
        assert!((36..=45).contains(&lasted), "a quarter of the rate: {lasted}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_follows_a_deadline_that_moves_earlier_or_later() {
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

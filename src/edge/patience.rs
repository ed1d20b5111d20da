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
pub const WINDOW: Duration = Duration::from_secs(30);

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
pub struct Turn {
    left: Duration,
    since: Option<Instant>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { left: WINDOW, since: None }
    }
}

impl Turn {
    /// We wait for the client. Out: how long at most.
    pub fn wait(&mut self) -> Instant {
        *self.since.get_or_insert_with(Instant::now) + self.left
    }

    /// So many octets moved, at this minimum rate a second.
    pub fn moved(&mut self, octets: usize, rate: u64) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        if self.left < WINDOW && rate > 0 {
            let bought = Duration::from_secs_f64(octets as f64 / rate as f64);
            self.left = self.left.saturating_add(bought).min(WINDOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Moves `octets` every `pause` until patience ends. Out: how long that took, a day at most.
    async fn lasts(octets: usize, pause: Duration, rate: u64) -> Duration {
        let (mut turn, mut timer, begin) = (Turn::default(), Timer::default(), Instant::now());
        while begin.elapsed() < Duration::from_secs(86_400) {
            let deadline = turn.wait();
            let patience = poll_fn(|cx| timer.poll(cx, deadline));
            if tokio::time::timeout(pause, patience).await.is_ok() {
                break;
            }
            turn.moved(octets, rate);
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

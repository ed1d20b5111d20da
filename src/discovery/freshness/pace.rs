//! How fast the databases of one server are read: a fixed rate, and a pause after errors that doubles each time.

use std::time::Duration;

use tokio::time::Instant;

/// Between the starts of two requests: five a second.
const REQUEST_INTERVAL: Duration = Duration::from_millis(200);
/// A single database with a broken form answers 500, which says nothing about the server.
const MAX_ERRORS_IN_A_ROW: u32 = 3;
const MAX_BACK_OFF: Duration = Duration::from_secs(600);

/// The pace of the requests to one server, over all passes.
#[derive(Debug, Default)]
pub(crate) struct ServerPace {
    next: Option<Instant>,
    /// Statuses in a row that show an error.
    errors: u32,
    /// Pauses in a row.
    pauses: u32,
    paused_until: Option<Instant>,
}

impl ServerPace {
    /// When the next request may start; the one after it waits for another interval.
    pub(crate) fn take_slot(&mut self, now: Instant) -> Instant {
        let at = self.next.filter(|next| *next > now).unwrap_or(now);
        self.next = Some(at + REQUEST_INTERVAL);
        at
    }

    /// Whether the server rests after errors.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// The server answered as expected, whatever it said about the database.
    pub(crate) fn succeeded(&mut self) {
        (self.errors, self.pauses, self.paused_until) = (0, 0, None);
    }

    /// A request failed. `certain` = it was not the database's fault. `interval` is the first pause.
    pub(crate) fn failed(&mut self, certain: bool, interval: Duration, now: Instant) {
        self.errors += 1;
        if certain || self.errors >= MAX_ERRORS_IN_A_ROW {
            // Requests that were in flight together fail together.
            if !self.is_paused(now) {
                let pause = interval.saturating_mul(1 << self.pauses.min(16)).min(MAX_BACK_OFF);
                self.paused_until = Some(now + pause.max(interval));
                self.pauses += 1;
            }
            self.errors = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_start_200_ms_apart_even_after_a_rest() {
        let (mut pace, start) = (ServerPace::default(), Instant::now());
        let slots: Vec<_> = (0..6).map(|_| pace.take_slot(start) - start).collect();
        assert_eq!(slots, [0, 200, 400, 600, 800, 1000].map(Duration::from_millis));
        assert_eq!(pace.take_slot(start + 10 * SECOND), start + 10 * SECOND);
        assert_eq!(pace.take_slot(start + 10 * SECOND), start + 10 * SECOND + REQUEST_INTERVAL);
    }

    #[test]
    fn pauses_double_up_to_ten_minutes_and_end_with_a_success() {
        let (mut pace, mut now) = (ServerPace::default(), Instant::now());
        for expected in [30, 60, 120, 240, 480, 600, 600] {
            pace.failed(true, 30 * SECOND, now);
            pace.failed(true, 30 * SECOND, now);
            assert!(pace.is_paused(now + (expected - 1) * SECOND), "{expected}");
            assert!(!pace.is_paused(now + expected * SECOND), "{expected}");
            now += expected * SECOND;
        }
        pace.succeeded();
        pace.failed(true, 30 * SECOND, now);
        assert!(!pace.is_paused(now + 30 * SECOND));
    }

    #[test]
    fn one_database_that_answers_500_pauses_nothing() {
        let (mut pace, now) = (ServerPace::default(), Instant::now());
        for _ in 0..10 {
            pace.failed(false, SECOND, now);
            pace.failed(false, SECOND, now);
            assert!(!pace.is_paused(now));
            pace.succeeded();
        }
        for _ in 0..3 {
            pace.failed(false, SECOND, now);
        }
        assert!(pace.is_paused(now));
    }
}

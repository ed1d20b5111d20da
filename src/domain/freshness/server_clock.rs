//! The clock of a server against ours, from the times in its responses, so that times of several servers can be
//! compared. A clock that moves makes older times of its server useless.

use super::UnknownModified;

/// HTTP dates and the companion's times have whole seconds.
const RESOLUTION_MS: u64 = 1_000;
/// A smaller difference is the resolution of two times. It is not followed, so that the same time is always converted to
/// the same time.
const MIN_DRIFT_MS: u128 = 1_500;
/// A drift is followed after this time: sooner, a clock that stands still would not be noticed; never, the drift of days
/// would count as a move.
const BASELINE_MS: u64 = 600_000;

/// What the last responses told about the clock of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerClock {
    /// Milliseconds by which the server's clock is ahead, and when that was measured.
    baseline: Option<(i128, u64)>,
    /// When it was found to have moved.
    moved_at: Option<u64>,
}

/// How to convert times of one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    ahead_ms: i128,
    /// Earlier times were written by the clock before it moved.
    trusted_from: Option<u64>,
}

impl ServerClock {
    /// Takes the server's time in a response to a request that was sent and answered at these times of our clock.
    ///
    /// # Errors
    /// When the response was too slow, or the clock moved by more than `slack_ms` since the last readings.
    pub fn observe(
        &mut self,
        server_unix_ms: u64,
        sent_unix_ms: u64,
        received_unix_ms: u64,
        slack_ms: u64,
        forget_after_ms: u64,
    ) -> Result<ClockOffset, UnknownModified> {
        if received_unix_ms.saturating_sub(sent_unix_ms) > slack_ms.max(2 * RESOLUTION_MS) {
            return Err(UnknownModified::Slow);
        }
        let middle = i128::from(sent_unix_ms.midpoint(received_unix_ms));
        let ahead_ms = i128::from(server_unix_ms) - middle;
        let limit = u128::from(slack_ms + RESOLUTION_MS);
        let (baseline, since) = *self.baseline.get_or_insert((ahead_ms, received_unix_ms));
        let difference = baseline.abs_diff(ahead_ms);
        let is_old = received_unix_ms.saturating_sub(since) >= BASELINE_MS;
        if difference > limit {
            self.moved_at = Some(received_unix_ms);
        }
        if difference > limit || (difference > MIN_DRIFT_MS && is_old) {
            self.baseline = Some((ahead_ms, received_unix_ms));
        }
        if difference > limit {
            return Err(UnknownModified::ClockMoved);
        }
        let ahead_ms = self.baseline.map_or(ahead_ms, |(ahead_ms, _)| ahead_ms);
        let forgotten = |at: &u64| received_unix_ms.saturating_sub(*at) > forget_after_ms;
        self.moved_at = self.moved_at.filter(|at| !forgotten(at));
        Ok(ClockOffset { ahead_ms, trusted_from: self.moved_at })
    }
}

impl ClockOffset {
    /// A time of the server's clock on ours.
    ///
    /// # Errors
    /// When the time was written before the clock moved, or is out of range.
    pub fn to_ours(self, server_unix_ms: u64) -> Result<u64, UnknownModified> {
        let ours = u64::try_from(i128::from(server_unix_ms) - self.ahead_ms);
        let ours = ours.map_err(|_| UnknownModified::LaterThanDate)?;
        match self.trusted_from {
            Some(from) if ours < from => Err(UnknownModified::ClockMoved),
            _ => Ok(ours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLACK: u64 = 5_000;
    const LIMIT: u64 = 7_200_000;

    fn observe(clock: &mut ServerClock, server: u64, ours: u64) -> Result<ClockOffset, UnknownModified> {
        clock.observe(server, ours - 50, ours + 50, SLACK, LIMIT)
    }

    #[test]
    fn times_of_a_clock_that_is_ahead_are_moved_back() {
        let mut clock = ServerClock::default();
        let offset = observe(&mut clock, 3_600_000 + 1_000_000, 1_000_000).unwrap();
        assert_eq!(offset.to_ours(3_600_000 + 900_000), Ok(900_000));
        assert_eq!(offset.to_ours(0), Err(UnknownModified::LaterThanDate), "before 1970 on our clock");
    }

    #[test]
    fn a_clock_that_moved_makes_this_reading_and_older_times_unknown() {
        let mut clock = ServerClock::default();
        let _ = observe(&mut clock, 10_000_000, 10_000_000).unwrap();
        let moved = observe(&mut clock, 10_000_000 + 3_630_000, 10_030_000);
        assert_eq!(moved, Err(UnknownModified::ClockMoved));
        let offset = observe(&mut clock, 10_000_000 + 3_660_000, 10_060_000).unwrap();
        assert_eq!(offset.to_ours(10_000_000), Err(UnknownModified::ClockMoved));
        assert_eq!(offset.to_ours(10_050_000 + 3_600_000), Ok(10_050_000));
        // Long after that, such an old time makes nothing behind any more.
        let later = 10_060_000 + LIMIT;
        let offset = observe(&mut clock, later + 3_600_000, later).unwrap();
        assert!(offset.to_ours(10_000_000 + 3_600_000).is_ok());
    }

    #[test]
    fn a_clock_that_stands_still_is_noticed_even_if_it_is_read_often() {
        let mut clock = ServerClock::default();
        let results: Vec<_> =
            (0..10).map(|n| observe(&mut clock, 1_000_000, 1_000_000 + n * 1_000)).collect();
        assert!(results.contains(&Err(UnknownModified::ClockMoved)), "{results:?}");
    }

    #[test]
    fn a_slow_response_says_nothing_about_the_clock() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.observe(1_000, 1_000, 6_001, SLACK, LIMIT), Err(UnknownModified::Slow));
        assert!(clock.observe(1_000, 1_000, 6_000, SLACK, LIMIT).is_ok());
    }

    proptest! {
        #[test]
        fn no_times_make_it_panic(times: Vec<(u64, u64, u64)>, modified: u64, slack in 0_u64..1 << 40) {
            let mut clock = ServerClock::default();
            for (server, sent, received) in times {
                if let Ok(offset) = clock.observe(server, sent, received, slack, LIMIT) {
                    let _ = offset.to_ours(modified);
                }
            }
        }

        #[test]
        fn a_steady_clock_is_converted_to_within_the_response_time(
            ahead in -100_000_i64..100_000, delay in 0_u64..2_000, age in 0_u64..1_000_000
        ) {
            let mut clock = ServerClock::default();
            let sent = 50_000_000_u64;
            let written = (sent + delay / 3).saturating_add_signed(ahead);
            let offset = clock.observe(written, sent, sent + delay, SLACK, LIMIT).unwrap();
            let ours = offset.to_ours(written - age).unwrap();
            prop_assert!(ours.abs_diff(sent + delay / 3 - age) <= delay);
        }
    }
}

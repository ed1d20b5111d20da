//! Counts the commands of the last minute, five minutes and hour from samples of the total, at no cost per request.

use parking_lot::Mutex;
use std::collections::VecDeque;

/// A window may be too long by this much.
const SAMPLE_INTERVAL_MS: u64 = 5_000;
const HOUR_MS: u64 = 3_600_000;

/// The time spans of Domino's statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateWindow {
    Minute,
    FiveMinutes,
    Hour,
}

/// Samples of the total as pairs of time in milliseconds and total.
#[derive(Debug, Default)]
pub struct CommandRates(Mutex<VecDeque<(u64, u64)>>);

impl CommandRates {
    /// Keeps the current total, unless the last sample is recent enough.
    pub fn sample(&self, now_ms: u64, total: u64) {
        let mut samples = self.0.lock();
        if samples.back().is_some_and(|(at, _)| now_ms.saturating_sub(*at) < SAMPLE_INTERVAL_MS) {
            return;
        }
        samples.push_back((now_ms, total));
        while samples.front().is_some_and(|(at, _)| now_ms.saturating_sub(*at) > HOUR_MS + SAMPLE_INTERVAL_MS)
        {
            samples.pop_front();
        }
    }

    /// The commands within the window, or since the start if that is shorter.
    #[must_use]
    pub fn count_within(&self, window: RateWindow, now_ms: u64, total: u64) -> u64 {
        let ms = match window {
            RateWindow::Minute => 60_000,
            RateWindow::FiveMinutes => 300_000,
            RateWindow::Hour => HOUR_MS,
        };
        let samples = self.0.lock();
        // The newest sample from before the window.
        let since = samples.partition_point(|(at, _)| now_ms.saturating_sub(*at) >= ms);
        let before = since.checked_sub(1).and_then(|ix| samples.get(ix)).map_or(0, |(_, total)| *total);
        total.saturating_sub(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_the_commands_within_it() {
        let rates = CommandRates::default();
        // Ten a second for two hours.
        for second in 0..7_200 {
            rates.sample(second * 1_000, second * 10);
        }
        let (now, total) = (7_200_000, 72_000);
        assert_eq!(rates.count_within(RateWindow::Minute, now, total), 600);
        assert_eq!(rates.count_within(RateWindow::FiveMinutes, now, total), 3_000);
        assert_eq!(rates.count_within(RateWindow::Hour, now, total), 36_000);
        assert!(rates.0.lock().len() < 725, "old samples are dropped");
        // Half an hour without commands.
        for second in 7_200..=9_000 {
            rates.sample(second * 1_000, total);
        }
        let now = now + 1_800_000;
        assert_eq!(rates.count_within(RateWindow::Minute, now, total), 0);
        assert_eq!(rates.count_within(RateWindow::Hour, now, total), 18_000);
    }

    #[test]
    fn a_new_process_counts_from_its_start() {
        let rates = CommandRates::default();
        rates.sample(1_000, 0);
        assert_eq!(rates.count_within(RateWindow::Hour, 31_000, 17), 17);
        assert_eq!(CommandRates::default().count_within(RateWindow::Minute, 31_000, 3), 3);
    }
}

//! Decides when a port is probed next: after an interval with jitter, sooner while one more probe may change the verdict,
//! later while a server stays UNREACHABLE.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Probe;
use crate::util::clock;

/// The longest pause while one more probe may change the verdict.
const MAX_UNSETTLED_PAUSE: Duration = Duration::from_secs(1);
/// The interval of an UNREACHABLE server grows up to this factor.
const MAX_BACK_OFF: u32 = 3;

/// Why a probe may start before it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    None,
    /// A request failed after it was sent, which a client can cause at will.
    Suspicion,
    /// A connect failed, or the address changed.
    AtOnce,
}

impl Request {
    /// The minimum time between the starts of two such probes.
    fn min_interval_ms(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Suspicion => Some(1_000),
            Self::AtOnce => Some(100),
        }
    }
}

/// The probes of one port.
#[derive(Debug, Default)]
pub struct Schedule {
    due_ms: u64,
    started_ms: u64,
    running: bool,
}

impl Schedule {
    /// True if a probe must start now: one is due or requested, and none is running.
    pub fn take(&mut self, now_ms: u64, request: Request) -> bool {
        let since_last = now_ms.saturating_sub(self.started_ms);
        let soon = request.min_interval_ms().is_some_and(|min| since_last >= min);
        if self.running || !(now_ms >= self.due_ms || soon) {
            return false;
        }
        self.running = true;
        self.started_ms = now_ms;
        true
    }

    fn done(&mut self, now_ms: u64, pause: Duration) {
        self.running = false;
        self.due_ms = now_ms.saturating_add(clock::saturating_millis(pause));
    }
}

/// The pause after a probe, without jitter; `failures` = failed probes in a row.
#[must_use]
pub fn pause(settings: &Probe, failures: u32, unsettled: bool) -> Duration {
    if unsettled {
        return settings.interval.min(MAX_UNSETTLED_PAUSE);
    }
    // Most servers are back within ten failures after the verdict, so the interval grows only after that.
    let beyond = failures.saturating_sub(settings.unreachable_after);
    settings.interval * (1 + beyond / 10).min(MAX_BACK_OFF)
}

/// A running probe; dropping it schedules the next one.
#[derive(Debug)]
pub struct RunningProbe {
    schedule: Arc<Mutex<Schedule>>,
    settings: Probe,
    /// Failed probes in a row, including this one.
    pub failures: u32,
    /// True if one more probe may change the verdict.
    pub unsettled: bool,
}

impl RunningProbe {
    /// Call this after [`Schedule::take`] returned true.
    #[must_use]
    pub fn new(schedule: Arc<Mutex<Schedule>>, settings: Probe) -> Self {
        Self { schedule, settings, failures: 0, unsettled: false }
    }
}

impl Drop for RunningProbe {
    fn drop(&mut self) {
        let pause = clock::jitter(pause(&self.settings, self.failures, self.unsettled));
        self.schedule.lock().done(clock::now_ms(), pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Probe {
        Probe {
            path: "/".into(),
            host: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unreachable_after: 2,
            expected_statuses: vec![(200, 499)],
        }
    }

    #[test]
    fn one_probe_runs_at_a_time_and_the_next_one_waits() {
        let mut schedule = Schedule::default();
        assert!(schedule.take(1_000, Request::None));
        assert!(!schedule.take(9_000, Request::AtOnce), "one is running");
        schedule.done(9_000, Duration::from_secs(5));
        assert!(!schedule.take(13_999, Request::None));
        assert!(schedule.take(14_000, Request::None));
    }

    #[test]
    fn a_requested_probe_starts_at_once_but_is_rate_limited() {
        let mut schedule = Schedule::default();
        assert!(schedule.take(1_000, Request::None));
        schedule.done(1_010, Duration::from_secs(5));
        assert!(!schedule.take(1_050, Request::AtOnce));
        assert!(schedule.take(1_100, Request::AtOnce));
    }

    #[test]
    fn failed_requests_cause_at_most_one_probe_per_second() {
        let mut schedule = Schedule::default();
        assert!(schedule.take(1_000, Request::Suspicion));
        assert!(!schedule.take(2_500, Request::Suspicion), "one is in flight");
        schedule.done(2_600, Duration::from_secs(5));
        assert!(schedule.take(2_600, Request::Suspicion));
        schedule.done(2_610, Duration::from_secs(5));
        assert!(!schedule.take(3_599, Request::Suspicion));
        assert!(schedule.take(3_600, Request::Suspicion));
    }

    #[test]
    fn the_pause_is_short_before_a_verdict_and_grows_for_an_unreachable_server() {
        let settings = settings();
        assert_eq!(pause(&settings, 1, true), Duration::from_secs(1));
        assert_eq!(pause(&settings, 0, false), Duration::from_secs(5));
        assert_eq!(pause(&settings, 11, false), Duration::from_secs(5));
        assert_eq!(pause(&settings, 12, false), Duration::from_secs(10));
        assert_eq!(pause(&settings, 5_000, false), Duration::from_secs(15));
    }
}

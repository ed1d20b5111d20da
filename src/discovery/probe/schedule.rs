//! When a port is probed next: after an interval with jitter, sooner while one more probe may change the verdict, later
//! while a server stays UNREACHABLE.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Probe;
use crate::util::clock;

/// While one more probe may change the verdict.
const MAX_UNSETTLED_PAUSE: Duration = Duration::from_secs(1);
/// How many times longer the interval of an UNREACHABLE server gets.
const MAX_BACK_OFF: u32 = 3;

/// Why a probe may come before it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// It may not.
    None,
    /// A request failed after it was sent, which clients can cause as often as they like.
    Suspicion,
    /// A connect failed, or the address changed.
    AtOnce,
}

impl Request {
    /// Between the beginnings of two such probes.
    fn min_interval_ms(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Suspicion => Some(1_000),
            Self::AtOnce => Some(100),
        }
    }
}

/// When one port was probed and is due.
#[derive(Debug, Default)]
pub struct Schedule {
    due_ms: u64,
    began_ms: u64,
    running: bool,
}

impl Schedule {
    /// True if a probe must begin now: one is due or requested, and none is running.
    pub fn take(&mut self, now_ms: u64, request: Request) -> bool {
        let since_last = now_ms.saturating_sub(self.began_ms);
        let soon = request.min_interval_ms().is_some_and(|min| since_last >= min);
        if self.running || !(now_ms >= self.due_ms || soon) {
            return false;
        }
        self.running = true;
        self.began_ms = now_ms;
        true
    }

    fn done(&mut self, now_ms: u64, pause: Duration) {
        self.running = false;
        self.due_ms = now_ms.saturating_add(clock::saturating_millis(pause));
    }
}

/// The pause after a probe, without jitter; `failures` = bad probes in a row.
#[must_use]
pub fn pause(settings: &Probe, failures: u32, unsettled: bool) -> Duration {
    if unsettled {
        return settings.interval.min(MAX_UNSETTLED_PAUSE);
    }
    // The interval stays for ten failures after the verdict: most servers are back by then.
    let beyond = failures.saturating_sub(settings.unreachable_after);
    settings.interval * (1 + beyond / 10).min(MAX_BACK_OFF)
}

/// A running probe; dropping it sets when the port is due again.
#[derive(Debug)]
pub struct RunningProbe {
    schedule: Arc<Mutex<Schedule>>,
    settings: Probe,
    /// Bad probes in a row, this one included.
    pub failures: u32,
    /// One more probe may change the verdict.
    pub unsettled: bool,
}

impl RunningProbe {
    /// After [`Schedule::take`].
    #[must_use]
    pub fn new(schedule: Arc<Mutex<Schedule>>, settings: Probe) -> Self {
        Self { schedule, settings, failures: 0, unsettled: false }
    }
}

impl Drop for RunningProbe {
    fn drop(&mut self) {
        let pause = pause(&self.settings, self.failures, self.unsettled).mul_f64(0.9 + 0.2 * fastrand::f64());
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
    fn one_probe_runs_at_a_time_and_the_next_waits_for_its_pause() {
        let mut schedule = Schedule::default();
        assert!(schedule.take(1_000, Request::None));
        assert!(!schedule.take(9_000, Request::AtOnce), "one is running");
        schedule.done(9_000, Duration::from_secs(5));
        assert!(!schedule.take(13_999, Request::None));
        assert!(schedule.take(14_000, Request::None));
    }

    #[test]
    fn a_requested_probe_begins_at_once_but_not_in_a_storm() {
        let mut schedule = Schedule::default();
        assert!(schedule.take(1_000, Request::None));
        schedule.done(1_010, Duration::from_secs(5));
        assert!(!schedule.take(1_050, Request::AtOnce));
        assert!(schedule.take(1_100, Request::AtOnce));
    }

    #[test]
    fn failed_requests_cause_one_probe_a_second_at_most() {
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
    fn an_open_verdict_is_probed_soon_and_a_dead_server_less_and_less_often() {
        let settings = settings();
        assert_eq!(pause(&settings, 1, true), Duration::from_secs(1));
        assert_eq!(pause(&settings, 0, false), Duration::from_secs(5));
        assert_eq!(pause(&settings, 11, false), Duration::from_secs(5));
        assert_eq!(pause(&settings, 12, false), Duration::from_secs(10));
        assert_eq!(pause(&settings, 5_000, false), Duration::from_secs(15));
    }
}

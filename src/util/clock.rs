//! The only place that reads time.
//!
//! Out: milliseconds of a monotonic clock that starts with the process, and wall-clock time for
//! cookies and people. Nothing below `select`, `url`, `directory` and `cluster` calls it.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Offset so that no moment of the process is ever 0, which atomics use for "never".
pub const START_OFFSET_MS: u64 = 1_000;

/// Milliseconds on the monotonic clock.
#[must_use]
pub fn now_ms() -> u64 {
    instant_ms(Instant::now())
}

/// A moment as [`now_ms`] would have said it.
#[must_use]
pub fn instant_ms(at: Instant) -> u64 {
    START_OFFSET_MS.saturating_add(saturating_millis(at.saturating_duration_since(*START)))
}

/// Whole milliseconds of a time.
#[must_use]
pub fn saturating_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970 at which the process began.
#[must_use]
pub fn process_start_unix_secs() -> u64 {
    unix_secs().saturating_sub(now_ms().saturating_sub(START_OFFSET_MS) / 1_000)
}

/// Seconds since 1970: by the clock of the kernel's last tick, some milliseconds ago, as every request asks several
/// times and this costs a fifth of the other one.
#[must_use]
pub fn unix_secs() -> u64 {
    u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0)
}

/// Time that a processor has spent on the calling thread.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0))
}

/// Appends `2026-11-22T05:07:38.123Z`; the seconds are formatted once by each thread.
pub fn push_rfc3339_time(line: &mut String) {
    thread_local! {
        static FORMATTED_SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = unix_ms();
    FORMATTED_SECOND.with_borrow_mut(|(second, text)| {
        if *second != now / 1_000 {
            *second = now / 1_000;
            let at = i64::try_from(*second).ok().and_then(|s| chrono::DateTime::from_timestamp(s, 0));
            *text = at.map(|at| at.format("%Y-%m-%dT%H:%M:%S.").to_string()).unwrap_or_default();
        }
        line.push_str(text);
    });
    for place in [100, 10, 1] {
        line.push(char::from(b'0' + (now % 1_000 / place % 10) as u8));
    }
    line.push('Z');
}

/// Appends `22/Nov/2026:05:07:38 +0000`, as Apache's log formats want it. Formatting a date costs more than
/// the rest of a line, so each thread does it once a second.
pub fn push_clf_time(line: &mut String) {
    thread_local! {
        static FORMATTED_SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = unix_secs();
    FORMATTED_SECOND.with_borrow_mut(|(second, text)| {
        if *second != now {
            *second = now;
            *text = chrono::Utc::now().format("%d/%b/%Y:%H:%M:%S +0000").to_string();
        }
        line.push_str(text);
    });
}

/// A tenth more or less, so that many balancers do not ask in step.
#[must_use]
pub fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

//! The clocks of the process: a monotonic clock in milliseconds, and wall-clock time for cookies, logs and
//! people. `domain` never uses it; its callers pass the time in.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Added to the monotonic time so that it is never 0, which atomics use for "never".
pub const START_OFFSET_MS: u64 = 1_000;

/// Milliseconds on the monotonic clock of this process.
#[must_use]
pub fn now_ms() -> u64 {
    instant_ms(Instant::now())
}

/// Converts an [`Instant`] to the scale of [`now_ms`].
#[must_use]
pub fn instant_ms(at: Instant) -> u64 {
    START_OFFSET_MS.saturating_add(saturating_millis(at.saturating_duration_since(*START)))
}

/// Whole milliseconds of a duration.
#[must_use]
pub fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in seconds at which the process started.
#[must_use]
pub fn process_start_unix_secs() -> u64 {
    unix_secs().saturating_sub(now_ms().saturating_sub(START_OFFSET_MS) / 1_000)
}

/// Unix time in seconds, from the clock of the last kernel tick: every request reads it several times, and the coarse
/// clock costs a fifth of the precise one.
#[must_use]
pub fn unix_secs() -> u64 {
    u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0)
}

/// CPU time that the calling thread has used.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Unix time in milliseconds.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, saturating_millis)
}

/// Appends `2026-11-22T05:07:38.123Z`. Each thread formats a second only once.
pub fn push_rfc3339_time(line: &mut Vec<u8>) {
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
        line.extend_from_slice(text.as_bytes());
    });
    for divisor in [100, 10, 1] {
        line.push(b'0' + (now % 1_000 / divisor % 10) as u8);
    }
    line.push(b'Z');
}

/// Appends `22/Nov/2026:05:07:38 +0000`, the time of Apache's log formats. Formatting a date costs more than the rest
/// of a log line, so each thread does it once a second.
pub fn push_clf_time(line: &mut Vec<u8>) {
    thread_local! {
        static FORMATTED_SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = unix_secs();
    FORMATTED_SECOND.with_borrow_mut(|(second, text)| {
        if *second != now {
            *second = now;
            *text = chrono::Utc::now().format("%d/%b/%Y:%H:%M:%S +0000").to_string();
        }
        line.extend_from_slice(text.as_bytes());
    });
}

/// A time as people read a clock here: `09:10:00`. One that is older than a day has its date.
#[must_use]
pub fn local_time_of_day(at_unix_ms: u64) -> String {
    local_time(at_unix_ms, "%H:%M:%S")
}

/// As [`local_time_of_day`], without seconds.
#[must_use]
pub fn local_minute(at_unix_ms: u64) -> String {
    local_time(at_unix_ms, "%H:%M")
}

fn local_time(at_unix_ms: u64, format: &str) -> String {
    let at = i64::try_from(at_unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    let Some(at) = at.map(|at| at.with_timezone(&chrono::Local)) else { return String::new() };
    let is_old = unix_ms().saturating_sub(at_unix_ms) >= 86_400_000;
    let date = if is_old { at.format("%Y-%m-%d ").to_string() } else { String::new() };
    format!("{date}{}", at.format(format))
}

/// Varies a duration by up to a tenth, so that several balancers do not poll in step.
#[must_use]
pub fn jitter(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

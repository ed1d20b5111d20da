//! Dates as Domino and HTTP print them, always in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The time of a clock that is ahead by this many milliseconds.
pub fn skewed_ms(skew_ms: i64) -> u64 {
    now_ms().saturating_add_signed(skew_ms)
}

/// The current time in seconds since 1970.
pub fn now() -> u64 {
    now_ms() / 1000
}

/// Year, month, day of a day number since 1970 (Hinnant's civil_from_days).
fn date_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// `20261120T081500,12Z`: the timestamp of `?ReadViewEntries`, with hundredths.
pub fn format_domino(ms: u64) -> String {
    let s = ms / 1000;
    let (y, m, d) = date_from_days((s / 86_400) as i64);
    let t = s % 86_400;
    format!("{y:04}{m:02}{d:02}T{:02}{:02}{:02},{:02}Z", t / 3600, t / 60 % 60, t % 60, ms % 1000 / 10)
}

/// `2026-11-20T08:15:00Z` (ISO 8601).
pub fn format_iso(ms: u64) -> String {
    let s = ms / 1000;
    let (y, m, d) = date_from_days((s / 86_400) as i64);
    let t = s % 86_400;
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", t / 3600, t / 60 % 60, t % 60)
}

/// `Fri, 20 Nov 2026 08:15:00 GMT`.
pub fn http_date(s: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (y, m, d) = date_from_days((s / 86_400) as i64);
    let t = s % 86_400;
    format!(
        "{}, {d:02} {} {y:04} {:02}:{:02}:{:02} GMT",
        DAYS[(s / 86_400 % 7) as usize],
        MONTHS[(m - 1) as usize],
        t / 3600,
        t / 60 % 60,
        t % 60
    )
}

/// `11/20/2026 08:00:00 AM`, as the Prometheus exporter prints a maintenance window.
pub fn format_exporter(s: u64) -> String {
    let (y, m, d) = date_from_days((s / 86_400) as i64);
    let t = s % 86_400;
    let (hour, half) = (t / 3600 % 12, if t / 3600 < 12 { "AM" } else { "PM" });
    let hour = if hour == 0 { 12 } else { hour };
    format!("{m:02}/{d:02}/{y:04} {hour:02}:{:02}:{:02} {half}", t / 60 % 60, t % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_formatted_as_in_the_samples() {
        assert_eq!(super::format_domino(1_795_162_500_120), "20261120T081500,12Z");
        assert_eq!(super::format_iso(1_795_162_500_120), "2026-11-20T08:15:00Z");
        assert_eq!(super::http_date(1_795_162_500), "Fri, 20 Nov 2026 08:15:00 GMT");
        assert_eq!(super::format_exporter(1_795_161_600), "11/20/2026 08:00:00 AM");
    }
}

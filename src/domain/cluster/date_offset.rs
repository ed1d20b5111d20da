//! The difference between the clock of a server and ours. The time of a write in a cookie is on the clock of the server,
//! because several balancers read it; the times of replicas are on our clock.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// A `Date` further from our clock is not believed: it is wrong, or that of an answer from a cache. Kerberos, which
/// Windows single sign-on needs, allows no more either.
const MAX_OFFSET_SECS: i64 = 5 * 60;

/// By how many seconds the last `Date` of a server was ahead of our clock; 0 until one is known.
#[derive(Debug, Default)]
pub struct DateOffset(AtomicI64);

impl DateOffset {
    /// The time on the server's clock at the moment of its answer: its `Date` if that is plausible, else our own time
    /// with the last known offset. All in Unix seconds.
    pub fn time_of_answer(&self, date: Option<i64>, now: i64) -> i64 {
        match date.filter(|date| date.abs_diff(now) <= MAX_OFFSET_SECS.unsigned_abs()) {
            Some(date) => {
                self.0.store(date - now, Relaxed);
                date
            }
            None => self.ours_to_server(now),
        }
    }

    /// Converts a time of our clock to the server's, in Unix seconds.
    #[must_use]
    pub fn ours_to_server(&self, time: i64) -> i64 {
        time + self.0.load(Relaxed)
    }

    /// Converts a time of the server's clock to ours, in Unix seconds.
    #[must_use]
    pub fn to_ours(&self, time: i64) -> i64 {
        time - self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_server_is_converted_with_the_offset_of_its_last_answer() {
        let offset = DateOffset::default();
        assert_eq!((offset.time_of_answer(None, 1_000), offset.to_ours(1_000)), (1_000, 1_000));
        assert_eq!(offset.time_of_answer(Some(940), 1_000), 940);
        assert_eq!(offset.to_ours(940), 1_000);
        assert_eq!(offset.time_of_answer(None, 1_010), 950, "without a date the offset is kept");
    }

    #[test]
    fn an_implausible_date_is_not_believed() {
        let offset = DateOffset::default();
        for date in [i64::MIN, 0, 9_699, 10_301, i64::MAX] {
            assert_eq!(offset.time_of_answer(Some(date), 10_000), 10_000, "{date}");
        }
        assert_eq!(offset.to_ours(10_000), 10_000);
    }
}

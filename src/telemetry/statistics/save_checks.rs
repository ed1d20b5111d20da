//! Answers to "did my save happen?", and how many are being looked for. Apart from the traffic, because each one asks several
//! servers: the number at a time is limited.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The label `answer` of the metric.
pub(crate) const SAVE_ANSWERS: [&str; 3] = ["saved", "not_saved", "unknown"];
/// For one cluster: an answer takes 5 s at most, and people ask, not programs.
const MAX_RUNNING: usize = 16;

/// The save checks of one cluster.
#[derive(Debug, Default)]
pub struct SaveChecks {
    answers: [AtomicU64; SAVE_ANSWERS.len()],
    running: AtomicUsize,
}

/// Counts one check until it is dropped.
#[derive(Debug)]
pub struct RunningSaveCheck<'a>(&'a SaveChecks);

impl SaveChecks {
    /// `None` if too many are running.
    pub fn begin(&self) -> Option<RunningSaveCheck<'_>> {
        // Dropped at once if it is one too many.
        let this = RunningSaveCheck(self);
        (self.running.fetch_add(1, Relaxed) < MAX_RUNNING).then_some(this)
    }

    /// Counts an answer; `answer` is one of `SAVE_ANSWERS`.
    pub fn record(&self, answer: &str) {
        for (known, count) in SAVE_ANSWERS.iter().zip(&self.answers) {
            if *known == answer {
                count.fetch_add(1, Relaxed);
            }
        }
    }

    /// The answers, by `SAVE_ANSWERS`.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SAVE_ANSWERS.into_iter().zip(self.answers.iter().map(|count| count.load(Relaxed)))
    }
}

impl Drop for RunningSaveCheck<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_checks_runs_at_a_time() {
        let checks = SaveChecks::default();
        let mut running: Vec<_> = (0..MAX_RUNNING).map(|_| checks.begin().unwrap()).collect();
        assert!(checks.begin().is_none() && checks.begin().is_none());
        running.pop();
        assert!(checks.begin().is_some());
        drop(running);
        assert_eq!(checks.running.load(Relaxed), 0);
    }

    #[test]
    fn every_answer_is_counted_by_its_word() {
        let checks = SaveChecks::default();
        for answer in ["saved", "unknown", "unknown", "something else"] {
            checks.record(answer);
        }
        assert_eq!(checks.answers().collect::<Vec<_>>(), [("saved", 1), ("not_saved", 0), ("unknown", 2)]);
    }
}

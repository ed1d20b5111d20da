//! Limits a kind of log line to one in a time, for lines that clients can cause. Separate, because several features have such
//! lines.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::clock;

/// When a kind of log line was written last, and how long the next one waits.
#[derive(Debug)]
pub(crate) struct LogInterval {
    interval_ms: u64,
    /// On the clock of [`clock::now_ms`]; 0 before the first line.
    last_ms: AtomicU64,
}

impl LogInterval {
    pub const fn new(interval_ms: u64) -> Self {
        Self { interval_ms, last_ms: AtomicU64::new(0) }
    }

    /// Whether a line may be written now. Of several threads at the same moment one may.
    pub fn is_due(&self) -> bool {
        self.is_due_at(clock::now_ms())
    }

    fn is_due_at(&self, now_ms: u64) -> bool {
        // 0 means that there was no line yet.
        let (now, last) = (now_ms.max(1), self.last_ms.load(Relaxed));
        (last == 0 || now.saturating_sub(last) >= self.interval_ms)
            && self.last_ms.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_due_at_once_and_the_next_after_the_interval() {
        let interval = LogInterval::new(1_000);
        let due: Vec<bool> = [0, 1, 1_000, 1_001, 1_002].map(|now| interval.is_due_at(now)).into();
        assert_eq!(due, [true, false, false, true, false]);
    }
}

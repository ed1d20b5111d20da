//! The rehearsed failover of this process: at most one, which requests read without a lock. It is apart from what begins and
//! ends it, because the state of a cluster contains it.

mod counts;
mod report;
mod running;
mod summary;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

pub(crate) use report::{OnlyReplicas, RehearsalReport};
pub(crate) use running::{RehearsalPart, RequestResult, RunningRehearsal};

use crate::domain::rehearsal::RehearsalEnd;

/// The rehearsal that requests of one cluster read.
#[derive(Debug, Default)]
pub(crate) struct RehearsalSlot {
    /// Without a rehearsal this is all that a request reads.
    is_set: AtomicBool,
    current: ArcSwapOption<RunningRehearsal>,
}

impl RehearsalSlot {
    /// The rehearsal that runs at this time, in milliseconds of [`crate::util::clock::now_ms`].
    pub(crate) fn running(&self, now_ms: impl FnOnce() -> u64) -> Option<Arc<RunningRehearsal>> {
        if !self.is_set.load(Relaxed) {
            return None;
        }
        // The task that ends it on time may be late.
        self.current.load_full().filter(|rehearsal| rehearsal.is_running() && now_ms() < rehearsal.ends_ms)
    }

    pub(super) fn set(&self, rehearsal: Arc<RunningRehearsal>) {
        self.current.store(Some(rehearsal));
        self.is_set.store(true, Relaxed);
    }

    pub(super) fn clear(&self) {
        self.is_set.store(false, Relaxed);
        self.current.store(None);
    }
}

/// The last rehearsal of the process, and how often rehearsals ended for each reason.
#[derive(Debug, Default)]
pub(crate) struct Rehearsals {
    /// Locked while one begins or ends.
    pub(super) last: Mutex<Option<Arc<RunningRehearsal>>>,
    ended: [AtomicU64; RehearsalEnd::ALL.len()],
}

impl Rehearsals {
    /// The one that runs, or the last one that ran.
    pub(crate) fn last(&self) -> Option<Arc<RunningRehearsal>> {
        self.last.lock().clone()
    }

    /// The one that runs.
    pub(crate) fn running(&self) -> Option<Arc<RunningRehearsal>> {
        self.last().filter(|rehearsal| rehearsal.is_running())
    }

    pub(super) fn count_end(&self, why: RehearsalEnd) {
        let position = RehearsalEnd::ALL.iter().position(|end| *end == why);
        if let Some(count) = position.and_then(|position| self.ended.get(position)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// How many have ended for each reason.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (RehearsalEnd, u64)> {
        RehearsalEnd::ALL.into_iter().zip(&self.ended).map(|(end, count)| (end, count.load(Relaxed)))
    }
}

//! The rehearsed failover of this process: at most one, started and stopped by administrators, watched by one task, and
//! read by requests. The rules are those of [`crate::domain::rehearsal`].

mod counts;
mod report;
mod running;
mod start;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

pub(crate) use report::RehearsalReport;
pub(crate) use running::{RehearsalPart, RequestResult, RunningRehearsal};
pub(crate) use start::{RehearsalOrder, RehearsalRefusal, start};

use super::Balancer;
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

    fn set(&self, rehearsal: Arc<RunningRehearsal>) {
        self.current.store(Some(rehearsal));
        self.is_set.store(true, Relaxed);
    }

    fn clear(&self) {
        self.is_set.store(false, Relaxed);
        self.current.store(None);
    }
}

/// The last rehearsal of the process, and how often rehearsals ended for each reason.
#[derive(Debug, Default)]
pub(crate) struct Rehearsals {
    last: Mutex<Option<Arc<RunningRehearsal>>>,
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

    /// How many have ended for each reason.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (RehearsalEnd, u64)> {
        RehearsalEnd::ALL.into_iter().zip(&self.ended).map(|(end, count)| (end, count.load(Relaxed)))
    }
}

/// Ends a rehearsal, unless it has ended already. Requests that come now know nothing of it.
pub(crate) fn end(balancer: &Balancer, rehearsal: &RunningRehearsal, why: RehearsalEnd, detail: String) {
    {
        // The next rehearsal of the cluster begins under the same lock, so that its slot is not cleared.
        let _last = balancer.rehearsals.last.lock();
        if !rehearsal.set_end(why, detail) {
            return;
        }
        balancer.persistent_state(&rehearsal.cluster).rehearsal.clear();
    }
    let position = RehearsalEnd::ALL.iter().position(|end| *end == why);
    if let Some(count) = position.and_then(|position| balancer.rehearsals.ended.get(position)) {
        count.fetch_add(1, Relaxed);
    }
    let level = if why == RehearsalEnd::Time { log::Level::Info } else { log::Level::Warn };
    balancer.events.record(level, "rehearsal", Some(&rehearsal.cluster), rehearsal.end_text());
}

/// Ends the rehearsal that runs, and returns it.
pub(crate) fn end_running(
    balancer: &Balancer,
    why: RehearsalEnd,
    detail: &str,
) -> Option<Arc<RunningRehearsal>> {
    let rehearsal = balancer.rehearsals.running()?;
    end(balancer, &rehearsal, why, detail.to_owned());
    Some(rehearsal)
}

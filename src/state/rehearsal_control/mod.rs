//! Begins and ends the rehearsed failover of this process: by order of an administrator, by a task that watches time and
//! servers, and by errors. The rules are those of [`crate::domain::rehearsal`].

mod start;
mod watch;

use std::sync::Arc;

pub(crate) use start::{RehearsalOrder, RehearsalRefusal, start};

use super::Balancer;
use super::rehearsal::RunningRehearsal;
use crate::domain::rehearsal::RehearsalEnd;

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
    balancer.rehearsals.count_end(why);
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

//! Whether the new users of a cluster cross to another site, by the state of the servers alone: an event says when this
//! begins and ends.
//!
//! It is separate from the counter of requests, because users who crossed stay for a while, and a cluster without
//! requests crosses too.

use parking_lot::Mutex;

use super::{Balancer, Cluster, ClusterView};
use crate::domain::cluster::{Port, SiteName};
use crate::domain::select::{Candidate, SelectionInput, SelectionPolicy, ServerId, decide};
use crate::util::clock;

/// A crossing ends when the own site has taken new users for so long, so that a server that comes and goes, or is BUSY now
/// and then, does not fill the list of events.
const END_AFTER_MS: u64 = 10_000;

/// Since when new users cross, if they do.
#[derive(Debug, Default)]
pub(crate) struct SiteCrossing(Mutex<Option<Crossing>>);

#[derive(Clone, Copy, Debug)]
struct Crossing {
    since_ms: u64,
    since_unix_ms: u64,
    /// Since when the own site takes new users again.
    home_since_ms: Option<u64>,
}

/// What changed between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CrossingChange {
    Began,
    /// After so many milliseconds.
    Ended(u64),
}

impl SiteCrossing {
    /// Since when new users have crossed, in milliseconds since 1970; `None`: they do not.
    pub(crate) fn since_unix_ms(&self) -> Option<u64> {
        self.0.lock().map(|crossing| crossing.since_unix_ms)
    }

    fn observe(&self, crosses: bool, now_ms: u64) -> Option<CrossingChange> {
        let mut current = self.0.lock();
        let Some(crossing) = current.as_mut() else {
            *current = crosses.then(|| Crossing {
                since_ms: now_ms,
                since_unix_ms: clock::unix_ms(),
                home_since_ms: None,
            });
            return crosses.then_some(CrossingChange::Began);
        };
        if crosses {
            crossing.home_since_ms = None;
            return None;
        }
        let home_since_ms = *crossing.home_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(home_since_ms) < END_AFTER_MS {
            return None;
        }
        let lasted_ms = home_since_ms.saturating_sub(crossing.since_ms);
        *current = None;
        Some(CrossingChange::Ended(lasted_ms))
    }
}

/// Compares the cluster with the moment before, and records an event if a crossing began or ended.
pub(super) fn update(balancer: &Balancer, cluster: &Cluster, view: &ClusterView, now_ms: u64) {
    let crossing = &cluster.persistent_state.site_crossing;
    // Before the first probes every server is UNREACHABLE.
    if !balancer.is_ready() || (!view.has_other_sites && crossing.0.lock().is_none()) {
        return;
    }
    let target = crosses_to(cluster, view, now_ms);
    let own = cluster.site.as_ref().map_or("-", SiteName::as_str);
    let name = Some(cluster.settings.name.as_str());
    match (crossing.observe(target.is_some(), now_ms), target) {
        (Some(CrossingChange::Began), Some(server)) => {
            let other = view.server(server).and_then(|entry| entry.config.site.as_ref());
            let other = other.map_or("-", SiteName::as_str);
            let text = format!("new users go to site {other}: no server of site {own} takes them");
            balancer.events.record(log::Level::Warn, "site", name, text);
        }
        (Some(CrossingChange::Ended(lasted_ms)), _) => {
            let lasted = humantime::format_duration(std::time::Duration::from_secs(lasted_ms / 1_000));
            let text = format!("new users stay in site {own} again, after {lasted}");
            balancer.events.record(log::Level::Info, "site", name, text);
        }
        _ => {}
    }
}

/// The server of another site that a new user would get who asks for a database that every server has.
fn crosses_to(cluster: &Cluster, view: &ClusterView, now_ms: u64) -> Option<ServerId> {
    let mut candidates = smallvec::SmallVec::new();
    view.candidates(None, &mut candidates);
    // What passes in a moment is no crossing.
    candidates
        .iter_mut()
        .for_each(|Candidate { snapshot, .. }| (snapshot.in_flight, snapshot.returned_at_ms) = (0, None));
    let policy = SelectionPolicy { try_unreachable: false, ..cluster.selection_policy };
    let ports = [Port::Http, Port::Https].into_iter().filter(|port| cluster.settings.uses(*port));
    let chosen = ports.filter_map(|port| {
        decide(&SelectionInput::without_affinity(&candidates, port, now_ms, 0), &policy).chosen()
    });
    chosen.into_iter().find(|server| view.is_of_other_site(*server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_begins_at_once_and_ends_when_the_own_site_has_been_well_for_a_while() {
        let crossing = SiteCrossing::default();
        assert_eq!(crossing.observe(false, 1_000), None);
        assert_eq!(crossing.observe(true, 2_000), Some(CrossingChange::Began));
        for (crosses, now_ms) in
            [(true, 3_000), (false, 4_000), (true, 9_000), (false, 20_000), (false, 29_999)]
        {
            assert_eq!(crossing.observe(crosses, now_ms), None, "{now_ms}");
        }
        assert!(crossing.since_unix_ms().is_some());
        assert_eq!(crossing.observe(false, 30_000), Some(CrossingChange::Ended(18_000)));
        assert_eq!((crossing.since_unix_ms(), crossing.observe(false, 31_000)), (None, None));
    }
}

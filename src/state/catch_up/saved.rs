//! Outages and gates over restarts and handovers: read before the first request, written when they change.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::kept::{CATCH_UP_FILE, KeptCatchUp};
use crate::domain::cluster::ServerName;
use crate::domain::cluster::catch_up::OutageRecord;
use crate::state::state_file::StateFileError;
use crate::state::{Balancer, PersistentState};
use crate::util::clock;

/// An older record of a server that is no member now is dropped.
const MAX_AGE_MS: u64 = 30 * 24 * 3_600_000;

/// All clusters by name, so that the same state gives the same text.
pub(super) fn sorted_states(balancer: &Balancer) -> Vec<(String, Arc<PersistentState>)> {
    let states = balancer.persistent_states.lock();
    let mut all: Vec<_> = states.iter().map(|(name, state)| (name.clone(), Arc::clone(state))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// The outages and gates that this ICM saw, and the gates that it opened last.
#[must_use]
pub(crate) fn local_records(balancer: &Balancer) -> Vec<KeptCatchUp> {
    let mut list = Vec::new();
    for (cluster, state) in sorted_states(balancer) {
        let inner = state.catch_up.lock();
        let records = inner.tracker.records().into_iter();
        list.extend(records.map(|record| KeptCatchUp::from_record(&cluster, record)));
        list.extend(inner.opened.values().cloned());
    }
    list
}

/// Applies the saved outages before the first request. If the file is damaged, its copy is used and an event recorded.
///
/// # Errors
/// When the file exists but cannot be read: a start without it would trust servers that lack changes.
pub(crate) fn load_from_state_dir(balancer: &Balancer) -> Result<(), StateFileError> {
    let snapshot = balancer.snapshot();
    let Some(dir) = &snapshot.settings.state_dir else { return Ok(()) };
    let loaded = CATCH_UP_FILE.load::<KeptCatchUp>(dir)?;
    if let Some(damage) = loaded.damage_report {
        balancer.events.record(log::Level::Error, "catch_up", None, damage);
    }
    let oldest = clock::unix_ms().saturating_sub(MAX_AGE_MS);
    let recent = |kept: &KeptCatchUp| kept.returned.unwrap_or(kept.unreachable_since) >= oldest;
    let records: Vec<KeptCatchUp> = loaded.records.into_iter().filter(recent).collect();
    put(balancer, &records);
    Ok(())
}

/// Replaces the outages and gates by those of the process that this one takes over from, which has seen more.
pub(crate) fn replace_local_catch_up(balancer: &Balancer, records: &[KeptCatchUp]) {
    put(balancer, records);
    balancer.owns_state.store(true, Relaxed);
    for cluster in &balancer.snapshot().clusters {
        balancer.update_catch_up(&cluster.settings.name, None);
    }
}

fn put(balancer: &Balancer, records: &[KeptCatchUp]) {
    {
        let mut states = balancer.persistent_states.lock();
        for kept in records {
            states.entry(kept.cluster.clone()).or_default();
        }
    }
    for (cluster, state) in sorted_states(balancer) {
        let of_cluster = || records.iter().filter(|kept| kept.cluster == cluster);
        let not_open = of_cluster().filter(|kept| kept.opened.is_none());
        let restored: Vec<OutageRecord> = not_open.filter_map(KeptCatchUp::to_record).collect();
        let opened = of_cluster().filter(|kept| kept.opened.is_some());
        let opened =
            opened.filter_map(|kept| Some((ServerName::parse(&kept.server).ok()?, kept.clone()))).collect();
        {
            let mut inner = state.catch_up.lock();
            inner.tracker.restore(restored);
            inner.opened = opened;
        }
        let snapshot = balancer.snapshot();
        let Some(cluster) = snapshot.clusters.iter().find(|c| c.settings.name == cluster) else { continue };
        for entry in &cluster.view.load().entries {
            if let Some(change) = state.catch_up.restore(&entry.server) {
                balancer.events.record_transition(&cluster.settings.name, &entry.config.name, &change);
            }
        }
    }
}

/// Writes the file if anything changed since the last time. A process that does not serve yet, or no longer, leaves the
/// file to the other one. Blocks.
///
/// # Errors
/// When a file cannot be written; the next call tries again.
pub(crate) fn save_if_changed(balancer: &Balancer) -> Result<(), StateFileError> {
    let snapshot = balancer.snapshot();
    let Some(dir) = &snapshot.settings.state_dir else { return Ok(()) };
    // Held while writing, so that an older list never replaces a newer one.
    let mut saved = balancer.saved_catch_up.lock();
    if !balancer.owns_state.load(Relaxed) || balancer.upgrade.has_handed_over() {
        return Ok(());
    }
    let records = local_records(balancer);
    if saved.as_ref() == Some(&records) || (saved.is_none() && records.is_empty()) {
        return Ok(());
    }
    CATCH_UP_FILE.save(dir, &records)?;
    *saved = Some(records);
    Ok(())
}

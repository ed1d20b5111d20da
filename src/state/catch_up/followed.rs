//! Gates and ICMs that follow each other: a follower keeps closed what the followed ICM keeps closed, and opens its own gate
//! when the followed ICM opens the one for the same outage.

use std::collections::BTreeMap;

use super::kept::KeptCatchUp;
use super::{CatchUpInner, now, rules};
use crate::domain::cluster::catch_up::{CatchUpAction, Moment, OpenReason, ServerReachability};
use crate::domain::cluster::{CatchUpElsewhere, ServerName};
use crate::state::{Balancer, Cluster};

/// Two ICMs see an outage at different probes, and their clocks may differ.
const SAME_OUTAGE_MS: u64 = 60_000;

/// What ICMs that follow this one need: closed gates and those opened last, of this ICM and of those that it follows.
#[must_use]
pub(crate) fn records_for_followers(balancer: &Balancer) -> Vec<KeptCatchUp> {
    let mut all = super::local_records(balancer);
    all.retain(|kept| kept.is_closed() || kept.opened.is_some());
    let mut all: Vec<KeptCatchUp> = all.into_iter().map(KeptCatchUp::without_witnesses).collect();
    for (_, state) in super::saved::sorted_states(balancer) {
        all.extend(state.catch_up.lock().followed.values().flatten().cloned());
    }
    all
}

/// Replaces what the followed ICM has sent.
pub(crate) fn replace_followed_catch_up(balancer: &Balancer, records: &[KeptCatchUp]) {
    let mut by_cluster: BTreeMap<&str, BTreeMap<ServerName, Vec<KeptCatchUp>>> = BTreeMap::new();
    for kept in records {
        let Ok(server) = ServerName::parse(&kept.server) else { continue };
        by_cluster.entry(&kept.cluster).or_default().entry(server).or_default().push(kept.clone());
    }
    {
        let mut states = balancer.persistent_states.lock();
        for cluster in by_cluster.keys() {
            states.entry((*cluster).to_owned()).or_default();
        }
        for (cluster, state) in states.iter() {
            state.catch_up.lock().followed = by_cluster.remove(cluster.as_str()).unwrap_or_default();
        }
    }
    for cluster in &balancer.snapshot().clusters {
        apply_followed_gates(balancer, cluster);
        balancer.update_catch_up(&cluster.settings.name, None);
    }
}

/// Closes and opens what the followed ICM keeps closed. Its gates open at the limit even if it is never heard again.
pub(super) fn apply_followed_gates(balancer: &Balancer, cluster: &Cluster) {
    let (name, rules, now) = (&cluster.settings.name, rules(cluster), now());
    for entry in &cluster.view.load().entries {
        let (wanted, over) = {
            let inner = cluster.persistent_state.catch_up.lock();
            let gate = inner.followed_gate(&entry.config.name).filter(|_| rules.enabled);
            let is_over = |kept: &&KeptCatchUp| {
                let from = kept.limit_from.unwrap_or_default();
                now.unix_ms.saturating_sub(from) >= rules.limit_ms
            };
            let over = gate.is_some_and(|kept| is_over(&kept));
            let wanted = gate.filter(|_| !over).map(|kept| CatchUpElsewhere {
                returned_unix_ms: kept.returned.unwrap_or_default(),
                at: kept.at.clone().unwrap_or_default(),
            });
            (wanted, over)
        };
        let cause = match (&wanted, over) {
            (Some(gate), _) => format!("CATCHING UP on {}, which this ICM follows", gate.at),
            (None, true) => "catch_up.limit is over, and the followed ICM has not opened it".to_owned(),
            (None, false) => "no longer CATCHING UP on the followed ICM".to_owned(),
        };
        let had_gate = entry.server.read(|health| health.gate_elsewhere().is_some());
        let change = entry.server.set_gate_elsewhere(wanted, &cause, now.ms);
        if over && had_gate {
            cluster.persistent_state.catch_up.count(OpenReason::Limit);
            let text = format!("{}: {cause}", entry.config.name.abbreviated());
            balancer.events.record(log::Level::Warn, "catch_up", Some(name), text);
        }
        if let Some(change) = change {
            balancer.events.record_transition(name, &entry.config.name, &change);
        }
    }
}

impl CatchUpInner {
    /// The closed gate of this server on the followed ICM: the one that stays closed longest.
    pub(super) fn followed_gate(&self, server: &ServerName) -> Option<&KeptCatchUp> {
        let all = self.followed.get(server)?.iter();
        all.filter(|kept| kept.is_closed()).max_by_key(|kept| kept.limit_from)
    }

    /// Own gates for outages after which the followed ICM has opened its gate.
    pub(super) fn openings_of_followed_icm(
        &self,
        servers: &[ServerReachability],
        now: Moment,
    ) -> Vec<CatchUpAction> {
        if self.followed.is_empty() {
            return Vec::new();
        }
        let opening = |server: &ServerReachability| {
            let gate = server.health.gate.filter(|_| self.tracker.is_gated(&server.name))?;
            let began = gate.returned_unix_ms.saturating_sub(gate.outage_ms);
            let is_same = |kept: &&KeptCatchUp| {
                kept.opened.as_ref().is_some_and(|opened| {
                    let their_end = kept.returned.unwrap_or(opened.at);
                    began <= their_end.saturating_add(SAME_OUTAGE_MS)
                        && kept.unreachable_since <= gate.returned_unix_ms.saturating_add(SAME_OUTAGE_MS)
                        && gate.returned_unix_ms <= opened.at.max(now.unix_ms).saturating_add(SAME_OUTAGE_MS)
                        && their_end.saturating_add(SAME_OUTAGE_MS) >= gate.returned_unix_ms
                })
            };
            let kept = self.followed.get(&server.name)?.iter().find(is_same)?;
            let reason = kept.opened.as_ref().map(|opened| opened.reason.as_str()).unwrap_or_default();
            Some(CatchUpAction::Open {
                server: server.name.clone(),
                returned_ms: gate.returned_ms,
                reason: OpenReason::FollowedIcm,
                text: format!("opened on {} ({reason})", kept.at.as_deref().unwrap_or("the followed ICM")),
            })
        };
        servers.iter().filter_map(opening).collect()
    }
}

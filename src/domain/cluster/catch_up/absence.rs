//! One outage and the gate after it: whether the gate stays closed at the return, and what it waits for.

use std::collections::BTreeMap;

use super::evidence::{Exclusion, Witness};
use super::records::OutageRecord;
use super::types::{CatchUpAction, CatchUpRules, Moment, ServerReachability};
use crate::domain::cluster::health::duration;
use crate::domain::cluster::name::ServerName;
use crate::domain::cluster::state::ServerState;

/// An outage, and the gate after it.
#[derive(Clone, Debug)]
pub(super) struct Absence {
    /// `returned_unix_ms` and the times of the limit are set while there is a gate.
    pub(super) record: OutageRecord,
    pub(super) witnesses: BTreeMap<ServerName, Witness>,
    /// The return that was judged: its gate stays closed until there is evidence.
    pub(super) judged: Option<u64>,
}

impl Absence {
    /// The first decision after a return. As long as a server was never probed, it is not known whether another one can
    /// serve.
    pub(super) fn judge_return(
        &mut self,
        server: &ServerReachability,
        all: &[ServerReachability],
        has_source: bool,
        now: Moment,
        rules: CatchUpRules,
    ) -> Option<CatchUpAction> {
        let gate = server.health.gate?;
        let (name, returned_ms) = (server.name.clone(), gate.returned_ms);
        let not_gated = |text: Option<&str>| {
            let text = text.map(|text| {
                format!("{} returned after {}: {text}", name.abbreviated(), duration(gate.outage_ms))
            });
            Some(CatchUpAction::NotGated { server: name.clone(), returned_ms, text })
        };
        if !has_source || all.len() == 1 {
            return not_gated(None);
        }
        if self.record.all_unreachable {
            return not_gated(Some("all servers were UNREACHABLE together, so it is not set aside"));
        }
        let others = || all.iter().filter(|other| other.name != name);
        let serves = |state| matches!(state, ServerState::Available | ServerState::Busy);
        if !others().any(|other| serves(other.health.state)) {
            let is_certain = others().all(|other| other.health.probed);
            return if is_certain || gate.elapsed_ms(now.ms) >= rules.limit_ms {
                not_gated(Some("no other server is AVAILABLE or BUSY, so it is not set aside"))
            } else {
                None
            };
        }
        let is_new = self.record.limit_from_unix_ms.is_none() || gate.limit_from_ms == returned_ms;
        let started = match gate.limit_from_ms == returned_ms && gate.before_ms == 0 {
            true => gate.returned_unix_ms,
            false => now.unix_ms.saturating_sub(gate.elapsed_ms(now.ms)),
        };
        self.record.requested &= !is_new;
        self.record.returned_unix_ms = Some(gate.returned_unix_ms);
        self.record.outage_ms = gate.outage_ms;
        if is_new {
            self.record.limit_from_unix_ms = Some(started);
        }
        self.judged = Some(returned_ms);
        self.witnesses.values_mut().for_each(Witness::begin);
        Some(CatchUpAction::Gated { server: name, text: self.until(rules), is_new })
    }

    /// The servers whose evidence counts.
    pub(super) fn sources(&self) -> Vec<&str> {
        let counts = self.witnesses.iter().filter(|(_, witness)| witness.excluded.is_none());
        counts.map(|(name, _)| name.abbreviated()).collect()
    }

    fn until(&self, rules: CatchUpRules) -> String {
        let limit = duration(rules.limit_ms);
        match self.sources().as_slice() {
            [] => format!(
                "CATCHING UP for {limit}, because no server was reachable all the time that could show more"
            ),
            [one] => {
                format!("CATCHING UP until {one} reports that no replica waits for a retry, at most {limit}")
            }
            all => format!(
                "CATCHING UP until {} report that no replica waits for a retry, at most {limit}",
                all.join(" and ")
            ),
        }
    }

    pub(super) fn waiting_for(&self) -> Vec<String> {
        let counts = || self.witnesses.iter().filter(|(_, witness)| witness.excluded.is_none());
        if counts().next().is_some() {
            return counts().filter_map(|(name, witness)| witness.missing(name)).collect();
        }
        let reasons = self.witnesses.iter().filter_map(|(name, witness)| {
            let why = match witness.excluded? {
                Exclusion::Unreachable => "was UNREACHABLE itself since the outage began",
                Exclusion::Restarted => "restarted since the outage began, which empties its queue",
            };
            Some(format!("{} {why}", name.abbreviated()))
        });
        let reasons: Vec<String> = reasons.collect();
        let why = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
        vec![format!("no server can show it{why}")]
    }
}

//! Derives the state from everything known, and describes why it changed.

use super::ServerHealth;
use super::outage::duration;
use crate::domain::cluster::state::{Port, ServerState, Transition};

impl ServerHealth {
    fn unreachable_cause(&self, now_ms: u64, cause: &str) -> String {
        if let Some(reported) = self.agent_down(now_ms) {
            return reported;
        }
        let ports = [
            (Port::Http, self.settings.uses_http, self.settings.http),
            (Port::Https, self.settings.uses_https, self.settings.https),
        ];
        // A port that requests do not use is not the cause.
        let used: Vec<_> = ports.iter().filter(|(_, used, _)| *used).collect();
        match used.as_slice() {
            [(port, _, false)] => format!("it has no {port} port"),
            [(port, _, true)] if self.port(*port).probed && !self.port(*port).reachable => {
                self.port(*port).cause.clone()
            }
            _ => cause.to_owned(),
        }
    }

    /// Updates the state and the times that selection needs, and returns the transition.
    pub(super) fn update_state(&mut self, now_ms: u64, cause: &str) -> Option<Transition> {
        let restricted = self.is_restricted();
        let returns = self.restricted_since.is_some() && !restricted;
        match (restricted, self.restricted_since) {
            (true, None) => self.restricted_since = Some(now_ms),
            (false, Some(_)) => self.restricted_since = None,
            _ => {}
        }
        let old = self.state;
        let mut new = self.snapshot(now_ms).state;
        // The gate closes in the same step in which the server becomes reachable, so that no request slips in between.
        let outage_ms = match (old, new) {
            (ServerState::Unreachable, ServerState::Unreachable) => None,
            (ServerState::Unreachable, _) => self.end_outage(now_ms),
            (_, ServerState::Unreachable) => {
                self.begin_outage(now_ms);
                None
            }
            _ => None,
        };
        if outage_ms.is_some() {
            new = self.snapshot(now_ms).state;
        }
        if new == old {
            if returns {
                self.returned_at = Some(now_ms);
            }
            if new == ServerState::Unreachable && !self.is_settled && self.probed_once() {
                (self.is_settled, self.known) = (true, true);
                self.begin_outage(now_ms);
                self.cause = self.unreachable_cause(now_ms, cause);
            }
            return None;
        }
        let is_away = |state: ServerState| {
            matches!(state, ServerState::Unreachable | ServerState::Restricted | ServerState::CatchingUp)
        };
        let (was_away, is_back) = (is_away(old), !is_away(new));
        // The first probe is not a return: at the start all servers are equally cold.
        if was_away && is_back && self.known {
            self.returned_at = Some(now_ms);
        }
        (self.is_settled, self.known) = (true, true);
        let cause = match new {
            ServerState::Restricted => self.restrictions().join("; "),
            ServerState::Busy => {
                let snapshot = self.snapshot(now_ms);
                match snapshot.published_index {
                    Some(index) => format!(
                        "availability index {} at or under the threshold {}",
                        index.value, snapshot.threshold
                    ),
                    None => "the threshold 100 is always BUSY".to_owned(),
                }
            }
            ServerState::MaxUsers => {
                format!("{} users reach the limit", self.users.as_ref().map_or(0, |u| u.value))
            }
            ServerState::Unreachable => self.unreachable_cause(now_ms, cause),
            ServerState::CatchingUp => match outage_ms {
                Some(outage_ms) => format!("returned after {}", duration(outage_ms)),
                None => cause.to_owned(),
            },
            ServerState::Available => cause.to_owned(),
        };
        let held_ms = now_ms.saturating_sub(self.state_since);
        self.state = new;
        self.state_since = now_ms;
        self.cause.clone_from(&cause);
        Some(Transition { old, new, cause, held_ms })
    }
}

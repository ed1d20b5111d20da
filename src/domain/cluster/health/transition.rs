//! Derives the state from everything known, and describes why it changed.

use super::ServerHealth;
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
        let new = self.snapshot(now_ms).state;
        let old = self.state;
        if new == old {
            if returns {
                self.returned_at = Some(now_ms);
            }
            if new == ServerState::Unreachable && !self.known && self.probed_once() {
                self.known = true;
                self.cause = self.unreachable_cause(now_ms, cause);
            }
            return None;
        }
        let was_away = matches!(old, ServerState::Unreachable | ServerState::Restricted);
        let is_back = !matches!(new, ServerState::Unreachable | ServerState::Restricted);
        // The first probe is not a return: at the start all servers are equally cold.
        if was_away && is_back && self.known {
            self.returned_at = Some(now_ms);
        }
        self.known = true;
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
            ServerState::Available | ServerState::CatchingUp => cause.to_owned(),
        };
        let held_ms = now_ms.saturating_sub(self.state_since);
        self.state = new;
        self.state_since = now_ms;
        self.cause.clone_from(&cause);
        Some(Transition { old, new, cause, held_ms })
    }
}

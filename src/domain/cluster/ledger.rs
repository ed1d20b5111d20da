//! The ledger of one server: everything that was learned about it, merged into one state.
//!
//! In: probe results, passive failures, reports of availability sources, an administrator's
//! restriction, each with its time. Out: a [`Standing`] for selection and, when the state changed, a
//! [`Transition`]. It has no clock, socket, lock or log: the caller passes `now` in milliseconds of
//! its own monotonic clock.

mod asked;
mod dated;
mod terms;

use super::availability::{is_busy, smooth};
use super::facts::{Administrative, Facts, Operational};
use super::state::{Port, ServerState, Transition};
use dated::{Dated, keep_newest, moved};
pub use terms::{Restriction, Settings, Source, Standing};

#[derive(Clone, Debug, Default)]
struct PortHealth {
    probed: bool,
    reachable: bool,
    good: u32,
    bad: u32,
    passive: u32,
    cause: String,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Ledger {
    settings: Settings,
    ports: [PortHealth; 2],
    index: Option<Dated<u8>>,
    smoothed: Option<f64>,
    threshold: Option<Dated<u8>>,
    users: Option<Dated<u32>>,
    max_users: Option<Dated<u32>>,
    restricted: Option<Dated<bool>>,
    administrative: Option<Dated<Administrative>>,
    operational: Option<Dated<Operational>>,
    max_connections: Option<Dated<u32>>,
    admin: Option<Restriction>,
    elsewhere: Vec<Restriction>,
    sources: Vec<SourceState>,
    restricted_since: Option<u64>,
    returned_at: Option<u64>,
    /// It was up once, or seen down: from now on coming up is a return.
    known: bool,
    state: ServerState,
    state_since: u64,
    cause: String,
}

#[derive(Clone, Debug)]
struct SourceState {
    settings: Source,
    /// Its last update stamp, and when we first saw it.
    stamp: Option<(f64, u64)>,
}

impl Ledger {
    /// A server of which nothing is known: UNREACHABLE until probed.
    #[must_use]
    pub fn new(settings: Settings, sources: &[Source], now_ms: u64) -> Self {
        let sources =
            sources.iter().map(|source| SourceState { settings: source.clone(), stamp: None }).collect();
        Self {
            settings,
            ports: [PortHealth::default(), PortHealth::default()],
            index: None,
            smoothed: None,
            threshold: None,
            users: None,
            max_users: None,
            restricted: None,
            administrative: None,
            operational: None,
            max_connections: None,
            admin: None,
            elsewhere: Vec::new(),
            sources,
            restricted_since: None,
            returned_at: None,
            known: false,
            state: ServerState::Unreachable,
            state_since: now_ms,
            cause: "not probed yet".to_owned(),
        }
    }

    /// Takes new settings at a reload; what was learned stays. Only the word of a source that is gone
    /// goes with it: nobody could ever take it back.
    pub fn reconfigure(&mut self, settings: Settings, sources: &[Source], now_ms: u64) -> Option<Transition> {
        self.settings = settings;
        let fresh =
            sources.iter().map(|source| SourceState { settings: source.clone(), stamp: None }).collect();
        let old = std::mem::replace(&mut self.sources, fresh);
        // The second console stays the second console.
        let nth = |all: &[SourceState], at: usize| {
            let kind = all.get(at)?.settings.kind;
            Some((kind, all.iter().take(at).filter(|s| s.settings.kind == kind).count()))
        };
        let new_place: Vec<Option<usize>> = (0..old.len())
            .map(|at| {
                let wanted = nth(&old, at)?;
                (0..self.sources.len()).find(|place| nth(&self.sources, *place) == Some(wanted))
            })
            .collect();
        for (state, place) in old.into_iter().zip(&new_place) {
            if let Some(source) = place.and_then(|place| self.sources.get_mut(place)) {
                source.stamp = state.stamp;
            }
        }
        moved(&mut self.index, &new_place);
        moved(&mut self.threshold, &new_place);
        moved(&mut self.users, &new_place);
        moved(&mut self.max_users, &new_place);
        moved(&mut self.restricted, &new_place);
        moved(&mut self.administrative, &new_place);
        moved(&mut self.operational, &new_place);
        moved(&mut self.max_connections, &new_place);
        if self.index.is_none() {
            self.smoothed = None;
        }
        self.settle(now_ms, "configuration reloaded")
    }

    /// The address of a port changed: it is UNREACHABLE until probed. `first`: what a probe of the new address has said
    /// already.
    pub fn address_changed(
        &mut self,
        port: Port,
        first: Option<Result<u16, &str>>,
        now_ms: u64,
    ) -> Option<Transition> {
        *self.port_mut(port) = PortHealth::default();
        match first {
            Some(result) => self.probed(port, result, now_ms),
            None => self.settle(now_ms, "address changed, not probed yet"),
        }
    }

    /// One probe of one port ended: `Ok` with the status, or the reason of its failure. The first
    /// probe of a port decides by itself, later ones need their number in a row.
    pub fn probed(&mut self, port: Port, result: Result<u16, &str>, now_ms: u64) -> Option<Transition> {
        let (healthy_after, unreachable_after) =
            (self.settings.healthy_after, self.settings.unreachable_after);
        let health = self.port_mut(port);
        let first = !health.probed;
        health.probed = true;
        let cause = match result {
            Ok(status) => {
                health.good = health.good.saturating_add(1);
                health.bad = 0;
                if first || (!health.reachable && health.good >= healthy_after) {
                    health.reachable = true;
                    health.passive = 0;
                }
                format!("{port} probe answered {status}")
            }
            Err(reason) => {
                health.bad = health.bad.saturating_add(1);
                health.good = 0;
                if first || health.bad >= unreachable_after {
                    health.reachable = false;
                }
                health.cause = format!("{port} probe failed: {reason}");
                health.cause.clone()
            }
        };
        self.settle(now_ms, &cause)
    }

    /// The next probe of this port decides by itself if it is bad.
    pub fn let_one_bad_probe_decide(&mut self, port: Port) {
        let all_but_one = self.settings.unreachable_after.saturating_sub(1);
        let health = self.port_mut(port);
        health.bad = health.bad.max(all_but_one);
    }

    /// A request found no connection to this port. What fails after that may be the request's own fault, and is
    /// never counted here.
    pub fn passive_failure(&mut self, port: Port, reason: &str, now_ms: u64) -> Option<Transition> {
        let limit = self.settings.passive_failures;
        let health = self.port_mut(port);
        health.passive = health.passive.saturating_add(1);
        if limit > 0 && health.passive >= limit && health.reachable {
            health.reachable = false;
            health.good = 0;
            health.cause = format!("{} connects in a row failed, the last: {reason}", health.passive);
            let cause = health.cause.clone();
            return self.settle(now_ms, &cause);
        }
        self.tick(now_ms)
    }

    /// An answer's header arrived: the row of passive failures is broken.
    pub fn passive_success(&mut self, port: Port) {
        self.port_mut(port).passive = 0;
    }

    /// Some passive failure is on record.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.ports.iter().any(|p| p.passive > 0)
    }

    /// A source reported. The freshest word wins for each fact.
    pub fn report(&mut self, source: usize, facts: &Facts, now_ms: u64) -> Option<Transition> {
        let origin = self.sources.get_mut(source)?;
        // Domino's exporter leaves its last file behind when the server stops: the figures are as
        // old as their stamp, and only our own clock says how long it has not advanced.
        let at_ms = match (facts.updated_at, origin.stamp) {
            (Some(stamp), Some((known, since))) if stamp <= known => since,
            (Some(stamp), _) => {
                origin.stamp = Some((stamp, now_ms));
                now_ms
            }
            (None, _) => now_ms,
        };
        if let Some(index) = facts.index {
            let newer = self.index.as_ref().is_none_or(|known| known.at_ms <= at_ms);
            // The same stamp again is the same reading; a source without stamps always says something new.
            let advanced = facts.updated_at.is_none()
                || self.index.as_ref().is_none_or(|known| known.at_ms != at_ms || known.source != source);
            if newer && advanced {
                let old = if self.index_fresh(now_ms) { self.smoothed } else { None };
                self.smoothed = Some(smooth(old, index));
                self.index = Some(Dated { value: index, at_ms, source });
            }
        }
        keep_newest(&mut self.threshold, facts.threshold, at_ms, source);
        keep_newest(&mut self.users, facts.users, at_ms, source);
        keep_newest(&mut self.max_users, facts.max_users, at_ms, source);
        // At an equal date the later word counts: RESTRICTED is read anew even while the stamp stands.
        keep_newest(&mut self.restricted, facts.restricted, at_ms, source);
        keep_newest(&mut self.administrative, facts.administrative, at_ms, source);
        keep_newest(&mut self.operational, facts.operational.clone(), at_ms, source);
        keep_newest(&mut self.max_connections, facts.max_connections, at_ms, source);
        self.settle(now_ms, "reported by its availability source")
    }

    /// An administrator restricts (`Some`) or releases (`None`) the server.
    pub fn restrict(&mut self, restriction: Option<Restriction>, now_ms: u64) -> Option<Transition> {
        let cause = match &restriction {
            Some(restriction) => restriction.to_string(),
            None => "released by an administrator".to_owned(),
        };
        self.admin = restriction;
        self.settle(now_ms, &cause)
    }

    /// The administrator's restriction, if there is one.
    #[must_use]
    pub fn admin_restriction(&self) -> Option<&Restriction> {
        self.admin.as_ref()
    }

    /// What administrators restrict on the ICM that this one follows; empty = no longer.
    pub fn restrict_elsewhere(&mut self, all: Vec<Restriction>, now_ms: u64) -> Option<Transition> {
        let cause =
            all.first().map_or_else(|| "released where it was restricted".to_owned(), ToString::to_string);
        self.elsewhere = all;
        self.settle(now_ms, &cause)
    }

    /// Time passed: what went stale lapses.
    pub fn tick(&mut self, now_ms: u64) -> Option<Transition> {
        self.settle(now_ms, "its availability source fell silent")
    }

    /// What selection may know now.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Standing {
        let agent_down = self.agent_down(now_ms).is_some();
        let http = self.settings.http && self.port(Port::Http).reachable && !agent_down;
        let https = self.settings.https && self.port(Port::Https).reachable && !agent_down;
        let fresh = self.index_fresh(now_ms);
        let threshold =
            self.settings.threshold.or_else(|| self.fresh(&self.threshold, now_ms).copied()).unwrap_or(0);
        let raw_index = self.fresh(&self.index, now_ms).copied();
        let busy = is_busy(raw_index, threshold);
        let limit = match self.settings.max_users {
            0 => self.fresh(&self.max_users, now_ms).copied().unwrap_or(0),
            limit => limit,
        };
        let max_users = limit > 0 && self.fresh(&self.users, now_ms).is_some_and(|users| *users >= limit);
        let serves = (self.settings.uses_http && http) || (self.settings.uses_https && https);
        let state = if !serves {
            ServerState::Unreachable
        } else if self.is_restricted() {
            ServerState::Restricted
        } else if busy {
            ServerState::Busy
        } else if max_users {
            ServerState::MaxUsers
        } else {
            ServerState::Available
        };
        Standing {
            http,
            https,
            restricted_since_ms: self.restricted_since,
            busy,
            max_users,
            index: if fresh { self.smoothed } else { None },
            raw_index,
            index_at_ms: self.index.as_ref().map_or(0, |i| i.at_ms),
            threshold,
            max_connections: self.fresh(&self.max_connections, now_ms).copied().unwrap_or(0),
            state,
        }
    }

    fn is_restricted(&self) -> bool {
        self.settings.restricted
            || self.admin.is_some()
            || !self.elsewhere.is_empty()
            || self.is_said_restricted()
            || self.says(Administrative::Drain)
    }

    fn is_said_restricted(&self) -> bool {
        self.restricted.as_ref().is_some_and(|r| r.value)
    }

    fn says(&self, word: Administrative) -> bool {
        self.administrative.as_ref().is_some_and(|said| said.value == word)
    }

    /// Why the agent's word makes the server UNREACHABLE. `maint` is an administrator's word and stays
    /// like RESTRICTED; `down` is a measurement and lapses, as silence never makes a server dead.
    fn agent_down(&self, now_ms: u64) -> Option<String> {
        if self.says(Administrative::Maint) {
            return Some("agent-check says maint".to_owned());
        }
        match self.fresh(&self.operational, now_ms) {
            Some(Operational::Down(reason)) if reason.is_empty() => Some("agent-check says down".to_owned()),
            Some(Operational::Down(reason)) => Some(format!("agent-check says down: {reason}")),
            _ => None,
        }
    }

    fn index_fresh(&self, now_ms: u64) -> bool {
        self.fresh(&self.index, now_ms).is_some()
    }

    /// The value of a fact whose source has not been silent for too long.
    fn fresh<'a, T>(&self, fact: &'a Option<Dated<T>>, now_ms: u64) -> Option<&'a T> {
        let fact = fact.as_ref()?;
        let source = self.sources.get(fact.source)?;
        (now_ms.saturating_sub(fact.at_ms) <= source.settings.stale_after_ms).then_some(&fact.value)
    }

    fn port(&self, port: Port) -> &PortHealth {
        let [http, https] = &self.ports;
        match port {
            Port::Http => http,
            Port::Https => https,
        }
    }

    fn port_mut(&mut self, port: Port) -> &mut PortHealth {
        let [http, https] = &mut self.ports;
        match port {
            Port::Http => http,
            Port::Https => https,
        }
    }

    fn unreachable_cause(&self, now_ms: u64, cause: &str) -> String {
        if let Some(said) = self.agent_down(now_ms) {
            return said;
        }
        let ports = [
            (Port::Http, self.settings.uses_http, self.settings.http),
            (Port::Https, self.settings.uses_https, self.settings.https),
        ];
        // What was learned of a port that requests never go to is not the cause.
        let used: Vec<_> = ports.iter().filter(|(_, used, _)| *used).collect();
        match used.as_slice() {
            [(port, _, false)] => format!("it has no {port} port"),
            [(port, _, true)] if self.port(*port).probed && !self.port(*port).reachable => {
                self.port(*port).cause.clone()
            }
            _ => cause.to_owned(),
        }
    }

    /// Recomputes the state, keeps the moments that selection needs, and says what changed.
    fn settle(&mut self, now_ms: u64, cause: &str) -> Option<Transition> {
        let restricted = self.is_restricted();
        let returns = self.restricted_since.is_some() && !restricted;
        match (restricted, self.restricted_since) {
            (true, None) => self.restricted_since = Some(now_ms),
            (false, Some(_)) => self.restricted_since = None,
            _ => {}
        }
        let new = self.standing(now_ms).state;
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
        // The very first probe is no return: at start everybody is cold alike.
        if was_away && is_back && self.known {
            self.returned_at = Some(now_ms);
        }
        self.known = true;
        let cause = match new {
            ServerState::Restricted => self.restrictions().join("; "),
            ServerState::Busy => {
                let standing = self.standing(now_ms);
                match standing.raw_index {
                    Some(index) => {
                        format!("availability index {index} at or under the threshold {}", standing.threshold)
                    }
                    None => "the threshold 100 is always BUSY".to_owned(),
                }
            }
            ServerState::MaxUsers => {
                format!("{} users reach the limit", self.users.as_ref().map_or(0, |u| u.value))
            }
            ServerState::Unreachable => self.unreachable_cause(now_ms, cause),
            ServerState::Available => cause.to_owned(),
        };
        let held_ms = now_ms.saturating_sub(self.state_since);
        self.state = new;
        self.state_since = now_ms;
        self.cause.clone_from(&cause);
        Some(Transition { old, new, cause, held_ms })
    }
}

#[cfg(test)]
pub(crate) mod tests;

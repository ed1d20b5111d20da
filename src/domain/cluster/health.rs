//! The health of one server: probes, failed connects, availability reports and restrictions merged into one state.
//!
//! It has no clock, socket, lock or log, so that every sequence of events can be tested. The caller passes the time in
//! milliseconds of its monotonic clock, and gets a [`Transition`] when the state changes.

mod outage;
mod port_health;
mod queries;
mod timestamped;
mod transition;
mod types;

use super::availability::{is_busy, smooth};
use super::report::{Administrative, AvailabilityReport, Operational};
use super::state::{Port, ServerState, Transition};
pub(in crate::domain::cluster) use outage::duration;
pub use outage::{CatchUpElsewhere, CatchUpGate, Outage, Reachability};
use port_health::PortHealth;
pub use timestamped::Timestamped;
use timestamped::{keep_newest, renumber_source};
pub use types::{HealthSettings, HealthSnapshot, ReportSource, Restriction};

/// The merged health of one server.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    settings: HealthSettings,
    ports: [PortHealth; 2],
    published_index: Option<Timestamped<u8>>,
    smoothed_index: Option<f64>,
    threshold: Option<Timestamped<u8>>,
    users: Option<Timestamped<u32>>,
    max_users: Option<Timestamped<u32>>,
    restricted: Option<Timestamped<bool>>,
    administrative: Option<Timestamped<Administrative>>,
    operational: Option<Timestamped<Operational>>,
    max_connections: Option<Timestamped<u32>>,
    admin_restriction: Option<Restriction>,
    restrictions_elsewhere: Vec<Restriction>,
    sources: Vec<SourceState>,
    restricted_since: Option<u64>,
    returned_at: Option<u64>,
    /// The server was up or failed a probe before, so coming up is a return.
    known: bool,
    /// The first result of its probes is known, or a state before it.
    is_settled: bool,
    /// When a probe last succeeded; 0 = never.
    last_answer: u64,
    /// How often the server became UNREACHABLE.
    outages: u64,
    outage: Option<Outage>,
    gate: Option<CatchUpGate>,
    gate_elsewhere: Option<CatchUpElsewhere>,
    /// Added to the monotonic time, it gives the time since 1970.
    unix_offset: u64,
    state: ServerState,
    state_since: u64,
    cause: String,
}

#[derive(Clone, Debug)]
struct SourceState {
    settings: ReportSource,
    /// The newest `updated_at` of its reports, and when it was first seen.
    stamp: Option<(f64, u64)>,
}

impl ServerHealth {
    /// A new server is UNREACHABLE until its first probe.
    #[must_use]
    pub fn new(settings: HealthSettings, sources: &[ReportSource], now_ms: u64) -> Self {
        let sources =
            sources.iter().map(|source| SourceState { settings: source.clone(), stamp: None }).collect();
        Self {
            settings,
            ports: [PortHealth::default(), PortHealth::default()],
            published_index: None,
            smoothed_index: None,
            threshold: None,
            users: None,
            max_users: None,
            restricted: None,
            administrative: None,
            operational: None,
            max_connections: None,
            admin_restriction: None,
            restrictions_elsewhere: Vec::new(),
            sources,
            restricted_since: None,
            returned_at: None,
            known: false,
            is_settled: false,
            last_answer: 0,
            outages: 0,
            outage: None,
            gate: None,
            gate_elsewhere: None,
            unix_offset: 0,
            state: ServerState::Unreachable,
            state_since: now_ms,
            cause: "not probed yet".to_owned(),
        }
    }

    /// Applies new settings after a reload and keeps what is known. Reports of a removed source are dropped, because no
    /// later report could replace them.
    pub fn reconfigure(
        &mut self,
        settings: HealthSettings,
        sources: &[ReportSource],
        now_ms: u64,
    ) -> Option<Transition> {
        self.settings = settings;
        let fresh =
            sources.iter().map(|source| SourceState { settings: source.clone(), stamp: None }).collect();
        let old = std::mem::replace(&mut self.sources, fresh);
        // The n-th source of a kind stays the same source, such as the second console.
        let nth = |all: &[SourceState], at: usize| {
            let kind = all.get(at)?.settings.kind;
            Some((kind, all.iter().take(at).filter(|s| s.settings.kind == kind).count()))
        };
        let new_positions: Vec<Option<usize>> = (0..old.len())
            .map(|at| {
                let wanted = nth(&old, at)?;
                (0..self.sources.len()).find(|position| nth(&self.sources, *position) == Some(wanted))
            })
            .collect();
        for (state, position) in old.into_iter().zip(&new_positions) {
            if let Some(source) = position.and_then(|position| self.sources.get_mut(position)) {
                source.stamp = state.stamp;
            }
        }
        renumber_source(&mut self.published_index, &new_positions);
        renumber_source(&mut self.threshold, &new_positions);
        renumber_source(&mut self.users, &new_positions);
        renumber_source(&mut self.max_users, &new_positions);
        renumber_source(&mut self.restricted, &new_positions);
        renumber_source(&mut self.administrative, &new_positions);
        renumber_source(&mut self.operational, &new_positions);
        renumber_source(&mut self.max_connections, &new_positions);
        if self.published_index.is_none() {
            self.smoothed_index = None;
        }
        self.update_state(now_ms, "configuration reloaded")
    }

    /// Resets a port that has a new address: it is UNREACHABLE until probed. `first` is the result of a probe already
    /// made.
    pub fn address_changed(
        &mut self,
        port: Port,
        first: Option<Result<u16, &str>>,
        now_ms: u64,
    ) -> Option<Transition> {
        *self.port_mut(port) = PortHealth::default();
        match first {
            Some(result) => self.probed(port, result, now_ms),
            None => self.update_state(now_ms, "address changed, not probed yet"),
        }
    }

    /// Adds a probe, which ended with a status or failed for a reason.
    pub fn probed(&mut self, port: Port, result: Result<u16, &str>, now_ms: u64) -> Option<Transition> {
        let (healthy_after, unreachable_after) =
            (self.settings.healthy_after, self.settings.unreachable_after);
        if result.is_ok() {
            self.last_answer = now_ms;
        }
        let cause = self.port_mut(port).probed(port, result, healthy_after, unreachable_after);
        self.update_state(now_ms, &cause)
    }

    /// Lets the next probe of this port decide alone if it is bad.
    pub fn let_one_bad_probe_decide(&mut self, port: Port) {
        let all_but_one = self.settings.unreachable_after.saturating_sub(1);
        let port = self.port_mut(port);
        port.bad = port.bad.max(all_but_one);
    }

    /// A request could not connect to this port. Failures after the connect do not count: the request may be their
    /// cause.
    pub fn passive_failure(&mut self, port: Port, reason: &str, now_ms: u64) -> Option<Transition> {
        let limit = self.settings.passive_failures;
        let port = self.port_mut(port);
        if port.connect_failed(reason, limit) {
            let cause = port.cause.clone();
            return self.update_state(now_ms, &cause);
        }
        self.tick(now_ms)
    }

    /// A response header arrived, which resets the count of passive failures.
    pub fn passive_success(&mut self, port: Port) {
        self.port_mut(port).passive = 0;
    }

    /// True if a connect has failed since the last response.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.ports.iter().any(|p| p.passive > 0)
    }

    /// Merges the report of a source. For each value the newest report wins.
    pub fn report(&mut self, source: usize, report: &AvailabilityReport, now_ms: u64) -> Option<Transition> {
        let known_source = self.sources.get_mut(source)?;
        // Domino's exporter leaves its last file behind when the server stops. The values are as old as their stamp,
        // and our own clock measures for how long the stamp has not advanced.
        let at_ms = match (report.updated_at, known_source.stamp) {
            (Some(stamp), Some((known, since))) if stamp <= known => since,
            (Some(stamp), _) => {
                known_source.stamp = Some((stamp, now_ms));
                now_ms
            }
            (None, _) => now_ms,
        };
        if let Some(index) = report.index {
            let reported = Timestamped { value: index, at_ms, source };
            // The same stamp again is the same report; a report without a stamp is always a new one.
            let is_new = self.published_index.is_none_or(|known| {
                known.at_ms <= at_ms && (report.updated_at.is_none() || !known.is_same_report(&reported))
            });
            if is_new {
                let old = if self.has_fresh_index(now_ms) { self.smoothed_index } else { None };
                self.smoothed_index = Some(smooth(old, index));
                self.published_index = Some(reported);
            }
        }
        keep_newest(&mut self.threshold, report.threshold, at_ms, source);
        keep_newest(&mut self.users, report.users, at_ms, source);
        keep_newest(&mut self.max_users, report.max_users, at_ms, source);
        // At equal times the later report wins, so RESTRICTED is updated even while the stamp does not advance.
        keep_newest(&mut self.restricted, report.restricted, at_ms, source);
        keep_newest(&mut self.administrative, report.administrative, at_ms, source);
        keep_newest(&mut self.operational, report.operational.clone(), at_ms, source);
        keep_newest(&mut self.max_connections, report.max_connections, at_ms, source);
        self.update_state(now_ms, "reported by its availability source")
    }

    /// An administrator restricts (`Some`) or releases (`None`) the server.
    pub fn restrict(&mut self, restriction: Option<Restriction>, now_ms: u64) -> Option<Transition> {
        let cause = match &restriction {
            Some(restriction) => restriction.to_string(),
            None => "released by an administrator".to_owned(),
        };
        self.admin_restriction = restriction;
        self.update_state(now_ms, &cause)
    }

    /// The restriction made on this ICM, which only this ICM can release.
    #[must_use]
    pub fn admin_restriction(&self) -> Option<&Restriction> {
        self.admin_restriction.as_ref()
    }

    /// Replaces the restrictions made on the ICM that this one follows.
    pub fn restrict_elsewhere(&mut self, all: Vec<Restriction>, now_ms: u64) -> Option<Transition> {
        let cause =
            all.first().map_or_else(|| "released where it was restricted".to_owned(), ToString::to_string);
        self.restrictions_elsewhere = all;
        self.update_state(now_ms, &cause)
    }

    /// Lets stale reports lapse at their time.
    pub fn tick(&mut self, now_ms: u64) -> Option<Transition> {
        self.update_state(now_ms, "its availability source stopped reporting")
    }

    /// The health at this time.
    #[must_use]
    pub fn snapshot(&self, now_ms: u64) -> HealthSnapshot {
        let agent_down = self.agent_down(now_ms).is_some();
        let http = self.settings.http && self.port(Port::Http).reachable && !agent_down;
        let https = self.settings.https && self.port(Port::Https).reachable && !agent_down;
        let published_index = self.published_index.filter(|_| self.has_fresh_index(now_ms));
        let threshold =
            self.settings.threshold.or_else(|| self.fresh(&self.threshold, now_ms).copied()).unwrap_or(0);
        let busy = is_busy(published_index.map(|index| index.value), threshold);
        let limit = match self.settings.max_users {
            0 => self.fresh(&self.max_users, now_ms).copied().unwrap_or(0),
            limit => limit,
        };
        let max_users = limit > 0 && self.fresh(&self.users, now_ms).is_some_and(|users| *users >= limit);
        let serves = (self.settings.uses_http && http) || (self.settings.uses_https && https);
        let catching_up_since_unix_ms = self.catching_up_since_unix_ms();
        let state = if !serves {
            ServerState::Unreachable
        } else if self.is_restricted() {
            ServerState::Restricted
        } else if catching_up_since_unix_ms.is_some() {
            ServerState::CatchingUp
        } else if busy {
            ServerState::Busy
        } else if max_users {
            ServerState::MaxUsers
        } else {
            ServerState::Available
        };
        HealthSnapshot {
            http,
            https,
            restricted_since_ms: self.restricted_since,
            busy,
            max_users,
            catching_up_since_unix_ms,
            published_index,
            smoothed_index: self.smoothed_index.filter(|_| published_index.is_some()),
            threshold,
            max_connections: self.fresh(&self.max_connections, now_ms).copied().unwrap_or(0),
            state,
        }
    }

    fn is_restricted(&self) -> bool {
        self.settings.restricted
            || self.admin_restriction.is_some()
            || !self.restrictions_elsewhere.is_empty()
            || self.is_reported_restricted()
            || self.is_administratively(Administrative::Drain)
    }

    fn is_reported_restricted(&self) -> bool {
        self.restricted.as_ref().is_some_and(|r| r.value)
    }

    fn is_administratively(&self, state: Administrative) -> bool {
        self.administrative.as_ref().is_some_and(|reported| reported.value == state)
    }

    /// Why agent-check makes the server UNREACHABLE. `maint` comes from an administrator and stays, like RESTRICTED.
    /// `down` is a measurement and lapses: a source that stops reporting never makes a server UNREACHABLE.
    fn agent_down(&self, now_ms: u64) -> Option<String> {
        if self.is_administratively(Administrative::Maint) {
            return Some("agent-check reports maint".to_owned());
        }
        match self.fresh(&self.operational, now_ms) {
            Some(Operational::Down(reason)) if reason.is_empty() => {
                Some("agent-check reports down".to_owned())
            }
            Some(Operational::Down(reason)) => Some(format!("agent-check reports down: {reason}")),
            _ => None,
        }
    }

    fn has_fresh_index(&self, now_ms: u64) -> bool {
        self.fresh(&self.published_index, now_ms).is_some()
    }

    /// The value, unless it is stale.
    fn fresh<'a, T>(&self, value: &'a Option<Timestamped<T>>, now_ms: u64) -> Option<&'a T> {
        let known = value.as_ref()?;
        let source = self.sources.get(known.source)?;
        (now_ms.saturating_sub(known.at_ms) <= source.settings.stale_after_ms).then_some(&known.value)
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
}

#[cfg(test)]
pub(crate) mod tests;

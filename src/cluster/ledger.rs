//! The ledger of one server: everything that was learned about it, merged into one state.
//!
//! In: probe results, passive failures, reports of availability sources, an administrator's
//! restriction, each with its time. Out: a [`Standing`] for selection and, when the state changed, a
//! [`Transition`]. It has no clock, socket, lock or log: the caller passes `now` in milliseconds of
//! its own monotonic clock.

use super::availability::{is_busy, smooth};
use super::facts::{Administrative, Facts, Operational};
use super::state::{Port, ServerState, Transition};

/// What of the configuration the ledger needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The HTTP port is enabled.
    pub http: bool,
    /// The HTTPS port is enabled.
    pub https: bool,
    /// Good probes in a row that make a port reachable again; at least 1.
    pub healthy_after: u32,
    /// Bad probes in a row that make it UNREACHABLE; at least 1.
    pub unreachable_after: u32,
    /// Passive failures in a row that make it UNREACHABLE at once; 0 = never.
    pub passive_failures: u32,
    /// The administrator's threshold; `None` = what the server publishes, else 0.
    pub threshold: Option<u8>,
    /// `server_restricted` in the configuration.
    pub restricted: bool,
    /// 0 = what the server publishes, else never MAXUSERS.
    pub max_users: u32,
}

/// Why a server is RESTRICTED: each is taken back only by whoever set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// Milliseconds since 1970, for people.
    pub since_unix_ms: u64,
    /// Who.
    pub by: String,
}

/// One fact with its origin.
#[derive(Clone, Copy, Debug)]
struct Dated<T> {
    value: T,
    at_ms: u64,
    source: usize,
}

#[derive(Clone, Debug, Default)]
struct PortHealth {
    probed: bool,
    reachable: bool,
    good: u32,
    bad: u32,
    passive: u32,
    cause: String,
}

/// What selection may know of a server at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The HTTP port is enabled and answers.
    pub http: bool,
    /// The HTTPS port is enabled and answers.
    pub https: bool,
    /// RESTRICTED since this moment of the caller's clock.
    pub restricted_since_ms: Option<u64>,
    /// Index at or under the threshold.
    pub busy: bool,
    /// Users at or over the limit.
    pub max_users: bool,
    /// Smoothed published index; `None` = unknown or stale.
    pub index: Option<f64>,
    /// The raw index as last published.
    pub raw_index: Option<u8>,
    /// When that index was taken.
    pub index_at_ms: u64,
    /// The threshold in force.
    pub threshold: u8,
    /// Agent-check's `maxconn`; 0 = no cap.
    pub max_connections: u32,
    /// The state as a word, worst first.
    pub state: ServerState,
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
    administrative: Option<Administrative>,
    operational: Option<Operational>,
    max_connections: u32,
    admin: Option<Restriction>,
    /// Per source: how long its word holds, when it last spoke, its update stamp.
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
    stale_after_ms: u64,
    spoke_ms: Option<u64>,
    stamp: Option<(f64, u64)>,
}

impl Ledger {
    /// A server of which nothing is known: UNREACHABLE until probed.
    /// `stale_after_ms` has one value for each availability source, by the source's number.
    #[must_use]
    pub fn new(settings: Settings, stale_after_ms: &[u64], now_ms: u64) -> Self {
        let sources = stale_after_ms
            .iter()
            .map(|ms| SourceState { stale_after_ms: *ms, spoke_ms: None, stamp: None })
            .collect();
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
            max_connections: 0,
            admin: None,
            sources,
            restricted_since: None,
            returned_at: None,
            known: false,
            state: ServerState::Unreachable,
            state_since: now_ms,
            cause: "not probed yet".to_owned(),
        }
    }

    /// Takes new settings at a reload; what was learned stays. A source list that differs forgets
    /// what the sources said, except RESTRICTED.
    pub fn reconfigure(
        &mut self,
        settings: Settings,
        stale_after_ms: &[u64],
        now_ms: u64,
    ) -> Option<Transition> {
        let same = self.sources.len() == stale_after_ms.len();
        if same {
            for (source, ms) in self.sources.iter_mut().zip(stale_after_ms) {
                source.stale_after_ms = *ms;
            }
        } else {
            let fresh = Self::new(settings.clone(), stale_after_ms, now_ms);
            self.sources = fresh.sources;
            self.index = None;
            self.smoothed = None;
            self.threshold = None;
            self.users = None;
            self.max_users = None;
        }
        self.settings = settings;
        self.settle(now_ms, "configuration reloaded")
    }

    /// The address of a port changed: it is UNREACHABLE until probed.
    pub fn address_changed(&mut self, port: Port, now_ms: u64) -> Option<Transition> {
        *self.port_mut(port) = PortHealth::default();
        self.settle(now_ms, "address changed, not probed yet")
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
                reason.clone_into(&mut health.cause);
                format!("{port} probe failed: {reason}")
            }
        };
        self.settle(now_ms, &cause)
    }

    /// A request found the port refusing, or the connection reset before the answer's header.
    pub fn passive_failure(&mut self, port: Port, reason: &str, now_ms: u64) -> Option<Transition> {
        let limit = self.settings.passive_failures;
        let health = self.port_mut(port);
        health.passive = health.passive.saturating_add(1);
        if limit > 0 && health.passive >= limit && health.reachable {
            health.reachable = false;
            health.good = 0;
            health.cause = format!("{} requests in a row failed, the last: {reason}", health.passive);
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
        origin.spoke_ms = Some(now_ms);
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
            let newer = self.index.is_none_or(|known| known.at_ms <= at_ms);
            let advanced = self.index.is_none_or(|known| known.at_ms != at_ms || known.source != source);
            if newer && advanced {
                let old = if self.index_fresh(now_ms) { self.smoothed } else { None };
                self.smoothed = Some(smooth(old, index));
                self.index = Some(Dated { value: index, at_ms, source });
            }
        }
        keep_newest(&mut self.threshold, facts.threshold, at_ms, source);
        keep_newest(&mut self.users, facts.users, at_ms, source);
        keep_newest(&mut self.max_users, facts.max_users, at_ms, source);
        // RESTRICTED is an administrator's word, not a measurement: it counts whenever it is read.
        keep_newest(&mut self.restricted, facts.restricted, now_ms, source);
        if let Some(word) = facts.administrative {
            self.administrative = Some(word);
        }
        if let Some(word) = &facts.operational {
            self.operational = Some(word.clone());
        }
        if let Some(cap) = facts.max_connections {
            self.max_connections = cap;
        }
        self.settle(now_ms, "reported by its availability source")
    }

    /// An administrator restricts (`Some`) or releases (`None`) the server.
    pub fn restrict(&mut self, restriction: Option<Restriction>, now_ms: u64) -> Option<Transition> {
        let cause = match &restriction {
            Some(r) => format!("restricted by {}", r.by),
            None => "released by an administrator".to_owned(),
        };
        self.admin = restriction;
        self.settle(now_ms, &cause)
    }

    /// Time passed: what went stale lapses.
    pub fn tick(&mut self, now_ms: u64) -> Option<Transition> {
        self.settle(now_ms, "its availability source fell silent")
    }

    /// What selection may know now.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Standing {
        let agent_down = matches!(self.operational, Some(Operational::Down(_)))
            || self.administrative == Some(Administrative::Maint);
        let http = self.settings.http && self.port(Port::Http).reachable && !agent_down;
        let https = self.settings.https && self.port(Port::Https).reachable && !agent_down;
        let fresh = self.index_fresh(now_ms);
        let threshold = self.settings.threshold.unwrap_or_else(|| {
            self.threshold.filter(|t| self.source_fresh(t.source, t.at_ms, now_ms)).map_or(0, |t| t.value)
        });
        let raw_index = if fresh { self.index.map(|i| i.value) } else { None };
        let busy = raw_index.is_some_and(|index| is_busy(index, threshold));
        let limit = if self.settings.max_users > 0 {
            self.settings.max_users
        } else {
            self.max_users.filter(|m| self.source_fresh(m.source, m.at_ms, now_ms)).map_or(0, |m| m.value)
        };
        let max_users = limit > 0
            && self.users.is_some_and(|u| u.value >= limit && self.source_fresh(u.source, u.at_ms, now_ms));
        let state = if !http && !https {
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
            index_at_ms: self.index.map_or(0, |i| i.at_ms),
            threshold,
            max_connections: self.max_connections,
            state,
        }
    }

    /// When the server last came back from UNREACHABLE or RESTRICTED; `None` if it never was away.
    #[must_use]
    pub fn returned_at(&self) -> Option<u64> {
        self.returned_at
    }

    /// The word, since when, and why.
    #[must_use]
    pub fn state(&self) -> (ServerState, u64, &str) {
        (self.state, self.state_since, &self.cause)
    }

    /// Every enabled port was probed at least once.
    #[must_use]
    pub fn probed_once(&self) -> bool {
        (!self.settings.http || self.port(Port::Http).probed)
            && (!self.settings.https || self.port(Port::Https).probed)
    }

    /// Bad probes of this port in a row, for the back-off.
    #[must_use]
    pub fn failures(&self, port: Port) -> u32 {
        self.port(port).bad
    }

    /// One more probe of this port may change the verdict.
    #[must_use]
    pub fn unsettled(&self, port: Port) -> bool {
        let health = self.port(port);
        if health.reachable { health.bad > 0 } else { health.good > 0 }
    }

    /// Why a port is UNREACHABLE, in words; empty when it answers.
    #[must_use]
    pub fn port_cause(&self, port: Port) -> &str {
        let health = self.port(port);
        if health.reachable {
            ""
        } else if health.probed {
            &health.cause
        } else {
            "not probed yet"
        }
    }

    /// Everything that restricts the server now, in words.
    #[must_use]
    pub fn restrictions(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(admin) = &self.admin {
            all.push(format!("restricted by {}", admin.by));
        }
        if self.settings.restricted {
            all.push("server_restricted in the configuration".to_owned());
        }
        if self.restricted.is_some_and(|r| r.value) {
            all.push("the server says Server_Restricted or maintenance".to_owned());
        }
        if self.administrative == Some(Administrative::Drain) {
            all.push("agent-check says drain".to_owned());
        }
        all
    }

    /// The administrator's restriction, if there is one.
    #[must_use]
    pub fn admin_restriction(&self) -> Option<&Restriction> {
        self.admin.as_ref()
    }

    /// Some source has ever said whether the server is RESTRICTED.
    #[must_use]
    pub fn restricted_is_read(&self) -> bool {
        self.restricted.is_some() || self.administrative.is_some()
    }

    /// RESTRICTED rests on a word of a source that has since fallen silent.
    #[must_use]
    pub fn restriction_stale(&self, now_ms: u64) -> bool {
        self.restricted.is_some_and(|r| {
            r.value
                && self
                    .sources
                    .get(r.source)
                    .is_none_or(|s| s.spoke_ms.is_none_or(|at| now_ms.saturating_sub(at) > s.stale_after_ms))
        })
    }

    fn is_restricted(&self) -> bool {
        self.settings.restricted
            || self.admin.is_some()
            || self.restricted.is_some_and(|r| r.value)
            || self.administrative == Some(Administrative::Drain)
    }

    fn index_fresh(&self, now_ms: u64) -> bool {
        self.index.is_some_and(|i| self.source_fresh(i.source, i.at_ms, now_ms))
    }

    fn source_fresh(&self, source: usize, at_ms: u64, now_ms: u64) -> bool {
        self.sources.get(source).is_some_and(|s| now_ms.saturating_sub(at_ms) <= s.stale_after_ms)
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
                cause.clone_into(&mut self.cause);
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
                format!(
                    "availability index {} at or under the threshold {}",
                    standing.raw_index.unwrap_or_default(),
                    standing.threshold
                )
            }
            ServerState::MaxUsers => {
                format!("{} users reach the limit", self.users.map_or(0, |u| u.value))
            }
            ServerState::Unreachable => match (&self.operational, self.administrative) {
                (_, Some(Administrative::Maint)) => "agent-check says maint".to_owned(),
                (Some(Operational::Down(reason)), _) if reason.is_empty() => {
                    "agent-check says down".to_owned()
                }
                (Some(Operational::Down(reason)), _) => format!("agent-check says down: {reason}"),
                _ => cause.to_owned(),
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

fn keep_newest<T: Copy>(slot: &mut Option<Dated<T>>, value: Option<T>, at_ms: u64, source: usize) {
    if let Some(value) = value
        && slot.is_none_or(|known| known.at_ms <= at_ms)
    {
        *slot = Some(Dated { value, at_ms, source });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            http: true,
            https: false,
            healthy_after: 2,
            unreachable_after: 2,
            passive_failures: 3,
            threshold: None,
            restricted: false,
            max_users: 0,
        }
    }

    fn up() -> Ledger {
        let mut ledger = Ledger::new(settings(), &[60_000, 60_000], 0);
        ledger.probed(Port::Http, Ok(200), 1);
        ledger
    }

    fn index(value: u8) -> Facts {
        Facts { index: Some(value), ..Facts::default() }
    }

    #[test]
    fn a_new_server_is_unreachable_until_its_first_probe_decides() {
        let mut ledger = Ledger::new(settings(), &[], 0);
        assert_eq!(ledger.state().0, ServerState::Unreachable);
        let change = ledger.probed(Port::Http, Ok(200), 5).unwrap();
        assert_eq!(
            (change.old, change.new, change.held_ms),
            (ServerState::Unreachable, ServerState::Available, 5)
        );
        assert_eq!(ledger.returned_at(), None, "a first start is no return");
    }

    #[test]
    fn probes_flip_the_state_only_after_their_number_in_a_row() {
        let mut ledger = up();
        assert!(ledger.probed(Port::Http, Err("timed out"), 10).is_none());
        assert!(ledger.probed(Port::Http, Ok(200), 20).is_none());
        assert!(ledger.probed(Port::Http, Err("timed out"), 30).is_none());
        let change = ledger.probed(Port::Http, Err("refused"), 40).unwrap();
        assert_eq!(change.new, ServerState::Unreachable);
        assert!(change.cause.contains("refused"));
        assert!(ledger.probed(Port::Http, Ok(200), 50).is_none());
        assert_eq!(ledger.probed(Port::Http, Ok(200), 60).unwrap().new, ServerState::Available);
        assert_eq!(ledger.returned_at(), Some(60));
    }

    #[test]
    fn passive_failures_in_a_row_make_it_unreachable_at_once_and_an_answer_breaks_the_row() {
        let mut ledger = up();
        ledger.passive_failure(Port::Http, "reset", 2);
        ledger.passive_failure(Port::Http, "reset", 3);
        ledger.passive_success(Port::Http);
        assert!(ledger.passive_failure(Port::Http, "reset", 4).is_none());
        assert!(ledger.passive_failure(Port::Http, "reset", 5).is_none());
        assert_eq!(ledger.passive_failure(Port::Http, "reset", 6).unwrap().new, ServerState::Unreachable);
    }

    #[test]
    fn busy_follows_the_published_threshold_and_the_configured_one_wins() {
        let mut ledger = up();
        let facts = Facts { index: Some(20), threshold: Some(20), ..Facts::default() };
        assert_eq!(ledger.report(0, &facts, 10).unwrap().new, ServerState::Busy);
        let lower = Settings { threshold: Some(10), ..settings() };
        assert_eq!(ledger.reconfigure(lower, &[60_000, 60_000], 11).unwrap().new, ServerState::Available);
    }

    #[test]
    fn silence_makes_the_index_unknown_but_keeps_restricted_and_never_kills() {
        let mut ledger = up();
        let facts = Facts {
            index: Some(10),
            threshold: Some(50),
            users: Some(9),
            max_users: Some(5),
            ..Facts::default()
        };
        ledger.report(0, &facts, 10);
        assert_eq!(ledger.state().0, ServerState::Busy);
        assert_eq!(ledger.tick(60_011).unwrap().new, ServerState::Available);
        assert_eq!(ledger.standing(60_011).index, None);
        let facts = Facts { restricted: Some(true), ..Facts::default() };
        ledger.report(0, &facts, 70_000);
        ledger.tick(500_000);
        assert_eq!(ledger.state().0, ServerState::Restricted);
        assert!(ledger.restriction_stale(500_000));
    }

    #[test]
    fn the_freshest_source_wins_for_each_fact() {
        let mut ledger = up();
        ledger.report(0, &index(30), 10);
        ledger.report(1, &index(90), 20);
        assert_eq!(ledger.standing(20).raw_index, Some(90));
        ledger.report(0, &Facts { threshold: Some(95), ..Facts::default() }, 30);
        assert_eq!(ledger.state().0, ServerState::Busy, "the index of one source, the threshold of another");
    }

    #[test]
    fn a_stamp_that_does_not_advance_is_stale_on_our_own_clock() {
        let mut ledger = up();
        let facts = Facts { index: Some(80), updated_at: Some(1_000.0), ..Facts::default() };
        for now in [10, 30_000, 60_000] {
            ledger.report(0, &facts, now);
            assert_eq!(ledger.standing(now).raw_index, Some(80));
        }
        ledger.report(0, &facts, 60_011);
        assert_eq!(ledger.standing(60_011).raw_index, None);
        ledger.report(0, &Facts { updated_at: Some(1_060.0), ..facts }, 60_020);
        assert_eq!(ledger.standing(60_020).raw_index, Some(80));
    }

    #[test]
    fn each_restriction_is_taken_back_only_by_whoever_set_it() {
        let mut ledger = up();
        let who = Restriction { since_unix_ms: 0, by: "admin".into() };
        ledger.restrict(Some(who), 10);
        ledger.report(0, &Facts { restricted: Some(true), ..Facts::default() }, 11);
        ledger.restrict(None, 12);
        assert_eq!(ledger.state().0, ServerState::Restricted);
        assert_eq!(ledger.restrictions().len(), 1);
        let change = ledger.report(0, &Facts { restricted: Some(false), ..Facts::default() }, 13).unwrap();
        assert_eq!(change.new, ServerState::Available);
        assert_eq!(ledger.returned_at(), Some(13));
    }

    #[test]
    fn agent_words_ready_and_up_each_clear_only_their_own() {
        let mut ledger = up();
        let drain = Facts { administrative: Some(Administrative::Drain), ..Facts::default() };
        let down = Facts { operational: Some(Operational::Down("ended".into())), ..Facts::default() };
        let is_up = Facts { operational: Some(Operational::Up), ..Facts::default() };
        let ready = Facts { administrative: Some(Administrative::Ready), ..Facts::default() };
        ledger.report(0, &drain, 10);
        assert_eq!(ledger.state().0, ServerState::Restricted);
        let change = ledger.report(0, &down, 11).unwrap();
        assert_eq!(change.new, ServerState::Unreachable);
        assert!(change.cause.contains("ended"));
        ledger.report(0, &ready, 12);
        assert_eq!(ledger.state().0, ServerState::Unreachable, "ready does not clear down");
        ledger.report(0, &drain, 13);
        ledger.report(0, &is_up, 14);
        assert_eq!(ledger.state().0, ServerState::Restricted, "up does not clear drain");
        ledger.report(0, &ready, 15);
        assert_eq!(ledger.state().0, ServerState::Available);
    }

    #[test]
    fn max_users_compares_published_users_with_the_limit_in_force() {
        let mut ledger = up();
        ledger.report(0, &Facts { users: Some(100), ..Facts::default() }, 10);
        assert_eq!(ledger.state().0, ServerState::Available, "no limit, never MAXUSERS");
        ledger.report(0, &Facts { max_users: Some(100), ..Facts::default() }, 11);
        assert_eq!(ledger.state().0, ServerState::MaxUsers);
    }

    proptest! {
        #[test]
        fn transitions_chain_without_a_gap(steps in proptest::collection::vec((0u8..8, 0u8..=100), 1..120)) {
            let mut ledger = Ledger::new(settings(), &[500], 0);
            let mut seen = ServerState::Unreachable;
            for (i, (kind, value)) in steps.into_iter().enumerate() {
                let now = i as u64 * 100;
                let change = match kind {
                    0 => ledger.probed(Port::Http, Ok(200), now),
                    1 => ledger.probed(Port::Http, Err("x"), now),
                    2 => ledger.passive_failure(Port::Http, "x", now),
                    3 => ledger.report(0, &Facts { index: Some(value), threshold: Some(50), ..Facts::default() }, now),
                    4 => ledger.report(0, &Facts { restricted: Some(value > 50), ..Facts::default() }, now),
                    5 => ledger.restrict((value > 50).then(|| Restriction { since_unix_ms: 0, by: "a".into() }), now),
                    6 => { ledger.passive_success(Port::Http); None }
                    _ => ledger.tick(now),
                };
                if let Some(change) = change {
                    prop_assert_eq!(change.old, seen);
                    prop_assert_ne!(change.old, change.new);
                    seen = change.new;
                }
                prop_assert_eq!(ledger.state().0, seen);
                if kind != 6 {
                    prop_assert_eq!(ledger.standing(now).state, seen);
                }
            }
        }
    }
}

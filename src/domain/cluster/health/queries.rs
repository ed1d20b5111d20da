//! Questions about the health of a server that pages, metrics and probes ask; none changes it.

use super::{Administrative, Port, Restriction, ServerHealth, ServerState};

impl ServerHealth {
    /// When the server last came back from UNREACHABLE or RESTRICTED; `None` if it never was away.
    #[must_use]
    pub fn returned_at(&self) -> Option<u64> {
        self.returned_at
    }

    /// The state, since when, and why.
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
        let port = self.port(port);
        if port.reachable { port.bad > 0 } else { port.good > 0 }
    }

    /// At least once.
    #[must_use]
    pub fn was_probed(&self, port: Port) -> bool {
        self.port(port).probed
    }

    /// Why a port is UNREACHABLE, in words; empty when it answers.
    #[must_use]
    pub fn port_cause(&self, port: Port) -> &str {
        let port = self.port(port);
        if port.reachable {
            ""
        } else if port.probed {
            &port.cause
        } else {
            "not probed yet"
        }
    }

    /// Everything that restricts the server now, in words.
    #[must_use]
    pub fn restrictions(&self) -> Vec<String> {
        let mut all = Vec::new();
        all.extend(
            self.admin_restriction.iter().chain(&self.restrictions_elsewhere).map(ToString::to_string),
        );
        if self.settings.restricted {
            all.push("server_restricted in the configuration".to_owned());
        }
        if self.is_reported_restricted() {
            all.push("the server says Server_Restricted or maintenance".to_owned());
        }
        if self.is_administratively(Administrative::Drain) {
            all.push("agent-check says drain".to_owned());
        }
        all
    }

    /// Made on the ICM that this one follows.
    #[must_use]
    pub fn restrictions_elsewhere(&self) -> &[Restriction] {
        &self.restrictions_elsewhere
    }

    /// A source has reported whether the server is RESTRICTED.
    #[must_use]
    pub fn restricted_is_read(&self) -> bool {
        self.restricted.is_some() || self.administrative.is_some()
    }

    /// RESTRICTED, drain or maint rests on a report of a source that has been silent since.
    #[must_use]
    pub fn restriction_stale(&self, now_ms: u64) -> bool {
        let old_restriction = self.is_reported_restricted() && self.fresh(&self.restricted, now_ms).is_none();
        let away = self.is_administratively(Administrative::Drain)
            || self.is_administratively(Administrative::Maint);
        old_restriction || (away && self.fresh(&self.administrative, now_ms).is_none())
    }

    /// The kind of source that the published index came from: `prometheus`, `console`, ...
    #[must_use]
    pub fn index_source(&self) -> Option<&'static str> {
        let index = self.published_index?;
        self.sources.get(index.source).map(|s| s.settings.kind)
    }
}

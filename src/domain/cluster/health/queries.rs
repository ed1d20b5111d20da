//! Read-only queries on the health of a server, for pages, metrics and probes.

use super::{Administrative, Port, Restriction, ServerHealth, ServerState};

impl ServerHealth {
    /// When the server last came back from UNREACHABLE or RESTRICTED; `None` if it never did.
    #[must_use]
    pub fn returned_at(&self) -> Option<u64> {
        self.returned_at
    }

    /// The state, its start and its cause.
    #[must_use]
    pub fn state(&self) -> (ServerState, u64, &str) {
        (self.state, self.state_since, &self.cause)
    }

    /// True if every enabled port was probed at least once.
    #[must_use]
    pub fn probed_once(&self) -> bool {
        (!self.settings.http || self.port(Port::Http).probed)
            && (!self.settings.https || self.port(Port::Https).probed)
    }

    /// Consecutive bad probes of this port, for the back-off.
    #[must_use]
    pub fn failures(&self, port: Port) -> u32 {
        self.port(port).bad
    }

    /// True if the next probe of this port may change its state.
    #[must_use]
    pub fn unsettled(&self, port: Port) -> bool {
        let port = self.port(port);
        if port.reachable { port.bad > 0 } else { port.good > 0 }
    }

    /// True if this port was probed at least once.
    #[must_use]
    pub fn was_probed(&self, port: Port) -> bool {
        self.port(port).probed
    }

    /// Why a port is UNREACHABLE; empty if it answers.
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

    /// The causes of the current restriction.
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
            all.push("the server reports Server_Restricted or maintenance".to_owned());
        }
        if self.is_administratively(Administrative::Drain) {
            all.push("agent-check reports drain".to_owned());
        }
        all
    }

    /// True if a restriction lets no user return.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.admin_restriction
            .iter()
            .chain(&self.restrictions_elsewhere)
            .any(|restriction| restriction.closed)
    }

    /// The restrictions made on the ICM that this one follows.
    #[must_use]
    pub fn restrictions_elsewhere(&self) -> &[Restriction] {
        &self.restrictions_elsewhere
    }

    /// True if a source has reported whether the server is RESTRICTED.
    #[must_use]
    pub fn restricted_is_read(&self) -> bool {
        self.restricted.is_some() || self.administrative.is_some()
    }

    /// True if RESTRICTED, drain or maint comes from a stale report.
    #[must_use]
    pub fn restriction_stale(&self, now_ms: u64) -> bool {
        let old_restriction = self.is_reported_restricted() && self.fresh(&self.restricted, now_ms).is_none();
        let away = self.is_administratively(Administrative::Drain)
            || self.is_administratively(Administrative::Maint);
        old_restriction || (away && self.fresh(&self.administrative, now_ms).is_none())
    }

    /// The kind of the source of the published index: `prometheus`, `console`, ...
    #[must_use]
    pub fn index_source(&self) -> Option<&'static str> {
        let index = self.published_index?;
        self.sources.get(index.source).map(|s| s.settings.kind)
    }
}

//! What a ledger is asked: by pages, probes and the member around it.
//!
//! In: the ledger as it is. Out: words and moments. Nothing changes by being asked.

use super::{Administrative, Ledger, Port, Restriction, ServerState};

impl Ledger {
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

    /// This port was probed at least once.
    #[must_use]
    pub fn was_probed(&self, port: Port) -> bool {
        self.port(port).probed
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
        all.extend(self.admin.iter().chain(&self.elsewhere).map(ToString::to_string));
        if self.settings.restricted {
            all.push("server_restricted in the configuration".to_owned());
        }
        if self.is_said_restricted() {
            all.push("the server says Server_Restricted or maintenance".to_owned());
        }
        if self.says(Administrative::Drain) {
            all.push("agent-check says drain".to_owned());
        }
        all
    }

    /// What administrators restrict on the ICM that this one follows.
    #[must_use]
    pub fn restrictions_elsewhere(&self) -> &[Restriction] {
        &self.elsewhere
    }

    /// Some source has ever said whether the server is RESTRICTED.
    #[must_use]
    pub fn restricted_is_read(&self) -> bool {
        self.restricted.is_some() || self.administrative.is_some()
    }

    /// RESTRICTED, drain or maint rests on a word of a source that has since fallen silent.
    #[must_use]
    pub fn restriction_stale(&self, now_ms: u64) -> bool {
        let old_restriction = self.is_said_restricted() && self.fresh(&self.restricted, now_ms).is_none();
        let away = self.says(Administrative::Drain) || self.says(Administrative::Maint);
        old_restriction || (away && self.fresh(&self.administrative, now_ms).is_none())
    }

    /// When the index was taken, and from which source.
    #[must_use]
    pub fn index_taken(&self) -> Option<(u64, usize)> {
        self.index.as_ref().map(|index| (index.at_ms, index.source))
    }

    /// The kind of source that the index came from: `prometheus`, `console`, ...
    #[must_use]
    pub fn index_source(&self) -> Option<&'static str> {
        let (_, source) = self.index_taken()?;
        self.sources.get(source).map(|s| s.settings.kind)
    }
}

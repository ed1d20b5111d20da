//! What the admin listener says of one server. In: `/status`. Out: its values, and waiting for them.

use std::time::Duration;

use serde_json::Value;

use super::eventually;
use super::icm::Icm;

/// Everything that is waited for comes within this, on a busy machine too.
pub const LONG: Duration = Duration::from_secs(30);

impl Icm {
    /// One server of the first cluster, as `/status` shows it.
    pub fn status_of(&self, server: &str) -> Value {
        let status = self.admin("/status").json();
        let servers = status["clusters"][0]["servers"].as_array().unwrap();
        let named = |s: &&Value| s["name"].as_str().is_some_and(|n| n.split('/').next() == Some(server));
        servers.iter().find(named).unwrap_or_else(|| panic!("no {server} in {status}")).clone()
    }

    /// Its state: `AVAILABLE`, `UNREACHABLE`, ...
    pub fn state_of(&self, server: &str) -> String {
        self.status_of(server)["state"].as_str().unwrap().to_owned()
    }

    /// Waits for a state.
    pub fn wait_for_state(&self, server: &str, state: &str) {
        let there = eventually(LONG, || self.state_of(server) == state);
        assert!(there, "{server} never became {state}: {}", self.status_of(server));
    }

    /// Waits until so many requests are in flight there.
    pub fn wait_for_in_flight(&self, server: &str, n: u64) {
        let there = eventually(LONG, || self.status_of(server)["in_flight"] == n);
        assert!(there, "{server} never had {n} requests in flight: {}", self.status_of(server));
    }

    /// One of its counters: `answered`, `connect_failed`, `broken`, `timed_out`, `failed_over`.
    pub fn counter_of(&self, server: &str, counter: &str) -> u64 {
        self.status_of(server)["counters"][counter].as_u64().unwrap()
    }

    /// Good and bad probes of its HTTP port.
    pub fn probes_of(&self, server: &str) -> (u64, u64) {
        let families = super::exposition::read(&self.admin("/metrics").text()).unwrap();
        let count = |result| {
            let name = format!("{server}/Acme");
            let labels = [("server", name.as_str()), ("port", "http"), ("result", result)];
            super::exposition::value(&families, "icm_probes_total", &labels) as u64
        };
        (count("ok"), count("failed"))
    }

    /// Waits until it is AVAILABLE and a probe that began after this call was good: none that an earlier failure has asked
    /// for can meet a fault that is set now.
    pub fn wait_for_good_probe(&self, server: &str) {
        let before = self.probes_of(server).0;
        let answers = || self.probes_of(server).0 >= before + 2 && self.state_of(server) == "AVAILABLE";
        assert!(eventually(LONG, answers), "{}", self.status_of(server));
    }

    /// The value of an affinity cookie that names this server, from its answer for a database that it holds.
    pub fn cookie_for(&self, server: &str, target: &str) -> String {
        let mut value = None;
        eventually(LONG, || {
            let answer = self.client().get(target);
            if answer.server().split('/').next() == Some(server) {
                value = answer.cookie("ICM").map(str::to_owned);
            }
            value.is_some()
        });
        value.unwrap_or_else(|| panic!("{server} never answered {target}"))
    }
}

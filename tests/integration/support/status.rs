//! Reads the state of a running `icm` as an administrator does (status, counters, events), and waits for changes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::cli::icm_cli;
use super::eventually;
use super::icm::Icm;

/// Limit of the waits for a state: generous, for busy machines.
pub const MAX_WAIT: Duration = Duration::from_secs(90);

impl Icm {
    /// `/status` of the admin listener.
    pub fn status(&self) -> Value {
        self.admin("/status").json()
    }

    /// Waits until the status of a server satisfies the condition.
    pub fn wait_for_server(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
        let came = eventually(MAX_WAIT, || is_so(&self.status_of(name)));
        assert!(came, "{name} never {what}: {:#}", self.status_of(name));
    }

    /// Waits until the status satisfies the condition.
    pub fn wait_for_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let came = eventually(MAX_WAIT, || is_so(&self.status()));
        assert!(came, "never {what}: {:#}", self.status());
    }

    /// Sends GETs without a cookie and counts the servers (or statuses) that answered.
    pub fn served(&self, target: &str, times: usize) -> BTreeMap<String, usize> {
        let mut client = self.client();
        let mut served = BTreeMap::new();
        for _ in 0..times {
            *served.entry(client.get(target).served_by()).or_default() += 1;
        }
        served
    }

    /// Waits until this server answers ten GETs without a cookie in a row.
    pub fn wait_for_served(&self, target: &str, only: &str) {
        let mut served = BTreeMap::new();
        let came = eventually(MAX_WAIT, || {
            served = self.served(target, 10);
            served.keys().eq([only])
        });
        assert!(came, "{target} by {served:?}, not by {only} alone: {:#}", self.status());
    }

    /// The value of a metric by the start of its line, such as `icm_directory_readable{`.
    pub fn metric(&self, start: &str) -> Option<f64> {
        let text = self.admin("/metrics").text();
        text.lines().find(|l| l.starts_with(start))?.rsplit(' ').next()?.parse().ok()
    }

    /// Events about this server, newest first.
    pub fn events_of(&self, name: &str) -> Vec<Value> {
        let whole = format!("{name}/Acme");
        let all = self.status()["events"].as_array().unwrap().clone();
        all.into_iter().filter(|e| e["server"] == whole.as_str()).collect()
    }

    /// The output of `icm explain --json`, which finds the running process through the configuration file.
    pub fn explain(&self, url: &str) -> Value {
        icm_cli(&["explain", url, "--json", "-c", self.file.to_str().unwrap()]).json()
    }

    /// One server of the first cluster, as `/status` shows it.
    pub fn status_of(&self, server: &str) -> Value {
        let status = self.status();
        let servers = status["clusters"][0]["servers"].as_array().unwrap();
        let named = |s: &&Value| s["name"].as_str().is_some_and(|n| n.split('/').next() == Some(server));
        servers.iter().find(named).unwrap_or_else(|| panic!("no {server} in {status}")).clone()
    }

    /// The state of a server: `AVAILABLE`, `UNREACHABLE`, ...
    pub fn state_of(&self, server: &str) -> String {
        self.status_of(server)["state"].as_str().unwrap().to_owned()
    }

    /// Waits until a server has this state.
    pub fn wait_for_state(&self, server: &str, state: &str) {
        let there = eventually(MAX_WAIT, || self.state_of(server) == state);
        assert!(there, "{server} never became {state}: {}", self.status_of(server));
    }

    /// Waits until a server has `n` requests in flight.
    pub fn wait_for_in_flight(&self, server: &str, n: u64) {
        let there = eventually(MAX_WAIT, || self.status_of(server)["in_flight"] == n);
        assert!(there, "{server} never had {n} requests in flight: {}", self.status_of(server));
    }

    /// A counter of a server: `answered`, `connect_failed`, `broken`, `timed_out`, `failed_over`.
    pub fn counter_of(&self, server: &str, counter: &str) -> u64 {
        self.status_of(server)["counters"][counter].as_u64().unwrap()
    }

    /// Successful and failed probes of a server's HTTP port.
    pub fn probes_of(&self, server: &str) -> (u64, u64) {
        let families = super::exposition::read(&self.admin("/metrics").text()).unwrap();
        let count = |result| {
            let name = format!("{server}/Acme");
            let labels = [("server", name.as_str()), ("port", "http"), ("result", result)];
            super::exposition::value(&families, "icm_probes_total", &labels) as u64
        };
        (count("ok"), count("failed"))
    }

    /// Waits until every server has reported about its Cluster Replicator and answered a later probe, so that what it
    /// reported is known to be from before the outage that comes next.
    pub fn wait_for_reports(&self) {
        let status = self.status();
        let servers = status["clusters"][0]["servers"].as_array().unwrap();
        let names = servers.iter().map(|s| s["name"].as_str().unwrap().split('/').next().unwrap().to_owned());
        for name in names.filter(|name| self.state_of(name) != "UNREACHABLE").collect::<Vec<_>>() {
            self.wait_for_server(&name, "has reported", |server| server["replicator"].is_object());
            let before = self.probes_of(&name).0;
            let answers = || self.probes_of(&name).0 >= before + 2;
            assert!(eventually(MAX_WAIT, answers), "{}", self.status_of(&name));
        }
    }

    /// Waits until a server is AVAILABLE and a probe that started after this call succeeded, so that no earlier probe can
    /// meet a fault that is set next.
    pub fn wait_for_good_probe(&self, server: &str) {
        let before = self.probes_of(server).0;
        let answers = || self.probes_of(server).0 >= before + 2 && self.state_of(server) == "AVAILABLE";
        assert!(eventually(MAX_WAIT, answers), "{}", self.status_of(server));
    }

    /// An affinity cookie for this server, from a response of it.
    pub fn cookie_for(&self, server: &str, target: &str) -> String {
        let mut value = None;
        eventually(MAX_WAIT, || {
            let answer = self.client().get(target);
            if answer.server().split('/').next() == Some(server) {
                value = answer.cookie("ICM").map(str::to_owned);
            }
            value.is_some()
        });
        value.unwrap_or_else(|| panic!("{server} never answered {target}"))
    }
}

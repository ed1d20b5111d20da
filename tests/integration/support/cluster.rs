//! Starts a simulated cluster with `icm` in front of it, configured for tests of failover or of selection.

use serde_yaml::Value;

use super::{Acme, Answer, Icm, config, config_with_equal_indexes, set, unique_id};

/// Three servers that hold one database, and databases with fewer replicas. Without HTTPS, so that a server whose HTTP
/// port is dead is UNREACHABLE.
pub const THREE_SERVERS: &str = "
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
  - { name: Web3/Acme, https: false }
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: all.nsf, replica_id: C1257A000041D201, replicas: all }
  - { path: two.nsf, replica_id: C1257A000041D202, replicas: [Web1, Web2] }
  - { path: only.nsf, replica_id: C1257A000041D203, replicas: [Web1] }
";

/// Starts [`THREE_SERVERS`] with these cluster settings. By default no failure makes a server UNREACHABLE.
pub fn start_cluster(settings: &[(&str, &str)]) -> (Acme, Icm) {
    start_scenario(THREE_SERVERS, settings)
}

/// [`start_cluster`] with another scenario.
pub fn start_scenario(scenario: &str, settings: &[(&str, &str)]) -> (Acme, Icm) {
    let acme = Acme::start(scenario);
    let mut config = config(&acme);
    let quiet = [
        ("probe", "{ interval: 1h, timeout: 1s, unreachable_after: 1000, healthy_after: 1 }"),
        ("failover.passive_failures", "0"),
    ];
    for (key, value) in quiet.iter().chain(settings) {
        set(&mut config, &format!("clusters.0.{key}"), value);
    }
    let icm = Icm::start(config);
    (acme, icm)
}

/// Starts a cluster whose servers publish the same index, and `icm` with the configuration after `change`.
pub fn start_with_equal_indexes(scenario: &str, change: impl FnOnce(&Acme, &mut Value)) -> (Acme, Icm) {
    let acme = Acme::start(scenario);
    let mut config = config_with_equal_indexes(&acme);
    change(&acme, &mut config);
    (acme, Icm::start(config))
}

/// Sends a request with a unique `X-Request-Id`, and returns the response and the identifier.
pub fn ask(icm: &Icm, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> (Answer, String) {
    let rid = unique_id();
    let mut all = headers.to_vec();
    all.push(("X-Request-Id", &rid));
    let answer = icm.client().request(method, target, &all, body);
    (answer.unwrap_or_else(|e| panic!("{method} {target}: {e:?}")), rid)
}

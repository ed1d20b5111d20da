//! Killing or freezing a server under load fails no request that may be repeated.

use std::time::Duration;

use crate::support::*;

/// Three servers, each in its own process, and `icm` in front of them.
fn three(settings: &[(&str, &str)]) -> (Vec<Acme>, Icm) {
    let names = ["Web1/Acme", "Web2/Acme", "Web3/Acme"];
    let servers: Vec<String> = names
        .iter()
        .map(|n| {
            format!("  - {{ name: {n}, http: {}, https: false, agent: false, metrics: false }}", free_port())
        })
        .collect();
    let scenario = format!(
        "servers:\n{}\ndatabases:
  - {{ path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }}
  - {{ path: all.nsf, replica_id: C1257A000041D201, replicas: all }}\n",
        servers.join("\n")
    );
    let processes: Vec<Acme> = names.iter().map(|name| Acme::only(&scenario, name)).collect();
    let servers: Vec<Server> = processes.iter().zip(names).map(|(p, n)| p.server(n).clone()).collect();
    let mut config = config_of(&servers, &processes[0].ca_file);
    for (key, value) in settings {
        set(&mut config, &format!("clusters.0.{key}"), value);
    }
    (processes, Icm::start(config))
}

/// Sends requests for 2.5 s and runs `happens` after 0.5 s.
fn under_load(icm: &Icm, target: &str, happens: impl FnOnce() + Send) -> Tally {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pause(500);
            happens();
        });
        load_get(icm.address, target, &unique_id(), 8, Duration::from_millis(2_500))
    })
}

#[test]
fn when_a_server_is_killed_under_load_no_request_that_may_be_repeated_fails() {
    let (servers, icm) = three(&[]);
    let tally = under_load(&icm, "/all.nsf?OpenDatabase", || servers[0].signal("KILL"));
    assert!(tally.total() > 100, "{tally:?}");
    assert_eq!(tally.other_than("200"), 0, "{tally:?}\n{}", icm.status_of("Web1"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    for server in ["Web1", "Web2", "Web3"] {
        icm.wait_for_in_flight(server, 0);
    }
    assert!(
        icm.counter_of("Web1", "connect_failed") + icm.counter_of("Web1", "broken") > 0,
        "no failure was counted"
    );
}

#[test]
fn when_a_server_freezes_under_load_no_request_that_may_be_repeated_fails() {
    let (servers, icm) = three(&[("failover.response_timeout", "1s")]);
    let tally = under_load(&icm, "/all.nsf?OpenDatabase", || servers[0].signal("STOP"));
    assert!(tally.total() > 100, "{tally:?}");
    assert_eq!(tally.other_than("200"), 0, "{tally:?}\n{}", icm.status_of("Web1"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    servers[0].signal("CONT");
    icm.wait_for_state("Web1", "AVAILABLE");
    for server in ["Web1", "Web2", "Web3"] {
        icm.wait_for_in_flight(server, 0);
    }
}

#[test]
fn when_a_server_is_killed_under_load_no_post_is_executed_twice() {
    let (servers, icm) = three(&[]);
    let prefix = unique_id();
    let tally = std::thread::scope(|scope| {
        scope.spawn(|| {
            pause(500);
            servers[0].signal("KILL");
        });
        load(8, Duration::from_millis(2_000), |thread| {
            let (icm, prefix) = (&icm, &prefix);
            let mut client = icm.client();
            move |n| {
                let rid = format!("{prefix}-{thread}-{n}");
                let sent =
                    client.request("POST", "/all.nsf?CreateDocument", &[("X-Request-Id", &rid)], b"a=1");
                sent.map_or_else(|e| e.name().to_owned(), |answer| answer.status.to_string())
            }
        })
    });
    // Requests in flight on the killed server get 502, all others 200.
    assert_eq!(tally.total(), tally.of("200") + tally.of("502"), "{tally:?}");
    assert!(tally.of("502") <= 16, "{tally:?}");
    for server in &servers[1..] {
        assert_eq!(server.ask("GET", "/executions/repeated", None)["repeated"], 0);
    }
}

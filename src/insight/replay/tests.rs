//! Replays of logs that are written here, line by line.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::insight::explain::mark_ports_up;
use crate::state::Balancer;

const CONF: &str = "
listeners: [{ address: 127.0.0.1:18080 }]
clusters:
  - name: AcmeWeb
    failover: { slow_start: 0s }
    LIMITS
    servers:
      list:
        - { name: Web1/Acme, hostname: w1.example, http: 127.0.0.1:1 }
        - { name: Web2/Acme, hostname: w2.example, http: 127.0.0.1:2 }
        - { name: Web3/Acme, hostname: w3.example, http: 127.0.0.1:3 }
    directory:
      source: static
      databases:
        - { path: all.nsf, replica_id: C1257A0000410001, replicas: [{ server: Web1/Acme }, { server: Web2/Acme }, { server: Web3/Acme }] }
        - { path: two.nsf, replica_id: C1257A0000410002, replicas: [{ server: Web1/Acme }, { server: Web2/Acme }] }
        - { path: only.nsf, replica_id: C1257A0000410003, replicas: [{ server: Web3/Acme }] }
";
const IDS: [&str; 3] = ["C1257A0000410001", "C1257A0000410002", "C1257A0000410003"];
const BEGIN_MS: u64 = 1_795_500_000_000;

fn balancer(limits: &str) -> Balancer {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("icm.yaml");
    std::fs::write(&file, CONF.replace("LIMITS", limits)).unwrap();
    let loaded = crate::config::load(&file).unwrap_or_else(|e| panic!("{e}"));
    let balancer = Balancer::new(Arc::new(loaded.settings), vec![0; 32]).unwrap();
    mark_ports_up(&balancer);
    balancer
}

fn rfc3339(ms: u64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap();
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A request of a user for a database (0 to 2), which begins so many milliseconds after the start and takes so many.
fn request(user: u64, database: usize, server: &str, why: &str, begin_ms: u64, total_ms: u64) -> Value {
    json!({
        "time": rfc3339(BEGIN_MS + begin_ms + total_ms), "client": "10.0.0.1", "user_agent": format!("u{user}"),
        "target": "/all.nsf", "protocol": "HTTP/1.1", "status": 200, "cluster": "AcmeWeb",
        "replica_id": IDS[database], "server": server, "state": "AVAILABLE", "index": 90.0, "why": why,
        "attempts": [{ "server": server, "cause": null }], "ttfb_ms": total_ms, "total_ms": total_ms, "servers": null,
    })
}

fn refused(database: usize, begin_ms: u64) -> Value {
    let mut line = request(0, database, "-", "no_server", begin_ms, 0);
    line["server"] = Value::Null;
    (line["status"], line["attempts"]) = (json!(503), json!([]));
    line
}

/// The states of the three servers: the index of each; 0 = UNREACHABLE.
fn states(begin_ms: u64, indexes: [u8; 3]) -> Value {
    let server = |(n, index): (usize, &u8)| {
        let state = if *index == 0 { "UNREACHABLE" } else { "AVAILABLE" };
        json!({
            "cluster": "AcmeWeb", "server": format!("Web{}/Acme", n + 1), "state": state, "http": *index > 0,
            "index": index, "threshold": 0, "ranking": index, "weight": 1,
        })
    };
    let list: Vec<Value> = indexes.iter().enumerate().map(server).collect();
    json!({ "at": rfc3339(BEGIN_MS + begin_ms), "list": list })
}

/// The usual configuration, which is loaded once for all cases of the property test.
static USUAL: LazyLock<Balancer> = LazyLock::new(|| balancer("open_server: off"));

fn replay_with(balancer: &Balancer, changes: &ReplayChanges, lines: &[Value]) -> ClusterReplay {
    let mut replay = Replay::new(&balancer.snapshot(), None, changes, ReplayRange::default(), 1);
    for line in lines {
        replay.line(line.to_string().as_bytes()).unwrap();
    }
    replay.finish(10).clusters.into_iter().next().unwrap_or_default()
}

fn replay(changes: &ReplayChanges, lines: &[Value]) -> ClusterReplay {
    replay_with(&USUAL, changes, lines)
}

fn down(server: &str) -> ReplayChanges {
    ReplayChanges { down: vec![server.to_owned()], ..ReplayChanges::default() }
}

fn after(cluster: &ClusterReplay) -> Vec<u64> {
    ["Web1/Acme", "Web2/Acme", "Web3/Acme"]
        .iter()
        .map(|name| cluster.servers.iter().find(|s| s.server == *name).map_or(0, |s| s.requests_after))
        .collect()
}

#[test]
fn a_user_stays_on_the_server_to_which_a_change_has_moved_him() {
    let mut lines = vec![request(1, 0, "Web3/Acme", "lightest", 0, 10)];
    lines[0]["servers"] = states(0, [90, 90, 90]);
    lines.extend((1..20).map(|n| request(1, 0, "Web3/Acme", "entry", n * 1_000, 10)));
    let cluster = replay(&down("Web3"), &lines);
    assert_eq!(
        (cluster.moved_requests, cluster.moved_users, cluster.moves.len()),
        (20, 1, 1),
        "{cluster:#?}"
    );
    assert_eq!((cluster.states_recorded, cluster.agreement.same_server), (20, 19));
    let [_, _, on_web3] = after(&cluster)[..] else { panic!() };
    assert_eq!(on_web3, 0);
}

#[test]
fn refused_requests_name_their_database() {
    let lines = [
        request(1, 2, "Web3/Acme", "lightest", 0, 10),
        request(1, 0, "Web3/Acme", "lightest", 20, 10),
        refused(2, 50),
    ];
    let cluster = replay(&down("Web3"), &lines);
    assert_eq!(
        (cluster.refused_before, cluster.refused_after, cluster.newly_refused),
        (1, 2, 1),
        "{cluster:#?}"
    );
    let only = &cluster.refused_databases.examples[0];
    assert_eq!(only.path.as_deref(), Some("only.nsf"));
    assert_eq!((only.refused_before, only.refused_after), (1, 2));
    assert_eq!((cluster.single_replicas.count, cluster.single_replicas.requests), (1, 2));
    let cluster = replay(&ReplayChanges::default(), &lines);
    assert_eq!(
        (cluster.refused_before, cluster.refused_after),
        (1, 0),
        "without a change only the log counts"
    );
}

#[test]
fn requests_in_flight_follow_from_the_times_and_meet_the_limit() {
    // Two at a time on each of two servers: with one down, every second one is too much for a limit of 2.
    let lines: Vec<Value> = (0..8)
        .map(|n| {
            request(
                n,
                1,
                if n % 2 == 0 { "Web1/Acme" } else { "Web2/Acme" },
                "lightest",
                n / 4 * 5_000 + n,
                1_000,
            )
        })
        .collect();
    let limited = balancer("limits: { max_requests_in_flight_per_server: 2 }");
    let cluster = replay_with(&limited, &down("Web2"), &lines);
    assert_eq!((cluster.newly_refused, after(&cluster)), (4, vec![4, 0, 0]), "{cluster:#?}");
    assert_eq!(cluster.servers[0].peak_per_second_after, 2);
    let unlimited = replay(&down("Web2"), &lines);
    assert_eq!((unlimited.newly_refused, after(&unlimited)), (0, vec![8, 0, 0]));
    assert_eq!(
        (unlimited.servers[0].peak_per_second_before, unlimited.servers[0].peak_per_second_after),
        (2, 4)
    );
}

#[test]
fn a_request_fails_after_the_change_where_it_failed_in_the_log() {
    let mut failed = request(1, 0, "Web2/Acme", "lightest", 0, 10);
    failed["attempts"] =
        json!([{ "server": "Web1/Acme", "cause": "connect" }, { "server": "Web2/Acme", "cause": null }]);
    let cluster = replay(&down("Web2"), &[failed]);
    assert_eq!(after(&cluster), [0, 0, 1], "not on Web1, which failed: {cluster:#?}");
}

#[test]
fn lines_may_come_in_the_order_of_their_ends() {
    // The states change while a long request runs; it is replayed with those of its beginning.
    let mut long = request(1, 0, "Web1/Acme", "entry", 0, 20_000);
    let mut first = request(2, 0, "Web2/Acme", "entry", 0, 10);
    first["servers"] = states(0, [90, 90, 90]);
    let mut second = request(2, 0, "Web2/Acme", "entry", 10_000, 10);
    second["servers"] = states(10_000, [0, 90, 90]);
    let lines = [first, second, long.clone()];
    let cluster = replay(&ReplayChanges::default(), &lines);
    assert_eq!(cluster.agreement.same_server, 3, "{cluster:#?}");
    // One that begins after the change does not agree.
    long["total_ms"] = json!(5);
    let cluster = replay(&ReplayChanges::default(), &[lines[0].clone(), lines[1].clone(), long]);
    assert_eq!(cluster.agreement.same_server, 2, "{cluster:#?}");
}

#[test]
fn a_threshold_sets_a_server_aside_and_its_time_is_counted() {
    let line = |n: u64, server: &str, why: &str| {
        let mut line = request(n % 7, 0, server, why, n * 1_000, 10);
        if n.is_multiple_of(20) {
            line["servers"] = states(n * 1_000, [if n < 60 { 90 } else { 40 }, 90, 90]);
        }
        line
    };
    let lines: Vec<Value> = (0..120).map(|n| line(n, "Web1/Acme", "lightest")).collect();
    let changes = ReplayChanges { thresholds: vec![(None, 50)], ..ReplayChanges::default() };
    let cluster = replay(&changes, &lines);
    assert_eq!(after(&cluster)[0], 60, "{cluster:#?}");
    let web1 = &cluster.servers[0];
    assert_eq!((web1.busy_percent_before, web1.busy_percent_after), (Some(0.0), Some(50.0)), "{web1:#?}");
    assert_eq!(cluster.thresholds[0].set_aside[0].percent, 50.0);
    assert_eq!(cluster.all_busy[0].percent, 0.0);
}

/// Any request, by small numbers.
fn any_line() -> impl Strategy<Value = (u64, usize, usize, usize, u64, u64, Option<[u8; 3]>)> {
    let indexes = proptest::option::weighted(0.2, prop::array::uniform3(prop_oneof![Just(0_u8), 1..=100_u8]));
    (0..6_u64, 0..3_usize, 0..3_usize, 0..6_usize, 0..90_000_u64, 0..40_000_u64, indexes)
}

proptest! {
    #[test]
    fn every_request_is_counted_once_and_without_a_change_nobody_moves(
        all in proptest::collection::vec(any_line(), 1..60),
        which in 0..4_usize,
    ) {
        let mut lines: Vec<(u64, Value)> = all
            .into_iter()
            .map(|(user, database, server, why, begin, total, indexes)| {
                let why = ["lightest", "entry", "recent", "session", "own_write", "referer"][why];
                let server = format!("Web{}/Acme", server + 1);
                let mut line = request(user, database, &server, why, begin, total);
                line["servers"] = indexes.map_or(Value::Null, |indexes| states(begin + total, indexes));
                (begin + total, line)
            })
            .collect();
        lines.sort_by_key(|(end, _)| *end);
        let lines: Vec<Value> = lines.into_iter().map(|(_, line)| line).collect();
        // The threshold that is in force, and weights as they are: changes that change nothing.
        let nothing = ReplayChanges {
            thresholds: vec![(None, 0)],
            weights: (1..4).map(|n| (format!("Web{n}/Acme"), 1)).collect(),
            ..ReplayChanges::default()
        };
        let changes = match which {
            0 => nothing.clone(),
            1 => down("Web1/Acme"),
            2 => ReplayChanges { thresholds: vec![(None, 70)], ..ReplayChanges::default() },
            _ => ReplayChanges { weights: vec![("Web2/Acme".into(), 9)], ..ReplayChanges::default() },
        };
        let cluster = replay(&changes, &lines);
        let total = lines.len() as u64;
        prop_assert_eq!(cluster.requests, total);
        prop_assert_eq!(cluster.servers.iter().map(|s| s.requests_before).sum::<u64>(), total);
        let after: u64 = after(&cluster).iter().sum();
        prop_assert_eq!(after + cluster.refused_after, total);
        prop_assert_eq!(cluster.newly_refused, cluster.refused_after);
        let moves: u64 = cluster.moves.iter().map(|m| m.requests).sum();
        prop_assert_eq!(moves, cluster.moved_requests);
        if which == 1 {
            let from_web1 = cluster.servers.iter().find(|s| s.server == "Web1/Acme").map_or(0, |s| s.requests_after);
            prop_assert_eq!(from_web1, 0);
        }
        // The same again.
        let again = replay(&changes, &lines);
        prop_assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&cluster).unwrap());
        let unchanged = replay(&nothing, &lines);
        prop_assert_eq!(unchanged.moved_requests, 0, "{:#?}", unchanged);
    }
}

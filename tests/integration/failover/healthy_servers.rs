//! Failover from a healthy server that is at its in-flight limit or lacks a replica that the directory lists.

use std::time::Duration;

use crate::support::*;
use serde_json::json;

/// Sends a request that its server holds until the fault is removed. Returns its client.
fn occupy(icm: &Icm, server: &str, target: &str, cookie: &str) -> Client {
    // A request ends a moment after its answer arrives.
    icm.wait_for_in_flight(server, 0);
    let mut client = icm.client();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nCookie: ICM={cookie}\r\n\r\n");
    client.send(request.as_bytes()).unwrap();
    icm.wait_for_in_flight(server, 1);
    client
}

fn one_each(queue_timeout: &str) -> (Acme, Icm) {
    let limits = format!("{{ max_requests_in_flight_per_server: 1, queue_timeout: {queue_timeout} }}");
    start_cluster(&[("limits", &limits), ("failover.response_timeout", "60s")])
}

#[test]
fn a_server_at_its_in_flight_limit_is_passed_over_for_another_candidate() {
    let (acme, icm) = one_each("100ms");
    let cookie = icm.cookie_for("Web1", "/two.nsf?OpenDatabase");
    acme.fault("Web1", json!({ "kind": "hang", "path": "/only.nsf" }));
    let occupant = occupy(&icm, "Web1", "/only.nsf?OpenDatabase", "");
    let cookie = format!("ICM={cookie}");
    let (answer, _) = ask(&icm, "GET", "/two.nsf?OpenDatabase", &[("Cookie", &cookie)], b"");
    assert_eq!((answer.status, answer.server()), (200, "Web2/Acme"));
    // The user is not moved for later requests.
    let kept = answer.cookie("ICM").map_or(cookie, |new| format!("ICM={new}"));
    drop(occupant);
    icm.wait_for_in_flight("Web1", 0);
    let (answer, _) = ask(&icm, "GET", "/two.nsf?OpenDatabase", &[("Cookie", &kept)], b"");
    assert_eq!(answer.server(), "Web1/Acme");
}

#[test]
fn without_another_candidate_a_request_waits_in_the_queue_and_then_gets_503() {
    let (acme, icm) = one_each("200ms");
    acme.fault("Web1", json!("hang"));
    let occupant = occupy(&icm, "Web1", "/only.nsf?OpenDatabase", "");
    let (answer, rid) = ask(&icm, "GET", "/only.nsf?OpenDatabase", &[("Accept", "application/json")], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (503, 0));
    assert!(answer.header("retry-after").is_some());
    assert!(answer.json().is_object());
    drop(occupant);

    let (acme, icm) = one_each("60s");
    acme.fault("Web1", json!({ "kind": "slow", "delay_ms": 300 }));
    let tally = load(4, Duration::from_millis(900), |_| {
        let mut client = icm.client().timeout(Duration::from_secs(60));
        move |_| client.get("/only.nsf?OpenDatabase").status.to_string()
    });
    assert_eq!(tally.other_than("200"), 0, "{tally:?}");
}

#[test]
fn a_finished_request_wakes_the_waiting_request_that_can_use_its_server() {
    let (acme, icm) = one_each("60s");
    let there = icm.cookie_for("Web1", "/two.nsf?OpenDatabase");
    let other = icm.cookie_for("Web2", "/two.nsf?OpenDatabase");
    acme.fault("Web1", json!({ "kind": "hang", "path": "/only.nsf" }));
    acme.fault("Web2", json!({ "kind": "hang", "path": "/all.nsf" }));
    let first = occupy(&icm, "Web1", "/only.nsf?OpenDatabase", &there);
    let second = occupy(&icm, "Web2", "/all.nsf?OpenDatabase", &other);
    // The first in the queue can use only Web1; the second can use Web2 as well.
    let mut waits_for_one = icm.client();
    waits_for_one.send(b"GET /only.nsf?OpenDatabase HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    pause(200);
    let mut waits_for_two = icm.client();
    waits_for_two.send(b"GET /two.nsf?OpenDatabase HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    pause(200);
    drop(second);
    let answer = waits_for_two.read("GET").unwrap();
    assert_eq!((answer.status, answer.server()), (200, "Web2/Acme"), "Web1 is still occupied");
    // Heal Web1 first, or the next request would hang as well.
    acme.heal("Web1");
    drop(first);
    assert_eq!(waits_for_one.read("GET").unwrap().status, 200);
}

#[test]
fn no_server_ever_has_more_requests_in_flight_than_its_limit() {
    let (acme, icm) = start_cluster(&[
        ("limits", "{ max_requests_in_flight_per_server: 2, queue_timeout: 60s }"),
        (
            "directory",
            "{ source: static, databases: [{ path: only.nsf, replica_id: C1257A000041D203, replicas: [{ server: Web1/Acme }] }] }",
        ),
    ]);
    let probes = acme.ask("GET", "/connections", None)["Web1/Acme"]["peak"].as_u64().unwrap();
    assert!(probes <= 2, "only the first probe and its kin so far: {probes}");
    let tally = load(12, Duration::from_millis(1_500), |_| {
        let mut client = icm.client().timeout(Duration::from_secs(60));
        move |_| client.get("/only.nsf?OpenDatabase&delay=3").status.to_string()
    });
    assert_eq!(tally.other_than("200"), 0, "{tally:?}");
    let peak = acme.ask("GET", "/connections", None)["Web1/Acme"]["peak"].as_u64().unwrap();
    assert_eq!(peak, 2);
    icm.wait_for_in_flight("Web1", 0);
}

/// How many readings of the directory have begun, on all servers.
fn readings(acme: &Acme) -> usize {
    let all = acme.ask("GET", "/requests?n=5000&path=/cldbdir.nsf", None);
    let begins = |r: &&serde_json::Value| r["target"].as_str().is_some_and(|t| t.contains("Start=1&"));
    let n = all.as_array().unwrap().iter().filter(begins).count();
    assert!(n > 0, "no reading begins with Start=1: {all}");
    n
}

#[test]
fn a_404_of_a_listed_holder_tries_the_next_holder_and_triggers_one_extra_reading() {
    let (acme, icm) = start_cluster(&[("directory.refresh", "1h")]);
    assert_eq!(readings(&acme), 1);
    // A replica is deleted, but the directory still lists it.
    let cookie = format!("ICM={}", icm.cookie_for("Web1", "/all.nsf?OpenDatabase"));
    acme.ask("DELETE", "/databases?server=Web1&path=two.nsf", None);
    let (answer, rid) = ask(&icm, "GET", "/two.nsf?OpenDatabase", &[("Cookie", &cookie)], b"");
    assert_eq!((answer.status, answer.server()), (200, "Web2/Acme"));
    assert_eq!((acme.executed_on(&rid, "Web1").1, acme.executed_on(&rid, "Web2").1), (1, 1));
    assert!(eventually(MAX_WAIT, || readings(&acme) == 2), "the directory is read again");
    let two = |server: &str| {
        let (answer, rid) = ask(&icm, "GET", "/two.nsf?OpenDatabase", &[("Cookie", &cookie)], b"");
        (answer.status, acme.executed_on(&rid, server).1)
    };
    assert!(
        eventually(MAX_WAIT, || two("Web1") == (200, 0)),
        "after the reading the replica is known to be gone"
    );
    // A second deletion within half a minute: requests fail over, but no extra reading begins.
    acme.ask("DELETE", "/databases?server=Web1&path=only.nsf", None);
    acme.ask(
        "POST",
        "/databases",
        Some(&json!({ "server": "Web1", "path": "two.nsf", "replica_id": "C1257A000041D202" })),
    );
    for _ in 0..3 {
        let (answer, rid) = ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"");
        assert_eq!((answer.status, answer.server(), acme.executed(&rid)), (404, "Web1/Acme", 1));
    }
    pause(300);
    assert_eq!(readings(&acme), 2);
}

#[test]
fn after_404_from_two_holders_the_next_404_is_final() {
    let (acme, icm) = start_cluster(&[("directory", "{ source: static, databases: [
        { path: gone.nsf, replica_id: C1257A000041D2FF, replicas: [{ server: Web1/Acme }, { server: Web2/Acme }, { server: Web3/Acme }] }] }")]);
    let (answer, rid) = ask(&icm, "GET", "/gone.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (404, 2));
    assert!(answer.server().ends_with("/Acme"), "Domino's own page: {}", answer.head);
    for _ in 0..4 {
        let (answer, rid) = ask(&icm, "HEAD", "/gone.nsf?OpenDatabase", &[], b"");
        assert_eq!((answer.status, acme.executed(&rid)), (404, 1));
    }
}

#[test]
fn a_404_of_a_replica_that_has_answered_before_and_of_other_methods_is_genuine() {
    let (acme, icm) = start_cluster(&[("directory.refresh", "1h")]);
    let cookies = ["Web1", "Web2"].map(|server| (server, icm.cookie_for(server, "/two.nsf?OpenDatabase")));
    for (server, cookie) in cookies {
        let cookie = format!("ICM={cookie}");
        let (answer, rid) = ask(&icm, "GET", "/two.nsf/missing?OpenPage", &[("Cookie", &cookie)], b"");
        assert_eq!((answer.status, acme.executed_on(&rid, server).1, acme.executed(&rid)), (404, 1, 1));
    }
    let (answer, rid) = ask(&icm, "POST", "/all.nsf/missing?CreateDocument", &[], b"a=1");
    assert_eq!((answer.status, acme.executed(&rid)), (404, 1));
    pause(300);
    assert_eq!(readings(&acme), 1, "nothing gave a reason to read the directory again");
    let (answer, rid) = ask(&icm, "GET", "/all.nsf/missing?OpenAgent", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (404, 1), "an agent runs once, whatever it answers");
}

//! Which failures count against a server: failed connects in a row, but not paused uploads, slow agents or clients that leave.

use crate::support::*;
use serde_json::json;

#[test]
fn an_upload_with_a_pause_longer_than_the_response_timeout_succeeds() {
    let (acme, icm) =
        start_cluster(&[("failover.response_timeout", "300ms"), ("failover.passive_failures", "1")]);
    for (size, framing) in [(1_000, "Content-Length: 1000"), (200_000, "Content-Length: 200000")] {
        let rid = unique_id();
        let mut client = icm.client();
        client
            .send(
                format!(
                    "POST /only.nsf?CreateDocument HTTP/1.1\r\nHost: x\r\nX-Request-Id: {rid}\r\n{framing}\r\n\r\n"
                )
                .as_bytes(),
            )
            .unwrap();
        client.send(&vec![b'x'; size / 2]).unwrap();
        pause(1_000);
        client.send(&vec![b'x'; size - size / 2]).unwrap();
        let answer = client.read("POST").unwrap();
        assert_eq!((answer.status, acme.executed(&rid)), (200, 1));
    }
    let mut client = icm.client();
    client
        .send(b"POST /only.nsf?CreateDocument HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .unwrap();
    pause(1_000);
    client.send(b"2\r\nde\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.read("POST").unwrap().status, 200);
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    assert_eq!((icm.counter_of("Web1", "timed_out"), icm.counter_of("Web1", "broken")), (0, 0));
    icm.wait_for_in_flight("Web1", 0);
}

#[test]
fn the_response_timeout_starts_at_the_end_of_the_request_body() {
    let (acme, icm) =
        start_cluster(&[("failover.response_timeout", "500ms"), ("failover.passive_failures", "1")]);
    acme.fault("all", json!("hang"));
    for (head, body) in [
        ("Content-Length: 3", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
        ("Expect: 100-continue\r\nContent-Length: 3", "abc"),
    ] {
        let rid = unique_id();
        let mut client = icm.client();
        let text = format!(
            "POST /all.nsf?SaveDocument HTTP/1.1\r\nHost: x\r\nX-Request-Id: {rid}\r\n{head}\r\n\r\n{body}"
        );
        client.send(text.as_bytes()).unwrap();
        let answer = client.read("POST").unwrap();
        assert_eq!((answer.status, acme.executed(&rid)), (504, 1), "{head}");
    }
    for server in ["Web1", "Web2", "Web3"] {
        assert_eq!(icm.state_of(server), "AVAILABLE");
    }
}

#[test]
fn an_upload_that_the_server_stops_reading_ends_after_the_response_timeout() {
    let (acme, icm) =
        start_cluster(&[("failover.response_timeout", "1s"), ("failover.passive_failures", "1")]);
    acme.fault("Web1", json!({ "kind": "stall_upload", "after": 1000 }));
    // More than all buffers hold.
    let (answer, rid) = ask(&icm, "POST", "/only.nsf?CreateDocument", &[], &vec![b'x'; 40_000_000]);
    assert_eq!((answer.status, acme.executed(&rid)), (504, 0));
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    icm.wait_for_in_flight("Web1", 0);
}

#[test]
fn slow_agents_never_make_their_server_unreachable() {
    let (acme, icm) = start_cluster(&[
        ("failover.response_timeout", "200ms"),
        ("failover.passive_failures", "2"),
        ("probe", "{ interval: 100ms, timeout: 5s, unreachable_after: 1, healthy_after: 1 }"),
    ]);
    acme.fault("Web1", json!({ "kind": "slow", "delay_ms": 1_500, "path": "/only.nsf" }));
    for _ in 0..5 {
        assert_eq!(ask(&icm, "GET", "/only.nsf/slow?OpenAgent", &[], b"").0.status, 504);
        assert_eq!(ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"").0.status, 504);
        assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    }
    assert_eq!(icm.counter_of("Web1", "timed_out"), 10);
    assert!(!icm.log().contains("in a row failed"), "{}", icm.log());
}

#[test]
fn failed_connects_in_a_row_make_a_server_unreachable_until_a_probe_succeeds() {
    let (acme, icm) = start_cluster(&[
        ("failover.passive_failures", "3"),
        // Failed probes alone never make it UNREACHABLE; one good probe makes it AVAILABLE.
        ("probe", "{ interval: 100ms, timeout: 1s, unreachable_after: 1000, healthy_after: 1 }"),
    ]);
    // No connection is kept: each request makes one.
    acme.set("all", json!({ "max_requests": 1 }));
    let fails = |times: usize| {
        for _ in 0..times {
            assert_eq!(ask(&icm, "POST", "/only.nsf?CreateDocument", &[], b"a=1").0.status, 503);
        }
    };
    acme.fault("Web1", json!("refuse"));
    fails(2);
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    acme.heal("Web1");
    assert_eq!(ask(&icm, "POST", "/only.nsf?CreateDocument", &[], b"a=1").0.status, 200);
    acme.fault("Web1", json!("refuse"));
    fails(2);
    assert_eq!(icm.state_of("Web1"), "AVAILABLE", "an answer breaks the row");
    fails(1);
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert!(icm.status_of("Web1")["cause"].as_str().unwrap().contains("3 connects in a row failed"));
    let (answer, rid) = ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"");
    assert_eq!((answer.status, acme.executed(&rid)), (503, 0));
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
    assert_eq!(ask(&icm, "GET", "/only.nsf?OpenDatabase", &[], b"").0.status, 200);
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let (acme, icm) = start_cluster(&[("failover.response_timeout", "20s")]);
    let cookie = icm.cookie_for("Web1", "/two.nsf?OpenDatabase");
    acme.fault("Web1", json!("hang"));
    acme.fault("Web2", json!("hang"));
    let head = |method: &str, target: &str, rest: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nCookie: ICM={cookie}\r\n{rest}\r\n")
    };
    let plain = head("GET", "/two.nsf?OpenDatabase", "");
    let upload = head("POST", "/two.nsf?CreateDocument", "Content-Length: 5\r\n") + "abcde";
    let half = head("POST", "/two.nsf?CreateDocument", "Content-Length: 500000\r\n") + "abcde";
    let pipelined = plain.repeat(2);
    for request in [&plain, &upload, &half, &pipelined] {
        let mut client = icm.client();
        client.send(request.as_bytes()).unwrap();
        icm.wait_for_in_flight("Web1", 1);
        client.close();
        icm.wait_for_in_flight("Web1", 0);
    }
    // The same after a failover from a server that refuses.
    acme.fault("Web1", json!("refuse"));
    for request in [&plain, &upload] {
        let mut client = icm.client();
        client.send(request.as_bytes()).unwrap();
        icm.wait_for_in_flight("Web2", 1);
        client.close();
        icm.wait_for_in_flight("Web2", 0);
    }
    assert_eq!(icm.status_of("Web1")["in_flight"], 0);
    for server in ["Web1", "Web2"] {
        assert_eq!(
            (icm.counter_of(server, "timed_out"), icm.counter_of(server, "broken")),
            (0, 0),
            "{server}"
        );
        assert_eq!(icm.state_of(server), "AVAILABLE");
    }
}

#[test]
fn a_client_that_leaves_during_the_answer_ends_its_request() {
    let (_acme, icm) = start_cluster(&[]);
    let mut client = icm.client();
    client.send(b"GET /only.nsf?OpenDatabase&size=1000000&drip=20 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    icm.wait_for_in_flight("Web1", 1);
    client.close();
    icm.wait_for_in_flight("Web1", 0);
    assert_eq!((icm.state_of("Web1"), icm.counter_of("Web1", "broken")), ("AVAILABLE".into(), 0));
}

#[test]
fn an_answer_sent_before_the_body_is_read_reaches_the_client() {
    let (acme, icm) = start_cluster(&[("failover.passive_failures", "1")]);
    for end in ["fin", "rst"] {
        acme.fault("Web1", json!({ "kind": "early_response", "status": 413, "end": end }));
        let (answer, rid) = ask(&icm, "POST", "/only.nsf?CreateDocument", &[], &vec![b'x'; 5_000_000]);
        assert_eq!((answer.status, acme.executed(&rid)), (413, 0), "{end}");
        assert!(answer.text().contains("HTTP Web Server: fault"), "Domino's own page: {}", answer.text());
        icm.wait_for_in_flight("Web1", 0);
        assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    }
}

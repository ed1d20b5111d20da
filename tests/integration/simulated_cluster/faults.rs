//! What a client sees of each fault of the simulated cluster, and how its processes start and end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::*;
use serde_json::{Value, json};

#[test]
fn every_fault_is_seen_as_what_it_is() {
    let acme = Acme::built_in();
    let address = acme.http("Web1");
    let target = "/sales/leads.nsf?OpenDatabase";
    let quick = || Client::to(address).timeout(Duration::from_millis(1500));
    let outcome = |fault: Value| {
        acme.fault("Web1", fault);
        match quick().request("GET", target, &[], b"") {
            Ok(answer) => answer.status.to_string(),
            Err(failure) => failure.name().to_owned(),
        }
    };
    assert_eq!(outcome(json!("refuse")), "connect");
    assert_eq!(outcome(json!("blackhole")), "connect");
    assert_eq!(outcome(json!("reset")), "reset");
    assert_eq!(outcome(json!("close")), "closed");
    assert_eq!(outcome(json!("hang")), "timeout");
    assert_eq!(outcome(json!({"kind": "slow", "delay_ms": 1})), "200");
    assert_eq!(outcome(json!({"kind": "status", "status": 502})), "502");
    assert_eq!(outcome(json!("die_mid_body")), "truncated");
    assert_eq!(outcome(json!({"kind": "die_mid_body", "chunked": true, "end": "rst"})), "truncated");
    assert_eq!(outcome(json!("die_mid_header")), "closed");
    assert_eq!(outcome(json!("not_found")), "404");
    assert_eq!(outcome(json!("early_response")), "503");
    assert_eq!(outcome(json!({"kind": "reset", "path": "/mail"})), "200");
    assert_eq!(outcome(json!({"kind": "reset", "method": "POST"})), "200");
    assert_eq!(outcome(json!({"kind": "reset", "count": 1})), "reset");
    assert_eq!(quick().get(target).status, 200, "the count is used up");
    acme.fault("Web1", json!({"kind": "reset"}));
    assert_eq!(quick().get("/").status, 200, "the probe is left alone");
    acme.fault("Web1", json!({"kind": "reset", "probe": true}));
    assert_eq!(quick().request("GET", "/", &[], b"").unwrap_err().name(), "reset");
    acme.fault("Web1", json!("reset_on_reuse"));
    let mut kept = quick();
    assert_eq!(kept.get(target).status, 200);
    assert_eq!(kept.request("GET", target, &[], b"").unwrap_err().name(), "reset");
    acme.heal("Web1");
    assert_eq!(quick().get(target).status, 200);
}

#[test]
fn only_a_request_that_was_read_counts_as_executed() {
    let acme = Acme::built_in();
    let post = |fault: Value, rid: &str| {
        acme.fault("Web1", fault);
        let mut client = Client::to(acme.http("Web1")).timeout(Duration::from_millis(700));
        let body = vec![b'x'; 4_000_000];
        let _ = client.request("POST", "/homepage.nsf?CreateDocument", &[("X-Request-Id", rid)], &body);
        acme.executed_on(rid, "Web1")
    };
    assert_eq!(post(json!({"kind": "reset", "at": "head"}), "x1"), (1, 0));
    assert_eq!(post(json!({"kind": "reset", "at": "body"}), "x2"), (1, 1));
    assert_eq!(post(json!("stall_upload"), "x3"), (1, 0));
    assert_eq!(post(json!("early_response"), "x4"), (1, 0));
    assert_eq!(post(json!(null), "x5"), (1, 1));
    assert_eq!(acme.executed("x5"), 1);
    assert_eq!(acme.ask("GET", "/executions/repeated", None)["repeated"], 0);
}

#[test]
fn a_server_that_is_switched_off_resets_what_is_open() {
    let acme = Acme::built_in();
    let mut client = Client::to(acme.http("Web1"));
    assert_eq!(client.get("/").status, 200);
    acme.fault("Web1", json!({"kind": "refuse", "kill": true}));
    assert!(client.peer_closes());
    assert!(eventually(MAX_WAIT, || { acme.ask("GET", "/connections", None)["Web1/Acme"]["current"] == 0 }));
    acme.fault("Web1", json!({"kind": "refuse", "for_ms": 100}));
    assert!(eventually(MAX_WAIT, || Client::to(acme.http("Web1")).request("GET", "/", &[], b"").is_ok()));
}

#[test]
fn no_idle_connection_is_left_when_the_control_port_has_answered_that_a_server_refuses() {
    let acme = Acme::built_in();
    for fault in [json!("refuse"), json!({"kind": "refuse", "kill": true})] {
        let clients: Vec<TcpStream> = std::iter::repeat_with(|| {
            let mut client = TcpStream::connect(acme.http("Web1")).unwrap();
            client.write_all(b"GET /fast HTTP/1.1\r\nHost: web1\r\n\r\n").unwrap();
            assert!(client.read(&mut [0; 16_384]).unwrap() > 0);
            client.set_nonblocking(true).unwrap();
            client
        })
        .take(600)
        .collect();
        // The last answer has been sent a moment before its connection waits for the next request.
        assert!(eventually(MAX_WAIT, || {
            acme.ask("GET", "/connections", None)["Web1/Acme"]["idle"] == 600
        }));
        acme.fault("Web1", fault.clone());
        for mut client in &clients {
            let closed = match client.read(&mut [0; 1]) {
                Ok(n) => n == 0,
                Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
            };
            assert!(closed, "{fault}");
        }
        acme.heal("Web1");
    }
}

#[test]
fn certificates_are_good_expired_or_for_somebody_else() {
    let acme = Acme::built_in();
    let https = acme.server("Web2").https.unwrap();
    let get = |name: &str| Client::tls(https, name, &acme.ca_file).request("GET", "/", &[], b"");
    assert_eq!(get("web2.acme.example").unwrap().status, 200);
    assert_eq!(get("localhost").unwrap().status, 200);
    for fault in ["tls_expired", "tls_wrong_name", "tls_handshake"] {
        acme.fault("Web2", json!(fault));
        assert_eq!(get("web2.acme.example").unwrap_err().name(), "tls", "{fault}");
    }
    acme.heal("Web2");
    assert_eq!(get("web2.acme.example").unwrap().status, 200);
}

#[test]
fn a_websocket_greets_in_the_packet_of_its_header_and_echoes() {
    let acme = Acme::sample();
    let mut client = Client::to(acme.http("Web1"));
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = client.request("GET", "/ws", &upgrade, b"").unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.send(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"\x81\x14hello from Web1/Acme\x81\x02hi\x88\x00");
}

#[test]
fn one_server_can_have_a_process_of_its_own_to_be_stopped() {
    let scenario = format!(
        "servers: [{{name: Web1/Acme, http: {}}}, {{name: Web2/Acme, http: {}}}]",
        free_port(),
        free_port()
    );
    let (web1, web2) = (Acme::only(&scenario, "Web1"), Acme::only(&scenario, "web2/acme"));
    assert_eq!((web1.servers.len(), web2.servers[0].name.as_str()), (1, "Web2/Acme"));
    web2.signal("STOP");
    let mut client = Client::to(web2.http("Web2")).timeout(Duration::from_millis(300));
    assert_eq!(client.request("GET", "/", &[], b"").unwrap_err().name(), "timeout");
    web2.signal("CONT");
    assert_eq!(Client::to(web2.http("Web2")).get("/").status, 200);
    assert_eq!(Client::to(web1.http("Web1")).get("/").server(), "Web1/Acme");
}

#[test]
fn it_ends_with_its_parent_and_says_which_port_is_taken() {
    use std::process::{Command, Stdio};
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.yaml");
    std::fs::write(&file, format!("servers: [{{name: Web1/Acme, http: {port}}}]")).unwrap();
    let mut acme = Command::new(env!("CARGO_BIN_EXE_acme"));
    acme.arg("--scenario").arg(&file).args(["--quiet", "--exit-with-parent"]);
    let mut child = acme.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    assert!(eventually(MAX_WAIT, || {
        Client::to(([127, 0, 0, 1], port).into()).request("GET", "/", &[], b"").is_ok()
    }));
    let second = acme.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains(&port.to_string()), "{said}");
    drop(child.stdin.take());
    assert!(eventually(MAX_WAIT, || child.try_wait().unwrap().is_some_and(|s| s.success())));
}

#[test]
fn the_product_is_configured_for_the_ports_that_were_found() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let wanted = acme.http("Web4").to_string();
    assert_eq!(config["clusters"][0]["servers"]["list"][3]["http"].as_str(), Some(wanted.as_str()));
    set(&mut config, "clusters.0.affinity.mode", "off");
    assert_eq!(config["clusters"][0]["affinity"]["mode"].as_str(), Some("off"));
}

#[test]
fn load_is_counted_by_outcome() {
    let acme = Acme::sample();
    let tally = load_get(acme.http("Web1"), "/mail/jdoe.nsf", "load", 4, Duration::from_millis(200));
    assert!(tally.total() >= 4);
    assert_eq!(tally.other_than("200"), 0, "{tally:?}");
    assert_eq!(acme.executed("load-3-0"), 1);
    acme.fault("Web1", json!("reset"));
    let tally = load_get(acme.http("Web1"), "/mail/jdoe.nsf", "dead", 2, Duration::from_millis(50));
    assert_eq!(tally.other_than("reset"), 0, "{tally:?}");
}

#[test]
fn work_occupies_a_worker_and_shows_in_a_measured_index() {
    let acme = Acme::sample();
    acme.set("Web1", json!({ "workers": 1, "speed": 0.5, "measure_index_ms": 300 }));
    let metrics = || Client::to(acme.server("Web1").metrics.unwrap()).get("/metrics").text();
    assert!(metrics().contains("Domino_Server_AvailabilityIndex 100\n"));
    // Three at once, one worker: 100, 200 and 300 ms for 50 each is a factor of 4.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let begun = std::time::Instant::now();
                Client::to(acme.http("Web1")).get("/sales/leads.nsf?OpenDatabase&work=50");
                assert!(begun.elapsed() >= Duration::from_millis(100));
            });
        }
    });
    let loaded = |text: &str| {
        let line = text.lines().find(|l| l.starts_with("Domino_Server_AvailabilityIndex ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap() <= 84
    };
    assert!(eventually(MAX_WAIT, || loaded(&metrics())), "{}", metrics());
    assert!(eventually(MAX_WAIT, || !loaded(&metrics())), "idle again");
}

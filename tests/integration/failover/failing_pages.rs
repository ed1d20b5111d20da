//! A page on which Domino always fails affects only the user who requests it: no server becomes UNREACHABLE.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;

/// Two servers that answer the bad page with `bad`, and every other request with 200.
fn two(bad: impl Fn(&mut ServerConnection) + Send + Sync + Clone + 'static) -> ([ScriptedServer; 2], Icm) {
    let server = || {
        let bad = bad.clone();
        ScriptedServer::new(move |connection| {
            while let Some(head) = connection.request() {
                if head.contains("/bad.nsf") {
                    return bad(connection);
                }
                if !connection.say(OK) {
                    return;
                }
            }
        })
    };
    let servers = [server(), server()];
    let mut config = ScriptedServer::config_of(&servers);
    set(&mut config, "access_log", "{ path: stdout, format: json }");
    (servers, Icm::start(config))
}

/// Requests the bad page repeatedly while other clients request a good one. Returns what those get.
fn others_beside(icm: &Icm, method: &str, bad_status: &str) -> Tally {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..45 {
                let answer = icm.client().request(method, "/bad.nsf?OpenDatabase", &[], b"");
                assert_eq!(answer.unwrap().status.to_string(), bad_status);
                pause(20);
            }
        });
        load_get(
            icm.address,
            "/good.nsf?OpenDatabase",
            &unique_id(),
            2,
            std::time::Duration::from_millis(1_500),
        )
    })
}

#[test]
fn a_page_with_a_malformed_head_is_a_502_for_its_user_and_changes_nothing_for_others() {
    for head in [
        "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "\x00\x01SSH-2.0-not-http\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 OK\r\n\r\n",
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let (_servers, icm) = two(move |connection| {
            count.fetch_add(1, Ordering::Relaxed);
            connection.say(head);
        });
        let tally = others_beside(&icm, "GET", "502");
        assert_eq!(tally.other_than("200"), 0, "{head:?}: {tally:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 45, "never sent twice");
        for server in ["Web1", "Web2"] {
            assert_eq!(icm.state_of(server), "AVAILABLE");
            assert_eq!(icm.counter_of(server, "broken"), 0);
        }
        assert!(icm.counter_of("Web1", "malformed") + icm.counter_of("Web2", "malformed") == 45);
        assert!(icm.log().contains("\"cause\":\"malformed response\""));
    }
}

#[test]
fn a_page_that_closes_or_resets_before_its_head_makes_no_server_unreachable() {
    let ends: [fn(&mut ServerConnection); 3] = [
        |_| {},
        |connection| {
            connection.say("HTTP/1.1 200 OK\r\nContent-Ty");
        },
        |connection| {
            nix::sys::socket::setsockopt(
                &connection.stream,
                nix::sys::socket::sockopt::Linger,
                &nix::libc::linger { l_onoff: 1, l_linger: 0 },
            )
            .unwrap();
        },
    ];
    for end in ends {
        for method in ["GET", "POST"] {
            let (_servers, icm) = two(end);
            let tally = others_beside(&icm, method, "502");
            assert_eq!(tally.other_than("200"), 0, "{tally:?}");
            for server in ["Web1", "Web2"] {
                assert_eq!(icm.state_of(server), "AVAILABLE");
                assert!(!icm.log().contains("-> UNREACHABLE"));
                // The first probe, a regular one, and one for each second with failures.
                let (good, bad) = icm.probes_of(server);
                assert!(good <= 6 && bad == 0, "{good} {bad}");
            }
        }
    }
}

#[test]
fn a_server_that_fails_a_request_and_then_its_probe_is_unreachable_at_once() {
    let dead = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_dead = dead.clone();
    let server = ScriptedServer::new(move |connection| {
        while connection.request_or_probe().is_some() {
            if is_dead.load(Ordering::Relaxed) || !connection.say(OK) {
                return;
            }
        }
    });
    let mut config = server.config();
    // Neither failed connects nor regular probes detect it.
    set(&mut config, "clusters.0.probe", "{ interval: 1h, timeout: 1s, unreachable_after: 1000 }");
    let icm = Icm::start(config);
    assert_eq!(icm.client().get("/a.nsf").status, 200);
    dead.store(true, Ordering::Relaxed);
    let answer = icm.client().request("POST", "/a.nsf?CreateDocument", &[], b"a=1").unwrap();
    assert_eq!(answer.status, 502);
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert!(icm.status_of("Web1")["cause"].as_str().unwrap().contains("probe failed"));
}

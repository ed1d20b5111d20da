//! Which pooled connection carries a request: never one that is closed or has unread bytes, and for a request that must not
//! be sent twice never one that its server may be about to close.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;

fn quiet(server: &ScriptedServer) -> Icm {
    let mut config = server.config();
    set(&mut config, "clusters.0.probe", "{ interval: 1h, timeout: 1s }");
    Icm::start(config)
}

/// Sends POSTs with varying pauses, and returns how many failed.
fn failures_of_posts(
    icm: &Icm,
    requests: usize,
    pause_ms: impl Fn(usize) -> u64 + Sync,
    clients: usize,
) -> usize {
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = icm.client();
                for n in 0..requests {
                    let answer = client.post("/a.nsf?CreateDocument", &[], "a=1");
                    failed.fetch_add(usize::from(answer.status != 200), Ordering::Relaxed);
                    pause(pause_ms(n));
                }
            });
        }
    });
    failed.into_inner()
}

#[test]
fn unsafe_requests_are_not_lost_to_a_server_that_closes_shortly_after_its_answer() {
    let answers = Arc::new(AtomicUsize::new(0));
    let server = ScriptedServer::new(move |connection| {
        while connection.request().is_some() {
            connection.say(OK);
            // After 0 to 8 ms, unpredictable for the proxy.
            let n = answers.fetch_add(7, Ordering::Relaxed);
            if !n.is_multiple_of(3) {
                pause((n % 9) as u64);
                return;
            }
        }
    });
    let icm = quiet(&server);
    let failed = failures_of_posts(&icm, 60, |n| (n % 11) as u64, 4);
    assert_eq!(failed, 0, "of 240\n{}", icm.log());
}

#[test]
fn unsafe_requests_are_not_lost_to_a_server_that_closes_after_five_requests() {
    let server = ScriptedServer::new(|connection| {
        for _ in 0..5 {
            if connection.request().is_none() || !connection.say(OK) {
                return;
            }
        }
    });
    let icm = quiet(&server);
    // From these requests `icm` learns how many a connection carries.
    for _ in 0..60 {
        assert_eq!(icm.client().get("/a.nsf?OpenDatabase").status, 200);
    }
    let failed = failures_of_posts(&icm, 100, |_| 0, 1);
    assert_eq!(failed, 0, "of 100\n{}", icm.log());
}

#[test]
fn unsafe_requests_reuse_connections_of_a_server_that_keeps_them() {
    let server =
        ScriptedServer::new(|connection| while connection.request().is_some() && connection.say(OK) {});
    let icm = quiet(&server);
    for _ in 0..30 {
        assert_eq!(icm.client().get("/a.nsf?OpenDatabase").status, 200);
    }
    let before = server.connections();
    assert_eq!(failures_of_posts(&icm, 100, |_| 0, 1), 0);
    assert!(
        server.connections() - before <= 75,
        "{} new connections for 100 requests",
        server.connections() - before
    );
    assert_eq!(failures_of_posts(&icm, 20, |_| 40, 1), 0);
}

#[test]
fn a_connection_is_not_used_for_longer_than_its_server_announces() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let server = ScriptedServer::new(move |connection| {
        while connection.request().is_some() {
            count.fetch_add(1, Ordering::Relaxed);
            connection
                .say("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2, max=100\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let icm = quiet(&server);
    assert_eq!(icm.client().get("/a.nsf").status, 200);
    let first = server.connections();
    assert_eq!(icm.client().get("/a.nsf").status, 200);
    assert_eq!(server.connections(), first, "a new connection is reused");
    pause(1_700);
    assert_eq!(icm.client().get("/a.nsf").status, 200);
    assert_eq!(server.connections(), first + 1);
}

#[test]
fn unread_bytes_on_an_idle_connection_never_become_an_answer() {
    let stray = Arc::new(AtomicUsize::new(0));
    let sent = stray.clone();
    let server = ScriptedServer::new(move |connection| {
        while let Some(head) = connection.request() {
            if head.contains("/first.nsf") {
                // The second answer belongs to no request. It comes after the first was read.
                connection.say(OK);
                pause(30);
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen");
                sent.fetch_add(1, Ordering::SeqCst);
            } else {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine");
            }
        }
    });
    let icm = quiet(&server);
    for n in 0..40 {
        let mut clients = [icm.client(), icm.client()];
        clients.iter_mut().for_each(|client| client.connect().unwrap());
        let before = stray.load(Ordering::SeqCst);
        assert_eq!(clients[0].get("/first.nsf").status, 200);
        // From here on the bytes are on the connection, perhaps unseen by the pool.
        while stray.load(Ordering::SeqCst) == before {
            std::hint::spin_loop();
        }
        let answer = match n % 2 {
            0 => clients[1].get("/second.nsf"),
            _ => clients[1].post("/second.nsf?CreateDocument", &[], "a"),
        };
        assert_eq!((answer.status, answer.text()), (200, "mine".to_owned()), "{n}");
    }
}

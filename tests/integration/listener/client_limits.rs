//! Limits of a client before a cluster is chosen: its rate of requests, and how long a silent connection stays open.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::support::*;

#[test]
fn a_client_that_asks_too_often_is_told_to_wait_and_its_connection_is_closed() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.per_client.requests_per_second", "3");
    let icm = Icm::start(config.clone());
    let mut refused = None;
    let mut served = 0;
    let asked = eventually(MAX_WAIT, || {
        let answer = icm.client().get("/fast");
        match answer.status {
            200 => served += 1,
            429 => refused = Some(answer),
            other => panic!("{other}"),
        }
        refused.is_some()
    });
    assert!(asked && served >= 3, "{served} were served");
    let refused = refused.unwrap();
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    assert_eq!(refused.header("server"), Some("domino-icm"));
    assert!(refused.closed, "{}", refused.head);
    assert!(eventually(MAX_WAIT, || icm.client().get("/fast").status == 200), "never again");
    // A reload takes the limit away.
    set(&mut config, "limits.per_client.requests_per_second", "0");
    icm.reload(&config);
    icm.wait_for_log("configuration reloaded");
    assert!((0..50).all(|_| icm.client().get("/fast").status == 200));
}

#[test]
fn a_connection_without_a_request_is_closed_after_the_idle_timeout_even_a_short_one() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.idle_timeout", "300ms");
    let icm = Icm::start(config);
    let mut client = icm.client();
    assert_eq!(client.get("/fast").status, 200);
    assert!(client.connected() && client.peer_closes(), "an idle connection is kept for ever");
}

/// A server that does not answer `/held` before it is told to.
fn holding() -> (RecordingServer, Arc<AtomicBool>) {
    let released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&released);
    let recorder = RecordingServer::new(move |head| {
        if head.contains("/held") {
            eventually(MAX_WAIT, || release.load(SeqCst));
        }
        OK.to_owned()
    });
    (recorder, released)
}

fn begin(icm: &Icm, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect(icm.address).unwrap();
    stream.write_all(format!("GET /held HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
    stream
}

fn metric(icm: &Icm, line: &str) -> bool {
    icm.admin("/metrics").text().contains(&format!("\n{line}\n"))
}

#[test]
fn a_client_has_so_many_requests_in_progress_streams_counted_and_others_are_served() {
    let acme = Acme::built_in();
    let (recorder, released) = holding();
    let mut config = recorder.config();
    let secure = add_tls(&mut config, &acme);
    set(&mut config, "limits.per_client.requests_in_flight", "3");
    let icm = Icm::start(config.clone());
    wait_for(secure);
    let _held = begin(&icm, "");
    let [mut h2, mut other] = [(); 2].map(|()| H2::connect(secure, "localhost", &acme.ca_file));
    let held = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/held")];
    let streams = [h2.headers(&held, true), other.headers(&held, true)];
    assert!(eventually(MAX_WAIT, || metric(&icm, "icm_requests_in_flight 3")));
    let refused = icm.client().get("/fast");
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let one_more = h2.headers(&held, true);
    assert_eq!(h2.end_of(one_more).status(), 429, "a stream is a request");
    assert!(metric(&icm, "icm_client_limited_total{limit=\"requests_in_flight\"} 2"));
    icm.wait_for_log("127.0.0.1 has 3 requests in flight (limits.per_client.requests_in_flight)");
    // A reload applies to new requests.
    set(&mut config, "limits.per_client.requests_in_flight", "0");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || icm.client().get("/fast").status == 200), "0 is no limit");
    set(&mut config, "limits.per_client.requests_in_flight", "2");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || icm.client().get("/fast").status == 429));
    set(&mut config, "limits.per_client.exempt", "[127.0.0.0/8]");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || icm.client().get("/fast").status == 200), "an exempt network");
    // What has ended counts no more.
    set(&mut config, "limits.per_client.exempt", "[]");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || icm.client().get("/fast").status == 429));
    released.store(true, SeqCst);
    assert_eq!((h2.end_of(streams[0]).status(), other.end_of(streams[1]).status()), (200, 200));
    assert!(eventually(MAX_WAIT, || icm.client().get("/fast").status == 200));
}

#[test]
fn the_client_of_a_trusted_proxy_is_whom_the_proxy_names_and_an_ipv6_client_is_a_network() {
    let (recorder, released) = holding();
    let mut config = recorder.config();
    set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.0/8]");
    set(&mut config, "limits.per_client", "{ requests_in_flight: 1, exempt: 192.0.2.0/24 }");
    let icm = Icm::start(config);
    let clients = ["198.51.100.7", "2001:db8:0:1::7", "192.0.2.7"];
    let _held = clients.map(|client| begin(&icm, &format!("X-Forwarded-For: {client}\r\n")));
    assert!(eventually(MAX_WAIT, || metric(&icm, "icm_requests_in_flight 3")));
    let status = |client| icm.client().get_with("/fast", &[("X-Forwarded-For", client)]).status;
    for (client, expected) in [
        ("198.51.100.7", 429),
        ("198.51.100.8", 200),
        ("2001:db8:0:1:ffff::8", 429),
        ("2001:db8:0:2::7", 200),
        ("192.0.2.7", 200),
    ] {
        assert_eq!(status(client), expected, "{client}");
    }
    released.store(true, SeqCst);
    assert!(eventually(MAX_WAIT, || status("198.51.100.7") == 200));
}

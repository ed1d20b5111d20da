//! HTTP/2 clients that cost a server much and themselves little: each is cut or bounded, and other clients are served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::h2::{DATA, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::support::*;

const CONTINUATION: u8 = 9;
const END: u8 = 5; // END_STREAM and END_HEADERS

/// Memory may grow by this during one attack: what some connections may hold at most, and what the allocator keeps.
const GROWTH: u64 = 48 << 20;

fn start(limits: &str) -> (Acme, Icm, SocketAddr) {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits", limits);
    let secure = add_tls(&mut config, &acme);
    let icm = Icm::start(config);
    wait_for(secure);
    (acme, icm, secure)
}

fn asking(target: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", target)]
}

fn get(target: &str) -> Vec<u8> {
    block_of(&asking(target))
}

/// Sends `pieces` of an attack until it is over or the other side has had enough, while another client asks.
/// Out: is the attacker's connection still there.
fn attack(icm: &Icm, h2: &mut H2, pieces: usize, piece: impl Fn(u32) -> Vec<u8>) -> bool {
    let (mut other, before) = (icm.client(), icm.memory("VmRSS"));
    let mut taken = true;
    for n in 0..pieces {
        // Some frames of each kind in one write.
        let many: Vec<u8> = (0..100).flat_map(|k| piece((n * 100 + k) as u32)).collect();
        taken = h2.bytes(&many);
        if n % 10 == 0 {
            assert_eq!(other.get("/fast").status, 200, "another client waits");
        }
        if !taken {
            break;
        }
    }
    let goes_on = h2.goes_on(Duration::from_secs(2)) && taken;
    assert_eq!(icm.client().get("/fast").status, 200);
    let grown = icm.memory("VmRSS").saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes more");
    goes_on
}

#[test]
fn streams_that_are_opened_to_be_reset_end_the_connection() {
    let (acme, icm, secure) = start("{}");
    let connect = || H2::connect(secure, "localhost", &acme.ca_file);
    let head = get("/sales/orders.nsf?OpenDatabase");
    // Rapid reset (CVE-2023-44487).
    let rapid = |n: u32| {
        let (stream, cancel) = (n * 2 + 1, 8_u32.to_be_bytes());
        [frame_of(HEADERS, END, stream, &head), frame_of(RST_STREAM, 0, stream, &cancel)].concat()
    };
    assert!(!attack(&icm, &mut connect(), 200, rapid), "rapid reset");
    // The client makes us reset (CVE-2025-8671): a window that grows by nothing, or too much.
    for grant in [0_u32, 0x7fff_ffff] {
        let made = |n: u32| {
            let stream = n * 2 + 1;
            let update = frame_of(WINDOW_UPDATE, 0, stream, &grant.to_be_bytes());
            [frame_of(HEADERS, END, stream, &head), update].concat()
        };
        assert!(!attack(&icm, &mut connect(), 200, made), "made you reset, {grant}");
    }
    // Trailers are refused with a reset, too.
    let trailed = |n: u32| {
        let stream = n * 2 + 1;
        let trailers = block_of(&[("x-a", "b")]);
        [frame_of(HEADERS, 4, stream, &head), frame_of(HEADERS, END, stream, &trailers)].concat()
    };
    assert!(!attack(&icm, &mut connect(), 200, trailed), "trailers");
    assert!(eventually(MAX_WAIT, || icm.admin("/metrics").text().contains("\nicm_requests_in_flight 0\n")));
}

#[test]
fn a_head_without_an_end_or_of_any_size_is_refused() {
    let (acme, icm, secure) = start("{}");
    let connect = || H2::connect(secure, "localhost", &acme.ca_file);
    let endless = |n: u32| match n {
        0 => frame_of(HEADERS, 0, 1, &get("/")),
        _ => frame_of(CONTINUATION, 0, 1, &block_of(&[("x-more", &"y".repeat(100))])),
    };
    assert!(!attack(&icm, &mut connect(), 200, endless), "CONTINUATION");
    let empty = |n: u32| frame_of(if n == 0 { HEADERS } else { CONTINUATION }, 0, 1, &[]);
    assert!(!attack(&icm, &mut connect(), 1000, empty), "empty CONTINUATION");
    // A field of 3,500 bytes that is named once and then by one byte: 64 MB from 16 KiB.
    let mut bomb = get("/");
    bomb.extend([0x40, 1, b'x', 0x7f, 0xad, 0x1a]);
    bomb.extend([b'y'; 3500]);
    bomb.extend([0xbe; 12_000]);
    let bomb = |n: u32| frame_of(HEADERS, END, n * 2 + 1, &bomb);
    let _ = attack(&icm, &mut connect(), 1, bomb);
    let mut h2 = connect();
    h2.bytes(&bomb(0));
    assert!(!matches!(h2.end_of(1).status(), 200..=299));
}

#[test]
fn frames_that_say_nothing_keep_nobody_waiting_and_no_connection_open() {
    let (acme, icm, secure) = start("{ idle_timeout: 2s, header_timeout: 2s }");
    let connect = || H2::connect(secure, "localhost", &acme.ca_file);
    // The answers to them are not read before the end: they may not pile up here.
    for (what, frame) in [
        ("SETTINGS", frame_of(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1])),
        ("PING", frame_of(PING, 0, 0, &[0; 8])),
        ("PRIORITY", frame_of(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("an unknown frame", frame_of(0x77, 0, 0, &[0; 100])),
    ] {
        let mut h2 = connect();
        let _ = attack(&icm, &mut h2, 500, |_| frame.clone());
        assert!(eventually(MAX_WAIT, || !h2.goes_on(Duration::from_millis(100))), "{what}");
    }
    let empty = |n: u32| match n {
        0 => frame_of(HEADERS, 4, 1, &get("/sales/orders.nsf?OpenDatabase")),
        _ => frame_of(DATA, 0, 1, &[]),
    };
    assert!(!attack(&icm, &mut connect(), 1000, empty), "empty DATA");
}

#[test]
fn streams_whose_window_stays_closed_hold_little_and_a_body_that_stops_ends_its_connection() {
    let acme = Acme::built_in();
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n{}", "x".repeat(4_000_000));
    let recorder = RecordingServer::new(move |head| match head {
        h if h.contains("/large") => large.clone(),
        h => {
            pause(if h.contains("/slow") { 3000 } else { 0 });
            OK.to_owned()
        }
    });
    let mut config = recorder.config();
    set(&mut config, "limits", "{ min_rate: 16KiB, idle_timeout: 2s }");
    let secure = add_tls(&mut config, &acme);
    let icm = Icm::start(config);
    wait_for(secure);
    let before = icm.memory("VmRSS");
    let mut closed: Vec<H2> = (0..4).map(|_| H2::connect(secure, "localhost", &acme.ca_file)).collect();
    for h2 in &mut closed {
        h2.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for n in 0..25 {
            h2.bytes(&frame_of(HEADERS, END, n * 2 + 1, &get("/large")));
        }
    }
    // Begins a body and says no more, but asks for other things meanwhile.
    let mut stopped = H2::connect(secure, "localhost", &acme.ca_file);
    let begin = std::time::Instant::now();
    let fields =
        [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/stops")];
    let stream = stopped.headers(&fields, false);
    stopped.data(stream, b"first", false);
    // Waits for its answer for as long as it takes: a long poll. Sends nothing, and owes nothing.
    let mut polling = H2::connect(secure, "localhost", &acme.ca_file);
    let mut held = 0;
    let mut ended = false;
    while begin.elapsed() < Duration::from_secs(100) && !ended {
        held = held.max(icm.memory("VmRSS").saturating_sub(before));
        let poll = polling.headers(&asking("/slow"), true);
        assert_eq!(polling.end_of(poll).status(), 200);
        assert_eq!(icm.client().get("/fast").status, 200);
        let next =
            stopped.headers(&[&[(":method", "GET")], &fields[1..3], &[(":path", "/fast")]].concat(), true);
        ended = stopped.end_of(next) == StreamEnd::Closed;
    }
    assert!(ended, "a body that stops is waited for for ever");
    assert!(begin.elapsed() >= Duration::from_secs(25), "it had half a minute");
    assert!(held < 2 * GROWTH, "{held} bytes for 100 streams");
    for h2 in &mut closed {
        assert!(eventually(Duration::from_secs(60), || !h2.goes_on(Duration::from_millis(100))));
    }
    assert!(eventually(MAX_WAIT, || icm.admin("/metrics").text().contains("\nicm_requests_in_flight 0\n")));
}

//! Clients that do not read their responses: what waits for them ends in time, together with the server's connection. Clients
//! that are only slow keep theirs.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::h2::{DATA, GOAWAY, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::support::*;

const END: u8 = 5; // END_STREAM and END_HEADERS
/// More than sockets take by themselves.
const LARGE: usize = 16 << 20;
/// A server is silent for longer than a client may keep a stream waiting.
const SILENCE: Duration = Duration::from_secs(40);
/// What is not taken ends within 35 s; the rest is for a machine that is busy.
const IN_TIME: Duration = Duration::from_secs(50);

/// A server that says `/large` at once, and of `/silent` the body much later. Out: its address, and how many of its
/// connections are in the middle of an answer.
fn origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answering = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answering);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answering = Arc::clone(&counted);
            std::thread::spawn(move || serve(stream, &answering));
        }
    });
    (address, answering)
}

fn serve(mut stream: TcpStream, answering: &AtomicUsize) {
    let mut large = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").into_bytes();
    let part = vec![b'x'; 1 << 16];
    let mut piece = [0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        let head = String::from_utf8_lossy(&piece[..read]).into_owned();
        answering.fetch_add(1, SeqCst);
        let said = if head.contains("/large") {
            let head = stream.write_all(&std::mem::take(&mut large));
            (0..LARGE / part.len()).fold(head, |so_far, _| so_far.and_then(|()| stream.write_all(&part)))
        } else if head.contains("/silent") {
            let head = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
            pause(SILENCE.as_millis() as u64);
            head.and_then(|()| stream.write_all(b"late"))
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        };
        answering.fetch_sub(1, SeqCst);
        if said.is_err() {
            return;
        }
    }
}

fn get(target: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", target)];
    block_of(&fields)
}

/// A client whose streams have only this window, and have all asked for this.
fn with_windows(mut h2: H2, window: u32, streams: u32, target: &str) -> H2 {
    h2.frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat());
    for n in 0..streams {
        h2.bytes(&frame_of(HEADERS, END, n * 2 + 1, &get(target)));
    }
    h2
}

fn grant(h2: &mut H2, stream: u32, bytes: usize) {
    h2.frame(WINDOW_UPDATE, 0, stream, &u32::try_from(bytes).unwrap().to_be_bytes());
}

/// Reads until so many streams were reset. Out: how many were, and whether the connection goes on.
fn resets(h2: &mut H2, wanted: u32, drip: bool) -> (u32, bool) {
    let (begin, mut reset) = (Instant::now(), 0);
    let mut last = Instant::now();
    while reset < wanted && begin.elapsed() < IN_TIME {
        match h2.next_frame(Duration::from_millis(500)) {
            NextFrame::Frame(RST_STREAM, ..) => reset += 1,
            NextFrame::Frame(GOAWAY, ..) | NextFrame::Closed => return (reset, false),
            NextFrame::Frame(..) | NextFrame::Nothing => {}
        }
        if drip && last.elapsed() > Duration::from_secs(1) {
            last = Instant::now();
            (0..wanted).for_each(|n| grant(h2, n * 2 + 1, 1));
        }
    }
    (reset, true)
}

/// Takes 2 KB a second of three large answers and grants as much again, at half a window or at once. Out: how many of
/// them it gets in the time that the bytes of two windows take and more.
fn phone(mut h2: H2, at_half_a_window: bool) -> usize {
    if at_half_a_window {
        grant(&mut h2, 0, 1 << 20);
    }
    for n in 0..3 {
        h2.bytes(&frame_of(HEADERS, END, n * 2 + 1, &get("/large")));
    }
    let (begin, mut taken) = (Instant::now(), HashMap::<u32, usize>::new());
    while begin.elapsed() < Duration::from_secs(75) {
        match h2.next_frame(Duration::from_secs(30)) {
            NextFrame::Frame(DATA, _, stream, bytes) => {
                pause(bytes.len() as u64 * 1000 / 2048);
                let waits = taken.entry(stream).or_default();
                *waits += bytes.len();
                if !at_half_a_window {
                    grant(&mut h2, 0, bytes.len());
                }
                if !at_half_a_window || *waits >= 32_768 {
                    let bytes = std::mem::take(waits);
                    grant(&mut h2, stream, bytes);
                }
            }
            NextFrame::Frame(RST_STREAM | GOAWAY, ..) | NextFrame::Closed | NextFrame::Nothing => return 0,
            NextFrame::Frame(..) => {}
        }
    }
    taken.len()
}

#[test]
fn what_a_client_does_not_take_ends_with_its_servers_connection_and_slow_clients_and_silent_servers_live() {
    let acme = Acme::built_in();
    let (address, answering) = origin();
    let mut config = config_for(address);
    let secure = add_tls(&mut config, &acme);
    let icm = Icm::start(config);
    wait_for(secure);
    let connect = || H2::connect(secure, "localhost", &acme.ca_file);
    let origins = |count| eventually(MAX_WAIT, || answering.load(SeqCst) == count);

    let mut narrow = with_windows(connect(), 16_384, 20, "/large");
    grant(&mut narrow, 0, 1 << 20);
    assert!(origins(20), "{answering:?}");
    // Without a window only one of them occupies a server, and holds bytes here.
    let mut closed = with_windows(connect(), 0, 20, "/large");
    assert!(origins(21), "{answering:?}");
    let mut dripping = with_windows(connect(), 0, 2, "/large");
    assert!(origins(22), "{answering:?}");
    let mut silent = with_windows(connect(), 0, 1, "/silent");
    let mut full = connect();
    full.bytes(&frame_of(HEADERS, END, 1, &get("/large")));
    grant(&mut full, 1, 1 << 20);
    // Grants everything and reads nothing.
    let mut deaf = with_windows(connect(), 0x7fff_ffff, 0, "/large");
    grant(&mut deaf, 0, 0x7fff_ffff - 65_535);
    deaf.bytes(&frame_of(HEADERS, END, 1, &get("/large")));
    let mut unread = TcpStream::connect(icm.address).unwrap();
    unread.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let [at_once, at_half] = [connect(), connect()];
    std::thread::scope(|scope| {
        let at_once = scope.spawn(move || phone(at_once, false));
        let at_half = scope.spawn(move || phone(at_half, true));
        let closed = scope.spawn(move || (resets(&mut closed, 20, false), closed));
        let narrow = scope.spawn(move || resets(&mut narrow, 20, false));
        let dripping = scope.spawn(move || resets(&mut dripping, 2, true));
        let full = scope.spawn(move || resets(&mut full, 1, false));
        let ((reset, goes_on), mut closed) = closed.join().unwrap();
        assert_eq!((reset, goes_on), (20, true), "windows that stay closed");
        // The connection serves on.
        closed.bytes(&frame_of(HEADERS, END, 41, &get("/fast")));
        grant(&mut closed, 41, 100);
        assert_eq!(closed.end_of(41), StreamEnd::Answer(Some(200), b"ok".to_vec()));
        assert_eq!(narrow.join().unwrap(), (20, true), "windows that do not open again");
        assert_eq!(dripping.join().unwrap(), (2, true), "windows that open by a byte a second");
        assert_eq!(full.join().unwrap(), (0, false), "a connection whose window stays closed");
        // What is left are the phones and the server that is silent.
        assert!(eventually(MAX_WAIT, || answering.load(SeqCst) <= 7), "{answering:?}");
        grant(&mut silent, 1, 100);
        assert_eq!(silent.end_of(1), StreamEnd::Answer(Some(200), b"late".to_vec()));
        assert_eq!(at_once.join().unwrap(), 3, "a phone at 2 KB a second");
        assert_eq!(at_half.join().unwrap(), 3, "the same with a large window of the connection");
    });
    assert!(origins(0), "{answering:?}");
    assert!(eventually(MAX_WAIT, || icm.admin("/metrics").text().contains("\nicm_requests_in_flight 0\n")));
}

//! Thousands of idle and slow connections: each holds a bounded amount of memory, and other clients are served meanwhile.
//!
//! `IDLE_CONNECTIONS=10000 SLOW_CONNECTIONS=1000` opens five times as many; `benches/README.md` has figures.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::*;

/// What a connection may hold. Between requests it has no room for a head; a slow one has Pingora's buffers.
const PER_IDLE: u64 = 24 << 10;
const PER_SLOW: u64 = 640 << 10;

/// How many, unless the environment says otherwise.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn open(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

fn request(target: &str, fields: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn idle_and_slow_connections_hold_a_bounded_amount_each_and_keep_nobody_waiting() {
    // Of the slow ones a third each are heads, bodies and readers.
    let (idle_ones, slow_ones) = (number("IDLE_CONNECTIONS", 2000), number("SLOW_CONNECTIONS", 201));
    let limit = raise_open_file_limit();
    // Some of them for the tests that run beside this one.
    if limit < (idle_ones + 3 * slow_ones + 1000) as u64 {
        eprintln!("skipped: this machine gives a process no more than {limit} open files");
        return;
    }
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 16000000\r\n\r\n{}", "x".repeat(16_000_000));
    let recorder =
        RecordingServer::new(move |head| if head.contains("/large") { large.clone() } else { OK.to_owned() });
    let icm = Icm::start(recorder.config());
    let mut other = icm.client();
    assert_eq!(other.get("/").status, 200);

    let before = icm.memory("VmRSS");
    let mut idle: Vec<TcpStream> = (0..idle_ones)
        .map(|_| {
            let mut stream = open(icm.address, &request("/", "Content-Length: 0\r\n"));
            let mut answer = [0; 15];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            stream
        })
        .collect();
    assert_eq!(other.get("/").status, 200);
    let with_idle = icm.memory("VmRSS");
    let each = with_idle.saturating_sub(before) / idle_ones as u64;
    eprintln!("{each} bytes for an idle connection");
    assert!(each < PER_IDLE, "{each} bytes for an idle connection");

    let mut slow = Vec::new();
    for n in 0..slow_ones {
        slow.push(match n % 3 {
            0 => open(icm.address, "GET / HTTP/1.1\r\nHost: a\r\nX-Long: "),
            1 => open(icm.address, &request("/upload", "Content-Length: 1000000\r\n")),
            _ => open(icm.address, &request("/large", "Content-Length: 0\r\n")),
        });
    }
    let mut most = 0;
    for _ in 0..10 {
        for (n, stream) in slow.iter_mut().enumerate() {
            if n % 3 == 2 {
                stream.set_nonblocking(true).unwrap();
                match stream.read(&mut [0; 100]) {
                    Ok(bytes) => assert!(bytes > 0, "it was cut too early"),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "it was cut too early"),
                }
            } else {
                stream.write_all(b"y").unwrap();
            }
        }
        most = most.max(icm.memory("VmRSS"));
        assert_eq!(other.get("/").status, 200);
        assert_eq!(icm.client().get("/").status, 200);
        pause(100);
    }
    let each = most.saturating_sub(with_idle) / slow_ones as u64;
    eprintln!("{each} bytes for a slow connection");
    assert!(each < PER_SLOW, "{each} bytes for a slow connection");
    // Those that were idle are still there.
    for stream in idle.iter_mut().step_by(100) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 200 OK"));
    }
}

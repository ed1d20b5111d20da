//! Bodies of any size: streamed in bounded memory at any speed of either side, passed unchanged, never delivered twice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::support::*;

const MIB: u64 = 1 << 20;
/// `BODY_MIB` in the environment makes the bodies larger: see benches/README.md.
fn size() -> u64 {
    std::env::var("BODY_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(256) * MIB
}
/// How much more memory than at rest the process may take for a few bodies at once.
const MAX_EXTRA_MEMORY: u64 = 48 * MIB;

/// A server that counts a body, or sends one of so many bytes: `/down?size=N`. While `paused` it does neither.
#[derive(Default)]
struct Counter {
    received: AtomicU64,
    sent: AtomicU64,
    bodies: AtomicU64,
    paused: AtomicBool,
}

fn counter() -> (SocketAddr, Arc<Counter>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let counter = Arc::new(Counter::default());
    let shared = counter.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), counter) = (stream, shared.clone()) else { return };
            std::thread::spawn(move || serve(stream, &counter));
        }
    });
    (address, counter)
}

fn serve(mut stream: TcpStream, counter: &Counter) -> Option<()> {
    let mut piece = vec![0; 64 * 1024];
    let mut head = Vec::new();
    let (head, mut body) = loop {
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&piece[..n]);
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break (String::from_utf8_lossy(&head[..end]).to_lowercase(), (head.len() - end - 4) as u64);
        }
    };
    let number = |before: &str| {
        let rest = head.split(before).nth(1)?;
        rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let wait = || {
        while counter.paused.load(SeqCst) {
            pause(20);
        }
    };
    if let Some(size) = number("/down?size=") {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n").ok()?;
        let mut left = size;
        while left > 0 {
            let n = left.min(piece.len() as u64);
            stream.write_all(&piece[..n as usize]).ok()?;
            counter.sent.fetch_add(n, SeqCst);
            left -= n;
        }
        return Some(());
    }
    let length = number("content-length:").unwrap_or(0);
    let upload = length > 0;
    if upload {
        counter.received.fetch_add(body, SeqCst);
    }
    while body < length {
        wait();
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)? as u64;
        body += n;
        counter.received.fetch_add(n, SeqCst);
    }
    counter.bodies.fetch_add(u64::from(upload), SeqCst);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").ok()
}

fn start(server: SocketAddr) -> Icm {
    let mut config = config_for(server);
    set(&mut config, "clusters.0.limits.request_body", "100GiB");
    set(&mut config, "clusters.0.probe", "{ interval: 1h, healthy_after: 1 }");
    set(&mut config, "clusters.0.failover.response_timeout", "60s");
    let icm = Icm::start(config);
    assert!(eventually(MAX_WAIT, || icm.client().get("/warm").status == 200), "{}", icm.log());
    icm
}

/// Sends a body of so many bytes, and gives the status of the answer.
fn upload(icm: &Icm, size: u64) -> u16 {
    let mut client = icm.client().timeout(Duration::from_secs(120));
    let length = size.to_string();
    client.send(client.head("POST", "/up", &[("Content-Length", &length)]).as_bytes()).unwrap();
    let piece = vec![b'u'; 256 * 1024];
    let mut left = size;
    while left > 0 {
        let n = left.min(piece.len() as u64);
        client.send(&piece[..n as usize]).unwrap();
        left -= n;
    }
    client.read("POST").unwrap().status
}

/// Reads an answer's body, and gives its length.
fn download(icm: &Icm, size: u64) -> u64 {
    let mut stream = TcpStream::connect(icm.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    write!(stream, "GET /down?size={size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let (mut piece, mut all) = (vec![0; 256 * 1024], 0);
    let mut head = None;
    loop {
        let n = stream.read(&mut piece).unwrap();
        if n == 0 {
            return all - head.unwrap_or(0);
        }
        if head.is_none() {
            head = piece[..n].windows(4).position(|w| w == b"\r\n\r\n").map(|at| all + at as u64 + 4);
        }
        all += n as u64;
    }
}

#[test]
fn large_bodies_pass_both_ways_in_bounded_memory() {
    let (server, counter) = counter();
    let icm = start(server);
    let rest = icm.memory("VmHWM");
    assert_eq!(upload(&icm, size()), 200);
    assert_eq!((counter.received.load(SeqCst), counter.bodies.load(SeqCst)), (size(), 1));
    assert_eq!(download(&icm, size()), size());
    let more = icm.memory("VmHWM") - rest;
    println!("{} MiB each way took {} KiB more", size() / MIB, more / 1024);
    assert!(more < MAX_EXTRA_MEMORY, "{more} bytes more for bodies of {}", size());
}

#[test]
fn a_slow_side_holds_the_other_one_back_and_no_memory() {
    let (server, counter) = counter();
    let icm = start(server);
    let rest = icm.memory("VmHWM");
    // Eight clients that take nothing.
    let stalled: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(icm.address).unwrap();
            write!(stream, "GET /down?size={} HTTP/1.1\r\nHost: x\r\n\r\n", 256 * MIB).unwrap();
            stream
        })
        .collect();
    let settled = |of: &AtomicU64| {
        let mut before = of.load(SeqCst);
        assert!(eventually(MAX_WAIT, || {
            pause(300);
            let now = of.load(SeqCst);
            std::mem::replace(&mut before, now) == now && now > 0
        }));
        of.load(SeqCst)
    };
    let taken = settled(&counter.sent);
    assert!(taken < 8 * 64 * MIB, "the server kept sending to a client that reads nothing: {taken}");
    drop(stalled);
    // And a server that takes nothing.
    counter.paused.store(true, SeqCst);
    let sent = Arc::new(AtomicU64::new(0));
    for _ in 0..4 {
        let (address, sent) = (icm.address, sent.clone());
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = write!(stream, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 256 * MIB);
            let piece = vec![0; 64 * 1024];
            while stream.write_all(&piece).is_ok() {
                sent.fetch_add(piece.len() as u64, SeqCst);
            }
        });
    }
    let taken = settled(&sent);
    assert!(taken < 4 * 64 * MIB, "the client kept sending to a server that reads nothing: {taken}");
    let more = icm.memory("VmHWM") - rest;
    assert!(more < MAX_EXTRA_MEMORY, "{more} bytes are held for slow peers");
    counter.paused.store(false, SeqCst);
}

#[test]
fn ranges_and_conditions_are_between_browser_and_server() {
    let recorder = RecordingServer::new(|head| {
        let head = head.to_lowercase();
        if head.contains("if-none-match: \"v1\"") || head.contains("if-modified-since:") {
            return "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".into();
        }
        if head.contains("range: bytes=2-4") {
            return "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nAccept-Ranges: bytes\r\n\
                    ETag: \"v1\"\r\nContent-Length: 3\r\n\r\ncde"
                .into();
        }
        if head.contains("range: bytes=99-") {
            return "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n".into();
        }
        if head.contains("if-match:") {
            return "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".into();
        }
        OK.to_owned()
    });
    let icm = Icm::start(recorder.config());
    let mut client = icm.client();
    let part = client.get_with("/file", &[("Range", "bytes=2-4"), ("If-Range", "\"v1\"")]);
    assert_eq!((part.status, part.text().as_str()), (206, "cde"));
    assert_eq!(
        (part.header("content-range"), part.header("accept-ranges")),
        (Some("bytes 2-4/10"), Some("bytes"))
    );
    let same = client.get_with("/file", &[("If-None-Match", "\"v1\"")]);
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some("\"v1\"")));
    let date = ("If-Modified-Since", "Sat, 29 Oct 2022 19:43:31 GMT");
    assert_eq!(client.get_with("/file", &[date]).status, 304);
    assert_eq!(client.get_with("/file", &[("Range", "bytes=99-")]).status, 416);
    assert_eq!(client.get_with("/file", &[("If-Match", "\"v0\"")]).status, 412);
    assert_eq!(client.get("/file").status, 200, "the connection is still in step");
    assert!(recorder.with("/file").concat().to_lowercase().contains("if-range: \"v1\""));
}

#[test]
fn an_upload_whose_server_dies_midway_is_delivered_to_no_other() {
    let (acme, icm) = start_cluster(&[
        ("failover.retry_methods", "[GET, HEAD, OPTIONS, PUT, POST]"),
        ("limits.request_body", "100MiB"),
    ]);
    let mut deliveries = 0;
    for at in ["head", "body"] {
        acme.fault("all", serde_json::json!({ "kind": "reset", "at": at, "method": "POST" }));
        let rid = unique_id();
        let body = vec![b'x'; 2 * MIB as usize];
        let answer = icm.client().request("POST", "/all.nsf?OpenForm", &[("X-Request-Id", &rid)], &body);
        if let Ok(answer) = &answer {
            assert_eq!(answer.status, 502, "{at}: {}", answer.head);
        }
        assert!(acme.executed(&rid) <= 1, "{at}: it was executed {} times", acme.executed(&rid));
        let received: u64 = ["Web1", "Web2", "Web3"].map(|s| acme.executed_on(&rid, s).0).iter().sum();
        assert_eq!(received, 1, "{at}: it was sent to more than one server");
        deliveries += received;
        acme.heal("all");
    }
    assert_eq!(deliveries, 2);
}

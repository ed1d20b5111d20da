//! Many requests at once: writes are coalesced without delaying any response.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::support::*;

/// Enough for two worker threads to work on them together.
const PER_BATCH: usize = 48;
/// So many that the next one makes way.
const ABOVE_YIELD_LIMIT: usize = 160;
const PARTS: usize = 4;

/// A server that sends the head and the pieces of `/pieces` one by one, each when `sent` says so.
fn piecemeal(sent: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), sent) = (stream, sent.clone()) else { return };
            std::thread::spawn(move || send_pieces(stream, &sent));
        }
    });
    address
}

fn send_pieces(mut stream: TcpStream, sent: &AtomicUsize) -> Option<()> {
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let bytes = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&piece[..bytes]);
    }
    let piecemeal = head.windows(7).any(|w| w == b"/pieces");
    if !piecemeal {
        return stream.write_all(OK.as_bytes()).ok();
    }
    let chunked = head.windows(6).any(|w| w == b"?chunk");
    let close = head.windows(6).any(|w| w == b"?close");
    for number in 0..=PARTS {
        while sent.load(SeqCst) < number {
            pause(5);
        }
        let piece = match (number, chunked) {
            (0, _) if close => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned(),
            (0, true) => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            (0, false) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 7 * PARTS),
            (_, true) => format!("7\r\npiece {number}\r\n"),
            (_, false) => format!("piece {number}"),
        };
        stream.write_all(piece.as_bytes()).ok()?;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").ok()?;
    }
    Some(())
}

/// Reads until this has come.
fn read_until(client: &mut TcpStream, text: &str) {
    let (mut all, mut piece) = (String::new(), [0; 4096]);
    while !all.contains(text) {
        let bytes =
            client.read(&mut piece).unwrap_or_else(|e| panic!("{e}, waiting for {text:?} after {all:?}"));
        assert!(bytes > 0, "closed, waiting for {text:?} after {all:?}");
        all.push_str(&String::from_utf8_lossy(&piece[..bytes]));
    }
}

fn start(server: SocketAddr) -> Icm {
    let mut config = config_for(server);
    set(&mut config, "clusters.0.probe", "{ interval: 1h, healthy_after: 1 }");
    set(&mut config, "clusters.0.failover.response_timeout", "60s");
    set(&mut config, "pingora.threads", "2");
    Icm::start(config)
}

#[test]
fn pieces_of_a_slow_answer_arrive_as_they_come_however_many_requests_are_in_progress() {
    for (many, target) in [1, PER_BATCH, ABOVE_YIELD_LIMIT]
        .into_iter()
        .flat_map(|n| ["?length", "?chunk", "?close"].map(|t| (n, t)))
    {
        let sent = Arc::new(AtomicUsize::new(0));
        let icm = start(piecemeal(sent.clone()));
        assert!(eventually(MAX_WAIT, || icm.client().get("/warm").status == 200), "{}", icm.log());
        let mut clients: Vec<TcpStream> = (0..many)
            .map(|_| {
                let mut client = TcpStream::connect(icm.address).unwrap();
                client.set_read_timeout(Some(MAX_WAIT)).unwrap();
                write!(client, "GET /pieces{target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                client
            })
            .collect();
        icm.wait_for_in_flight("Web1", many as u64);
        for number in 1..=PARTS {
            // No piece is sent before every client has the one before.
            sent.store(number, SeqCst);
            for client in &mut clients {
                read_until(client, &format!("piece {number}"));
            }
        }
    }
}

#[test]
fn answers_are_whole_whether_the_connection_ends_with_them_or_not() {
    let server = RecordingServer::new(|head| {
        let number = head.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.len())
    });
    let icm = start(server.address);
    assert!(eventually(MAX_WAIT, || icm.client().get("/warm").status == 200), "{}", icm.log());
    std::thread::scope(|scope| {
        for thread in 0..ABOVE_YIELD_LIMIT {
            let icm = &icm;
            scope.spawn(move || {
                let mut client = icm.client();
                for turn in 0..40 {
                    let number = format!("{thread}-{turn}-{}", "x".repeat(turn * 50));
                    let last = if turn % 8 == 7 { "close" } else { "keep-alive" };
                    let answer = client.get_with(&format!("/{number}"), &[("Connection", last)]);
                    assert_eq!((answer.status, answer.text()), (200, number));
                }
            });
        }
    });
}

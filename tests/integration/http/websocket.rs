//! WebSocket connections: both directions, from the handshake to either side's close.

use crate::support::*;

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A masked text frame, as browsers send it.
fn frame(opcode: u8, text: &str) -> Vec<u8> {
    let mut out = vec![0x80 | opcode, 0x80 | u8::try_from(text.len()).unwrap(), 1, 2, 3, 4];
    out.extend(text.bytes().enumerate().map(|(i, b)| b ^ [1, 2, 3, 4][i % 4]));
    out
}

/// Opens one and reads the greeting, which comes with the 101 in one packet.
fn open(icm: &Icm, target: &str) -> (Client, Answer) {
    let mut client = icm.client();
    let head = client.head("GET", target, &HANDSHAKE);
    client.send(head.as_bytes()).unwrap();
    let answer = client.read("GET").unwrap();
    assert_eq!(answer.status, 101, "{}", answer.head);
    let greeting = format!("hello from {}", answer.server());
    assert_eq!(next(&mut client), (1, greeting));
    (client, answer)
}

/// The next frame: opcode and text.
fn next(client: &mut Client) -> (u8, String) {
    let start = client.read_bytes(2).unwrap();
    let text = client.read_bytes(usize::from(start[1])).unwrap();
    (start[0] & 0x0F, String::from_utf8(text).unwrap())
}

fn in_flight(icm: &Icm) -> u64 {
    let status = icm.admin("/status").json();
    let servers = status["clusters"][0]["servers"].as_array().unwrap().clone();
    servers.iter().map(|s| s["in_flight"].as_u64().unwrap()).sum()
}

#[test]
fn the_first_frame_comes_with_the_101_and_both_directions_work() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    for target in ["/ws", "/sales/orders.nsf/ws"] {
        let (mut client, answer) = open(&icm, target);
        assert_eq!(answer.header("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for text in ["one", "two", ""] {
            client.send(&frame(1, text)).unwrap();
            assert_eq!(next(&mut client), (1, text.to_owned()));
        }
        client.send(&[frame(1, "a"), frame(9, "ping"), frame(1, "b")].concat()).unwrap();
        assert_eq!(next(&mut client), (1, "a".to_owned()));
        assert_eq!(next(&mut client), (10, "ping".to_owned()));
        assert_eq!(next(&mut client), (1, "b".to_owned()));
    }
}

/// Pingora took the end of the request for the end of the tunnel where the 101 was there early enough: a race, so
/// many tunnels, and more of them at once than there are threads.
#[test]
fn a_server_that_answers_at_once_keeps_its_tunnel() {
    let acme = Acme::built_in();
    for scheme in ["http", "https"] {
        let mut config = config(&acme);
        set(&mut config, "clusters.0.upstream_scheme", scheme);
        let icm = Icm::start(config);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let (mut client, _) = open(&icm, "/ws");
                        client.send(&frame(1, "still there")).unwrap();
                        assert_eq!(next(&mut client), (1, "still there".to_owned()));
                    }
                });
            }
        });
    }
}

#[test]
fn it_is_counted_in_flight_and_ends_on_both_sides_whoever_ends_it() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let gone = |what: &str| {
        assert!(eventually(MAX_WAIT, || in_flight(&icm) == 0), "{what}: still in flight");
    };
    let (mut client, _) = open(&icm, "/ws");
    assert_eq!(in_flight(&icm), 1);
    // The server ends it, as it does after a close frame.
    client.send(&frame(8, "")).unwrap();
    assert_eq!(next(&mut client).0, 8);
    assert!(client.peer_closes(), "the client sees the end");
    gone("ended by the server");
    // The client vanishes.
    let (mut client, _) = open(&icm, "/ws");
    client.close();
    gone("ended by the client");
    // Two at once are two.
    let both = (open(&icm, "/ws"), open(&icm, "/ws"));
    assert_eq!(in_flight(&icm), 2);
    drop(both);
    gone("both");
    // An ordinary request on a new connection is not disturbed.
    assert_eq!(icm.client().get("/sales/orders.nsf?Open").status, 200);
}

#[test]
fn a_server_that_refuses_the_upgrade_is_heard() {
    let server = FixedResponseServer::new(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
    );
    let icm = Icm::start(server.config());
    let answer = icm.client().request("GET", "/ws", &HANDSHAKE, b"").unwrap();
    assert_eq!((answer.status, answer.text()), (403, "no".to_owned()));
    let heads = server.heads();
    assert!(heads.iter().any(|h| h.to_lowercase().contains("\r\nupgrade: websocket\r\n")), "{heads:?}");
}

#[test]
fn a_tunnel_whose_server_resets_gets_nothing_but_the_close() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).unwrap_or(0);
                if !String::from_utf8_lossy(&piece[..read]).to_lowercase().contains("upgrade: websocket") {
                    let _ = stream.write_all(OK.as_bytes());
                    return;
                }
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                let _ = stream.write_all(head.as_bytes());
                // What was received and never read makes the close a reset.
                let _ = stream.peek(&mut piece);
            });
        }
    });
    let mut config = config_for(server);
    set(&mut config, "clusters.0.probe", "{ interval: 1h, timeout: 1s }");
    let icm = Icm::start(config);
    let mut client = icm.client();
    let head = client.head("GET", "/ws", &HANDSHAKE);
    client.send(head.as_bytes()).unwrap();
    let answer = client.read("GET").unwrap();
    assert_eq!(answer.status, 101, "{}", answer.head);
    client.send(&frame(1, "hello")).unwrap();
    assert!(client.peer_closes(), "a page was written into the tunnel");
    icm.wait_for_log("HTTP/1.1\" 101 ");
}

//! Time limits for the head of a response and for pauses within its body.

use std::time::Duration;

use crate::support::*;

/// A server that runs `answer` for each request, and `icm` with these settings of `failover`.
fn one(
    failover: &str,
    answer: impl Fn(&mut ServerConnection) + Send + Sync + 'static,
) -> (ScriptedServer, Icm) {
    let server = ScriptedServer::new(move |connection| {
        while connection.request().is_some() {
            answer(connection);
        }
    });
    let mut config = server.config();
    set(&mut config, "clusters.0.failover", failover);
    set(&mut config, "clusters.0.probe", "{ interval: 1h, timeout: 1s }");
    let icm = Icm::start(config);
    (server, icm)
}

#[test]
fn slow_heads_and_endless_1xx_responses_are_ended_by_the_response_timeout() {
    let slow: [fn(&mut ServerConnection); 3] = [
        |connection| {
            connection.say("HTTP/1.1 200 OK\r\n");
            connection.drip("X: y\r\n", 100, 600);
        },
        |connection| connection.drip("HTTP/1.1 100 Continue\r\n\r\n", 100, 600),
        |connection| connection.drip("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", 100, 600),
    ];
    for answer in slow {
        let (_server, icm) = one("{ response_timeout: 1s, retry_methods: [HEAD] }", answer);
        for method in ["GET", "POST"] {
            let body: &[u8] = if method == "POST" { b"a=1" } else { b"" };
            let mut client = icm.client();
            let length = if method == "POST" { "Content-Length: 3\r\n" } else { "" };
            client
                .send(format!("{method} /a.nsf?OpenDatabase HTTP/1.1\r\nHost: x\r\n{length}\r\n").as_bytes())
                .unwrap();
            client.send(body).unwrap();
            let mut answer = client.read(method).unwrap();
            while answer.status < 200 {
                answer = client.read(method).unwrap();
            }
            assert_eq!(answer.status, 504, "{method}");
        }
        assert_eq!(icm.counter_of("Web1", "timed_out"), 2);
        icm.wait_for_in_flight("Web1", 0);
    }
}

#[test]
fn the_response_timeout_does_not_apply_to_the_body() {
    let (_server, icm) = one("{ response_timeout: 300ms }", |connection| {
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
        pause(1_200);
        connection.say("def");
    });
    let answer = icm.client().get("/a.nsf?OpenDatabase");
    assert_eq!((answer.status, answer.text()), (200, "abcdef".to_owned()));
}

#[test]
fn the_body_timeout_ends_a_stalled_body_but_no_event_stream() {
    for (kind, framing) in [("text/html", "Content-Length: 6"), ("text/plain", "Transfer-Encoding: chunked")]
    {
        let (_server, icm) = one("{ body_timeout: 500ms }", move |connection| {
            connection.say(&format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n3\r\n"));
            pause(5_000);
        });
        let start = std::time::Instant::now();
        assert!(matches!(icm.client().request("GET", "/a.nsf", &[], b""), Err(Failure::Truncated(_))));
        assert!(start.elapsed() < Duration::from_secs(4), "the server did not end it");
        icm.wait_for_in_flight("Web1", 0);
    }
    let (_server, icm) = one("{ body_timeout: 500ms, response_timeout: 500ms }", |connection| {
        connection.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=UTF-8\r\nConnection: close\r\n\r\ndata: 1\n\n");
        pause(2_000);
        connection.say("data: 2\n\n");
        let _ = connection.stream.shutdown(std::net::Shutdown::Both);
    });
    let answer = icm.client().get("/events.nsf/stream?OpenAgent");
    assert_eq!(answer.text(), "data: 1\n\ndata: 2\n\n");
}

#[test]
fn a_slow_client_does_not_trigger_the_body_timeout() {
    let (_server, icm) = one("{ body_timeout: 300ms }", |connection| {
        let body = "x".repeat(8_000_000);
        connection.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    });
    let mut client = icm.client();
    client.send(b"GET /large.nsf HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    pause(2_500);
    let answer = client.read("GET").unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 8_000_000));
}

#[test]
fn the_response_timeout_applies_to_a_websocket_handshake() {
    let (_server, icm) = one("{ response_timeout: 500ms }", |_| pause(5_000));
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
    let answer = icm.client().request("GET", "/chat.nsf/socket", &upgrade, b"").unwrap();
    assert_eq!(answer.status, 504);
}

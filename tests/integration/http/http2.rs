//! HTTP/2 clients in front of HTTP/1.1 servers: a request that would be framed differently there is refused; all others are
//! framed once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::support::*;

/// A recorded server behind a listener with TLS.
fn start() -> (Acme, RecordingServer, Icm, SocketAddr) {
    let acme = Acme::built_in();
    let recorder = RecordingServer::new(|_| OK.to_owned());
    let mut config = recorder.config();
    set(&mut config, "clusters.0.limits.request_body", "32KiB");
    let secure = add_tls(&mut config, &acme);
    let icm = Icm::start(config);
    wait_for(secure);
    (acme, recorder, icm, secure)
}

fn begin<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
}

#[test]
fn a_body_in_chunks_ends_once_however_the_client_ends_it() {
    let (acme, recorder, _icm, secure) = start();
    let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
    // The end in the last bytes, or in a frame of its own.
    for (n, end) in ["with", "empty"].into_iter().enumerate() {
        let path = format!("/ends-{end}");
        let stream = h2.headers(&begin("POST", &path), false);
        h2.data(stream, b"first", false);
        pause(50);
        h2.data(stream, b"second", end == "with");
        pause(50);
        if end == "empty" {
            h2.data(stream, b"", true);
        }
        assert_eq!(h2.end_of(stream).status(), 200, "{end}");
        // The connection is used again: a second end would stand before this request.
        let next = h2.headers(&begin("GET", &format!("/next-{n}")), true);
        assert_eq!(h2.end_of(next).status(), 200, "{end}");
        for taped in recorder.with(&path) {
            let behind = taped.split(&path).nth(1).unwrap();
            let (head, body) = behind.split_once("\r\n\r\n").unwrap();
            assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{end}: {taped}");
            assert_eq!(body.matches("\r\n0\r\n\r\n").count(), 1, "{end}: {taped}");
            let after = body.split_once("\r\n0\r\n\r\n").unwrap().1;
            assert!(
                after.is_empty() || after.starts_with("GET /") || after.starts_with("POST /"),
                "{end}: {taped}"
            );
        }
    }
}

#[test]
fn what_would_be_two_requests_in_http_1_is_refused_and_completes_nowhere() {
    let (acme, recorder, _icm, secure) = start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let with = |path: &'static str, fields: &[(&'static str, &'static str)]| {
        let mut all = begin("POST", path);
        all.extend_from_slice(fields);
        all
    };
    for (what, fields) in [
        ("a longer body than announced", with("/bad", &[("content-length", "3")])),
        ("a shorter body than announced", with("/bad", &[("content-length", "300")])),
        ("two lengths", with("/bad", &[("content-length", "3"), ("content-length", "4")])),
        ("a length that is none", with("/bad", &[("content-length", "+3")])),
        ("a length with a zero before it", with("/bad", &[("content-length", "035")])),
        ("one length twice", with("/bad", &[("content-length", "35"), ("content-length", "35")])),
        ("one length twenty times", with("/bad", &[("content-length", "35"); 20])),
        ("a list of lengths", with("/bad", &[("content-length", "35, 35")])),
        ("a length with a blank", with("/bad", &[("content-length", " 35")])),
        ("a blank before a value", with("/bad", &[("x-a", " b")])),
        ("a tab behind a value", with("/bad", &[("x-a", "b\t")])),
        ("a blank as a value", with("/bad", &[("x-a", " ")])),
        ("transfer-encoding", with("/bad", &[("transfer-encoding", "chunked")])),
        ("connection", with("/bad", &[("connection", "close")])),
        ("keep-alive", with("/bad", &[("keep-alive", "5")])),
        ("proxy-connection", with("/bad", &[("proxy-connection", "close")])),
        ("upgrade", with("/bad", &[("upgrade", "websocket")])),
        ("te", with("/bad", &[("te", "gzip")])),
        ("another host", with("/bad", &[("host", "other.example")])),
        ("two hosts", with("/bad", &[("host", "localhost"), ("host", "localhost")])),
        ("a line end in a value", with("/bad", &[("x-bad", "a\r\nx-other: b")])),
        ("a line end in a name", with("/bad", &[("x-bad: a\r\nx-other", "b")])),
        ("a NUL", with("/bad", &[("x-bad", "a\0b")])),
        ("an upper-case name", with("/bad", &[("X-Bad", "a")])),
        ("a space in the path", with("/bad HTTP/1.1\r\nX: /bad", &[])),
        ("a path without a slash", with("bad", &[])),
        ("an empty path", with("", &[])),
        ("an asterisk", with("*", &[])),
        ("a dot segment", with("/bad/../x", &[])),
        ("an unknown pseudo-field", with("/bad", &[(":protocol", "x")])),
        ("a pseudo-field behind others", with("/bad", &[("x-a", "b"), (":path", "/bad")])),
    ] {
        let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
        let stream = h2.headers(&fields, false);
        h2.data(stream, smuggled.as_bytes(), true);
        let end = h2.end_of(stream);
        assert!(!matches!(end.status(), 200..=299), "{what}: {end:?}");
    }
    for (what, fields) in [
        (
            "a scheme of another kind",
            vec![(":method", "GET"), (":scheme", "ftp"), (":authority", "localhost"), (":path", "/bad")],
        ),
        ("no authority and no host", vec![(":method", "GET"), (":scheme", "https"), (":path", "/bad")]),
        (
            "user information",
            vec![(":method", "GET"), (":scheme", "https"), (":authority", "u@localhost"), (":path", "/bad")],
        ),
        ("TRACE", begin("TRACE", "/bad")),
        ("a tunnel", vec![(":method", "CONNECT"), (":authority", "localhost:25")]),
        ("a long method", begin("METHODMETHODMETHODMETHODMETHODMETHOD", "/bad")),
    ] {
        let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
        let stream = h2.headers(&fields, true);
        let end = h2.end_of(stream);
        assert!(!matches!(end.status(), 200..=299), "{what}: {end:?}");
    }
    // Some of them begin to be sent before they turn out to be wrong: none is ever whole, and none hides another.
    for taped in recorder.with("bad").into_iter().chain(recorder.with("smuggled")) {
        for (at, _) in taped.match_indices("GET /smuggled") {
            let head = taped[..at].rsplit_once("POST /").map_or("", |(_, head)| head);
            let length = head
                .lines()
                .find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            assert!(length.is_none_or(|l| l >= smuggled.len()), "a request within a request: {taped}");
            assert!(!taped[at..].contains("\r\n0\r\n\r\n"), "a whole request: {taped}");
        }
    }
}

#[test]
fn trailers_of_a_request_end_here_and_the_request_completes() {
    let (acme, recorder, _icm, secure) = start();
    let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
    for (n, length) in [None, Some("4"), None].into_iter().enumerate() {
        let path = format!("/trailed-{n}");
        let mut fields = begin("POST", &path);
        fields.extend(length.map(|length| ("content-length", length)));
        let stream = h2.headers(&fields, false);
        h2.data(stream, b"body", false);
        h2.section(stream, &[("x-trailer", "other"), ("grpc-status", "other"), ("x-trailer", "")], true);
        assert_eq!(h2.end_of(stream).status(), 200, "{length:?}");
        let taped = recorder.with(&path);
        assert_eq!(taped.iter().map(|t| t.matches(&path).count()).sum::<usize>(), 1, "{taped:?}");
        assert!(!taped[0].contains("other") && taped[0].contains("body"), "{taped:?}");
    }
    // In pieces: the frame's head, its fields, and then the rest of the section.
    let stream = h2.headers(&begin("POST", "/pieces"), false);
    h2.data(stream, b"body", false);
    let section = block_of(&[("x-trailer", "other")]);
    let first = frame_of(crate::support::h2::HEADERS, crate::support::h2::END_STREAM, stream, &section);
    for piece in [&first[..5], &first[5..12], &first[12..]] {
        assert!(h2.bytes(piece));
        pause(20);
    }
    h2.frame(9, crate::support::h2::END_HEADERS, stream, &section);
    assert_eq!(h2.end_of(stream).status(), 200);
    assert!(!recorder.with("/pieces")[0].contains("other"));
}

#[test]
fn a_pseudo_field_in_trailers_is_a_stream_error_and_the_request_completes_nowhere() {
    let (acme, recorder, _icm, secure) = start();
    let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
    for (n, trailers) in [
        &[(":path", "/other"), (":authority", "other.example")][..],
        &[("x-trailer", "t"), (":path", "/other")],
        &[(":status", "200")],
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/trailed-{n}");
        let stream = h2.headers(&begin("POST", &path), false);
        h2.data(stream, b"body", false);
        pause(100);
        h2.section(stream, trailers, true);
        assert_eq!(h2.end_of(stream), StreamEnd::Reset(1), "{trailers:?}");
        // The others on the connection go on.
        let next = h2.headers(&begin("GET", "/next"), true);
        assert_eq!(h2.end_of(next).status(), 200, "{trailers:?}");
        for taped in recorder.with(&path) {
            assert!(!taped.contains("other"), "{taped}");
            let behind = taped.split(&path).nth(1).unwrap();
            assert!(!behind.contains("\r\n0\r\n"), "it was completed: {taped}");
        }
    }
}

/// A server that sends the answer to `/early` only when `seen`, and says so before in a 103.
fn hinting(seen: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), seen) = (stream, seen.clone()) else { return };
            std::thread::spawn(move || {
                let mut piece = [0; 8192];
                let read = stream.read(&mut piece).unwrap_or(0);
                let head = String::from_utf8_lossy(&piece[..read]).into_owned();
                assert!(!head.contains("icm-stream"), "{head}");
                let mut answer = OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
                if head.contains("/early") {
                    let host = format!("web1.acme.example:{}", address.port());
                    let hint = format!(
                        "HTTP/1.1 103 Early Hints\r\nLink: <http://{host}/a.css>; rel=preload\r\n\
                         Server: Domino\r\nConnection: close\r\n\r\n"
                    );
                    let _ = stream.write_all(hint.as_bytes());
                    eventually(MAX_WAIT, || seen.load(SeqCst));
                } else if head.contains("/large") {
                    answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}",
                        "x".repeat(2_000_000)
                    );
                }
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

#[test]
fn an_interim_answer_reaches_a_client_of_http_2_while_the_server_works() {
    let acme = Acme::built_in();
    let seen = Arc::new(AtomicBool::new(false));
    let mut config = config_for(hinting(seen.clone()));
    let secure = add_tls(&mut config, &acme);
    let _icm = Icm::start(config);
    wait_for(secure);
    let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
    // The number of its stream is the edge's to say.
    let mut fields = begin("GET", "/early");
    fields.push(("x-icm-stream", "1"));
    for round in 0..3 {
        seen.store(false, SeqCst);
        // Others are in the middle of their answers meanwhile.
        let large = h2.headers(&begin("GET", "/large"), true);
        let stream = h2.headers(&fields, true);
        let (mut heads, mut bytes, mut ended) = (Vec::new(), 0, 0);
        while ended < 2 {
            let NextFrame::Frame(kind, flags, at, payload) = h2.next_frame(MAX_WAIT) else {
                panic!("round {round}: {heads:?}")
            };
            if kind == crate::support::h2::DATA && !payload.is_empty() {
                bytes += if at == large { payload.len() } else { 0 };
                let grant = u32::try_from(payload.len()).unwrap().to_be_bytes();
                h2.frame(crate::support::h2::WINDOW_UPDATE, 0, 0, &grant);
                h2.frame(crate::support::h2::WINDOW_UPDATE, 0, at, &grant);
            }
            assert!(
                kind != crate::support::h2::RST_STREAM && kind != crate::support::h2::GOAWAY,
                "round {round}: {heads:?}"
            );
            if kind == crate::support::h2::HEADERS && at == stream {
                heads.push((flags, String::from_utf8_lossy(&payload).into_owned()));
                seen.store(true, SeqCst);
            }
            let has_end = matches!(kind, crate::support::h2::DATA | crate::support::h2::HEADERS)
                && flags & crate::support::h2::END_STREAM != 0;
            ended += usize::from(has_end && (at == stream || at == large));
        }
        assert_eq!((heads.len(), bytes), (2, 2_000_000), "round {round}: {heads:?}");
        let (flags, hint) = &heads[0];
        assert_eq!(*flags, crate::support::h2::END_HEADERS);
        assert!(hint.contains("103") && hint.contains("<https://localhost/a.css>; rel=preload"), "{hint:?}");
        assert!(
            !hint.contains("web1") && !hint.contains("Domino") && !hint.contains("connection"),
            "{hint:?}"
        );
    }
    // What both sides remember of fields is still the same.
    for _ in 0..3 {
        let stream = h2.headers(&begin("GET", "/ok"), true);
        assert_eq!(h2.end_of(stream), StreamEnd::Answer(Some(200), b"ok".to_vec()));
    }
}

#[test]
fn what_http_2_may_say_is_said_in_http_1() {
    let (acme, recorder, _icm, secure) = start();
    let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
    let mut fields = begin("POST", "//twice%2Fencoded;x?y=%zz");
    fields.extend([("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2"), ("content-length", "4")]);
    let stream = h2.headers(&fields, false);
    h2.data(stream, b"body", true);
    assert_eq!(h2.end_of(stream).status(), 200);
    let taped = recorder.with("twice").remove(0);
    assert!(taped.contains("POST //twice%2Fencoded;x?y=%zz HTTP/1.1\r\n"), "{taped}");
    let lower = taped.to_lowercase();
    assert!(lower.contains("host: localhost\r\n") && lower.contains("cookie: a=1; b=2\r\n"), "{taped}");
    assert!(lower.contains("content-length: 4\r\n") && !lower.contains("transfer-encoding"), "{taped}");
    assert!(!lower.contains("\r\nte:") && taped.ends_with("\r\n\r\nbody"), "{taped}");
}

#[test]
fn a_body_over_the_limit_is_refused_with_and_without_a_length() {
    let (acme, recorder, _icm, secure) = start();
    let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
    let mut fields = begin("POST", "/declared");
    fields.push(("content-length", "32769"));
    let stream = h2.headers(&fields, false);
    assert_eq!(h2.end_of(stream).status(), 413);
    assert!(recorder.with("/declared").is_empty());
    // A connection of its own: there the status is spelled out again, and not taken from a table.
    let mut h2 = H2::connect(secure, "localhost", &acme.ca_file);
    let stream = h2.headers(&begin("POST", "/undeclared"), false);
    for _ in 0..3 {
        h2.data(stream, &[b'x'; 15_000], false);
    }
    assert_eq!(h2.end_of(stream).status(), 413);
    assert!(recorder.with("/undeclared").iter().all(|t| !t.contains("\r\n0\r\n\r\n")), "it was completed");
}

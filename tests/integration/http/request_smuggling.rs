//! The strict gate from outside: a request that two parsers could read differently is refused and reaches no server.

use crate::support::*;

const WHERE: &str = "/sales/orders.nsf?OpenDatabase&echo=json&rid=";

/// `GET` of something with this identifier, up to the fields: `{line}{fields}\r\n`.
fn target(rid: &str) -> String {
    format!("{WHERE}{rid}")
}

/// How often a request with this identifier began and how often it was executed, on all servers.
fn seen(acme: &Acme, rid: &str) -> (u64, u64) {
    let all = acme.ask("GET", &format!("/executions?rid={rid}"), None);
    let servers = all["servers"].as_object().cloned().unwrap_or_default();
    let received = servers.values().map(|s| s["received"].as_u64().unwrap_or(0)).sum();
    (received, all["executed"].as_u64().unwrap_or(0))
}

/// The statuses of all answers in what came.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok()).collect()
}

/// Sends the bytes as they are. Out: all that came until the other side closed.
fn exchange(client: &mut Client, bytes: &[u8]) -> Vec<u8> {
    // The other side may have answered and closed before it has read everything.
    let _ = client.send(bytes);
    client.read_to_end().unwrap_or_else(|e| panic!("{e:?} after {}", bytes.escape_ascii()))
}

/// Requests whose head is refused, and the answers that are right.
fn bad_heads(rid: &str) -> Vec<(Vec<u8>, &'static [u16])> {
    let t = target(rid);
    let get = |fields: &str| format!("GET {t} HTTP/1.1\r\n{fields}\r\n").into_bytes();
    let post =
        |fields: &str, body: &str| format!("POST {t} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes();
    let line = |line: String| [line.as_bytes(), b"\r\nHost: a\r\n\r\n"].concat();
    let with = |byte: u8| [b"GET /a", &[byte][..], t.as_bytes(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let smuggled = format!("GET {t} HTTP/1.1\r\nHost: a\r\n\r\n");
    const BAD: &[u16] = &[400];
    const CODING: &[u16] = &[400, 501];
    vec![
        (format!("GET http://other{t} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(), BAD),
        (post("Content-Length: 5, 5\r\n", "hello"), BAD),
        (post("Content-Length: 1000,1000\r\n", &smuggled), BAD),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), BAD),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), BAD),
        (post("Content-Length: 005\r\n", "hello"), BAD),
        (post("Content-Length: 0200\r\n", &smuggled), BAD),
        (post("Content-Length: 00\r\n", ""), BAD),
        (post("Content-Length: +5\r\n", "hello"), BAD),
        (post("Content-Length: \r\n", ""), BAD),
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), BAD),
        (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), CODING),
        (post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), CODING),
        (post("Transfer-Encoding: gzip\r\n", ""), CODING),
        (post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), CODING),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), CODING),
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), CODING),
        (post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), BAD),
        (get(""), BAD),
        (get("Host:\r\n"), BAD),
        (get("Host: name/path\r\n"), BAD),
        (get("Host: a, b\r\n"), BAD),
        (get("Host: user@name\r\n"), BAD),
        (get("Host: a\r\nHost: a\r\n"), BAD),
        (get("Host: a\nX: y\r\n"), BAD),
        (get("Host: a\r\nX: a\0b\r\n"), BAD),
        (get("Host: a\r\n folded: b\r\n"), BAD),
        (get("Host: a\r\nX : y\r\n"), BAD),
        (line("GET * HTTP/1.1".into()), BAD),
        (line(format!("GET {t} with space HTTP/1.1")), BAD),
        (line(format!("GET  {t} HTTP/1.1")), BAD),
        (line(format!("GET {t}  HTTP/1.1")), BAD),
        (line(format!("GET {t}#top HTTP/1.1")), BAD),
        (with(0), BAD),
        (with(b'\r'), BAD),
        (with(0x7f), BAD),
        (with(0x01), BAD),
        (with(0xe4), BAD),
        (format!("GET {t} HTTP/1.1\nHost: a\r\n\r\n").into_bytes(), BAD),
        (line(format!("{} {t} HTTP/1.1", "M".repeat(40))), CODING),
        (line(format!("TRACE {t} HTTP/1.1")), &[405]),
        (line(format!("GET {t}{} HTTP/1.1", "a".repeat(9000))), &[414]),
        (get(&format!("Host: a\r\n{many}")), &[431]),
        (get(&format!("Host: a\r\nX: {}\r\n", "y".repeat(70_000))), &[431]),
        (line(format!("GET {t} HTTP/3.0")), &[400, 505]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), BAD),
    ]
}

#[test]
fn a_head_that_can_be_read_in_two_ways_is_refused_and_reaches_no_server() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let tls = add_tls(&mut config, &acme);
    let icm = Icm::start(config);
    wait_for(tls);
    let mut refused = 0;
    for (n, (bytes, expected)) in bad_heads("bad").into_iter().enumerate() {
        let mut clients = vec![icm.client()];
        // After a request that was good, and over TLS.
        if n % 2 == 0 {
            let mut kept = icm.client();
            assert_eq!(kept.get("/fast").status, 200);
            clients.push(kept);
        }
        if n % 4 == 0 {
            clients.push(Client::tls(tls, "localhost", &acme.ca_file));
        }
        for mut client in clients {
            let came = exchange(&mut client, &bytes);
            let case = bytes[..bytes.len().min(200)].escape_ascii();
            let text = String::from_utf8_lossy(&came).into_owned();
            let statuses = statuses(&came);
            assert!(
                statuses.len() == 1 && expected.contains(&statuses[0]),
                "{statuses:?} for {case}: {text}"
            );
            assert!(text.contains("Connection: close") && text.contains("Server: domino-icm"), "{text}");
            refused += 1;
        }
    }
    assert_eq!(seen(&acme, "bad"), (0, 0));
    let metrics = icm.admin("/metrics").text();
    let counted = |line: &&str| line.starts_with("icm_client_refused_total{");
    let count: u64 =
        metrics.lines().filter(counted).map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(count, refused, "{metrics}");
    icm.wait_for_log("\"why\":\"refused\"");
    assert_eq!(icm.client().get("/fast").status, 200);
}

#[test]
fn a_body_with_a_chunk_line_that_is_none_is_refused_and_never_executed() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let lines: [&[u8]; 12] = [
        b"5;\n",
        b"5;\r\n",
        b"5;\x01\r\n",
        b"5;\0\r\n",
        b"5;bad[=x\r\n",
        b"5 \r\n",
        b" 5\r\n",
        b"0x5\r\n",
        b"\r\n",
        b"-5\r\n",
        b"fffffffffffffffff\r\n",
        b"5\n",
    ];
    for (n, line) in lines.into_iter().enumerate() {
        for together in [true, false] {
            let rid = format!("chunk{n}{together}");
            let head = icm.client().head("POST", &target(&rid), &[("Transfer-Encoding", "chunked")]);
            let mut client = icm.client();
            let rest = [b"3\r\nabc\r\n", line, b"hello\r\n0\r\n\r\n"].concat();
            let came = if together {
                exchange(&mut client, &[head.as_bytes(), &rest].concat())
            } else {
                client.send(head.as_bytes()).unwrap();
                pause(50);
                exchange(&mut client, &rest)
            };
            assert_eq!(statuses(&came), [400], "{}: {}", line.escape_ascii(), String::from_utf8_lossy(&came));
            assert_eq!(seen(&acme, &rid).1, 0, "{}", line.escape_ascii());
        }
    }
}

#[test]
fn what_every_parser_reads_alike_passes_whole_in_any_pieces() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let body = "hello, world! ".repeat(3000);
    let chunked =
        format!("7;name=\"va lue\";x\r\nhello, \r\n{:x}\r\n{}\r\n0\r\nX-T: 1\r\n\r\n", body.len(), body);
    let big = format!("X-Big: {}\r\n", "y".repeat(50_000));
    let host = icm.address;
    let requests = [
        (format!("GET {} HTTP/1.1\r\nHost: {host}\r\n\r\n", target("p1")), 0),
        (format!("\r\nGET {} HTTP/1.1\r\nHost: {host}\r\n{big}\r\n", target("p2")), 0),
        (
            format!(
                "POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
                target("p3"),
                body.len()
            ),
            body.len(),
        ),
        (
            format!(
                "POST {} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}",
                target("p4")
            ),
            body.len() + 7,
        ),
        (format!("GET http://{host}{} HTTP/1.1\r\nHost: {host}\r\n\r\n", target("p5")), 0),
    ];
    // All on one connection, whole, then in small pieces.
    for piece in [usize::MAX, 701] {
        let mut client = icm.client();
        for (request, length) in &requests {
            for piece in request.as_bytes().chunks(piece.min(request.len())) {
                client.send(piece).unwrap();
            }
            let answer = client.read("GET").unwrap();
            assert_eq!(answer.status, 200, "{}", &request[..80]);
            assert_eq!(answer.json()["body_length"].as_u64(), Some(*length as u64), "{}", &request[..80]);
        }
        assert!(client.connected());
    }
    // Byte by byte.
    let mut client = icm.client();
    for byte in requests[0].0.as_bytes() {
        client.send(&[*byte]).unwrap();
    }
    assert_eq!(client.read("GET").unwrap().status, 200);
}

#[test]
fn requests_sent_ahead_are_answered_in_order_each_with_its_own_answer() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let mut client = icm.client();
    let get = |n: usize| {
        let slow = if n.is_multiple_of(3) { "&delay=60" } else { "" };
        client.head("GET", &format!("{}{slow}", target(&format!("ahead{n}"))), &[])
    };
    let mut bytes = String::new();
    for n in 0..12 {
        bytes += &get(n);
        bytes += &format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Length: {n}\r\n\r\n{}",
            target(&format!("body{n}")),
            icm.address,
            "x".repeat(n)
        );
    }
    // Far more than is held: the rest waits where it is.
    bytes += &client.head("GET", &target("large"), &[("X-Large", &"y".repeat(40_000))]);
    client.send(bytes.as_bytes()).unwrap();
    for n in 0..12 {
        let first = client.read("GET").unwrap().json();
        assert_eq!(first["request_id"], format!("ahead{n}"), "{first}");
        let second = client.read("POST").unwrap().json();
        assert_eq!(second["request_id"], format!("body{n}"), "{second}");
        assert_eq!(second["body_length"].as_u64(), Some(n as u64));
    }
    assert_eq!(client.read("GET").unwrap().json()["request_id"], "large");
    for n in 0..12 {
        assert_eq!(seen(&acme, &format!("ahead{n}")), (1, 1));
    }
    // The good one is answered before the bad one is refused.
    let bad = format!(
        "{}GET  / HTTP/1.1\r\n\r\n{}",
        client.head("GET", &target("good"), &[]),
        client.head("GET", &target("behind"), &[])
    );
    let came = exchange(&mut client, bad.as_bytes());
    assert_eq!(statuses(&came), [200, 400], "{}", String::from_utf8_lossy(&came));
    assert_eq!((seen(&acme, "good"), seen(&acme, "behind")), ((1, 1), (0, 0)));
}

#[test]
fn a_client_that_goes_away_while_a_server_works_leaves_nothing_behind() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let mut client = icm.client();
    let head = client.head("GET", &format!("{}&delay=3000", target("gone")), &[]);
    client.send(head.as_bytes()).unwrap();
    let in_flight = || icm.admin("/metrics").text().contains("\nicm_requests_in_flight 1\n");
    assert!(eventually(MAX_WAIT, in_flight));
    client.close();
    assert!(eventually(MAX_WAIT, || !in_flight()), "{}", icm.log());
}

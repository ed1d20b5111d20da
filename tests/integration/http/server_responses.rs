//! Ambiguous or invalid response heads of servers are repaired or become a 502, for clients of every HTTP version.

use std::net::SocketAddr;

use crate::support::*;

const CHUNKS: &str = "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
const KEEP: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain";
const CLOSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close";

/// Two servers with the same answers, and the product with and without TLS in front of them.
struct Fixture {
    acme: Acme,
    servers: [RecordingServer; 2],
    icm: Icm,
    secure: SocketAddr,
}

impl Fixture {
    /// `answers[n]` is what is said to a request for `/n`.
    fn new(answers: &[String]) -> Fixture {
        let servers = [(); 2].map(|()| {
            let answers = answers.to_vec();
            RecordingServer::new(move |head| {
                let number = head.split(' ').nth(1).and_then(|target| target[1..].parse::<usize>().ok());
                number.map_or(OK.to_owned(), |number| answers[number].clone())
            })
        });
        let acme = Acme::built_in();
        let mut config = servers[0].config();
        let list = servers.each_ref().map(|server| server.address).map(|address| {
            format!("{{ name: S{0}/Acme, hostname: s.acme.example, http: \"{address}\" }}", address.port())
        });
        set(&mut config, "clusters.0.servers.list", &format!("[ {} ]", list.join(", ")));
        set(&mut config, "clusters.0.probe", "{ interval: 1h, timeout: 1s, unreachable_after: 1000 }");
        set(&mut config, "clusters.0.failover.passive_failures", "0");
        let secure = add_tls(&mut config, &acme);
        let icm = Icm::start(config);
        wait_for(secure);
        Fixture { acme, servers, icm, secure }
    }

    /// How often this was asked for, by the tapes of both servers.
    fn asked(&self, number: usize) -> usize {
        let line = format!(" /{number} HTTP/1.1\r\n");
        let count = |server: &RecordingServer| {
            server.with(&line).iter().map(|t| t.matches(&line).count()).sum::<usize>()
        };
        self.servers.iter().map(count).sum()
    }
}

/// Answer, method, body, and the lengths and codings that a client of HTTP/1.1 sees.
type Case = (String, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

#[test]
fn a_head_with_one_reading_only_is_repaired_for_every_client() {
    let hello = "\r\n\r\nhello";
    let cases: Vec<Case> = vec![
        (format!("{KEEP}\r\nContent-Length: 5\r\nContent-Length: 5{hello}"), "GET", "hello", &["5"], &[]),
        (format!("{KEEP}\r\nContent-Length: 5, 5{hello}"), "GET", "hello", &["5"], &[]),
        (format!("{KEEP}\r\nContent-Length: 5,5\r\nContent-Length: 5{hello}"), "GET", "hello", &["5"], &[]),
        (format!("{KEEP}\r\nContent-Length: 005{hello}"), "GET", "hello", &["5"], &[]),
        (format!("{KEEP}\r\nContent-Length:  5 \t{hello}"), "GET", "hello", &["5"], &[]),
        (format!("{KEEP}\r\nContent-Length : 5{hello}"), "GET", "hello", &["5"], &[]),
        (format!("{KEEP}\r\nContent-Length: 5, 5\r\n\r\n"), "HEAD", "", &["5"], &[]),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".into(), "GET", "", &[], &[]),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n".into(), "GET", "", &[], &[]),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n".into(), "GET", "", &[], &[]),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7, 7\r\n\r\n".into(), "GET", "", &["7"], &[]),
        (format!("HTTP/1.0 200 OK\r\nContent-Length: 5{hello}"), "GET", "hello", &["5"], &[]),
        (format!("HTTP/1.0 200 OK\r\nConnection: close{hello}"), "GET", "hello", &[], &["chunked"]),
        ("HTTP/1.0 204 No Content\r\n\r\n".into(), "GET", "", &[], &[]),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n".into(), "HEAD", "", &["5"], &[]),
        (format!("{KEEP}\r\nTransfer-Encoding: CHUNKED\r\n\r\n{CHUNKS}"), "GET", "hello", &[], &["chunked"]),
        (
            format!("{KEEP}\r\nTransfer-Encoding: , chunked\r\nContent-Length: 5\r\n\r\n{CHUNKS}"),
            "GET",
            "hello",
            &[],
            &["chunked"],
        ),
        (format!("{KEEP}\r\nTransfer-Encoding: gzip\r\n\r\n"), "HEAD", "", &[], &[]),
        (format!("{CLOSE}\r\nTransfer-Encoding: identity{hello}"), "GET", "hello", &[], &["chunked"]),
        (format!("{CLOSE}\r\nTransfer-Encoding:{hello}"), "GET", "hello", &[], &["chunked"]),
    ];
    let fixture = Fixture::new(&cases.iter().map(|(answer, ..)| answer.clone()).collect::<Vec<_>>());
    for (number, (said, method, body, lengths, codings)) in cases.iter().enumerate() {
        let target = format!("/{number}");
        let status = said[9..12].parse::<u16>().unwrap();
        let answer = fixture.icm.client().request(method, &target, &[], b"").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, *body), "{said:?}: {}", answer.head);
        assert!(answer.head.starts_with("HTTP/1.1 ") && answer.complete, "{said:?}: {}", answer.head);
        assert_eq!(answer.all("content-length"), *lengths, "{said:?}: {}", answer.head);
        assert_eq!(answer.all("transfer-encoding"), *codings, "{said:?}: {}", answer.head);
        // A client of HTTP/1.0 takes no chunks.
        let mut old = fixture.icm.client();
        old.send(format!("{method} {target} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let answer = old.read(method).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, *body), "{said:?}: {}", answer.head);
        assert!(answer.all("transfer-encoding").is_empty() || *method == "HEAD", "{said:?}: {}", answer.head);
        let mut h2 = H2::connect(fixture.secure, "localhost", &fixture.acme.ca_file);
        let fields =
            [(":method", *method), (":scheme", "https"), (":authority", "localhost"), (":path", &target)];
        let stream = h2.headers(&fields, true);
        assert_eq!(h2.end_of(stream), StreamEnd::Answer(Some(status), body.as_bytes().to_vec()), "{said:?}");
    }
}

#[test]
fn a_head_without_a_single_reading_is_a_502_asked_for_once() {
    let hello = "\r\n\r\nhello";
    let coded = |coding: &str, head: &str| format!("{head}\r\nTransfer-Encoding: {coding}\r\n\r\n{CHUNKS}");
    let mut answers: Vec<String> = [
        "gzip, chunked",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked, gzip",
        "gzip",
        "xchunked",
        "chunked,",
        "chunked;a=b",
        "identity, chunked",
        "identity",
        "",
    ]
    .into_iter()
    .map(|coding| coded(coding, KEEP))
    .collect();
    answers.push(coded("gzip", CLOSE));
    answers.push(coded("chunked", "HTTP/1.0 200 OK"));
    answers.push(format!("{KEEP}\r\nContent-Length: 9223372036854775808{hello}"));
    answers.push("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".into());
    // Pingora itself finds these.
    for length in ["5\r\nContent-Length: 6", "5, 6", "+5", "5;", "", "-1", "x"] {
        answers.push(format!("{KEEP}\r\nContent-Length: {length}{hello}"));
    }
    let fixture = Fixture::new(&answers);
    for (number, said) in answers.iter().enumerate() {
        let target = format!("/{number}");
        let answer = fixture.icm.client().get(&target);
        assert_eq!(answer.status, 502, "{said:?}: {}", answer.head);
        assert_eq!(answer.header("server"), Some("domino-icm"), "{said:?}: {}", answer.head);
        assert!(answer.text().contains("502"), "{said:?}: {}", answer.text());
        assert_eq!(fixture.asked(number), 1, "{said:?} was asked for again");
        let mut h2 = H2::connect(fixture.secure, "localhost", &fixture.acme.ca_file);
        let fields =
            [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", &target)];
        let stream = h2.headers(&fields, true);
        assert_eq!(h2.end_of(stream).status(), 502, "{said:?}");
    }
    fixture.icm.wait_for_log("malformed response: ");
    let counted = |server: &RecordingServer| {
        fixture.icm.counter_of(&format!("S{}", server.address.port()), "malformed")
    };
    assert_eq!(fixture.servers.iter().map(counted).sum::<u64>(), 2 * answers.len() as u64);
    assert_eq!(fixture.icm.client().get("/ok").status, 200);
}

/// All heads up to the final one, as they came.
fn heads(client: &mut Client) -> String {
    let mut seen = String::new();
    while !seen.ends_with("\r\n\r\n") || seen.rsplit("HTTP/1.1 ").next().is_some_and(|h| h.starts_with('1')) {
        seen.push_str(&String::from_utf8_lossy(&client.read_bytes(1).unwrap()));
    }
    seen
}

#[test]
fn an_interim_answer_names_no_server_and_tells_no_session_to_others() {
    let recorder = RecordingServer::new(|head| {
        if !head.contains("/early") {
            return OK.to_owned();
        }
        let host = head.lines().find_map(|line| line.strip_prefix("X-Server: ")).unwrap_or_default();
        let fields = format!(
            "Link: <http://{host}/a.css>; rel=preload\r\nServer: Lotus-Domino\r\n\
             Strict-Transport-Security: max-age=0\r\nSet-Cookie: DomAuthSessId=A1; path=/\r\n\
             Connection: x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\n"
        );
        format!("HTTP/1.1 103 Early Hints\r\n{fields}HTTP/1.1 102 Processing\r\n{fields}{OK}")
    });
    let icm = Icm::start(recorder.config());
    let server = format!("web1.acme.example:{}", recorder.address.port());
    let mut client = icm.client().host("www.acme.example");
    client.send(client.head("GET", "/early", &[("X-Server", &server)]).as_bytes()).unwrap();
    let seen = heads(&mut client);
    assert!(seen.starts_with("HTTP/1.1 103 ") && seen.contains("HTTP/1.1 102 "), "{seen}");
    assert_eq!(seen.matches("<http://www.acme.example/a.css>; rel=preload").count(), 2, "{seen}");
    assert_eq!(seen.matches("DomAuthSessId~").count(), 2, "{seen}");
    for hidden in ["web1", "DomAuthSessId=", "Domino", "Strict-Transport", "x-hop", "X-Hop", "Transfer-Enc"] {
        assert!(!seen.contains(hidden), "{hidden}: {seen}");
    }
    assert_eq!(seen.matches("Content-Length: ").count(), 1, "{seen}");
    // HTTP/1.0 knows none.
    let mut old = icm.client();
    old.send(format!("GET /early HTTP/1.0\r\nHost: x\r\nX-Server: {server}\r\n\r\n").as_bytes()).unwrap();
    let answer = old.read("GET").unwrap();
    assert_eq!((answer.status, answer.informational.len()), (200, 0), "{}", answer.head);
}

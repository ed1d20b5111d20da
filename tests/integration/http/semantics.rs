//! HTTP semantics of the proxy itself: methods it answers, Max-Forwards, hop-by-hop fields, protocol switches, size limits.

use crate::support::*;

fn start(change: impl FnOnce(&mut serde_yaml::Value)) -> (RecordingServer, Icm) {
    let recorder = RecordingServer::new(|head| match head {
        h if h.contains("/switch") => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe"
                .into()
        }
        h if h.contains("/continue") => format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"),
        _ => OK.to_owned(),
    });
    let mut config = recorder.config();
    change(&mut config);
    let icm = Icm::start(config);
    (recorder, icm)
}

fn raw(icm: &Icm, bytes: &str) -> Answer {
    let mut client = icm.client();
    client.send(bytes.as_bytes()).unwrap();
    client.read("GET").unwrap_or_else(|e| panic!("{bytes:?}: {e:?}"))
}

/// The only request that a server received with this in it, without the bytes of its neighbours.
fn received(recorder: &RecordingServer, text: &str) -> String {
    let taped = recorder.with(text);
    assert_eq!(taped.len(), 1, "{text}: {taped:?}");
    taped[0].clone()
}

#[test]
fn methods_that_no_server_should_see_are_answered_here() {
    let (recorder, icm) = start(|_| {});
    let trace = raw(&icm, "TRACE /none HTTP/1.1\r\nHost: x\r\nCookie: secret=1\r\n\r\n");
    assert_eq!(trace.status, 405);
    assert!(
        trace.header("allow").is_some_and(|a| a.contains("GET") && !a.contains("TRACE")),
        "{}",
        trace.head
    );
    assert!(!trace.text().contains("secret"), "it is not echoed");
    let long = "M".repeat(33);
    assert_eq!(raw(&icm, &format!("{long} /none HTTP/1.1\r\nHost: x\r\n\r\n")).status, 501);
    assert_eq!(raw(&icm, "CONNECT none.example:25 HTTP/1.1\r\nHost: none.example:25\r\n\r\n").status, 405);
    assert_eq!(raw(&icm, "GET /none HTTP/1.1\r\nHost: a:b\r\n\r\n").status, 400);
    assert!(recorder.with("none").is_empty());
    assert_eq!(icm.client().request("PROPFIND", "/dav", &[], b"").unwrap().status, 200);
}

#[test]
fn hops_are_counted_down_and_the_last_one_answers() {
    let (recorder, icm) = start(|_| {});
    let last = raw(&icm, "OPTIONS /none HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!(
        (last.status, last.header("content-length"), last.header("server")),
        (200, Some("0"), Some("domino-icm"))
    );
    assert!(last.header("allow").is_some_and(|a| a.contains("OPTIONS")) && !last.closed, "{}", last.head);
    assert_eq!(raw(&icm, "OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n").status, 200);
    assert_eq!(raw(&icm, "TRACE /none HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n").status, 405);
    assert!(recorder.with("none").is_empty());
    assert_eq!(raw(&icm, "OPTIONS /counted HTTP/1.1\r\nHost: x\r\nMax-Forwards: 7\r\n\r\n").status, 200);
    assert!(received(&recorder, "/counted").to_lowercase().contains("max-forwards: 6\r\n"));
}

#[test]
fn an_expectation_is_met_by_the_server_or_fails_and_ends_here_for_http_1_0() {
    let (recorder, icm) = start(|_| {});
    let mut client = icm.client();
    let head = client.head("POST", "/continue", &[("Expect", "100-continue"), ("Content-Length", "4")]);
    client.send(format!("{head}body").as_bytes()).unwrap();
    let answer = client.read("POST").unwrap();
    assert_eq!((answer.status, answer.informational), (200, vec![100]));
    let old = raw(
        &icm,
        "POST /continue-old HTTP/1.0\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    );
    assert_eq!((old.status, old.informational.len()), (200, 0), "HTTP/1.0 knows no 1xx: {}", old.head);
    let taped = received(&recorder, "/continue-old").to_lowercase();
    assert!(!taped.split("/continue-old").nth(1).unwrap().contains("expect"), "{taped}");
    let odd = raw(&icm, "POST /odd HTTP/1.1\r\nHost: x\r\nExpect: payment\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(odd.status, 417);
    assert!(recorder.with("/odd").is_empty());
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_server_and_is_refused_before_where_the_body_is_too_large() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.limits.request_body", "1KiB");
    let icm = Icm::start(config);
    let mut client = icm.client();
    let target = "/sales/orders.nsf?OpenDatabase&echo=json";
    client
        .send(client.head("POST", target, &[("Expect", "100-continue"), ("Content-Length", "4")]).as_bytes())
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("\r\n\r\n") {
        seen.push_str(&String::from_utf8_lossy(&client.read_bytes(1).unwrap()));
    }
    assert!(seen.starts_with("HTTP/1.1 100"), "{seen}");
    client.send(b"body").unwrap();
    assert_eq!(client.read("POST").unwrap().json()["body_length"], 4);
    let mut client = icm.client();
    client
        .send(
            client.head("POST", target, &[("Expect", "100-continue"), ("Content-Length", "4000")]).as_bytes(),
        )
        .unwrap();
    let refused = client.read("POST").unwrap();
    assert_eq!((refused.status, refused.informational.len(), refused.closed), (413, 0, true));
}

#[test]
fn an_upgrade_that_is_not_asked_for_in_both_fields_is_not_passed_on() {
    let (recorder, icm) = start(|_| {});
    for (n, fields) in [
        "Upgrade: websocket\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
        "Connection: Upgrade\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let answer = raw(&icm, &format!("GET /plain-{n} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        assert_eq!(answer.status, 200, "{fields}");
        let taped = received(&recorder, &format!("/plain-{n}")).to_lowercase();
        let own = taped.split("get /").find(|r| r.starts_with(&format!("plain-{n}"))).unwrap().to_owned();
        assert!(
            !own.contains("upgrade") && !own.contains("connection:") && !own.contains("http2-settings"),
            "{own}"
        );
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_bad_gateway_and_the_connection_to_the_server_ends() {
    let (recorder, icm) = start(|_| {});
    for fields in ["", "Upgrade: websocket\r\n", "Connection: Upgrade\r\nUpgrade: other\r\n"] {
        let mut client = icm.client();
        let both = format!(
            "GET /switch HTTP/1.1\r\nHost: x\r\n{fields}\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        client.send(both.as_bytes()).unwrap();
        let answer = client.read("GET").unwrap();
        assert_eq!((answer.status, answer.closed), (502, true), "{fields:?}: {}", answer.head);
    }
    for taped in recorder.with("/switch") {
        let behind = taped.split("/switch").nth(1).unwrap();
        assert!(
            behind.ends_with("\r\n\r\n") && behind.matches("\r\n\r\n").count() == 1,
            "more reached it: {taped}"
        );
    }
    // One that was asked for works.
    let mut client = icm.client();
    client
        .send(b"GET /switch-asked HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    assert_eq!(client.read("GET").unwrap().status, 101);
    assert_eq!(client.read_bytes(5).unwrap(), b"frame");
}

#[test]
fn connection_takes_away_what_it_may_and_nothing_else() {
    let (recorder, icm) = start(|c| set(c, "clusters.0.headers.via", "icm1"));
    let fields = "Connection: X-Own, Authorization, Cookie, Via, X-Forwarded-For\r\nX-Own: 1\r\nCookie: a=1\r\n\
                  Authorization: Basic eA==\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nTE: trailers\r\nContent-Length: 4\r\n";
    assert_eq!(raw(&icm, &format!("POST /hop HTTP/1.1\r\nHost: x\r\n{fields}\r\nbody")).status, 200);
    let taped = received(&recorder, "/hop").to_lowercase();
    for kept in [
        "authorization: basic",
        "cookie: a=1",
        "host: x\r\n",
        "content-length: 4",
        "via: 1.1 icm1",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(taped.contains(kept), "{kept}: {taped}");
    }
    for gone in ["x-own", "keep-alive", "proxy-authorization", "\r\nte:", "\r\nconnection:"] {
        assert!(!taped.contains(gone), "{gone}: {taped}");
    }
    // Without the last three the request would have another meaning, so no server has to decide.
    let framing = ["Host", "X-Own, content-length", "close,\tTransfer-Encoding"];
    for bad in ["\"x\"", "a,b,c,d,e,f,g,h,i", ":path"].into_iter().chain(framing) {
        let request = format!("GET /none HTTP/1.1\r\nHost: x\r\nConnection: {bad}\r\n\r\n");
        assert_eq!(raw(&icm, &request).status, 400, "{bad}");
    }
    assert!(recorder.with("/none").is_empty());
    let closing = raw(&icm, "GET /closing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(closing.status == 200 && closing.closed, "{}", closing.head);
    let old = raw(&icm, "GET /old HTTP/1.0\r\nHost: x\r\n\r\n");
    assert_eq!(old.status, 200);
    assert!(received(&recorder, "/old").to_lowercase().contains("via: 1.0 icm1"));
}

#[test]
fn a_body_over_the_limit_is_refused_whether_its_length_was_said_or_not() {
    let (recorder, icm) = start(|c| set(c, "clusters.0.limits.request_body", "1KiB"));
    let body = vec![b'x'; 1025];
    let said = icm.client().request("POST", "/none", &[], &body).unwrap();
    assert_eq!((said.status, said.closed), (413, true));
    assert!(recorder.with("/none").is_empty());
    let chunked = |size: usize| format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size)).into_bytes();
    let send =
        |size| icm.client().request("POST", "/chunked", &[("Transfer-Encoding", "chunked")], &chunked(size));
    assert_eq!(send(1024).unwrap().status, 200);
    let unsaid = send(1025).unwrap();
    assert_eq!((unsaid.status, unsaid.closed), (413, true));
    assert!(recorder.with("/chunked").iter().map(|t| t.matches("\r\n0\r\n\r\n").count()).sum::<usize>() <= 1);
    assert_eq!(icm.client().request("POST", "/fits", &[], &body[..1024]).unwrap().status, 200);
}

#[test]
fn a_server_with_its_hands_full_gives_a_quick_503_that_says_when_to_come_again() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.limits", "{ max_requests_in_flight_per_server: 1, queue_timeout: 200ms }");
    let icm = Icm::start(config);
    let target = "/legacy/archive2009.nsf?OpenDatabase";
    let mut slow = icm.client();
    slow.send(slow.head("GET", &format!("{target}&delay=4000"), &[]).as_bytes()).unwrap();
    let mut refused = None;
    let full = eventually(MAX_WAIT, || {
        let answer = icm.client().get(target);
        let is_full = answer.status == 503;
        refused = Some(answer);
        is_full
    });
    let refused = refused.unwrap();
    assert!(full && refused.header("retry-after").is_some(), "{}", refused.head);
    assert_eq!(slow.read("GET").unwrap().status, 200);
    assert_eq!(icm.client().get(target).status, 200, "the place is free again");
}

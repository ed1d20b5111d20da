//! Requests in the odd forms that HTTP allows, and those that it does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod support;

use support::*;

const JSON: &str = "Accept: application/json\r\n";

fn start() -> (Acme, Icm) {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    (acme, icm)
}

/// Sends these octets as they are.
fn raw(icm: &Icm, octets: &str) -> Answer {
    let mut client = icm.client();
    client.send(octets.as_bytes()).unwrap();
    client.read("GET").unwrap_or_else(|e| panic!("{octets:?}: {e:?}"))
}

fn header<'a>(echo: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let all = echo["headers"].as_array().unwrap();
    all.iter()
        .filter(|h| h[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .map(|h| h[1].as_str().unwrap())
        .collect()
}

#[test]
fn an_absolute_target_is_sent_on_in_origin_form_with_its_own_host() {
    let (_acme, icm) = start();
    for (target, path) in [
        ("http://www.acme.example/sales/orders.nsf/v?OpenView&a=%2f", "/sales/orders.nsf/v?OpenView&a=%2f"),
        ("HTTP://www.acme.example/sales%5Corders.nsf", "/sales%5Corders.nsf"),
        ("http://www.acme.example", "/"),
        ("http://www.acme.example?echo=1", "/?echo=1"),
    ] {
        let answer = raw(&icm, &format!("GET {target} HTTP/1.1\r\nHost: www.acme.example\r\n{JSON}\r\n"));
        assert_eq!(answer.status, 200, "{target}: {}\n{}", answer.head, answer.text());
        let echo = answer.json();
        assert_eq!(echo["target"], path, "{target}");
        assert_eq!(header(&echo, "host"), ["www.acme.example"], "{target}");
        assert_eq!(header(&echo, "x-forwarded-host"), ["www.acme.example"]);
    }
}

#[test]
fn a_client_of_http_1_0_is_served() {
    let (_acme, icm) = start();
    let answer =
        raw(&icm, "GET /sales/orders.nsf?OpenDatabase&chunked=1 HTTP/1.0\r\nHost: www.acme.example\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert!(answer.header("transfer-encoding").is_none(), "it knows no chunks: {}", answer.head);
    assert!(answer.text().ends_with("</html>\n") && answer.closed, "{}", answer.head);
    let answer = raw(
        &icm,
        "GET /sales/orders.nsf HTTP/1.0\r\nHost: www.acme.example\r\nConnection: keep-alive\r\n\r\n",
    );
    assert!(answer.status == 200 && answer.closed && answer.complete);
}

#[test]
fn what_two_parsers_could_read_in_two_ways_is_refused_and_reaches_no_server() {
    let (acme, icm) = start();
    let with_host = |line: &str, more: &str| format!("{line}\r\nHost: www.acme.example\r\n{more}\r\n");
    let bad = [
        "GET /refused/a.nsf HTTP/1.1\r\n\r\n".to_owned(),
        "GET /refused/a.nsf HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
        "GET /refused/a.nsf HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n".to_owned(),
        "GET /refused/a.nsf HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        with_host("GET /refused/../a.nsf HTTP/1.1", ""),
        with_host("GET /refused/%2e%2E/a.nsf HTTP/1.1", ""),
        with_host("GET /refused/..%5Ca.nsf HTTP/1.1", ""),
        with_host("GET /refused/.%2fa.nsf HTTP/1.1", ""),
        with_host("GET /refused\\..\\a.nsf HTTP/1.1", ""),
        with_host("GET /refused/a.nsf/.. HTTP/1.1", ""),
        with_host("GET /refused/a%00.nsf HTTP/1.1", ""),
        with_host("GET /refused/a.nsf/%0d%0aX HTTP/1.1", ""),
        with_host("GET /refused/%7f HTTP/1.1", ""),
        with_host("GET refused/a.nsf HTTP/1.1", ""),
        with_host("GET ftp://www.acme.example/refused HTTP/1.1", ""),
        with_host("GET http:///refused HTTP/1.1", ""),
        with_host("GET http://www.acme.example\\refused HTTP/1.1", ""),
        with_host("POST /refused HTTP/1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")
            + "0\r\n\r\n",
        with_host("POST /refused HTTP/1.1", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n")
            + "0\r\n\r\n",
        with_host("POST /refused HTTP/1.1", "Content-Length: 5\r\nContent-Length: 6\r\n") + "hello",
    ];
    for octets in &bad {
        let answer = raw(&icm, octets);
        assert_eq!(answer.status, 400, "{octets:?}: {}", answer.head);
    }
    for server in &acme.servers {
        let reached =
            acme.requests(&server.name).into_iter().filter(|r| r["target"].to_string().contains("refused"));
        assert_eq!(reached.collect::<Vec<_>>(), Vec::<serde_json::Value>::new());
    }
}

#[test]
fn options_of_the_whole_server_is_passed_on() {
    let (_acme, icm) = start();
    let answer = raw(&icm, "OPTIONS * HTTP/1.1\r\nHost: www.acme.example\r\n\r\n");
    assert!(answer.server().starts_with("Web"), "{}", answer.head);
}

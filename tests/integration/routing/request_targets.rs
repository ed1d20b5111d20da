//! Request targets in every form that HTTP allows, and in forms that it forbids.

use crate::support::*;

const JSON: &str = "Accept: application/json\r\n";

fn start() -> (Acme, Icm) {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    (acme, icm)
}

/// Sends these bytes as they are.
fn raw(icm: &Icm, bytes: &str) -> Answer {
    let mut client = icm.client();
    client.send(bytes.as_bytes()).unwrap();
    client.read("GET").unwrap_or_else(|e| panic!("{bytes:?}: {e:?}"))
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
fn an_absolute_target_may_spell_its_host_in_another_case_than_host() {
    let (_acme, icm) = start();
    let answer = raw(
        &icm,
        &format!(
            "GET http://WWW.Acme.Example/sales/orders.nsf?a HTTP/1.1\r\nHost: www.acme.EXAMPLE\r\n{JSON}\r\n"
        ),
    );
    assert_eq!(answer.status, 200, "{}", answer.head);
    let echo = answer.json();
    assert_eq!(
        (&echo["target"], header(&echo, "host")),
        (&"/sales/orders.nsf?a".into(), vec!["www.acme.EXAMPLE"])
    );
}

#[test]
fn a_target_that_lacks_its_encoding_is_encoded_and_every_other_one_is_served_or_refused_by_us() {
    let (_acme, icm) = start();
    let get =
        |target: &str| raw(&icm, &format!("GET {target} HTTP/1.1\r\nHost: www.acme.example\r\n{JSON}\r\n"));
    let search = "/sales/orders.nsf/v?SearchView&Query=\"exact+phrase\"&x=<a>`";
    let answer = get(search);
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.json()["target"], "/sales/orders.nsf/v?SearchView&Query=%22exact+phrase%22&x=%3Ca%3E`");
    // Two at once on one connection, the second with a body.
    let mut client = icm.client();
    let body = "Content-Length: 4\r\n";
    let both = [
        client.head("GET", "/sales/orders.nsf/\"?a", &[("Accept", "application/json")]),
        client.head(
            "POST",
            "/sales/orders.nsf/<?b",
            &[("Accept", "application/json"), ("Content-Length", "4")],
        ),
    ];
    assert!(both[1].contains(body));
    client.send(format!("{}{}body", both[0], both[1]).as_bytes()).unwrap();
    assert_eq!(client.read("GET").unwrap().json()["target"], "/sales/orders.nsf/%22?a");
    let second = client.read("POST").unwrap().json();
    assert_eq!((&second["target"], &second["body_length"]), (&"/sales/orders.nsf/%3C?b".into(), &4.into()));
    // In every other respect, only icm answers, and every request is in the access log.
    for byte in (0x21..0x7F_u8).map(char::from) {
        for (n, target) in [format!("/sales/orders.nsf/x{byte}y"), format!("/sales/orders.nsf?x{byte}y")]
            .into_iter()
            .enumerate()
        {
            let answer = get(&target);
            let served = answer.status == 200;
            let ours = answer.header("server") == Some("domino-icm") && !answer.body.is_empty();
            assert!(served || ours, "{target}: {}", answer.head);
            let needs = match byte {
                '#' => false,
                // A dot of its own, or two databases.
                '\\' | '/' | '?' | '!' if n == 0 => continue,
                _ => true,
            };
            assert_eq!(served, needs, "{target}: {}", answer.head);
        }
    }
}

#[test]
fn a_head_that_pingora_would_refuse_without_a_word_is_refused_by_us() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits", "{ header_count: 5000, header_bytes: 4MiB, uri_bytes: 1MiB }");
    let icm = Icm::start(config);
    let many: String = (0..300).map(|n| format!("X-{n}: y\r\n")).collect();
    let large: String = (0..200).map(|n| format!("X-{n}: {}\r\n", "y".repeat(8_000))).collect();
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{large}\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(66_000)), 414),
    ] {
        let mut client = icm.client();
        // The other side may answer and close before it has read everything.
        let _ = client.send(head.as_bytes());
        let answer = client.read("GET").unwrap();
        assert_eq!((answer.status, answer.header("server")), (status, Some("domino-icm")), "{}", answer.head);
        icm.wait_for_log(&format!("\"status\":{status}"));
    }
}

#[test]
fn a_client_of_http_1_0_without_host_is_served_by_the_cluster_that_takes_all_names() {
    let (_acme, icm) = start();
    // HAProxy's `option httpchk`.
    let answer = raw(&icm, "OPTIONS / HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, 200, "{}", answer.head);
    let answer = raw(&icm, &format!("GET /sales/orders.nsf?OpenDatabase HTTP/1.0\r\n{JSON}\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.head);
    // The name by which the client reached us, so that links work.
    let local = icm.address.to_string();
    let echo = answer.json();
    assert_eq!((header(&echo, "host"), header(&echo, "x-forwarded-host")), (vec![&*local], vec![&*local]));
    // HTTP/1.1 must name its host.
    assert_eq!(raw(&icm, "GET / HTTP/1.1\r\n\r\n").status, 400);

    let acme = Acme::built_in();
    let mut named = config(&acme);
    set(&mut named, "clusters.0.hostnames", "[www.acme.example]");
    let icm = Icm::start(named);
    let answer = raw(&icm, "OPTIONS / HTTP/1.0\r\n\r\n");
    assert_eq!((answer.status, answer.header("server")), (421, Some("domino-icm")), "{}", answer.head);
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
    for bytes in &bad {
        let answer = raw(&icm, bytes);
        assert_eq!(answer.status, 400, "{bytes:?}: {}", answer.head);
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

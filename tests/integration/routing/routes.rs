//! `routes`: which rule takes a request, what it does with it, and what explain, log, metrics and status say.

use std::path::Path;

use crate::support::*;
use serde_json::json;

/// `web/shop.nsf` is at another path on Web2, and two databases share `twins.nsf`.
const SCENARIO: &str = "
mark_columns: true
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
  - { name: Web3/Acme, https: false }
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: all.nsf, replica_id: C1257A000041D201, replicas: all }
  - path: web/shop.nsf
    replica_id: C1257A000041D202
    replicas: [Web1, { server: Web2, path: apps/shop.nsf }]
  - { path: twins.nsf, replica_id: C1257A000041D203, replicas: [Web1] }
  - { path: twins.nsf, replica_id: C1257A000041D204, replicas: [Web3] }
";

fn start(routes: &str) -> (Acme, Icm) {
    start_scenario(SCENARIO, &[("routes", routes)])
}

/// A browser whose first request only one server could take.
fn browser_on(acme: &Acme, icm: &Icm, target: &str, server: &str) -> Browser {
    for other in ["Web1", "Web2", "Web3"].into_iter().filter(|other| *other != server) {
        acme.fault(other, json!("refuse"));
    }
    let mut browser = Browser::new(icm.address);
    assert_eq!(browser.get(target).served_by(), server, "{target}");
    acme.heal("all");
    browser
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn wait_for_directory(icm: &Icm) {
    let loaded = || icm.admin("/status").json()["clusters"][0]["directory"]["loaded"] == true;
    assert!(eventually(MAX_WAIT, loaded));
}

fn explain(icm: &Icm, url: &str) -> serde_json::Value {
    let answer = icm.admin(&format!("/explain?url={}", encoded(url)));
    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    answer.json()
}

/// The target that a server received, and the server.
fn received(browser: &mut Browser, target: &str) -> (String, String) {
    let answer = browser.get_with(target, ("Accept", "application/json"));
    assert_eq!(answer.status, 200, "{target}: {}\n{}", answer.head, answer.text());
    (answer.json()["target"].as_str().unwrap().to_owned(), answer.served_by())
}

#[test]
fn a_route_names_the_database_of_a_vanity_url_and_servers_get_the_url_as_it_came() {
    let (acme, icm) = start(
        "[{ name: shop, match: { path_prefix: /shop }, database: web/shop.nsf },
          { name: by_id, match: { path_prefix: /books }, database: C1257A000041D202 },
          { name: twins, match: { path_prefix: /twins }, database: twins.nsf }]",
    );
    wait_for_directory(&icm);
    // Only the holders get it, and nothing of the path is replaced where that of the database differs.
    for target in ["/shop/cart?OpenView&x=%2f", "/SHOP//a%20b", "/shop", "/books?Open"] {
        for server in ["Web1", "Web2"] {
            let mut browser = browser_on(&acme, &icm, "/web/shop.nsf", server);
            let (seen, by) = received(&mut browser, target);
            assert_eq!((seen.as_str(), by.as_str()), (target, server), "{target}");
        }
    }
    // Affinity is that of the database: the URL with its name and the vanity URL share one entry.
    let mut browser = browser_on(&acme, &icm, "/shop/", "Web2");
    for target in ["/web/shop.nsf?OpenDatabase", "/shop/x?OpenPage", "/books/y", "/shop/"] {
        assert_eq!(browser.server_of(target), "Web2/Acme", "{target}");
    }
    let mut browser = browser_on(&acme, &icm, "/web/shop.nsf", "Web1");
    for _ in 0..5 {
        assert_eq!(browser.server_of("/shop/x"), "Web1/Acme");
    }
    // Failover, and nobody else when both holders are gone.
    acme.fault("Web1", json!("refuse"));
    assert_eq!(browser.get("/shop/x").served_by(), "Web2");
    acme.fault("Web2", json!("refuse"));
    assert_eq!(Browser::new(icm.address).get("/shop/x").status, 503);
    acme.heal("all");
    // Two databases have this path: no link of a page could name one of them.
    assert_eq!(icm.client().get("/twins/a").status, 409);
    let explained = explain(&icm, "/shop/cart?OpenView");
    assert_eq!((&explained["route"], &explained["outcome"]), (&json!("shop"), &json!("serve")));
    assert_eq!(explained["database"]["path"], "web/shop.nsf");
    assert!(explained["candidates"].as_array().unwrap().iter().all(|c| c["target"].is_null()), "{explained}");
}

#[test]
fn marks_and_writes_count_for_the_database_that_a_route_names() {
    let routes = "[{ match: { path_prefix: /shop }, database: web/shop.nsf },
                   { match: { path_prefix: /none }, database: none.nsf },
                   { match: { path_prefix: /hidden }, database: C1257A000041D201 },
                   { match: { path: /all.nsf/moved }, redirect: /shop/ }]";
    let access = "[{ name: hidden, deny: { database: all.nsf } }]";
    let settings = [("routes", routes), ("unknown_database", "not_found"), ("access", access)];
    let (acme, icm) = start_scenario(SCENARIO, &settings);
    wait_for_directory(&icm);
    let answer = icm.client().with("Accept", "application/json").get("/none/x");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("unknown_database")));
    // Access rules are about the database that is opened, whatever the URL says, and come before the action.
    for target in ["/all.nsf", "/hidden/x", "/all.nsf/moved"] {
        assert_eq!(icm.client().get(target).status, 403, "{target}");
        assert_eq!(explain(&icm, target)["access"]["rule"], "hidden", "{target}");
    }
    // A form that is posted below the route is a write to the database.
    let mut browser = browser_on(&acme, &icm, "/shop/", "Web1");
    browser.post("/shop/Form?CreateDocument", "subject=x");
    let write = browser.cookies.get("ICM-write").cloned();
    assert!(write.is_some(), "{:?}", browser.cookies);
    let cookies: Vec<String> = browser.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let target = format!("/explain?url=/web/shop.nsf&cookie={}", encoded(&cookies.join("; ")));
    assert_eq!(icm.admin(&target).json()["own_write"]["server"], "Web1/Acme");
    let id = "C1257A000041D202";
    let marked =
        json!({ "server": "Web1/Acme", "path": "web/shop.nsf", "replica_id": id, "mark": "out_of_service" });
    acme.ask("POST", "/databases", Some(&marked));
    let moved = || Browser::new(icm.address).get("/shop/").served_by() == "Web2";
    assert!(eventually(MAX_WAIT, || (0..8).all(|_| moved())), "{}", explain(&icm, "/shop/"));
}

#[test]
fn only_the_servers_of_a_route_get_its_requests_whatever_cookies_say() {
    let (acme, icm) = start(
        "[{ name: sync, match: { path_prefix: /Microsoft-Server-ActiveSync }, servers: [Web1/Acme, Web2/Acme] },
          { name: one, match: { path: /only/* }, database: all.nsf, servers: Web2/Acme,
            headers: { set: { X-Route: one }, to_server: { set: { X-Team: Web }, remove: [X-Odd] } } }]",
    );
    wait_for_directory(&icm);
    let mut browser = browser_on(&acme, &icm, "/all.nsf", "Web3");
    for _ in 0..5 {
        assert_ne!(browser.server_of("/Microsoft-Server-ActiveSync?Cmd=Ping"), "Web3/Acme");
        assert_eq!(browser.get_with("/only/x", ("Accept", "text/plain")).served_by(), "Web2");
    }
    let fields = [("Accept", "application/json"), ("X-Odd", "1"), ("X-Team", "client")];
    let answer = icm.client().get_with("/only/x", &fields);
    let received = answer.json()["headers"].to_string().to_lowercase();
    assert!(answer.header("x-route") == Some("one") && !received.contains("x-odd"), "{}", answer.head);
    assert!(received.contains("web") && !received.contains("\"client\""), "{received}");
    let explained = explain(&icm, "/only/x");
    let verdict = |name: &str| {
        let all = explained["candidates"].as_array().unwrap();
        all.iter().find(|c| c["server"] == name).map(|c| c["verdict"].as_str().unwrap().to_owned())
    };
    for left_out in ["Web1/Acme", "Web3/Acme"] {
        let verdict = verdict(left_out).unwrap_or_else(|| panic!("{explained}"));
        assert_eq!(verdict, "dropped: not in the route's servers");
    }
    assert_eq!(explained["server"], "Web2/Acme");
    let text = icm_cli(&["explain", "-c", icm.file.to_str().unwrap(), "/only/x"]).out;
    assert!(text.contains("\nroute     one\n") && text.contains("not in the route's servers"), "{text}");
    // Without its servers there is nobody, although others answer.
    acme.fault("Web2", json!("refuse"));
    assert_eq!(icm.client().get("/only/x").status, 503);
}

#[test]
fn a_route_has_timeouts_of_its_own_in_both_directions() {
    let acme = Acme::start(THREE_SERVERS);
    let mut config = config(&acme);
    let failover = "{ response_timeout: 1s, body_timeout: 1s, attempts: 1, connect_timeout: 1s }";
    set(&mut config, "clusters.0.failover", failover);
    let routes = "[{ match: { path_prefix: /slow }, response_timeout: 1m, body_timeout: off },
                   { match: { path_prefix: /quick }, response_timeout: 200ms }]";
    set(&mut config, "clusters.0.routes", routes);
    let icm = Icm::start(config);
    let status = |target: &str| icm.client().get(target).status;
    assert_eq!(status("/slow?Open&delay=2500"), 200);
    assert_eq!(status("/other?Open&delay=8000"), 504);
    assert_eq!(status("/quick?Open&delay=900"), 504);
    let body = icm.client().get("/slow?Open&size=3000&drip=2000");
    assert_eq!((body.status, body.body.len(), body.complete), (200, 3000, true));
    let cut = icm.client().request("GET", "/other?Open&size=3000&drip=15000", &[], b"");
    assert!(matches!(cut, Err(Failure::Truncated(_))), "{cut:?}");
    let upload = vec![b'a'; 300_000];
    let answer = icm.client().request("POST", "/slow?Open&delay=2500", &[], &upload).unwrap();
    assert_eq!(answer.status, 200, "an upload that takes Pingora's loop");
}

#[test]
fn routes_answer_with_redirects_texts_pages_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("maintenance.html");
    std::fs::write(&page, "<!doctype html><title>Maintenance</title>").unwrap();
    let routes = routes_that_answer(&page);
    let (_acme, icm) = start(&routes);
    let get = |target: &str| icm.client().host("www.acme.example:8080").get(target);
    for (target, status, location) in [
        ("/old/a%20b?x=1&y", 302, "https://new.acme.example/old/a%20b?x=1&y"),
        ("/moved", 301, "/new.html"),
        ("/port/x?q", 307, "https://www.acme.example:9443/port/x"),
        ("/local//evil.example/x", 302, "/local//evil.example/x"),
        ("//local/evil.example", 302, "/local/evil.example"),
        ("/\\local/x", 302, "/local/x"),
    ] {
        let answer = get(target);
        assert_eq!((answer.status, answer.header("location")), (status, Some(location)), "{target}");
        let stored = answer.header("cache-control");
        assert_eq!(stored, (status != 301).then_some("no-store"), "{target}");
        assert_eq!(answer.header("content-length"), Some("0"));
    }
    let down = get("/down/x");
    assert_eq!((down.status, down.text().contains("Maintenance")), (503, true));
    assert_eq!(down.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!((down.header("retry-after"), down.header("x-robots-tag")), (Some("300"), Some("noindex")));
    assert_eq!((down.header("cache-control"), down.header("etag")), (Some("no-store"), None));
    let head = icm.client().request("HEAD", "/down/x", &[], b"").unwrap();
    assert_eq!((head.status, head.body.len()), (503, 0));
    assert_eq!(head.header("content-length"), down.header("content-length"));
    // A post whose body is not read: the connection ends with the answer.
    let post = icm.client().request("POST", "/down/x", &[], &vec![b'a'; 100_000]).unwrap();
    assert_eq!((post.status, post.header("connection")), (503, Some("close")));
    let text = get("/robots.txt");
    assert_eq!((text.status, text.text().as_str()), (200, "User-agent: *\nDisallow: /\n"));
    let etag = text.header("etag").unwrap().to_owned();
    for (tag, status) in
        [(etag.as_str(), 304), (&format!("\"a\", W/{etag}"), 304), ("*", 304), ("\"a\"", 200)]
    {
        let answer = icm.client().get_with("/robots.txt", &[("If-None-Match", tag)]);
        assert_eq!((answer.status, answer.header("etag")), (status, Some(etag.as_str())), "{tag}");
    }
    let denied = icm.client().with("Accept", "application/json").get("/closed/x");
    assert_eq!((denied.status, denied.json()["error"].as_str()), (403, Some("access_denied")));
    assert_eq!(denied.header("x-closed"), Some("shut"));
    assert_eq!(icm.client().request("PUT", "/only-get", &[], b"").unwrap().status, 403);
    assert_eq!(icm.client().get("/only-get").status, 200, "the condition names the method");
    let client = icm.client().with("X-Team", "Sales East").get("/team");
    assert_eq!(client.status, 302, "a field");
    assert_eq!(icm.client().with("If-None-Match", "\"x-1\"").get("/team").status, 403, "an unread field");
    assert_routes_are_shown(&icm);
    // The page is read again, and its count goes on.
    std::fs::write(&page, "<!doctype html><title>Back at 6</title>").unwrap();
    icm.signal("HUP");
    assert!(eventually(MAX_WAIT, || get("/down/x").text().contains("Back at 6")));
    let count = icm.admin("/status").json()["clusters"][0]["routes"][4]["requests"].as_u64().unwrap();
    assert!(count > 3, "{count}");
}

fn routes_that_answer(page: &Path) -> String {
    format!(
        "[{{ name: old, match: {{ path_prefix: /old }}, redirect: 'https://new.acme.example{{path}}{{query}}' }},
          {{ name: moved, match: {{ path: /moved }}, redirect: {{ to: /new.html, status: 301 }} }},
          {{ match: {{ path_prefix: /port }}, redirect: {{ to: 'https://{{host}}:9443{{path}}', status: 307 }} }},
          {{ match: {{ path_prefix: /local }}, redirect: '{{path}}' }},
          {{ name: down, match: {{ path_prefix: /down }},
             respond: {{ status: 503, page: {}, retry_after: 5m, headers: {{ X-Robots-Tag: noindex }} }} }},
          {{ match: {{ path: /robots.txt }}, respond: {{ text: \"User-agent: *\\nDisallow: /\\n\" }} }},
          {{ name: closed, match: {{ path_prefix: /closed }}, deny: true, headers: {{ set: {{ X-Closed: shut }} }} }},
          {{ match: {{ path: /only-get, method: [PUT, DELETE] }}, deny: true }},
          {{ match: {{ path: /team, header: {{ x-team: 'sales*' }} }}, redirect: /sales.nsf }},
          {{ match: {{ path: /team, header: {{ If-None-Match: '*x-1*' }} }}, deny: true }},
          {{ match: {{ path: /own, client: 192.0.2.0/24 }}, redirect: /own.nsf }}]",
        page.display()
    )
}

fn assert_routes_are_shown(icm: &Icm) {
    for (url, outcome, status) in
        [("/old/x", "redirect", 302), ("/down/", "respond", 503), ("/closed/", "access_denied", 403)]
    {
        let explained = explain(icm, url);
        assert_eq!((&explained["outcome"], &explained["status"]), (&json!(outcome), &json!(status)), "{url}");
        assert!(explained["route"].is_string() && explained["cluster"] == "AcmeWeb", "{explained}");
    }
    let conf = icm.file.to_str().unwrap();
    let team = icm_cli(&["explain", "-c", conf, "--header", "X-Team: Sales", "/team"]);
    assert!(team.code == 0 && team.out.contains("answer    redirect (302)"), "{} {}", team.out, team.err);
    let own = icm_cli(&["explain", "-c", conf, "--client", "::ffff:192.0.2.5", "/own"]);
    assert!(own.code == 0 && own.out.contains("answer    redirect (302)"), "{} {}", own.out, own.err);
    let line = "icm_route_requests_total{cluster=\"AcmeWeb\",route=\"closed\"} 1";
    // Counted a moment after the answer.
    let is_counted = || icm.admin("/metrics").text().lines().any(|l| l == line);
    assert!(eventually(MAX_WAIT, is_counted), "{}", icm.admin("/metrics").text());
    let status = icm.admin("/status").json();
    assert_eq!(
        status["clusters"][0]["routes"][0],
        json!({ "name": "old", "action": "redirect", "requests": 1 })
    );
    icm.wait_for_log("\"why\":\"redirect\"");
    let log = icm.log();
    let mut lines = log.lines().filter(|line| line.contains("\"target\":\"/closed/x\""));
    let line: serde_json::Value = serde_json::from_str(lines.next_back().unwrap()).unwrap();
    assert_eq!(
        (&line["route"], &line["page"], &line["cluster"]),
        (&json!("closed"), &json!("access_denied"), &json!("AcmeWeb"))
    );
}

#[test]
fn routes_that_match_nothing_change_no_request_and_no_answer() {
    let acme = Acme::start(SCENARIO);
    let plain = Icm::start(config(&acme));
    let mut with_routes = config(&acme);
    let routes = "[{ match: { path_prefix: /never, header: { X-Never: '*' } }, deny: true },
                   { match: { client: 192.0.2.0/24 }, servers: [Web1/Acme] },
                   { match: { command: Never, query: { a: b } }, redirect: /a }]";
    set(&mut with_routes, "clusters.0.routes", routes);
    let routed = Icm::start(with_routes);
    for icm in [&plain, &routed] {
        wait_for_directory(icm);
    }
    acme.fault("Web2", json!("refuse"));
    acme.fault("Web3", json!("refuse"));
    let what = |icm: &Icm, method: &str, target: &str, body: &[u8]| {
        let fields = [("Accept", "application/json")];
        let answer = icm.client().host("www.acme.example").request(method, target, &fields, body).unwrap();
        let names: Vec<String> = answer.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // What the server received, or the page of the balancer.
        let seen = if page["target"].is_null() { page } else { json!([page["target"], page["headers"]]) };
        (answer.status, names, seen)
    };
    for (method, target, body) in [
        ("GET", "/web/shop.nsf/x?OpenView", &b""[..]),
        ("HEAD", "/web/shop.nsf/x?OpenView", b""),
        ("GET", "/", b""),
        ("GET", "/twins.nsf", b""),
        ("GET", "/no.nsf", b""),
        ("POST", "/all.nsf/Form?CreateDocument", b"subject=a"),
        ("GET", "/a/../b", b""),
        ("OPTIONS", "*", b""),
    ] {
        let (one, other) = (what(&plain, method, target, body), what(&routed, method, target, body));
        assert_eq!(one, other, "{method} {target}");
    }
}

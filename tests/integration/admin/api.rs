//! The admin listener over HTTP: responses, access control, and agreement with `docs/openapi.json`.

use crate::support::*;
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const BEARER: (&str, &str) = ("Authorization", "Bearer 0123456789abcdef0123456789abcdef");
const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));

/// Every page that only reads, with a valid query, except liveness and readiness.
const PAGES: [&str; 14] = [
    "/",
    "/status",
    "/config",
    "/databases?q=a",
    "/metrics",
    "/explain?url=/a.nsf",
    "/audit",
    "/simulate?down=Web1",
    "/events",
    "/history",
    "/statistics",
    "/rehearsal",
    "/servers/Web1/drain",
    "/openapi.json",
];

/// A cluster, `icm` with a token, and the directory of the token file.
fn with_token(admin: Option<String>) -> (Acme, Icm, tempfile::TempDir) {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let dir = tempfile::tempdir().unwrap();
    let token = secret_file(dir.path(), "token", TOKEN);
    set(&mut config, "admin.token_file", &token);
    let port = config["admin"]["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    if let Some(address) = &admin {
        set(&mut config, "admin.address", &format!("{address}:{port}"));
    }
    let mut icm = Icm::start(config);
    icm.admin.set_ip([127, 0, 0, 1].into());
    wait_for(icm.admin);
    (acme, icm, dir)
}

fn ask(icm: &Icm, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let answer = Client::to(icm.admin).request(method, target, headers, b"");
    answer.unwrap_or_else(|e| panic!("{method} {target}: {e:?}"))
}

#[test]
fn every_route_answers_as_openapi_json_describes() {
    let acme = Acme::built_in();
    acme.set("Web2", json!({ "index": 10, "threshold": 20 }));
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "cache", "{}");
    set(&mut config, "admin.history_interval", "100ms");
    let icm = Icm::start(config);
    wait_for(icm.admin);
    assert_eq!(icm.client().get("/sales/orders.nsf").status, 200);
    acme.fault("Web3", json!("refuse"));
    icm.wait_for_state("Web3", "UNREACHABLE");
    let described: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(icm.admin("/openapi.json").json(), described);
    // Every status that is possible without a token; other tests cover the token.
    let requests = [
        ("get", "/", "", &[200][..]),
        ("get", "/status", "", &[200]),
        ("get", "/status", "?events=3", &[200]),
        ("get", "/status", "?events=many", &[400]),
        ("get", "/config", "", &[200]),
        ("get", "/acme/certificates", "", &[403]),
        ("get", "/acme/challenges", "", &[403]),
        ("get", "/databases", "", &[200]),
        ("get", "/databases", "?q=leads&limit=1", &[200]),
        ("get", "/databases", "?q=vacation&scheme=https&cluster=AcmeWeb", &[200]),
        ("get", "/databases", "?limit=0", &[400]),
        ("get", "/explain", "?url=%2Fsales%2Forders.nsf&client=192.0.2.7", &[200]),
        ("get", "/explain", "?url=%2Fsales%2Fleads.nsf", &[200]),
        ("get", "/explain", "", &[400]),
        ("get", "/explain", "?url=%2Fa.nsf&method=POST&host=www.acme.example&cookie=x&referer=y", &[200]),
        ("get", "/audit", "?limit=2", &[200]),
        ("get", "/audit", "?limit=some", &[400]),
        ("get", "/simulate", "?down=Web1,Web4&busy=Web2%2FAcme&restricted=&limit=2", &[200]),
        ("get", "/simulate", "?down=Web9", &[404]),
        ("get", "/simulate", "?limit=-1", &[400]),
        ("get", "/events", "", &[200]),
        ("get", "/events", "?after=1", &[200]),
        ("get", "/events", "?after=yesterday", &[400]),
        ("get", "/history", "", &[200]),
        ("get", "/history", "?since=17", &[200]),
        ("get", "/history", "?since=noon", &[400]),
        ("get", "/statistics", "", &[200]),
        ("get", "/servers/{name}/drain", "", &[200, 404]),
        ("get", "/servers/{name}/drain", "?limit=3", &[200]),
        ("get", "/servers/{name}/drain", "?limit=x", &[400]),
        ("get", "/metrics", "", &[200]),
        ("get", "/openapi.json", "", &[200]),
        ("get", "/livez", "", &[200]),
        ("get", "/readyz", "", &[200]),
        ("get", "/readyz", "?wait_ms=1", &[200]),
        ("get", "/readyz", "?wait_ms=1s", &[400]),
        ("get", "/readyz", "?wait_ms=5001", &[400]),
        ("post", "/servers/{name}/restrict", "", &[200, 404]),
        ("post", "/servers/{name}/release", "", &[200, 404]),
        ("get", "/rehearsal", "", &[200]),
        // Web3 is away; `admin::rehearsal` begins one.
        ("post", "/rehearsal", "?down=Web1&users=5&for=10m", &[409]),
        ("post", "/rehearsal", "?down=Web9&users=5&for=10m", &[404]),
        ("post", "/rehearsal", "?down=Web1&users=60&for=10m", &[400]),
        ("post", "/rehearsal", "?down=Web1", &[400]),
        ("post", "/rehearsal/stop", "", &[409]),
        ("post", "/cache/purge", "?url=%2Ficons%2F*", &[200]),
        ("post", "/cache/purge", "?all=1", &[200]),
        ("post", "/cache/purge", "", &[400]),
        ("post", "/login", "", &[409]),
        ("post", "/logout", "", &[200]),
    ];
    for (path, item) in described["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|m| *m != "parameters") {
            assert!(
                requests.iter().any(|(m, p, _, _)| m == method && p == path),
                "no request for {method} {path}"
            );
        }
    }
    for (method, path, query, statuses) in requests {
        for status in statuses {
            let name = if *status == 404 { "Web9" } else { "Web4" };
            let target = format!("{}{query}", path.replace("{name}", name));
            let answer = ask(&icm, &method.to_uppercase(), &target, &[]);
            assert_eq!(answer.status, *status, "{method} {target}: {}", answer.text());
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
            assert_matches_description(&described, method, path, &answer);
        }
    }
}

/// Checks the content type and body of an answer against the description.
fn assert_matches_description(described: &Value, method: &str, path: &str, answer: &Answer) {
    let response = &described["paths"][path][method]["responses"][answer.status.to_string()];
    let kind = answer.header("content-type").unwrap().split(';').next().unwrap().to_owned();
    let content =
        response["content"].as_object().unwrap_or_else(|| panic!("{method} {path} {}", answer.status));
    let schema = &content.get(&kind).unwrap_or_else(|| panic!("{method} {path}: {kind}"))["schema"];
    let value = if kind == "application/json" { answer.json() } else { Value::String(answer.text()) };
    let faults = schema::faults(described, schema, &value);
    assert!(faults.is_empty(), "{method} {path} {}: {faults:#?}\n{value:#}", answer.status);
}

#[test]
fn head_is_answered_like_get_and_other_methods_are_refused_with_the_allowed_ones() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    wait_for(icm.admin);
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "{}", icm.log());
    let both = ask(&icm, "PUT", "/rehearsal", &[]);
    assert_eq!((both.status, both.header("allow")), (405, Some("GET, HEAD, POST")));
    let only_read = PAGES.iter().filter(|path| **path != "/rehearsal");
    for path in only_read.chain(&["/databases", "/livez", "/readyz"]) {
        let head = ask(&icm, "HEAD", path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0, "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = ask(&icm, method, path, &[]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
            assert!(answer.json()["message"].as_str().unwrap().contains("GET"));
        }
    }
    for path in ["/servers/Web1/restrict", "/servers/Web1/release", "/login", "/logout"] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let answer = ask(&icm, method, path, &[]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method} {path}");
        }
    }
    for path in ["/nothing", "/status/", "/servers/Web1/explode", "/servers/restrict", "//", "/Status"] {
        let answer = ask(&icm, "GET", path, &[]);
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("not_found")), "{path}");
    }
    for target in [
        "/explain",
        "/explain?url=",
        "/explain?url=/a.nsf&scheme=ftp",
        "/explain?url=/a.nsf&client=me",
        "/databases?limit=201",
        "/databases?limit=-1",
        "/databases?from=x",
        "/databases?scheme=gopher",
        "/databases?cluster=Nobody",
        "/status?events=201",
    ] {
        let answer = ask(&icm, "GET", target, &[]);
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("bad_request")), "{target}");
        assert!(answer.json()["message"].as_str().unwrap().len() > 20, "{target}");
    }
    assert_eq!(ask(&icm, "POST", "/servers/%FF/restrict", &[]).status, 400);
}

#[test]
fn the_status_page_forbids_foreign_content_and_framing() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let page = icm.admin("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "script-src 'sha256-"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("server"), Some("domino-icm"));
}

#[test]
fn a_request_with_a_foreign_host_name_reads_and_changes_nothing() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    wait_for(icm.admin);
    let status = |host: &str, target: &str| Client::to(icm.admin).host(host).get(target).status;
    for host in
        ["evil.example", "evil.example:8098", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1"]
    {
        for target in PAGES.iter().chain(&["/nothing"]) {
            assert_eq!(status(host, target), 421, "{host} {target}");
        }
        assert_eq!(status(host, "/livez"), 200, "{host}");
        assert!(eventually(MAX_WAIT, || status(host, "/readyz") == 200), "{host}");
        let verb = Client::to(icm.admin).host(host).post("/servers/Web1/restrict", &[], "");
        assert_eq!(verb.status, 421, "{host}");
    }
    for host in ["localhost", "LOCALHOST:8098", "127.0.0.1", "127.0.0.1:1", "[::1]:8098", "localhost."] {
        assert_eq!(status(host, "/status"), 200, "{host}");
    }
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
}

#[test]
fn off_loopback_everything_except_liveness_and_readiness_needs_the_token() {
    let (_acme, icm, _dir) = with_token(Some("0.0.0.0".to_owned()));
    for target in ["/livez", "/readyz"] {
        assert!(eventually(MAX_WAIT, || ask(&icm, "GET", target, &[]).status == 200), "{target}");
    }
    for target in PAGES.iter().chain(&["/databases", "/nothing"]) {
        for headers in
            [&[][..], &[("Authorization", "Bearer wrong")], &[("Cookie", "icm_admin=9999999999.00")]]
        {
            let answer = ask(&icm, "GET", target, headers);
            assert_eq!(answer.status, 401, "{target} {headers:?}");
            assert!(!answer.text().contains("Web1"), "{target}");
        }
        let wanted = if *target == "/nothing" { 404 } else { 200 };
        assert_eq!(ask(&icm, "GET", target, &[BEARER]).status, wanted, "{target}");
    }
    // A request that only reads may use any host name, a verb may not.
    let named = |host: &str| Client::to(icm.admin).host(host).with(BEARER.0, BEARER.1);
    assert_eq!(named("icm.acme.example").get("/metrics").status, 200);
    assert_eq!(named("evil.example").post("/servers/Web1/restrict", &[], "").status, 421);
    assert_eq!(named("127.0.0.1").post("/servers/Web1/restrict", &[], "").status, 200);
    let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(named(&own).post("/servers/Web1/release", &[], "").status, 200);
    assert_eq!(ask(&icm, "POST", "/servers/Web1/restrict", &[]).status, 401);
}

#[test]
fn an_address_that_sends_too_many_wrong_tokens_is_refused_for_a_while() {
    for by_login in [false, true] {
        let (_acme, icm, _dir) = with_token(None);
        let login = Client::to(icm.admin).post("/login", &[], &format!("token={TOKEN}"));
        let cookie = format!("icm_admin={}", login.cookie("icm_admin").unwrap());
        let wrong = |n: usize| match by_login {
            true => Client::to(icm.admin).post("/login", &[], &format!("token=guess{n}")),
            false => {
                ask(&icm, "POST", "/servers/Web1/restrict", &[("Authorization", &format!("Bearer guess{n}"))])
            }
        };
        assert_guesses_are_limited(|n| wrong(n).status);
        // On a slow machine an attempt may lapse before the next, so each check adds a new one.
        let refused = |try_again: &dyn Fn() -> Answer| {
            let mut answer = wrong(0);
            let is_refused = eventually(MAX_WAIT, || {
                wrong(0);
                answer = try_again();
                answer.status == 429
            });
            assert!(is_refused, "{}", answer.head);
            answer
        };
        let answer = refused(&|| wrong(0));
        assert_eq!(answer.json()["error"], "too_many_attempts");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
        // The correct token is refused too, or guessing could go on.
        refused(&|| ask(&icm, "GET", "/status", &[BEARER]));
        refused(&|| Client::to(icm.admin).post("/login", &[], &format!("token={TOKEN}")));
        icm.wait_for_log("too many wrong tokens from 127.0.0.1");
        let basic = [("Authorization", "Basic dXNlcjpwYXNzd29yZA==")];
        assert_eq!(ask(&icm, "GET", "/status", &basic).status, 200, "no token");
        // Liveness, requests without a token and logged-in users are not affected.
        assert_eq!(ask(&icm, "GET", "/livez", &[("Authorization", "Bearer guess")]).status, 200);
        assert_eq!(ask(&icm, "GET", "/status", &[]).status, 200);
        let you = ask(&icm, "GET", "/status", &[("Cookie", &cookie)]).json()["you"].clone();
        assert_eq!(you["logged_in"], true);
        assert!(
            eventually(MAX_WAIT, || ask(&icm, "GET", "/status", &[BEARER]).status == 200),
            "the refusal ends"
        );
    }
}

#[test]
fn the_login_cookie_works_only_from_our_own_page() {
    let (_acme, icm, _dir) = with_token(None);
    let origin = format!("http://{}", icm.admin);
    let login = |token: &str| Client::to(icm.admin).post("/login", &[], &format!("token={token}"));
    assert_eq!(login("wrong").status, 401);
    assert_eq!(login("").status, 401);
    assert_eq!(login("wrong").cookie("icm_admin"), None);
    let answer = login(TOKEN);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = answer.header("set-cookie").unwrap();
    assert!(
        line.contains("HttpOnly") && line.contains("SameSite=Strict") && line.contains("Path=/"),
        "{line}"
    );
    assert!(!line.contains(TOKEN), "the cookie holds no token");
    let cookie = format!("icm_admin={}", answer.cookie("icm_admin").unwrap());
    let post = |headers: &[(&str, &str)]| ask(&icm, "POST", "/servers/Web1/restrict", headers).status;
    assert_eq!(post(&[]), 401);
    assert_eq!(post(&[("Cookie", &cookie)]), 403, "a cookie without an origin");
    assert_eq!(post(&[("Cookie", &cookie), ("Origin", "http://evil.example")]), 403);
    assert_eq!(post(&[("Cookie", &cookie), ("Origin", "null")]), 403);
    assert_eq!(post(&[("Cookie", &cookie), ("Sec-Fetch-Site", "same-site")]), 403);
    assert_eq!(post(&[BEARER, ("Origin", "http://evil.example")]), 403);
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    assert_eq!(post(&[("Cookie", &cookie), ("Origin", &origin)]), 200);
    assert_eq!(icm.state_of("Web1"), "RESTRICTED");
    let you = |headers: &[(&str, &str)]| ask(&icm, "GET", "/status", headers).json()["you"].clone();
    assert_eq!(you(&[]), json!({ "may_act": false, "token_set": true, "logged_in": false }));
    assert_eq!(you(&[("Cookie", &cookie)]), json!({ "may_act": true, "token_set": true, "logged_in": true }));
    assert_eq!(you(&[BEARER]), json!({ "may_act": true, "token_set": true, "logged_in": false }));
    let out = ask(&icm, "POST", "/logout", &[("Cookie", &cookie)]);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    let large = Client::to(icm.admin).request("POST", "/login", &[], &[b'a'; 20_000]).unwrap();
    assert_eq!(large.status, 413);
}

#[test]
fn a_search_shows_each_replica_and_the_servers_that_would_serve_it() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    wait_for(icm.admin);
    let search = |query: &str| icm.admin(&format!("/databases?{query}")).json();
    let leads = search("q=SALES%5CLEADS");
    let hits = leads["databases"].as_array().unwrap();
    assert_eq!(hits.len(), 2, "one path, two databases: {leads:#}");
    let first = hits.iter().find(|d| d["replica_id"] == "C1257A000041D2E0").unwrap();
    let on_web2 = first["replicas"].as_array().unwrap().iter().find(|r| r["server"] == "Web2/Acme").unwrap();
    assert_eq!((&on_web2["path"], &on_web2["state"]), (&json!("apps/leads.nsf"), &json!("AVAILABLE")));
    assert_eq!(search("q=c1257a00:0041d2e0")["databases"][0]["replica_id"], "C1257A000041D2E0");
    let vacation = search("q=hr/vacation.nsf&limit=1");
    let marks: Vec<_> = vacation["databases"][0]["replicas"].as_array().unwrap().iter().collect();
    assert!(
        marks.iter().any(|r| r["server"] == "Web2/Acme" && r["mark"] == "out_of_service"),
        "{vacation:#}"
    );
    assert!(!vacation["databases"][0]["served_by"].as_array().unwrap().contains(&json!("Web2/Acme")));
    assert_eq!(search("q=old/closed.nsf")["databases"][0]["outcome"], "out_of_service");
    let archive = || search("q=archive2009")["databases"][0].clone();
    assert_eq!(archive()["served_by"], json!(["Web4/Acme"]));
    acme.fault("Web4", json!("refuse"));
    icm.wait_for_state("Web4", "UNREACHABLE");
    assert_eq!((&archive()["served_by"], &archive()["outcome"]), (&json!([]), &json!("no_server")));
    assert_eq!(search("q=no+such+thing")["databases"], json!([]));
}

#[test]
fn a_search_is_limited_and_continues_where_it_stopped() {
    let acme = Acme::start(
        "servers: [{ name: Web1/Acme, https: false }]
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
generate: { databases: 300, copies: 1, prefix: many/db }
",
    );
    let icm = Icm::start(config(&acme));
    wait_for(icm.admin);
    let total = icm.admin("/status").json()["clusters"][0]["directory"]["databases"].as_u64().unwrap();
    assert!(total > 300);
    let (mut from, mut paths, mut calls) = (0, Vec::new(), 0);
    loop {
        let answer = icm.admin(&format!("/databases?q=MANY&limit=70&from={from}")).json();
        let hits = answer["databases"].as_array().unwrap();
        assert!(
            hits.len() <= 70 && answer["scanned"].as_u64() <= answer["scan_limit"].as_u64(),
            "{answer:#}"
        );
        paths.extend(hits.iter().map(|d| d["path"].as_str().unwrap().to_owned()));
        calls += 1;
        match answer["next"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
        assert!(calls < 20, "the search does not end");
    }
    let found = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!((found, paths.len(), calls), (300, 300, 5), "each database once");
    // An exact path comes first, and is not found again later.
    let whole = icm.admin(&format!("/databases?q={}&limit=1", paths[200])).json();
    assert_eq!(whole["databases"][0]["path"], json!(paths[200]));
    let next = whole["next"].as_u64().unwrap();
    let rest = icm.admin(&format!("/databases?q={}&limit=5&from={next}", paths[200])).json();
    assert_eq!((&rest["databases"], &rest["next"]), (&json!([]), &Value::Null));
}

#[test]
fn status_gives_the_reason_of_a_state_and_names_what_is_not_read() {
    let acme = Acme::built_in();
    acme.set("Web1", json!({ "index": 15, "threshold": 20 }));
    let mut config = config(&acme);
    let metrics = acme.server("Web1").metrics.unwrap();
    let source = format!("{{ source: prometheus, url: \"http://{metrics}/metrics\", interval: 100ms }}");
    set(&mut config, "clusters.0.servers.list.0.availability", &source);
    set(&mut config, "clusters.0.directory.columns", "{ path: 0, server: 1, replica_id: 3 }");
    let icm = Icm::start(config);
    icm.wait_for_state("Web1", "BUSY");
    let web1 = icm.status_of("Web1");
    assert_eq!((&web1["index"], &web1["threshold"]), (&json!(15), &json!(20)), "{web1:#}");
    assert_eq!(web1["index_source"], "prometheus");
    assert!(web1["reason"].as_str().unwrap().contains("15 is at or under its threshold 20"), "{web1:#}");
    let status = icm.admin("/status?events=2").json();
    assert!(status["events"].as_array().unwrap().len() <= 2);
    let hints = status["clusters"][0]["hints"].as_array().unwrap().clone();
    let what: Vec<_> = hints.iter().map(|h| h["what"].as_str().unwrap()).collect();
    assert!(what.iter().any(|w| w.starts_with("marks not read")), "{what:?}");
    assert!(what.iter().any(|w| w.starts_with("RESTRICTED of") && w.contains("Web2/Acme")), "{what:?}");
    assert!(hints.iter().all(|h| h["hint"].as_str().unwrap().contains("(docs/")));
    acme.fault("Web2", json!("refuse"));
    icm.wait_for_state("Web2", "UNREACHABLE");
    let web2 = icm.status_of("Web2");
    assert!(web2["http_cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{web2:#}");
}

#[test]
fn readiness_begins_with_the_first_directory_and_ends_when_the_process_drains() {
    let acme = Acme::start(THREE_SERVERS);
    for server in ["Web1", "Web2", "Web3"] {
        acme.fault(server, json!("refuse"));
    }
    let mut icm = Icm::spawn(config(&acme));
    wait_for(icm.admin);
    let ready = |icm: &Icm| icm.admin("/readyz").status;
    assert_eq!((ready(&icm), icm.admin("/livez").status), (503, 200), "no directory");
    acme.heal("all");
    assert!(eventually(MAX_WAIT, || ready(&icm) == 200), "{}", icm.log());
    for server in ["Web1", "Web2", "Web3"] {
        acme.fault(server, json!("refuse"));
    }
    icm.wait_for_state("Web3", "UNREACHABLE");
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert_eq!(ready(&icm), 200, "ready although all servers are UNREACHABLE");
    for server in ["Web1", "Web2", "Web3"] {
        acme.heal(server);
    }
    icm.wait_for_state("Web1", "AVAILABLE");
    let address = icm.address;
    let slow = std::thread::spawn(move || Client::to(address).get("/all.nsf?OpenDatabase&delay=3000").status);
    assert!(eventually(MAX_WAIT, || icm.admin("/status").json()["requests"]["in_flight"] == 1));
    // Held longer than the process has left, so it is answered only because the drain begins.
    let admin = icm.admin;
    let held = std::thread::spawn(move || {
        let answer = Client::to(admin).get("/readyz?wait_ms=5000");
        (answer.status, answer.text())
    });
    icm.signal("TERM");
    let draining = eventually(MAX_WAIT, || {
        let answer = icm.admin("/readyz");
        (answer.status, answer.text().as_str()) == (503, "draining\n")
    });
    assert!(draining, "{}", icm.log());
    assert_eq!(icm.admin("/livez").status, 200);
    assert_eq!(held.join().unwrap(), (503, "draining\n".to_owned()));
    assert_eq!(slow.join().unwrap(), 200);
    assert!(icm.wait_for_end(MAX_WAIT).is_some());
}

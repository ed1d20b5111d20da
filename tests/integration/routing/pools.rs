//! Pools: servers of another kind behind the host name of a cluster, reached by routes.

use std::io::Write;

use crate::support::*;

/// A server of a pool. Its answers name it and show the head that it received.
fn pool_server(name: &'static str) -> ScriptedServer {
    ScriptedServer::new(move |client| {
        while let Some(head) = client.request_or_probe() {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, media_type) = match target.as_str() {
                "/api/fail" => ("503 Service Unavailable", "text/plain"),
                "/api/app.css" => ("200 OK", "text/css"),
                "/api/missing" => ("404 Not Found", "application/json"),
                _ => ("200 OK", "application/json"),
            };
            if head.to_ascii_lowercase().contains("upgrade: websocket") {
                return echo(client, name);
            }
            let closes = matches!(&*target, "/api/fail" | "/api/last");
            let close = if closes { "Connection: close\r\n" } else { "" };
            let response = format!(
                "HTTP/1.1 {status}\r\nX-Acme-Server: {name}\r\nContent-Type: {media_type}\r\n{close}\
                 Set-Cookie: DomAuthSessId=of{}; path=/\r\nContent-Length: {}\r\n\r\n{head}",
                &name[..4],
                head.len()
            );
            if !client.say(&response) || closes {
                return;
            }
        }
    })
}

/// Switches protocols and sends every byte back.
fn echo(client: &mut ServerConnection, name: &str) {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    client.say(&format!("{head}X-Acme-Server: {name}\r\n\r\n"));
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = std::io::Read::read(&mut client.stream, &mut piece) {
        if client.stream.write_all(&piece[..read]).is_err() {
            return;
        }
    }
}

/// Acme with a pool `drapi` of these servers for `/api`.
fn config_with_pool(acme: &Acme, servers: &[ScriptedServer]) -> serde_yaml::Value {
    let server = |(n, server): (usize, &ScriptedServer)| {
        format!("{{ name: Web{n}/Acme, hostname: web{n}.acme.example, http: \"{}\" }}", server.address)
    };
    let list: Vec<String> = (1..).zip(servers).map(server).collect();
    let mut config = config(acme);
    let pool = format!(
        "[{{ name: drapi, servers: {{ list: [{}] }}, failover: {{ slow_start: 0s, connect_timeout: 500ms }},
            probe: {{ path: /api, interval: 200ms, timeout: 10s, healthy_after: 1 }} }}]",
        list.join(", ")
    );
    set(&mut config, "clusters.0.pools", &pool);
    set(&mut config, "clusters.0.routes", "[{ name: rest, match: { path_prefix: /api }, pool: drapi }]");
    config
}

fn two() -> [ScriptedServer; 2] {
    [pool_server("Web1/Acme"), pool_server("Web2/Acme")]
}

#[test]
fn a_pool_serves_its_paths_and_keeps_its_users_apart_from_the_databases() {
    let (acme, servers) = (Acme::built_in(), two());
    let icm = Icm::start(config_with_pool(&acme, &servers));
    // A style says nothing about the user, nor does an error.
    for target in ["/api/app.css", "/api/missing"] {
        assert_eq!(icm.client().get(target).cookie("ICM-drapi"), None, "{target}");
    }
    let mut browser = Browser::new(icm.address);
    let first = browser.server_of("/api/v1");
    assert!(browser.cookies.contains_key("ICM-drapi") && browser.icm().is_none(), "{:?}", browser.cookies);
    for target in ["/api/v1", "/API/sales/leads.nsf?OpenDatabase", "/api/names.nsf?Logout", "/api//__C1.nsf"]
    {
        let answer = browser.get(target);
        assert_eq!(answer.server(), first, "{target}");
        assert!(answer.text().starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{}", answer.text());
    }
    let post = browser.post("/api/v1", "a=b");
    assert_eq!((post.status, post.server()), (200, &*first));
    assert!(!browser.cookies.contains_key("ICM-drapi-write"), "{:?}", browser.cookies);
    // Session cookies are not kept apart unless that is configured.
    assert_eq!(browser.cookies["DomAuthSessId"], format!("of{}", &first[..4]));
    // Each side gets only what its own servers have set.
    browser.cookies.remove("DomAuthSessId");
    let database = browser.get("/legacy/archive2009.nsf?OpenDatabase");
    assert_eq!(database.status, 200);
    assert!(browser.icm().is_some());
    let sent = browser.get("/api/v1").text();
    assert!(!sent.contains("ICM"), "{sent}");
    let line = "ICM=x; ICM-drapi=y; ICM-drapi-login=z; own=1";
    let sent = icm.client().get_with("/api/v1", &[("Cookie", line)]).text();
    let cookies: Vec<&str> = sent.lines().filter(|l| l.to_ascii_lowercase().starts_with("cookie:")).collect();
    assert!(cookies.len() == 1 && cookies[0].ends_with(": own=1"), "{sent}");
    // The other way to say where a user is: none, with `mode: off`, and our cookies still stay here.
    let mut config = config_with_pool(&acme, &servers);
    set(&mut config, "clusters.0.pools.0.affinity", "{ mode: off }");
    icm.reload(&config);
    icm.wait_for_status("reloaded", |status| status["reload"]["success"] == true);
    let stateless = || icm.client().get("/api/v1").cookie("ICM-drapi").is_none();
    assert!(eventually(MAX_WAIT, stateless));
    let sent = icm.client().get_with("/api/v1", &[("Cookie", "ICM=x; own=1")]).text();
    assert!(sent.contains("own=1") && !sent.contains("ICM"), "{sent}");
}

#[test]
fn a_pool_fails_over_by_the_method_alone() {
    let (acme, mut servers) = (Acme::built_in(), Vec::from(two()));
    let mut config = config_with_pool(&acme, &servers);
    set(&mut config, "clusters.0.pools.0.probe.interval", "1h");
    let icm = Icm::start(config);
    // Both fail, so each request that may be repeated meets both. No path of a pool is a command of Domino.
    let failovers =
        || icm.metric("icm_failovers_total{cluster=\"AcmeWeb/drapi\",cause=\"status\"").unwrap_or(0.0);
    let answer = icm.client().get("/api/fail");
    assert_eq!((answer.status, failovers()), (503, 1.0));
    let answer = icm.client().request("POST", "/api/fail", &[], b"x").unwrap();
    assert_eq!((answer.status, failovers()), (503, 1.0));
    let answer = icm.client().request("PUT", "/api/fail", &[], b"x").unwrap();
    assert_eq!((answer.status, failovers()), (503, 1.0));
    let safe = icm.explain("/api/x.nsf/0/1?DeleteDocument");
    assert_eq!((safe["class"].as_str(), safe["outcome"].as_str()), (Some("safe"), Some("serve")), "{safe}");
    // A server that refuses connections takes nobody with it.
    let gone = servers.remove(0);
    drop(gone);
    for _ in 0..20 {
        assert_eq!(icm.client().get("/api/last").server(), "Web2/Acme");
    }
    drop(servers);
    assert!(eventually(MAX_WAIT, || icm.client().get("/api/last").status == 503));
    assert_eq!(icm.client().get("/legacy/archive2009.nsf?OpenDatabase").status, 200);
}

#[test]
fn every_view_of_the_balancer_shows_a_pool_as_what_it_is() {
    let (acme, servers) = (Acme::built_in(), two());
    let icm = Icm::start(config_with_pool(&acme, &servers));
    let status = icm.status();
    let pool = &status["clusters"][1];
    assert_eq!((&pool["name"], &pool["pool_of"]), (&"AcmeWeb/drapi".into(), &"AcmeWeb".into()), "{pool}");
    assert_eq!((&pool["facts"], &pool["hints"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(status["clusters"][0]["pool_of"], serde_json::Value::Null);
    let explained = icm.explain("/api/sales/leads.nsf?OpenDatabase");
    assert_eq!(explained["cluster"], "AcmeWeb/drapi");
    assert!(explained["notes"][0].as_str().unwrap().starts_with("a pool:"), "{explained}");
    let metrics = icm.admin("/metrics").text();
    assert!(metrics.contains("icm_server_state{cluster=\"AcmeWeb/drapi\",server=\"Web1/Acme\""), "{metrics}");
    assert!(!metrics.contains("icm_directory_loaded{cluster=\"AcmeWeb/drapi\""), "{metrics}");
    let audit = icm.admin("/audit").json();
    assert_eq!(audit["clusters"][1]["findings"], serde_json::json!([]), "{audit}");
    let file = icm.file.to_str().unwrap();
    let shown = icm_cli(&["show", "cluster", "-c", file]);
    assert!(shown.out.contains("AcmeWeb/drapi\n\nserver"), "{shown:?}");
    let checked = icm_cli(&["check", "-c", file, "--probe"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.out.contains("ok: AcmeWeb/drapi: Web2/Acme HTTP port"), "{}", checked.out);
    assert!(!checked.out.contains("AcmeWeb/drapi: RESTRICTED"), "{}", checked.out);
    // Without both servers the pool is lost, whatever the databases of the cluster are.
    let simulated = icm_cli(&["simulate", "-c", file, "--json", "--down", "Web1", "--down", "Web2"]).json();
    assert_eq!(simulated["clusters"][1]["lost"]["count"], 1, "{simulated}");
    let simulated = icm_cli(&["simulate", "-c", file, "--json", "--down", "Web1"]).json();
    assert_eq!(simulated["clusters"][1]["lost"]["count"], 0, "{simulated}");
    // A server that is restricted is restricted in the pool, too: its users may finish, new ones go elsewhere.
    let mut browser = Browser::new(icm.address);
    while browser.server_of("/api/v1") != "Web1/Acme" {
        browser = Browser::new(icm.address);
    }
    let cookie = &browser.cookies["ICM-drapi"];
    let explained = icm.admin(&format!("/explain?url=/api/v1&cookie=ICM-drapi%3D{cookie}")).json();
    assert_eq!(explained["why"], "the user's server", "{explained}");
    let restricted = icm_cli(&["restrict", "Web1", "--yes", "--no-wait", "-c", file]);
    assert!(restricted.out.contains("AcmeWeb/drapi"), "{restricted:?}");
    for _ in 0..20 {
        assert_eq!(browser.server_of("/api/v1"), "Web1/Acme");
        assert_eq!(icm.client().get("/api/v1").server(), "Web2/Acme");
    }
    // Maintenance begins without a question about which cluster is meant: a pool is none.
    let plan = icm_cli(&["maintain", "Web1", "--plan", "-c", file]);
    assert!(!plan.err.contains("several clusters"), "{plan:?}");
}

#[test]
fn websockets_pass_through_a_pool() {
    let (acme, servers) = (Acme::built_in(), two());
    let mut config = config_with_pool(&acme, &servers);
    let tls = add_tls(&mut config, &acme);
    let icm = Icm::start(config);
    let mut client = Client::tls(wait_for(tls), "localhost", &acme.ca_file);
    let handshake = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let head = client.head("GET", "/api/socket", &handshake);
    client.send(head.as_bytes()).unwrap();
    let answer = client.read("GET").unwrap();
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert!(answer.cookie("ICM-drapi").is_some(), "{}", answer.head);
    for text in [b"first", b"later"] {
        client.send(text).unwrap();
        assert_eq!(client.read_bytes(5).unwrap(), text);
    }
    let servers = icm.status()["clusters"][1]["servers"].as_array().unwrap().clone();
    assert_eq!(servers.iter().map(|s| s["in_flight"].as_u64().unwrap()).sum::<u64>(), 1);
}

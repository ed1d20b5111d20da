//! Redirect mode, as the classic ICM: the browser is sent to the server itself, with the scheme that it uses.

use crate::support::*;
use serde_yaml::Value;
use std::time::Duration;

const SCENARIO: &str = "
servers: [ { name: Web1/Acme }, { name: Web2/Acme }, { name: Web3/Acme, https: false } ]
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - path: sales/leads.nsf
    replica_id: C1257A000041D2E0
    replicas: [Web1, { server: Web2, path: apps/leads.nsf }]
  - { path: plain.nsf, replica_id: C1257A000041D2E1, replicas: [Web3] }
  - { path: everywhere.nsf, replica_id: C1257A000041D2E2, replicas: all }
";

fn redirecting(acme: &Acme) -> Value {
    let mut config = config(acme);
    set(&mut config, "clusters.0.mode", "redirect");
    config
}

#[test]
fn the_browser_is_sent_to_the_server_at_the_path_that_the_database_has_there() {
    let acme = Acme::start(SCENARIO);
    let mut config = redirecting(&acme);
    set(&mut config, "clusters.0.servers.list.0.server_restricted", "1");
    let icm = Icm::start(config);
    let web2 = format!("http://web2.acme.example:{}", acme.http("Web2").port());
    for (target, there) in [
        ("/sales/leads.nsf", "/apps/leads.nsf"),
        (
            "/Sales%5Cleads.nsf/By+Name;x//y?OpenView&a=%zz&b=|",
            "/apps/leads.nsf/By+Name;x//y?OpenView&a=%zz&b=|",
        ),
        ("/apps/LEADS.nsf!OpenDatabase", "/apps/LEADS.nsf!OpenDatabase"),
        ("/__c1257a000041d2e0.nsf/v?OpenView", "/apps/leads.nsf/v?OpenView"),
    ] {
        for (method, status) in [("GET", 302), ("HEAD", 302), ("POST", 307), ("PUT", 307), ("DELETE", 307)] {
            let answer = icm.client().request(method, target, &[], b"").unwrap();
            assert_eq!(answer.status, status, "{method} {target}");
            assert_eq!(answer.header("location").unwrap(), format!("{web2}{there}"), "{method}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("server"), Some("domino-icm"));
            assert!(answer.body.is_empty());
        }
    }
}

#[test]
fn the_browser_is_sent_to_the_spelling_of_the_directory_if_the_configuration_says_so() {
    let acme = Acme::start(SCENARIO);
    for (forwarded, there) in [("client", "/PLAIN.nsf/v?OpenView"), ("directory", "/plain.nsf/v?OpenView")] {
        let mut config = redirecting(&acme);
        set(&mut config, "clusters.0.forwarded_path", forwarded);
        let icm = Icm::start(config);
        let answer = icm.client().get("/PLAIN.nsf/v?OpenView");
        let web3 = format!("http://web3.acme.example:{}", acme.http("Web3").port());
        assert_eq!(answer.header("location").unwrap(), format!("{web3}{there}"));
    }
}

#[test]
fn the_clients_scheme_decides_port_and_server_whatever_upstream_scheme_says() {
    for upstream in ["http", "https", "same"] {
        let acme = Acme::start(SCENARIO);
        let mut config = redirecting(&acme);
        set(&mut config, "clusters.0.upstream_scheme", upstream);
        let tls = add_tls(&mut config, &acme);
        set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.1]");
        let icm = Icm::start(config);
        let port = |name: &str, secure: bool| {
            let server = acme.server(name);
            let at = if secure { server.https } else { server.http };
            at.map(|a| a.port())
        };
        let place = |answer: &Answer, secure: bool| {
            assert_eq!(answer.status, 302, "{upstream}: {}", answer.head);
            let location = answer.header("location").unwrap().to_owned();
            let scheme = if secure { "https" } else { "http" };
            let of = |name: &&str| {
                port(name, secure).is_some_and(|port| {
                    location.starts_with(&format!("{scheme}://{}.acme.example:{port}/", name.to_lowercase()))
                })
            };
            let name = ["Web1", "Web2", "Web3"].into_iter().find(of);
            name.unwrap_or_else(|| panic!("{upstream}, secure {secure}: {location}")).to_owned()
        };
        let mut secure = Client::tls(wait_for(tls), "localhost", &acme.ca_file);
        for _ in 0..20 {
            assert_ne!(place(&secure.get("/everywhere.nsf"), true), "Web3", "it has no HTTPS port");
            place(&icm.client().get("/everywhere.nsf"), false);
            place(&icm.client().get_with("/everywhere.nsf", &[("X-Forwarded-Proto", "https")]), true);
        }
        assert_eq!(place(&icm.client().get("/plain.nsf"), false), "Web3");
        let answer = secure.get("/plain.nsf");
        assert_eq!(answer.status, 503, "no holder speaks HTTPS");
    }
}

#[test]
fn default_ports_are_left_out() {
    let text = format!(
        "
listeners: [ {{ address: \"127.0.0.1:{}\", trusted_proxies: [127.0.0.1] }} ]
admin: {{ address: \"127.0.0.1:{}\" }}
clusters:
- name: AcmeWeb
  mode: redirect
  servers:
    source: static
    list: [ {{ name: Web1/Acme, hostname: web1.acme.example, http: \"127.0.0.9:80\", https: \"127.0.0.9:443\" }} ]
  directory: {{ source: static, databases: [ {{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [ {{ server: Web1/Acme }} ] }} ] }}
  probe: {{ interval: 200ms, timeout: 200ms }}
  failover: {{ last_resort: try_unreachable }}
",
        free_port(),
        free_port()
    );
    let icm = Icm::start(serde_yaml::from_str(&text).unwrap());
    let answer = icm.client().get("/a.nsf?Open");
    assert_eq!(answer.header("location"), Some("http://web1.acme.example/a.nsf?Open"));
    let answer = icm.client().get_with("/a.nsf?Open", &[("X-Forwarded-Proto", "https")]);
    assert_eq!(answer.header("location"), Some("https://web1.acme.example/a.nsf?Open"));
}

#[test]
fn restricted_unreachable_and_busy_servers_are_passed_over_and_nobody_left_is_503() {
    let acme = Acme::start(SCENARIO);
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "clusters.0.mode", "redirect");
    let icm = Icm::start(config.clone());
    let goes_to = |target: &str| {
        let answer = icm.client().get(target);
        let host = answer.header("location").map(|l| l.split(['/', '.']).nth(2).unwrap().to_owned());
        host.unwrap_or_else(|| answer.status.to_string())
    };
    let always = |target: &str, expected: &str| {
        let is_so = || (0..10).all(|_| goes_to(target) == expected);
        assert!(eventually(Duration::from_secs(30), is_so), "{target} does not go to {expected}");
    };
    // BUSY: set aside.
    acme.set("Web1", serde_json::json!({ "index": 10, "threshold": 20 }));
    acme.set("Web3", serde_json::json!({ "index": 10, "threshold": 20 }));
    always("/everywhere.nsf", "web2");
    // UNREACHABLE: Web1 is BUSY, yet it serves where no other server can.
    acme.fault("Web2", serde_json::json!("refuse"));
    always("/sales/leads.nsf", "web1");
    // RESTRICTED: never serves a new user.
    set(&mut config, "clusters.0.servers.list.0.server_restricted", "1");
    icm.reload(&config);
    always("/sales/leads.nsf", "503");
    let answer = icm.client().get("/sales/leads.nsf");
    assert!(answer.header("retry-after").is_some() && answer.header("location").is_none());
    assert!(!answer.text().contains("web1"), "pages never name servers");
    acme.heal("Web2");
    always("/sales/leads.nsf", "web2");
}

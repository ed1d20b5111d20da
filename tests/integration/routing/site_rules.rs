//! Web Site Rule documents of Domino (`servers: { source: names, site_rules: on }`): which server a request goes to by them,
//! and what check and explain say.

use crate::support::*;
use serde_json::json;

const SCENARIO: &str = "
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
databases:
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: all }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: web/shop.nsf, replica_id: C1257A000041D202, replicas: [Web2] }
  - { path: web/first.nsf, replica_id: C1257A000041D203, replicas: [Web1] }
site_rules:
  - { type: Substitution, incoming: '/shop*', replacement: '/web/shop.nsf*' }
  - { type: Substitution, incoming: '/pre*', replacement: '/web/shop.nsf/*' }
  - { type: Redirection, incoming: /start, replacement: '/web/first.nsf/start?OpenForm', hosts: [www.acme.example] }
  - { type: Redirection, incoming: /away, replacement: 'https://other.example/web/shop.nsf' }
  - { type: Substitution, incoming: '/gone/*', replacement: '/web/gone.nsf/*' }
  - { type: Directory, incoming: /images }
";

fn explained_route(icm: &Icm, url: &str) -> serde_json::Value {
    let encoded: String = url.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = icm.admin(&format!("/explain?url={encoded}"));
    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    answer.json()["route"].clone()
}

/// The target that a server received from a new user, and the server.
fn received(icm: &Icm, target: &str) -> (String, String) {
    let answer = Browser::new(icm.address).get_with(target, ("Accept", "application/json"));
    assert_eq!(answer.status, 200, "{target}: {}\n{}", answer.head, answer.text());
    (answer.json()["target"].as_str().unwrap().to_owned(), answer.served_by())
}

#[test]
fn a_rule_of_the_site_leads_to_a_holder_of_its_database_until_another_reading_succeeds() {
    let acme = Acme::start(SCENARIO);
    let mut settings = config(&acme);
    let from: Vec<String> = acme.servers.iter().map(|s| format!("\"http://{}\"", s.http.unwrap())).collect();
    let servers = format!("{{ source: names, from: [{}], refresh: 1s, site_rules: on }}", from.join(", "));
    set(&mut settings, "clusters.0.servers", &servers);
    let denied = "[{ deny: { database: web/shop.nsf, method: DELETE } }]";
    set(&mut settings, "clusters.0.access", denied);
    let routes = "[{ name: own, match: { path: /shop/own }, servers: [Web1/Acme] }]";
    set(&mut settings, "clusters.0.routes", routes);
    let icm = Icm::start(settings);
    icm.wait_for_log("site rules: ");
    icm.wait_for_status("ready", |s| {
        let cluster = &s["clusters"][0];
        let servers = cluster["servers"].as_array().unwrap();
        cluster["directory"]["loaded"] == true
            && servers.len() == 2
            && servers.iter().all(|server| server["state"] == "AVAILABLE")
    });

    let led = |icm: &Icm| {
        for _ in 0..4 {
            let target = "/Shop/x%20y?OpenView&a=1";
            assert_eq!(received(icm, target), (target.to_owned(), "Web2".to_owned()));
        }
    };
    led(&icm);
    assert_eq!(explained_route(&icm, "/shop/x"), "rule /shop*");
    assert_eq!(explained_route(&icm, "/shop/own"), "own", "routes of the configuration come first");
    assert_eq!(explained_route(&icm, "http://www.acme.example/start"), "rule /start");
    assert_eq!(explained_route(&icm, "http://apps.acme.example/start"), json!(null));
    assert_eq!(explained_route(&icm, "/gone/x"), json!(null));
    let delete = Browser::new(icm.address).request("DELETE", "/shop/x", &[], b"");
    assert_eq!(delete.status, 403, "the database of a rule is judged: {}", delete.head);
    let hidden = Browser::new(icm.address).get("/pre../log.nsf");
    assert_eq!(hidden.status, 400, "the rule makes `/web/shop.nsf/../log.nsf` of it: {}", hidden.head);

    let check = icm_cli(&["check", "--probe", "-c", icm.file.to_str().unwrap()]);
    let expected = "site rules from names.nsf/ICM Web Rules: 3 used (/shop* -> web/shop.nsf, /pre* -> web/shop.nsf, /start -> web/first.nsf), \
        2 not used (/away: it leads to a full URL, for which Domino sends a redirect from any server; \
        /gone/*: web/gone.nsf is not in the directory), 1 of other types";
    assert!(check.out.contains(expected), "{}", check.out);

    acme.set("all", json!({ "dir": { "site_rules_404": true } }));
    icm.wait_for_log("the last rules stay in use");
    led(&icm);
    let cluster = icm.status()["clusters"][0].clone();
    assert_eq!(cluster["servers"].as_array().unwrap().len(), 2);
    assert_eq!(cluster["members_trouble"], "");
    assert!(cluster["members_warnings"].to_string().contains("no view `ICM Web Rules`"), "{cluster:#}");
}

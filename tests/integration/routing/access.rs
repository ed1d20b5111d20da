//! Access rules from outside: what a rule denies reaches no server, whatever the spelling, the path or the client says.

use crate::support::*;
use serde_json::Value;

/// Databases that the preset closes, without a login of their own, and one that lies at two paths.
const SCENARIO: &str = "
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: [Web1, { server: Web2, path: old/people.nsf }] }
  - { path: log.nsf, replica_id: C1256A2F00310003, replicas: all }
  - { path: webadmin.nsf, replica_id: C1256A2F00310004, replicas: all }
  - { path: domcfg.nsf, replica_id: C1256A2F00310005, replicas: all }
  - { path: all.nsf, replica_id: C1257A000041D201, replicas: all }
  - { path: shop/leads.nsf, replica_id: C1257A000041D202, replicas: [Web1, { server: Web2, path: apps/leads.nsf }] }
";
const RULES: &str = "
- { name: office, allow: { client: 10.0.0.0/8 } }
- domino_baseline
- { name: leads, deny: { database: shop/leads.nsf, command: [OpenView, ReadViewEntries] }, status: 404 }
";

fn start() -> (Acme, serde_yaml::Value, Icm, tempfile::TempDir) {
    let acme = Acme::start(SCENARIO);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&acme);
    set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.1]");
    set(&mut config, "clusters.0.access", RULES);
    let file = dir.path().join("access.log");
    set(&mut config, "access_log", &format!("{{ path: {}, format: json }}", file.display()));
    let icm = Icm::start(config.clone());
    icm.wait_for_status("a directory", |status| status["clusters"][0]["directory"]["databases"] == 7);
    (acme, config, icm, dir)
}

fn ask_from(icm: &Icm, client: &str, target: &str) -> Answer {
    icm.client().get_with(target, &[("X-Forwarded-For", client), ("Accept", "application/json")])
}

fn explain(icm: &Icm, target: &str, client: &str) -> Value {
    let url: String = target.bytes().map(|byte| format!("%{byte:02X}")).collect();
    icm.admin(&format!("/explain?url={url}&client={client}")).json()["access"].clone()
}

#[test]
fn what_a_rule_denies_reaches_no_server_and_the_rule_is_named_everywhere() {
    let (acme, mut config, icm, dir) = start();
    let outside = "192.0.2.7";
    // Closed, by its path, by another server's path, by replica ID, and by implicit opens.
    let closed = [
        ("/names.nsf/People?OpenView", 403, "domino_baseline"),
        ("/old/people.nsf/People", 403, "domino_baseline"),
        ("/__C1256A2F00310001.nsf/$DefaultNav", 403, "domino_baseline"),
        ("/C1256A2F00310001/People", 403, "domino_baseline"),
        ("/LOG.nsf", 403, "domino_baseline"),
        ("/cldbdir.nsf/($Pathname)?ReadViewEntries", 403, "domino_baseline"),
        ("/?OpenServer", 403, "domino_baseline"),
        ("/__0000000000000001.nsf", 403, "domino_baseline"),
        ("/shop/leads.nsf/all?OpenView", 404, "leads"),
        ("/apps/leads.nsf/all", 404, "leads"),
        ("/__C1257A000041D202.nsf/all!ReadViewEntries", 404, "leads"),
    ];
    for (target, status, rule) in closed {
        let answer = ask_from(&icm, outside, target);
        assert_eq!((answer.status, answer.header("server")), (status, Some("domino-icm")), "{target}");
        let code = if status == 404 { "not_found" } else { "access_denied" };
        assert_eq!(answer.json()["error"], code, "{target}: {}", answer.text());
        let access = explain(&icm, target, outside);
        assert_eq!((&access["denied"], &access["rule"]), (&true.into(), &rule.into()), "{target}: {access}");
    }
    assert_eq!(ask_from(&icm, "10.1.2.3", "/names.nsf/People?OpenView").status, 200);
    assert_eq!(explain(&icm, "/names.nsf", "10.1.2.3")["text"], "allowed by `office`");
    assert_eq!(explain(&icm, "/all.nsf", outside)["text"], "allowed: no rule matches");
    for open in
        ["/all.nsf/v?OpenView", "/shop/leads.nsf?OpenDatabase", "/domcfg.nsf/logo.gif?OpenImageResource"]
    {
        assert_eq!(ask_from(&icm, outside, open).status, 200, "{open}");
    }
    let form = ask_from(&icm, outside, "/names.nsf?Login");
    assert!(form.status == 200 && form.text().contains("Server Login"), "{}", form.text());
    let with_body = icm.client().post("/log.nsf?OpenForm", &[("X-Forwarded-For", outside)], "a=b");
    assert_eq!(with_body.status, 403);
    let seen: Vec<Value> = ["Web1", "Web2"].iter().flat_map(|server| acme.requests(server)).collect();
    let of_clients =
        seen.iter().filter(|r| r["headers"].to_string().to_lowercase().contains("x-forwarded-for"));
    let targets: Vec<&str> = of_clients.map(|r| r["target"].as_str().unwrap()).collect();
    assert_eq!(targets.len(), 5, "{targets:?}");

    let metric =
        |rule: &str| icm.metric(&format!("icm_access_denied_total{{cluster=\"AcmeWeb\",rule=\"{rule}\"}}"));
    assert_eq!((metric("domino_baseline"), metric("leads")), (Some(9.0), Some(3.0)));
    let read = || {
        let text = std::fs::read_to_string(dir.path().join("access.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>()
    };
    assert!(eventually(MAX_WAIT, || read().len() == closed.len() + 6), "{:#?}", read());
    let lines = read();
    let of = |target: &str| lines.iter().find(|line| line["target"] == target).unwrap();
    let line = of("/LOG.nsf");
    assert_eq!((&line["why"], &line["page"]), (&"closed_database".into(), &"access_denied".into()), "{line}");
    assert_eq!((&line["access_rule"], &line["server"]), (&"domino_baseline".into(), &Value::Null), "{line}");
    assert_eq!(of("/apps/leads.nsf/all")["access_rule"], "leads");
    assert_eq!(of("/all.nsf/v?OpenView")["access_rule"], Value::Null);

    // A reload changes the rules and keeps the counts.
    set(&mut config, "clusters.0.access", "[{ name: leads, deny: { database: C1257A000041D202 } }]");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || ask_from(&icm, outside, "/names.nsf/People?OpenView").status == 200));
    assert_eq!(ask_from(&icm, outside, "/apps/leads.nsf?OpenDatabase").status, 403);
    assert_eq!((metric("domino_baseline"), metric("leads")), (None, Some(4.0)));
}

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The URL in a spelling that some server might open.
fn respell(target: &str, numbers: &mut Numbers) -> String {
    let (path, command) = target.split_once('?').unwrap_or((target, ""));
    let mut out = String::from("/");
    let trick = ["", "", "", "", "!", "%3f", "%21x", "/", "%20", "+", ".", ";x", ":$DATA", "%00", "/%2e%2e"];
    for letter in path.chars().skip(1) {
        match (letter, numbers.below(8)) {
            ('/', 0) => out.push_str("//"),
            ('/', 1) => out.push('\\'),
            ('/', 2) => out.push_str("%2F"),
            ('/', 3) => out.push_str("%5c"),
            ('/', _) => out.push('/'),
            (_, 0) => out.push_str(&format!("%{:02x}", letter as u32)),
            (_, 1) => out.push_str(&format!("%{:02X}", letter.to_ascii_uppercase() as u32)),
            (_, 2) => out.push(letter.to_ascii_uppercase()),
            (_, 3) if numbers.below(12) == 0 => out.push_str(&format!("%25{:02x}", letter as u32)),
            _ => out.push(letter),
        }
        if out.to_lowercase().ends_with(".nsf") {
            out.push_str(trick[numbers.below(trick.len() as u64) as usize]);
        }
    }
    if !command.is_empty() {
        out.push_str(["?", "!", "%3F", "?x=1&", "?Open&", "?%3F"][numbers.below(6) as usize]);
        let upper = numbers.below(2) == 0;
        out.push_str(&if upper { command.to_uppercase() } else { command.to_owned() });
    }
    out
}

#[test]
fn no_spelling_opens_a_closed_database_on_a_server() {
    let (_acme, _config, icm, _dir) = start();
    let mut numbers = Numbers(20_261_130);
    let mut client = icm.client();
    let mut passed = 0;
    let closed =
        ["names.nsf", "old/people.nsf", "log.nsf", "webadmin.nsf", "cldbdir.nsf", "__C1256A2F00310003.nsf"];
    for round in 0..1_500 {
        let database = closed[round % closed.len()];
        let rest = [
            "",
            "/People?OpenView",
            "/People",
            "/v?ReadViewEntries",
            "/$DefaultView?OpenView",
            "?OpenDatabase",
        ];
        let rest = rest[numbers.below(rest.len() as u64) as usize];
        let target = respell(&format!("/{database}{rest}"), &mut numbers);
        let headers = [("X-Forwarded-For", "192.0.2.7"), ("Accept", "application/json")];
        let answer = client
            .request("GET", &target, &headers, b"")
            .unwrap_or_else(|failure| panic!("{target}: {failure:?}"));
        if answer.header("server") == Some("domino-icm") {
            assert!(matches!(answer.status, 300 | 400 | 403), "{target}: {}", answer.head);
            continue;
        }
        passed += 1;
        let text = answer.text();
        let opened = text.contains("C1256A2F0031000")
            || text.contains("<viewentries")
            || text.contains("Server Login");
        assert!(!opened, "{target} opens a closed database:\n{}\n{text}", answer.head);
    }
    assert!(passed < 300, "{passed} of 1500 reached a server");
}

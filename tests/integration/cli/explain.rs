//! `icm explain` predicts what the proxy does, live and offline; `icm check --probe` finds what is wrong.

use crate::support::*;
use serde_json::{Value, json};
use serde_yaml::Value as Yaml;

const URLS: [&str; 12] = [
    "/",
    "/icons/vwicn001.gif",
    "/sales/orders.nsf?OpenDatabase",
    "/SALES/Orders.NSF/All?OpenView",
    "/__C1257A000041D2E0.nsf?OpenDatabase",
    "/sales/leads.nsf",
    "/legacy/archive2009.nsf",
    "/hr/vacation.nsf",
    "/old/closed.nsf",
    "/old/phonebook.nsf/x?OpenForm",
    "/b%C3%BCro/vertr%C3%A4ge%202026.nsf",
    "/never/heard/of.nsf",
];

/// Checks an explanation against a real request: the server is in the band, or the status is the same.
fn assert_agrees(output: &Value, icm: &Icm, url: &str, state: &str) {
    let answer = icm.client().get(url);
    let server = answer.server().to_owned();
    match output["outcome"].as_str().unwrap() {
        "serve" => {
            let band: Vec<&str> =
                output["band"].as_array().unwrap().iter().map(|b| b.as_str().unwrap()).collect();
            assert!(band.contains(&server.as_str()), "{state} {url}: {server:?} of {output:#}");
            assert!(band.contains(&output["server"].as_str().unwrap()), "{output:#}");
        }
        _ => {
            assert_eq!(output["status"], answer.status, "{state} {url}: {output:#}");
            assert_eq!(server, "", "{state} {url}: no server was predicted");
        }
    }
}

#[test]
fn explain_predicts_the_proxy_in_every_state() {
    let acme = Acme::built_in();
    acme.set("all", json!({ "index": 50 }));
    let mut settings = config(&acme);
    sources_of(&mut settings, &acme, &["console"], "60s");
    let icm = Icm::start(settings);
    let states: [(&str, &str, Value); 5] = [
        ("all well", "Web4", json!({ "index": 70 })),
        ("Web1 BUSY", "Web1", json!({ "index": 10, "threshold": 20 })),
        ("Web2 RESTRICTED", "Web2", json!({ "restricted": 1 })),
        ("Web3 MAXUSERS", "Web3", json!({ "users": 9, "maxusers": 9 })),
        ("Web4 UNREACHABLE", "Web4", json!({ "fault": "refuse" })),
    ];
    for (label, server, change) in states {
        acme.set(server, change);
        match label.split_once(' ') {
            Some((name, state)) if name == server => icm.wait_for_state(server, state),
            _ => icm.wait_for_server(server, "at 70", |s| s["index"] == 70),
        }
        for url in URLS {
            assert_agrees(&icm.explain(url), &icm, url, label);
        }
    }
    let output = icm.explain("/sales/orders.nsf");
    let verdict = |name: &str| {
        let all = output["candidates"].as_array().unwrap();
        all.iter().find(|c| c["server"] == name).unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    assert!(verdict("Web1/Acme").contains("BUSY") || verdict("Web1/Acme").contains("chosen"), "{output:#}");
    assert!(verdict("Web2/Acme").contains("RESTRICTED"), "{output:#}");
    assert!(
        verdict("Web3/Acme").contains("MAXUSERS") || verdict("Web3/Acme").contains("chosen"),
        "{output:#}"
    );
}

#[test]
fn the_exit_code_tells_whether_a_server_would_serve_and_the_text_names_every_candidate() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
    let conf = icm.file.to_str().unwrap().to_owned();
    let output = icm_cli(&["explain", "/sales/orders.nsf", "-c", &conf]);
    assert_eq!(output.code, 0, "{output:?}");
    for name in ["Web1/Acme", "Web2/Acme", "Web3/Acme", "AVAILABLE", "served by"] {
        assert!(output.out.contains(name), "{name}: {}", output.out);
    }
    assert_eq!(icm_cli(&["explain", "/old/closed.nsf", "-c", &conf]).code, 2);
    let admin = format!("http://{}", icm.admin);
    assert_eq!(icm_cli(&["explain", "/sales/orders.nsf", "--admin", &admin]).code, 0);
    drop(icm);
    let unanswered = icm_cli(&["explain", "/sales/orders.nsf", "--admin", &admin]);
    assert_eq!(unanswered.code, 1, "{unanswered:?}");
    assert!(unanswered.err.contains("--offline"), "{unanswered:?}");
}

#[test]
fn explain_offline_predicts_the_proxy_from_the_cached_directory() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let (_dir, cache) = add_cache(&mut settings, "clusters.0.directory.cache");
    let offline =
        |conf: &str, url: &str| icm_cli(&["explain", url, "--offline", "--json", "-c", conf]).json();
    let (_files, before) = write_config(&settings);
    let output = offline(before.to_str().unwrap(), URLS[2]);
    assert!(output["notes"].to_string().contains("not even a cached copy"), "{output:#}");
    set(&mut settings, "clusters.0.servers.list.0.server_restricted", "1");
    let icm = Icm::start(settings);
    assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
    for url in URLS {
        assert_agrees(&offline(icm.file.to_str().unwrap(), url), &icm, url, "offline");
    }
}

fn check(settings: &Yaml) -> (i32, Vec<Value>) {
    let (_dir, file) = write_config(settings);
    let output = icm_cli(&["check", "--probe", "--json", "-c", file.to_str().unwrap()]);
    (output.code, output.json()["findings"].as_array().unwrap().clone())
}

/// The text of the failed finding about this.
fn failed_finding<'a>(found: &'a [Value], what: &str) -> &'a str {
    let hit = found.iter().find(|f| f["ok"] == false && f["what"].as_str().unwrap().contains(what));
    hit.unwrap_or_else(|| panic!("no failed finding about {what}: {found:#?}"))["text"].as_str().unwrap()
}

#[test]
fn check_probe_finds_no_fault_in_a_healthy_cluster() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    sources_of(&mut settings, &acme, &["prometheus", "console", "agent_check"], "60s");
    let (code, found) = check(&settings);
    assert_eq!(code, 0, "{found:#?}");
    // Eight ports, twelve sources, four directories.
    assert_eq!(found.len(), 24, "{found:#?}");
}

#[test]
fn check_probe_names_each_wrong_port_untrusted_certificate_and_source_without_an_answer() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    sources_of(&mut settings, &acme, &["console"], "60s");
    acme.set("Web4", json!({ "console": false }));
    acme.fault("Web2", json!("tls_expired"));
    set(&mut settings, "clusters.0.servers.list.0.http", &format!("\"127.0.0.1:{}\"", free_port()));
    let (https, http) = (acme.server("Web3").https.unwrap(), acme.http("Web3"));
    // The ports of Web3 are swapped.
    set(&mut settings, "clusters.0.servers.list.2.https", &format!("\"{http}\""));
    let (code, found) = check(&settings);
    assert_eq!(code, 2, "{found:#?}");
    assert!(failed_finding(&found, "Web1/Acme HTTP port").contains("refused"));
    assert!(failed_finding(&found, "Web2/Acme HTTPS port").contains("certificate is not trusted"));
    assert!(failed_finding(&found, "Web3/Acme HTTPS port").contains("does not speak TLS"), "{https}");
    assert!(!failed_finding(&found, "availability of Web4/Acme").is_empty());
    // Trust another authority than the one that signed.
    let other = Acme::built_in();
    let mut settings = config(&acme);
    set(&mut settings, "clusters.0.upstream_tls.ca_file", &other.ca_file.display().to_string());
    let (code, found) = check(&settings);
    assert_eq!(code, 2);
    assert!(failed_finding(&found, "Web1/Acme HTTPS port").contains("certificate is not trusted"));
}

#[test]
fn check_probe_distinguishes_missing_reader_access_from_a_wrong_password() {
    let acme = Acme::built_in();
    for server in ["Web1", "Web2", "Web3", "Web4"] {
        let locked = json!({ "server": server, "path": "cldbdir.nsf", "login": true });
        acme.ask("POST", "/databases", Some(&locked));
    }
    let (code, found) = check(&config(&acme));
    assert_eq!(code, 2);
    let anonymous = failed_finding(&found, "cldbdir.nsf of Web1/Acme").to_owned();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = config(&acme);
    let mut texts = vec![anonymous];
    for (kind, password) in [("basic", "wrong"), ("session", "wrong")] {
        let file = secret_file(dir.path(), kind, password);
        let auth = format!("{{ {kind}: {{ user: ICM Reader/Acme, password_file: {file} }} }}");
        set(&mut settings, "clusters.0.directory.auth", &auth);
        let (code, found) = check(&settings);
        assert_eq!(code, 2, "{kind}");
        texts.push(failed_finding(&found, "cldbdir.nsf of Web1/Acme").to_owned());
    }
    for text in &texts {
        let words = ["login", "password", "Reader", "credentials", "access"];
        assert!(words.iter().any(|w| text.to_lowercase().contains(&w.to_lowercase())), "{text}");
    }
    assert_ne!(texts[0], texts[1], "anonymous access and a wrong password have different texts");
}

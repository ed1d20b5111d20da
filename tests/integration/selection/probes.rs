//! Probes: ports, thresholds, timeouts, the start, and what an administrator sees.

use crate::support::*;
use serde_json::{Value, json};
use serde_yaml::Value as Yaml;

const ORDERS: &str = "/sales/orders.nsf?OpenDatabase";

/// Probes have their own path, so that a fault there affects nothing else.
fn settings(acme: &Acme) -> Yaml {
    let mut settings = config(acme);
    set(&mut settings, "clusters.0.probe.path", "/alive");
    set(&mut settings, "clusters.0.probe.interval", "100ms");
    settings
}

fn bad_probes(count: Option<u32>) -> Value {
    match count {
        Some(n) => json!({ "kind": "status", "status": 500, "path": "/alive", "port": "http", "count": n }),
        None => json!({ "kind": "status", "status": 500, "path": "/alive", "port": "http" }),
    }
}

fn transitions(icm: &Icm, name: &str) -> Vec<Value> {
    icm.events_of(name).into_iter().filter(|e| e["old"].is_string()).collect()
}

#[test]
fn a_server_changes_its_state_only_after_the_configured_number_of_probes_in_a_row() {
    let acme = Acme::built_in();
    let mut settings = settings(&acme);
    set(&mut settings, "clusters.0.probe.unreachable_after", "4");
    set(&mut settings, "clusters.0.probe.healthy_after", "3");
    let icm = Icm::start(settings);
    icm.wait_for_state("Web1", "AVAILABLE");
    let begun = transitions(&icm, "Web1").len();
    acme.fault("Web1", bad_probes(Some(3)));
    let used_up = || acme.ask("GET", "/servers/Web1", None)["faults"].as_array().is_none_or(Vec::is_empty);
    assert!(eventually(MAX_WAIT, used_up), "{:#}", acme.ask("GET", "/servers/Web1", None));
    pause(500);
    assert_eq!(transitions(&icm, "Web1").len(), begun, "three bad probes are one too few");
    acme.fault("Web1", bad_probes(Some(4)));
    let came_back = || {
        let states: Vec<Value> = transitions(&icm, "Web1").iter().map(|e| e["new"].clone()).collect();
        states.len() == begun + 2 && states[0] == "AVAILABLE" && states[1] == "UNREACHABLE"
    };
    assert!(eventually(MAX_WAIT, came_back), "{:#}", icm.status()["events"]);
}

#[test]
fn a_change_of_state_is_an_event_with_old_and_new_state_cause_and_duration() {
    let acme = Acme::built_in();
    let icm = Icm::start(settings(&acme));
    icm.wait_for_state("Web2", "AVAILABLE");
    acme.fault("Web2", bad_probes(None));
    icm.wait_for_state("Web2", "UNREACHABLE");
    // The event is recorded a moment after the state changes.
    let recorded = || transitions(&icm, "Web2").first().is_some_and(|e| e["new"] == "UNREACHABLE");
    assert!(eventually(MAX_WAIT, recorded), "{:#}", icm.status()["events"]);
    let event = &transitions(&icm, "Web2")[0];
    assert_eq!((&event["old"], &event["new"]), (&json!("AVAILABLE"), &json!("UNREACHABLE")));
    assert!(event["cause"].as_str().unwrap().contains("500"), "{event}");
    assert!(event["held_ms"].as_u64().is_some() && event["cluster"] == "AcmeWeb");
    icm.wait_for_log("Web2/Acme AVAILABLE -> UNREACHABLE after ");
}

#[test]
fn a_hanging_server_is_unreachable_after_the_probe_timeout() {
    let acme = Acme::built_in();
    let mut settings = settings(&acme);
    set(&mut settings, "clusters.0.probe.timeout", "300ms");
    let icm = Icm::start(settings);
    icm.wait_for_state("Web1", "AVAILABLE");
    acme.fault("Web1", json!({ "kind": "hang", "path": "/alive" }));
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert!(
        icm.status_of("Web1")["cause"].as_str().unwrap().contains("300ms"),
        "{:#}",
        icm.status_of("Web1")
    );
    assert_eq!(icm.status_of("Web2")["state"], "AVAILABLE", "probes of other servers are not delayed");
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
}

#[test]
fn a_probe_requests_the_configured_path_and_host_and_accepts_only_expected_statuses() {
    let acme = Acme::built_in();
    let mut settings = settings(&acme);
    set(&mut settings, "clusters.0.hostnames", "[www.acme.example]");
    let asked = |host: &str| {
        let seen = acme.requests("Web1");
        let fits = |r: &Value| r["target"] == "/alive?x=1" && r.to_string().contains(host);
        seen.iter().any(fits)
    };
    set(&mut settings, "clusters.0.probe.path", "\"/alive?x=1\"");
    let icm = Icm::start(settings.clone());
    icm.wait_for_state("Web1", "AVAILABLE");
    assert!(eventually(MAX_WAIT, || asked("www.acme.example")), "{:?}", acme.requests("Web1").last());
    set(&mut settings, "clusters.0.probe.host", "probe.acme.example");
    set(&mut settings, "clusters.0.probe.expected_statuses", "[200-299, 418]");
    icm.reload(&settings);
    assert!(eventually(MAX_WAIT, || asked("probe.acme.example")), "{:?}", acme.requests("Web1").last());
    for (status, state) in
        [(404, "UNREACHABLE"), (418, "AVAILABLE"), (302, "UNREACHABLE"), (204, "AVAILABLE")]
    {
        acme.fault("Web1", json!({ "kind": "status", "status": status, "path": "/alive" }));
        icm.wait_for_state("Web1", state);
    }
}

#[test]
fn a_port_with_an_untrusted_certificate_is_down_and_the_cause_is_an_event() {
    let acme = Acme::built_in();
    let mut settings = settings(&acme);
    set(&mut settings, "clusters.0.upstream_scheme", "https");
    acme.fault("Web1", json!("tls_wrong_name"));
    acme.fault("Web2", json!("tls_expired"));
    let icm = Icm::start(settings);
    for name in ["Web1", "Web2"] {
        icm.wait_for_server(name, "probed", |s| s["cause"].as_str().unwrap().contains("certificate"));
        assert_eq!(icm.status_of(name)["state"], "UNREACHABLE");
        // A server that was never up changes no state, so the cause needs an event of its own.
        let names_cause = |e: &Value| e["cause"].as_str().unwrap().contains("certificate");
        assert!(
            eventually(MAX_WAIT, || icm.events_of(name).iter().any(names_cause)),
            "{:#}",
            icm.status()["events"]
        );
    }
    icm.wait_for_served(ORDERS, "Web3");
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
}

#[test]
fn listeners_open_after_a_while_even_if_a_first_probe_never_ends() {
    let acme = Acme::built_in();
    let mut settings = settings(&acme);
    set(&mut settings, "clusters.0.probe.timeout", "60s");
    acme.fault("Web1", json!({ "kind": "hang", "path": "/alive" }));
    let icm = Icm::spawn(settings);
    let admin_is_up = || Client::to(icm.admin).request("GET", "/livez", &[], b"").is_ok();
    assert!(eventually(MAX_WAIT, admin_is_up), "{}", icm.log());
    let open = || std::net::TcpStream::connect(icm.address).is_ok();
    assert!(eventually(MAX_WAIT, open), "{}", icm.log());
    // It did not wait for the first pass; what it says may be read a moment later.
    icm.wait_for_log("opening the listeners although");
    assert_eq!(icm.admin("/readyz").status, 503);
    assert_eq!(icm.status_of("Web1")["state"], "UNREACHABLE", "not probed yet");
    let served = icm.served(ORDERS, 8);
    assert!(served.keys().all(|k| k == "Web2" || k == "Web3"), "{served:?}");
    // The hanging probe ends with its connection.
    acme.fault("Web1", json!({ "kind": "refuse", "kill": true }));
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "{:#}", icm.status());
}

#[test]
fn a_server_behind_a_black_hole_does_not_delay_the_others() {
    let acme = Acme::built_in();
    acme.fault("Web1", json!("blackhole"));
    let icm = Icm::start(settings(&acme));
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "{:#}", icm.status());
    let served = icm.served(ORDERS, 8);
    assert!(served.keys().all(|k| k == "Web2" || k == "Web3"), "{served:?}");
    assert_eq!(icm.status_of("Web1")["state"], "UNREACHABLE");
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
}

#[test]
fn when_every_server_is_unreachable_icm_is_ready_and_answers_503() {
    let acme = Acme::built_in();
    acme.fault("all", json!("refuse"));
    let mut settings = settings(&acme);
    let replicas = "[{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [{ server: Web1/Acme }] }]";
    set(&mut settings, "clusters.0.directory", &format!("{{ source: static, databases: {replicas} }}"));
    let icm = Icm::start(settings);
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "{:#}", icm.status());
    assert_eq!(icm.client().get("/a.nsf").status, 503);
}

#[test]
fn a_host_name_that_does_not_resolve_is_the_cause_and_affects_no_other_server() {
    let acme = Acme::built_in();
    let mut settings = settings(&acme);
    set(&mut settings, "clusters.0.servers.list.0.http", "\"nowhere.invalid:80\"");
    set(&mut settings, "clusters.0.servers.list.0.https", "\"nowhere.invalid:443\"");
    let port = acme.http("Web2").port();
    set(&mut settings, "clusters.0.servers.list.1.http", &format!("\"localhost:{port}\""));
    let icm = Icm::start(settings);
    icm.wait_for_server("Web1", "unresolved", |s| s["cause"].as_str().unwrap().contains("does not resolve"));
    assert_eq!(icm.status_of("Web1")["state"], "UNREACHABLE");
    icm.wait_for_state("Web2", "AVAILABLE");
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "{:#}", icm.status());
    let served = icm.served(ORDERS, 8);
    assert!(served.keys().all(|k| k == "Web2" || k == "Web3"), "{served:?}");
}

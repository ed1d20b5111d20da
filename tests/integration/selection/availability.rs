//! Availability sources: what their reports change, what lapses without reports, and which port of a server must answer.

use crate::support::*;
use serde_json::{Value, json};
use serde_yaml::Value as Yaml;

/// Web1, Web2 and Web3 hold it.
const ORDERS: &str = "/sales/orders.nsf?OpenDatabase";

fn cluster(sources: &[&str], stale_after: &str) -> (Acme, Icm, Yaml) {
    let acme = Acme::built_in();
    acme.set("all", json!({ "index": 80 }));
    let mut settings = config(&acme);
    sources_of(&mut settings, &acme, sources, stale_after);
    let icm = Icm::start(settings.clone());
    icm.wait_for_server("Web1", "with index 80", |s| s["index"] == 80);
    (acme, icm, settings)
}

#[test]
fn agent_ready_clears_only_drain_and_agent_up_clears_only_down() {
    let (acme, icm, _) = cluster(&["agent_check"], "20s");
    let say = |line: &str| acme.set("Web1", json!({ "agent": line }));
    let state = |line: &str, expected: &str| {
        say(line);
        // Lines that do not change the state carry an index, which shows that they were read.
        icm.wait_for_state("Web1", expected);
    };
    state("drain", "RESTRICTED");
    state("down#HTTP task ended", "UNREACHABLE");
    assert!(icm.status_of("Web1")["cause"].as_str().unwrap().contains("HTTP task ended"));
    say("ready 33%");
    icm.wait_for_server("Web1", "updated", |s| s["index"] == 33);
    assert_eq!(icm.status_of("Web1")["state"], "UNREACHABLE", "ready does not clear down");
    say("drain 34%");
    icm.wait_for_server("Web1", "updated", |s| s["index"] == 34);
    state("up 35%", "RESTRICTED");
    icm.wait_for_server("Web1", "updated", |s| s["index"] == 35);
    assert_eq!(icm.status_of("Web1")["state"], "RESTRICTED", "up does not clear drain");
    state("ready", "AVAILABLE");
    for word in ["maint", "failed", "stopped"] {
        state(word, "UNREACHABLE");
        assert!(!icm.served(ORDERS, 6).contains_key("Web1"), "{word}");
        state("up ready 80%", "AVAILABLE");
    }
}

#[test]
fn maxconn_of_the_agent_limits_the_requests_in_flight() {
    let (acme, icm, _) = cluster(&["agent_check"], "20s");
    acme.set("all", json!({ "agent": "up ready 40%" }));
    acme.set("Web1", json!({ "agent": "up ready 95% maxconn:1" }));
    // Wait for its report: before that, selection among all servers is random.
    icm.wait_for_server("Web1", "reported", |s| s["index"] == 95);
    icm.wait_for_served(ORDERS, "Web1");
    // The request ends a moment after its answer arrives.
    icm.wait_for_server("Web1", "idle", |s| s["in_flight"] == 0);
    let mut slow = icm.client();
    let head = slow.head("GET", "/sales/orders.nsf?OpenDatabase&delay=4000", &[]);
    slow.send(head.as_bytes()).unwrap();
    icm.wait_for_server("Web1", "at work", |s| s["in_flight"] == 1);
    let served = icm.served(ORDERS, 4);
    assert!(!served.contains_key("Web1") && !served.contains_key("503"), "{served:?}");
    assert_eq!(slow.read("GET").unwrap().server(), "Web1/Acme");
    icm.wait_for_served(ORDERS, "Web1");
}

#[test]
fn an_exporter_with_a_frozen_clock_is_stale_and_its_server_stays_available() {
    let (acme, icm, _) = cluster(&["prometheus"], "3s");
    acme.set("Web1", json!({ "index": 10, "threshold": 20 }));
    icm.wait_for_state("Web1", "BUSY");
    acme.set("Web1", json!({ "frozen": true }));
    icm.wait_for_server("Web1", "stale", |s| s["index"].is_null());
    icm.wait_for_state("Web1", "AVAILABLE");
    // RESTRICTED is still read from a stale report.
    acme.set("Web1", json!({ "restricted": 1 }));
    icm.wait_for_state("Web1", "RESTRICTED");
    assert_eq!(icm.status_of("Web1")["restriction_stale"], true, "{:#}", icm.status_of("Web1"));
    acme.set("Web1", json!({ "frozen": false, "restricted": 0 }));
    icm.wait_for_state("Web1", "BUSY");
}

#[test]
fn a_server_with_threshold_100_is_busy_without_an_index_and_serves_as_a_last_resort() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    for server in [0, 1] {
        let key = format!("clusters.0.servers.list.{server}.server_availability_threshold");
        set(&mut settings, &key, "100");
    }
    let icm = Icm::start(settings);
    for name in ["Web1", "Web2"] {
        icm.wait_for_state(name, "BUSY");
        assert!(icm.status_of(name)["reason"].as_str().unwrap().contains("100"), "{}", icm.status_of(name));
    }
    icm.wait_for_served(ORDERS, "Web3");
    acme.fault("Web3", json!("refuse"));
    icm.wait_for_state("Web3", "UNREACHABLE");
    let served = icm.served(ORDERS, 6);
    assert!(served.keys().all(|k| k == "Web1" || k == "Web2"), "BUSY servers still serve: {served:?}");
}

#[test]
fn after_busy_a_published_rise_of_the_index_counts_at_once() {
    let (acme, icm, _) = cluster(&["prometheus"], "60s");
    // Response times of all servers are known, so that observed indexes could outweigh the published one.
    let known = || {
        icm.served(ORDERS, 20);
        ["Web1", "Web2", "Web3"].iter().all(|name| icm.counter_of(name, "answered") >= 12)
    };
    assert!(eventually(MAX_WAIT, known), "{:#}", icm.status()["clusters"][0]["servers"]);
    acme.set("all", json!({ "index": 50 }));
    acme.set("Web1", json!({ "index": 10, "threshold": 20 }));
    icm.wait_for_state("Web1", "BUSY");
    for name in ["Web2", "Web3"] {
        icm.wait_for_server(name, "with index 50", |s| s["index"] == 50);
    }
    pause(4_000);
    assert!(!icm.served(ORDERS, 10).contains_key("Web1"));
    acme.set("Web1", json!({ "index": 95, "threshold": 20 }));
    icm.wait_for_server("Web1", "with index 95", |s| s["index"] == 95);
    let served = icm.served(ORDERS, 10);
    assert!(
        served.keys().eq(["Web1"]),
        "{served:?} {:#}",
        icm.admin("/explain?url=/sales/orders.nsf").json()
    );
}

#[test]
fn servers_that_differ_by_a_millisecond_share_the_users() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    settings["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap().truncate(2);
    acme.fault("Web1", json!({ "kind": "slow", "delay_ms": 5 }));
    acme.fault("Web2", json!({ "kind": "slow", "delay_ms": 6 }));
    let icm = Icm::start(settings);
    for name in ["Web1", "Web2"] {
        icm.wait_for_state(name, "AVAILABLE");
    }
    let both = |least: usize| {
        let served = icm.served(ORDERS, 60);
        ["Web1", "Web2"].iter().all(|name| served.get(*name).is_some_and(|n| *n >= least))
    };
    // Until enough response times of both are known, selection is random.
    icm.served(ORDERS, 80);
    let shared = (0..6).filter(|_| both(10)).count();
    assert!(shared > 0, "one server got all requests: {:#}", icm.status()["clusters"][0]["servers"]);
}

#[test]
fn when_a_source_stops_its_measurements_lapse_and_restricted_stays() {
    let stop = |source: &str| match source {
        "prometheus" => json!({ "prometheus": false }),
        "console" => json!({ "console": false }),
        "agent_check" => json!({ "agent_check": false }),
        _ => json!({ "statpub": false }),
    };
    for source in ["prometheus", "console", "agent_check", "statpub"] {
        let (acme, icm, _) = cluster(&[source], "2s");
        if source == "agent_check" {
            acme.set("Web2", json!({ "agent": "up drain 50%" }));
            acme.set("Web3", json!({ "agent": "down 50%" }));
            icm.wait_for_state("Web3", "UNREACHABLE");
        } else {
            acme.set("Web1", json!({ "index": 10, "threshold": 20 }));
            icm.wait_for_state("Web1", "BUSY");
        }
        let reports_restricted = source != "statpub";
        if reports_restricted {
            acme.set("Web2", json!({ "restricted": 1 }));
            icm.wait_for_state("Web2", "RESTRICTED");
        }
        acme.set("all", stop(source));
        icm.wait_for_server("Web1", "unknown", |s| s["index"].is_null());
        icm.wait_for_state("Web1", "AVAILABLE");
        icm.wait_for_state("Web3", "AVAILABLE");
        if reports_restricted {
            icm.wait_for_server("Web2", "stale", |s| s["restriction_stale"] == true);
            assert_eq!(icm.status_of("Web2")["state"], "RESTRICTED", "{source}");
        }
        let served = icm.served(ORDERS, 6);
        assert!(
            served.keys().all(|k| k.starts_with("Web")),
            "{source}: a stopped source makes no server UNREACHABLE: {served:?}"
        );
    }
}

#[test]
fn of_several_sources_the_newest_report_wins_and_one_source_is_enough() {
    let all = ["prometheus", "console", "agent_check", "statpub"];
    let (acme, icm, _) = cluster(&all, "2s");
    let mut index = 30;
    for stopped in [None, Some("prometheus"), Some("console"), Some("agent_check")] {
        if let Some(source) = stopped {
            acme.set("Web1", json!({ source: false }));
        }
        index += 10;
        acme.set("Web1", json!({ "index": index }));
        icm.wait_for_server("Web1", "renewed", |s| s["index"] == index);
    }
    acme.set("Web1", json!({ "statpub": false }));
    icm.wait_for_server("Web1", "unknown", |s| s["index"].is_null());
    assert_eq!(icm.status_of("Web1")["state"], "AVAILABLE");
}

#[test]
fn a_reload_that_removes_a_source_removes_its_reports() {
    let (acme, icm, mut settings) = cluster(&["agent_check"], "10m");
    acme.set("Web1", json!({ "agent": "maint" }));
    acme.set("Web2", json!({ "agent": "drain" }));
    icm.wait_for_state("Web1", "UNREACHABLE");
    icm.wait_for_state("Web2", "RESTRICTED");
    // A reload that keeps the source keeps its reports.
    set(&mut settings, "clusters.0.failover.attempts", "2");
    icm.reload(&settings);
    icm.wait_for_log("configuration reloaded");
    assert_eq!(icm.status_of("Web1")["state"], "UNREACHABLE");
    sources_of(&mut settings, &acme, &["observed"], "3m");
    icm.reload(&settings);
    icm.wait_for_state("Web1", "AVAILABLE");
    icm.wait_for_state("Web2", "AVAILABLE");
}

fn scheme_of(answer: &Answer) -> Value {
    answer.json()["scheme"].clone()
}

#[test]
fn upstream_scheme_chooses_the_port_that_must_answer() {
    let acme = Acme::built_in();
    for (scheme, dead, alive) in [("http", "http", "https"), ("https", "https", "http")] {
        acme.heal("all");
        let mut settings = config(&acme);
        set(&mut settings, "clusters.0.upstream_scheme", scheme);
        let icm = Icm::start(settings);
        let echo = icm.client().get("/sales/orders.nsf?OpenDatabase&echo=json");
        assert_eq!(scheme_of(&echo), scheme);
        acme.fault("Web1", json!({ "kind": "refuse", "port": alive }));
        icm.wait_for_server("Web1", "half dead", |s| s[format!("{alive}_up")] == false);
        assert_eq!(icm.status_of("Web1")["state"], "AVAILABLE", "{scheme}: the other port is not used");
        assert!(!icm.events_of("Web1").is_empty(), "the failed port is an event");
        acme.fault("Web1", json!({ "kind": "refuse", "port": dead }));
        icm.wait_for_state("Web1", "UNREACHABLE");
        let served = icm.served(ORDERS, 12);
        assert!(served.keys().all(|k| k == "Web2" || k == "Web3"), "{scheme}: {served:?}");
        acme.fault("Web1", json!(null));
        icm.wait_for_state("Web1", "AVAILABLE");
    }
}

#[test]
fn with_scheme_same_each_client_needs_the_port_of_its_own_scheme() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    set(&mut settings, "clusters.0.upstream_scheme", "same");
    let secure = add_tls(&mut settings, &acme);
    // Web2 has no HTTPS port, Web3 no HTTP port.
    let list = settings["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list[1].as_mapping_mut().unwrap().remove("https");
    list[2].as_mapping_mut().unwrap().remove("http");
    let icm = Icm::start(settings);
    wait_for(secure);
    let https = || {
        let mut client = Client::tls(secure, "localhost", &acme.ca_file);
        let answer = client.get(ORDERS);
        answer.server().split('/').next().unwrap_or("").to_owned()
    };
    for name in ["Web1", "Web2", "Web3"] {
        icm.wait_for_state(name, "AVAILABLE");
    }
    let plain = icm.served(ORDERS, 16);
    assert!(plain.keys().all(|k| k == "Web1" || k == "Web2"), "{plain:?}");
    assert!((0..8).map(|_| https()).all(|s| s == "Web1" || s == "Web3"));
    // The HTTPS port of Web1 fails while its HTTP port answers.
    acme.fault("Web1", json!({ "kind": "refuse", "port": "https" }));
    icm.wait_for_server("Web1", "half dead", |s| s["https_up"] == false && s["http_up"] == true);
    assert!((0..8).map(|_| https()).all(|s| s == "Web3"));
    assert_eq!(icm.status_of("Web1")["state"], "AVAILABLE");
    let has_event =
        |text: &str| icm.events_of("Web1").iter().any(|e| e["cause"].as_str().unwrap().contains(text));
    assert!(eventually(MAX_WAIT, || has_event("HTTPS")), "{:#}", icm.status()["events"]);
    acme.fault("Web2", json!("refuse"));
    icm.wait_for_state("Web2", "UNREACHABLE");
    icm.wait_for_served(ORDERS, "Web1");
    acme.heal("Web1");
    assert!(eventually(MAX_WAIT, || has_event("HTTPS port answers again")), "{:#}", icm.status()["events"]);
}

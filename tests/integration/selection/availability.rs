//! Availability sources: what their reports and their silence change, and which port of a server is meant.

use crate::support::*;
use serde_json::{Value, json};
use serde_yaml::Value as Yaml;

/// On Web1, Web2 and Web3.
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
fn ready_and_up_each_clear_only_their_own_word_of_the_agent() {
    let (acme, icm, _) = cluster(&["agent_check"], "20s");
    let say = |line: &str| acme.set("Web1", json!({ "agent": line }));
    let state = |line: &str, expected: &str| {
        say(line);
        // A line that changes nothing must have been heard, too: it carries an index of its own.
        icm.wait_for_state("Web1", expected);
    };
    state("drain", "RESTRICTED");
    state("down#HTTP task ended", "UNREACHABLE");
    assert!(icm.status_of("Web1")["cause"].as_str().unwrap().contains("HTTP task ended"));
    say("ready 33%");
    icm.wait_for_server("Web1", "heard", |s| s["index"] == 33);
    assert_eq!(icm.status_of("Web1")["state"], "UNREACHABLE", "ready does not clear down");
    say("drain 34%");
    icm.wait_for_server("Web1", "heard", |s| s["index"] == 34);
    state("up 35%", "RESTRICTED");
    icm.wait_for_server("Web1", "heard", |s| s["index"] == 35);
    assert_eq!(icm.status_of("Web1")["state"], "RESTRICTED", "up does not clear drain");
    state("ready", "AVAILABLE");
    for word in ["maint", "failed", "stopped"] {
        state(word, "UNREACHABLE");
        assert!(!icm.served(ORDERS, 6).contains_key("Web1"), "{word}");
        state("up ready 80%", "AVAILABLE");
    }
}

#[test]
fn maxconn_of_the_agent_caps_what_the_server_gets() {
    let (acme, icm, _) = cluster(&["agent_check"], "20s");
    acme.set("all", json!({ "agent": "up ready 40%" }));
    acme.set("Web1", json!({ "agent": "up ready 95% maxconn:1" }));
    // Its own word, not a lucky draw among servers of which nothing was read yet.
    icm.wait_for_server("Web1", "reported", |s| s["index"] == 95);
    icm.wait_for_served(ORDERS, "Web1");
    // The answer is here a moment before its request is over: until then there is no room for another one.
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
fn an_exporter_whose_clock_stands_still_is_stale_and_the_server_lives() {
    let (acme, icm, _) = cluster(&["prometheus"], "3s");
    acme.set("Web1", json!({ "index": 10, "threshold": 20 }));
    icm.wait_for_state("Web1", "BUSY");
    acme.set("Web1", json!({ "frozen": true }));
    icm.wait_for_server("Web1", "stale", |s| s["index"].is_null());
    icm.wait_for_state("Web1", "AVAILABLE");
    // The administrator's word is read anew even so.
    acme.set("Web1", json!({ "restricted": 1 }));
    icm.wait_for_state("Web1", "RESTRICTED");
    assert_eq!(icm.status_of("Web1")["restriction_stale"], true, "{:#}", icm.status_of("Web1"));
    acme.set("Web1", json!({ "frozen": false, "restricted": 0 }));
    icm.wait_for_state("Web1", "BUSY");
}

#[test]
fn a_server_with_threshold_hundred_is_busy_although_nobody_publishes_an_index_and_serves_as_the_last() {
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
    assert!(served.keys().all(|k| k == "Web1" || k == "Web2"), "BUSY never refuses: {served:?}");
}

#[test]
fn after_busy_a_published_rise_is_believed_at_once() {
    let (acme, icm, _) = cluster(&["prometheus"], "60s");
    // Response times are known of all of them: what is published is held against that.
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
    // Until enough was seen of both, chance draws.
    icm.served(ORDERS, 80);
    let shared = (0..6).filter(|_| both(10)).count();
    assert!(shared > 0, "one server took everybody: {:#}", icm.status()["clusters"][0]["servers"]);
}

#[test]
fn when_a_source_falls_silent_its_measurements_lapse_and_restricted_stays() {
    let silence = |source: &str| match source {
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
        let says_restricted = source != "statpub";
        if says_restricted {
            acme.set("Web2", json!({ "restricted": 1 }));
            icm.wait_for_state("Web2", "RESTRICTED");
        }
        acme.set("all", silence(source));
        icm.wait_for_server("Web1", "unknown", |s| s["index"].is_null());
        icm.wait_for_state("Web1", "AVAILABLE");
        icm.wait_for_state("Web3", "AVAILABLE");
        if says_restricted {
            icm.wait_for_server("Web2", "stale", |s| s["restriction_stale"] == true);
            assert_eq!(icm.status_of("Web2")["state"], "RESTRICTED", "{source}");
        }
        let served = icm.served(ORDERS, 6);
        assert!(served.keys().all(|k| k.starts_with("Web")), "{source}: silence kills nobody: {served:?}");
    }
}

#[test]
fn of_several_sources_the_freshest_wins_and_the_last_one_that_speaks_is_enough() {
    let all = ["prometheus", "console", "agent_check", "statpub"];
    let (acme, icm, _) = cluster(&all, "2s");
    let mut index = 30;
    for silent in [None, Some("prometheus"), Some("console"), Some("agent_check")] {
        if let Some(source) = silent {
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
fn what_a_source_said_goes_with_the_source_when_a_reload_removes_it() {
    let (acme, icm, mut settings) = cluster(&["agent_check"], "10m");
    acme.set("Web1", json!({ "agent": "maint" }));
    acme.set("Web2", json!({ "agent": "drain" }));
    icm.wait_for_state("Web1", "UNREACHABLE");
    icm.wait_for_state("Web2", "RESTRICTED");
    // The same source again: what it said stays.
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
        assert_eq!(
            icm.status_of("Web1")["state"],
            "AVAILABLE",
            "{scheme}: the other port serves nobody anyway"
        );
        assert!(!icm.events_of("Web1").is_empty(), "and yet it is said");
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
    let said = |word: &str| icm.events_of("Web1").iter().any(|e| e["cause"].as_str().unwrap().contains(word));
    assert!(eventually(MAX_WAIT, || said("HTTPS")), "{:#}", icm.status()["events"]);
    acme.fault("Web2", json!("refuse"));
    icm.wait_for_state("Web2", "UNREACHABLE");
    icm.wait_for_served(ORDERS, "Web1");
    acme.heal("Web1");
    assert!(eventually(MAX_WAIT, || said("HTTPS port answers again")), "{:#}", icm.status()["events"]);
}

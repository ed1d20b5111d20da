//! The rules of selection: a test sets a state through an availability source, sends requests, and checks which simulated
//! server answered.

use crate::support::*;
use serde_json::json;
use serde_yaml::Value as Yaml;

/// Web1, Web2 and Web3 hold it.
const ORDERS: &str = "/sales/orders.nsf?OpenDatabase";
/// Each source alone, then all together.
const SOURCES: [&[&str]; 5] = [
    &["prometheus"],
    &["console"],
    &["agent_check"],
    &["statpub"],
    &["prometheus", "console", "agent_check", "statpub"],
];

/// A cluster that publishes through these sources. Every server has index 80, none is BUSY.
fn cluster(sources: &[&str], change: impl FnOnce(&mut Yaml)) -> (Acme, Icm) {
    let acme = Acme::built_in();
    acme.set("all", json!({ "index": 80, "threshold": 0, "users": 10 }));
    let mut settings = config(&acme);
    sources_of(&mut settings, &acme, sources, "20s");
    // A line of an agent has no threshold, so the configuration sets it.
    if sources == ["agent_check"] {
        for n in 0..4 {
            set(&mut settings, &format!("clusters.0.servers.list.{n}.server_availability_threshold"), "20");
        }
    }
    change(&mut settings);
    let icm = Icm::start(settings);
    for name in ["Web1", "Web2", "Web3"] {
        icm.wait_for_server(name, "with index 80", |s| s["index"] == 80);
    }
    (acme, icm)
}

fn publishes_threshold(sources: &[&str]) -> bool {
    sources != ["agent_check"]
}

#[test]
fn the_server_with_the_highest_index_of_any_source_is_selected() {
    for sources in SOURCES {
        let (acme, icm) = cluster(sources, |_| {});
        acme.set("Web1", json!({ "index": 90 }));
        acme.set("Web2", json!({ "index": 40 }));
        acme.set("Web3", json!({ "index": 40 }));
        icm.wait_for_served(ORDERS, "Web1");
        acme.set("Web1", json!({ "index": 40 }));
        acme.set("Web2", json!({ "index": 90 }));
        icm.wait_for_served(ORDERS, "Web2");
    }
}

#[test]
fn a_busy_server_is_set_aside_and_serves_only_when_no_other_is_left() {
    for sources in SOURCES {
        let (acme, icm) = cluster(sources, |_| {});
        let threshold = u8::from(publishes_threshold(sources)) * 20;
        // An index equal to the threshold is BUSY.
        acme.set("Web1", json!({ "index": 20, "threshold": threshold }));
        icm.wait_for_state("Web1", "BUSY");
        let served = icm.served(ORDERS, 12);
        assert!(!served.contains_key("Web1") && !served.contains_key("503"), "{sources:?}: {served:?}");
        acme.fault("Web2", json!("refuse"));
        acme.fault("Web3", json!("refuse"));
        icm.wait_for_state("Web2", "UNREACHABLE");
        icm.wait_for_state("Web3", "UNREACHABLE");
        assert!(icm.served(ORDERS, 4).keys().eq(["Web1"]), "{sources:?}");
        // An index above the threshold is not BUSY.
        acme.set("Web1", json!({ "index": 21 }));
        icm.wait_for_state("Web1", "AVAILABLE");
    }
}

#[test]
fn when_every_server_is_busy_the_one_with_the_highest_index_serves() {
    let (acme, icm) = cluster(&["console"], |_| {});
    acme.set("all", json!({ "index": 5, "threshold": 50 }));
    acme.set("Web3", json!({ "index": 45 }));
    for name in ["Web1", "Web2", "Web3"] {
        icm.wait_for_state(name, "BUSY");
    }
    icm.wait_for_served(ORDERS, "Web3");
    assert!(icm.metric("icm_command_redirects_clusterbusy_total ").unwrap() >= 8.0);
}

#[test]
fn a_server_at_its_configured_or_own_user_limit_is_set_aside() {
    for sources in [&["prometheus"][..], &["console"], &["statpub"]] {
        let (acme, icm) = cluster(sources, |c| set(c, "clusters.0.servers.list.0.server_max_users", "200"));
        acme.set("Web1", json!({ "users": 199, "index": 100 }));
        icm.wait_for_served(ORDERS, "Web1");
        acme.set("Web1", json!({ "users": 200 }));
        icm.wait_for_state("Web1", "MAXUSERS");
        assert!(!icm.served(ORDERS, 12).contains_key("Web1"), "{sources:?}");
        acme.set("Web2", json!({ "index": 1, "threshold": 2 }));
        acme.fault("Web3", json!("refuse"));
        if publishes_threshold(sources) {
            icm.wait_for_state("Web2", "BUSY");
        }
        icm.wait_for_state("Web3", "UNREACHABLE");
        icm.wait_for_served(ORDERS, "Web1");
    }
    let (acme, icm) = cluster(&["console"], |_| {});
    acme.set("Web1", json!({ "users": 300, "maxusers": 300, "index": 100 }));
    icm.wait_for_state("Web1", "MAXUSERS");
    assert!(!icm.served(ORDERS, 12).contains_key("Web1"));
}

#[test]
fn a_restricted_server_never_serves_a_new_user_even_when_no_other_is_left() {
    for sources in [&["prometheus"][..], &["console"], &["agent_check"], SOURCES[4]] {
        let (acme, icm) = cluster(sources, |_| {});
        acme.set("Web1", json!({ "restricted": 1, "index": 100 }));
        icm.wait_for_state("Web1", "RESTRICTED");
        assert!(!icm.served(ORDERS, 12).contains_key("Web1"), "{sources:?}");
        acme.set("all", json!({ "restricted": 4 }));
        icm.wait_for_state("Web2", "RESTRICTED");
        icm.wait_for_state("Web3", "RESTRICTED");
        let answer = icm.client().get(ORDERS);
        assert_eq!(answer.status, 503, "{sources:?}");
        assert!(answer.header("retry-after").is_some());
        acme.set("all", json!({ "restricted": 0 }));
        icm.wait_for_state("Web1", "AVAILABLE");
        icm.wait_for_served(ORDERS, "Web1");
    }
}

#[test]
fn unreachable_servers_are_excluded_and_without_any_other_the_answer_is_503_with_retry_after() {
    let (acme, icm) = cluster(&["console"], |_| {});
    acme.fault("Web1", json!("refuse"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    let served = icm.served(ORDERS, 12);
    assert!(served.keys().all(|k| k == "Web2" || k == "Web3"), "{served:?}");
    acme.fault("all", json!("refuse"));
    icm.wait_for_state("Web2", "UNREACHABLE");
    icm.wait_for_state("Web3", "UNREACHABLE");
    let answer = icm.client().get(ORDERS);
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some() && !answer.text().contains("Web1"));
    acme.heal("all");
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
}

#[test]
fn with_last_resort_try_unreachable_unreachable_holders_are_tried() {
    let (acme, icm) = cluster(&["console"], |c| {
        set(c, "clusters.0.failover.last_resort", "try_unreachable");
        set(c, "clusters.0.probe.path", "/alive");
    });
    acme.fault("all", json!({ "kind": "status", "status": 500, "path": "/alive" }));
    for name in ["Web1", "Web2", "Web3"] {
        icm.wait_for_state(name, "UNREACHABLE");
    }
    let served = icm.served(ORDERS, 4);
    assert!(served.keys().all(|k| k.starts_with("Web")), "{served:?}");
}

#[test]
fn replicas_out_of_service_or_pending_delete_get_no_new_user() {
    let (_acme, icm) = cluster(&["console"], |_| {});
    let served = icm.served("/hr/vacation.nsf", 12);
    assert!(!served.contains_key("Web2") && !served.contains_key("503"), "{served:?}");
    icm.wait_for_served("/old/phonebook.nsf", "Web3");
    let answer = icm.client().get("/old/closed.nsf");
    assert_eq!(answer.status, 503);
    assert!(answer.text().to_lowercase().contains("out of service"), "{}", answer.text());
}

#[test]
fn a_user_with_affinity_stays_on_a_marked_replica() {
    let (acme, icm) = cluster(&["console"], |_| {});
    for mark in ["out_of_service", "pending_delete"] {
        acme.set("all", json!({ "index": 20 }));
        acme.set("Web2", json!({ "index": 95 }));
        let mut user = Browser::new(icm.address);
        icm.wait_for_served(ORDERS, "Web2");
        assert_eq!(user.get(ORDERS).served_by(), "Web2");
        let copy = |mark: &str| json!({ "server": "Web2", "path": "sales/orders.nsf", "mark": mark });
        acme.ask("POST", "/databases", Some(&copy(mark)));
        let dropped = || !icm.served(ORDERS, 4).contains_key("Web2");
        assert!(eventually(MAX_WAIT, dropped), "{mark} is not read");
        assert_eq!(user.get(ORDERS).served_by(), "Web2", "{mark}: a user with affinity stays");
        acme.ask("POST", "/databases", Some(&copy("in_service")));
        icm.wait_for_served(ORDERS, "Web2");
    }
}

#[test]
fn the_configured_threshold_overrides_the_published_one() {
    let (acme, icm) = cluster(&["prometheus"], |c| {
        set(c, "clusters.0.servers.list.0.server_availability_threshold", "0");
        set(c, "clusters.0.servers.list.1.server_availability_threshold", "90");
    });
    icm.wait_for_state("Web2", "BUSY");
    acme.set("Web1", json!({ "index": 30, "threshold": 100 }));
    acme.set("Web3", json!({ "index": 30, "threshold": 100 }));
    icm.wait_for_state("Web3", "BUSY");
    let web1 = icm.status_of("Web1");
    assert_eq!((&web1["state"], &web1["threshold"]), (&json!("AVAILABLE"), &json!(0)), "0 is never BUSY");
    icm.wait_for_served(ORDERS, "Web1");
}

#[test]
fn server_restricted_in_the_configuration_holds_until_a_reload_removes_it() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    set(&mut settings, "clusters.0.servers.list.0.server_restricted", "1");
    let icm = Icm::start(settings.clone());
    icm.wait_for_state("Web1", "RESTRICTED");
    let served = icm.served(ORDERS, 12);
    assert!(!served.contains_key("Web1") && !served.contains_key("503"), "{served:?}");
    set(&mut settings, "clusters.0.servers.list.0.server_restricted", "0");
    icm.reload(&settings);
    icm.wait_for_state("Web1", "AVAILABLE");
}

#[test]
fn a_user_stays_on_a_busy_full_or_draining_server_and_leaves_it_after_the_drain_timeout() {
    let mut settings = Yaml::Null;
    let (acme, icm) = cluster(&["console"], |c| {
        set(c, "clusters.0.affinity.drain_timeout", "10m");
        settings = c.clone();
    });
    acme.set("all", json!({ "index": 40 }));
    acme.set("Web1", json!({ "index": 95 }));
    icm.wait_for_served(ORDERS, "Web1");
    let mut user = Browser::new(icm.address);
    assert_eq!(user.get(ORDERS).served_by(), "Web1");
    let states = [
        ("BUSY", json!({ "index": 10, "threshold": 30 }), json!({ "threshold": 0 })),
        ("MAXUSERS", json!({ "users": 50, "maxusers": 50 }), json!({ "maxusers": 0 })),
        ("RESTRICTED", json!({ "restricted": 2 }), json!({})),
    ];
    for (state, set, unset) in states {
        acme.set("Web1", set);
        icm.wait_for_state("Web1", state);
        assert!(!icm.served(ORDERS, 6).contains_key("Web1"), "{state}: no new user");
        assert_eq!(user.get(ORDERS).served_by(), "Web1", "{state}: a user with affinity stays");
        acme.set("Web1", unset);
    }
    // Web1 has been RESTRICTED for longer than the new timeout.
    set(&mut settings, "clusters.0.affinity.drain_timeout", "1ms");
    icm.reload(&settings);
    let left = eventually(MAX_WAIT, || user.get(ORDERS).served_by() != "Web1");
    assert!(left, "the user never left the drained server");
    assert_ne!(user.get(ORDERS).served_by(), "503");
}

#[test]
fn a_recovered_server_gets_its_share_gradually() {
    let (acme, icm) = cluster(&["prometheus"], |c| set(c, "clusters.0.failover.slow_start", "10m"));
    acme.fault("Web1", json!("refuse"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
    // A tenth of its share at first; without slow start it would get a third of the requests.
    let served = icm.served(ORDERS, 300);
    assert!(*served.get("Web1").unwrap_or(&0) < 40, "{served:?}");
    assert!(icm.explain(ORDERS)["candidates"].to_string().contains("Web1"));
}

#[test]
fn equal_servers_get_requests_in_proportion_to_their_weights() {
    let (_acme, icm) = cluster(&["prometheus"], |c| {
        set(c, "clusters.0.servers.list.0.weight", "1");
        set(c, "clusters.0.servers.list.1.weight", "9");
        set(c, "clusters.0.servers.list.2.server_restricted", "1");
    });
    icm.wait_for_state("Web3", "RESTRICTED");
    let served = icm.served(ORDERS, 200);
    let (light, heavy) = (*served.get("Web1").unwrap_or(&0), *served.get("Web2").unwrap_or(&0));
    assert!(light + heavy == 200 && light > 0 && heavy > 3 * light, "{served:?}");
}

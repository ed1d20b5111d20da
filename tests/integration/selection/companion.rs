//! The companion as a source: its statistics, the marks and times of its replicas, and documents that are not as
//! expected.

use crate::support::*;
use serde_json::{Value, json};

const ALL: &str = "/all.nsf?OpenDatabase";
const COMPANION: &str = "{ source: companion, interval: 200ms, stale_after: 20s }";

/// A cluster with companions whose directory has no columns with marks.
fn start(more: &[(&str, &str)]) -> (Acme, Icm, serde_yaml::Value) {
    let acme = Acme::replicating("{ push_ms: 50 }");
    acme.set("all", json!({ "companion": true, "index": 90 }));
    let mut config = config(&acme);
    set(&mut config, "clusters.0.directory.columns", "{ path: 0, server: 1, title: 2, replica_id: 3 }");
    set(&mut config, "clusters.0.availability", COMPANION);
    for (key, value) in more {
        set(&mut config, &format!("clusters.0.{key}"), value);
    }
    let icm = Icm::start(config.clone());
    (acme, icm, config)
}

fn replica(icm: &Icm, path: &str, server: &str) -> Value {
    let answer = icm.admin(&format!("/databases?q={path}")).json();
    let name = format!("{server}/Acme");
    let replicas = answer["databases"][0]["replicas"].as_array().cloned().unwrap_or_default();
    replicas.into_iter().find(|r| r["server"] == name.as_str()).unwrap_or_default()
}

fn wait_for_replica(icm: &Icm, server: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
    let came = eventually(MAX_WAIT, || is_so(&replica(icm, "all.nsf", server)));
    assert!(came, "{server} never {what}: {:#}\n{}", replica(icm, "all.nsf", server), icm.log());
}

fn mark(acme: &Acme, server: &str, mark: &str) {
    let copy = json!({ "server": server, "path": "all.nsf", "replica_id": "C1257A000041D201",
        "title": "All", "mark": mark });
    acme.ask("POST", "/databases", Some(&copy));
}

#[test]
fn the_statistics_of_the_companion_are_those_of_any_source() {
    let (acme, icm, _) = start(&[]);
    icm.wait_for_server("Web1", "with index 90", |s| s["index"] == 90);
    acme.set("Web1", json!({ "index": 10, "threshold": 20 }));
    icm.wait_for_state("Web1", "BUSY");
    acme.set("Web2", json!({ "restricted": 1 }));
    icm.wait_for_state("Web2", "RESTRICTED");
    acme.set("Web3", json!({ "users": 300, "maxusers": 200 }));
    icm.wait_for_state("Web3", "MAXUSERS");
}

#[test]
fn marks_of_the_companion_move_users_as_those_of_the_directory_do() {
    let (acme, icm, _) = start(&[]);
    icm.wait_for_server("Web1", "with index 90", |s| s["index"] == 90);
    let of_web1 = icm.cookie_for("Web1", ALL);
    mark(&acme, "Web1", "out_of_service");
    wait_for_replica(&icm, "Web1", "marked", |r| r["mark"] == "out_of_service");
    assert!(eventually(MAX_WAIT, || !icm.served(ALL, 20).contains_key("Web1")));
    let inside = icm.client().get_with(ALL, &[("Cookie", &format!("ICM={of_web1}"))]);
    assert_eq!(inside.server(), "Web1/Acme", "users who are there may stay");
    let candidates = icm.explain(ALL)["candidates"].as_array().unwrap().clone();
    let web1 = candidates.iter().find(|c| c["server"] == "Web1/Acme").unwrap();
    assert_eq!(
        (&web1["mark"], &web1["verdict"]),
        (&json!("out_of_service"), &json!("dropped: the replica is out of service"))
    );
    mark(&acme, "Web2", "pending_delete");
    icm.wait_for_served(ALL, "Web3");
    for server in ["Web1", "Web2"] {
        mark(&acme, server, "in_service");
        wait_for_replica(&icm, server, "in service", |r| r["mark"] == "in_service");
    }
    assert!(eventually(MAX_WAIT, || icm.served(ALL, 30).len() == 3));
}

#[test]
fn a_mark_of_a_static_directory_and_one_of_the_companion_both_count() {
    let directory = "{ source: static, databases: [{ path: all.nsf, replica_id: C1257A000041D201, replicas: [
        { server: Web1/Acme, mark: out_of_service }, { server: Web2/Acme }, { server: Web3/Acme }] }] }";
    let (acme, icm, _) = start(&[("directory", directory)]);
    mark(&acme, "Web2", "out_of_service");
    wait_for_replica(&icm, "Web2", "marked", |r| r["mark"] == "out_of_service");
    assert_eq!(replica(&icm, "all.nsf", "Web1")["mark"], "out_of_service");
    icm.wait_for_served(ALL, "Web3");
}

#[test]
fn its_times_show_replicas_that_are_behind() {
    let freshness = "{ source: companion, interval: 1s, slack: 3s, behind_after: 3s }";
    let (acme, icm, _) = start(&[("freshness", freshness)]);
    wait_for_replica(&icm, "Web2", "read", |r| r["modified"].is_u64());
    acme.set("Web1", json!({ "push_ms": 3_600_000, "clock_skew_ms": 600_000 }));
    // What was modified before the jump of the clock was noticed is unknown.
    pause(1_500);
    create_document(&mut Client::to(acme.http("Web1")), "all.nsf", &[("text", "only here")]);
    for server in ["Web2", "Web3"] {
        wait_for_replica(&icm, server, "behind", |r| r["behind_since"].is_u64());
    }
    icm.wait_for_served(ALL, "Web1");
    let heads = acme.requests("Web1").iter().filter(|r| r["method"] == "HEAD").count();
    assert_eq!(heads, 0, "one document takes the place of many requests");
    acme.replicate();
    for server in ["Web2", "Web3"] {
        wait_for_replica(&icm, server, "equal again", |r| r["behind_since"].is_null());
    }
}

#[test]
fn a_document_that_is_not_as_expected_is_read_as_far_as_it_can_be() {
    let freshness = "{ source: companion, interval: 1s, slack: 3s, behind_after: 3s }";
    let (acme, icm, _) = start(&[("freshness", freshness)]);
    wait_for_replica(&icm, "Web1", "read", |r| r["modified"].is_u64());
    // Numbers in quotes are numbers.
    acme.set("Web1", json!({ "companion_trap": "strings", "index": 33 }));
    icm.wait_for_server("Web1", "with index 33", |s| s["index"] == 33);
    // Absent items are unknown, and the others are read.
    let missing = ["users", "replication", "replicas.modified", "availability_threshold", "members"];
    acme.set("Web1", json!({ "companion_trap": null, "companion_missing": missing, "index": 44 }));
    icm.wait_for_server("Web1", "with index 44", |s| s["index"] == 44);
    wait_for_replica(&icm, "Web1", "unknown", |r| r["modified"].is_null() && r["mark"] == "in_service");
    // What is no document of the companion is an error, and changes nothing.
    acme.set("Web1", json!({ "companion_missing": [], "index": 55 }));
    icm.wait_for_server("Web1", "with index 55", |s| s["index"] == 55);
    for (trap, words) in
        [("html", "not authorised"), ("truncated", "not the companion's document"), ("error500", "500")]
    {
        acme.set("Web1", json!({ "companion_trap": trap, "index": 66 }));
        let logged = || icm.log().lines().any(|l| l.contains("Web1/Acme") && l.contains(words));
        let named = eventually(MAX_WAIT, logged);
        assert!(named, "{trap}: {}", icm.log());
        assert_eq!(icm.status_of("Web1")["index"], 55, "{trap}");
        acme.set("Web1", json!({ "companion_trap": null, "index": 55 }));
        pause(600);
    }
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    // A document that does not get newer is stale, and its marks are not those of now.
    acme.set("Web2", json!({ "companion_trap": "old" }));
    pause(600);
    mark(&acme, "Web2", "out_of_service");
    pause(1_500);
    assert_eq!(replica(&icm, "all.nsf", "Web2")["mark"], "in_service");
}

#[test]
fn it_is_read_with_the_account_of_the_directory_or_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let password = secret_file(dir.path(), "password", "reader\n");
    let wrong = secret_file(dir.path(), "wrong", "wrong\n");
    let auth = |user: &str, file: &str, kind: &str| {
        format!("{{ {kind}: {{ user: {user}/Acme, password_file: {file} }} }}")
    };
    for kind in ["basic", "session"] {
        let (acme, icm, mut config) = start(&[("directory.auth", &auth("ICM Reader", &password, kind))]);
        acme.set("all", json!({ "companion_login": true, "index": 40 }));
        icm.wait_for_server("Web1", "with index 40", |s| s["index"] == 40);
        let own = COMPANION.replace(" }", &format!(", auth: {} }}", auth("Nobody", &wrong, kind)));
        set(&mut config, "clusters.0.availability", &own);
        icm.reload(&config);
        let words = if kind == "basic" {
            "not authorised as `Nobody/Acme`"
        } else {
            "login of `Nobody/Acme` refused"
        };
        icm.wait_for_log(words);
    }
}

#[test]
fn members_that_differ_from_the_configuration_are_named_once_and_by_check() {
    let acme = Acme::replicating("{ push_ms: 50 }");
    acme.set("all", json!({ "companion": true }));
    acme.set("Web3", json!({ "member": false }));
    let mut config = config(&acme);
    set(&mut config, "clusters.0.availability", COMPANION);
    config["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap().remove(1);
    let (_dir, file) = write_config(&config);
    let output = icm_cli(&["check", "--probe", "-c", file.to_str().unwrap()]).out;
    let icm = Icm::start(config);
    let text = "members of the cluster that are not configured: Web2/Acme; \
                configured servers that are no members: Web3/Acme";
    let events = || {
        let events = icm.status()["events"].as_array().unwrap().clone();
        events
            .iter()
            .filter(|e| e["kind"] == "members" && e["cause"].as_str().unwrap().contains(text))
            .count()
    };
    assert!(eventually(MAX_WAIT, || events() == 1), "{:#}", icm.status()["events"]);
    pause(1_000);
    assert_eq!(events(), 1);
    assert!(output.contains(text), "{output}");
}

#[test]
fn check_shows_what_the_companion_understood_and_what_is_missing() {
    let acme = Acme::replicating("{ push_ms: 50 }");
    acme.set("all", json!({ "companion": true, "index": 84 }));
    acme.set("Web2", json!({ "companion_missing": ["users", "replicas.out_of_service"] }));
    acme.set("Web3", json!({ "companion_trap": "html" }));
    let mut config = config(&acme);
    set(&mut config, "clusters.0.availability", COMPANION);
    let (_dir, file) = write_config(&config);
    let output = icm_cli(&["check", "--probe", "-c", file.to_str().unwrap()]).out;
    let line = |server: &str| {
        let start = format!("availability of {server}/Acme");
        output.lines().find(|line| line.contains(&start)).unwrap_or_else(|| panic!("{output}")).to_owned()
    };
    for part in
        ["ok: ", "index 84", "Release 14", "4 replicas, 4 with a modification time, 4 with known marks"]
    {
        assert!(line("Web1").contains(part), "{part} in {output}");
    }
    for part in ["0 with known marks", "absent: users", "missing: users: not readable"] {
        assert!(line("Web2").contains(part), "{part} in {output}");
    }
    assert!(line("Web3").starts_with("failed: ") && line("Web3").contains("not authorised"), "{output}");
}

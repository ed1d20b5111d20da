//! Replicas that lack changes: found by `Last-Modified`, avoided by new users, kept by those who are there, and unknown
//! wherever the servers do not say when a database was modified.

use std::time::Duration;

use crate::support::*;
use serde_json::{Value, json};

const ALL: &str = "/all.nsf?OpenDatabase";
/// The times in responses have whole seconds, so that a smaller slack would see differences that are none.
const HEAD: &str = "{ source: head, interval: 300ms, slack: 3s, behind_after: 3s }";

/// A cluster whose replicas are read by HEAD, after the first pass.
fn start(freshness: &str, scenario: Option<&str>) -> (Acme, Icm, serde_yaml::Value) {
    let acme = scenario.map_or_else(|| Acme::replicating("{ push_ms: 50 }"), Acme::start);
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "clusters.0.freshness", freshness);
    let icm = Icm::start(config.clone());
    (acme, icm, config)
}

/// The replicas of a database as `/databases` shows them.
fn replicas(icm: &Icm, path: &str) -> Vec<Value> {
    let answer = icm.admin(&format!("/databases?q={path}")).json();
    answer["databases"][0]["replicas"].as_array().cloned().unwrap_or_default()
}

fn replica(icm: &Icm, path: &str, server: &str) -> Value {
    let name = format!("{server}/Acme");
    replicas(icm, path).into_iter().find(|r| r["server"] == name.as_str()).unwrap_or_default()
}

fn wait_for_replicas(icm: &Icm, path: &str, what: &str, is_so: impl Fn(&[Value]) -> bool) {
    let came = eventually(MAX_WAIT, || is_so(&replicas(icm, path)));
    assert!(came, "never {what}: {:#?}\n{}", replicas(icm, path), icm.admin("/metrics").text());
}

fn are_read(replicas: &[Value]) -> bool {
    !replicas.is_empty() && replicas.iter().all(|replica| replica["read_at"].is_u64())
}

fn behind(replicas: &[Value]) -> Vec<&str> {
    let is_behind = |replica: &&Value| replica["behind_since"].is_u64();
    replicas.iter().filter(is_behind).map(|replica| replica["server"].as_str().unwrap()).collect()
}

/// A change on one server whose push does not come.
fn write_unreplicated(acme: &Acme, server: &str) {
    acme.set(server, json!({ "push_ms": 3_600_000 }));
    create_document(&mut Client::to(acme.http(server)), "all.nsf", &[("text", "only here")]);
}

/// Waits until each of these servers, and no other one, has answered a GET without a cookie. The requests are not a sample:
/// after many requests without a pause the server that answered them counts as the lightest for a while.
fn wait_for_served_by(icm: &Icm, target: &str, servers: &[&str]) {
    let mut seen = std::collections::BTreeSet::new();
    let came = eventually(MAX_WAIT, || {
        seen.extend(icm.served(target, 3).into_keys());
        pause(100);
        seen.len() >= servers.len()
    });
    assert!(came && seen.iter().eq(servers), "{target} by {seen:?}, not by {servers:?}");
}

/// Whether newcomers avoid a replica of this database because it is behind.
fn avoids_replicas(icm: &Icm, target: &str) -> bool {
    icm.explain(target).to_string().contains("set aside: the replica is behind")
}

fn readings(icm: &Icm, server: &str, result: &str) -> f64 {
    let name = format!("{server}/Acme");
    let start =
        format!("icm_freshness_readings_total{{cluster=\"AcmeWeb\",server=\"{name}\",result=\"{result}\"}}");
    icm.metric(&start).unwrap_or(0.0)
}

fn has_event(icm: &Icm, text: &str) -> bool {
    let events = icm.status()["events"].as_array().unwrap().clone();
    events.iter().any(|event| event["kind"] == "freshness" && event["cause"].as_str().unwrap().contains(text))
}

#[test]
fn new_users_avoid_replicas_that_are_behind_until_they_have_caught_up() {
    let (acme, icm, _) = start(HEAD, None);
    wait_for_replicas(&icm, "all.nsf", "read", are_read);
    let of_web2 = icm.cookie_for("Web2", ALL);
    write_unreplicated(&acme, "Web1");
    wait_for_replicas(&icm, "all.nsf", "behind", |all| behind(all) == ["Web2/Acme", "Web3/Acme"]);
    icm.wait_for_served(ALL, "Web1");
    // Whoever is there stays.
    let stays = icm.client().get_with(ALL, &[("Cookie", &format!("ICM={of_web2}"))]);
    assert_eq!(stays.server(), "Web2/Acme");
    // Other databases are not concerned.
    assert!(!avoids_replicas(&icm, "/other.nsf?OpenDatabase"));

    let since = replica(&icm, "all.nsf", "Web2")["behind_since"].as_u64().unwrap();
    assert_eq!(
        Some(since / 1_000),
        replica(&icm, "all.nsf", "Web1")["modified"].as_u64().map(|ms| ms / 1_000)
    );
    assert!(has_event(&icm, "all.nsf on Web2/Acme is behind since "), "{:#}", icm.status()["events"]);
    assert_eq!(icm.metric("icm_replicas_behind{cluster=\"AcmeWeb\"}"), Some(2.0));
    assert!(icm.metric("icm_replicas_behind_oldest_seconds{cluster=\"AcmeWeb\"}").unwrap() >= 3.0);
    let shown = icm_cli(&["show", "databases", "all.nsf", "-c", icm.file.to_str().unwrap()]).out;
    assert_eq!(shown.matches("behind since ").count(), 2, "{shown}");
    assert!(avoids_replicas(&icm, ALL), "{:#}", icm.explain(ALL));

    acme.replicate();
    wait_for_replicas(&icm, "all.nsf", "equal again", |all| are_read(all) && behind(all).is_empty());
    // A time that equals that of the response, because the database was modified just now, is not believed.
    let ends =
        ["all.nsf on Web3/Acme has caught up", "no longer known whether all.nsf on Web3/Acme is behind"];
    let has_ended = || ends.iter().any(|text| has_event(&icm, text));
    assert!(eventually(MAX_WAIT, has_ended), "{:#}", icm.status()["events"]);
    assert!(eventually(MAX_WAIT, || !avoids_replicas(&icm, ALL)), "{:#}", icm.explain(ALL));
    assert_eq!(icm.metric("icm_replicas_behind{cluster=\"AcmeWeb\"}"), Some(0.0));
}

#[test]
fn a_replica_that_is_stuck_is_found_while_the_others_are_modified_all_the_time_and_pushes_are_no_reason() {
    let (acme, icm, _) = start(HEAD, None);
    wait_for_replicas(&icm, "all.nsf", "read", are_read);
    let mut web1 = Client::to(acme.http("Web1"));
    // Pushed changes make nothing behind.
    let write = |web1: &mut Client| {
        create_document(web1, "all.nsf", &[("text", "x")]);
        pause(200);
    };
    for _ in 0..40 {
        write(&mut web1);
        assert!(behind(&replicas(&icm, "all.nsf")).is_empty(), "{:#?}", replicas(&icm, "all.nsf"));
    }
    acme.set("Web1", json!({ "push_ms": 3_600_000 }));
    // The writes leave a gap from time to time: a time that always equals that of the response is not believed.
    let found = eventually(MAX_WAIT, || {
        write(&mut web1);
        pause(3_000);
        behind(&replicas(&icm, "all.nsf")).len() == 2
    });
    assert!(found, "{:#?}", replicas(&icm, "all.nsf"));
}

#[test]
fn the_change_of_a_server_that_is_gone_makes_all_others_behind_which_is_no_difference() {
    let (acme, icm, _) = start(HEAD, None);
    wait_for_replicas(&icm, "all.nsf", "read", are_read);
    write_unreplicated(&acme, "Web1");
    wait_for_replicas(&icm, "all.nsf", "behind", |all| behind(all).len() == 2);
    acme.stop_server("Web1");
    icm.wait_for_state("Web1", "UNREACHABLE");
    wait_for_served_by(&icm, ALL, &["Web2", "Web3"]);
    assert_eq!(behind(&replicas(&icm, "all.nsf")).len(), 2, "the change is still only there");
}

#[test]
fn clocks_that_differ_are_corrected_and_a_clock_that_jumps_is_not_believed() {
    let (acme, icm, _) = start(HEAD, None);
    acme.set("Web1", json!({ "clock_skew_ms": -1_800_000 }));
    let icm_skewed = {
        drop(icm);
        let mut config = config_with_equal_indexes(&acme);
        set(&mut config, "clusters.0.freshness", HEAD);
        Icm::start(config)
    };
    let icm = icm_skewed;
    wait_for_replicas(&icm, "all.nsf", "read", are_read);
    write_unreplicated(&acme, "Web1");
    wait_for_replicas(&icm, "all.nsf", "behind", |all| behind(all) == ["Web2/Acme", "Web3/Acme"]);
    let modified = replica(&icm, "all.nsf", "Web1")["modified"].as_u64().unwrap();
    let read = replica(&icm, "all.nsf", "Web2")["read_at"].as_u64().unwrap();
    assert!(read.abs_diff(modified) < 120_000, "half an hour would be the clock: {modified} {read}");
    // A jump of the clock of Web2 makes its older times unknown, not new.
    acme.set("Web2", json!({ "clock_skew_ms": 3_600_000 }));
    let moved = || readings(&icm, "Web2", "clock_moved") > 3.0;
    assert!(eventually(MAX_WAIT, moved), "{}", icm.admin("/metrics").text());
    assert!(behind(&replicas(&icm, "all.nsf")).contains(&"Web2/Acme"));
}

#[test]
fn what_does_not_say_when_it_was_modified_is_unknown_and_makes_nothing_behind() {
    for (setting, result) in [
        (json!({ "last_modified": "off" }), "no_last_modified"),
        (json!({ "last_modified": "now" }), "equals_date"),
        (json!({ "head_status": 401 }), "not_authorised"),
        (json!({ "head_status": 403 }), "not_authorised"),
        (json!({ "head_status": 404 }), "not_found"),
        (json!({ "head_status": 405 }), "status"),
    ] {
        let acme = Acme::replicating("{ push_ms: 50 }");
        acme.set("all", setting.clone());
        let mut config = config_with_equal_indexes(&acme);
        set(&mut config, "clusters.0.freshness", HEAD);
        let icm = Icm::start(config);
        let counted = |server: &str| readings(&icm, server, result) > 0.0;
        let all = || ["Web1", "Web2", "Web3"].iter().all(|server| counted(server));
        assert!(eventually(MAX_WAIT, all), "{setting}: {}", icm.admin("/metrics").text());
        write_unreplicated(&acme, "Web1");
        let before = readings(&icm, "Web2", result);
        let again = || readings(&icm, "Web2", result) > before + 3.0;
        assert!(eventually(MAX_WAIT, again), "{setting}");
        let known = replicas(&icm, "all.nsf");
        assert!(behind(&known).is_empty(), "{setting}: {known:#?}");
        assert!(known.iter().all(|replica| replica["modified"].is_null()), "{setting}: {known:#?}");
        assert!(!avoids_replicas(&icm, ALL), "{setting}: {:#}", icm.explain(ALL));
    }
}

/// A database behind a login, one with two copies on a server, and one that every server keeps for itself.
const SPECIAL: &str = "
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
users: { ICM Reader/Acme: reader }
replication: { push_ms: 50 }
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: all.nsf, replica_id: C1257A000041D201, replicas: all }
  - { path: statrep.nsf, replica_id: C1257A000041D202, replicas: all }
  - { path: stats/own.nsf, replica_id: C1257A000041D203, replicas: all }
  - { path: mail/jdoe.nsf, replica_id: C1257A000041D204, login: true, replicas: all }
  - { path: copies.nsf, replica_id: C1257A000041D205, replicas: [Web1, { server: Web1, path: copy/copies.nsf }, Web2] }
";

#[test]
fn a_login_form_and_several_copies_are_unknown_and_ignored_databases_are_not_read() {
    let freshness = HEAD.replace(" }", ", ignore: [Stats/*.nsf] }");
    let (acme, icm, mut config) = start(&freshness, Some(SPECIAL));
    wait_for_replicas(&icm, "all.nsf", "read", are_read);
    let unknown = || {
        readings(&icm, "Web1", "no_last_modified") + readings(&icm, "Web1", "not_authorised") > 0.0
            && readings(&icm, "Web1", "several_copies") > 0.0
    };
    assert!(eventually(MAX_WAIT, unknown), "{}", icm.admin("/metrics").text());
    assert!(replica(&icm, "jdoe.nsf", "Web1")["modified"].is_null());
    let heads: Vec<String> = acme
        .requests("Web1")
        .iter()
        .filter(|request| request["method"] == "HEAD")
        .map(|request| request["target"].as_str().unwrap().to_owned())
        .collect();
    let path = |target: &String| target.split('?').next().unwrap().to_owned();
    let mut paths: Vec<String> = heads.iter().map(path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths, ["/all.nsf", "/mail/jdoe.nsf"]);
    // With an account the mail file is read, by a session too.
    let dir = tempfile::tempdir().unwrap();
    let password = secret_file(dir.path(), "password", "reader\n");
    let auth = format!("{{ session: {{ user: ICM Reader/Acme, password_file: {password} }} }}");
    set(&mut config, "clusters.0.directory.auth", &auth);
    icm.reload(&config);
    wait_for_replicas(&icm, "jdoe.nsf", "read", are_read);
}

#[test]
fn a_reload_keeps_what_is_behind_and_off_forgets_it() {
    let (acme, icm, mut config) = start(HEAD, None);
    wait_for_replicas(&icm, "all.nsf", "read", are_read);
    write_unreplicated(&acme, "Web1");
    wait_for_replicas(&icm, "all.nsf", "behind", |all| behind(all).len() == 2);
    let since = replica(&icm, "all.nsf", "Web3")["behind_since"].clone();
    set(&mut config, "clusters.0.failover.attempts", "2");
    icm.reload(&config);
    icm.wait_for_log("configuration reloaded");
    assert_eq!(replica(&icm, "all.nsf", "Web3")["behind_since"], since);
    set(&mut config, "clusters.0.freshness.source", "off");
    icm.reload(&config);
    wait_for_replicas(&icm, "all.nsf", "unknown", |all| all.iter().all(|r| r["read_at"].is_null()));
    assert!(icm.metric("icm_replicas_behind{").is_none());
    // Nothing is sent any more, once the last request has arrived.
    let heads = || acme.requests("Web2").iter().filter(|r| r["method"] == "HEAD").count();
    let is_over = || {
        let before = heads();
        pause(1_000);
        heads() == before
    };
    assert!(eventually(MAX_WAIT, is_over), "{}", heads());
}

/// Forty databases on two servers.
fn forty_databases() -> String {
    let mut scenario =
        "servers:\n  - { name: Web1/Acme, https: false }\n  - { name: Web2/Acme, https: false }\n\
        databases:\n  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }\n"
            .to_owned();
    for n in 10..50 {
        scenario += &format!("  - {{ path: d{n}.nsf, replica_id: C1257A000041D2{n}, replicas: all }}\n");
    }
    scenario
}

#[test]
fn each_server_gets_five_requests_a_second_two_at_a_time_and_the_busiest_databases_first() {
    let freshness = "{ source: head, interval: 100ms, databases: 20 }";
    let (acme, icm, _) = start(freshness, Some(&forty_databases()));
    let heads = || -> Vec<(u64, String)> {
        let requests = acme.requests("Web1");
        let heads = requests.iter().filter(|r| r["method"] == "HEAD");
        heads.map(|r| (r["time_ms"].as_u64().unwrap(), r["target"].as_str().unwrap().to_owned())).collect()
    };
    assert!(eventually(MAX_WAIT, || heads().len() >= 30), "{:?}", heads());
    // The eleventh request comes two seconds after the first; a busy machine may bring them closer together. Without the
    // limit it would be a few milliseconds.
    let all = heads();
    for window in all.windows(11) {
        assert!(window[10].0 - window[0].0 >= 1_000, "{window:?}");
    }
    // The busiest database is read in every pass, although it was not among the first twenty.
    for _ in 0..50 {
        icm.client().get("/d49.nsf?OpenDatabase");
    }
    assert!(eventually(MAX_WAIT, || heads().iter().any(|(_, target)| target.starts_with("/d49.nsf"))));
    // Two at a time, however slow the answers are.
    acme.fault("Web1", json!({ "kind": "slow", "delay_ms": 1_500, "path": "/d" }));
    let in_flight = || {
        let requests = acme.requests("Web1");
        let open = requests.iter().filter(|r| r["method"] == "HEAD" && r["outcome"].is_null());
        open.count()
    };
    assert!(eventually(MAX_WAIT, || in_flight() == 2), "{}", in_flight());
    for _ in 0..40 {
        assert!(in_flight() <= 2);
        pause(50);
    }
}

#[test]
fn a_server_with_errors_is_left_alone_for_longer_and_longer() {
    let (acme, icm, _) = start("{ source: head, interval: 200ms }", None);
    wait_for_replicas(&icm, "all.nsf", "read", are_read);
    acme.set("Web3", json!({ "head_status": 500 }));
    assert!(eventually(MAX_WAIT, || readings(&icm, "Web3", "failed") >= 6.0));
    icm.wait_for_log("Web3/Acme: cannot read modification times");
    let heads = |server: &str| {
        let requests = acme.requests(server);
        requests.iter().filter(|request| request["method"] == "HEAD").count()
    };
    // By now the pauses are longer than the interval, and the others are read as before.
    pause(2_000);
    let before = (heads("Web2"), heads("Web3"));
    pause(2_000);
    let after = (heads("Web2"), heads("Web3"));
    assert!(after.1 - before.1 < after.0 - before.0, "{before:?} {after:?}");
    // Users are served as before.
    wait_for_served_by(&icm, ALL, &["Web1", "Web2", "Web3"]);
    acme.set("Web3", json!({ "head_status": null }));
    let reads = readings(&icm, "Web3", "read");
    assert!(eventually(Duration::from_secs(60), || readings(&icm, "Web3", "read") > reads));
}

#[test]
fn a_database_that_our_own_reading_modifies_is_not_compared() {
    let freshness = "{ source: head, interval: 6s, slack: 1s, behind_after: 30s }";
    let acme = Acme::replicating("{ push_ms: 50 }");
    acme.set("Web1", json!({ "web_query_open": ["all.nsf"], "push_ms": 3_600_000 }));
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "clusters.0.freshness", freshness);
    let icm = Icm::start(config);
    wait_for_replicas(&icm, "other.nsf", "read", are_read);
    pause(15_000);
    // The time of a page that is modified by opening it is that of the response, or moves with each reading.
    let unknown =
        || readings(&icm, "Web1", "moved_by_reading") + readings(&icm, "Web1", "equals_date") >= 2.0;
    assert!(eventually(MAX_WAIT, unknown), "{}", icm.admin("/metrics").text());
    let known = replicas(&icm, "all.nsf");
    assert!(
        behind(&known).is_empty() && replica(&icm, "all.nsf", "Web1")["modified"].is_null(),
        "{known:#?}"
    );
}

#[test]
fn check_says_whether_modification_times_can_be_read() {
    let acme = Acme::replicating("{ push_ms: 50 }");
    acme.set("Web2", json!({ "last_modified": "off" }));
    let mut config = config(&acme);
    set(&mut config, "clusters.0.freshness", HEAD);
    let (_dir, file) = write_config(&config);
    let output = icm_cli(&["check", "--probe", "-c", file.to_str().unwrap()]).out;
    let line = |server: &str| {
        let start = format!("modification times of {server}/Acme");
        output.lines().find(|line| line.contains(&start)).unwrap_or_else(|| panic!("{output}")).to_owned()
    };
    assert!(line("Web1").starts_with("ok: ") && line("Web1").contains("all.nsf modified "), "{output}");
    assert!(line("Web2").starts_with("failed: ") && line("Web2").contains("no Last-Modified"), "{output}");
}

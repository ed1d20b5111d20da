//! Reloads by HUP: what a new configuration changes, what it must not change, and that clients notice nothing.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::*;
use serde_json::Value as Json;
use serde_yaml::Value;

const SERVERS: [&str; 4] = ["Web1/Acme", "Web2/Acme", "Web3/Acme", "Web4/Acme"];
fn status(icm: &Icm) -> Json {
    icm.admin("/status").json()
}

fn server(icm: &Icm, name: &str) -> Json {
    let status = status(icm);
    let servers = status["clusters"][0]["servers"].as_array().unwrap();
    servers.iter().find(|s| s["name"] == name).cloned().unwrap_or(Json::Null)
}

/// Sends HUP with this configuration and waits until it was judged; a success must be one.
fn reload(icm: &Icm, config: &Value, success: bool) -> Json {
    let before = status(icm)["reload"]["at"].clone();
    // The clock of the status has milliseconds.
    pause(5);
    icm.reload(config);
    judged(icm, &before, success)
}

fn judged(icm: &Icm, before: &Json, success: bool) -> Json {
    let judged = eventually(MAX_WAIT, || status(icm)["reload"]["at"] != *before);
    assert!(judged, "HUP was not heard:\n{}", icm.log());
    let reload = status(icm)["reload"].clone();
    assert_eq!(reload["success"], success, "{reload:#}");
    reload
}

fn metric(icm: &Icm, name: &str) -> String {
    let text = icm.admin("/metrics").text();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
}

fn becomes_ready(icm: &Icm) {
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "never ready:\n{}", icm.log());
}

/// The cluster's directory, written into the file: these paths, on those of its servers that hold them.
fn static_directory(config: &mut Value, paths: &[(&str, &str)]) {
    let databases: Vec<String> = paths
        .iter()
        .map(|(path, id)| {
            // As in the simulated cluster.
            let holders = if path.starts_with("sales/") { &SERVERS[..3] } else { &SERVERS[..] };
            let holds = |server: &&&str| {
                let list = config["clusters"][0]["servers"]["list"].as_sequence().unwrap();
                list.iter().any(|s| s["name"] == ***server)
            };
            let replicas: Vec<String> =
                holders.iter().filter(holds).map(|s| format!("{{ server: {s} }}")).collect();
            format!("{{ path: {path}, replica_id: {id}, replicas: [{}] }}", replicas.join(", "))
        })
        .collect();
    let text = format!("{{ source: static, databases: [{}] }}", databases.join(", "));
    set(config, "clusters.0.directory", &text);
}

fn without_servers(config: &mut Value, gone: &[&str]) {
    let list = config["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.retain(|s| !gone.iter().any(|name| s["name"].as_str().unwrap().starts_with(name)));
}

#[test]
fn a_good_file_applies_as_a_whole() {
    let acme = Acme::built_in();
    let all = config(&acme);
    let mut config = all.clone();
    without_servers(&mut config, &["Web4"]);
    static_directory(&mut config, &[("sales/orders.nsf", "C1257A000041D2E1")]);
    set(&mut config, "clusters.0.unknown_database", "not_found");
    let icm = Icm::start(config);
    becomes_ready(&icm);
    assert_eq!(icm.client().get("/homepage.nsf").status, 404);
    assert_eq!(server(&icm, "Web4/Acme"), Json::Null);

    let log = icm.dir.path().join("access.log");
    let mut config = all;
    without_servers(&mut config, &["Web1"]);
    let homepage = ("homepage.nsf", "C1256A2F00310004");
    static_directory(&mut config, &[("sales/orders.nsf", "C1257A000041D2E1"), homepage]);
    set(&mut config, "clusters.0.unknown_database", "not_found");
    set(&mut config, "clusters.0.servers.list.0.weight", "5");
    set(&mut config, "clusters.0.probe.path", "/icons/vwicn001.gif");
    set(&mut config, "access_log", &format!("{{ path: {}, format: combined }}", log.display()));
    let said = reload(&icm, &config, true);
    assert_eq!(said["restart_required"], serde_json::json!([]));
    assert_eq!(server(&icm, "Web1/Acme"), Json::Null);
    assert_eq!(server(&icm, "Web2/Acme")["weight"], 5);
    assert!(eventually(MAX_WAIT, || server(&icm, "Web4/Acme")["state"] == "AVAILABLE"), "{}", icm.log());
    for _ in 0..20 {
        let answer = icm.client().get("/homepage.nsf");
        assert_eq!(answer.status, 200);
        assert_ne!(answer.server(), "Web1/Acme");
    }
    let probed = || acme.requests("Web2").iter().any(|r| r["target"] == "/icons/vwicn001.gif");
    assert!(eventually(MAX_WAIT, probed), "the probe's path did not change");
    let logged = || std::fs::read_to_string(&log).is_ok_and(|t| t.matches("/homepage.nsf").count() == 20);
    assert!(eventually(MAX_WAIT, logged), "the access log did not move");
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let acme = Acme::built_in();
    let config = config(&acme);
    let icm = Icm::start(config.clone());
    becomes_ready(&icm);
    assert_eq!(metric(&icm, "icm_config_reload_success"), "1");
    let good = std::fs::read_to_string(&icm.file).unwrap();

    let before = status(&icm)["reload"]["at"].clone();
    std::fs::write(&icm.file, good.replace("interval: 200ms", "intervall: 1ms")).unwrap();
    icm.signal("HUP");
    let said = judged(&icm, &before, false)["error"].as_str().unwrap().to_owned();
    let (n, line) = good.lines().enumerate().find(|(_, l)| l.contains("interval: 200ms")).unwrap();
    let place = format!("{}:{}:{}: ", icm.file.display(), n + 1, line.find("interval").unwrap() + 1);
    assert!(said.contains(&place) && said.contains("did you mean `interval`"), "{said}");
    icm.wait_for_log(&place);
    assert_eq!(metric(&icm, "icm_config_reload_success"), "0");
    assert_eq!(icm.client().get("/sales/orders.nsf").status, 200);
    assert_eq!(icm.admin("/readyz").status, 200);

    // What only shows when it is used refuses the whole file too.
    let mut unwritable = config.clone();
    set(&mut unwritable, "access_log.path", "/nowhere/at/all/access.log");
    set(&mut unwritable, "clusters.0.servers.list.0.weight", "9");
    let said = reload(&icm, &unwritable, false);
    assert!(said["error"].as_str().unwrap().contains("/nowhere/at/all/access.log"), "{said}");
    assert_eq!(server(&icm, "Web1/Acme")["weight"], 1);

    std::fs::remove_file(&icm.file).unwrap();
    let before = status(&icm)["reload"]["at"].clone();
    icm.signal("HUP");
    judged(&icm, &before, false);

    reload(&icm, &config, true);
    assert_eq!(metric(&icm, "icm_config_reload_success"), "1");
    assert_eq!(status(&icm)["reload"]["error"], "");
}

#[test]
fn history_counters_and_affinity_survive() {
    let acme = Acme::built_in();
    acme.fault("Web3", serde_json::json!("refuse"));
    let mut config = config(&acme);
    let icm = Icm::start(config.clone());
    becomes_ready(&icm);
    let first = icm.client().get("/sales/orders.nsf?OpenDatabase");
    let (home, cookie) = (first.server().to_owned(), format!("ICM={}", first.cookie("ICM").unwrap()));
    let answered = || server(&icm, &home)["counters"]["answered"].as_u64().unwrap();
    for _ in 0..10 {
        icm.client().get_with("/sales/orders.nsf?OpenDatabase", &[("Cookie", &cookie)]);
    }
    assert_eq!(answered(), 11);
    // A probe this seldom cannot have run again: what is known was kept.
    set(&mut config, "clusters.0.probe.interval", "10m");
    set(&mut config, "clusters.0.servers.list.1.weight", "3");
    reload(&icm, &config, true);
    assert_eq!(server(&icm, &home)["state"], "AVAILABLE");
    assert_eq!(server(&icm, "Web3/Acme")["state"], "UNREACHABLE");
    assert!(answered() >= 11);
    assert_eq!(icm.admin("/readyz").status, 200);
    for _ in 0..10 {
        let answer = icm.client().get_with("/sales/orders.nsf?OpenDatabase", &[("Cookie", &cookie)]);
        assert_eq!(answer.server(), home);
    }
}

#[test]
fn what_needs_a_restart_is_named_every_time_and_the_rest_applies() {
    let acme = Acme::built_in();
    let original = config(&acme);
    let icm = Icm::start(original.clone());
    becomes_ready(&icm);
    let mut config = original.clone();
    set(&mut config, "listeners.0.address", &format!("127.0.0.1:{}", free_port()));
    set(&mut config, "admin.address", &format!("127.0.0.1:{}", free_port()));
    set(&mut config, "statpub.address", &format!("127.0.0.1:{}", free_port()));
    set(&mut config, "pingora.threads", "1");
    set(&mut config, "state_dir", "/tmp");
    for weight in [4, 5] {
        set(&mut config, "clusters.0.servers.list.0.weight", &weight.to_string());
        let said = reload(&icm, &config, true);
        let all = serde_json::json!(["listeners", "pingora", "admin", "statpub", "state_dir"]);
        assert_eq!(said["restart_required"], all);
        assert_eq!(server(&icm, "Web1/Acme")["weight"], weight);
        assert_eq!(icm.client().get("/sales/orders.nsf").status, 200);
    }
    icm.wait_for_log("restart required: listeners, pingora, admin, statpub, state_dir");
    assert_eq!(reload(&icm, &original, true)["restart_required"], serde_json::json!([]));
}

/// Configurations in turn: another cluster comes and goes, servers come and go, the directory is read or
/// written in the file, and every second one is bad.
fn variant(config: &Value, n: usize) -> Value {
    let mut config = config.clone();
    match n % 5 {
        0 => static_directory(
            &mut config,
            &[("sales/orders.nsf", "C1257A000041D2E1"), ("homepage.nsf", "C1256A2F00310004")],
        ),
        1 => {
            let mut second = config["clusters"][0].clone();
            set(&mut second, "name", "Second");
            set(&mut second, "hostnames", "[second.acme.example]");
            config["clusters"].as_sequence_mut().unwrap().push(second);
        }
        2 => without_servers(&mut config, &["Web4"]),
        3 => set(&mut config, "clusters.0.unknown", "true"),
        _ => set(&mut config, "clusters.0.servers.list.2.weight", "3"),
    }
    config
}

#[test]
fn ten_reloads_under_load_fail_no_request() {
    let acme = Acme::built_in();
    let config = config(&acme);
    let icm = Icm::start(config.clone());
    // Ready is earlier: on a busy machine the first probes may fail.
    for server in ["Web1", "Web2", "Web3", "Web4"] {
        icm.wait_for_state(server, "AVAILABLE");
    }
    let stop = AtomicBool::new(false);
    let work = |kept: bool| {
        let (mut client, stop, icm) = (icm.client(), &stop, &icm);
        move || {
            let mut bad = Vec::new();
            let mut total = 0_u64;
            while !stop.load(Relaxed) {
                if !kept {
                    client = icm.client();
                }
                let target = ["/homepage.nsf", "/sales/orders.nsf?OpenView", "/fast"][total as usize % 3];
                match client.request("GET", target, &[], b"") {
                    Ok(answer) if answer.status == 200 && answer.complete => {}
                    Ok(answer) => bad.push(answer.head),
                    Err(failure) => bad.push(format!("{failure:?}")),
                }
                total += 1;
            }
            (total, bad)
        }
    };
    let results: Vec<(u64, Vec<String>)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|n| scope.spawn(work(n % 2 == 0))).collect();
        for n in 0..10 {
            let bad = n % 5 == 3;
            let said = reload(&icm, &variant(&config, n), !bad);
            assert!(!bad || said["error"].as_str().unwrap().contains("unknown"), "{said}");
            pause(150);
        }
        stop.store(true, Relaxed);
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (total, bad) in results {
        assert!(total > 20, "no load: {total}");
        assert!(bad.is_empty(), "{} of {total} failed, the first:\n{}\n{}", bad.len(), bad[0], icm.log());
    }
}

/// Only these servers of the configuration, those behind the `!` restricted.
fn with_servers(config: &Value, wanted: &[&str]) -> Value {
    let mut config = config.clone();
    let list = config["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.retain(|s| {
        wanted.iter().any(|name| s["name"].as_str().unwrap().starts_with(name.trim_start_matches('!')))
    });
    for server in list {
        let name = server["name"].as_str().unwrap().to_owned();
        if wanted.iter().any(|w| w.strip_prefix('!').is_some_and(|w| name.starts_with(w))) {
            server["server_restricted"] = 1.into();
        }
    }
    config
}

/// Whether a user without a cookie is served, asked for as long as `work` takes. Out: who served.
fn served_meanwhile(icm: &Icm, work: impl FnOnce()) -> std::collections::BTreeSet<String> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut served = std::collections::BTreeSet::new();
            let mut client = icm.client();
            while !stop.load(Relaxed) {
                let answer = client.get("/sales/orders.nsf?OpenDatabase");
                assert_eq!(answer.status, 200, "{}\n{}", answer.head, icm.log());
                served.insert(answer.server().to_owned());
            }
            served
        });
        work();
        stop.store(true, Relaxed);
        asking.join().unwrap()
    })
}

#[test]
fn a_reload_that_adds_a_server_and_restricts_the_other_holder_answers_nobody_503() {
    let acme = Acme::built_in();
    let mut all = config(&acme);
    set(&mut all, "clusters.0.probe.path", "/alive");
    // A probe takes so long that the first regular one would come too late.
    acme.fault("all", serde_json::json!({ "kind": "slow", "delay_ms": 400, "path": "/alive" }));
    let icm = Icm::start(with_servers(&all, &["Web1"]));
    becomes_ready(&icm);
    assert!(eventually(MAX_WAIT, || icm.client().get("/sales/orders.nsf").status == 200), "{}", icm.log());
    let served = served_meanwhile(&icm, || {
        for wanted in [["!Web1", "Web2"], ["!Web2", "Web3"], ["!Web3", "Web1"]] {
            reload(&icm, &with_servers(&all, &wanted), true);
            let new = format!("{}/Acme", wanted[1]);
            assert_eq!(server(&icm, &new)["state"], "AVAILABLE", "{}", icm.log());
            pause(100);
        }
    });
    assert_eq!(served.len(), 3, "{served:?}");
}

#[test]
fn a_reload_that_moves_the_only_holder_to_another_address_answers_nobody_503() {
    let acme = Acme::built_in();
    let mut all = config(&acme);
    set(&mut all, "clusters.0.probe.path", "/alive");
    acme.fault("all", serde_json::json!({ "kind": "slow", "delay_ms": 400, "path": "/alive" }));
    let before = with_servers(&all, &["Web1"]);
    let icm = Icm::start(before.clone());
    becomes_ready(&icm);
    assert!(eventually(MAX_WAIT, || icm.client().get("/sales/orders.nsf").status == 200), "{}", icm.log());
    let mut after = before.clone();
    set(&mut after, "clusters.0.servers.list.0.http", &format!("\"{}\"", acme.http("Web2")));
    let served = served_meanwhile(&icm, || {
        reload(&icm, &after, true);
        pause(100);
        reload(&icm, &before, true);
    });
    assert_eq!(served.len(), 2, "{served:?}");
}

#[test]
fn a_new_server_whose_probe_hangs_delays_a_reload_for_a_moment_and_is_named() {
    let acme = Acme::built_in();
    let mut all = config(&acme);
    set(&mut all, "clusters.0.probe.path", "/alive");
    set(&mut all, "clusters.0.probe.timeout", "60s");
    acme.fault("Web2", serde_json::json!({ "kind": "hang", "path": "/alive" }));
    let icm = Icm::start(with_servers(&all, &["Web1"]));
    becomes_ready(&icm);
    assert!(eventually(MAX_WAIT, || icm.client().get("/sales/orders.nsf").status == 200), "{}", icm.log());
    served_meanwhile(&icm, || {
        // An invalid file is refused at once, and a good one in the same breath still comes to its turn.
        let mut bad = with_servers(&all, &["Web1", "Web2"]);
        set(&mut bad, "clusters.0.unknown", "true");
        reload(&icm, &bad, false);
        assert_eq!(server(&icm, "Web2/Acme"), Json::Null);
        icm.reload(&with_servers(&all, &["Web1", "Web2"]));
        icm.reload(&with_servers(&all, &["Web1", "Web2", "Web3"]));
        assert!(eventually(MAX_WAIT, || server(&icm, "Web3/Acme")["state"] == "AVAILABLE"), "{}", icm.log());
    });
    assert_eq!(server(&icm, "Web2/Acme")["state"], "UNREACHABLE");
    icm.wait_for_log("Web2/Acme: joins the cluster although its HTTP port did not answer in 5s");
    let said = |e: &Json| {
        e["server"] == "Web2/Acme" && e["cause"].as_str().unwrap().contains("joins the cluster although")
    };
    assert!(status(&icm)["events"].as_array().unwrap().iter().any(said), "{:#}", status(&icm)["events"]);
}

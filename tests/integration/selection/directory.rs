//! Directories from their sources: the Cluster Database Directory with its peculiarities, a file, the configuration; and failed
//! readings.

use crate::support::*;
use serde_json::{Value, json};

/// Only Web4 holds it.
const ARCHIVE: &str = "/legacy/archive2009.nsf";

fn directory(icm: &Icm) -> Value {
    icm.status()["clusters"][0]["directory"].clone()
}

fn wait_for_directory(icm: &Icm, what: &str, is_so: impl Fn(&Value) -> bool) {
    icm.wait_for_status(what, |s| is_so(&s["clusters"][0]["directory"]));
}

fn trouble(icm: &Icm) -> String {
    directory(icm)["trouble"].as_str().unwrap().to_owned()
}

#[test]
fn the_directory_is_read_correctly_despite_dominos_peculiarities_in_xml_and_json() {
    let acme = Acme::built_in();
    let plain = Icm::start(config(&acme));
    wait_for_directory(&plain, "read", |d| d["databases"].as_u64() > Some(0));
    let expected = directory(&plain);
    let traps = [
        json!({}),
        json!({ "hidden_view_404": true }),
        json!({ "invalid_escapes": true, "surrogates": true }),
        json!({ "duplicates": true }),
        json!({ "count_cap": 7, "changes_while_paging": 2 }),
        json!({ "single_object": false, "slow": 200 }),
    ];
    for trap in traps {
        for format in ["xml", "json"] {
            acme.ask("POST", "/reset", None);
            acme.set("all", json!({ "dir": trap }));
            // Documents that appear between two pages are part of the result.
            let new = trap["changes_while_paging"].as_u64().unwrap_or(0);
            let with_new = |key: &str| expected[key].as_u64().unwrap() + new;
            let mut settings = config(&acme);
            set(&mut settings, "clusters.0.directory.format", format);
            let icm = Icm::start(settings);
            wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
            let read = directory(&icm);
            assert_eq!(read["databases"], with_new("databases"), "{format} {trap}: {read:#}");
            assert_eq!(read["replicas"], with_new("replicas"), "{format} {trap}: {read:#}");
            assert_eq!(read["duplicates"].as_u64() > Some(0), trap["duplicates"] == true, "{format} {trap}");
            assert!(icm.served(ARCHIVE, 2).keys().eq(["Web4"]), "{format} {trap}");
            let served = icm.served("/b%C3%BCro/vertr%C3%A4ge%202026.nsf", 4);
            assert!(served.keys().all(|k| k == "Web2" || k == "Web4"), "{format} {trap}: {served:?}");
        }
    }
}

/// The views of `cldbdir.nsf` that a server was asked for, without repetitions.
fn views_asked(acme: &Acme, server: &str) -> Vec<String> {
    let targets = acme.requests(server).into_iter().map(|r| r["target"].as_str().unwrap().to_owned());
    let mut views: Vec<String> = targets
        .filter_map(|target| Some(target.strip_prefix("/cldbdir.nsf/")?.split('?').next()?.to_owned()))
        .map(|view| view.replace("%20", " ").replace("%28", "(").replace("%29", ")"))
        .collect();
    views.dedup();
    views
}

#[test]
fn the_visible_view_is_read_once_the_hidden_one_was_found_closed_and_this_is_said() {
    let acme = Acme::built_in();
    acme.set("all", json!({ "dir": { "hidden_view_404": true } }));
    let mut settings = config(&acme);
    let list = settings["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.truncate(1);
    let icm = Icm::start(settings);
    wait_for_directory(&icm, "read", |d| d["view"] == "Databases by Pathname");
    let said = "`Databases by Pathname` was read instead, without the marks";
    assert!(directory(&icm)["warnings"].to_string().contains(said), "{:#}", directory(&icm));
    let show = icm_cli(&["show", "cluster", "-c", icm.file.to_str().unwrap()]);
    assert!(show.out.contains("from Web1/Acme view Databases by Pathname, "), "{}", show.out);
    // Several readings later, the hidden view was asked for once, and the warning was logged once.
    let readings =
        || acme.requests("Web1").iter().filter(|r| r["target"].to_string().contains("by%20Path")).count();
    assert!(eventually(MAX_WAIT, || readings() > 5), "{}", icm.log());
    assert_eq!(views_asked(&acme, "Web1"), ["($Pathname)", "Databases by Pathname"]);
    assert_eq!(icm.log().matches(said).count(), 1, "{}", icm.log());
    let check = icm_cli(&["check", "--probe", "-c", icm.file.to_str().unwrap()]);
    assert!(check.out.contains("replicas; view `Databases by Pathname`; "), "{}", check.out);
    // A reload begins with the hidden view again.
    acme.ask("POST", "/reset", None);
    icm.signal("HUP");
    wait_for_directory(&icm, "read from the hidden view", |d| d["view"] == "($Pathname)");
    assert_eq!(directory(&icm)["warnings"], json!([]));
}

#[test]
fn a_refused_login_and_an_unreachable_server_do_not_lead_to_the_visible_view() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let list = settings["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.truncate(1);
    let icm = Icm::start(settings);
    wait_for_directory(&icm, "read", |d| d["view"] == "($Pathname)");
    for (state, text) in [
        (json!({ "dir": { "unauthorised": true } }), "needs Reader access"),
        (json!({ "dir": { "error500": true } }), "status 500"),
        (json!({ "fault": "refuse" }), "connection refused"),
    ] {
        acme.set("Web1", state);
        wait_for_directory(&icm, text, |d| d["trouble"].as_str().unwrap().contains(text));
        assert_eq!(views_asked(&acme, "Web1"), ["($Pathname)"], "{text}");
        acme.ask("POST", "/reset", None);
        wait_for_directory(&icm, "read again", |d| d["trouble"] == "");
    }
}

#[test]
fn a_visible_view_can_be_named_and_its_columns_need_not_be() {
    let acme = Acme::built_in();
    let plain = Icm::start(config(&acme));
    wait_for_directory(&plain, "read", |d| d["databases"].as_u64() > Some(0));
    for view in ["Databases by Pathname", "Databases by Replica ID"] {
        let mut settings = config(&acme);
        set(&mut settings, "clusters.0.directory.view", view);
        set(&mut settings, "clusters.0.directory.columns", "{ out_of_service: OutOfService }");
        let icm = Icm::start(settings);
        wait_for_directory(&icm, "read", |d| d["view"] == view);
        assert_eq!(directory(&icm)["replicas"], directory(&plain)["replicas"], "{view}");
        assert_eq!(directory(&icm)["warnings"], json!([]), "{view}");
        assert!(icm.served(ARCHIVE, 2).keys().eq(["Web4"]), "{view}");
    }
}

#[test]
fn more_than_a_thousand_documents_are_read_in_pages() {
    let acme = Acme::start(
        "cluster: AcmeWeb\nservers: [{ name: Web1/Acme }, { name: Web2/Acme }]\n\
         databases:\n  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, title: D, replicas: all }\n\
         generate: { databases: 1300, copies: 2, prefix: gen }\n",
    );
    for format in ["xml", "json"] {
        acme.set("all", json!({ "dir": { "changes_while_paging": 1 } }));
        let mut settings = config(&acme);
        set(&mut settings, "clusters.0.directory.format", format);
        set(&mut settings, "clusters.0.directory.columns", "{ path: 0, server: 1, replica_id: 3 }");
        let icm = Icm::start(settings);
        wait_for_directory(&icm, "read whole", |d| d["replicas"].as_u64() >= Some(2602));
        assert!(directory(&icm)["databases"].as_u64() >= Some(1301), "{format}");
        // The server that answered the first probe is asked.
        let pages = [acme.requests("Web1"), acme.requests("Web2")].concat();
        let asked = |r: &Value| r["target"].as_str().is_some_and(|t| t.contains("Start=1001"));
        assert!(pages.iter().any(asked), "{format}: {:?}", pages.last());
    }
}

#[test]
fn the_directory_is_read_from_any_server_that_can_be_read() {
    let acme = Acme::built_in();
    acme.set("all", json!({ "dir": { "error500": true } }));
    acme.set("Web2", json!({ "dir": { "error500": false, "unauthorised": true } }));
    acme.set("Web3", json!({ "dir": { "error500": false, "truncated": true } }));
    let icm = Icm::start(config(&acme));
    // Servers that answered a probe are asked first: until all have, Web4 might be the only one asked.
    for name in ["Web1", "Web2", "Web3", "Web4"] {
        icm.wait_for_state(name, "AVAILABLE");
    }
    acme.set("Web4", json!({ "dir": { "error500": false } }));
    wait_for_directory(&icm, "read from Web4", |d| d["from"] == "Web4/Acme");
    assert_eq!(trouble(&icm), "");
    let warnings = directory(&icm)["warnings"].to_string();
    for name in ["Web1/Acme", "Web2/Acme", "Web3/Acme"] {
        assert!(warnings.contains(name), "each server that failed is named: {warnings}");
    }
    assert!(icm.served(ARCHIVE, 2).keys().eq(["Web4"]));
}

#[test]
fn a_failed_reading_and_its_recovery_are_logged_and_counted() {
    let acme = Acme::built_in();
    for bad in [json!({ "error500": true }), json!({ "unauthorised": true }), json!({ "truncated": true })] {
        let icm = Icm::start(config(&acme));
        wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
        let databases = directory(&icm)["databases"].clone();
        assert_eq!(icm.metric("icm_directory_readable{"), Some(1.0));
        acme.set("all", json!({ "dir": bad }));
        wait_for_directory(&icm, "in trouble", |d| d["trouble"] != "");
        assert_eq!(icm.metric("icm_directory_readable{"), Some(0.0), "{bad}");
        icm.wait_for_log("directory cannot be read: ");
        assert_eq!(directory(&icm)["databases"], databases, "{bad}: the last good directory stays in use");
        assert!(icm.served(ARCHIVE, 2).keys().eq(["Web4"]));
        acme.ask("POST", "/reset", None);
        wait_for_directory(&icm, "recovered", |d| d["trouble"] == "");
        icm.wait_for_log("directory can be read again");
        assert_eq!(icm.metric("icm_directory_readable{"), Some(1.0));
    }
}

#[test]
fn the_directory_is_read_with_basic_and_with_session_login() {
    let acme = Acme::built_in();
    for server in ["Web1", "Web2", "Web3", "Web4"] {
        let locked = json!({ "server": server, "path": "cldbdir.nsf", "login": true });
        acme.ask("POST", "/databases", Some(&locked));
    }
    let dir = tempfile::tempdir().unwrap();
    let good = secret_file(dir.path(), "good", "reader\n");
    let bad = secret_file(dir.path(), "bad", "wrong");
    for kind in ["basic", "session"] {
        let mut settings = config(&acme);
        let auth = |file: &str| format!("{{ {kind}: {{ user: ICM Reader/Acme, password_file: {file} }} }}");
        set(&mut settings, "clusters.0.directory.auth", &auth(&good));
        let icm = Icm::start(settings.clone());
        wait_for_directory(&icm, kind, |d| d["databases"].as_u64() > Some(0));
        drop(icm);
        set(&mut settings, "clusters.0.directory.auth", &auth(&bad));
        let icm = Icm::start(settings);
        wait_for_directory(&icm, "refused", |d| d["trouble"] != "");
        assert_eq!(directory(&icm)["databases"], 0, "{kind}");
        assert_eq!(icm.admin("/readyz").status, 503, "without any directory it is not ready");
        assert!(!icm.log().contains("wrong"), "{kind}: no password in the log");
    }
}

#[test]
fn the_last_good_directory_is_cached_and_used_while_no_server_answers() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let (dir, cache) = add_cache(&mut settings, "clusters.0.directory.cache");
    let icm = Icm::start(settings.clone());
    assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    let databases = directory(&icm)["databases"].clone();
    let read_from = directory(&icm)["from"].clone();
    let copy = std::fs::read(&cache).unwrap();
    let header: Value = serde_json::from_slice(copy.split(|o| *o == b'\n').next().unwrap()).unwrap();
    assert_eq!(header["from"], read_from, "the first line names the server");
    drop(icm);
    acme.fault("all", json!("refuse"));
    let icm = Icm::start(settings.clone());
    assert_eq!(directory(&icm)["databases"], databases);
    assert!(directory(&icm)["from"].as_str().unwrap().contains("acmeweb.json"));
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "a cached directory makes it ready");
    assert_eq!(icm.client().get(ARCHIVE).status, 503);
    wait_for_directory(&icm, "in trouble", |d| d["trouble"] != "");
    acme.heal("all");
    wait_for_directory(&icm, "read again", |d| d["from"] == "Web1/Acme");
    icm.wait_for_served(ARCHIVE, "Web4");
    drop(icm);
    // The first reading is compared with the cached copy.
    acme.set("all", json!({ "dir": { "error500": true } }));
    acme.set("Web1", json!({ "dir": { "error500": false, "keep_percent": 40 } }));
    let icm = Icm::start(settings);
    icm.wait_for_log("reading held");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["acmeweb.json"], "no temporary file is left");
}

#[test]
fn a_valid_copy_opens_the_listeners_while_the_source_hangs_and_a_damaged_one_is_logged() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let (_dir, cache) = add_cache(&mut settings, "clusters.0.directory.cache");
    let icm = Icm::start(settings.clone());
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
    drop(icm);
    acme.set("all", json!({ "dir": { "slow": 60_000 } }));
    let icm = Icm::start(settings.clone());
    assert!(directory(&icm)["from"].as_str().unwrap().contains("acmeweb.json"));
    icm.wait_for_served(ARCHIVE, "Web4");
    assert!(!icm.log().contains("opening the listeners although"), "{}", icm.log());
    drop(icm);
    acme.set("all", json!({ "dir": { "slow": 0, "error500": true } }));
    let whole = std::fs::read(&cache).unwrap();
    std::fs::write(&cache, &whole[..whole.len() - 9]).unwrap();
    let icm = Icm::start(settings);
    icm.wait_for_log("acmeweb.json is not usable");
    assert_eq!(directory(&icm)["databases"], 0);
}

#[test]
fn a_much_smaller_reading_is_held_until_it_repeats_three_times() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    let before = directory(&icm)["replicas"].as_u64();
    acme.set("all", json!({ "dir": { "error500": true } }));
    acme.set("Web2", json!({ "dir": { "error500": false, "keep_percent": 50 } }));
    icm.wait_for_log("reading held, the old directory stays in use");
    icm.wait_for_log("reading 1 of 3 with this result");
    wait_for_directory(&icm, "accepted", |d| d["replicas"].as_u64() < before);
    icm.wait_for_log("reading 2 of 3 with this result");
    icm.wait_for_log("directory can be read again");
}

#[test]
fn a_much_smaller_reading_is_accepted_when_another_server_agrees() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    let before = directory(&icm)["replicas"].as_u64();
    // One server lost its entries: the reading of another one is used.
    acme.set("Web1", json!({ "dir": { "empty": true } }));
    wait_for_directory(&icm, "read elsewhere", |d| d["from"] != "Web1/Acme");
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
    acme.set("all", json!({ "dir": { "empty": false, "keep_percent": 50 } }));
    wait_for_directory(&icm, "agreed", |d| d["replicas"].as_u64() < before);
    assert!(!icm.log().contains("reading held"), "{}", icm.log());
}

#[test]
fn a_reading_marked_incomplete_is_held_even_if_little_is_missing() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    // Long enough to inspect a held reading.
    set(&mut settings, "clusters.0.directory.refresh", "3s");
    let icm = Icm::start(settings);
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    let before = directory(&icm)["replicas"].as_u64();
    // One server is incomplete: the reading of another one is used.
    acme.set("Web1", json!({ "dir": { "withheld": 2 } }));
    wait_for_directory(&icm, "read elsewhere", |d| d["from"] == "Web2/Acme");
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
    // All servers are incomplete in the same way: incomplete readings do not confirm each other.
    acme.set("all", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_log("reading 1 of 3 with this result");
    assert!(icm.log().contains("is incomplete: "), "{}", icm.log());
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
    assert_eq!(icm.metric("icm_directory_readable{"), Some(0.0));
    acme.ask("POST", "/reset", None);
    wait_for_directory(&icm, "recovered", |d| d["trouble"] == "");
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
}

#[test]
fn a_server_that_sends_its_directory_too_slowly_is_named_and_the_next_one_is_read() {
    let acme = Acme::built_in();
    acme.drip_directory("Web1");
    let icm = Icm::start(config(&acme));
    let read = eventually(MAX_DRIP_WAIT, || directory(&icm)["from"] == "Web2/Acme");
    assert!(read, "{:#}", directory(&icm));
    let warnings = directory(&icm)["warnings"].to_string();
    assert!(warnings.contains("Web1/Acme") && warnings.contains("is too slow"), "{warnings}");
    icm.wait_for_log("is too slow");
    assert!(icm.served(ARCHIVE, 2).keys().eq(["Web4"]));
}

#[test]
fn when_every_server_sends_its_directory_too_slowly_that_is_the_reported_error() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let list = settings["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.truncate(1);
    let icm = Icm::start(settings);
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    acme.drip_directory("all");
    assert!(eventually(MAX_DRIP_WAIT, || trouble(&icm).contains("is too slow")), "{:#}", directory(&icm));
    assert_eq!(icm.metric("icm_directory_readable{"), Some(0.0));
}

#[test]
fn a_file_directory_is_read_again_on_hup_and_a_broken_one_is_refused() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let id = "C1257A000041D2E1";
    let line = |server: &str| format!("sales/orders.nsf,{server},{id},Orders,\n");
    let head = "path,server,replica_id,title,mark\n";
    let json = |server: &str| {
        json!([{ "path": "sales/orders.nsf", "replica_id": id, "replicas": [{ "server": server }] }])
            .to_string()
    };
    for name in ["databases.csv", "databases.json"] {
        let file = dir.path().join(name);
        let text = |server: &str| match name.ends_with("csv") {
            true => format!("{head}{}", line(server)),
            false => json(server),
        };
        std::fs::write(&file, text("Web2/Acme")).unwrap();
        let mut settings = config(&acme);
        let source = format!("{{ source: file, file: {} }}", file.display());
        set(&mut settings, "clusters.0.directory", &source);
        let icm = Icm::start(settings);
        icm.wait_for_served("/sales/orders.nsf", "Web2");
        std::fs::write(&file, text("Web3/Acme")).unwrap();
        icm.signal("HUP");
        icm.wait_for_served("/sales/orders.nsf", "Web3");
        std::fs::write(&file, text("Nobody/Acme")).unwrap();
        icm.signal("HUP");
        icm.wait_for_log("reload refused");
        icm.wait_for_served("/sales/orders.nsf", "Web3");
    }
}

#[test]
fn a_static_directory_needs_no_server() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let replicas =
        "[{ server: Web1/Acme }, { server: Web2/Acme, path: apps/leads.nsf, mark: out_of_service }]";
    let database = format!("{{ path: sales/leads.nsf, replica_id: C1257A000041D2E0, replicas: {replicas} }}");
    set(&mut settings, "clusters.0.directory", &format!("{{ source: static, databases: [{database}] }}"));
    acme.set("all", json!({ "dir": { "error500": true } }));
    let icm = Icm::start(settings);
    icm.wait_for_served("/sales/leads.nsf", "Web1");
    assert_eq!(directory(&icm)["from"], "the configuration");
}

//! Directories and servers from their sources: the Cluster Database Directory with its peculiarities, Server documents, files,
//! and read failures.

use crate::support::*;
use serde_json::{Value, json};
use serde_yaml::Value as Yaml;

/// On Web4 alone.
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
fn the_directory_is_read_through_every_trap_in_xml_and_json() {
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
            // Documents that appear while it is paged through belong to what is read at last.
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
        let pages = acme.requests("Web1");
        let asked = |r: &Value| r["target"].as_str().is_some_and(|t| t.contains("Start=1001"));
        assert!(pages.iter().any(asked), "{format}: {:?}", pages.last());
    }
}

#[test]
fn any_member_that_answers_will_do() {
    let acme = Acme::built_in();
    acme.set("Web1", json!({ "dir": { "error500": true } }));
    acme.set("Web2", json!({ "dir": { "unauthorised": true } }));
    acme.set("Web3", json!({ "dir": { "truncated": true } }));
    let icm = Icm::start(config(&acme));
    wait_for_directory(&icm, "read from Web4", |d| d["from"] == "Web4/Acme");
    assert_eq!(trouble(&icm), "");
    let warnings = directory(&icm)["warnings"].to_string();
    for name in ["Web1/Acme", "Web2/Acme", "Web3/Acme"] {
        assert!(warnings.contains(name), "whoever could not be read is named: {warnings}");
    }
    assert!(icm.served(ARCHIVE, 2).keys().eq(["Web4"]));
}

#[test]
fn what_cannot_be_read_is_loud_and_so_is_its_recovery() {
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
        assert_eq!(directory(&icm)["databases"], databases, "{bad}: the last good one serves on");
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
fn the_last_good_directory_is_kept_on_disk_and_serves_while_every_member_is_silent() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("acmeweb.json");
    let mut settings = config(&acme);
    set(&mut settings, "clusters.0.directory.cache", &cache.display().to_string());
    let icm = Icm::start(settings.clone());
    assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    let databases = directory(&icm)["databases"].clone();
    let read_from = directory(&icm)["from"].clone();
    let copy = std::fs::read(&cache).unwrap();
    let header: Value = serde_json::from_slice(copy.split(|o| *o == b'\n').next().unwrap()).unwrap();
    assert_eq!(header["from"], read_from, "the first line says whose it is");
    drop(icm);
    acme.fault("all", json!("refuse"));
    let icm = Icm::start(settings.clone());
    assert_eq!(directory(&icm)["databases"], databases);
    assert!(directory(&icm)["from"].as_str().unwrap().contains("acmeweb.json"));
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200), "a cached directory is one");
    assert_eq!(icm.client().get(ARCHIVE).status, 503);
    wait_for_directory(&icm, "in trouble", |d| d["trouble"] != "");
    acme.heal("all");
    wait_for_directory(&icm, "read again", |d| d["from"] == "Web1/Acme");
    icm.wait_for_served(ARCHIVE, "Web4");
    drop(icm);
    // A first reading that has lost much is judged against the copy.
    acme.set("all", json!({ "dir": { "error500": true } }));
    acme.set("Web1", json!({ "dir": { "error500": false, "keep_percent": 40 } }));
    let icm = Icm::start(settings);
    icm.wait_for_log("reading held");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["acmeweb.json"], "no temporary file stays");
}

#[test]
fn a_copy_that_is_damaged_is_said_and_a_copy_that_is_whole_opens_the_listeners_while_the_source_hangs() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("acmeweb.json");
    let mut settings = config(&acme);
    set(&mut settings, "clusters.0.directory.cache", &cache.display().to_string());
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
fn a_reading_that_lost_much_is_held_until_three_say_the_same() {
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
fn a_reading_that_lost_much_serves_as_soon_as_another_member_agrees() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    let before = directory(&icm)["replicas"].as_u64();
    // One member alone, while the others have everything: theirs serves.
    acme.set("Web1", json!({ "dir": { "empty": true } }));
    wait_for_directory(&icm, "read elsewhere", |d| d["from"] != "Web1/Acme");
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
    acme.set("all", json!({ "dir": { "empty": false, "keep_percent": 50 } }));
    wait_for_directory(&icm, "agreed", |d| d["replicas"].as_u64() < before);
    assert!(!icm.log().contains("reading held"), "{}", icm.log());
}

#[test]
fn a_directory_that_says_itself_that_it_is_incomplete_is_held_also_within_the_fifth() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    // Time to look at what is held.
    set(&mut settings, "clusters.0.directory.refresh", "3s");
    let icm = Icm::start(settings);
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    let before = directory(&icm)["replicas"].as_u64();
    // One member alone, while another one has everything: that one's serves.
    acme.set("Web1", json!({ "dir": { "withheld": 2 } }));
    wait_for_directory(&icm, "read elsewhere", |d| d["from"] == "Web2/Acme");
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
    // All of them in the same way: none confirms another.
    acme.set("all", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_log("reading 1 of 3 with this result");
    assert!(icm.log().contains("is incomplete: "), "{}", icm.log());
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
    assert_eq!(icm.metric("icm_directory_readable{"), Some(0.0));
    acme.ask("POST", "/reset", None);
    wait_for_directory(&icm, "recovered", |d| d["trouble"] == "");
    assert_eq!(directory(&icm)["replicas"].as_u64(), before);
}

/// Pages of one row each, nine seconds apart: even the five Server documents would take longer than is allowed.
fn dripping() -> Value {
    json!({ "dir": { "slow": 9_000, "count_cap": 1 } })
}

/// Half a minute is what the shortest refresh gives a member for the beginning of a reading.
const PATIENT: std::time::Duration = std::time::Duration::from_secs(150);

#[test]
fn a_member_that_drips_its_directory_is_given_up_and_named_and_the_next_one_is_read() {
    let acme = Acme::built_in();
    acme.set("Web1", dripping());
    let icm = Icm::start(config(&acme));
    let read = eventually(PATIENT, || directory(&icm)["from"] == "Web2/Acme");
    assert!(read, "{:#}", directory(&icm));
    let warnings = directory(&icm)["warnings"].to_string();
    assert!(warnings.contains("Web1/Acme") && warnings.contains("is too slow"), "{warnings}");
    icm.wait_for_log("is too slow");
    assert!(icm.served(ARCHIVE, 2).keys().eq(["Web4"]));
}

#[test]
fn server_documents_that_drip_are_given_up_and_named_and_the_next_of_from_is_read() {
    let acme = Acme::built_in();
    let mut settings = names(&acme);
    static_directory(&mut settings);
    acme.set("Web1", dripping());
    let icm = Icm::start(settings);
    assert!(eventually(PATIENT, || members(&icm).len() == 4), "{:#}", icm.status());
    let warnings = icm.status()["clusters"][0]["members_warnings"].to_string();
    assert!(warnings.contains("is too slow"), "{warnings}");
}

#[test]
fn when_every_member_drips_its_directory_that_is_the_trouble() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let list = settings["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.truncate(1);
    let icm = Icm::start(settings);
    wait_for_directory(&icm, "read", |d| d["databases"].as_u64() > Some(0));
    acme.set("all", dripping());
    assert!(eventually(PATIENT, || trouble(&icm).contains("is too slow")), "{:#}", directory(&icm));
    assert_eq!(icm.metric("icm_directory_readable{"), Some(0.0));
}

fn names(acme: &Acme) -> Yaml {
    let mut settings = config(acme);
    let from: Vec<String> = acme.servers.iter().map(|s| format!("\"http://{}\"", s.http.unwrap())).collect();
    set(
        &mut settings,
        "clusters.0.servers",
        &format!("{{ source: names, from: [{}], view: ICM Servers, refresh: 1s }}", from.join(", ")),
    );
    settings
}

fn members(icm: &Icm) -> Vec<String> {
    let status = icm.status();
    let all = status["clusters"][0]["servers"].as_array().unwrap();
    all.iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn members_join_and_leave_by_their_server_documents_without_a_restart() {
    let acme = Acme::built_in();
    acme.set("Web3", json!({ "member": false }));
    let icm = Icm::start(names(&acme));
    assert!(
        eventually(MAX_WAIT, || members(&icm) == ["Web1/Acme", "Web2/Acme", "Web4/Acme"]),
        "{:?}",
        members(&icm)
    );
    let served = icm.served("/sales/orders.nsf", 12);
    assert!(served.keys().all(|k| k == "Web1" || k == "Web2"), "{served:?}");
    assert_eq!(directory(&icm)["unknown_servers"], json!(["Web3/Acme"]));
    acme.set("Web3", json!({ "member": true }));
    icm.wait_for_log("joined the cluster: Web3/Acme");
    assert!(eventually(MAX_WAIT, || icm.served("/sales/orders.nsf", 6).contains_key("Web3")));
    acme.set("Web1", json!({ "member": false }));
    icm.wait_for_log("left the cluster: Web1/Acme");
    let served = icm.served("/sales/orders.nsf", 12);
    assert!(served.keys().all(|k| k == "Web2" || k == "Web3"), "{served:?}");
}

fn static_directory(settings: &mut Yaml) {
    let database = "{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [{ server: Web1/Acme }] }";
    set(settings, "clusters.0.directory", &format!("{{ source: static, databases: [{database}] }}"));
}

#[test]
fn a_names_view_that_says_itself_that_it_is_incomplete_takes_no_member_away_at_once() {
    let acme = Acme::built_in();
    let mut settings = names(&acme);
    set(&mut settings, "clusters.0.servers.refresh", "3s");
    let icm = Icm::start(settings);
    assert!(eventually(MAX_WAIT, || members(&icm).len() == 4), "{:?}", members(&icm));
    // The first of `from` alone: the next one is complete.
    acme.set("Web1", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_status("warned", |s| {
        s["clusters"][0]["members_warnings"].to_string().contains("may be incomplete")
    });
    assert_eq!(members(&icm).len(), 4);
    assert_eq!(icm.metric("icm_members_readable{"), Some(1.0));
    acme.set("all", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_log("reading held, the old servers stay in use");
    icm.wait_for_log("reading 1 of 3 with this result");
    assert_eq!(members(&icm).len(), 4, "{}", icm.log());
    assert_eq!(icm.metric("icm_members_readable{"), Some(0.0));
    acme.ask("POST", "/reset", None);
    icm.wait_for_log("server documents can be read again");
    assert_eq!(members(&icm).len(), 4);
    assert!(!icm.log().contains("left the cluster"), "{}", icm.log());
    // As with the directory, three readings in a row are believed.
    acme.set("all", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_log("left the cluster: Web4/Acme");
    icm.wait_for_log("reading 2 of 3 with this result");
}

#[test]
fn a_member_that_joins_while_another_leaves_serves_at_once() {
    let acme = Acme::built_in();
    acme.set("all", json!({ "member": false }));
    acme.set("Web1", json!({ "member": true }));
    let mut settings = names(&acme);
    static_directory(&mut settings);
    set(&mut settings, "clusters.0.probe.path", "/alive");
    let icm = Icm::start(settings);
    assert!(eventually(MAX_WAIT, || members(&icm) == ["Web1/Acme"]), "{:?}", members(&icm));
    icm.wait_for_state("Web1", "AVAILABLE");
    acme.fault("Web2", json!({ "kind": "slow", "delay_ms": 500, "path": "/alive" }));
    acme.set("Web2", json!({ "member": true }));
    // Between the two changes a reading may see both members.
    acme.set("Web1", json!({ "member": false }));
    let mut client = icm.client();
    let moved = eventually(MAX_WAIT, || {
        let answer = client.get("/icons/a.gif");
        assert_eq!(answer.status, 200, "{}", icm.log());
        answer.server() == "Web2/Acme"
    });
    assert!(moved, "{}", icm.log());
}

#[test]
fn the_last_good_members_are_kept_on_disk_and_trouble_with_them_is_said() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("members.json");
    let mut settings = names(&acme);
    set(&mut settings, "clusters.0.servers.cache", &cache.display().to_string());
    let icm = Icm::start(settings.clone());
    assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
    drop(icm);
    acme.set("all", json!({ "dir": { "error500": true } }));
    let icm = Icm::start(settings);
    assert_eq!(members(&icm).len(), 4);
    icm.wait_for_status("in trouble", |s| s["clusters"][0]["members_trouble"] != "");
    icm.wait_for_log("server documents cannot be read");
    assert_eq!(icm.metric("icm_members_readable{"), Some(0.0));
    assert!(icm.served("/icons/a.gif", 2).keys().all(|k| k.starts_with("Web")));
    acme.ask("POST", "/reset", None);
    icm.wait_for_log("server documents can be read again");
    assert_eq!(icm.metric("icm_members_readable{"), Some(1.0));
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
fn a_static_directory_needs_nobody() {
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

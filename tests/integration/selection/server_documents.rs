//! Servers of a cluster from the Server documents of the Domino directory (`source: names`), and failed readings of them.

use crate::support::*;
use serde_json::json;
use serde_yaml::Value;

fn with_names_source(acme: &Acme) -> Value {
    let mut settings = config(acme);
    let from: Vec<String> = acme.servers.iter().map(|s| format!("\"http://{}\"", s.http.unwrap())).collect();
    set(
        &mut settings,
        "clusters.0.servers",
        &format!("{{ source: names, from: [{}], view: ICM Servers, refresh: 1s }}", from.join(", ")),
    );
    settings
}

fn server_names(icm: &Icm) -> Vec<String> {
    let status = icm.status();
    let all = status["clusters"][0]["servers"].as_array().unwrap();
    all.iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

fn static_directory(settings: &mut Value) {
    let database = "{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [{ server: Web1/Acme }] }";
    set(settings, "clusters.0.directory", &format!("{{ source: static, databases: [{database}] }}"));
}

#[test]
fn a_server_is_reached_at_the_address_of_port_tcpip_behind_that_of_a_private_port() {
    let acme = Acme::built_in();
    for format in ["xml", "json"] {
        let mut settings = with_names_source(&acme);
        set(&mut settings, "clusters.0.servers.format", format);
        let icm = Icm::start(settings);
        assert!(eventually(MAX_WAIT, || server_names(&icm).len() == 4), "{:?}", server_names(&icm));
        let cluster = icm.status()["clusters"][0].clone();
        for server in cluster["servers"].as_array().unwrap() {
            let at = format!("127.0.0.1:{}", acme.http(server["name"].as_str().unwrap()).port());
            assert_eq!(server["http"], at, "{format}");
        }
        assert_eq!(cluster["members_warnings"], json!([]), "{format}");
    }
}

#[test]
fn server_documents_that_come_too_slowly_are_reported_and_the_next_address_is_read() {
    let acme = Acme::built_in();
    let mut settings = with_names_source(&acme);
    static_directory(&mut settings);
    acme.drip_directory("Web1");
    let icm = Icm::start(settings);
    assert!(eventually(MAX_DRIP_WAIT, || server_names(&icm).len() == 4), "{:#}", icm.status());
    let warnings = icm.status()["clusters"][0]["members_warnings"].to_string();
    assert!(warnings.contains("is too slow"), "{warnings}");
}

#[test]
fn servers_join_and_leave_by_their_server_documents_without_a_restart() {
    let acme = Acme::built_in();
    acme.set("Web3", json!({ "member": false }));
    let icm = Icm::start(with_names_source(&acme));
    assert!(
        eventually(MAX_WAIT, || server_names(&icm) == ["Web1/Acme", "Web2/Acme", "Web4/Acme"]),
        "{:?}",
        server_names(&icm)
    );
    let served = icm.served("/sales/orders.nsf", 12);
    assert!(served.keys().all(|k| k == "Web1" || k == "Web2"), "{served:?}");
    assert_eq!(icm.status()["clusters"][0]["directory"]["unknown_servers"], json!(["Web3/Acme"]));
    acme.set("Web3", json!({ "member": true }));
    icm.wait_for_log("joined the cluster: Web3/Acme");
    assert!(eventually(MAX_WAIT, || icm.served("/sales/orders.nsf", 6).contains_key("Web3")));
    acme.set("Web1", json!({ "member": false }));
    icm.wait_for_log("left the cluster: Web1/Acme");
    let served = icm.served("/sales/orders.nsf", 12);
    assert!(served.keys().all(|k| k == "Web2" || k == "Web3"), "{served:?}");
}

#[test]
fn a_names_view_marked_incomplete_removes_no_server_at_once() {
    let acme = Acme::built_in();
    let mut settings = with_names_source(&acme);
    set(&mut settings, "clusters.0.servers.refresh", "3s");
    let icm = Icm::start(settings);
    assert!(eventually(MAX_WAIT, || server_names(&icm).len() == 4), "{:?}", server_names(&icm));
    // Only the first address of `from` is incomplete.
    acme.set("Web1", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_status("warned", |s| {
        s["clusters"][0]["members_warnings"].to_string().contains("may be incomplete")
    });
    assert_eq!(server_names(&icm).len(), 4);
    assert_eq!(icm.metric("icm_members_readable{"), Some(1.0));
    acme.set("all", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_log("reading held, the old servers stay in use");
    icm.wait_for_log("reading 1 of 3 with this result");
    assert_eq!(server_names(&icm).len(), 4, "{}", icm.log());
    assert_eq!(icm.metric("icm_members_readable{"), Some(0.0));
    acme.ask("POST", "/reset", None);
    icm.wait_for_log("server documents can be read again");
    assert_eq!(server_names(&icm).len(), 4);
    assert!(!icm.log().contains("left the cluster"), "{}", icm.log());
    // As with the directory, three equal readings in a row are accepted.
    acme.set("all", json!({ "dir": { "withheld": 2 } }));
    icm.wait_for_log("left the cluster: Web4/Acme");
    icm.wait_for_log("reading 2 of 3 with this result");
}

#[test]
fn a_server_that_joins_while_another_leaves_serves_at_once() {
    let acme = Acme::built_in();
    acme.set("all", json!({ "member": false }));
    acme.set("Web1", json!({ "member": true }));
    let mut settings = with_names_source(&acme);
    static_directory(&mut settings);
    set(&mut settings, "clusters.0.probe.path", "/alive");
    let icm = Icm::start(settings);
    assert!(eventually(MAX_WAIT, || server_names(&icm) == ["Web1/Acme"]), "{:?}", server_names(&icm));
    icm.wait_for_state("Web1", "AVAILABLE");
    acme.fault("Web2", json!({ "kind": "slow", "delay_ms": 500, "path": "/alive" }));
    acme.set("Web2", json!({ "member": true }));
    // A reading between the two changes may see both servers.
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
fn the_last_good_server_list_is_cached_and_failed_readings_are_logged() {
    let acme = Acme::built_in();
    let mut settings = with_names_source(&acme);
    let (_dir, cache) = add_cache(&mut settings, "clusters.0.servers.cache");
    let icm = Icm::start(settings.clone());
    assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
    drop(icm);
    acme.set("all", json!({ "dir": { "error500": true } }));
    let icm = Icm::start(settings);
    assert_eq!(server_names(&icm).len(), 4);
    icm.wait_for_status("in trouble", |s| s["clusters"][0]["members_trouble"] != "");
    icm.wait_for_log("server documents cannot be read");
    assert_eq!(icm.metric("icm_members_readable{"), Some(0.0));
    assert!(icm.served("/icons/a.gif", 2).keys().all(|k| k.starts_with("Web")));
    acme.ask("POST", "/reset", None);
    icm.wait_for_log("server documents can be read again");
    assert_eq!(icm.metric("icm_members_readable{"), Some(1.0));
}

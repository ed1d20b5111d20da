//! `icm restrict` and `icm release`: an administrator closes a server for new users and opens it again.

use crate::support::*;

/// Runs `icm VERB SERVER --admin ...`. Returns the exit code and all output.
fn verb(icm: &Icm, verb: &str, server: &str) -> (i32, String) {
    let output = icm_cli(&[verb, server, "--admin", &format!("http://{}", icm.admin)]);
    (output.code, output.out + &output.err)
}

/// The progress of a drain, as the command line reads it.
fn drain(icm: &Icm, server: &str) -> serde_json::Value {
    icm.admin(&format!("/servers/{server}/drain")).json()["servers"][0].clone()
}

#[test]
fn without_a_terminal_restrict_does_not_ask_and_if_safe_refuses_for_a_last_replica() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
    let admin = format!("http://{}", icm.admin);
    let output = icm_cli(&["restrict", "Web4", "--if-safe", "--admin", &admin]);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.out.contains("only Web4/Acme can serve legacy/archive2009.nsf"), "{output:?}");
    assert!(!output.out.contains("old/closed.nsf"), "what is marked is not lost: {output:?}");
    assert_eq!(icm.state_of("Web4"), "AVAILABLE");
    let output = icm_cli(&["restrict", "Web4", "--admin", &admin]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(icm.state_of("Web4"), "RESTRICTED");
}

#[test]
fn restrict_with_wait_ends_when_no_request_is_in_flight_and_no_user_can_return() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.affinity", "{ drain_timeout: 10s, idle_timeout: 30m }");
    let icm = Icm::start(config);
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
    assert_eq!(drain(&icm, "Web4")["empty"], false, "a server that is not RESTRICTED is not empty");
    let mut client = icm.client();
    let slow =
        std::thread::spawn(move || client.get("/legacy/archive2009.nsf?OpenDatabase&delay=4000").status);
    icm.wait_for_in_flight("Web4", 1);
    let admin = format!("http://{}", icm.admin);
    let soon = icm_cli(&["restrict", "Web4", "--wait=0s", "--admin", &admin]);
    assert_eq!(soon.code, 2, "{soon:?}");
    assert!(
        soon.err.contains("stays RESTRICTED") && soon.out.contains("Web4/Acme is RESTRICTED"),
        "{soon:?}"
    );
    for idle in ["--idle", "--quiet"] {
        let soon = icm_cli(&["restrict", "Web4", "--wait=0s", idle, "30m", "--admin", &admin]);
        assert_eq!(soon.code, 2, "a request is in flight: {soon:?}");
    }
    let output = icm_cli(&["restrict", "Web4", "--wait", "--json", "--admin", &admin]);
    assert_eq!(output.code, 0, "{output:?}");
    let lines: Vec<serde_json::Value> =
        output.out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    assert!(lines.len() >= 3, "the restriction, some progress, the end: {output:?}");
    let last = lines.last().unwrap();
    assert_eq!((&last["empty"], &last["progress"]["in_flight"]), (&true.into(), &0.into()), "{last}");
    assert_eq!(slow.join().unwrap(), 200, "the request in flight is served");
    assert_eq!(icm.state_of("Web4"), "RESTRICTED");
}

#[test]
fn restrict_names_the_databases_that_only_this_server_can_serve() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    assert_eq!(icm.client().get("/legacy/archive2009.nsf").status, 200);
    let (code, text) = verb(&icm, "restrict", "Web4");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("RESTRICTED") && text.contains("legacy/archive2009.nsf"), "{text}");
    assert_eq!(icm.client().get("/legacy/archive2009.nsf").status, 503);
    assert_eq!(icm.state_of("Web4"), "RESTRICTED");
    // Release by the canonical form of the name.
    let (code, text) = verb(&icm, "release", "CN=Web4/O=Acme");
    assert_eq!(code, 0, "{text}");
    assert_eq!(icm.client().get("/legacy/archive2009.nsf").status, 200);
}

#[test]
fn release_names_what_else_restricts_the_server() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.servers.list.0.server_restricted", "1");
    let icm = Icm::start(config);
    verb(&icm, "restrict", "Web1/Acme");
    let (code, text) = verb(&icm, "release", "Web1/Acme");
    assert_eq!(code, 0);
    assert!(text.contains("still restricted") && text.contains("configuration"), "{text}");
    assert_eq!(icm.state_of("Web1"), "RESTRICTED");
}

#[test]
fn a_restriction_outlives_a_reload_and_a_restart() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let state_dir = tempfile::tempdir().unwrap();
    set(&mut config, "state_dir", &state_dir.path().display().to_string());
    let mut icm = Icm::start(config.clone());
    assert_eq!(verb(&icm, "restrict", "web2").0, 0);
    icm.reload(&config);
    assert_eq!(icm.state_of("Web2"), "RESTRICTED");
    icm.signal("TERM");
    assert!(icm.wait_for_end(std::time::Duration::from_secs(20)).is_some());
    let icm = Icm::start(config.clone());
    assert_eq!(icm.state_of("Web2"), "RESTRICTED");
    assert_eq!(verb(&icm, "release", "web2").0, 0);
    drop(icm);
    assert_eq!(Icm::start(config).state_of("Web2"), "AVAILABLE");
}

#[test]
fn an_unknown_server_or_a_foreign_page_changes_nothing() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let (code, text) = verb(&icm, "restrict", "Web9");
    assert_eq!(code, 2, "{text}");
    let post =
        |headers: &[(&str, &str)]| Client::to(icm.admin).post("/servers/Web1/restrict", headers, "").status;
    assert_eq!(post(&[("Origin", "https://evil.example")]), 403);
    assert_eq!(
        Client::to(icm.admin).host("evil.example").post("/servers/Web1/restrict", &[], "").status,
        421
    );
    assert_eq!(Client::to(icm.admin).get("/servers/Web1/restrict").status, 405);
    assert_eq!(icm.state_of("Web1"), "AVAILABLE");
    let own = format!("http://{}", icm.admin);
    assert_eq!(post(&[("Origin", own.as_str())]), 200);
    assert_eq!(icm.state_of("Web1"), "RESTRICTED");
}

#[test]
fn verbs_need_the_token_if_one_is_set() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let dir = tempfile::tempdir().unwrap();
    let token = secret_file(dir.path(), "token", "0123456789abcdef0123456789abcdef\n");
    set(&mut config, "admin.token_file", &token);
    let icm = Icm::start(config);
    let post =
        |headers: &[(&str, &str)]| Client::to(icm.admin).post("/servers/Web1/restrict", headers, "").status;
    assert_eq!(post(&[]), 401);
    assert_eq!(post(&[("Authorization", "Bearer wrong")]), 401);
    assert_eq!(post(&[("Authorization", "Bearer 0123456789abcdef0123456789abcdef")]), 200);
    // The command line finds the token through the configuration.
    let output = icm_cli(&["release", "Web1", "-c", icm.file.to_str().unwrap()]);
    assert_eq!(output.code, 0, "{output:?}");
}

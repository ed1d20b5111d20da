//! CATCHING UP: a server that was away is set aside until it is shown that it has the changes made meanwhile.

use std::path::Path;

use crate::support::*;
use serde_json::{Value as Json, json};
use serde_yaml::Value;

/// The outages in `state_dir` and their copy.
const FILES: [&str; 2] = ["catch-up.json", "catch-up.json.copy"];

/// Three servers that replicate at once and retry after an hour, and whose statistics are read ten times a second.
fn replicating() -> (Acme, Value) {
    let acme = Acme::replicating("{ push_ms: 20 }");
    acme.set("all", json!({ "index": 90 }));
    let config = config_with_replicator_statistics(&acme);
    (acme, config)
}

/// A change on this server that waits for a retry, because another server is away.
fn write(acme: &Acme, server: &str) {
    let waiting = || acme.replica_statistic(server, "Retry.Waiting");
    let before = waiting();
    create_document(&mut Client::to(acme.http(server)), "all.nsf", &[("text", "news")]);
    assert!(eventually(MAX_WAIT, || waiting() > before), "{:#}", acme.replication());
}

/// Takes a server away for longer than `catch_up.after`, with a change on Web2 meanwhile, which Web2 cannot push before
/// [`retry`].
fn away_and_back(acme: &Acme, icm: &Icm, server: &str) {
    stop(acme, icm, server);
    write(acme, "Web2");
    acme.start_server(server);
    icm.wait_for_state(server, "CATCHING UP");
}

fn stop(acme: &Acme, icm: &Icm, server: &str) {
    icm.wait_for_reports();
    acme.stop_server(server);
    icm.wait_for_state(server, "UNREACHABLE");
    pause(400);
}

fn retry(acme: &Acme) {
    acme.set("all", json!({ "retry_ms": 1 }));
    acme.wait_until_replicated();
    acme.set("all", json!({ "retry_ms": 3_600_000 }));
}

fn release(icm: &Icm, arguments: &[&str]) -> String {
    let admin = format!("http://{}", icm.admin);
    let mut all = vec!["release", "Web1", "--admin", &admin];
    all.extend(arguments);
    let output = icm_cli(&all);
    assert_eq!(output.code, 0, "{output:?}");
    output.out
}

fn events(icm: &Icm) -> String {
    let all = icm.status()["events"].clone();
    all.as_array().unwrap().iter().map(|e| format!("{} {}\n", e["kind"], e["cause"])).collect()
}

fn opened(icm: &Icm, reason: &str) -> f64 {
    let start = format!("icm_catch_up_opened_total{{cluster=\"AcmeWeb\",reason=\"{reason}\"}}");
    icm.metric(&start).unwrap()
}

/// Waits until this number of gates is counted for the reason. The state changes a moment before the counter.
fn wait_for_opened(icm: &Icm, reason: &str, number: f64) {
    let counted = eventually(MAX_WAIT, || opened(icm, reason) == number);
    assert!(counted, "{reason}: {} and not {number}", opened(icm, reason));
}

/// Waits until an event contains the text, and returns all. The state changes a moment before the event is recorded.
fn wait_for_event(icm: &Icm, text: &str) -> String {
    assert!(eventually(MAX_WAIT, || events(icm).contains(text)), "no {text:?} in {}", events(icm));
    events(icm)
}

/// Waits until both files in `state_dir` have a record of this server that satisfies the condition. A server is also named
/// as a witness in the records of others.
fn wait_for_saved(state_dir: &Path, server: &str, what: &str, is_so: impl Fn(&Json) -> bool) {
    let name = format!("{server}/Acme");
    let has_record = |file: &str| {
        let text = std::fs::read(state_dir.join(file)).unwrap_or_default();
        let records: Vec<Json> = serde_json::from_slice(&text).unwrap_or_default();
        records.iter().any(|record| record["server"] == name.as_str() && is_so(record))
    };
    let saved = eventually(MAX_WAIT, || FILES.iter().all(|file| has_record(file)));
    let text = |file: &&str| std::fs::read_to_string(state_dir.join(file)).unwrap_or_default();
    assert!(saved, "{server} is never saved as {what}: {}", FILES.iter().map(text).collect::<String>());
}

/// An outage that is not over.
fn is_away(record: &Json) -> bool {
    record["returned"].is_null() && record["opened"].is_null()
}

/// A gate that is closed.
fn is_closed(record: &Json) -> bool {
    record["returned"].is_u64() && record["limit_from"].is_u64() && record["opened"].is_null()
}

#[test]
fn a_killed_server_that_returns_is_set_aside_until_the_others_report_that_nothing_waits() {
    let (acme, config) = replicating();
    let icm = Icm::start(config);
    let mut user = icm.client().with("Cookie", &format!("ICM={}", icm.cookie_for("Web1", "/all.nsf")));
    assert_eq!(user.get("/all.nsf").server(), "Web1/Acme");
    away_and_back(&acme, &icm, "Web1");

    // Users go elsewhere, also those whose entry names it. Nobody else holds the last one.
    assert!(!icm.served("/all.nsf", 20).contains_key("Web1/Acme"));
    assert_ne!(user.get("/all.nsf").server(), "Web1/Acme");
    stop(&acme, &icm, "Web2");
    assert_eq!(icm.client().get("/two.nsf").server(), "Web1/Acme", "set aside is better than nothing");
    acme.start_server("Web2");
    icm.wait_for_server("Web1", "waits for Web3 alone", |server| {
        server["catching_up"]["waiting_for"].to_string().contains("restarted")
            || server["state"] == "AVAILABLE"
    });

    // Web2 has lost its queue, so that only Web3 counts, and nothing waits there.
    icm.wait_for_state("Web1", "AVAILABLE");
    wait_for_opened(&icm, "evidence", 1.0);
    wait_for_event(&icm, "nothing waits for replication on Web3/Acme");
}

#[test]
fn fail_back_waits_until_the_former_server_has_caught_up() {
    let (acme, mut config) = replicating();
    set(&mut config, "clusters.0.affinity.fail_back", "0s");
    let icm = Icm::start(config);
    let mut user = Browser::on(icm.address, "/all.nsf?Open", "Web1");
    stop(&acme, &icm, "Web1");
    write(&acme, "Web2");
    assert_ne!(user.server_of("/all.nsf?Open"), "Web1/Acme");
    acme.start_server("Web1");
    icm.wait_for_state("Web1", "CATCHING UP");
    for _ in 0..10 {
        assert_ne!(user.server_of("/all.nsf?Open"), "Web1/Acme");
    }
    retry(&acme);
    icm.wait_for_state("Web1", "AVAILABLE");
    assert!(eventually(MAX_WAIT, || user.server_of("/all.nsf?Open") == "Web1/Acme"));
}

#[test]
fn a_retry_that_waits_keeps_the_gate_closed_and_its_success_opens_it() {
    let (acme, config) = replicating();
    let icm = Icm::start(config);
    away_and_back(&acme, &icm, "Web1");
    icm.wait_for_server("Web1", "waits for Web2", |server| {
        let waits = &server["catching_up"]["waiting_for"];
        waits == &json!(["Web2/Acme reports 1 replicas that wait for a retry, 0 before the outage"])
    });
    let server = icm.status_of("Web1");
    let catching_up = &server["catching_up"];
    let number = |key: &str| catching_up[key].as_u64().unwrap();
    assert!(number("outage_ms") >= 300, "{catching_up:#}");
    assert_eq!(number("limit_at") - number("since"), 3_600_000, "{catching_up:#}");
    assert_eq!(icm.status_of("Web2")["catching_up"], Json::Null);
    let replicator = &icm.status_of("Web2")["replicator"];
    assert_eq!((&replicator["retry_waiting"], &replicator["source"]), (&json!(1), &json!("console")));
    assert!(
        icm.metric("icm_server_catching_up_seconds{cluster=\"AcmeWeb\",server=\"Web1/Acme\"}") > Some(0.0)
    );
    assert_eq!(
        icm.metric("icm_server_state{cluster=\"AcmeWeb\",server=\"Web1/Acme\",state=\"catching_up\"}"),
        Some(1.0)
    );
    let shown = icm_cli(&["show", "cluster", "-c", icm.file.to_str().unwrap()]).out;
    assert!(shown.contains("CATCHING UP"), "{shown}");
    let cause = icm.events_of("Web1")[0]["cause"].as_str().unwrap().to_owned();
    assert!(
        cause.starts_with("returned after ") && cause.contains("until Web2/Acme and Web3/Acme report"),
        "{cause}"
    );

    retry(&acme);
    icm.wait_for_state("Web1", "AVAILABLE");
    wait_for_opened(&icm, "evidence", 1.0);
    assert_eq!(opened(&icm, "limit"), 0.0);
    assert_eq!(icm.status_of("Web1")["catching_up"], Json::Null);
}

#[test]
fn the_limit_opens_the_gate_with_an_event_a_log_line_and_a_metric() {
    let (acme, mut config) = replicating();
    let icm = Icm::start(config.clone());
    away_and_back(&acme, &icm, "Web1");
    // A changed limit applies to what is catching up already.
    set(&mut config, "clusters.0.catch_up.limit", "1s");
    icm.reload(&config);
    icm.wait_for_state("Web1", "AVAILABLE");
    wait_for_opened(&icm, "limit", 1.0);
    assert_eq!(opened(&icm, "evidence"), 0.0);
    let is_event = |line: &str| line.starts_with("\"catch_up\"") && line.contains("NOTHING HAS SHOWN");
    let event = || events(&icm).lines().find(|line| is_event(line)).unwrap_or_default().to_owned();
    assert!(eventually(MAX_WAIT, || event().contains("Web2/Acme reports 1 replicas")), "{}", events(&icm));
    icm.wait_for_log("NOTHING HAS SHOWN");
}

#[test]
fn mode_off_opens_all_gates_at_the_reload() {
    let (acme, mut config) = replicating();
    let icm = Icm::start(config.clone());
    away_and_back(&acme, &icm, "Web1");
    set(&mut config, "clusters.0.catch_up.mode", "off");
    icm.reload(&config);
    icm.wait_for_state("Web1", "AVAILABLE");
    wait_for_opened(&icm, "configuration", 1.0);
    acme.stop_server("Web1");
    icm.wait_for_state("Web1", "UNREACHABLE");
    pause(400);
    acme.start_server("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
    assert_eq!(opened(&icm, "configuration"), 1.0, "it was not gated at all");
}

#[test]
fn after_an_outage_of_all_servers_nobody_is_set_aside() {
    let (acme, config) = replicating();
    let icm = Icm::start(config);
    icm.wait_for_reports();
    acme.stop_server("all");
    for server in ["Web1", "Web2", "Web3"] {
        icm.wait_for_state(server, "UNREACHABLE");
    }
    pause(400);
    acme.start_server("all");
    for server in ["Web1", "Web2", "Web3"] {
        icm.wait_for_state(server, "AVAILABLE");
        let new: Vec<Json> = icm.events_of(server).iter().map(|e| e["new"].clone()).collect();
        assert!(!new.contains(&json!("CATCHING UP")), "{new:?}");
    }
    wait_for_event(&icm, "all servers were UNREACHABLE together");
}

#[test]
fn without_statistics_of_the_replicator_there_is_no_gate_and_the_status_says_so() {
    let (acme, config) = replicating();
    acme.set("all", json!({ "replica_statistics": false }));
    let icm = Icm::start(config);
    icm.wait_for_server("Web1", "reports an index", |server| server["index"] == 90);
    acme.stop_server("Web1");
    icm.wait_for_state("Web1", "UNREACHABLE");
    pause(400);
    acme.start_server("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
    let evidence = icm.status()["clusters"][0]["evidence"].clone();
    assert_eq!((&evidence["enabled"], &evidence["reporting"]), (&json!(false), &json!([])), "{evidence:#}");
    assert_eq!(evidence["silent"], json!(["Web1/Acme", "Web2/Acme", "Web3/Acme"]));
    assert!(!events(&icm).contains("\"catch_up\""), "{}", events(&icm));
}

#[test]
fn release_now_opens_the_gate_alone_and_plain_release_the_restriction_alone() {
    let (acme, config) = replicating();
    let icm = Icm::start(config);
    let admin = format!("http://{}", icm.admin);
    assert_eq!(icm_cli(&["restrict", "Web1", "--admin", &admin]).code, 0);
    stop(&acme, &icm, "Web1");
    write(&acme, "Web2");
    acme.start_server("Web1");
    icm.wait_for_state("Web1", "RESTRICTED");
    assert!(icm.status_of("Web1")["catching_up"].is_object());
    let text = release(&icm, &[]);
    assert!(
        text.contains("is CATCHING UP") && text.contains("still CATCHING UP") && text.contains("--now"),
        "{text}"
    );
    assert_eq!(icm.state_of("Web1"), "CATCHING UP");
    let text = release(&icm, &["--now"]);
    assert!(text.contains("Web1/Acme is AVAILABLE"), "{text}");
    assert_eq!(opened(&icm, "administrator"), 1.0);
    assert!(release(&icm, &["--now"]).contains("was not CATCHING UP"));

    // The other way round.
    retry(&acme);
    away_and_back(&acme, &icm, "Web1");
    assert_eq!(icm_cli(&["restrict", "Web1", "--admin", &admin]).code, 0);
    assert!(release(&icm, &["--now"]).contains("still restricted"));
    assert_eq!(
        (icm.state_of("Web1").as_str(), icm.status_of("Web1")["catching_up"].clone()),
        ("RESTRICTED", Json::Null)
    );
    let wrong = Client::to(icm.admin).request("POST", "/servers/Web1/release?now=yes", &[], b"").unwrap();
    assert_eq!(wrong.status, 400);
}

#[test]
fn gates_and_outages_survive_a_restart_and_an_upgrade() {
    let (acme, mut config) = replicating();
    let dir = tempfile::tempdir().unwrap();
    set(&mut config, "state_dir", &dir.path().display().to_string());
    let icm = Icm::start(config.clone());
    away_and_back(&acme, &icm, "Web1");
    stop(&acme, &icm, "Web3");
    write(&acme, "Web2");
    wait_for_saved(dir.path(), "Web1", "CATCHING UP", is_closed);
    wait_for_saved(dir.path(), "Web3", "UNREACHABLE", is_away);
    drop(icm);

    let icm = Icm::start(config.clone());
    assert_eq!(
        (icm.state_of("Web1").as_str(), icm.state_of("Web3").as_str()),
        ("CATCHING UP", "UNREACHABLE")
    );
    assert!(!icm.served("/all.nsf", 20).contains_key("Web1/Acme"));
    // An outage that an earlier process saw ends in this one.
    acme.start_server("Web3");
    icm.wait_for_state("Web3", "CATCHING UP");
    let output = icm_cli(&["upgrade", "-c", icm.file.to_str().unwrap()]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(
        (icm.state_of("Web1").as_str(), icm.state_of("Web3").as_str()),
        ("CATCHING UP", "CATCHING UP")
    );
    assert!(!icm.served("/all.nsf", 20).contains_key("Web1/Acme"));
    retry(&acme);
    icm.wait_for_state("Web1", "AVAILABLE");
    icm.wait_for_state("Web3", "AVAILABLE");
    // The new process owns the file now.
    for server in ["Web1", "Web3"] {
        wait_for_saved(dir.path(), server, "opened", |record| record["opened"]["reason"] == "evidence");
    }
    drop(icm);

    // A damaged file is put aside, and its copy used. Nothing waits for the end of the process that took over, which may
    // still have the old ports.
    for listener in ["listeners.0", "admin"] {
        set(&mut config, &format!("{listener}.address"), &format!("127.0.0.1:{}", free_port()));
    }
    let icm = Icm::start(config.clone());
    away_and_back(&acme, &icm, "Web1");
    wait_for_saved(dir.path(), "Web1", "CATCHING UP", is_closed);
    drop(icm);
    std::fs::write(dir.path().join("catch-up.json"), "[{").unwrap();
    let icm = Icm::start(config);
    assert_eq!(icm.state_of("Web1"), "CATCHING UP");
    assert!(events(&icm).contains("is damaged"), "{}", events(&icm));
    assert_eq!(std::fs::read_to_string(dir.path().join("catch-up.json.damaged")).unwrap(), "[{");
}

#[test]
fn an_agent_on_the_returned_server_is_asked_once_to_start_a_replication() {
    let (acme, mut config) = replicating();
    let dir = tempfile::tempdir().unwrap();
    let token = secret_file(dir.path(), "companion-token", "k3yR7uPq");
    acme.set("all", json!({ "companion": true, "companion_token": "k3yR7uPq" }));
    let port = acme.http("Web1").port();
    let url = format!("http://{{address}}:{port}/icm.nsf/companion?OpenAgent");
    set(&mut config, "clusters.0.catch_up.request", &format!("{{ url: \"{url}\", token_file: {token} }}"));
    let icm = Icm::start(config);
    stop(&acme, &icm, "Web1");
    write(&acme, "Web2");
    acme.start_server("Web1");
    wait_for_event(&icm, "Web1/Acme: asked to start a replication");
    pause(1_500);
    let asked = acme.requests("Web1").into_iter().filter(|request| {
        request["method"] == "POST" && request["target"].as_str().is_some_and(|t| t.contains("/companion"))
    });
    assert_eq!(asked.count(), 1);
    acme.wait_until_replicated();
}

#[test]
fn an_agent_that_refuses_is_an_event_and_is_asked_again() {
    let (acme, mut config) = replicating();
    let port = acme.http("Web1").port();
    let url = format!("http://{{address}}:{port}/no/such.nsf/agent?OpenAgent");
    set(&mut config, "clusters.0.catch_up.request", &format!("{{ url: \"{url}\" }}"));
    let icm = Icm::start(config);
    away_and_back(&acme, &icm, "Web1");
    wait_for_event(&icm, "could not be asked to start a replication, asked again soon");
    assert_eq!(icm.state_of("Web1"), "CATCHING UP");
}

//! CATCHING UP on ICMs that follow each other: a follower keeps closed what the other one keeps closed, and opens its own
//! gate with it.

use crate::support::*;
use serde_json::json;
use serde_yaml::Value;

/// A configuration that follows the ICM at this address.
fn following(config: &Value, admin: std::net::SocketAddr, dir: &std::path::Path) -> Value {
    let mut config = config.clone();
    config.as_mapping_mut().unwrap().remove("clusters");
    for listener in ["listeners.0", "admin"] {
        set(&mut config, &format!("{listener}.address"), &format!("127.0.0.1:{}", free_port()));
    }
    let text = format!(
        "{{ url: \"http://{admin}/config\", refresh: 100ms, cache: {}, allow_files_under: [/] }}",
        dir.join("config.yaml").display()
    );
    set(&mut config, "get_configuration_from", &text);
    config
}

fn release_now(icm: &Icm) -> String {
    let output = icm_cli(&["release", "Web1", "--now", "--admin", &format!("http://{}", icm.admin)]);
    assert_eq!(output.code, 0, "{output:?}");
    output.out
}

/// Web1 is away, and Web2 has a change that Web1 lacks until a retry after an hour.
fn away_and_back(acme: &Acme, icms: &[&Icm]) {
    icms.iter().for_each(|icm| icm.wait_for_reports());
    acme.stop_server("Web1");
    icms.iter().for_each(|icm| icm.wait_for_state("Web1", "UNREACHABLE"));
    create_document(&mut Client::to(acme.http("Web2")), "all.nsf", &[("text", "news")]);
    let waits = || acme.replica_statistic("Web2", "Retry.Waiting") == 1;
    assert!(eventually(MAX_WAIT, waits), "{:#}", acme.replication());
    pause(400);
    acme.start_server("Web1");
    icms.iter().for_each(|icm| icm.wait_for_state("Web1", "CATCHING UP"));
}

fn waits_for(icm: &Icm) -> String {
    icm.status_of("Web1")["catching_up"]["waiting_for"].to_string()
}

#[test]
fn when_the_leader_opens_a_gate_the_follower_opens_its_own_for_the_same_outage() {
    let (acme, dir) = (Acme::replicating("{ push_ms: 20 }"), tempfile::tempdir().unwrap());
    let config = config_with_replicator_statistics(&acme);
    let leader = Icm::start(config.clone());
    let follower = Icm::start(following(&config, leader.admin, dir.path()));
    away_and_back(&acme, &[&leader, &follower]);
    let both = || {
        waits_for(&follower).contains("Web2/Acme reports 1") && waits_for(&follower).contains("must open it")
    };
    assert!(eventually(MAX_WAIT, both), "{}", follower.status_of("Web1"));

    // On the follower an administrator opens only its own gate.
    let text = release_now(&follower);
    let place = format!("on http://{}, which this ICM follows: release it there", leader.admin);
    assert!(text.contains("CATCHING UP") && text.contains(&place), "{text}");
    assert_eq!(leader.state_of("Web1"), "CATCHING UP");
    assert!(!follower.served("/all.nsf", 20).contains_key("Web1/Acme"));
    release_now(&leader);
    follower.wait_for_state("Web1", "AVAILABLE");

    // Here both gates of the follower are closed, although nothing was shown.
    acme.set("all", json!({ "retry_ms": 1 }));
    acme.wait_until_replicated();
    acme.set("all", json!({ "retry_ms": 3_600_000 }));
    away_and_back(&acme, &[&leader, &follower]);
    release_now(&leader);
    follower.wait_for_state("Web1", "AVAILABLE");
    // The state changes a moment before the counter.
    let opened = "icm_catch_up_opened_total{cluster=\"AcmeWeb\",reason=\"followed_icm\"}";
    assert!(eventually(MAX_WAIT, || follower.metric(opened) == Some(1.0)), "{:?}", follower.metric(opened));
}

#[test]
fn a_follower_that_saw_no_outage_keeps_closed_what_the_leader_does_until_the_limit() {
    let (acme, dir) = (Acme::replicating("{ push_ms: 20 }"), tempfile::tempdir().unwrap());
    let config = config_with_replicator_statistics(&acme);
    let leader = Icm::start(config.clone());
    away_and_back(&acme, &[&leader]);
    let following = following(&config, leader.admin, dir.path());
    let follower = Icm::start(following.clone());
    follower.wait_for_state("Web1", "CATCHING UP");
    let waits = waits_for(&follower);
    assert!(waits.contains("must open it, which this ICM follows"), "{waits}");

    // Neither the end of the leader nor a restart of the follower opens it.
    drop(leader);
    drop(follower);
    let follower = Icm::start(following.clone());
    assert_eq!(follower.status()["configuration"]["follows"]["from"], "cache");
    assert_eq!(follower.state_of("Web1"), "CATCHING UP");

    // The limit does, even if the leader is never heard again.
    let text = std::fs::read_to_string(dir.path().join("config.yaml")).unwrap();
    std::fs::write(dir.path().join("config.yaml"), text.replace("limit: 1h", "limit: 1s")).unwrap();
    drop(follower);
    let follower = Icm::start(following);
    follower.wait_for_state("Web1", "AVAILABLE");
}

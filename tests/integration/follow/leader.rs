//! Several ICMs: one has the clusters, the others follow it; users and restrictions are the same on all.

use crate::support::*;
use serde_json::Value as Json;
use serde_yaml::Value;

/// A configuration that follows the ICM at this address and caches its clusters in `dir`.
fn following(acme: &Acme, admin: std::net::SocketAddr, dir: &std::path::Path) -> Value {
    let mut config = config(acme);
    config.as_mapping_mut().unwrap().remove("clusters");
    let text = format!(
        "{{ url: \"http://{admin}/config\", refresh: 100ms, cache: {}, allow_files_under: [{}] }}",
        dir.join("config.yaml").display(),
        acme.ca_file.parent().unwrap().display()
    );
    set(&mut config, "get_configuration_from", &text);
    config
}

fn follows(icm: &Icm) -> Json {
    icm.status()["configuration"]["follows"].clone()
}

/// A configuration whose restrictions persist.
fn with_state_dir(acme: &Acme, dir: &std::path::Path) -> Value {
    let mut config = config(acme);
    set(&mut config, "state_dir", &dir.join("state").display().to_string());
    config
}

fn verb(icm: &Icm, verb: &str, server: &str) -> String {
    let output = icm_cli(&[verb, server, "--admin", &format!("http://{}", icm.admin)]);
    assert_eq!(output.code, 0, "{output:?}");
    output.out
}

#[test]
fn a_follower_takes_over_the_clusters_and_every_change() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let mut config = config(&acme);
    let leader = Icm::start(config.clone());
    let follower = Icm::start(following(&acme, leader.admin, dir.path()));
    assert_eq!(follower.client().get("/legacy/archive2009.nsf").server(), "Web4/Acme");
    assert_eq!(follows(&follower)["from"], "remote");
    assert_eq!(follower.metric("icm_config_follow_success"), Some(1.0));
    assert_eq!(follower.client().get("/no/such.nsf").status, 404);
    let began = follows(&follower)["changed_at"].clone();

    set(&mut config, "clusters.0.hostnames", "[www.acme.example]");
    leader.reload(&config);
    follower.wait_for_log("clusters taken over");
    let taken = eventually(MAX_WAIT, || follower.client().get("/homepage.nsf").status == 421);
    assert!(taken, "{:#}", follows(&follower));
    assert_eq!(follower.client().host("www.acme.example").get("/homepage.nsf").status, 200);
    // The health of servers is kept.
    assert_eq!(follower.state_of("Web1"), "AVAILABLE");
    assert!(eventually(MAX_WAIT, || follows(&follower)["changed_at"] != began));
    // An unchanged configuration is confirmed by its ETag.
    let (changed, asked) = (follows(&follower)["changed_at"].clone(), follows(&follower)["asked_at"].clone());
    assert!(eventually(MAX_WAIT, || follows(&follower)["asked_at"] != asked));
    assert_eq!(follows(&follower)["changed_at"], changed);
    assert!(follower.metric("icm_config_follow_changed_timestamp_seconds").unwrap() > 1e9);
}

#[test]
fn a_follower_uses_its_copy_while_the_leader_is_down_and_follows_again_later() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let mut config = config(&acme);
    let leader = Icm::start(config.clone());
    let following = following(&acme, leader.admin, dir.path());
    let follower = Icm::start(following.clone());
    drop(leader);
    assert!(eventually(MAX_WAIT, || follower.metric("icm_config_follow_success") == Some(0.0)));
    let is_away = || follows(&follower)["error"].as_str().unwrap().contains("connection refused");
    assert!(eventually(MAX_WAIT, is_away), "{:#}", follows(&follower));
    assert_eq!(follower.client().get("/homepage.nsf").status, 200);
    // A leader that is down is no reload failure.
    assert_eq!(follower.metric("icm_config_reload_success"), Some(1.0));
    let events = follower.status()["events"].clone();
    let refused_events = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["kind"] == "follow" && e["cause"].as_str().unwrap().contains("refused"));
    assert_eq!(refused_events.count(), 1, "one event, not one for each attempt: {events:#}");
    drop(follower);

    let follower = Icm::start(following);
    assert_eq!(follows(&follower)["from"], "cache");
    assert_eq!(follower.client().get("/homepage.nsf").status, 200);
    assert!(eventually(MAX_WAIT, || follower.admin("/readyz").status == 200));

    set(&mut config, "clusters.0.hostnames", "[www.acme.example]");
    let _leader = Icm::start(config);
    assert!(eventually(MAX_WAIT, || follows(&follower)["from"] == "remote"), "{:#}", follows(&follower));
    assert_eq!(follows(&follower)["success"], true);
    assert!(eventually(MAX_WAIT, || follower.client().get("/homepage.nsf").status == 421));
}

#[test]
fn a_restriction_reaches_followers_persists_and_is_released_where_it_was_made() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let leading = with_state_dir(&acme, dir.path());
    let leader = Icm::start(leading.clone());
    let following = following(&acme, leader.admin, dir.path());
    let follower = Icm::start(following.clone());
    verb(&leader, "restrict", "Web4");
    follower.wait_for_state("Web4", "RESTRICTED");
    assert_eq!(follower.client().get("/legacy/archive2009.nsf").status, 503);
    let text = verb(&follower, "release", "Web4");
    let place = format!("on http://{}, release it there", leader.admin);
    assert!(text.contains("still restricted") && text.contains(&place), "{text}");

    // Neither the end of the leader nor a restart of the follower releases it.
    drop(leader);
    assert!(eventually(MAX_WAIT, || follows(&follower)["success"] == false));
    assert_eq!(follower.state_of("Web4"), "RESTRICTED");
    drop(follower);
    let follower = Icm::start(following);
    assert_eq!(follows(&follower)["from"], "cache");
    follower.wait_for_state("Web4", "RESTRICTED");
    let leader = Icm::start(leading);
    assert!(eventually(MAX_WAIT, || follows(&follower)["from"] == "remote"));
    assert_eq!(follower.state_of("Web4"), "RESTRICTED");
    verb(&leader, "release", "Web4");
    follower.wait_for_state("Web4", "AVAILABLE");
}

#[test]
fn a_server_closed_for_everyone_is_so_on_followers_and_after_a_restart() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let leading = with_state_dir(&acme, dir.path());
    let leader = Icm::start(leading.clone());
    let follower = Icm::start(following(&acme, leader.admin, dir.path()));
    let mut browser = Browser::on(follower.address, "/homepage.nsf", "Web1");
    verb(&leader, "restrict", "Web1");
    follower.wait_for_state("Web1", "RESTRICTED");
    assert!(browser.server_of("/homepage.nsf").starts_with("Web1"), "it may finish");
    let drain = |icm: &Icm| icm.admin("/servers/Web1/drain").json()["servers"][0]["may_return_ms"].clone();
    assert!(drain(&follower).as_u64().unwrap() > 0);
    let closed = Client::to(leader.admin).post("/servers/Web1/restrict?closed=1&by=a%20test", &[], "");
    assert_eq!(closed.status, 200);
    assert!(eventually(MAX_WAIT, || drain(&follower) == 0), "{}", drain(&follower));
    assert!(!browser.server_of("/homepage.nsf").starts_with("Web1"));
    drop(leader);
    let leader = Icm::start(leading);
    let restriction = leader.status_of("Web1")["restricted_by_admin"].clone();
    assert_eq!((&restriction["by"], &restriction["closed"]), (&"a test".into(), &true.into()));
}

#[test]
fn a_restriction_made_on_a_follower_applies_only_there() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let leader = Icm::start(with_state_dir(&acme, dir.path()));
    let follower = Icm::start(following(&acme, leader.admin, dir.path()));
    let text = verb(&follower, "restrict", "Web1");
    assert!(text.contains("on this ICM alone") && text.contains(&leader.admin.to_string()), "{text}");
    assert!(!verb(&leader, "restrict", "Web2").contains("alone"));
    follower.wait_for_state("Web2", "RESTRICTED");
    assert_eq!(leader.state_of("Web1"), "AVAILABLE");
    // Both restrict the server: each releases its own restriction.
    verb(&leader, "restrict", "Web1");
    assert!(
        eventually(MAX_WAIT, || follower.status_of("Web1")["restrictions"].as_array().unwrap().len() == 2)
    );
    assert!(verb(&follower, "release", "Web1").contains("release it there"));
    verb(&leader, "release", "Web1");
    follower.wait_for_state("Web1", "AVAILABLE");
}

#[test]
fn a_follower_can_be_followed_and_names_where_a_restriction_was_made() {
    let (acme, dir, other) = (Acme::built_in(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Icm::start(config(&acme));
    let second = Icm::start(following(&acme, first.admin, dir.path()));
    let third = Icm::start(following(&acme, second.admin, other.path()));
    verb(&first, "restrict", "Web4");
    third.wait_for_state("Web4", "RESTRICTED");
    let refused_events = third.status_of("Web4")["restrictions"][0].as_str().unwrap().to_owned();
    assert!(refused_events.contains(&format!("on http://{}", first.admin)), "{refused_events}");
    verb(&first, "release", "Web4");
    third.wait_for_state("Web4", "AVAILABLE");
}

#[test]
fn an_icm_does_not_follow_itself() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let leading = config(&acme);
    let leader = Icm::start(leading.clone());
    let follower = Icm::start(following(&acme, leader.admin, dir.path()));
    let mut back = following(&acme, follower.admin, dir.path());
    for key in ["listeners", "admin"] {
        back[key] = leading[key].clone();
    }
    leader.reload(&back);
    leader.wait_for_log("must hold `clusters` itself");
    assert!(eventually(MAX_WAIT, || leader.metric("icm_config_reload_success") == Some(0.0)));
    assert_eq!(leader.client().get("/homepage.nsf").status, 200);
}

#[test]
fn hup_reads_the_local_file_and_fetches_from_the_leader() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let mut leading = config(&acme);
    let leader = Icm::start(leading.clone());
    let mut following = following(&acme, leader.admin, dir.path());
    set(&mut following, "get_configuration_from.refresh", "1h");
    let follower = Icm::start(following.clone());
    set(&mut leading, "clusters.0.hostnames", "[www.acme.example]");
    leader.reload(&leading);
    leader.wait_for_log("configuration reloaded");
    assert_eq!(follower.client().get("/homepage.nsf").status, 200);
    set(&mut following, "limits.uri_bytes", "100B");
    follower.reload(&following);
    follower.wait_for_log("configuration reloaded");
    assert_eq!(follower.client().get("/homepage.nsf").status, 421);
    let long = format!("/homepage.nsf?{}", "a".repeat(200));
    assert_eq!(follower.client().host("www.acme.example").get(&long).status, 414);

    // With the leader down, the local file is still applied.
    drop(leader);
    set(&mut following, "limits.uri_bytes", "8KiB");
    follower.reload(&following);
    follower.wait_for_log("the clusters that were taken over before stay");
    let applied = || follower.client().host("www.acme.example").get(&long).status == 200;
    assert!(eventually(MAX_WAIT, applied), "{}", follower.log());
    assert!(eventually(MAX_WAIT, || follows(&follower)["success"] == false));
    assert!(eventually(MAX_WAIT, || follower.status()["reload"]["success"] == true));

    // An ICM with its own clusters stops following.
    let mut own = config(&acme);
    for key in ["listeners", "admin"] {
        own[key] = following[key].clone();
    }
    follower.reload(&own);
    assert!(eventually(MAX_WAIT, || follows(&follower).is_null()));
    assert_eq!(follower.client().get("/homepage.nsf").status, 200);
    assert_eq!(follower.metric("icm_config_follow_success"), None);
}

#[test]
fn two_icms_with_the_same_key_send_the_same_user_to_the_same_server() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "affinity.key", "0123456789abcdef0123456789abcdef\n");
    let mut shared = config_with_equal_indexes(&acme);
    set(&mut shared, "clusters.0.affinity", &format!("{{ secret_file: {key} }}"));
    set(&mut shared, "clusters.0.servers.list.0.weight", "3");
    let leader = Icm::start(shared);
    let mut following = following(&acme, leader.admin, dir.path());
    let allowed = format!("[{}, {}]", acme.ca_file.parent().unwrap().display(), dir.path().display());
    set(&mut following, "get_configuration_from.allow_files_under", &allowed);
    let follower = Icm::start(following);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..24 {
        let (from, to) = if n % 2 == 0 { (&leader, &follower) } else { (&follower, &leader) };
        let mut user = Browser::new(from.address);
        let server = user.server_of("/homepage.nsf");
        let mut there = Browser::new(to.address).with_cookies_of(&user);
        for _ in 0..3 {
            assert_eq!(there.server_of("/homepage.nsf"), server);
        }
        // The other ICM accepts the cookie and sets no new one.
        assert_eq!(there.icm(), user.icm());
        seen.insert(server);
    }
    assert!(seen.len() > 1, "only one server was selected: {seen:?}");

    // The choice between databases of one path is valid there, too.
    let mut user = Browser::new(leader.address);
    assert_eq!(user.get("/sales/leads.nsf").status, 300);
    let chosen = user.get("/__C125790F002B11AA.nsf");
    assert_eq!((chosen.status, chosen.server()), (200, "Web3/Acme"));
    let mut there = Browser::new(follower.address).with_cookies_of(&user);
    assert_eq!(there.server_of("/sales/leads.nsf"), "Web3/Acme");
    // With another key it is not.
    let foreign = Icm::start(config(&acme));
    let mut there = Browser::new(foreign.address).with_cookies_of(&user);
    assert_eq!(there.get("/sales/leads.nsf").status, 300);
}

#[test]
fn a_restricted_server_that_leaves_and_rejoins_the_cluster_stays_restricted() {
    let acme = Acme::built_in();
    let all = config(&acme);
    let icm = Icm::start(all.clone());
    verb(&icm, "restrict", "Web4");
    let mut fewer = all.clone();
    fewer["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap().pop();
    icm.reload(&fewer);
    let has_web4 = || icm.status()["clusters"][0]["servers"].as_array().unwrap().len() == 4;
    assert!(eventually(MAX_WAIT, || !has_web4()));
    icm.reload(&all);
    assert!(eventually(MAX_WAIT, has_web4));
    icm.wait_for_state("Web4", "RESTRICTED");
    // It can be released while it is not in the cluster.
    icm.reload(&fewer);
    assert!(eventually(MAX_WAIT, || !has_web4()));
    assert!(verb(&icm, "release", "Web4").contains("no member now"));
    icm.reload(&all);
    assert!(eventually(MAX_WAIT, has_web4));
    icm.wait_for_state("Web4", "AVAILABLE");
}

//! Two sites with two servers and an ICM each: users are served where they are, and by the other site when theirs cannot.

use crate::support::*;
use serde_json::Value as Json;
use serde_json::json;
use serde_yaml::Value;

const FOUR_SERVERS: &str = "
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
  - { name: Web3/Acme, https: false }
  - { name: Web4/Acme, https: false }
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: all.nsf, replica_id: C1257A000041D201, replicas: all }
  - { path: pair.nsf, replica_id: C1257A000041D202, replicas: [Web1, Web3] }
  - { path: far.nsf, replica_id: C1257A000041D203, replicas: [Web3, Web4] }
";
const ALL: &str = "/all.nsf?OpenDatabase";
const PAIR: &str = "/pair.nsf?OpenDatabase";
const FAR: &str = "/far.nsf?OpenDatabase";
const VIENNA: [&str; 2] = ["Web1", "Web2"];
const GRAZ: [&str; 2] = ["Web3", "Web4"];

/// The ICM in Vienna. Web1 and Web2 are there, Web3 and Web4 in Graz.
fn vienna(acme: &Acme) -> Value {
    let mut config = config_with_equal_indexes(acme);
    set(&mut config, "site", "Vienna");
    for (n, site) in ["Vienna", "vienna", "Graz", "Graz"].into_iter().enumerate() {
        set(&mut config, &format!("clusters.0.servers.list.{n}.site"), site);
    }
    // A busy machine must not make a working server UNREACHABLE, or one that returns CATCHING UP.
    set(&mut config, "clusters.0.probe.timeout", "10s");
    set(&mut config, "clusters.0.catch_up", "{ mode: off }");
    config
}

/// The ICM in Graz takes everything from the one in Vienna but its site.
fn graz(acme: &Acme, leader: &Icm, folder: &std::path::Path) -> Value {
    let mut config = config(acme);
    config.as_mapping_mut().unwrap().remove("clusters");
    set(&mut config, "site", "Graz");
    let text = format!(
        "{{ url: \"http://{}/config\", refresh: 100ms, cache: {}, allow_files_under: [{}, {}] }}",
        leader.admin,
        folder.join("config.yaml").display(),
        folder.display(),
        acme.ca_file.parent().unwrap().display()
    );
    set(&mut config, "get_configuration_from", &text);
    config
}

/// The servers of a site serve new users, and no others do.
#[track_caller]
fn serves(icm: &Icm, target: &str, site: [&str; 2]) {
    let mut served = icm.served(target, 12);
    let only_there = eventually(MAX_WAIT, || {
        served = icm.served(target, 12);
        served.keys().all(|server| site.contains(&server.as_str()))
    });
    assert!(only_there, "{target}: {served:?}, not {site:?}: {:#}", icm.explain(target));
}

fn is_in(server: &str, site: [&str; 2]) -> bool {
    server.split('/').next().is_some_and(|name| site.contains(&name))
}

fn site(icm: &Icm) -> Json {
    icm.status()["clusters"][0]["site"].clone()
}

fn events(icm: &Icm) -> Vec<String> {
    let all = icm.status()["events"].as_array().unwrap().clone();
    let of_sites = all.iter().filter(|event| event["kind"] == "site");
    of_sites.map(|event| event["cause"].as_str().unwrap().to_owned()).collect()
}

fn notes(explanation: &Json) -> String {
    explanation["notes"].to_string()
}

fn verdict(explanation: &Json, server: &str) -> String {
    let candidates = explanation["candidates"].as_array().unwrap();
    let of = candidates.iter().find(|candidate| candidate["server"] == server);
    of.unwrap_or_else(|| panic!("{server}: {explanation:#}"))["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn each_site_serves_its_own_users_until_it_is_lost_and_again_when_it_is_back() {
    let (acme, dir) = (Acme::start(FOUR_SERVERS), tempfile::tempdir().unwrap());
    let mut config = vienna(&acme);
    let key = secret_file(dir.path(), "affinity.key", "0123456789abcdef0123456789abcdef");
    set(&mut config, "clusters.0.affinity.secret_file", &key);
    let here = Icm::start(config);
    let there = Icm::start(graz(&acme, &here, dir.path()));
    there.wait_for_status("ready", |status| status["ready"] == true);
    here.wait_for_status("ready", |status| status["ready"] == true);
    serves(&here, ALL, VIENNA);
    serves(&there, ALL, GRAZ);
    assert_eq!((site(&here)["own"].clone(), site(&there)["own"].clone()), (json!("Vienna"), json!("Graz")));
    assert_eq!(here.status_of("Web3")["site"], "Graz");
    assert!(!here.admin("/config").text().contains("\nsite:"));
    let before = here.metric("icm_site_crossings_total{cluster=\"AcmeWeb\"}");
    assert_eq!(before, Some(0.0));
    let explanation = here.explain(ALL);
    assert_eq!(verdict(&explanation, "Web3/Acme"), "set aside: of site Graz");
    assert!(!notes(&explanation).contains("crosses"), "{explanation:#}");
    let simulated = |down: &str| {
        let output = icm_cli(&["simulate", "--down", down, "--json", "-c", here.file.to_str().unwrap()]);
        output.json()["clusters"][0]["other_site"].clone()
    };
    assert_eq!(simulated("Web2")["count"], 0);
    assert_eq!(simulated("Web1")["count"], 1, "pair.nsf");
    assert_eq!(simulated("Web1,Web2")["count"], 3);
    // A database that only the other site has.
    serves(&here, FAR, GRAZ);
    let mut stranger = Browser::new(here.address);
    let far = stranger.server_of(FAR);
    assert!(is_in(&far, GRAZ));
    assert_eq!(stranger.server_of(PAIR), "Web1/Acme", "other databases are here");
    assert_eq!(stranger.server_of(ALL), "Web1/Acme", "every server has it: that of the most recent page");
    assert_eq!(stranger.server_of(FAR), far);
    assert!(here.metric("icm_site_crossings_total{cluster=\"AcmeWeb\"}") > before);
    assert_eq!((site(&here)["crossing_since"].clone(), events(&here)), (Json::Null, Vec::new()));

    let mut user = Browser::on(here.address, ALL, "Web1");
    acme.stop_server("Web1");
    here.wait_for_state("Web1", "UNREACHABLE");
    serves(&here, ALL, VIENNA);
    serves(&here, PAIR, GRAZ);
    assert!(events(&here).is_empty(), "Web2 takes new users");
    acme.stop_server("Web2");
    here.wait_for_state("Web2", "UNREACHABLE");
    serves(&here, ALL, GRAZ);
    here.wait_for_log("\"why\":\"other_site\"");
    let crossed_to = user.server_of(ALL);
    assert!(is_in(&crossed_to, GRAZ));
    let explanation = here.explain(ALL);
    let crossing = "crosses from site Vienna to site Graz: no server of site Vienna takes it";
    assert!(notes(&explanation).contains(crossing), "{explanation:#}");
    assert_eq!(explanation["why"], "of another site, because no server of this site takes it");
    assert!(eventually(MAX_WAIT, || site(&here)["crossing_since"].is_u64()), "{:#}", here.status());
    assert_eq!(events(&here), ["new users go to site Graz: no server of site Vienna takes them"]);
    serves(&there, ALL, GRAZ);
    assert!(events(&there).is_empty(), "nobody leaves Graz");
    // The cookie of one ICM is valid at the other.
    assert_eq!(Browser::new(there.address).with_cookies_of(&user).server_of(ALL), crossed_to);

    acme.start_server("Web1");
    acme.start_server("Web2");
    here.wait_for_state("Web1", "AVAILABLE");
    here.wait_for_state("Web2", "AVAILABLE");
    serves(&here, ALL, VIENNA);
    for _ in 0..4 {
        assert_eq!(user.server_of(ALL), crossed_to, "who has crossed stays");
    }
    assert!(eventually(MAX_WAIT, || events(&here).len() == 2), "{:?}", events(&here));
    assert!(
        events(&here)[0].starts_with("new users stay in site Vienna again, after "),
        "{:?}",
        events(&here)
    );
    assert_eq!(site(&here)["crossing_since"], Json::Null);
    let explained = icm_cli(&[
        "explain",
        ALL,
        "--json",
        "--cookie",
        user.icm().unwrap(),
        "-c",
        here.file.to_str().unwrap(),
    ]);
    assert!(notes(&explained.json()).contains("the user belongs to this server"), "{}", explained.out);
}

#[test]
fn a_rule_says_how_far_users_stay_in_their_site() {
    let acme = Acme::start(FOUR_SERVERS);
    let mut config = vienna(&acme);
    acme.set("all", json!({ "threshold": 20 }));
    let icm = Icm::start(config.clone());
    icm.wait_for_status("ready", |status| status["ready"] == true);
    for server in ["Web1", "Web2"] {
        acme.set(server, json!({ "index": 10 }));
        icm.wait_for_state(server, "BUSY");
    }
    serves(&icm, ALL, VIENNA);
    set(&mut config, "clusters.0.cross_sites", "when_busy");
    icm.reload(&config);
    serves(&icm, ALL, GRAZ);
    let mut user = Browser::new(icm.address);
    let server = user.server_of(ALL);
    assert!(is_in(&server, GRAZ));
    acme.set("all", json!({ "index": 10 }));
    icm.wait_for_state("Web3", "BUSY");
    icm.wait_for_state("Web4", "BUSY");
    serves(&icm, ALL, VIENNA);

    set(&mut config, "clusters.0.cross_sites", "never");
    icm.reload(&config);
    let explained = || icm.explain(FAR);
    assert!(eventually(MAX_WAIT, || explained()["outcome"] == "no_server"), "{:#}", explained());
    assert_eq!(verdict(&explained(), "Web3/Acme"), "dropped: of site Graz, and cross_sites is never");
    assert!(
        notes(&explained()).contains("cross_sites is never: no server of site Vienna"),
        "{:#}",
        explained()
    );
    assert_eq!(icm.client().get(FAR).status, 503);
    assert_eq!(user.server_of(ALL), server, "his entry is stronger");
    acme.stop_server("Web1");
    acme.stop_server("Web2");
    icm.wait_for_state("Web1", "UNREACHABLE");
    icm.wait_for_state("Web2", "UNREACHABLE");
    assert_eq!(icm.client().get(ALL).status, 503);
    assert_eq!(user.server_of(ALL), server);
    // Without a site of this ICM all servers are alike.
    config.as_mapping_mut().unwrap().remove("site");
    icm.reload(&config);
    serves(&icm, ALL, GRAZ);
    assert_eq!(icm.metric("icm_site_crossings_total{"), None);
}

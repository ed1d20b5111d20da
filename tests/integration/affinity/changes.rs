//! Affinity after a change: another ICM, another key, a restart, an UNREACHABLE server, a drain; and NoteIDs.

use crate::support::*;
use serde_json::json;
use serde_yaml::Value;

const SCENARIO: &str = "
servers: [ { name: Web1/Acme }, { name: Web2/Acme }, { name: Web3/Acme } ]
databases:
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: all }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: a.nsf, replica_id: C1257A000041D2E0, replicas: all }
  - { path: b.nsf, replica_id: C1257A000041D2E1, replicas: [Web1, Web2] }
";

fn start(change: impl FnOnce(&mut Value)) -> (Acme, Icm) {
    start_with_equal_indexes(SCENARIO, |_, config| change(config))
}

fn start_with_secrets(acme: &Acme, dir: &std::path::Path, name: &str, secrets: &[&str]) -> Icm {
    let mut config = config_with_equal_indexes(acme);
    let file = secret_file(dir, name, &secrets.join("\n"));
    set(&mut config, "clusters.0.affinity.secret_file", &file);
    Icm::start(config)
}

const OLD: &str = "the-old-secret-of-the-acme-cluster-0123456789";
const NEW: &str = "the-new-secret-of-the-acme-cluster-9876543210";

/// The ICM accepts the browser's cookie: it neither moves the user nor sets a new cookie.
fn accepts(address: std::net::SocketAddr, browser: &Browser, server: &str) -> bool {
    (0..12).all(|_| {
        let answer = Browser::new(address).with_cookies_of(browser).get("/a.nsf?Open");
        answer.server().starts_with(server) && answer.cookie("ICM").is_none()
    })
}

#[test]
fn every_icm_with_the_secret_accepts_the_cookie_and_keys_can_be_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let acme = Acme::start(SCENARIO);
    let icm = |name: &str, secrets: &[&str]| start_with_secrets(&acme, dir.path(), name, secrets);
    let (one, two) = (icm("one", &[OLD]), icm("two", &[OLD]));
    let rotated = icm("rotated", &[NEW, OLD]);
    let foreign = icm("foreign", &[NEW]);
    let browser = Browser::on(one.address, "/a.nsf?Open", "Web2");
    assert!(accepts(one.address, &browser, "Web2"));
    assert!(accepts(two.address, &browser, "Web2"));
    assert!(accepts(rotated.address, &browser, "Web2"), "the second line verifies");
    assert!(!accepts(foreign.address, &browser, "Web2"));
    // The first line signs: an ICM with only the new key accepts the cookie, one with only the old key does not.
    let mut moved = Browser::new(rotated.address).with_cookies_of(&browser);
    moved.get("/b.nsf?Open");
    assert_eq!(moved.server_of("/a.nsf?Open"), "Web2/Acme");
    assert!(accepts(foreign.address, &moved, "Web2"));
    assert!(!accepts(two.address, &moved, "Web2"));
}

#[test]
fn a_generated_key_survives_a_restart_with_a_state_dir() {
    let acme = Acme::start(SCENARIO);
    let state = tempfile::tempdir().unwrap();
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "state_dir", &state.path().display().to_string());
    let icm = Icm::start(config.clone());
    let browser = Browser::on(icm.address, "/a.nsf?Open", "Web3");
    drop(icm);
    let again = Icm::start(config);
    assert!(accepts(again.address, &browser, "Web3"));
}

#[test]
fn an_unreachable_server_loses_all_its_users_and_they_do_not_return_with_it() {
    let (acme, icm) = start(|_| {});
    let mut browser = Browser::on(icm.address, "/b.nsf?Open", "Web1");
    assert_eq!(browser.server_of("/a.nsf?Open"), "Web1/Acme");
    acme.fault("Web1", json!("refuse"));
    // Another server answers at once; the entries move as soon as Web1 is UNREACHABLE.
    assert!(!browser.server_of("/a.nsf?Open").starts_with("Web1"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    let new_server = browser.server_of("/b.nsf?Open");
    assert_eq!(new_server, "Web2/Acme");
    acme.heal("Web1");
    icm.wait_for_state("Web1", "AVAILABLE");
    for _ in 0..10 {
        assert_eq!(browser.server_of("/b.nsf?Open"), "Web2/Acme");
        assert_eq!(browser.server_of("/a.nsf?Open"), "Web2/Acme", "its entry named Web1 too");
    }
}

#[test]
fn with_fail_back_a_user_returns_after_the_wait_and_only_on_a_page_request() {
    for (wait, returns) in [("1s", true), ("1h", false)] {
        let (acme, icm) = start(|config| {
            set(config, "clusters.0.affinity.fail_back", wait);
            // The POST below must have time to be replicated.
            set(config, "clusters.0.freshness.behind_after", "1s");
        });
        let mut browser = Browser::on(icm.address, "/b.nsf?Open", "Web1");
        acme.fault("Web1", json!("refuse"));
        icm.wait_for_state("Web1", "UNREACHABLE");
        assert_eq!(browser.server_of("/b.nsf?Open"), "Web2/Acme");
        acme.heal("Web1");
        icm.wait_for_state("Web1", "AVAILABLE");
        if !returns {
            pause(1_500);
            assert_eq!(browser.server_of("/b.nsf?Open"), "Web2/Acme", "not before the wait is over");
            continue;
        }
        pause(2_500);
        let posted = browser.post("/b.nsf/f?CreateDocument", "x=1");
        assert_eq!(posted.server(), "Web2/Acme", "a POST stays at the current server");
        assert_eq!(browser.server_of(NOTE), "Web2/Acme");
        let back = eventually(MAX_WAIT, || browser.server_of("/b.nsf?Open") == "Web1/Acme");
        assert!(back);
        for _ in 0..5 {
            assert_eq!(browser.server_of("/b.nsf?Open"), "Web1/Acme");
        }
        // The user is back at the former server.
        assert_eq!(browser.post("/b.nsf/f?CreateDocument", "x=1").server(), "Web1/Acme");
    }
}

#[test]
fn a_moved_user_stays_while_the_former_server_takes_no_new_users() {
    let (acme, icm) = start(|config| set(config, "clusters.0.affinity.fail_back", "0s"));
    let mut browser = Browser::on(icm.address, "/b.nsf?Open", "Web1");
    acme.fault("Web1", json!("refuse"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert_eq!(browser.server_of("/b.nsf?Open"), "Web2/Acme");
    acme.set("Web1", json!({ "index": 5, "threshold": 20 }));
    acme.heal("Web1");
    icm.wait_for_log("-> BUSY");
    assert_eq!(browser.server_of("/b.nsf?Open"), "Web2/Acme");
    acme.set("Web1", json!({ "index": 90, "threshold": 0 }));
    assert!(eventually(MAX_WAIT, || browser.server_of("/b.nsf?Open") == "Web1/Acme"));
}

#[test]
fn one_retried_request_does_not_move_the_user() {
    let (acme, icm) = start(|_| {});
    let mut browser = Browser::on(icm.address, "/a.nsf?Open", "Web1");
    for _ in 0..3 {
        acme.fault("Web1", json!({ "kind": "status", "status": 503, "count": 1 }));
        assert!(!browser.server_of("/a.nsf?Open").starts_with("Web1"));
        assert_eq!(browser.server_of("/a.nsf?Open"), "Web1/Acme");
    }
}

#[test]
fn a_user_stays_on_a_busy_server() {
    let acme = Acme::start(SCENARIO);
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "clusters.0.servers.list.0.server_max_users", "200");
    let icm = Icm::start(config);
    let mut browser = Browser::on(icm.address, "/a.nsf?Open", "Web1");
    for (busy, word) in [
        (json!({ "index": 5, "threshold": 20 }), "-> BUSY"),
        (json!({ "index": 90, "users": 300 }), "-> MAXUSERS"),
    ] {
        acme.set("Web1", busy);
        icm.wait_for_log(word);
        for _ in 0..10 {
            assert_ne!(Browser::new(icm.address).server_of("/a.nsf?Open"), "Web1/Acme", "{word}: set aside");
        }
        for _ in 0..5 {
            assert_eq!(browser.server_of("/a.nsf?Open"), "Web1/Acme");
        }
        // Another database of the same user does not go to a server that is set aside.
        assert_eq!(Browser::new(icm.address).with_cookies_of(&browser).server_of("/b.nsf?Open"), "Web2/Acme");
        acme.set("Web1", json!({ "index": 90, "threshold": 0, "users": 1 }));
    }
}

#[test]
fn a_user_stays_on_a_restricted_server_until_the_drain_timeout() {
    for (timeout, stays) in [("10m", true), ("1s", false)] {
        let acme = Acme::start(SCENARIO);
        let mut config = config_with_equal_indexes(&acme);
        set(&mut config, "clusters.0.affinity.drain_timeout", timeout);
        let icm = Icm::start(config.clone());
        let mut browser = Browser::on(icm.address, "/a.nsf?Open", "Web1");
        let mut restrict = |restricted: &str| {
            set(&mut config, "clusters.0.servers.list.0.server_restricted", restricted);
            icm.reload(&config);
        };
        restrict("1");
        icm.wait_for_log("-> RESTRICTED");
        for _ in 0..10 {
            assert_ne!(Browser::new(icm.address).server_of("/a.nsf?Open"), "Web1/Acme", "no new user");
        }
        if stays {
            assert_eq!(browser.server_of("/a.nsf?Open"), "Web1/Acme");
            continue;
        }
        let moved = eventually(MAX_WAIT, || browser.server_of("/a.nsf?Open") != "Web1/Acme");
        assert!(moved);
        restrict("0");
        Browser::on(icm.address, "/a.nsf?Open", "Web1");
        assert_ne!(browser.server_of("/a.nsf?Open"), "Web1/Acme", "the user stays at the new server");
    }
}

#[test]
fn a_replica_pending_delete_keeps_its_users_until_it_is_gone() {
    let (acme, icm) = start_with_equal_indexes(&format!("{SCENARIO}mark_columns: true\n"), |_, _| {});
    let mut browser = Browser::on(icm.address, "/b.nsf?Open", "Web1");
    let mark = json!({ "server": "Web1", "path": "b.nsf", "mark": "pending_delete" });
    acme.ask("POST", "/databases", Some(&mark));
    let closed = || (0..8).all(|_| Browser::new(icm.address).server_of("/b.nsf?Open") == "Web2/Acme");
    assert!(eventually(MAX_WAIT, closed), "no new user");
    for _ in 0..5 {
        assert_eq!(browser.server_of("/b.nsf?Open"), "Web1/Acme");
    }
    acme.ask("DELETE", "/databases?server=Web1&path=b.nsf", None);
    let moved = || browser.get("/b.nsf?Open").server() == "Web2/Acme";
    assert!(eventually(MAX_WAIT, moved));
    assert_eq!(browser.server_of("/b.nsf?Open"), "Web2/Acme");
}

const NOTE: &str = "/b.nsf/v/8FA?OpenDocument";
const UNID: &str = "/b.nsf/v/E86886A81087A25805258E4F00502001?OpenDocument";

#[test]
fn a_note_id_is_never_sent_to_another_server() {
    let (acme, icm) = start(|_| {});
    let mut browser = Browser::on(icm.address, "/b.nsf?Open", "Web1");
    assert_eq!(browser.server_of(NOTE), "Web1/Acme");
    acme.fault("Web1", json!("refuse"));
    // Before and after Web1 is known to be UNREACHABLE.
    for _ in 0..2 {
        let page = browser.get(NOTE);
        assert_eq!((page.status, page.header("server")), (503, Some("domino-icm")));
        assert!(page.header("retry-after").is_some());
        assert!(page.text().contains("href=\"/b.nsf\""), "{}", page.text());
        let json = browser.get_with(NOTE, ("Accept", "application/json"));
        let text = json.json();
        assert_eq!((json.status, &text["error"]), (503, &"note_id_server_gone".into()));
        assert!(json.text().contains("\"/b.nsf\""), "{text}");
        for page in [page, json] {
            assert!(!page.text().to_lowercase().contains("web1") && page.cookie("ICM").is_none());
        }
        let post = browser.post("/b.nsf/0/8FA?SaveDocument", "a=b");
        assert_eq!(post.status, 503);
        // A user without affinity cannot mean a document of another server.
        assert_eq!(Browser::new(icm.address).server_of(NOTE), "Web2/Acme");
        icm.wait_for_state("Web1", "UNREACHABLE");
    }
    // Names and UNIDs mean the same on every server: they fail over, and the affinity follows.
    let mut by_name = Browser::new(icm.address).with_cookies_of(&browser);
    assert_eq!(by_name.server_of("/b.nsf/v/some-name?OpenDocument"), "Web2/Acme");
    assert_eq!(browser.server_of(UNID), "Web2/Acme");
    assert_eq!(browser.server_of(NOTE), "Web2/Acme");
}

#[test]
fn a_note_id_request_is_not_repeated_elsewhere_when_its_server_fails_during_it() {
    // The failures of this test must not make Web1 UNREACHABLE.
    let (acme, icm) = start(|config| set(config, "clusters.0.failover.passive_failures", "100"));
    let mut browser = Browser::on(icm.address, "/b.nsf?Open", "Web1");
    acme.fault("Web1", json!({ "kind": "reset", "path": "/b.nsf" }));
    let page = browser.get(NOTE);
    assert_eq!(page.status, 503, "{}", page.head);
    assert!(page.text().contains("href=\"/b.nsf\""));
    assert_eq!(browser.server_of(UNID), "Web2/Acme");
    // Unsafe: sent once, with an unknown result.
    let rid = unique_id();
    let headers = [("X-Request-Id", &*rid)];
    let answer = browser.request("GET", "/b.nsf/0/8FA?DeleteDocument", &headers, b"");
    assert_eq!(answer.status, 502);
    assert_eq!(acme.executed(&rid), acme.executed_on(&rid, "Web1").1, "on no other server");
    assert_eq!(acme.executed_on(&rid, "Web2").0, 0);
    // Domino's own error page passes.
    acme.fault("Web1", json!({ "kind": "status", "status": 503, "path": "/b.nsf" }));
    let answer = browser.get(NOTE);
    assert_eq!((answer.status, answer.server()), (503, "Web1/Acme"));
}

/// The tag of the one session cookie.
fn tag_of(browser: &Browser) -> String {
    let name = browser.cookies.keys().find(|name| name.starts_with("SessionID~")).unwrap();
    name.split_once('~').unwrap().1.to_owned()
}

#[test]
fn a_server_tag_is_meaningless_without_the_secret_and_valid_after_a_rotation() {
    use sha2::{Digest, Sha256};
    const XPAGE: &str = "/app.nsf/home.xsp";
    let dir = tempfile::tempdir().unwrap();
    let acme = Acme::start(&format!(
        "{SCENARIO}  - {{ path: app.nsf, replica_id: C1257A000041D2E3, replicas: all }}\n"
    ));
    let icm = |name: &str, secrets: &[&str]| start_with_secrets(&acme, dir.path(), name, secrets);
    let (one, two) = (icm("one", &[OLD]), icm("two", &[OLD]));
    let (rotated, foreign) = (icm("rotated", &[NEW, OLD]), icm("foreign", &[NEW]));
    let on = |icm: &Icm| Browser::on(icm.address, XPAGE, "Web2");
    let browser = on(&one);
    assert_eq!(tag_of(&browser), tag_of(&on(&two)), "the same for every ICM with the secret");
    assert_ne!(tag_of(&browser), tag_of(&on(&foreign)));
    assert_eq!(tag_of(&on(&rotated)), tag_of(&on(&foreign)), "the first line makes the tag");
    // Guesses of an attacker who knows the names.
    for cluster in ["AcmeWeb", ""] {
        for name in ["web2/acme", "Web2/Acme", "cn=web2/o=acme", "CN=Web2/O=Acme", "web2"] {
            let mut hash = Sha256::new();
            for part in [cluster, "server"].iter().filter(|part| !part.is_empty()) {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.update(name);
            let guess: String = hash.finalize()[..4].iter().map(|b| format!("{b:02x}")).collect();
            assert_ne!(guess, tag_of(&browser), "{cluster} {name}");
        }
    }
    // A session tagged with the older secret still leads to its server, with and without the affinity cookie.
    for keep in [true, false] {
        let mut after = Browser::new(rotated.address).with_cookies_of(&browser);
        if !keep {
            after.cookies.remove("ICM");
        }
        for _ in 0..4 {
            let mut tab = Browser::new(rotated.address).with_cookies_of(&after);
            let page = tab.get(&format!("{XPAGE}?Open&echo=json"));
            assert_eq!((page.server(), &page.json()["xpages_state"]), ("Web2/Acme", &json!("known")));
        }
    }
    // A move after the rotation is written with the new tags.
    let mut moved = Browser::new(rotated.address).with_cookies_of(&browser);
    acme.fault("Web2", json!("refuse"));
    rotated.wait_for_state("Web2", "UNREACHABLE");
    let now = moved.server_of("/a.nsf?Open");
    acme.heal("Web2");
    rotated.wait_for_state("Web2", "AVAILABLE");
    for _ in 0..6 {
        assert_eq!(moved.server_of("/a.nsf?Open"), now);
    }
}

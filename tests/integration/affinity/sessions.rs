//! Sessions at several servers in one browser: they exist side by side, end together, and lead back to their servers.

use std::collections::BTreeSet;

use crate::support::*;
use serde_json::json;
use serde_yaml::Value;

/// a.nsf is on all servers, b on Web1 and Web2, c on Web3, each behind a login; app.nsf is an XPages application without login.
pub(super) const SCENARIO: &str = "
servers: [ { name: Web1/Acme }, { name: Web2/Acme }, { name: Web3/Acme } ]
users: { Jane Doe/Acme: secret }
databases:
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: all }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: a.nsf, replica_id: C1257A000041D2E0, replicas: all, login: true }
  - { path: b.nsf, replica_id: C1257A000041D2E1, replicas: [Web1, Web2], login: true }
  - { path: c.nsf, replica_id: C1257A000041D2E2, replicas: [Web3], login: true }
  - { path: app.nsf, replica_id: C1257A000041D2E3, replicas: all }
";

pub(super) fn start(extra: &str, change: impl FnOnce(&Acme, &mut Value)) -> (Acme, Icm) {
    start_with_equal_indexes(&format!("{SCENARIO}{extra}"), change)
}

#[test]
fn logins_at_several_servers_coexist_and_each_server_receives_only_its_own() {
    let (acme, icm) = start("", |_, _| {});
    let mut browser = Browser::new(icm.address);
    let server_of_b = browser.log_in_for("/b.nsf?OpenDatabase");
    assert_eq!(browser.log_in_for("/c.nsf?OpenDatabase"), "Web3/Acme");
    browser.cookies.insert("LtpaToken".into(), "everybodys".into());
    for _ in 0..5 {
        assert!(browser.get("/b.nsf/v?OpenView").is_logged_in());
        assert!(browser.get("/c.nsf/v?OpenView").is_logged_in());
    }
    let names = browser.sessions();
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        let tag = name.strip_prefix("DomAuthSessId~").unwrap_or_else(|| panic!("{name}"));
        assert!(tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
    for (server, target) in [(&*server_of_b, "/b.nsf/v?OpenView"), ("Web3/Acme", "/c.nsf/v?OpenView")] {
        let line = acme.cookies_at(server.split('/').next().unwrap(), target);
        let sent: Vec<&str> = line.split("; ").map(|pair| pair.split('=').next().unwrap()).collect();
        assert_eq!(sent, ["DomAuthSessId", "LtpaToken"], "{line}");
        assert!(names.iter().any(|n| line.contains(&browser.cookies[*n])), "{line}");
    }
}

#[test]
fn a_session_cookie_alone_leads_to_its_server() {
    let (_acme, icm) = start("", |_, _| {});
    for server in ["Web1", "Web2", "Web3"] {
        let mut browser = Browser::on(icm.address, "/app.nsf/home.xsp", server);
        assert!(browser.cookies.remove("ICM").is_some());
        assert_eq!(browser.sessions().len(), 1, "{:?}", browser.cookies);
        for target in ["/a.nsf?OpenDatabase", "/app.nsf/home.xsp", "/icons/x.gif", "/unknown.nsf?Open"] {
            for _ in 0..4 {
                let answer = Browser::new(icm.address).with_cookies_of(&browser).get(target);
                assert!(answer.server().starts_with(server), "{target} by {}", answer.server());
            }
        }
    }
}

#[test]
fn an_xpages_view_state_is_never_asked_for_at_another_server() {
    let (acme, icm) = start("", |_, _| {});
    let mut browser = Browser::on(icm.address, "/app.nsf/home.xsp", "Web1");
    let state = |browser: &mut Browser| {
        browser.get("/app.nsf/home.xsp?Open&echo=json").json()["xpages_state"].clone()
    };
    assert_eq!(state(&mut browser), "known");
    acme.fault("Web1", json!("refuse"));
    assert_eq!(state(&mut browser), "new", "Web2 gets no view state of Web1");
    acme.heal("Web1");
}

#[test]
fn a_session_cookie_without_a_tag_is_passed_on_until_the_server_replaces_it() {
    let (acme, icm) = start("", |_, _| {});
    let mut browser = Browser::new(icm.address);
    browser.cookies.insert("DomAuthSessId".into(), "old".into());
    browser.cookies.insert("SessionID".into(), "old".into());
    browser.get("/c.nsf/before?Open");
    assert_eq!(acme.cookies_at("Web3", "/c.nsf/before?Open"), "DomAuthSessId=old; SessionID=old");
    browser.log_in_for("/c.nsf?OpenDatabase");
    browser.get("/c.nsf/after?Open");
    let line = acme.cookies_at("Web3", "/c.nsf/after?Open");
    assert_eq!(line.matches("DomAuthSessId=").count(), 1, "{line}");
    assert!(!line.contains("DomAuthSessId=old") && line.contains("SessionID=old"), "{line}");
    let server_of_b = browser.get("/b.nsf/there?Open").server().split('/').next().unwrap().to_owned();
    assert!(
        acme.cookies_at(&server_of_b, "/b.nsf/there?Open").contains("DomAuthSessId=old"),
        "it may belong to any server"
    );
}

#[test]
fn a_logout_ends_the_sessions_of_all_servers() {
    let (_acme, icm) = start("", |_, _| {});
    let mut browser = Browser::new(icm.address);
    browser.log_in_for("/b.nsf?OpenDatabase");
    browser.log_in_for("/c.nsf?OpenDatabase");
    browser.get("/app.nsf/home.xsp");
    browser.cookies.insert("DomAuthSessId".into(), "old".into());
    browser.cookies.insert("DomAuthSessIdABCDEFGHIJK".into(), "unique".into());
    browser.cookies.insert("Shop".into(), "1".into());
    let before: BTreeSet<String> = browser.sessions().into_iter().map(str::to_owned).collect();
    assert_eq!(before.len(), 5, "{before:?}");
    let answer = browser.get("/names.nsf?Logout&RedirectTo=/");
    assert_eq!(answer.status, 302);
    let mut gone: BTreeSet<String> =
        answer.all("set-cookie").iter().map(|c| c.split('=').next().unwrap().to_owned()).collect();
    gone.remove("ICM");
    assert_eq!(gone, before, "all session cookies and nothing else");
    for cookie in answer.all("set-cookie").iter().filter(|c| c.contains("Max-Age")) {
        assert!(cookie.contains("=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), "{cookie}");
    }
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["ICM", "Shop"]);
    for target in ["/b.nsf?OpenDatabase", "/c.nsf?OpenDatabase"] {
        assert!(!browser.get(target).is_logged_in());
    }
}

#[test]
fn clusters_behind_one_host_do_not_receive_each_others_sessions() {
    let (one, two) = (Acme::start(SCENARIO), Acme::start(&SCENARIO.replace("c.nsf", "d.nsf")));
    let mut all = config(&one);
    let mut second = config(&two)["clusters"][0].clone();
    second["name"] = "AcmeMail".into();
    all["clusters"].as_sequence_mut().unwrap().push(second);
    for n in 0..2 {
        set(&mut all, &format!("clusters.{n}.hostnames"), "[www.acme.example]");
    }
    let icm = Icm::start(all);
    let mut browser = Browser::of(icm.client().host("www.acme.example"));
    browser.log_in_for("/c.nsf?OpenDatabase");
    browser.log_in_for("/d.nsf?OpenDatabase");
    assert_eq!(browser.sessions().len(), 2, "one of Web3/Acme in each cluster: {:?}", browser.cookies);
    for (acme, target) in [(&one, "/c.nsf/one?Open"), (&two, "/d.nsf/one?Open")] {
        assert!(browser.get(target).is_logged_in());
        assert_eq!(acme.cookies_at("Web3", target).matches('=').count(), 1);
    }
    browser.get("/names.nsf?Logout");
    assert!(browser.sessions().is_empty());
}

#[test]
fn after_a_failover_the_user_logs_in_only_once() {
    // Before and after the failed server is known to be UNREACHABLE.
    for is_known in [false, true] {
        let quiet = "{ interval: 1h, timeout: 1s, unreachable_after: 1000 }";
        let (acme, icm) = start("", |_, config| {
            if !is_known {
                set(config, "clusters.0.probe", quiet);
                set(config, "clusters.0.failover.passive_failures", "0");
            }
        });
        let mut browser = Browser::new(icm.address);
        browser.log_in_for("/c.nsf?OpenDatabase");
        let server_of_b = browser.log_in_for("/b.nsf?OpenDatabase");
        let dead = server_of_b.split('/').next().unwrap();
        acme.fault(dead, json!("refuse"));
        let form = browser.get("/b.nsf/v?OpenView");
        assert!(form.server() != server_of_b && !form.is_logged_in(), "{}", form.head);
        if is_known {
            icm.wait_for_server(dead, "UNREACHABLE", |s| s["state"] == "UNREACHABLE");
        }
        assert_eq!(browser.log_in("/b.nsf/v?OpenView").server(), form.server());
        assert!(browser.get("/b.nsf/v?OpenView").is_logged_in());
        assert!(browser.get("/c.nsf/v?OpenView").is_logged_in());
    }
}

/// Posts the login form without opening a page before.
fn post_login(browser: &mut Browser, redirect_to: &str) -> Answer {
    let form = format!("Username=Jane+Doe&Password=secret&RedirectTo={redirect_to}");
    browser.post("/names.nsf?Login", &form)
}

#[test]
fn a_login_binds_the_user_to_its_server_even_with_session_cookies_disabled() {
    for sso in ["", "sso: true\n"] {
        let none = |_: &Acme, config: &mut Value| set(config, "clusters.0.affinity.session_cookies", "[]");
        let (_acme, icm) = start(sso, none);
        for to in ["/b.nsf/v?OpenView", "/"] {
            for _ in 0..4 {
                let mut browser = Browser::new(icm.address);
                let answer = post_login(&mut browser, &to.replace('?', "%3F"));
                assert_eq!(answer.status, 302);
                assert!(answer.cookie("ICM").is_some(), "{}", answer.head);
                let holds = answer.server() != "Web3/Acme";
                let page = browser.get("/b.nsf/v?OpenView");
                if holds {
                    assert_eq!((page.server(), page.is_logged_in()), (answer.server(), true), "{to}");
                }
                let page = Browser::new(icm.address).with_cookies_of(&browser).get("/b.nsf?OpenDatabase");
                assert_eq!(page.server() == answer.server(), holds, "{to}");
            }
        }
    }
}

#[test]
fn a_session_cookie_alone_does_not_admit_to_a_restricted_or_busy_server() {
    let acme = Acme::start(SCENARIO);
    let mut config = config_with_equal_indexes(&acme);
    let icm = Icm::start(config.clone());
    let mut inside = Browser::on(icm.address, "/app.nsf/home.xsp", "Web1");
    let mut unsigned = Browser::new(icm.address).with_cookies_of(&inside);
    unsigned.cookies.remove("ICM");
    assert_eq!(unsigned.cookies.len(), 1, "{:?}", unsigned.cookies);
    set(&mut config, "clusters.0.servers.list.0.server_restricted", "1");
    icm.reload(&config);
    icm.wait_for_log("-> RESTRICTED");
    for target in
        ["/", "/icons/x.gif", "/names.nsf?Login", "/a.nsf?OpenDatabase", "/app.nsf/home.xsp", "/x.nsf"]
    {
        for _ in 0..4 {
            let answer = Browser::new(icm.address).with_cookies_of(&unsigned).get(target);
            assert_ne!(answer.server(), "Web1/Acme", "{target}");
        }
    }
    assert_eq!(inside.server_of("/app.nsf/home.xsp"), "Web1/Acme", "a user with affinity stays");
    assert_eq!(inside.server_of("/icons/x.gif"), "Web1/Acme");
    // The same for a BUSY server.
    set(&mut config, "clusters.0.servers.list.0.server_restricted", "0");
    set(&mut config, "clusters.0.servers.list.0.server_availability_threshold", "100");
    icm.reload(&config);
    icm.wait_for_server("Web1", "BUSY", |s| s["state"] == "BUSY");
    for target in ["/", "/app.nsf/home.xsp"] {
        let answer = Browser::new(icm.address).with_cookies_of(&unsigned).get(target);
        assert_ne!(answer.server(), "Web1/Acme", "{target}");
    }
}

#[test]
fn among_many_session_cookies_the_one_of_a_holder_decides() {
    let servers: Vec<String> = (1..=12).map(|n| format!("{{ name: Web{n}/Acme }}")).collect();
    let own: Vec<String> = (1..=12)
        .map(|n| {
            format!(
                "  - {{ path: x{n}.nsf, replica_id: C1257A0000420{n:03}, replicas: [Web{n}], login: true }}"
            )
        })
        .collect();
    let acme = Acme::start(&format!(
        "servers: [ {} ]
users: {{ Jane Doe/Acme: secret }}
databases:
  - {{ path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }}
  - {{ path: d.nsf, replica_id: C1257A000041D2E4, replicas: [Web11, Web12] }}
{}
",
        servers.join(", "),
        own.join("\n")
    ));
    let icm = Icm::start(config_with_equal_indexes(&acme));
    let mut browser = Browser::new(icm.address);
    for n in 1..=11 {
        browser.log_in_for(&format!("/x{n}.nsf?OpenDatabase"));
    }
    browser.cookies.remove("ICM");
    let mut sessions: Vec<String> = browser.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(sessions.len(), 11, "{sessions:?}");
    for _ in 0..11 {
        sessions.rotate_left(1);
        let line = sessions.join("; ");
        for _ in 0..6 {
            let answer = icm.client().get_with("/d.nsf?OpenDatabase", &[("Cookie", &line)]);
            assert_eq!(answer.server(), "Web11/Acme", "{line}");
        }
    }
}

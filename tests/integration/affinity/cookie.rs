//! The affinity cookie: its attributes, when it is written, to which server it binds and for how long.

use std::collections::BTreeMap;

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_yaml::Value;

/// a.nsf is on all servers, b and d on Web1 and Web2, c and e on Web3 and Web4; 20 generated databases are on all.
const SCENARIO: &str = "
servers: [ { name: Web1/Acme }, { name: Web2/Acme }, { name: Web3/Acme }, { name: Web4/Acme } ]
databases:
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: all }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: a.nsf, replica_id: C1257A000041D2E0, replicas: all }
  - { path: b.nsf, replica_id: C1257A000041D2E1, replicas: [Web1, Web2] }
  - { path: c.nsf, replica_id: C1257A000041D2E2, replicas: [Web3, Web4] }
  - { path: d.nsf, replica_id: C1257A000041D2E3, replicas: [Web1, Web2] }
  - { path: e.nsf, replica_id: C1257A000041D2E4, replicas: [Web3, Web4] }
generate: { databases: 20, copies: 4, prefix: many/db }
";

fn start(change: impl FnOnce(&Acme, &mut Value)) -> (Acme, Icm) {
    start_with_equal_indexes(SCENARIO, change)
}

/// The server tag and database tag of each entry, most recent first.
fn entries(cookie: &str) -> Vec<(u32, u32)> {
    let raw = URL_SAFE_NO_PAD.decode(cookie).unwrap();
    let number = |chunk: &[u8]| u32::from_be_bytes(chunk.try_into().unwrap());
    raw[1..raw.len() - 16].chunks(12).map(|c| (number(&c[..4]), number(&c[4..8]))).collect()
}

#[test]
fn the_cookie_is_host_only_http_only_and_secure_with_tls() {
    let mut secure = None;
    let (acme, icm) = start(|acme, config| {
        let tls = add_tls(config, acme);
        let listeners = config["listeners"].as_sequence_mut().unwrap();
        let behind = format!("{{ address: \"127.0.0.1:{}\", trusted_proxies: [127.0.0.0/8] }}", free_port());
        listeners.push(serde_yaml::from_str(&behind).unwrap());
        secure = Some((tls, listeners[2]["address"].as_str().unwrap().to_owned()));
    });
    let (tls, behind) = secure.unwrap();
    let attributes = |answer: Answer| {
        let all = answer.all("set-cookie");
        let own: Vec<_> = all.iter().filter(|c| c.starts_with("ICM=")).collect();
        assert_eq!(own.len(), 1, "{all:?}");
        own[0].split_once("; ").unwrap().1.to_owned()
    };
    let plain = "Path=/; HttpOnly; SameSite=Lax";
    let with_tls = "Path=/; HttpOnly; Secure; SameSite=Lax";
    let proto = [("X-Forwarded-Proto", "https")];
    assert_eq!(attributes(icm.client().get("/a.nsf?Open")), plain);
    assert_eq!(
        attributes(icm.client().get_with("/a.nsf?Open", &proto)),
        plain,
        "X-Forwarded-Proto of an untrusted client is ignored"
    );
    let mut client = Client::tls(wait_for(tls), "localhost", &acme.ca_file);
    assert_eq!(attributes(client.get("/a.nsf?Open")), with_tls);
    let behind = wait_for(behind.parse().unwrap());
    assert_eq!(attributes(Client::to(behind).get("/a.nsf?Open")), plain);
    assert_eq!(attributes(Client::to(behind).get_with("/a.nsf?Open", &proto)), with_tls);
}

#[test]
fn the_cookie_is_set_on_html_of_databases_and_only_when_it_changes() {
    let (_acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    let is_set = |answer: Answer| answer.cookie("ICM").is_some();
    assert!(!is_set(browser.get("/")), "no database");
    assert!(!is_set(browser.get("/icons/x.gif")));
    assert!(!is_set(browser.get("/names.nsf?Login")), "a system database");
    assert!(!is_set(browser.get_with("/a.nsf?Open", ("Accept", "application/json"))), "no HTML");
    assert!(is_set(browser.get("/a.nsf?Open")), "new");
    assert!(!is_set(browser.get("/a.nsf/v?OpenView")));
    assert!(!is_set(browser.post("/A.NSF/f?CreateDocument", "x=1")));
    assert!(is_set(browser.get("/b.nsf?Open")), "another database");
    assert!(is_set(browser.get("/a.nsf?Open")), "another order");
    assert!(!is_set(browser.get("/__C1257A000041D2E0.nsf?Open")), "the same database by its replica ID");
}

#[test]
fn an_entry_is_renewed_after_a_tenth_of_the_idle_timeout_and_expires_after_it() {
    let (_acme, icm) = start(|_, config| set(config, "clusters.0.affinity.idle_timeout", "8s"));
    let mut browser = Browser::new(icm.address);
    browser.get("/a.nsf?Open");
    let first = browser.icm().unwrap().to_owned();
    let renewed = eventually(MAX_WAIT, || {
        browser.get("/a.nsf?Open");
        browser.icm() != Some(&first)
    });
    assert!(renewed);
    // Users with an entry may stay on a RESTRICTED server; after the timeout this one has none.
    let server = browser.server_of("/a.nsf?Open");
    let name = server.split('/').next().unwrap();
    let restricted = Client::to(icm.admin).post(&format!("/servers/{name}/restrict"), &[], "");
    assert_eq!(restricted.status, 200);
    assert_eq!(browser.server_of("/a.nsf?Open"), server);
    pause(9_500);
    assert_ne!(browser.server_of("/a.nsf?Open"), server);
}

#[test]
fn at_most_sixteen_entries_are_kept_and_the_oldest_goes() {
    let (_acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    let mut tags = Vec::new();
    for n in 1..=20 {
        assert_eq!(browser.get(&format!("/many/db{n:04}.nsf?OpenDatabase")).status, 200);
        let now = entries(browser.icm().unwrap());
        assert_eq!(now.len(), n.min(16));
        tags.insert(0, now[0].1);
        assert_eq!(now.iter().map(|e| e.1).collect::<Vec<_>>(), tags[..n.min(16)], "most recent first");
    }
}

#[test]
fn the_next_database_goes_to_the_same_server_if_that_holds_it() {
    let (_acme, icm) = start(|_, _| {});
    for server in ["Web1", "Web2", "Web3", "Web4"] {
        let mut browser = Browser::on(icm.address, "/a.nsf?Open", server);
        let (near, far) = if matches!(server, "Web1" | "Web2") { ("b", "c") } else { ("c", "b") };
        assert!(browser.server_of(&format!("/{near}.nsf?Open")).starts_with(server));
        let elsewhere = browser.server_of(&format!("/{far}.nsf?Open"));
        assert!(!elsewhere.starts_with(server), "it holds no replica");
        for _ in 0..5 {
            assert!(browser.server_of(&format!("/{near}.nsf?Open")).starts_with(server));
            assert_eq!(browser.server_of(&format!("/{far}.nsf?Open")), elsewhere);
            assert!(browser.server_of("/a.nsf?Open").starts_with(server));
        }
    }
}

#[test]
fn a_page_without_a_database_follows_its_redirect_to_its_login_form_or_its_referer() {
    let (_acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    let server_of_b = browser.server_of("/b.nsf?Open");
    let server_of_c = browser.server_of("/c.nsf?Open");
    assert_ne!(server_of_b, server_of_c);
    let own = format!("http://{}", icm.address);
    for _ in 0..4 {
        assert_eq!(browser.server_of("/icons/x.gif"), server_of_c, "the most recent entry");
        assert_eq!(browser.get("/names.nsf?Login&RedirectTo=/b.nsf/v%3FOpenView").server(), server_of_b);
        assert_eq!(browser.get("/names.nsf?Login&RedirectTo=%2Fc.nsf").server(), server_of_c);
        let referer = format!("{own}/b.nsf/v?OpenView");
        assert_eq!(browser.get_with("/icons/x.gif", ("Referer", &referer)).server(), server_of_b);
        assert_eq!(browser.get_with("/names.nsf?Login", ("Referer", &referer)).server(), server_of_b);
        let foreign = "http://evil.example/b.nsf/v?OpenView";
        assert_eq!(browser.get_with("/icons/x.gif", ("Referer", foreign)).server(), server_of_c);
        let both = browser.get_with("/names.nsf?Login&RedirectTo=/c.nsf", ("Referer", &referer));
        assert_eq!(both.server(), server_of_c, "RedirectTo outranks the Referer");
        for to in [
            "%2Fb.nsf%2Fv%3FOpenView",
            "/b.nsf",
            "http%3A%2F%2Fwww.acme.example%2Fb.nsf%3FOpen",
            "/__C1257A000041D2E1.nsf",
        ] {
            let form = format!("Username=Jane+Doe&Password=x%26y&RedirectTo={to}&reasonType=0");
            let answer = browser.post("/names.nsf?Login", &form);
            assert_eq!(answer.server(), server_of_b, "{form}");
        }
    }
}

#[test]
fn a_login_form_arrives_complete_whether_it_was_buffered_or_not() {
    let (acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    let server_of_b = browser.server_of("/b.nsf?Open");
    browser.get("/c.nsf?Open");
    for (filler, is_read) in [(0, true), (15_000, true), (16_384, false), (200_000, false)] {
        let form = format!("RedirectTo=%2Fb.nsf&Username=x&Filler={}", "f".repeat(filler));
        let rid = unique_id();
        let headers = [("X-Request-Id", &*rid), ("Content-Type", "application/x-www-form-urlencoded")];
        let answer = browser.request("POST", "/names.nsf?Login", &headers, form.as_bytes());
        assert!(answer.status < 500, "{filler}: {}", answer.head);
        assert_eq!(answer.server() == server_of_b, is_read, "{filler} bytes more");
        assert_eq!(acme.executed(&rid), 1, "{filler} bytes more");
    }
}

#[test]
fn a_forged_foreign_or_truncated_cookie_counts_as_none() {
    let (_acme, icm) = start(|_, _| {});
    let (_other_acme, other) = start(|_, _| {});
    let mut foreign = Browser::new(other.address);
    foreign.get("/a.nsf?Open");
    let browser = Browser::on(icm.address, "/a.nsf?Open", "Web1");
    let genuine = browser.icm().unwrap().to_owned();
    let mut flipped = genuine.clone().into_bytes();
    flipped[5] = if flipped[5] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let bad = [
        foreign.icm().unwrap(),
        &flipped,
        &genuine[..genuine.len() - 4],
        "",
        "x",
        "\"\"",
        "ÄÖ=;;",
        &genuine.repeat(40),
    ];
    for cookie in bad {
        let answer = icm.client().get_with("/a.nsf?Open", &[("Cookie", &format!("ICM={cookie}"))]);
        assert_eq!(answer.status, 200, "{cookie}");
        assert!(answer.cookie("ICM").is_some(), "a new user gets a new cookie: {cookie}");
    }
    // A genuine cookie after a forged one of the same name counts.
    let both = format!("a=b; ICM={flipped}; ICM={genuine}; ICMx=1");
    for _ in 0..10 {
        assert_eq!(icm.client().get_with("/a.nsf?Open", &[("Cookie", &both)]).server(), "Web1/Acme");
    }
}

#[test]
fn affinity_can_be_switched_off() {
    let (_acme, icm) = start(|_, config| set(config, "clusters.0.affinity.mode", "off"));
    let answer = icm.client().get("/a.nsf?Open");
    assert_eq!((answer.status, answer.cookie("ICM")), (200, None));
}

#[test]
fn two_tabs_in_databases_on_different_servers_do_not_disturb_each_other() {
    let (_acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    let (server_of_b, server_of_c) = (browser.server_of("/b.nsf?Open"), browser.server_of("/c.nsf?Open"));
    for n in 0..20 {
        let (target, server) = if n % 3 == 0 {
            ("/b.nsf/v?OpenView", &server_of_b)
        } else {
            ("/c.nsf/v?OpenView", &server_of_c)
        };
        assert_eq!(&browser.server_of(target), server);
    }
}

#[test]
fn parallel_first_requests_end_with_affinity_to_one_server() {
    let (_acme, icm) = start(|_, _| {});
    for _ in 0..5 {
        // The browser keeps the cookie of the last answer.
        let last = std::sync::Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut tab = Browser::new(icm.address);
                    let server = tab.server_of("/a.nsf?Open");
                    *last.lock().unwrap() = BTreeMap::from([(server, tab.cookies)]);
                });
            }
        });
        let (server, cookies) = last.into_inner().unwrap().pop_first().unwrap();
        let mut browser = Browser::new(icm.address);
        browser.cookies = cookies;
        for target in ["/a.nsf?Open", "/icons/x.gif", "/a.nsf/v?OpenView"] {
            assert_eq!(browser.server_of(target), server);
        }
    }
}

#[test]
fn foreign_cookies_of_the_same_name_never_hide_the_genuine_one() {
    let (_acme, icm) = start(|_, config| set(config, "limits.header_bytes", "70KiB"));
    let (_other_acme, other) = start(|_, _| {});
    let mut foreign = Browser::new(other.address);
    foreign.get("/a.nsf?Open");
    let foreign = format!("ICM={}; ", foreign.icm().unwrap());
    let browser = Browser::on(icm.address, "/a.nsf?Open", "Web1");
    let own = format!("ICM={}", browser.icm().unwrap());
    for many in [8, 9, 40, 800] {
        let line = format!("{}{own}; ICM=x", foreign.repeat(many));
        for _ in 0..8 {
            let answer = icm.client().get_with("/a.nsf?Open", &[("Cookie", &line)]);
            assert_eq!((answer.server(), answer.cookie("ICM")), ("Web1/Acme", None), "behind {many}");
        }
    }
}

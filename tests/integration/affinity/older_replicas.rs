//! Where users go whose last write is on a server that does not answer, if the replicas are known to have it or not, and
//! the page that tells them.

use crate::support::*;
use serde_json::{Value, json};

const SAVE: &str = "/all.nsf/Memo?CreateDocument";
const NAVIGATION: [(&str, &str); 3] = [
    ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];

/// A cluster that replicates only when it is asked to, and whose replicas are read all the time.
fn start(after_write: &str) -> (Acme, Icm) {
    let acme = Acme::replicating("{ push_ms: 3600000 }");
    let mut config = config_with_equal_indexes(&acme);
    let account = secret_file(acme.ca_file.parent().unwrap(), "account", "reader");
    set(
        &mut config,
        "clusters.0.directory.auth",
        &format!("{{ basic: {{ user: ICM Reader/Acme, password_file: {account} }}, allow_plaintext: true }}"),
    );
    set(
        &mut config,
        "clusters.0.freshness",
        &format!("{{ source: head, interval: 500ms, slack: 1s, after_write: {after_write} }}"),
    );
    for database in ["all.nsf", "two.nsf"] {
        create_document(&mut Client::to(acme.http("Web1")), database, &[("text", "first")]);
    }
    acme.replicate();
    let icm = Icm::start(config);
    // So that the write below is later than the times of all replicas by more than the slack.
    pause(2_500);
    (acme, icm)
}

/// What `explain` knows about the own write on each server.
fn known(icm: &Icm, browser: &Browser, target: &str) -> Vec<(String, Value)> {
    let cookies: Vec<String> = browser.cookies.iter().map(|(n, v)| format!("{n}%3D{v}")).collect();
    let explained = icm.admin(&format!("/explain?url={target}&cookie={}", cookies.join(";%20"))).json();
    let mut all: Vec<_> = explained["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["server"].as_str().unwrap().to_owned(), c["own_write"].clone()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn wait_until_known(icm: &Icm, browser: &Browser, target: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(s, w)| ((*s).to_owned(), json!(w))).collect();
    let there = eventually(MAX_WAIT, || known(icm, browser, target) == expected);
    assert!(there, "never {expected:?}, but {:?}", known(icm, browser, target));
}

/// A user whose last write on Web1 no other replica has, and Web1 is gone.
fn wrote_and_lost_web1(acme: &Acme, icm: &Icm) -> Browser {
    let mut browser = Browser::on(icm.address, "/two.nsf?OpenDatabase", "Web1");
    assert_eq!(browser.post("/two.nsf/Memo?CreateDocument", "text=second").server(), "Web1/Acme");
    let expected = [("Web1/Acme", "included"), ("Web2/Acme", "missing")];
    wait_until_known(icm, &browser, "/two.nsf", &expected);
    acme.stop_server("Web1");
    browser
}

#[test]
fn a_replica_that_has_the_own_write_serves_before_one_that_lacks_it() {
    let (acme, icm) = start("prefer");
    let mut browser = Browser::on(icm.address, "/all.nsf?OpenDatabase", "Web1");
    assert_eq!(browser.post(SAVE, "text=second").server(), "Web1/Acme");
    let one = json!({ "from": "Web1", "to": "Web3", "database": "all.nsf" });
    acme.ask("POST", "/replicate", Some(&one));
    let expected = [("Web1/Acme", "included"), ("Web2/Acme", "missing"), ("Web3/Acme", "included")];
    wait_until_known(&icm, &browser, "/all.nsf", &expected);
    acme.stop_server("Web1");
    // At once, and when Web1 is known to be UNREACHABLE.
    for _ in 0..2 {
        for _ in 0..8 {
            let mut tab = Browser::new(icm.address).with_cookies_of(&browser);
            assert_eq!(tab.server_of("/all.nsf?OpenDatabase"), "Web3/Acme");
        }
        icm.wait_for_state("Web1", "UNREACHABLE");
    }
    // The user moves there, and stays when the better replica is gone as well.
    assert_eq!(browser.server_of("/all.nsf?OpenDatabase"), "Web3/Acme");
    assert_eq!(browser.post(SAVE, "text=third").server(), "Web3/Acme");
    acme.stop_server("Web3");
    assert_eq!(browser.server_of("/all.nsf?OpenDatabase"), "Web2/Acme", "the last one that is left");
}

#[test]
fn a_page_tells_once_that_only_an_older_replica_is_left() {
    let (acme, icm) = start("tell");
    let target = "/two.nsf/v?OpenView&Start=1";
    let mut browser = wrote_and_lost_web1(&acme, &icm);
    // Web1 dies with this request, so that the page comes with the failover.
    let mut late = Browser::new(icm.address).with_cookies_of(&browser);
    for user in [&mut browser, &mut late] {
        let page = user.request("GET", target, &NAVIGATION, b"");
        assert_eq!((page.status, page.header("server")), (503, Some("domino-icm")), "{}", page.text());
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let text = page.text();
        assert!(
            text.contains("UTC that may have changed Two went to a server that does not answer."),
            "{text}"
        );
        assert!(text.contains("href=\"/two.nsf/v?OpenView&amp;Start=1\""), "{text}");
        assert!(!text.to_lowercase().contains("web1"), "{text}");
        let cookies = page.all("set-cookie");
        assert!(cookies.len() == 1 && cookies[0].starts_with("ICM-write="), "{cookies:?}");
        assert!(cookies[0].ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookies:?}");
        for _ in 0..3 {
            let next = user.request("GET", target, &NAVIGATION, b"");
            assert_eq!((next.status, next.server()), (200, "Web2/Acme"), "the user was told");
        }
        icm.wait_for_state("Web1", "UNREACHABLE");
    }
    icm.wait_for_log("\"page\":\"older_than_own_write\"");
}

#[test]
fn scripts_forms_downloads_and_users_who_wrote_nothing_get_no_page() {
    let (acme, icm) = start("tell");
    let browser = wrote_and_lost_web1(&acme, &icm);
    icm.wait_for_state("Web1", "UNREACHABLE");
    let ask = |method: &str, target: &str, change: &[(&str, &str)]| {
        let mut fields = NAVIGATION.to_vec();
        for (name, value) in change {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value));
        }
        let mut tab = Browser::new(icm.address).with_cookies_of(&browser);
        tab.request(method, target, &fields, if method == "POST" { b"x=1" } else { b"" }).status
    };
    let view = "/two.nsf/v?OpenView";
    assert_eq!(ask("GET", view, &[]), 503);
    assert_eq!(ask("GET", "/two.nsf/0/E86886A81087A25805258E4F00502001/$FILE/a.pdf", &[]), 200);
    assert_eq!(ask("GET", "/two.nsf/logo.gif?OpenImageResource", &[]), 200);
    assert_eq!(ask("HEAD", view, &[]), 200);
    for field in [
        ("Accept", "*/*"),
        ("Accept", "application/json"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "script"),
        ("X-Requested-With", "XMLHttpRequest"),
    ] {
        assert_eq!(ask("GET", view, &[field]), 200, "{field:?}");
    }
    assert_eq!(Browser::new(icm.address).request("GET", view, &NAVIGATION, b"").status, 200, "a newcomer");
    assert_eq!(ask("GET", "/all.nsf?OpenDatabase", &[]), 200, "another database");
    let cookies: Vec<String> = browser.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let admin = format!("http://{}", icm.admin);
    let text = icm_cli(&["explain", "--admin", &admin, "--cookie", &cookies.join("; "), view]);
    assert!(text.out.contains("older than its last write"), "{}", text.out);
    assert!(text.out.contains("own write: missing"), "{}", text.out);
    // Last, because it makes the replica on Web2 newer.
    assert_eq!(ask("POST", "/two.nsf/Memo?CreateDocument", &[]), 200);
}

#[test]
fn by_default_no_page_is_shown() {
    let (acme, icm) = start("prefer");
    let mut browser = wrote_and_lost_web1(&acme, &icm);
    let answer = browser.request("GET", "/two.nsf/v?OpenView", &NAVIGATION, b"");
    assert_eq!((answer.status, answer.server()), (200, "Web2/Acme"));
}

//! The user's own last writes: the cookie that remembers them, and where it leads.

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use serde_yaml::Value;

/// a.nsf is on all servers and needs a login, b.nsf and app.nsf need none, c.nsf is on Web1 and Web2 only.
const SCENARIO: &str = "
servers:
  - { name: Web1/Acme, https: false }
  - { name: Web2/Acme, https: false }
  - { name: Web3/Acme, https: false }
users: { Jane Doe/Acme: secret }
databases:
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: all }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: a.nsf, replica_id: C1257A000041D2E0, replicas: all, login: true }
  - { path: b.nsf, replica_id: C1257A000041D2E1, replicas: all }
  - { path: c.nsf, replica_id: C1257A000041D2E2, replicas: [Web1, Web2] }
  - { path: app.nsf, replica_id: C1257A000041D2E3, replicas: all }
generate: { databases: 12, copies: 3, prefix: many/db }
";

const SAVE: &str = "/b.nsf/f?CreateDocument";

fn start(change: impl FnOnce(&Acme, &mut Value)) -> (Acme, Icm) {
    start_with_equal_indexes(SCENARIO, change)
}

/// Server tag, database tag and time of each stamp, newest first.
fn stamps(cookie: &str) -> Vec<(u32, u32, u32)> {
    let raw = URL_SAFE_NO_PAD.decode(cookie).unwrap();
    let number = |chunk: &[u8]| u32::from_be_bytes(chunk.try_into().unwrap());
    raw[13..raw.len() - 16].chunks(12).map(|c| (number(&c[..4]), number(&c[4..8]), number(&c[8..]))).collect()
}

/// Whether a response sets the write cookie.
fn stamped(answer: &Answer) -> bool {
    answer.cookie("ICM-write").is_some()
}

/// A user who has saved a document on Web1.
fn wrote_on_web1(icm: &Icm, page: &str, save: &str) -> Browser {
    let mut browser = Browser::on(icm.address, page, "Web1");
    let saved = browser.post(save, "x=1");
    assert_eq!((saved.status, saved.server(), stamped(&saved)), (200, "Web1/Acme", true));
    browser
}

#[test]
fn a_request_that_changes_something_leaves_a_stamp_whatever_it_answers() {
    let (_acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    for target in ["/b.nsf?Open", "/b.nsf/v?OpenView", "/b.nsf?Open&echo=json"] {
        assert!(!stamped(&browser.get(target)), "{target}");
    }
    for (method, target) in [
        ("POST", SAVE),
        ("POST", "/app.nsf/f?OpenForm&Seq=1&echo=json"),
        ("POST", "/b.nsf/0/E86886A81087A25805258E4F00502001?SaveDocument&status=302"),
        ("PUT", "/b.nsf/api/data/documents"),
        ("PATCH", "/app.nsf/api/data/documents"),
        ("DELETE", "/b.nsf/api/data/documents"),
        ("GET", "/app.nsf/0/E86886A81087A25805258E4F00502001?DeleteDocument"),
        ("POST", "/__C1257A000041D2E1.nsf/f?CreateDocument"),
    ] {
        let mut browser = Browser::new(icm.address);
        assert!(stamped(&browser.request(method, target, &[], b"")), "{method} {target}");
    }
    for target in [SAVE, "/app.nsf/f?CreateDocument", "/B.NSF/f?CreateDocument", "/app.nsf/f?CreateDocument"]
    {
        browser.post(target, "x=1");
    }
    let all = stamps(&browser.cookies["ICM-write"]);
    assert_eq!(all.len(), 2, "one for each database: {all:?}");
}

#[test]
fn a_request_that_fails_or_names_no_database_leaves_no_stamp() {
    let (_acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    for target in
        ["/b.nsf/f?CreateDocument&status=404", "/b.nsf/f?CreateDocument&status=500", "/", "/icons/x.gif"]
    {
        assert!(!stamped(&browser.post(target, "x=1")), "{target}");
    }
}

#[test]
fn a_login_or_logout_leaves_no_stamp() {
    let (_acme, icm) = start(|_, _| {});
    for target in ["/names.nsf?Login", "/a.nsf?Login", "/names.nsf?SAMLLogin", "/a.nsf?SAMLLogin"] {
        let mut browser = Browser::new(icm.address);
        let form = "Username=Jane+Doe&Password=secret&RedirectTo=%2Fa.nsf&SAMLResponse=x&RelayState=%2Fa.nsf";
        let answer = browser.post(target, form);
        assert!(answer.status < 400 && !stamped(&answer), "{target}: {}", answer.head);
    }
    let mut browser = Browser::new(icm.address);
    browser.get("/a.nsf?Open");
    assert_eq!(browser.log_in("/a.nsf?Open").status, 302);
    assert!(browser.get("/a.nsf?Open").is_logged_in());
    assert!(stamped(&browser.post("/a.nsf/f?CreateDocument", "x=1")), "the user is logged in");
    assert!(!stamped(&browser.post("/a.nsf?Logout", "")));
}

#[test]
fn the_cookie_has_the_attributes_of_the_affinity_cookie_and_no_server_sees_it() {
    let mut tls = None;
    // With HTTPS, which needs a certificate.
    let scenario = SCENARIO.replace(", https: false", "");
    let (acme, icm) = start_with_equal_indexes(&scenario, |acme, config| {
        tls = Some(add_tls(config, acme));
        set(config, "clusters.0.affinity.same_site", "strict");
    });
    let attributes = |answer: &Answer, name: &str| {
        let all = answer.all("set-cookie");
        let own: Vec<_> = all.iter().filter(|c| c.starts_with(name)).collect();
        assert_eq!(own.len(), 1, "{all:?}");
        own[0].split_once("; ").unwrap().1.to_owned()
    };
    let plain = icm.client().post(SAVE, &[], "x=1");
    assert_eq!(attributes(&plain, "ICM-write="), "Path=/; HttpOnly; SameSite=Strict");
    let mut client = Client::tls(wait_for(tls.unwrap()), "localhost", &acme.ca_file);
    let secure = client.post(SAVE, &[], "x=1");
    assert_eq!(attributes(&secure, "ICM-write="), attributes(&secure, "ICM="));
    assert_eq!(attributes(&secure, "ICM-write="), "Path=/; HttpOnly; Secure; SameSite=Strict");
    let mut browser = Browser::new(icm.address);
    browser.post(SAVE, "x=1");
    browser.cookies.insert("Other".to_owned(), "1".to_owned());
    let seen = browser.get("/b.nsf?Open&echo=json").json();
    assert!(seen["headers"].as_array().unwrap().contains(&json!(["Cookie", "Other=1"])), "{seen:#}");
}

#[test]
fn the_stamp_has_the_date_of_the_server_and_at_most_eight_are_kept() {
    let (acme, icm) = start(|_, _| {});
    let mut browser = Browser::new(icm.address);
    let mut databases = Vec::new();
    for n in 1..=12 {
        browser.post(&format!("/many/db{n:04}.nsf/f?CreateDocument"), "x=1");
        let now = stamps(&browser.cookies["ICM-write"]);
        databases.insert(0, now[0].1);
        assert_eq!(now.iter().map(|s| s.1).collect::<Vec<_>>(), databases[..n.min(8)], "newest first");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let newest = stamps(&browser.cookies["ICM-write"])[0];
    assert!(u64::from(newest.2).abs_diff(now) <= 60, "{newest:?} at {now}");
    acme.set("all", json!({ "clock_skew_ms": 120_000 }));
    browser.post(SAVE, "x=1");
    let skewed = stamps(&browser.cookies["ICM-write"])[0];
    assert!(u64::from(skewed.2) >= now + 119, "the clock of the server: {skewed:?} at {now}");
    acme.set("all", json!({ "clock_skew_ms": 3_600_000 }));
    browser.post(SAVE, "x=1");
    let wrong = stamps(&browser.cookies["ICM-write"])[0];
    assert!(u64::from(wrong.2) < now + 1_800, "an implausible clock does not count: {wrong:?} at {now}");
}

#[test]
fn without_affinity_and_in_redirect_mode_there_is_no_write_cookie() {
    for (key, value) in [("affinity.mode", "off"), ("mode", "redirect")] {
        let (_acme, icm) = start(|_, config| set(config, &format!("clusters.0.{key}"), value));
        let answer = icm.client().post(SAVE, &[], "x=1");
        assert_eq!(answer.status, if key == "mode" { 307 } else { 200 });
        assert!(!stamped(&answer), "{key}: {value}");
    }
}

#[test]
fn a_form_from_another_site_does_not_overwrite_the_stamps() {
    let (_acme, icm) = start(|_, _| {});
    let cross = [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://idp.example")];
    let mut withheld = Browser::new(icm.address);
    assert!(!stamped(&withheld.request("POST", SAVE, &cross, b"x=1")), "the browser may have stamps");
    let mut carried = wrote_on_web1(&icm, "/b.nsf?Open", SAVE);
    carried.cookies.remove("ICM");
    assert!(stamped(&carried.request("POST", "/app.nsf/f?CreateDocument", &cross, b"x=1")));
    assert_eq!(stamps(&carried.cookies["ICM-write"]).len(), 2, "SameSite=None, or an old browser");
}

#[test]
fn every_icm_with_the_secret_reads_the_stamps_and_a_forged_cookie_counts_as_none() {
    const OLD: &str = "the-old-secret-of-the-acme-cluster-0123456789";
    const NEW: &str = "the-new-secret-of-the-acme-cluster-9876543210";
    let dir = tempfile::tempdir().unwrap();
    let acme = Acme::start(SCENARIO);
    let icm = |name: &str, secrets: &[&str]| {
        let mut config = config_with_equal_indexes(&acme);
        let file = secret_file(dir.path(), name, &secrets.join("\n"));
        set(&mut config, "clusters.0.affinity.secret_file", &file);
        Icm::start(config)
    };
    let one = icm("one", &[OLD]);
    let mut browser = wrote_on_web1(&one, "/b.nsf?Open", SAVE);
    // Without the affinity cookie only the stamp leads to Web1.
    browser.cookies.retain(|name, _| name == "ICM-write");
    let is_led = |icm: &Icm, browser: &Browser| {
        (0..12).all(|_| {
            Browser::new(icm.address).with_cookies_of(browser).server_of("/b.nsf?Open") == "Web1/Acme"
        })
    };
    let rotated = icm("rotated", &[NEW, OLD]);
    for icm in [&one, &icm("two", &[OLD]), &rotated] {
        assert!(is_led(icm, &browser));
    }
    assert!(!is_led(&icm("foreign", &[NEW]), &browser));
    // A new stamp converts the others to the new key.
    let mut converted = Browser::new(rotated.address).with_cookies_of(&browser);
    converted.post("/app.nsf/f?CreateDocument", "x=1");
    converted.cookies.retain(|name, _| name == "ICM-write");
    assert!(is_led(&icm("new", &[NEW]), &converted));
    let forged = browser.cookies.get_mut("ICM-write").unwrap();
    forged.replace_range(30..31, if &forged[30..31] == "A" { "B" } else { "A" });
    assert!(!is_led(&one, &browser));
}

#[test]
fn after_an_outage_pages_go_back_to_the_server_of_the_own_write_and_forms_do_not() {
    let (acme, icm) = start(|_, _| {});
    let mut browser = wrote_on_web1(&icm, "/c.nsf?Open", "/c.nsf/f?CreateDocument");
    acme.fault("Web1", json!("refuse"));
    // At once, and when Web1 is known to be UNREACHABLE.
    assert_eq!(browser.server_of("/c.nsf?Open"), "Web2/Acme");
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert_eq!(browser.server_of("/c.nsf?Open"), "Web2/Acme");
    acme.heal("Web1");
    icm.wait_for_server("Web1", "back", |s| s["state"] != "UNREACHABLE");
    // The form came from Web2, and so did the NoteID.
    let mut form = Browser::new(icm.address).with_cookies_of(&browser);
    assert_eq!(form.server_of("/c.nsf/v/8FA?OpenDocument"), "Web2/Acme");
    assert_eq!(form.post("/c.nsf/f?CreateDocument", "x=1").server(), "Web2/Acme");
    // Its own last write is on Web2 now, so that it stays.
    for _ in 0..4 {
        assert_eq!(form.server_of("/c.nsf?Open"), "Web2/Acme");
    }
    assert_eq!(browser.server_of("/c.nsf/v?OpenView"), "Web1/Acme");
    icm.wait_for_log("\"why\":\"own_write\"");
    // The affinity follows: the next form goes to the server that showed it.
    assert_eq!(browser.post("/c.nsf/f?CreateDocument", "x=1").server(), "Web1/Acme");
    let mut tab = Browser::new(icm.address).with_cookies_of(&browser);
    tab.cookies.remove("ICM-write");
    assert_eq!(tab.server_of("/c.nsf?Open"), "Web1/Acme");
}

#[test]
fn a_stamp_leads_to_its_server_when_the_affinity_is_forgotten_and_until_the_limit() {
    let (_acme, icm) = start(|_, config| {
        set(config, "clusters.0.affinity.idle_timeout", "1s");
        set(config, "clusters.0.freshness.behind_limit", "15s");
    });
    let browser = wrote_on_web1(&icm, "/b.nsf?Open", SAVE);
    pause(1_500);
    let server = || Browser::new(icm.address).with_cookies_of(&browser).server_of("/b.nsf?Open");
    assert_eq!(server(), "Web1/Acme");
    assert!(eventually(MAX_WAIT, || server() != "Web1/Acme"), "the stamp is too old");
}

#[test]
fn explain_shows_the_own_write_of_a_cookie() {
    let (acme, icm) = start(|_, _| {});
    let browser = wrote_on_web1(&icm, "/c.nsf?Open", "/c.nsf/f?CreateDocument");
    let cookie = format!("ICM-write={}", browser.cookies["ICM-write"]);
    let explain = || {
        let target = format!("/explain?url=/c.nsf?Open&cookie={}", cookie.replace('=', "%3D"));
        icm.admin(&target).json()
    };
    let explained = explain();
    assert_eq!(
        (&explained["server"], &explained["own_write"]["server"]),
        (&json!("Web1/Acme"), &json!("Web1/Acme"))
    );
    assert_eq!(explained["why"], "it took the user's own last write");
    let own = |explained: &serde_json::Value, server: &str| {
        let all = explained["candidates"].as_array().unwrap();
        all.iter().find(|c| c["server"] == server).unwrap()["own_write"].clone()
    };
    assert_eq!(
        (own(&explained, "Web1/Acme"), own(&explained, "Web2/Acme")),
        (json!("included"), json!("unknown"))
    );
    acme.fault("Web1", json!("refuse"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert_eq!(explain()["server"], "Web2/Acme");
    let text = icm_cli(&[
        "explain",
        "--admin",
        &format!("http://{}", icm.admin),
        "--cookie",
        &cookie,
        "/c.nsf?Open",
    ]);
    assert!(text.out.contains("own write Web1/Acme, 20"), "{}", text.out);
    assert!(text.out.contains("own write: unknown"), "{}", text.out);
}

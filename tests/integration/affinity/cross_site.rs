//! Requests from another site lack the affinity cookie. The response must not overwrite it, and a login that arrives this way
//! must lead back to its server.

use std::time::Duration;

use crate::support::*;
use serde_yaml::Value;

const SCENARIO: &str = "
servers: [ { name: Web1/Acme }, { name: Web2/Acme }, { name: Web3/Acme }, { name: Web4/Acme } ]
users: { Jane Doe/Acme: secret }
databases:
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: all }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: a.nsf, replica_id: C1257A000041D2E0, replicas: all, login: true }
  - { path: b.nsf, replica_id: C1257A000041D2E1, replicas: all }
  - { path: app.nsf, replica_id: C1257A000041D2E3, replicas: all }
";

const CROSS: (&str, &str) = ("Sec-Fetch-Site", "cross-site");
const NAVIGATE: (&str, &str) = ("Sec-Fetch-Mode", "navigate");
const DOCUMENT: (&str, &str) = ("Sec-Fetch-Dest", "document");
const IDP: (&str, &str) = ("Origin", "https://idp.example");

fn start(extra: &str, change: impl FnOnce(&Acme, &mut Value)) -> (Acme, Icm) {
    start_with_equal_indexes(&format!("{SCENARIO}{extra}"), change)
}

/// Sends a request to which the browser adds only the cookies in `sent`.
fn ask(browser: &mut Browser, request: (&str, &str, &str), fields: &[(&str, &str)], sent: &[&str]) -> Answer {
    let (method, target, body) = request;
    let all = browser.cookies.clone();
    browser.cookies.retain(|name, _| sent.iter().any(|sent| name.starts_with(sent)));
    let before = browser.cookies.clone();
    let mut headers = fields.to_vec();
    if method == "POST" {
        headers.push(("Content-Type", "application/x-www-form-urlencoded"));
    }
    let answer = browser.request(method, target, &headers, body.as_bytes());
    let gone: Vec<_> = before.keys().filter(|name| !browser.cookies.contains_key(*name)).cloned().collect();
    let set = std::mem::replace(&mut browser.cookies, all);
    browser.cookies.extend(set);
    browser.cookies.retain(|name, _| !gone.contains(name));
    answer
}

/// Posts a form from a page of another site: the browser adds no cookie.
fn post_from_elsewhere(browser: &mut Browser, target: &str, body: &str) -> Answer {
    ask(browser, ("POST", target, body), &[CROSS, NAVIGATE, DOCUMENT, IDP], &[])
}

const SAML: &str = "SAMLResponse=x&Username=Jane+Doe&Password=secret&RelayState=%2Fa.nsf%2Fv%3FOpenView";

/// A user with affinity to Web1 for these pages, whose login arrived at another server. Selection is random, so it tries several.
fn login_arrived_elsewhere(icm: &Icm, pages: &[&str], message: &str) -> (Browser, Answer) {
    let mut found = None;
    let is_elsewhere = eventually(Duration::from_secs(60), || {
        let mut browser = Browser::on(icm.address, pages[0], "Web1");
        assert!(pages.iter().all(|page| browser.get(page).server() == "Web1/Acme"));
        let answer = post_from_elsewhere(&mut browser, "/names.nsf?SAMLLogin", message);
        assert_eq!(answer.status, 302, "{}", answer.head);
        if answer.server() != "Web1/Acme" {
            found = Some((browser, answer));
        }
        found.is_some()
    });
    assert!(is_elsewhere, "every login arrives at Web1");
    found.unwrap()
}

fn logged_in_elsewhere(icm: &Icm) -> (Browser, Answer) {
    let (browser, answer) = login_arrived_elsewhere(icm, &["/a.nsf?Open"], SAML);
    assert_eq!(answer.header("location"), Some("/a.nsf/v?OpenView"));
    (browser, answer)
}

fn set_cookie_names(answer: &Answer) -> Vec<&str> {
    let names = answer.all("set-cookie").into_iter().map(|c| c.split('=').next().unwrap());
    names.filter(|name| name.starts_with("ICM")).collect()
}

#[test]
fn a_form_from_another_site_moves_no_user_off_an_available_server() {
    let (_acme, icm) = start("", |_, _| {});
    let cases: [&[(&str, &str)]; 4] =
        [&[CROSS, NAVIGATE, DOCUMENT, IDP], &[CROSS], &[IDP], &[("Origin", "null")]];
    for (n, fields) in (0..8).zip(cases.iter().cycle()) {
        let mut browser = Browser::new(icm.address);
        let home = browser.server_of("/b.nsf?Open");
        for _ in 0..6 {
            let answer = ask(&mut browser, ("POST", "/b.nsf/f?CreateDocument", "x=1"), fields, &[]);
            assert_eq!((answer.status, set_cookie_names(&answer)), (200, vec![]), "user {n}");
            let framed = [CROSS, NAVIGATE, ("Sec-Fetch-Dest", "iframe")];
            assert_eq!(
                set_cookie_names(&ask(&mut browser, ("GET", "/b.nsf?Open", ""), &framed, &[])),
                [""; 0]
            );
        }
        for _ in 0..3 {
            assert_eq!(browser.server_of("/b.nsf/v?OpenView"), home, "user {n}");
        }
    }
}

#[test]
fn a_request_that_could_carry_the_cookie_gets_one() {
    let (_acme, icm) = start("", |_, _| {});
    let own = format!("http://{}", icm.address);
    let link: &[(&str, &str)] = &[CROSS, NAVIGATE, DOCUMENT];
    for fields in [link, &[], &[("Sec-Fetch-Site", "none")], &[("Sec-Fetch-Site", "same-site"), IDP]] {
        let mut browser = Browser::new(icm.address);
        let answer = ask(&mut browser, ("GET", "/b.nsf?Open", ""), fields, &[]);
        assert_eq!(set_cookie_names(&answer), ["ICM"], "{fields:?}");
    }
    let post = |fields: &[(&str, &str)], browser: &mut Browser, sent: &[&str]| {
        let answer = ask(browser, ("POST", "/b.nsf/f?CreateDocument", "x=1"), fields, sent);
        set_cookie_names(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let both = ["ICM", "ICM-write"];
    assert_eq!(post(&[("Origin", &own)], &mut Browser::new(icm.address), &[]), both);
    // The request carried the cookie, so the Sec-Fetch headers do not matter.
    let mut browser = Browser::new(icm.address);
    browser.get("/app.nsf?Open");
    assert_eq!(post(&[CROSS, IDP], &mut browser, &["ICM"]), both);
}

#[test]
fn a_login_from_another_site_leads_to_its_server_and_does_not_loop() {
    let (_acme, icm) = start("", |_, _| {});
    let (mut browser, posted) = logged_in_elsewhere(&icm);
    assert_eq!(set_cookie_names(&posted), ["ICM-login"]);
    let cookie =
        posted.all("set-cookie").into_iter().find(|c| c.starts_with("ICM-login=")).unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(browser.cookies.len(), 3, "{:?}", browser.cookies);
    // Another database keeps its server.
    let mut other = Browser::new(icm.address).with_cookies_of(&browser);
    let answer = other.get("/app.nsf?Open");
    assert_eq!(set_cookie_names(&answer), ["ICM", "ICM-login"]);
    // The redirect from the other site's page is a top-level GET.
    let page =
        ask(&mut browser, ("GET", "/a.nsf/v?OpenView", ""), &[CROSS, NAVIGATE, DOCUMENT], &["ICM", "Dom"]);
    assert!(page.is_logged_in(), "{}", page.text());
    assert_eq!((page.server(), set_cookie_names(&page)), (posted.server(), vec!["ICM", "ICM-login"]));
    assert!(!browser.cookies.contains_key("ICM-login"), "used and deleted");
    for _ in 0..5 {
        let page = browser.get("/a.nsf/v?OpenView");
        assert_eq!((page.server(), page.is_logged_in()), (posted.server(), true));
    }
    let page = other.get("/a.nsf/v?OpenView");
    assert_eq!((page.server(), page.is_logged_in()), (posted.server(), true));
}

#[test]
fn a_login_without_a_known_page_counts_for_the_next_database_only() {
    let (_acme, icm) = start("", |_, _| {});
    let to_root = SAML.replace("%2Fa.nsf%2Fv%3FOpenView", "%2F");
    let (mut browser, posted) = login_arrived_elsewhere(&icm, &["/b.nsf?Open", "/a.nsf?Open"], &to_root);
    assert_eq!(browser.get("/").server(), posted.server());
    let page = browser.get("/a.nsf/v?OpenView");
    assert_eq!((page.server(), page.is_logged_in()), (posted.server(), true));
    assert_eq!(browser.server_of("/b.nsf?Open"), "Web1/Acme", "other databases keep their server");
    assert_eq!(browser.get("/a.nsf/v?OpenView").server(), posted.server());
}

#[test]
fn a_same_site_strict_cookie_is_not_overwritten_after_the_login() {
    let strict = |_: &Acme, config: &mut Value| set(config, "clusters.0.affinity.same_site", "strict");
    let (_acme, icm) = start("", strict);
    let (mut browser, posted) = logged_in_elsewhere(&icm);
    let before = browser.icm().unwrap().to_owned();
    // A browser sends no strict cookie along the whole chain of redirects.
    let link = [CROSS, NAVIGATE, DOCUMENT];
    let page = ask(&mut browser, ("GET", "/a.nsf/v?OpenView", ""), &link, &["ICM-login", "Dom"]);
    assert!(page.is_logged_in(), "{}", page.text());
    assert_eq!((page.server(), set_cookie_names(&page)), (posted.server(), vec![]));
    assert_eq!(browser.icm(), Some(&*before));
    let page = browser.get_with("/a.nsf/v?OpenView", ("Sec-Fetch-Site", "same-origin"));
    assert_eq!((page.server(), set_cookie_names(&page)), (posted.server(), vec!["ICM", "ICM-login"]));
    let set = page.all("set-cookie").into_iter().find(|c| c.starts_with("ICM=")).unwrap().to_owned();
    assert!(set.ends_with("SameSite=Strict"), "{set}");
    // A link from another site, recognized by Sec-Fetch headers or else by its Referer.
    for fields in [&link[..], &[("Referer", "http://elsewhere.example/")]] {
        assert_eq!(set_cookie_names(&ask(&mut browser, ("GET", "/b.nsf?Open", ""), fields, &[])), [""; 0]);
    }
}

#[test]
fn a_login_with_single_sign_on_moves_no_user() {
    let (_acme, icm) = start("sso: true\n", |_, _| {});
    let (mut browser, posted) = logged_in_elsewhere(&icm);
    assert_eq!(set_cookie_names(&posted), [""; 0]);
    let page = browser.get("/a.nsf/v?OpenView");
    assert_eq!((page.server(), page.is_logged_in()), ("Web1/Acme", true));
}

#[test]
fn a_login_whose_server_is_unreachable_leaves_the_user_at_the_former_server() {
    let (acme, icm) = start("", |_, _| {});
    let (mut browser, posted) = logged_in_elsewhere(&icm);
    let dead = posted.server().split('/').next().unwrap().to_owned();
    acme.fault(&dead, serde_json::json!("refuse"));
    icm.wait_for_server(&dead, "UNREACHABLE", |s| s["state"] == "UNREACHABLE");
    let page = browser.get("/a.nsf/v?OpenView");
    assert_eq!(page.server(), "Web1/Acme");
    assert!(!browser.cookies.contains_key("ICM-login"));
}

#[test]
fn the_login_cookie_is_signed_is_no_affinity_cookie_and_reaches_no_server() {
    let (acme, icm) = start("", |_, _| {});
    let (browser, posted) = logged_in_elsewhere(&icm);
    let login = browser.cookies["ICM-login"].clone();
    let affinity = browser.icm().unwrap().to_owned();
    let mut flipped = login.clone().into_bytes();
    flipped[5] = if flipped[5] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for (name, value) in [("ICM-login", &flipped), ("ICM-login", &affinity), ("ICM", &login)] {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..24 {
            let cookie = format!("{name}={value}");
            seen.insert(icm.client().get_with("/b.nsf?Open", &[("Cookie", &cookie)]).server().to_owned());
        }
        assert!(seen.len() > 1, "{name} binds to {seen:?}");
    }
    let mut browser = browser;
    browser.get("/a.nsf/only-here?Open");
    let server = posted.server().split('/').next().unwrap();
    let all = acme.requests(server);
    let request = all.iter().find(|r| r["target"] == "/a.nsf/only-here?Open").unwrap().to_string();
    assert!(!request.contains("ICM-login") && request.contains("DomAuthSessId="), "{request}");
}

#[test]
fn a_same_site_none_cookie_is_secure_and_becomes_lax_without_tls() {
    let mut tls = None;
    let (acme, icm) = start("", |acme, config| {
        set(config, "clusters.0.affinity.same_site", "none");
        tls = Some(add_tls(config, acme));
    });
    let attributes = |answer: &Answer| {
        answer
            .all("set-cookie")
            .iter()
            .find(|c| c.starts_with("ICM="))
            .map(|c| c.split_once("; ").unwrap().1.to_owned())
    };
    let mut client = Client::tls(wait_for(tls.unwrap()), "localhost", &acme.ca_file);
    let framed = [CROSS, NAVIGATE, ("Sec-Fetch-Dest", "iframe")];
    let answer = client.get_with("/b.nsf?Open", &framed);
    assert_eq!(attributes(&answer).as_deref(), Some("Path=/; HttpOnly; Secure; SameSite=None"));
    assert_eq!(
        attributes(&client.post("/b.nsf/f?Open", &framed, "x=1")).as_deref(),
        Some("Path=/; HttpOnly; Secure; SameSite=None")
    );
    assert_eq!(
        attributes(&icm.client().get("/b.nsf?Open")).as_deref(),
        Some("Path=/; HttpOnly; SameSite=Lax")
    );
    assert_eq!(attributes(&icm.client().get_with("/b.nsf?Open", &framed)), None);
}

#[test]
fn an_xhtml_page_gets_the_cookie_like_html() {
    let answer = |kind: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    };
    let server = FixedResponseServer::new(&answer("application/xhtml+xml; charset=utf-8"));
    let icm = Icm::start(server.config());
    assert_eq!(set_cookie_names(&icm.client().get("/x.nsf?Open")), ["ICM"]);
    server.say(&answer("application/xml"));
    assert_eq!(set_cookie_names(&icm.client().get("/x.nsf?Open")), [""; 0]);
}

#[test]
fn a_login_by_link_sets_the_affinity_cookie_and_one_by_form_the_login_cookie() {
    let say = |status: &str, fields: &str| {
        format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n")
    };
    let login = "Location: /a.nsf/v?OpenView\r\nSet-Cookie: DomAuthSessId=x; path=/\r\n";
    let server = FixedResponseServer::new(&say("302 Found", login));
    let icm = Icm::start(server.config());
    let link = [CROSS, NAVIGATE, DOCUMENT];
    let ask = |method: &str, target: &str| {
        let answer = icm.client().request(method, target, &link, b"").unwrap();
        set_cookie_names(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // OIDC: a link that carries cookies. SAML: a form that does not.
    assert_eq!(ask("GET", "/auth/protocol/oidc?code=1"), ["ICM"]);
    assert_eq!(ask("POST", "/names.nsf?SAMLLogin"), ["ICM-login"]);
    // A session without a redirect needs no affinity entry: sessions of several servers coexist.
    server.say(&say("200 OK", "Set-Cookie: SessionID=x; path=/\r\n"));
    assert_eq!(ask("GET", "/a.nsf/data?Open"), [""; 0]);
    assert_eq!(ask("POST", "/a.nsf/data?Open"), ["ICM-login"]);
    for gone in ["DomAuthSessId=; path=/", "SessionID=x; Max-Age=0", "LtpaToken=x; path=/", "Shop=1"] {
        server.say(&say("302 Found", &format!("Location: /a.nsf\r\nSet-Cookie: {gone}\r\n")));
        assert_eq!(ask("POST", "/a.nsf/data?Open"), [""; 0], "{gone}");
    }
}

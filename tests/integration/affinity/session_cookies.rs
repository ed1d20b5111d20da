//! Session cookies on their way between browser and servers: names, styles, several `Cookie` lines, hostile values.

use std::collections::BTreeSet;

use super::sessions::{SCENARIO, start};
use crate::support::*;
use serde_json::{Value as Json, json};
use serde_yaml::Value;

#[test]
fn the_attributes_of_a_session_cookie_are_not_changed() {
    let server = FixedResponseServer::new(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\
         Set-Cookie: domauthsessid=a=b; path=/; Expires=Wed, 22 Nov 2034 05:07:38 GMT; HttpOnly; X-Odd\r\n\
         Set-Cookie: SessionID=v; Max-Age=0;Path=/app.nsf\r\n\
         Set-Cookie: LtpaToken=t; path=/\r\nSet-Cookie: Shop=1\r\n\r\nok",
    );
    let acme = Acme::start(SCENARIO);
    let mut config = config(&acme);
    let servers =
        format!("[{{ name: Web1/Acme, hostname: web1.acme.example, http: \"{}\" }}]", server.address);
    set(&mut config, "clusters.0.servers.list", &servers);
    set(&mut config, "clusters.0.directory", "{ source: static, databases: [] }");
    let icm = Icm::start(config);
    let answer = icm.client().get("/app.nsf/home.xsp");
    let set: Vec<_> = answer.all("set-cookie").into_iter().filter(|c| !c.starts_with("ICM=")).collect();
    let tag = &set[0]["domauthsessid~".len()..][..8];
    assert_eq!(
        set,
        [
            &format!(
                "domauthsessid~{tag}=a=b; path=/; Expires=Wed, 22 Nov 2034 05:07:38 GMT; HttpOnly; X-Odd"
            ),
            &format!("SessionID~{tag}.8=v; Max-Age=0;Path=/app.nsf"),
            "LtpaToken=t; path=/",
            "Shop=1",
        ]
    );
}

#[test]
fn a_cookie_with_dominos_unique_name_goes_to_its_server_alone_and_leads_there() {
    let (acme, icm) = start("unique_cookie_names: true\n", |_, _| {});
    let mut browser = Browser::new(icm.address);
    let server_of_b = browser.log_in_for("/b.nsf?OpenDatabase");
    browser.log_in_for("/c.nsf?OpenDatabase");
    let names = browser.sessions();
    assert!(names.len() == 2 && names.iter().all(|n| n.len() == 24 && !n.contains('~')), "{names:?}");
    browser.get("/c.nsf/one?Open");
    assert_eq!(acme.cookies_at("Web3", "/c.nsf/one?Open").matches("DomAuthSessId").count(), 1);
    // Without the affinity cookie the session leads to its server.
    browser.cookies.remove("ICM");
    for _ in 0..5 {
        let mut again = Browser::new(icm.address).with_cookies_of(&browser);
        let page = again.get("/b.nsf?OpenDatabase");
        assert_eq!((page.server(), page.is_logged_in()), (&*server_of_b, true));
    }
    browser.get("/names.nsf?Logout");
    assert!(browser.sessions().is_empty(), "{:?}", browser.cookies);
}

#[test]
fn without_affinity_cookies_pass_unchanged() {
    let (acme, icm) = start("", |_, config| set(config, "clusters.0.affinity.mode", "off"));
    let mut browser = Browser::new(icm.address);
    browser.cookies.insert("DomAuthSessId~0f3a9c21".into(), "x".into());
    browser.cookies.insert("ICM".into(), "of-the-application".into());
    browser.log_in("/c.nsf?OpenDatabase");
    assert!(browser.cookies.contains_key("DomAuthSessId"));
    browser.get("/c.nsf/one?Open");
    let line = acme.cookies_at("Web3", "/c.nsf/one?Open");
    assert!(line.contains("DomAuthSessId~0f3a9c21=x") && line.contains("ICM=of-the-application"), "{line}");
}

#[test]
fn session_cookie_names_are_configurable_and_case_insensitive() {
    let names = "[SESSIONid, My.Own]";
    let (_acme, icm) = start("", |_, config| set(config, "clusters.0.affinity.session_cookies", names));
    let mut browser = Browser::new(icm.address);
    browser.log_in_for("/c.nsf?OpenDatabase");
    browser.get("/app.nsf/home.xsp");
    let names = browser.sessions();
    assert!(
        names.contains("DomAuthSessId") && names.iter().any(|n| n.starts_with("SessionID~")),
        "{names:?}"
    );
    assert!(!icm.log().contains("has no effect"), "{}", icm.log());
}

#[test]
fn several_cookie_lines_are_all_read_and_joined_into_one() {
    let (acme, icm) = start("", |_, _| {});
    let mut browser = Browser::on(icm.address, "/app.nsf/home.xsp", "Web2");
    let lines: Vec<String> = browser.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let own = browser.get("/app.nsf/home.xsp?Open&echo=json").json();
    assert_eq!(own["xpages_state"], "known");
    let mut headers = vec![("Cookie", "first=1; x")];
    headers.extend(lines.iter().map(|l| ("Cookie", l.as_str())));
    headers.push(("Cookie", "last=2"));
    for _ in 0..5 {
        let answer = icm.client().get_with("/app.nsf/lines.xsp?Open&echo=json", &headers);
        assert_eq!((answer.server(), &answer.json()["xpages_state"]), ("Web2/Acme", &"known".into()));
    }
    let line = acme.cookies_at("Web2", "/app.nsf/lines.xsp?Open&echo=json");
    assert!(line.starts_with("first=1; x; SessionID=") && line.ends_with("; last=2"), "{line}");
    assert!(!line.contains("ICM="), "{line}");
}

#[test]
fn long_hostile_cookies_are_served_normally() {
    let (acme, icm) = start("", |_, config| set(config, "limits.header_bytes", "70KiB"));
    let size = 60_000;
    for piece in
        [";", "; ", "ICM=x;", "DomAuthSessId~0f3a9c21=1;", "DomAuthSessId=;", "SessionID~", "=;", "a=1;"]
    {
        let line = piece.repeat(size / piece.len());
        let answer = icm.client().get_with("/app.nsf/hostile?Open", &[("Cookie", &line)]);
        assert_eq!(answer.status, 200, "{piece}: {}", answer.head);
    }
    let browser = Browser::on(icm.address, "/app.nsf/home.xsp", "Web1");
    let own = format!("ICM={}; ", browser.icm().unwrap());
    let answer = icm.client().get_with("/app.nsf/hostile?Open", &[("Cookie", &own.repeat(size / own.len()))]);
    assert_eq!((answer.status, answer.server()), (200, "Web1/Acme"));
    assert_eq!(acme.cookies_at("Web1", "/app.nsf/hostile?Open"), "");
}

#[test]
fn the_split_cookie_fields_of_http_2_are_joined_into_one_line() {
    let (acme, icm) = start("", |acme, config| {
        set(config, "listeners.0.tls.certificates", &format!("[{}]", acme.certificate()));
    });
    let client = h2_client(&acme);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("https://{}/app.nsf/crumbs.xsp?Open&echo=json", icm.address);
    let ask = |cookies: &[String]| -> (Vec<String>, Json) {
        let request = cookies.iter().fold(client.get(&url), |request, c| request.header("cookie", c));
        runtime.block_on(async {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.version(), reqwest::Version::HTTP_2);
            let set = answer.headers().get_all("set-cookie").iter().map(|v| v.to_str().unwrap());
            let set = set.map(|c| c.split(';').next().unwrap().to_owned()).collect();
            (set, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
        })
    };
    let (session, first) = ask(&[]);
    assert_eq!((session.len(), &first["xpages_state"]), (1, &json!("new")), "{session:?}");
    let fields = [&["first=1".to_owned()], &*session, &["last=2".to_owned()]].concat();
    for _ in 0..5 {
        let (_, page) = ask(&fields);
        assert_eq!((&page["server"], &page["xpages_state"]), (&first["server"], &json!("known")));
    }
    let server = first["server"].as_str().unwrap().split('/').next().unwrap();
    let line = acme.cookies_at(server, "/app.nsf/crumbs.xsp?Open&echo=json");
    let plain = session[0].split_once('=').unwrap().1;
    assert_eq!(line, format!("first=1; SessionID={plain}; last=2"));
}

#[test]
fn with_style_value_a_session_keeps_its_name_and_goes_to_its_server_alone() {
    let style = |_: &Acme, config: &mut Value| {
        set(config, "clusters.0.affinity.session_cookie_style", "value");
    };
    let (acme, icm) = start("", style);
    let mut browser = Browser::new(icm.address);
    let server_of_b = browser.log_in_for("/b.nsf?OpenDatabase");
    assert_eq!(browser.sessions(), BTreeSet::from(["DomAuthSessId"]));
    let value = browser.cookies["DomAuthSessId"].clone();
    let (tag, own) = value.split_once('~').unwrap();
    assert!(tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{value}");
    browser.get("/b.nsf/one?Open");
    let server = server_of_b.split('/').next().unwrap();
    assert_eq!(acme.cookies_at(server, "/b.nsf/one?Open"), format!("DomAuthSessId={own}"));
    assert!(!browser.get("/c.nsf/foreign?Open").is_logged_in());
    assert_eq!(acme.cookies_at("Web3", "/c.nsf/foreign?Open"), "", "no other server receives it");
    // A session without a tag may belong to any server.
    let mut old = Browser::new(icm.address);
    old.cookies.insert("DomAuthSessId".into(), "0123456789ABCDEF".into());
    old.get("/c.nsf/old?Open");
    assert_eq!(acme.cookies_at("Web3", "/c.nsf/old?Open"), "DomAuthSessId=0123456789ABCDEF");
    // The session leads to its server without the affinity cookie.
    browser.cookies.remove("ICM");
    for _ in 0..6 {
        let page = Browser::new(icm.address).with_cookies_of(&browser).get("/b.nsf/v?OpenView");
        assert_eq!((page.server(), page.is_logged_in()), (&*server_of_b, true));
    }
    // When the server deletes its session, the browser's cookie is deleted.
    let answer = browser.get("/names.nsf?Logout");
    assert!(answer.all("set-cookie").iter().any(|c| c.starts_with("DomAuthSessId=;")), "{}", answer.head);
    assert!(browser.sessions().is_empty(), "{:?}", browser.cookies);
    assert!(!browser.get("/b.nsf/v?OpenView").is_logged_in());
}

#[test]
fn with_style_value_a_logout_at_any_server_ends_the_session() {
    let style = |_: &Acme, config: &mut Value| {
        set(config, "clusters.0.affinity.session_cookie_style", "value");
    };
    let (_acme, icm) = start("", style);
    let mut browser = Browser::on(icm.address, "/app.nsf/home.xsp", "Web1");
    browser.log_in_for("/c.nsf?OpenDatabase");
    assert_eq!(browser.sessions(), BTreeSet::from(["DomAuthSessId", "SessionID"]));
    browser.get("/c.nsf?Logout");
    assert!(browser.sessions().is_empty(), "{:?}", browser.cookies);
}

#[test]
fn the_style_can_be_changed_while_users_are_logged_in() {
    for (before, after) in [("name", "value"), ("value", "name")] {
        let acme = Acme::start(SCENARIO);
        let mut config = config_with_equal_indexes(&acme);
        set(&mut config, "clusters.0.affinity.session_cookie_style", before);
        let icm = Icm::start(config.clone());
        let mut browser = Browser::new(icm.address);
        browser.log_in_for("/c.nsf?OpenDatabase");
        set(&mut config, "clusters.0.affinity.session_cookie_style", after);
        icm.reload(&config);
        assert!(browser.get("/c.nsf/v?OpenView").is_logged_in(), "{before} to {after}");
    }
}

//! Logins at several servers in one browser: they live side by side, end together, and lead back to their servers.

use std::collections::BTreeSet;

use crate::support::*;
use serde_json::{Value as Json, json};
use serde_yaml::Value;

/// a on all, b on Web1 and Web2, c on Web3 alone, all behind a login; an XPages application on all, free for all.
const SCENARIO: &str = "
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

fn start(extra: &str, change: impl FnOnce(&Acme, &mut Value)) -> (Acme, Icm) {
    start_with_equal_indexes(&format!("{SCENARIO}{extra}"), change)
}

/// Logs in for a URL, as a person would: the form, then the page. Out: the server.
fn log_in(browser: &mut Browser, url: &str) -> String {
    let form = browser.get(url);
    assert!(form.text().contains("Server Login"), "{}", form.text());
    let answer = browser.log_in(url);
    assert_eq!((answer.status, answer.header("location")), (302, Some(url)), "{}", answer.text());
    assert_eq!(answer.server(), form.server(), "posted to the server that showed it");
    let page = browser.get(url);
    assert!(is_logged_in(&page), "{}", page.text());
    assert_eq!(page.server(), form.server());
    page.server().to_owned()
}

fn is_logged_in(page: &Answer) -> bool {
    page.status == 200 && !page.text().contains("Server Login")
}

/// The one Cookie line that a server got with the request for this target, which no other request has.
fn cookies_at(acme: &Acme, server: &str, target: &str) -> String {
    let all = acme.requests(server);
    let request = all.iter().rev().find(|r| r["target"] == target);
    let request = request.unwrap_or_else(|| panic!("{server} never saw {target}"));
    let is_cookie = |h: &&Json| h[0].as_str().unwrap().eq_ignore_ascii_case("cookie");
    let lines: Vec<_> = request["headers"].as_array().unwrap().iter().filter(is_cookie).collect();
    assert!(lines.len() <= 1, "{lines:?}");
    lines.first().map(|h| h[1].as_str().unwrap().to_owned()).unwrap_or_default()
}

fn sessions(browser: &Browser) -> BTreeSet<&str> {
    browser.cookies.keys().filter(|n| n.to_lowercase().contains("sess")).map(String::as_str).collect()
}

#[test]
fn logins_at_several_servers_live_side_by_side_and_each_server_sees_its_own() {
    let (acme, icm) = start("", |_, _| {});
    let mut browser = Browser::new(icm.address);
    let of_b = log_in(&mut browser, "/b.nsf?OpenDatabase");
    assert_eq!(log_in(&mut browser, "/c.nsf?OpenDatabase"), "Web3/Acme");
    browser.cookies.insert("LtpaToken".into(), "everybodys".into());
    for _ in 0..5 {
        assert!(is_logged_in(&browser.get("/b.nsf/v?OpenView")));
        assert!(is_logged_in(&browser.get("/c.nsf/v?OpenView")));
    }
    let names = sessions(&browser);
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        let tag = name.strip_prefix("DomAuthSessId~").unwrap_or_else(|| panic!("{name}"));
        assert!(tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
    for (server, target) in [(&*of_b, "/b.nsf/v?OpenView"), ("Web3/Acme", "/c.nsf/v?OpenView")] {
        let line = cookies_at(&acme, server.split('/').next().unwrap(), target);
        let sent: Vec<&str> = line.split("; ").map(|pair| pair.split('=').next().unwrap()).collect();
        assert_eq!(sent, ["DomAuthSessId", "LtpaToken"], "{line}");
        assert!(names.iter().any(|n| line.contains(&browser.cookies[*n])), "{line}");
    }
}

#[test]
fn an_attribute_of_a_session_cookie_stays_as_the_server_wrote_it() {
    let server = FixedResponseServer::new(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\
         Set-Cookie: domauthsessid=a=b; path=/; Expires=Wed, 22 Nov 2034 05:07:38 GMT; HttpOnly; X-Odd\r\n\
         Set-Cookie: SessionID=v; Max-Age=0;Path=/app.nsf\r\n\
         Set-Cookie: LtpaToken=t; path=/\r\nSet-Cookie: Shop=1\r\n\r\nok",
    );
    let acme = Acme::start(SCENARIO);
    let mut config = config(&acme);
    let member =
        format!("[{{ name: Web1/Acme, hostname: web1.acme.example, http: \"{}\" }}]", server.address);
    set(&mut config, "clusters.0.servers.list", &member);
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
fn an_isolated_session_leads_to_its_server_without_any_other_cookie() {
    let (_acme, icm) = start("", |_, _| {});
    for server in ["Web1", "Web2", "Web3"] {
        let mut browser = Browser::on(icm.address, "/app.nsf/home.xsp", server);
        assert!(browser.cookies.remove("ICM").is_some());
        assert_eq!(sessions(&browser).len(), 1, "{:?}", browser.cookies);
        for target in ["/a.nsf?OpenDatabase", "/app.nsf/home.xsp", "/icons/x.gif", "/unknown.nsf?Open"] {
            for _ in 0..4 {
                let answer = Browser::new(icm.address).with_cookies_of(&browser).get(target);
                assert!(answer.server().starts_with(server), "{target} by {}", answer.server());
            }
        }
    }
}

#[test]
fn a_view_state_is_never_lost_between_two_servers() {
    let (acme, icm) = start("", |_, _| {});
    let mut browser = Browser::on(icm.address, "/app.nsf/home.xsp", "Web1");
    let state = |browser: &mut Browser| {
        browser.get("/app.nsf/home.xsp?Open&echo=json").json()["xpages_state"].clone()
    };
    assert_eq!(state(&mut browser), "known");
    acme.fault("Web1", json!("refuse"));
    assert_eq!(state(&mut browser), "new", "the other server is not asked for a state of Web1");
    acme.heal("Web1");
}

#[test]
fn a_session_from_before_the_balancer_is_passed_on_until_the_server_gives_another() {
    let (acme, icm) = start("", |_, _| {});
    let mut browser = Browser::new(icm.address);
    browser.cookies.insert("DomAuthSessId".into(), "old".into());
    browser.cookies.insert("SessionID".into(), "old".into());
    browser.get("/c.nsf/before?Open");
    assert_eq!(cookies_at(&acme, "Web3", "/c.nsf/before?Open"), "DomAuthSessId=old; SessionID=old");
    log_in(&mut browser, "/c.nsf?OpenDatabase");
    browser.get("/c.nsf/after?Open");
    let line = cookies_at(&acme, "Web3", "/c.nsf/after?Open");
    assert_eq!(line.matches("DomAuthSessId=").count(), 1, "{line}");
    assert!(!line.contains("DomAuthSessId=old") && line.contains("SessionID=old"), "{line}");
    let of_b = browser.get("/b.nsf/there?Open").server().split('/').next().unwrap().to_owned();
    assert!(cookies_at(&acme, &of_b, "/b.nsf/there?Open").contains("DomAuthSessId=old"), "its own it may be");
}

#[test]
fn a_logout_ends_the_sessions_at_all_servers() {
    let (_acme, icm) = start("", |_, _| {});
    let mut browser = Browser::new(icm.address);
    log_in(&mut browser, "/b.nsf?OpenDatabase");
    log_in(&mut browser, "/c.nsf?OpenDatabase");
    browser.get("/app.nsf/home.xsp");
    browser.cookies.insert("DomAuthSessId".into(), "old".into());
    browser.cookies.insert("DomAuthSessIdABCDEFGHIJK".into(), "unique".into());
    browser.cookies.insert("Shop".into(), "1".into());
    let before: BTreeSet<String> = sessions(&browser).into_iter().map(str::to_owned).collect();
    assert_eq!(before.len(), 5, "{before:?}");
    let answer = browser.get("/names.nsf?Logout&RedirectTo=/");
    assert_eq!(answer.status, 302);
    let mut gone: BTreeSet<String> =
        answer.all("set-cookie").iter().map(|c| c.split('=').next().unwrap().to_owned()).collect();
    gone.remove("ICM");
    assert_eq!(gone, before, "each of them, and nothing else");
    for cookie in answer.all("set-cookie").iter().filter(|c| c.contains("Max-Age")) {
        assert!(cookie.contains("=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), "{cookie}");
    }
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["ICM", "Shop"]);
    for target in ["/b.nsf?OpenDatabase", "/c.nsf?OpenDatabase"] {
        assert!(!is_logged_in(&browser.get(target)));
    }
}

#[test]
fn a_cookie_that_domino_made_unique_is_its_owners_alone_and_leads_there() {
    let (acme, icm) = start("unique_cookie_names: true\n", |_, _| {});
    let mut browser = Browser::new(icm.address);
    let of_b = log_in(&mut browser, "/b.nsf?OpenDatabase");
    log_in(&mut browser, "/c.nsf?OpenDatabase");
    let names = sessions(&browser);
    assert!(names.len() == 2 && names.iter().all(|n| n.len() == 24 && !n.contains('~')), "{names:?}");
    browser.get("/c.nsf/one?Open");
    assert_eq!(cookies_at(&acme, "Web3", "/c.nsf/one?Open").matches("DomAuthSessId").count(), 1);
    // Without our own cookie the login says where the user belongs.
    browser.cookies.remove("ICM");
    for _ in 0..5 {
        let mut again = Browser::new(icm.address).with_cookies_of(&browser);
        let page = again.get("/b.nsf?OpenDatabase");
        assert_eq!((page.server(), is_logged_in(&page)), (&*of_b, true));
    }
    browser.get("/names.nsf?Logout");
    assert!(sessions(&browser).is_empty(), "{:?}", browser.cookies);
}

#[test]
fn without_affinity_cookies_pass_as_they_are() {
    let (acme, icm) = start("", |_, config| set(config, "clusters.0.affinity.mode", "off"));
    let mut browser = Browser::new(icm.address);
    browser.cookies.insert("DomAuthSessId~0f3a9c21".into(), "x".into());
    browser.cookies.insert("ICM".into(), "of-the-application".into());
    browser.log_in("/c.nsf?OpenDatabase");
    assert!(browser.cookies.contains_key("DomAuthSessId"));
    browser.get("/c.nsf/one?Open");
    let line = cookies_at(&acme, "Web3", "/c.nsf/one?Open");
    assert!(line.contains("DomAuthSessId~0f3a9c21=x") && line.contains("ICM=of-the-application"), "{line}");
}

#[test]
fn the_names_are_configurable_and_without_regard_to_case() {
    let names = "[SESSIONid, My.Own]";
    let (_acme, icm) = start("", |_, config| set(config, "clusters.0.affinity.session_cookies", names));
    let mut browser = Browser::new(icm.address);
    log_in(&mut browser, "/c.nsf?OpenDatabase");
    browser.get("/app.nsf/home.xsp");
    let names = sessions(&browser);
    assert!(
        names.contains("DomAuthSessId") && names.iter().any(|n| n.starts_with("SessionID~")),
        "{names:?}"
    );
    assert!(!icm.log().contains("has no effect"), "{}", icm.log());
}

#[test]
fn clusters_behind_one_host_do_not_get_each_others_sessions() {
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
    log_in(&mut browser, "/c.nsf?OpenDatabase");
    log_in(&mut browser, "/d.nsf?OpenDatabase");
    assert_eq!(sessions(&browser).len(), 2, "Web3/Acme of either cluster: {:?}", browser.cookies);
    for (acme, target) in [(&one, "/c.nsf/one?Open"), (&two, "/d.nsf/one?Open")] {
        assert!(is_logged_in(&browser.get(target)));
        assert_eq!(cookies_at(acme, "Web3", target).matches('=').count(), 1);
    }
    browser.get("/names.nsf?Logout");
    assert!(sessions(&browser).is_empty());
}

#[test]
fn several_cookie_lines_become_one_and_all_of_them_are_read() {
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
    let line = cookies_at(&acme, "Web2", "/app.nsf/lines.xsp?Open&echo=json");
    assert!(line.starts_with("first=1; x; SessionID=") && line.ends_with("; last=2"), "{line}");
    assert!(!line.contains("ICM="), "{line}");
}

#[test]
fn hostile_cookies_are_only_long() {
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
    assert_eq!(cookies_at(&acme, "Web1", "/app.nsf/hostile?Open"), "");
}

#[test]
fn the_crumbs_of_http_2_become_one_line() {
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
    let crumbs = [&["first=1".to_owned()], &*session, &["last=2".to_owned()]].concat();
    for _ in 0..5 {
        let (_, page) = ask(&crumbs);
        assert_eq!((&page["server"], &page["xpages_state"]), (&first["server"], &json!("known")));
    }
    let server = first["server"].as_str().unwrap().split('/').next().unwrap();
    let line = cookies_at(&acme, server, "/app.nsf/crumbs.xsp?Open&echo=json");
    let plain = session[0].split_once('=').unwrap().1;
    assert_eq!(line, format!("first=1; SessionID={plain}; last=2"));
}

#[test]
fn a_login_after_a_failover_is_asked_for_once() {
    // Whether its server is known to be dead already or not.
    for known in [false, true] {
        let quiet = "{ interval: 1h, timeout: 1s, unreachable_after: 1000 }";
        let (acme, icm) = start("", |_, config| {
            if !known {
                set(config, "clusters.0.probe", quiet);
                set(config, "clusters.0.failover.passive_failures", "0");
            }
        });
        let mut browser = Browser::new(icm.address);
        log_in(&mut browser, "/c.nsf?OpenDatabase");
        let of_b = log_in(&mut browser, "/b.nsf?OpenDatabase");
        let dead = of_b.split('/').next().unwrap();
        acme.fault(dead, json!("refuse"));
        let form = browser.get("/b.nsf/v?OpenView");
        assert!(form.server() != of_b && !is_logged_in(&form), "{}", form.head);
        if known {
            icm.wait_for_server(dead, "UNREACHABLE", |s| s["state"] == "UNREACHABLE");
        }
        assert_eq!(browser.log_in("/b.nsf/v?OpenView").server(), form.server());
        assert!(is_logged_in(&browser.get("/b.nsf/v?OpenView")));
        assert!(is_logged_in(&browser.get("/c.nsf/v?OpenView")));
    }
}

/// Sends no form: the login's answer alone. Out: the answer.
fn post_login(browser: &mut Browser, redirect_to: &str) -> Answer {
    let form = format!("Username=Jane+Doe&Password=secret&RedirectTo={redirect_to}");
    browser.post("/names.nsf?Login", &form)
}

#[test]
fn in_the_style_value_a_session_keeps_its_name_and_goes_to_its_server_alone() {
    let style = |_: &Acme, config: &mut Value| {
        set(config, "clusters.0.affinity.session_cookie_style", "value");
    };
    let (acme, icm) = start("", style);
    let mut browser = Browser::new(icm.address);
    let of_b = log_in(&mut browser, "/b.nsf?OpenDatabase");
    assert_eq!(sessions(&browser), BTreeSet::from(["DomAuthSessId"]));
    let value = browser.cookies["DomAuthSessId"].clone();
    let (tag, own) = value.split_once('~').unwrap();
    assert!(tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{value}");
    browser.get("/b.nsf/one?Open");
    let server = of_b.split('/').next().unwrap();
    assert_eq!(cookies_at(&acme, server, "/b.nsf/one?Open"), format!("DomAuthSessId={own}"));
    assert!(!is_logged_in(&browser.get("/c.nsf/foreign?Open")));
    assert_eq!(cookies_at(&acme, "Web3", "/c.nsf/foreign?Open"), "", "nobody else's");
    // One without a tag may be anybody's.
    let mut old = Browser::new(icm.address);
    old.cookies.insert("DomAuthSessId".into(), "0123456789ABCDEF".into());
    old.get("/c.nsf/old?Open");
    assert_eq!(cookies_at(&acme, "Web3", "/c.nsf/old?Open"), "DomAuthSessId=0123456789ABCDEF");
    // It leads to its server without the affinity cookie.
    browser.cookies.remove("ICM");
    for _ in 0..6 {
        let page = Browser::new(icm.address).with_cookies_of(&browser).get("/b.nsf/v?OpenView");
        assert_eq!((page.server(), is_logged_in(&page)), (&*of_b, true));
    }
    // The server's own deletion is one for the browser, too.
    let answer = browser.get("/names.nsf?Logout");
    assert!(answer.all("set-cookie").iter().any(|c| c.starts_with("DomAuthSessId=;")), "{}", answer.head);
    assert!(sessions(&browser).is_empty(), "{:?}", browser.cookies);
    assert!(!is_logged_in(&browser.get("/b.nsf/v?OpenView")));
}

#[test]
fn in_the_style_value_a_logout_at_any_server_ends_the_session() {
    let style = |_: &Acme, config: &mut Value| {
        set(config, "clusters.0.affinity.session_cookie_style", "value");
    };
    let (_acme, icm) = start("", style);
    let mut browser = Browser::on(icm.address, "/app.nsf/home.xsp", "Web1");
    log_in(&mut browser, "/c.nsf?OpenDatabase");
    assert_eq!(sessions(&browser), BTreeSet::from(["DomAuthSessId", "SessionID"]));
    browser.get("/c.nsf?Logout");
    assert!(sessions(&browser).is_empty(), "{:?}", browser.cookies);
}

#[test]
fn the_style_can_be_changed_while_users_are_logged_in() {
    for (before, after) in [("name", "value"), ("value", "name")] {
        let acme = Acme::start(SCENARIO);
        let mut config = config_with_equal_indexes(&acme);
        set(&mut config, "clusters.0.affinity.session_cookie_style", before);
        let icm = Icm::start(config.clone());
        let mut browser = Browser::new(icm.address);
        log_in(&mut browser, "/c.nsf?OpenDatabase");
        set(&mut config, "clusters.0.affinity.session_cookie_style", after);
        icm.reload(&config);
        assert!(is_logged_in(&browser.get("/c.nsf/v?OpenView")), "{before} to {after}");
    }
}

#[test]
fn a_login_makes_its_server_the_users_even_where_sessions_pass_as_they_are() {
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
                    assert_eq!((page.server(), is_logged_in(&page)), (answer.server(), true), "{to}");
                }
                let page = Browser::new(icm.address).with_cookies_of(&browser).get("/b.nsf?OpenDatabase");
                assert_eq!(page.server() == answer.server(), holds, "{to}");
            }
        }
    }
}

#[test]
fn a_session_that_nobody_signed_opens_no_door() {
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
    assert_eq!(inside.server_of("/app.nsf/home.xsp"), "Web1/Acme", "who is inside stays");
    assert_eq!(inside.server_of("/icons/x.gif"), "Web1/Acme");
    // Nor is a BUSY server preferred for it.
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
fn any_number_of_sessions_leads_to_the_server_that_can_serve() {
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
        log_in(&mut browser, &format!("/x{n}.nsf?OpenDatabase"));
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

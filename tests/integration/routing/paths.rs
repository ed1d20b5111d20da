//! A database with different paths on different servers: requests go out with the server's path, and what the server says of
//! itself comes back with the browser's.

use crate::support::*;

const LEADS: &str = "C1257A000041D2E0";

/// Two servers; `projects/plan.nsf` lies twice on Web2.
const SCENARIO: &str = "
servers: [ { name: Web1/Acme }, { name: Web2/Acme } ]
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - path: sales/leads.nsf
    replica_id: C1257A000041D2E0
    title: Leads
    replicas: [Web1, { server: Web2, path: apps/leads.nsf }]
  - path: Sales/Forecast.nsf
    replica_id: C1257A000041D2E2
    replicas: [Web1, { server: Web2, path: sales/forecast.NSF }]
  - path: büro/verträge 2026.nsf
    replica_id: C1257A000041D2E3
    replicas: [Web1, Web2]
  - path: old.nsf
    replica_id: C1257A000041D2E4
    replicas: [Web1, { server: Web2, path: büro/alt & neu+100%.nsf }]
  - path: projects/plan.nsf
    replica_id: C1257A000041D2E7
    replicas: [Web2, { server: Web2, path: projects/plan-copy.nsf }]
";

/// With new users on Web2 only.
fn start() -> (Acme, Icm) {
    let acme = Acme::start(SCENARIO);
    let mut config = config(&acme);
    set(&mut config, "clusters.0.servers.list.0.server_restricted", "1");
    (acme, Icm::start(config))
}

/// The target that Web2 received for this one.
fn received(icm: &Icm, target: &str) -> String {
    let answer = icm.client().get_with(target, &[("Accept", "application/json")]);
    assert_eq!(answer.status, 200, "{target}: {}\n{}", answer.head, answer.text());
    assert_eq!(answer.server(), "Web2/Acme", "{target}");
    answer.json()["target"].as_str().unwrap().to_owned()
}

#[test]
fn a_replica_at_another_path_is_asked_for_by_that_path_and_the_rest_stays_byte_for_byte() {
    let (_acme, icm) = start();
    for rest in [
        "",
        "?",
        "?OpenDatabase",
        "?OpenDatabase&a=%zz%2f%2F%u00e4+b;c&&=",
        "!OpenDatabase",
        "!OpenView&Start=1?x",
        "/",
        "//By%20Name;v=1/%e4%C3%84?OpenView&to=//x/../y",
        "/By+Name/0?OpenDocument?again!Open",
        "/$defaultview?OpenView&RestrictToCategory=sales/leads.nsf",
        "/Sales%5CBy+Region/key%2Fpart?OpenDocument",
        "/a|b{c}^d~e'f(g)?q={'a':[1]}|^`\\",
        "/Gr%C3%B6%DFe?OpenView&RestrictToCategory=Gr%F6%DFe",
    ] {
        assert_eq!(received(&icm, &format!("/sales/leads.nsf{rest}")), format!("/apps/leads.nsf{rest}"));
    }
    for spelling in ["/SALES/Leads.NSF", "/sales%5Cleads.nsf", "/sales%2Fleads%2Ensf", "/sales\\leads.nsf"] {
        assert_eq!(received(&icm, &format!("{spelling}/x?Open")), "/apps/leads.nsf/x?Open", "{spelling}");
    }
}

#[test]
fn the_same_path_in_another_spelling_is_forwarded_as_the_client_wrote_it() {
    let (_acme, icm) = start();
    for target in [
        "/Sales/Forecast.nsf/v?OpenView",
        "/SALES/FORECAST.NSF",
        "/sales%5cforecast.nsf?OpenDatabase",
        "/sales\\forecast.nsf!OpenDatabase",
        "/b%C3%BCro/vertr%C3%A4ge%202026.nsf/x?Open",
        "/B%c3%9cRO/VERTR%c3%84GE%202026.NSF",
    ] {
        assert_eq!(received(&icm, target), target);
    }
}

/// As [`start`], with the spelling of the directory for the servers.
fn start_with_spelling_of_the_directory() -> (Acme, Icm) {
    let acme = Acme::start(SCENARIO);
    let mut config = config(&acme);
    set(&mut config, "clusters.0.servers.list.0.server_restricted", "1");
    set(&mut config, "clusters.0.forwarded_path", "directory");
    (acme, Icm::start(config))
}

/// What `explain` says that the chosen server gets instead of this target.
fn explained_target(icm: &Icm, target: &str) -> serde_json::Value {
    let explained = icm.explain(target);
    let chosen = explained["candidates"].as_array().unwrap().iter().find(|c| c["chosen"] == true);
    chosen.unwrap()["target"].clone()
}

#[test]
fn the_spelling_of_the_servers_own_entry_is_forwarded_if_the_configuration_says_so() {
    let (_acme, icm) = start_with_spelling_of_the_directory();
    for spelling in
        ["/Sales/Forecast.nsf", "/SALES/FORECAST.NSF", "/sales%5cforecast.nsf", "/sales\\forecast.NSF"]
    {
        for rest in ["", "/By+Name%2f;x//Y?OpenView&a=%zz&b=/Sales/Forecast.nsf", "!OpenDatabase"] {
            let target = format!("{spelling}{rest}");
            assert_eq!(received(&icm, &target), format!("/sales/forecast.NSF{rest}"), "{target}");
            assert_eq!(explained_target(&icm, &target), format!("/sales/forecast.NSF{rest}"), "{target}");
        }
    }
    let text = icm_cli(&["explain", "/Sales/Forecast.nsf?Open", "-c", icm.file.to_str().unwrap()]).out;
    assert!(text.contains("\ntarget    /sales/forecast.NSF?Open\n"), "{text}");
    // In the same spelling, a path stays byte for byte, whatever its encoding is.
    for target in [
        "/sales/forecast.NSF/v?OpenView",
        "/sales%2Fforecast%2eNSF/v?OpenView",
        "/b%C3%BCro/vertr%C3%A4ge%202026.nsf/x?Open",
        "/b%c3%bcro/vertr%c3%a4ge%202026.nsf",
    ] {
        assert_eq!(received(&icm, target), target);
        assert!(explained_target(&icm, target).is_null(), "{target}");
    }
    assert_eq!(
        received(&icm, "/B%C3%9CRO/Vertr%C3%A4ge%202026.nsf/x"),
        "/b%C3%BCro/vertr%C3%A4ge%202026.nsf/x"
    );
    // A path that differs in more than its spelling, and a replica ID, are replaced as ever.
    assert_eq!(received(&icm, "/SALES/Leads.nsf?Open"), "/apps/leads.nsf?Open");
    assert_eq!(received(&icm, "/__C1257A000041D2E2.nsf?Open"), "/sales/forecast.NSF?Open");
}

#[test]
fn a_server_with_another_spelling_is_mapped_back_to_the_clients_and_each_server_gets_its_own() {
    let (_acme, icm) = start_with_spelling_of_the_directory();
    for public in ["/Sales/Forecast.nsf", "/SALES%5CForecast.nsf"] {
        let answer = icm.client().host("www.acme.example").get(&format!("{public}/rewrite?OpenPage"));
        assert_eq!((answer.status, answer.server()), (200, "Web2/Acme"));
        let here = format!("http://www.acme.example{public}");
        assert_eq!(answer.header("content-location").unwrap(), format!("{here}/rewrite?OpenPage"));
        assert_eq!(answer.header("refresh").unwrap(), format!("600; url={here}/rewrite?OpenPage"));
        assert_eq!(answer.header("x-xsplocation").unwrap(), format!("{here}/page.xsp"));
        let cookies = answer.all("set-cookie");
        assert!(cookies.contains(&"AcmeHost=1; Path=/"), "{cookies:?}");
        let target = format!("{public}?OpenDatabase&redirect=1");
        let answer = icm.client().host("www.acme.example").get(&target);
        let location = format!("{here}?OpenDatabase&redirected=1");
        assert_eq!((answer.status, answer.header("location")), (302, Some(&*location)));
    }
    drop(icm);
    let acme = Acme::start(SCENARIO);
    let mut config = config(&acme);
    set(&mut config, "clusters.0.forwarded_path", "directory");
    set(&mut config, "clusters.0.failover.retry_budget", "100%");
    let icm = Icm::start(config);
    for (failing, serving, path) in
        [("Web1", "Web2/Acme", "/sales/forecast.NSF"), ("Web2", "Web1/Acme", "/Sales/Forecast.nsf")]
    {
        acme.fault(failing, serde_json::json!({ "kind": "status", "status": 503 }));
        for _ in 0..8 {
            let answer = icm.client().get_with("/SALES/forecast.nsf?Open", &[("Accept", "application/json")]);
            assert_eq!((answer.status, answer.server()), (200, serving));
            assert_eq!(answer.json()["target"], format!("{path}?Open"));
        }
        acme.heal(failing);
    }
}

#[test]
fn the_servers_own_path_is_encoded_as_a_url_needs_it() {
    let (_acme, icm) = start();
    assert_eq!(received(&icm, "/old.nsf/v?OpenView"), "/b%C3%BCro/alt%20&%20neu%2B100%25.nsf/v?OpenView");
}

#[test]
fn a_replica_id_in_the_url_finds_the_database_and_its_path_on_the_server() {
    let (_acme, icm) = start();
    for id in
        ["__C1257A000041D2E0.nsf", "__c1257a000041d2e0.NSF", "C1257A000041D2E0.nsf", "c1257a000041d2e0.nsf"]
    {
        assert_eq!(received(&icm, &format!("/{id}/v/k?OpenDocument")), "/apps/leads.nsf/v/k?OpenDocument");
    }
}

#[test]
fn several_copies_on_one_server_are_asked_for_by_replica_id_as_it_came() {
    let (_acme, icm) = start();
    for target in
        ["/__C1257A000041D2E7.nsf/v?OpenView", "/__c1257a000041d2e7.nsf", "/projects/plan-copy.nsf?Open"]
    {
        assert_eq!(received(&icm, target), target);
    }
}

#[test]
fn what_the_server_says_of_itself_comes_back_by_the_public_name_and_path() {
    let (_acme, icm) = start();
    for public in ["/sales/leads.nsf", "/Sales%5CLeads.nsf", "/__C1257A000041D2E0.nsf"] {
        let answer = icm.client().host("www.acme.example").get(&format!("{public}/rewrite?OpenPage"));
        assert_eq!((answer.status, answer.server()), (200, "Web2/Acme"));
        let here = format!("http://www.acme.example{public}");
        assert_eq!(answer.header("content-location").unwrap(), format!("{here}/rewrite?OpenPage"));
        assert_eq!(answer.header("refresh").unwrap(), format!("600; url={here}/rewrite?OpenPage"));
        assert_eq!(answer.header("x-xsplocation").unwrap(), format!("{here}/page.xsp"));
        let cookies = answer.all("set-cookie");
        // Only the servers' own network knows web2; .acme.example covers the public name as well.
        assert!(cookies.contains(&"AcmeHost=1; Path=/"), "{cookies:?}");
        assert!(cookies.contains(&"AcmeDomain=2; domain=.acme.example; path=/; HttpOnly"), "{cookies:?}");
        assert!(cookies.contains(&"AcmeRoot=3; Path=/; Secure; SameSite=Lax"), "{cookies:?}");
        assert!(answer.text().contains("/apps/leads.nsf"), "bodies are never rewritten");
    }
    let answer = icm.client().host("portal.example.org:8080").get("/apps/leads.nsf/rewrite?OpenPage");
    assert_eq!(
        answer.header("content-location"),
        Some("http://portal.example.org:8080/apps/leads.nsf/rewrite?OpenPage")
    );
    let cookies = answer.all("set-cookie");
    assert!(cookies.contains(&"AcmeDomain=2; path=/apps/leads.nsf/sub; HttpOnly"), "{cookies:?}");
}

#[test]
fn a_request_that_goes_on_to_another_server_gets_that_servers_path() {
    let acme = Acme::start(SCENARIO);
    let mut config = config(&acme);
    set(&mut config, "clusters.0.failover.retry_budget", "100%");
    let icm = Icm::start(config);
    for (failing, serving, path) in
        [("Web1", "Web2/Acme", "/apps/leads.nsf"), ("Web2", "Web1/Acme", "/sales/leads.nsf")]
    {
        acme.fault(failing, serde_json::json!({ "kind": "status", "status": 503 }));
        for public in ["/sales/leads.nsf", "/apps/leads.nsf", "/__C1257A000041D2E0.nsf"] {
            for _ in 0..8 {
                let target = format!("{public}/rewrite?OpenPage");
                let answer = icm.client().host("www.acme.example").get(&target);
                assert_eq!((answer.status, answer.server()), (200, serving), "{target}");
                let location = format!("http://www.acme.example{target}");
                assert_eq!(answer.header("content-location"), Some(&*location), "mapped back from {path}");
                assert!(answer.text().contains(path));
            }
        }
        acme.heal(failing);
    }
}

#[test]
fn a_location_on_the_same_server_is_mapped_in_every_form_that_domino_writes() {
    let (_acme, icm) = start();
    for (public, to, expected) in [
        ("/sales/leads.nsf", "1", "http://www.acme.example/sales/leads.nsf?OpenDatabase&redirected=1"),
        ("/sales/leads.nsf", "address", "http://www.acme.example/sales/leads.nsf?OpenDatabase&redirected=1"),
        ("/sales/leads.nsf", "host", "http://www.acme.example/sales/leads.nsf?OpenDatabase"),
        ("/sales/leads.nsf", "relative", "/sales/leads.nsf?OpenDatabase&redirected=1"),
        ("/apps/leads.nsf", "1", "http://www.acme.example/apps/leads.nsf?OpenDatabase&redirected=1"),
        (
            "/__C1257A000041D2E0.nsf",
            "1",
            "http://www.acme.example/__C1257A000041D2E0.nsf?OpenDatabase&redirected=1",
        ),
    ] {
        let target = format!("{public}?OpenDatabase&redirect={to}");
        let answer = icm.client().host("www.acme.example").get(&target);
        assert_eq!((answer.status, answer.header("location")), (302, Some(expected)), "{target}");
    }
    let foreign = "http://elsewhere.example/apps/leads.nsf";
    let answer = icm.client().get(&format!("/sales/leads.nsf?Open&location={foreign}"));
    assert_eq!(answer.header("location"), Some(foreign), "a URL of another host is not rewritten");
}

#[test]
fn a_location_that_names_another_member_takes_the_user_there_without_a_loop() {
    let (_acme, icm) = start_with_equal_indexes(SCENARIO, |_, _| {});
    for public in ["/sales/leads.nsf".to_owned(), format!("/__{LEADS}.nsf")] {
        let mut browser = Browser::on(icm.address, &format!("{public}?OpenDatabase"), "Web1");
        let answer = browser.get(&format!("{public}?OpenDatabase&redirect=Web2"));
        assert_eq!(answer.status, 302);
        let location = answer.header("location").unwrap().to_owned();
        assert_eq!(location, format!("http://{}/apps/leads.nsf?OpenDatabase&redirected=1", icm.address));
        assert!(answer.cookie("ICM").is_some(), "the entry moves with the redirect, HTML or not");
        let target = location.strip_prefix(&format!("http://{}", icm.address)).unwrap();
        assert_eq!(browser.server_of(target), "Web2/Acme");
        assert_eq!(browser.server_of(&format!("{public}?OpenDatabase")), "Web2/Acme");
    }
}

#[test]
fn a_location_whose_path_means_several_databases_is_mapped_to_the_replica_id() {
    let acme = Acme::built_in();
    let icm = Icm::start(config_with_equal_indexes(&acme));
    let (web1, web3) = (acme.http("Web1").port(), acme.http("Web3").port());
    let other = format!("http://web3.acme.example:{web3}/sales/leads.nsf/v?OpenView");
    let own = format!("http://web1.acme.example:{web1}/sales/leads.nsf?Open");
    let public = |path: &str| format!("http://{}{path}", icm.address);
    let mut browser = Browser::on(icm.address, "/homepage.nsf?OpenDatabase", "Web1");
    let answer = browser.get(&format!("/homepage.nsf?OpenDatabase&location={}", other.replace('?', "%3F")));
    assert_eq!(answer.header("location"), Some(&*public("/__C125790F002B11AA.nsf/v?OpenView")));
    let answer = browser.get(&format!("/homepage.nsf?OpenDatabase&location={}", own.replace('?', "%3F")));
    assert_eq!(answer.server(), "Web1/Acme");
    assert_eq!(answer.header("location"), Some(&*public("/__C1257A000041D2E0.nsf?Open")));
    // Whoever is in that very database stays at the address that he has.
    browser.get("/__C1257A000041D2E0.nsf?OpenDatabase");
    let answer = browser.get("/sales/leads.nsf?OpenDatabase&redirect=1");
    assert_eq!(answer.header("location"), Some(&*public("/sales/leads.nsf?OpenDatabase&redirected=1")));
}

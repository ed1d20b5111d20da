//! Which database and which cluster a request means: URLs without a database, unknown and ambiguous ones, Host names, lists.

use std::collections::BTreeSet;

use crate::support::*;

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const JSON: (&str, &str) = ("Accept", "application/json");

fn start(settings: &[(&str, &str)]) -> (Acme, Icm) {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    for (path, value) in settings {
        set(&mut config, &format!("clusters.0.{path}"), value);
    }
    (acme, Icm::start(config))
}

#[test]
fn a_url_without_a_database_or_with_one_that_all_hold_goes_to_any_member() {
    let acme = Acme::built_in();
    let icm = Icm::start(config_with_equal_indexes(&acme));
    let targets = [
        "/",
        "/icons/vwicn001.gif",
        "/domjava/a.js",
        "/xsp/.ibmxspres/x.css",
        "/names.nsf?Login",
        "/NAMES.nsf?login",
        "/help/help12_client.nsf?OpenDatabase",
        "/icons/a.nsfx?Open",
    ];
    for target in targets {
        let mut seen = BTreeSet::new();
        let all = eventually(MAX_WAIT, || {
            let answer = icm.client().get(target);
            assert_eq!(answer.status, 200, "{target}");
            seen.insert(answer.server().to_owned());
            seen.len() == 4
        });
        assert!(all, "{target} goes only to {seen:?}");
    }
}

#[test]
fn an_unknown_database_goes_to_any_member_or_is_not_found() {
    let (_acme, icm) = start(&[]);
    let answer = icm.client().get("/nowhere.nsf?Open");
    assert_eq!(answer.status, 404);
    assert!(!answer.server().is_empty(), "Domino's own page");

    let (_acme, icm) = start(&[("unknown_database", "not_found")]);
    for target in ["/nowhere.nsf?Open", "/nowhere.nsf", "/__0000000000000001.nsf/x", "/a/b/nowhere.ntf!Open"]
    {
        let answer = icm.client().get(target);
        assert_eq!((answer.status, answer.header("server")), (404, Some("domino-icm")), "{target}");
        assert!(answer.header("content-type").unwrap().starts_with("text/html"));
    }
    let answer = icm.client().get_with("/nowhere.nsf", &[JSON]);
    assert_eq!((answer.status, &answer.json()["error"]), (404, &"unknown_database".into()));
    assert_eq!(icm.client().post("/nowhere.nsf?Open", &[], "a=b").status, 404);
    for target in ["/?OpenServer", "/", "/icons/x.gif"] {
        assert!(!icm.client().get(target).server().is_empty(), "{target}");
    }
    assert_eq!(icm.client().get("/sales/orders.nsf").status, 200);
}

#[test]
fn no_server_command_and_no_spelling_reaches_a_database_that_the_directory_does_not_know() {
    let scenario = "
servers: [ { name: Web1/Acme } ]
databases:
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: a.nsf, replica_id: C1257A000041D2E0, replicas: all }
";
    let acme = Acme::start(scenario);
    let mut config = config(&acme);
    set(&mut config, "clusters.0.unknown_database", "not_found");
    let icm = Icm::start(config);
    for target in [
        "/secret.nsf?OpenServer",
        "/secret.nsf/view?OpenServer",
        "/secret.nsf/view?Redirect&Name=Web1",
        "/secret.nsf?Login",
        "/secret.nsf!Login",
        "/secret.nsf?%4Cogin&RedirectTo=/",
        "/secret.nsf?SAMLLogin",
        "/secret.nsf?Logout",
        "/secret.nsf%3FOpenDatabase?Login",
        "/secret.nsf%21OpenDatabase!Logout",
        "/mail/names.nsf?Login",
        "/names.nsf/People?Login",
        "/names.nsf%3FOpenDatabase?Login",
        "/names.nsf?OpenDatabase&Login",
        "/names.nsf?OpenServer",
        "/__0123456789ABCDEF",
        "/__0123456789abcdef/v?OpenView",
        "/__0123456789ABCDEF?OpenDatabase",
        "/__0123456789ABCDEF!Login",
        "/__0123456789ABCDEF%3FOpenDatabase?Login",
        "/%5F_0123456789ABCDE%46?OpenDatabase",
        "//__01234567:89ABCDEF/?OpenDatabase",
        "/%5C__0123456789ABCDEF%5Cv?OpenView",
        "/0123456789ABCDEF/v?OpenView",
    ] {
        let answer = icm.client().get(target);
        assert_eq!((answer.status, answer.header("server")), (404, Some("domino-icm")), "{target}");
    }
    for target in [
        "/",
        "/?Login",
        "/?Logout",
        "/names.nsf?Login",
        "//Names.nsf!login&RedirectTo=/a.nsf",
        "/names.nsf?SAMLLogin",
        "/names.nsf?OIDCLogin",
        "/names.nsf?Logout",
        "/auth/protocol/oidc?code=1",
        "/icons/x.gif",
        "/a.nsf?Logout",
    ] {
        assert_eq!(icm.client().get(target).server(), "Web1/Acme", "{target}");
    }
    assert!(!icm.client().post("/names.nsf?SAMLLogin", &[], "SAMLResponse=x").server().is_empty());
}

#[test]
fn a_replica_id_without_the_ending_leads_to_its_holder() {
    let (_acme, icm) = start(&[("unknown_database", "not_found")]);
    for target in ["/__C1257A000041D2E0?OpenDatabase", "/c1257a000041d2e0/v?OpenView", "/__C1257A000041D2E0"]
    {
        let answer = icm.client().get(target);
        let replica = answer.header("x-acme-replica");
        assert_eq!((answer.status, replica), (200, Some("C1257A000041D2E0")), "{target}");
    }
}

#[test]
fn one_path_of_several_databases_is_a_choice_that_names_no_server() {
    let (_acme, icm) = start(&[]);
    let target = "/sales/leads.nsf/By+Name/k%2F%22?OpenView&Start=1";
    let rest = "/By+Name/k%2F%22?OpenView&Start=1";
    let page = icm.client().get_with(target, &[HTML]);
    assert_eq!((page.status, page.header("server")), (300, Some("domino-icm")));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let text = page.text();
    for (id, title) in [("C1257A000041D2E0", ">Leads<"), ("C125790F002B11AA", ">Leads (old project)<")] {
        let link = format!("href=\"/__{id}.nsf{}\"", rest.replace('&', "&amp;"));
        assert!(text.contains(&link) && text.contains(title), "{link} {title}\n{text}");
    }
    let json = icm.client().get_with(target, &[JSON]);
    assert_eq!((json.status, json.header("content-type")), (300, Some("application/json; charset=utf-8")));
    let choices = json.json()["choices"].clone();
    assert_eq!(choices.as_array().unwrap().len(), 2);
    assert!(choices.as_array().unwrap().iter().any(|c| {
        c["title"] == "Leads"
            && c["href"] == format!("/__C1257A000041D2E0.nsf{rest}")
            && c["replica_id"] == "C1257A000041D2E0"
    }));
    for text in [page.text(), json.text()] {
        let text = text.to_lowercase();
        assert!(!text.contains("web1") && !text.contains("web3") && !text.contains("127.0.0"), "{text}");
    }
    let head = icm.client().request("HEAD", target, &[HTML], b"").unwrap();
    assert_eq!((head.status, head.body.len()), (300, 0));
    assert_eq!(head.header("content-length"), page.header("content-length"));
    for method in ["POST", "PUT", "DELETE"] {
        let answer = icm.client().request(method, target, &[JSON], b"").unwrap();
        assert_eq!((answer.status, &answer.json()["error"]), (409, &"ambiguous_path".into()), "{method}");
    }
    // Every link works.
    for choice in choices.as_array().unwrap() {
        let answer = icm.client().get(choice["href"].as_str().unwrap());
        assert_eq!(answer.header("x-acme-replica"), choice["replica_id"].as_str());
    }
}

#[test]
fn the_users_most_recent_database_of_that_path_decides() {
    let (_acme, icm) = start(&[]);
    let (new, old) = ("C1257A000041D2E0", "C125790F002B11AA");
    let mut browser = Browser::new(icm.address);
    assert_eq!(browser.get("/sales/leads.nsf").status, 300);
    for id in [new, old, new] {
        assert_eq!(browser.get(&format!("/__{id}.nsf?OpenDatabase")).status, 200);
        browser.get("/sales/orders.nsf?OpenDatabase");
        let answer = browser.get("/sales/leads.nsf?OpenDatabase");
        assert_eq!((answer.status, answer.header("x-acme-replica")), (200, Some(id)));
        assert_eq!(
            browser.post("/Sales%5CLeads.nsf/f?CreateDocument", "a=b").header("x-acme-replica"),
            Some(id)
        );
    }
}

#[test]
fn a_referer_of_the_same_origin_decides_and_no_other() {
    let (_acme, icm) = start(&[]);
    let id = "C125790F002B11AA";
    let mut client = icm.client().host("www.acme.example:8080");
    let mut status = |referer: &str, host: &str| {
        let headers = [("Referer", referer), ("Host", host)];
        let answer = client.get_with("/sales/leads.nsf?OpenDatabase", &headers);
        assert!(answer.status != 200 || answer.header("x-acme-replica") == Some(id));
        answer.status
    };
    let host = "www.acme.example:8080";
    let page = format!("/__{id}.nsf/v?OpenView");
    assert_eq!(status(&format!("http://www.acme.example:8080{page}"), host), 200);
    assert_eq!(status(&format!("HTTP://WWW.acme.example:8080{page}"), host), 200);
    for other in [
        format!("https://www.acme.example:8080{page}"),
        format!("http://www.acme.example{page}"),
        format!("http://www.acme.example:8081{page}"),
        format!("http://evil.example{page}"),
        format!("http://www.acme.example:8080@evil.example{page}"),
        "http://www.acme.example:8080/".to_owned(),
        "http://www.acme.example:8080/sales/leads.nsf".to_owned(),
        page.clone(),
        "".to_owned(),
    ] {
        assert_eq!(status(&other, host), 300, "{other}");
    }
    // A default port is no other port.
    assert_eq!(status(&format!("http://www.acme.example{page}"), "www.acme.example:80"), 200);
    assert_eq!(status(&format!("http://www.acme.example:80{page}"), "www.acme.example"), 200);
    // The user's own entry is the stronger word.
    let mut browser = Browser::new(icm.address);
    browser.get("/__C1257A000041D2E0.nsf?OpenDatabase");
    let referer = format!("http://{}{page}", icm.address);
    let answer = browser.get_with("/sales/leads.nsf?OpenDatabase", ("Referer", &referer));
    assert_eq!(answer.header("x-acme-replica"), Some("C1257A000041D2E0"));
}

#[test]
fn an_ambiguous_path_may_mean_the_first_or_nothing() {
    let (_acme, icm) = start(&[("ambiguous_path", "first")]);
    let first = icm.client().get("/sales/leads.nsf?Open").header("x-acme-replica").unwrap().to_owned();
    for _ in 0..10 {
        let answer = icm.client().post("/sales/leads.nsf?Open", &[], "a=b");
        assert_eq!((answer.status, answer.header("x-acme-replica")), (200, Some(&*first)));
    }
    let (_acme, icm) = start(&[("ambiguous_path", "not_found")]);
    assert_eq!(icm.client().get("/sales/leads.nsf?Open").status, 404);
    assert_eq!(icm.client().post("/sales/leads.nsf?Open", &[], "a=b").status, 404);
    assert_eq!(icm.client().get("/apps/leads.nsf?Open").status, 200, "this path is one database's");
}

#[test]
fn open_server_is_a_list_of_the_clusters_databases_or_any_servers_own() {
    let (_acme, icm) = start(&[("open_server", "list")]);
    let page = icm.client().get_with("/?OpenServer", &[HTML]);
    assert_eq!((page.status, page.header("server")), (200, Some("domino-icm")));
    let text = page.text();
    for part in [
        "href=\"/sales/orders.nsf\"",
        "href=\"/b%C3%BCro/vertr%C3%A4ge%202026.nsf\"",
        "href=\"/__C1257A000041D2E0.nsf\"",
        "href=\"/__C125790F002B11AA.nsf\"",
        "Questions &lt;internal&gt; !important",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("href=\"/sales/leads.nsf\""), "an ambiguous path is no link");
    assert!(!text.to_lowercase().contains("web1.acme"));
    let list = icm.client().get_with("/!OpenServer", &[JSON]).json()["databases"].clone();
    let list = list.as_array().unwrap();
    assert!(list.iter().any(|d| d["title"] == "Orders" && d["href"] == "/sales/orders.nsf"), "{list:?}");
    let head = icm.client().request("HEAD", "/?openserver", &[], b"").unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    for entry in list {
        let status = icm.client().get(entry["href"].as_str().unwrap()).status;
        assert!(status == 200 || entry["path"] == "old/closed.nsf", "{entry} {status}");
    }

    let (_acme, icm) = start(&[]);
    assert!(icm.client().get("/?OpenServer").server().starts_with("Web"), "passed to a server");
}

/// Clusters in the file's order: name, hostnames as YAML, the databases of its one server.
fn clusters(acme: &Acme, list: &[(&str, Option<&str>, &[&str])]) -> Icm {
    let mut config = config(acme);
    let template = config["clusters"][0].clone();
    set(&mut config, "clusters", "[]");
    for (n, (name, hostnames, databases)) in list.iter().enumerate() {
        let all = config["clusters"].as_sequence_mut().unwrap();
        all.push(template.clone());
        let servers = template["servers"]["list"][n].clone();
        let key = |key: &str| format!("clusters.{n}.{key}");
        set(&mut config, &key("name"), name);
        set(&mut config, &key("servers.list"), &serde_yaml::to_string(&vec![servers]).unwrap());
        if let Some(hostnames) = hostnames {
            set(&mut config, &key("hostnames"), hostnames);
        }
        let server = &acme.servers[n].name;
        let rows: Vec<String> = databases
            .iter()
            .enumerate()
            .map(|(d, path)| {
                format!("{{ path: {path}, replica_id: C12500000000{n:02}{d:02}, replicas: [ {{ server: {server} }} ] }}")
            })
            .collect();
        set(
            &mut config,
            &key("directory"),
            &format!("{{ source: static, databases: [ {} ] }}", rows.join(", ")),
        );
    }
    Icm::start(config)
}

#[test]
fn the_host_name_chooses_the_cluster_in_every_spelling() {
    let acme = Acme::built_in();
    let icm = clusters(
        &acme,
        &[
            ("Wild", Some("['*.acme.example']"), &[]),
            ("Named", Some("[www.acme.example, '2001:db8::1', 192.0.2.7]"), &[]),
            ("Others", None, &[]),
        ],
    );
    for (host, server) in [
        ("www.acme.example", "Web2/Acme"),
        ("WWW.Acme.EXAMPLE:8443", "Web2/Acme"),
        ("www.acme.example.", "Web2/Acme"),
        ("www.acme.example.:80", "Web2/Acme"),
        ("[2001:db8::1]", "Web2/Acme"),
        ("[2001:DB8:0:0:0::1]:8080", "Web2/Acme"),
        ("192.0.2.7:80", "Web2/Acme"),
        ("mail.acme.example", "Web1/Acme"),
        ("a.b.acme.example:1", "Web1/Acme"),
        ("acme.example", "Web3/Acme"),
        ("xacme.example", "Web3/Acme"),
        ("[2001:db8::2]", "Web3/Acme"),
        ("127.0.0.1", "Web3/Acme"),
    ] {
        assert_eq!(icm.client().host(host).get("/icons/x.gif").server(), server, "{host}");
    }
}

#[test]
fn among_clusters_of_one_name_the_directory_chooses_and_a_foreign_name_is_misdirected() {
    let acme = Acme::built_in();
    let icm = clusters(
        &acme,
        &[
            ("First", Some("[www.acme.example]"), &["homepage.nsf"]),
            ("Second", Some("[www.acme.example]"), &["sales/orders.nsf", "homepage.nsf"]),
        ],
    );
    for (target, server) in [
        ("/sales/orders.nsf?Open", "Web2/Acme"),
        ("/homepage.nsf?Open", "Web1/Acme"),
        ("/icons/x.gif", "Web1/Acme"),
        ("/names.nsf?Login", "Web1/Acme"),
        ("/apps/qa.nsf?Open", "Web1/Acme"),
    ] {
        assert_eq!(icm.client().host("www.acme.example").get(target).server(), server, "{target}");
    }
    for host in ["acme.example", "other.example", "127.0.0.1", "[::1]:80"] {
        let answer = icm.client().host(host).get_with("/homepage.nsf", &[JSON]);
        assert_eq!((answer.status, &answer.json()["error"]), (421, &"misdirected".into()), "{host}");
    }
}

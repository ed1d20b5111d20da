//! "Did my save happen?": the link on the page of a save that was cut, and its answers.

use crate::support::*;
use serde_json::{Value, json};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: (&str, &str) = ("Accept", "application/json");

/// Documents that were saved an hour ago, and two clusters of the same servers: `www.acme.example` and
/// `mail.acme.example`.
struct Site {
    acme: Acme,
    icm: Icm,
    /// UNIDs of documents in all.nsf.
    documents: Vec<String>,
    /// The affinity cookie of a user of Web1.
    of_web1: String,
}

fn start(number: usize, settings: &[(&str, &str)]) -> Site {
    let acme = Acme::replicating("{ push_ms: 50 }");
    // The clock goes back to the true time before `icm` reads it.
    acme.set("all", json!({ "companion": true, "index": 90, "clock_skew_ms": -3_600_000 }));
    let mut editor = Client::to(acme.http("Web1"));
    let create = |n| create_document(&mut editor, "all.nsf", &[("subject", &format!("{n}"))]);
    let created: Vec<Value> = (0..number).map(create).collect();
    let documents = created.iter().map(|document| document["unid"].as_str().unwrap().to_owned()).collect();
    acme.wait_until_replicated();
    acme.set("all", json!({ "clock_skew_ms": 0 }));
    let mut config = config(&acme);
    for (key, value) in [
        ("hostnames", "[www.acme.example]"),
        ("availability", "{ source: companion, interval: 200ms, stale_after: 1h }"),
        ("probe", "{ interval: 1h, timeout: 1s, unreachable_after: 1000, healthy_after: 1 }"),
        ("failover.passive_failures", "0"),
    ]
    .iter()
    .chain(settings)
    {
        set(&mut config, &format!("clusters.0.{key}"), value);
    }
    let mut other = config["clusters"][0].clone();
    set(&mut other, "name", "AcmeMail");
    set(&mut other, "hostnames", "[mail.acme.example]");
    config["clusters"].as_sequence_mut().unwrap().push(other);
    let icm = Icm::start(config);
    let mut of_web1 = None;
    // Before any failure: later a server that has failed is asked less often.
    let is_served = eventually(MAX_WAIT, || {
        let answer = icm.client().host("www.acme.example").get("/all.nsf?OpenDatabase");
        of_web1 = answer.cookie("ICM").filter(|_| answer.server().starts_with("Web1")).map(str::to_owned);
        of_web1.is_some()
    });
    assert!(is_served, "{}", icm.log());
    Site { acme, icm, documents, of_web1: of_web1.unwrap() }
}

/// The page of a save that failed.
struct Failed {
    page: Answer,
    rid: String,
}

impl Failed {
    fn link(&self) -> String {
        self.page.json()["href"].as_str().unwrap_or_else(|| panic!("{}", self.page.text())).to_owned()
    }
}

impl Site {
    fn client(&self) -> Client {
        self.icm.client().host("www.acme.example")
    }

    /// Sends a request that changes something to Web1, which has this fault for it.
    fn cut(&self, fault: Value, method: &str, target: &str) -> Failed {
        self.cut_with(&format!("ICM={}", self.of_web1), fault, method, target)
    }

    fn cut_with(&self, cookie: &str, fault: Value, method: &str, target: &str) -> Failed {
        self.acme.fault("Web1", fault);
        let rid = unique_id();
        let headers = [JSON, ("X-Request-Id", &rid), ("Content-Type", FORM), ("Cookie", cookie)];
        let page = self.client().request(method, target, &headers, b"text=changed").unwrap();
        self.acme.heal("Web1");
        Failed { page, rid }
    }

    fn save(&self, n: usize, fault: Value) -> Failed {
        let failed = self.cut(fault, "POST", &format!("/all.nsf/0/{}?SaveDocument", self.documents[n]));
        assert!(matches!(failed.page.status, 502 | 504), "{}", failed.page.head);
        failed
    }

    fn ask(&self, failed: &Failed) -> Value {
        let answer = self.client().get_with(&failed.link(), &[JSON]);
        assert_eq!(answer.status, 200, "{}\n{}", answer.head, answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        answer.json()
    }

    /// Asks again until the answer is this one.
    fn wait_for(&self, failed: &Failed, what: &str, is_so: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let came = eventually(MAX_WAIT, || {
            last = self.ask(failed);
            is_so(&last)
        });
        assert!(came, "never {what}: {last:#}\n{}", self.icm.log());
    }

    /// The text of the document on one server.
    fn text_on(&self, server: &str, n: usize) -> String {
        let mut client = Client::to(self.acme.http(server));
        let document = read_document(&mut client, "all.nsf", &self.documents[n]).unwrap();
        document["text"].as_str().unwrap().to_owned()
    }

    fn questions(&self, server: &str) -> usize {
        let asked = |request: &&Value| request["target"].as_str().unwrap().contains("&modified=");
        self.acme.requests(server).iter().filter(asked).count()
    }

    fn assert_sent_once(&self, failed: &Failed) {
        assert_eq!(self.acme.executed(&failed.rid), 1);
        assert_eq!(self.acme.ask("GET", "/executions/repeated", None)["repeated"], 0);
    }
}

fn is(answer: &str) -> impl Fn(&Value) -> bool + '_ {
    move |found| found["answer"] == answer
}

#[test]
fn a_save_that_was_cut_is_found_on_the_servers_and_is_never_sent_again() {
    let site = start(5, &[("failover.response_timeout", "3s")]);

    // The connection broke after the save.
    let saved = site.save(0, json!({ "kind": "reset", "at": "saved", "method": "POST" }));
    assert_eq!((saved.page.status, &saved.page.json()["error"]), (502, &json!("bad_gateway")));
    assert_eq!(site.text_on("Web1", 0), "changed");
    let found = site.ask(&saved);
    assert_eq!(found["answer"], "saved", "{found:#}\n{}", site.icm.log());
    assert!(found["changed"].is_string(), "{found:#}");
    assert!(!found["message"].as_str().unwrap().contains("Web1"));
    for server in ["Web1", "Web2", "Web3"] {
        assert_eq!(site.questions(server), 1, "{server} is asked once");
    }
    site.wait_for(&saved, "replicated", |found| found["everywhere"] == true);
    site.assert_sent_once(&saved);
    let page = site.client().get_with(&saved.link(), &[("Accept", "text/html")]);
    assert!(page.text().contains("<h1>The document was changed</h1>"), "{}", page.text());
    assert_eq!(site.client().request("HEAD", &saved.link(), &[], b"").unwrap().status, 200);

    // It was silent after the save.
    let silent = site.save(1, json!({ "kind": "hang", "at": "saved", "method": "POST" }));
    assert_eq!((silent.page.status, &silent.page.json()["error"]), (504, &json!("gateway_timeout")));
    site.wait_for(&silent, "saved", is("saved"));
    site.assert_sent_once(&silent);

    // The connection broke before the save. At first the server may still work on it.
    let lost = site.save(2, json!({ "kind": "reset", "method": "POST" }));
    let found = site.ask(&lost);
    let is_open = found["reason"] == "may_still_run" || found["answer"] == "not_saved";
    assert!(is_open, "{found:#}");
    site.wait_for(&lost, "not saved", is("not_saved"));
    assert_eq!(site.text_on("Web1", 2), "");
    site.assert_sent_once(&lost);

    // Another user saves it then: that is a change, too, and the page says so.
    let mut other = Client::to(site.acme.http("Web2"));
    change_document(&mut other, "all.nsf", &site.documents[2], 1, "of another").unwrap();
    site.wait_for(&lost, "changed", is("saved"));

    // The user's own save just before is not taken for this one.
    let target = format!("/all.nsf/0/{}?SaveDocument", site.documents[3]);
    let cookie = format!("ICM={}", site.of_web1);
    let first = site.client().request("POST", &target, &[("Cookie", &cookie)], b"text=first").unwrap();
    assert_eq!((first.status, first.server()), (200, "Web1/Acme"));
    let cookies = format!("{cookie}; ICM-write={}", first.cookie("ICM-write").unwrap());
    let second = site.cut_with(&cookies, json!({ "kind": "reset", "method": "POST" }), "POST", &target);
    let found = site.ask(&second);
    assert_ne!(found["answer"], "saved", "{found:#}");

    // An agent of before this question tells nothing.
    site.acme.set("Web1", json!({ "companion_missing": ["revision"] }));
    let lost = site.save(4, json!({ "kind": "reset", "method": "POST" }));
    let found = site.ask(&lost);
    assert_eq!((&found["answer"], &found["reason"]), (&json!("unknown"), &json!("not_told")));
    let count = |answer: &str| {
        let sample = format!("icm_save_checks_total{{cluster=\"AcmeWeb\",answer=\"{answer}\"}}");
        site.icm.metric(&sample).unwrap_or_else(|| panic!("no {sample}"))
    };
    assert!(count("saved") >= 4.0 && count("not_saved") >= 1.0 && count("unknown") >= 1.0);
    site.icm.wait_for_log("\"why\":\"not_saved\"");
}

#[test]
fn while_the_server_that_got_it_is_away_only_a_replica_with_the_change_gives_an_answer() {
    let site = start(3, &[("failover.response_timeout", "1h")]);

    // Saved and pushed before the server stopped.
    let pushed = site.save(0, json!({ "kind": "reset", "at": "saved", "method": "POST" }));
    site.acme.wait_until_replicated();
    site.acme.stop_server("Web1");
    let found = site.ask(&pushed);
    assert_eq!((&found["answer"], &found["everywhere"]), (&json!("saved"), &json!(false)), "{found:#}");
    site.acme.start_server("Web1");

    // Saved, and the server stopped before it pushed.
    site.acme.set("Web1", json!({ "push_ms": 3_600_000 }));
    let only_there = site.save(1, json!({ "kind": "reset", "at": "saved", "method": "POST" }));
    // Not saved: as long as the server was not started again, it may be working on it.
    let lost = site.save(2, json!({ "kind": "reset", "method": "POST" }));
    assert_eq!(site.ask(&lost)["reason"], "may_still_run");
    site.acme.stop_server("Web1");
    for failed in [&only_there, &lost] {
        let found = site.ask(failed);
        assert_eq!(
            (&found["answer"], &found["reason"]),
            (&json!("unknown"), &json!("server_gone")),
            "{found:#}"
        );
    }
    // Times of whole seconds: a start within two seconds after the request would prove nothing.
    pause(3_000);
    site.acme.start_server("Web1");
    site.wait_for(&only_there, "saved", is("saved"));
    assert_eq!(site.ask(&only_there)["everywhere"], false);
    site.wait_for(&lost, "not saved", is("not_saved"));
    for failed in [&pushed, &only_there, &lost] {
        site.assert_sent_once(failed);
    }
}

#[test]
fn only_a_save_of_a_named_document_has_the_link_and_only_the_link_of_this_cluster_is_answered() {
    let site = start(1, &[]);
    let unid = site.documents[0].clone();
    let reset = || json!({ "kind": "reset", "at": "head" });
    for (method, target, advice) in [
        ("POST", "/all.nsf/Memo?CreateDocument".to_owned(), true),
        ("POST", "/all.nsf/Memo?OpenForm&Seq=1".to_owned(), true),
        ("POST", "/all.nsf/agent?OpenAgent".to_owned(), false),
        ("POST", "/names.nsf?Login".to_owned(), false),
        ("DELETE", format!("/all.nsf/0/{unid}"), false),
        ("GET", format!("/all.nsf/0/{unid}?DeleteDocument"), false),
    ] {
        let failed = site.cut(reset(), method, &target);
        let page = failed.page.json();
        assert_eq!((failed.page.status, page.get("href")), (502, None), "{method} {target}");
        let says = page["message"].as_str().unwrap().contains("look for that in a view");
        assert_eq!(says, advice, "{method} {target}: {page}");
    }
    for (method, target) in [
        ("PUT", format!("/all.nsf/api/data/documents/unid/{unid}")),
        ("PATCH", format!("/all.nsf/api/data/documents/unid/{unid}")),
        ("POST", format!("/all.nsf/order.xsp?documentId={unid}&action=editDocument")),
        ("POST", format!("/__C1257A000041D201.nsf/v/{unid}?EditDocument&Seq=1")),
    ] {
        let failed = site.cut(reset(), method, &target);
        assert!(failed.link().starts_with("/.icm/saved?t="), "{method} {target}");
    }

    let failed = site.save(0, reset());
    let link = failed.link();
    let mut forged = link.clone().into_bytes();
    let last = forged.len() - 30;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let asked_before = site.questions("Web1");
    let refused = |host: &str, link: &str| {
        let answer = site.icm.client().host(host).get_with(link, &[JSON]);
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("save_link_invalid")), "{link}");
    };
    refused("www.acme.example", &forged);
    refused("www.acme.example", "/.icm/saved");
    refused("www.acme.example", "/.icm/saved?t=");
    refused("mail.acme.example", &link);
    assert_eq!(site.questions("Web1"), asked_before, "no server is asked for such a link");
    // Another method, or a path below, is a request like any other.
    for (method, target) in [("POST", link.as_str()), ("GET", "/.icm/saved/x?t=1")] {
        assert_eq!(site.client().request(method, target, &[], b"").unwrap().status, 200, "{target}");
    }
    let admin = format!("http://{}", site.icm.admin);
    let url = format!("http://www.acme.example{link}");
    let explained = icm_cli(&["explain", "--admin", &admin, &url]);
    assert!(explained.code == 0 && explained.out.contains("save_check"), "{explained:?}");
}

#[test]
fn without_a_companion_or_with_the_key_off_the_path_belongs_to_the_servers_and_access_rules_come_first() {
    let reset = || json!({ "kind": "reset", "at": "head" });
    for settings in [("failover.save_check", "off"), ("availability", "{ source: observed }")] {
        let site = start(1, &[settings]);
        let failed = site.cut(reset(), "POST", &format!("/all.nsf/0/{}?SaveDocument", site.documents[0]));
        assert_eq!((failed.page.status, failed.page.json().get("href")), (502, None), "{settings:?}");
        let passed = site.client().get("/.icm/saved?t=x");
        assert_eq!((passed.status, passed.server().is_empty()), (200, false), "{settings:?}");
    }
    // A route for everything does not take the link.
    let site = start(1, &[("routes", "[{ match: { path_prefix: / }, servers: [Web1/Acme, Web2/Acme] }]")]);
    let cut = site.save(0, json!({ "kind": "reset", "at": "saved", "method": "POST" }));
    assert_eq!(site.ask(&cut)["answer"], "saved");
    let unsigned = site.client().get_with("/.icm/saved?t=none", &[JSON]);
    assert!(!unsigned.server().is_empty(), "{}", unsigned.head);

    let site = start(1, &[("access", "[{ deny: { path_prefix: /.icm } }]")]);
    let link = site.save(0, reset()).link();
    assert_eq!(site.client().get(&link).status, 403);
    assert_eq!(site.questions("Web1"), 0);
}

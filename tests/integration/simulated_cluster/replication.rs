//! Documents and their replication in the simulated cluster: what moves when, what is lost, and what is counted.

use std::time::Duration;

use crate::support::*;
use serde_json::{Value, json};

/// Longer than any test runs.
const NEVER: u64 = 3_600_000;

fn seq(acme: &Acme, server: &str, unid: &str) -> Option<u64> {
    read_document(&mut Client::to(acme.http(server)), "all.nsf", unid)?["seq"].as_u64()
}

fn create(acme: &Acme, server: &str, text: &str) -> String {
    let saved = create_document(&mut Client::to(acme.http(server)), "all.nsf", &[("text", text)]);
    assert_eq!((&saved["seq"], &saved["conflict"]), (&json!(1), &json!(false)));
    saved["unid"].as_str().unwrap().to_owned()
}

fn change(acme: &Acme, server: &str, unid: &str, base_seq: u64, text: &str) -> Value {
    change_document(&mut Client::to(acme.http(server)), "all.nsf", unid, base_seq, text).unwrap()
}

#[test]
fn a_change_arrives_at_every_other_copy_and_moves_its_time() {
    let acme = Acme::replicating("{ push_ms: 20 }");
    let before = acme.replication();
    assert_eq!((&before["databases"], &before["edits"]["saves"]), (&json!([]), &json!(0)));
    let unid = create(&acme, "Web1", "Grüße & more");
    acme.wait_until_replicated();
    for server in ["Web1", "Web2", "Web3"] {
        let document = read_document(&mut Client::to(acme.http(server)), "all.nsf", &unid).unwrap();
        assert_eq!((&document["text"], &document["seq"]), (&json!("Grüße & more"), &json!(1)), "{server}");
        assert_eq!(
            (&document["server"], &document["author"]),
            (&json!(format!("{server}/Acme")), &json!("Anonymous"))
        );
    }
    assert_eq!(change(&acme, "Web2", &unid, 1, "again")["seq"], 2);
    acme.wait_until_replicated();
    assert_eq!([1, 2, 3].map(|n| seq(&acme, &format!("Web{n}"), &unid)), [Some(2); 3]);
    let state = acme.replication();
    let copies = state["databases"][0]["copies"].as_array().unwrap();
    let times: Vec<u64> = copies.iter().map(|copy| copy["modified_ms"].as_u64().unwrap()).collect();
    assert!(times[1] <= times[0] && times[1] <= times[2], "applying a change sets the local time: {times:?}");
    assert!(copies.iter().all(|copy| copy["documents"] == 1), "{state:#}");
    assert_eq!(acme.replica_statistic("Web1", "Successful"), 2);
    assert_eq!(acme.replica_statistic("Web2", "Successful"), 2);
    assert_eq!(acme.replica_statistic("Web3", "Successful"), 0, "what it received it does not pass on");
}

#[test]
fn a_document_is_saved_in_every_way_of_domino() {
    let acme = Acme::replicating("{ push_ms: 10 }");
    let mut web1 = Client::to(acme.http("Web1"));
    let unid = "0123456789ABCDEF0123456789ABCDEF";
    let created =
        web1.post("/all.nsf/Memo?OpenForm&Seq=1", &[], &format!("unid={unid}&body=one&author=Jane"));
    assert!(
        created.status == 200 && created.text().contains(&format!("<td>{unid}</td>")),
        "{}",
        created.text()
    );
    let moved = web1.post(
        &format!("/all.nsf/0/{}?EditDocument&Seq=1&redirect=1", unid.to_lowercase()),
        &[],
        "text=two",
    );
    assert_eq!((moved.status, moved.header("location").is_some()), (302, true));
    let again =
        create_document(&mut web1, "all.nsf", &[("unid", unid), ("subject", "S"), ("write_id", "w3")]);
    assert_eq!((&again["seq"], &again["text"], &again["write_id"]), (&json!(3), &json!("two"), &json!("w3")));
    let opened = web1.get(&format!("/all.nsf/documents/{unid}?EditDocument&echo=json")).json();
    assert_eq!((&opened["subject"], &opened["modified_ms"]), (&json!("S"), &again["modified_ms"]));
    assert_eq!(web1.post("/all.nsf/Memo?CreateDocument", &[], "unid=short").status, 400);
    let named = web1.post("/all.nsf/Memo?CreateDocument&echo=json", &[("X-Request-Id", "r1")], "").json();
    assert_eq!(named["write_id"], "r1");
    assert_eq!(
        web1.get("/all.nsf/0/123?OpenDocument").status,
        200,
        "not a UNID: any page, as without replication"
    );
}

#[test]
fn copies_replicate_at_their_own_paths_and_out_of_service() {
    let acme = Acme::replicating("{ push_ms: 20 }");
    let mark = json!({ "server": "Web2", "path": "apps/two.nsf", "mark": "out_of_service" });
    acme.ask("POST", "/databases", Some(&mark));
    let saved = create_document(&mut Client::to(acme.http("Web1")), "two.nsf", &[("subject", "Two")]);
    acme.wait_until_replicated();
    let mut web2 = Client::to(acme.http("Web2"));
    let document = read_document(&mut web2, "apps/two.nsf", saved["unid"].as_str().unwrap()).unwrap();
    assert_eq!(document["subject"], "Two");
    let view = web2.get("/apps/two.nsf/documents?OpenView&echo=json").json();
    assert_eq!(view["documents"].as_array().unwrap().len(), 1);
    assert_eq!(view["documents"][0]["unid"], saved["unid"]);
}

#[test]
fn a_change_that_was_not_pushed_when_its_server_stopped_waits_for_a_standard_replication() {
    let acme = Acme::replicating(&format!("{{ push_ms: {NEVER} }}"));
    let unid = create(&acme, "Web1", "lost");
    acme.wait_for_replication("queued", |state| {
        state["servers"]["Web1/Acme"]["queue"].as_array().unwrap().len() == 2
    });
    let boot_id = acme.replication()["servers"]["Web1/Acme"]["boot_id"].clone();
    acme.stop_server("Web1");
    let refused = Client::to(acme.http("Web1")).request("GET", "/", &[], b"").unwrap_err();
    assert_eq!(refused.name(), "connect");
    acme.set("all", json!({ "push_ms": 10 }));
    assert_eq!(acme.replicate(), 0, "only running servers replicate");
    acme.start_server("Web1");
    let state = acme.replication();
    assert_ne!(state["servers"]["Web1/Acme"]["boot_id"], boot_id);
    assert_eq!(state["servers"]["Web1/Acme"]["queue"], json!([]), "the queue was in memory");
    assert_eq!(state["behind"].as_array().unwrap().len(), 2);
    assert_eq!((seq(&acme, "Web1", &unid), seq(&acme, "Web2", &unid)), (Some(1), None));
    // Another change of the database is pushed alone.
    let second = create(&acme, "Web1", "pushed");
    acme.wait_for_replication("pushed", |_| seq(&acme, "Web2", &second) == Some(1));
    assert_eq!(seq(&acme, "Web2", &unid), None);
    acme.wait_for_replication("pushed", |_| seq(&acme, "Web3", &second) == Some(1));
    let done = acme.ask("POST", "/replicate", Some(&json!({ "from": "Web2", "to": "Web1" })));
    assert_eq!(
        (&done["documents"], &done["moved"][0]["from"]),
        (&json!(1), &json!("Web1/Acme")),
        "both ways"
    );
    assert_eq!((seq(&acme, "Web2", &unid), seq(&acme, "Web3", &unid)), (Some(1), None));
    assert_eq!((acme.replicate(), seq(&acme, "Web3", &unid)), (1, Some(1)));
}

#[test]
fn a_destination_that_was_down_is_behind_until_the_retry() {
    let acme = Acme::replicating(&format!("{{ push_ms: 10, retry_ms: {NEVER} }}"));
    acme.stop_server("Web2");
    let unid = create(&acme, "Web1", "one");
    let waits = |state: &Value| state["servers"]["Web1/Acme"]["retries"].as_array().unwrap().len() == 1;
    acme.wait_for_replication("waiting for a retry", waits);
    acme.wait_for_replication("at Web3", |_| acme.replica_statistic("Web1", "Successful") == 1);
    acme.start_server("Web2");
    assert_eq!(change(&acme, "Web1", &unid, 1, "two")["seq"], 2);
    acme.wait_for_replication("at Web3", |_| seq(&acme, "Web3", &unid) == Some(2));
    assert_eq!(seq(&acme, "Web2", &unid), None, "a change of a waiting replica waits, too");
    let statistics = ["Failed", "Retry.Waiting", "Retry.Skipped", "Successful", "WorkQueueDepth", "Servers"];
    assert_eq!(statistics.map(|name| acme.replica_statistic("Web1", name)), [1, 1, 1, 2, 0, 2]);
    assert_eq!(acme.replication()["behind"][0]["newest_seq"], 2);
    acme.set("Web1", json!({ "retry_ms": 50 }));
    acme.wait_until_replicated();
    assert_eq!((seq(&acme, "Web2", &unid), acme.replica_statistic("Web1", "Retry.Waiting")), (Some(2), 0));
}

#[test]
fn the_wait_for_a_retry_doubles_up_to_its_limit() {
    let acme = Acme::replicating("{ push_ms: 1, retry_ms: 40, retry_max_ms: 100 }");
    acme.stop_server("Web2");
    create(&acme, "Web1", "one");
    let due = |state: &Value| state["servers"]["Web1/Acme"]["retries"][0]["due_in_ms"].as_u64();
    acme.wait_for_replication("failed five times", |_| acme.replica_statistic("Web1", "Failed") >= 5);
    assert!(due(&acme.replication()).is_none_or(|ms| ms <= 100));
    acme.set("Web1", json!({ "retry_max_ms": NEVER, "retry_ms": 100_000 }));
    assert!(due(&acme.replication()).is_some_and(|ms| ms > 1_000_000), "{:#}", acme.replication());
}

#[test]
fn a_dead_http_task_replicates_and_a_server_without_power_does_not() {
    let acme = Acme::replicating(&format!("{{ push_ms: 10, retry_ms: {NEVER} }}"));
    acme.fault("Web2", json!({ "kind": "refuse", "port": "all" }));
    create(&acme, "Web1", "one");
    acme.wait_until_replicated();
    acme.heal("Web2");
    let boot_id = |server: &str| acme.replication()["servers"][server]["boot_id"].clone();
    let (first, other) = (boot_id("Web2/Acme"), boot_id("Web3/Acme"));
    acme.fault("Web2", json!({ "kind": "refuse", "kill": true }));
    assert_eq!(acme.replication()["servers"]["Web2/Acme"]["running"], false);
    create(&acme, "Web1", "two");
    acme.wait_for_replication("failed", |_| acme.replica_statistic("Web1", "Retry.Waiting") == 1);
    acme.heal("Web2");
    assert_ne!(boot_id("Web2/Acme"), first);
    assert_eq!(boot_id("Web3/Acme"), other);
}

#[test]
fn a_replicator_that_is_off_loses_the_change() {
    let acme = Acme::replicating("{ push_ms: 1, replicator: false }");
    let unid = create(&acme, "Web1", "unnoticed");
    acme.set("all", json!({ "replicator": true }));
    let noticed = create(&acme, "Web1", "noticed");
    acme.wait_for_replication("pushed", |_| seq(&acme, "Web2", &noticed) == Some(1));
    assert_eq!(seq(&acme, "Web2", &unid), None);
}

#[test]
fn a_deletion_replicates_as_a_stub() {
    let acme = Acme::replicating("{ push_ms: 10 }");
    let unid = create(&acme, "Web1", "one");
    acme.wait_until_replicated();
    let mut web2 = Client::to(acme.http("Web2"));
    let deleted = web2.post(&format!("/all.nsf/0/{unid}?DeleteDocument&echo=json"), &[], "").json();
    assert_eq!((&deleted["deleted"], &deleted["seq"]), (&json!(true), &json!(2)));
    acme.wait_until_replicated();
    let gone = Client::to(acme.http("Web1")).get(&format!("/all.nsf/0/{unid}?OpenDocument"));
    assert_eq!(gone.status, 404);
    assert!(gone.text().contains("Invalid or nonexistent document"), "{}", gone.text());
    assert_eq!(acme.replicate(), 0, "the document does not come back");
    let view = Client::to(acme.http("Web3")).get("/all.nsf/documents?OpenView&echo=json").json();
    assert_eq!(view["documents"], json!([]));
    let absent = change_document(&mut web2, "all.nsf", &unid, 1, "late");
    assert_eq!((absent, &acme.replication()["edits"]["absent_edits"]), (None, &json!(1)));
}

#[test]
fn edits_of_older_copies_and_conflicts_are_counted() {
    let acme = Acme::replicating("{ push_ms: 10 }");
    let unid = create(&acme, "Web1", "one");
    acme.wait_until_replicated();
    acme.set("all", json!({ "push_ms": NEVER }));
    assert_eq!(change(&acme, "Web1", &unid, 1, "on Web1")["seq"], 2);
    let late = change(&acme, "Web1", &unid, 1, "too late");
    assert_eq!((&late["conflict"], &late["text"]), (&json!(true), &json!("on Web1")));
    acme.stop_server("Web1");
    let lost = change(&acme, "Web2", &unid, 2, "on Web2");
    assert_eq!((&lost["lost_update"], &lost["seq"]), (&json!(true), &json!(2)));
    let counts = |acme: &Acme| {
        let edits = acme.replication()["edits"].clone();
        ["saves", "lost_update_edits", "save_conflicts", "replication_conflicts"]
            .map(|n| edits[n].as_u64().unwrap())
    };
    assert_eq!(counts(&acme), [3, 1, 1, 0]);
    assert_eq!(acme.replication()["edits"]["last"][1]["kind"], "lost_update");
    acme.start_server("Web1");
    acme.replicate();
    acme.wait_until_replicated();
    assert_eq!(counts(&acme), [3, 1, 1, 1]);
    let conflict = acme.replication()["edits"]["last"][2].clone();
    assert_eq!((&conflict["kind"], &conflict["winner"]), (&json!("replication_conflict"), &lost["write_id"]));
    let winner = read_document(&mut Client::to(acme.http("Web1")), "all.nsf", &unid).unwrap();
    assert_eq!(winner["text"], "on Web2", "the later one");
}

#[test]
fn a_stopped_server_forgets_its_sessions_and_statistics() {
    let acme = Acme::replicating("{ push_ms: 1 }");
    let mut web1 = Client::to(acme.http("Web1"));
    let login = web1.post("/all.nsf?Login", &[], "Username=ICM+Reader&Password=reader");
    let cookie = format!("DomAuthSessId={}", login.cookie("DomAuthSessId").unwrap());
    let user = |client: &mut Client| {
        client.get_with("/all.nsf?OpenDatabase&echo=json", &[("Cookie", &cookie)]).json()["user"].clone()
    };
    assert_eq!(user(&mut web1), "CN=ICM Reader/O=Acme");
    create(&acme, "Web1", "one");
    acme.wait_for_replication("pushed", |_| acme.replica_statistic("Web1", "Successful") == 2);
    let mut metrics = Client::to(acme.server("Web1").metrics.unwrap());
    assert!(metrics.get("/metrics").text().contains("\nDomino_Replica_Cluster_Successful 2\n"));
    acme.stop_server("Web1");
    assert!(web1.peer_closes() && metrics.peer_closes(), "connections are reset");
    let answer = metrics.request("GET", "/metrics", &[], b"");
    assert!(answer.is_err(), "all ports refuse");
    acme.start_server("Web1");
    assert_eq!(user(&mut Client::to(acme.http("Web1"))), Value::Null);
    assert_eq!(acme.replica_statistic("Web1", "Successful"), 0);
    assert_eq!(acme.ask("GET", "/servers/Web1", None)["running"], true);
}

#[test]
fn statistics_of_replication_are_in_every_text() {
    let acme = Acme::replicating("{ push_ms: 1 }");
    let icmstat = json!({"server": "Web1", "path": "icmstat.nsf", "replica_id": "C1256A2F00310003"});
    acme.ask("POST", "/databases", Some(&icmstat));
    let boot_id = acme.replication()["servers"]["Web1/Acme"]["boot_id"].to_string();
    let metrics = || Client::to(acme.server("Web1").metrics.unwrap()).get("/metrics").text();
    let console = || Client::to(acme.http("Web1")).get("/icmstat.nsf/stat?OpenAgent").text();
    assert!(metrics().contains("\nDomino_Replica_Cluster_Retry_Waiting 0\n"), "{}", metrics());
    assert!(metrics().contains(&format!("\nDomino_Server_BootID {boot_id}\n")));
    assert!(console().contains("\n  Replica.Cluster.WorkQueueDepth.Avg = 0\n"), "{}", console());
    let grouped = format!("{},{},{}", &boot_id[..1], &boot_id[1..4], &boot_id[4..]);
    assert!(console().contains(&format!("\n  Server.BootID = {grouped}\n")), "{}", console());
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    acme.set("Web1", json!({ "statpub_url": format!("http://{}/", receiver.local_addr().unwrap()) }));
    let (mut stream, _) = receiver.accept().unwrap();
    let mut text = String::new();
    while !text.contains("OpenDocument") {
        let mut piece = [0; 4096];
        let n = std::io::Read::read(&mut stream, &mut piece).unwrap();
        assert_ne!(n, 0, "{text}");
        text.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    assert!(text.contains("\nDomino.Replica.Cluster.SecondsOnQueue.Max 0\n"), "{text}");
    acme.set("Web1", json!({ "replica_statistics": false }));
    assert!(!metrics().contains("Replica_Cluster") && !console().contains("BootID"));
}

#[test]
fn pages_carry_the_time_of_their_data_by_the_servers_own_clock() {
    let acme = Acme::replicating(&format!("{{ push_ms: {NEVER} }}"));
    acme.set("Web2", json!({ "clock_skew_ms": 7_200_000 }));
    let seconds = |answer: &Answer, name: &str| {
        let value = answer.header(name).unwrap_or_else(|| panic!("no {name}: {}", answer.head));
        chrono::DateTime::parse_from_rfc2822(value).unwrap().timestamp()
    };
    let head =
        |server: &str, target: &str| Client::to(acme.http(server)).request("HEAD", target, &[], b"").unwrap();
    let target = "/all.nsf?OpenDatabase";
    let (web1, web2) = (head("Web1", target), head("Web2", target));
    let ahead = seconds(&web2, "date") - seconds(&web1, "date");
    assert!((7195..=7260).contains(&ahead), "{ahead}");
    let untouched = seconds(&web2, "date") - seconds(&web2, "last-modified");
    assert!((3595..=3660).contains(&untouched), "{untouched}");
    let saved = create_document(&mut Client::to(acme.http("Web2")), "all.nsf", &[]);
    let after = head("Web2", target);
    assert_eq!(seconds(&after, "last-modified"), saved["modified_ms"].as_i64().unwrap() / 1000);
    assert_eq!(head("Web1", target).header("last-modified"), web1.header("last-modified"), "not pushed");
    assert_eq!(head("Web1", "/cldbdir.nsf/($Pathname)?ReadViewEntries").header("last-modified"), None);
    acme.set("Web2", json!({ "last_modified": "now" }));
    let now = head("Web2", target);
    assert_eq!(now.header("last-modified"), now.header("date"));
    acme.set("Web2", json!({ "last_modified": "off" }));
    assert_eq!(head("Web2", target).header("last-modified"), None);
    acme.set("Web1", json!({ "web_query_open": ["All.nsf"] }));
    assert!(seconds(&head("Web1", target), "last-modified") > seconds(&web1, "last-modified"), "it moves");
    acme.set("Web1", json!({ "head_status": 401 }));
    assert_eq!((head("Web1", target).status, Client::to(acme.http("Web1")).get(target).status), (401, 200));
}

#[test]
fn without_replication_pages_and_statistics_are_as_before() {
    let acme = Acme::sample();
    let mut web1 = Client::to(acme.http("Web1"));
    let page = web1.post("/mail/jdoe.nsf/Memo?CreateDocument&echo=json", &[], "text=x");
    assert_eq!((page.status, page.header("last-modified"), &page.json()["unid"]), (200, None, &Value::Null));
    assert_eq!(web1.get("/icm.nsf/companion?OpenAgent").status, 404);
    let metrics = Client::to(acme.server("Web1").metrics.unwrap()).get("/metrics").text();
    assert!(!metrics.contains("Replica") && !metrics.contains("BootID"), "{metrics}");
    assert!(acme.replication()["databases"].as_array().unwrap().is_empty());
    acme.set("all", json!({ "replication": true, "push_ms": 10 }));
    let saved = create_document(&mut web1, "sales/leads.nsf", &[("text", "x")]);
    acme.wait_until_replicated();
    let unid = saved["unid"].as_str().unwrap();
    assert!(read_document(&mut Client::to(acme.http("Web2")), "apps/leads.nsf", unid).is_some());
    acme.ask("POST", "/reset", None);
    assert_eq!(web1.get(&format!("/sales/leads.nsf/0/{unid}?OpenDocument")).status, 200, "any page");
    assert!(eventually(Duration::from_secs(1), || acme.replication()["databases"] == json!([])));
}

//! The companion of a simulated server: its document in all shapes, and the replication that it starts.

use crate::support::*;
use serde_json::{Value, json};

const COMPANION: &str = "/icm.nsf/companion?OpenAgent";
/// `ICM Reader:reader`
const BASIC: (&str, &str) = ("Authorization", "Basic SUNNIFJlYWRlcjpyZWFkZXI=");

fn get(acme: &Acme, server: &str) -> Answer {
    Client::to(acme.http(server)).get(COMPANION)
}

/// The value of a time in the document, in seconds since 1970.
fn seconds(value: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp()
}

#[test]
fn the_companion_tells_what_its_server_knows() {
    let acme = Acme::replicating("{ push_ms: 10, companion: true }");
    acme.set("Web1", json!({ "index": 84, "threshold": 20, "users": 96, "restricted": 2, "maxusers": 300 }));
    create_document(&mut Client::to(acme.http("Web1")), "two.nsf", &[]);
    acme.wait_for_replication("pushed", |_| acme.replica_statistic("Web1", "Successful") == 1);
    let answer = get(&acme, "Web1");
    assert_eq!(answer.header("content-type"), Some("application/json; charset=UTF-8"));
    let document = answer.json();
    assert_eq!((&document["icm_companion"], &document["server"]), (&json!(1), &json!("CN=Web1/O=Acme")));
    let numbers =
        ["availability_index", "availability_threshold", "users", "server_restricted", "server_maxusers"];
    assert_eq!(numbers.map(|name| document[name].as_u64().unwrap()), [84, 20, 96, 2, 300]);
    assert_eq!(document["cluster"], "AcmeWeb");
    assert_eq!(document["members"], json!(["CN=Web1/O=Acme", "CN=Web2/O=Acme", "CN=Web3/O=Acme"]));
    assert_eq!((&document["replication"]["successful"], &document["missing"]), (&json!(1), &json!([])));
    let replicas = document["replicas"].as_array().unwrap();
    let two = replicas.iter().find(|replica| replica["path"] == "two.nsf").unwrap();
    assert_eq!((&two["replica_id"], &two["title"]), (&json!("C1257A000041D202"), &json!("Two")));
    assert_eq!((&two["out_of_service"], &two["pending_delete"]), (&json!(false), &json!(false)));
    assert!(seconds(&document["started"]) <= seconds(&two["modified"]));
    assert!(seconds(&two["modified"]) <= seconds(&document["time"]));
    let all = replicas.iter().find(|replica| replica["path"] == "all.nsf").unwrap();
    assert!(seconds(&document["time"]) - seconds(&all["modified"]) >= 3595, "an untouched copy is older");
    acme.set("Web2", json!({ "clock_skew_ms": -600_000 }));
    let behind = seconds(&document["time"]) - seconds(&get(&acme, "Web2").json()["time"]);
    assert!((500..=601).contains(&behind), "{behind}");
}

#[test]
fn the_companion_can_lack_items_and_mislead_its_reader() {
    let acme = Acme::replicating("{ companion: true }");
    let missing = ["users", "replication.failed", "replicas.modified"];
    acme.set("Web1", json!({ "companion_missing": missing }));
    let document = get(&acme, "Web1").json();
    assert_eq!((document.get("users"), document["replication"].get("failed")), (None, None));
    assert!(document["replicas"].as_array().unwrap().iter().all(|r| r.get("modified").is_none()));
    assert_eq!(document["missing"].as_array().unwrap().len(), 3);
    assert!(document["missing"][0].as_str().unwrap().starts_with("users: not readable"));
    let trap = |trap: Value| {
        acme.set("Web1", json!({ "companion_trap": trap, "companion_missing": [] }));
        get(&acme, "Web1")
    };
    let html = trap(json!("html"));
    assert!(html.status == 200 && html.text().contains("_DominoForm"), "{}", html.text());
    assert!(serde_json::from_slice::<Value>(&trap(json!("truncated")).body).is_err());
    assert_eq!(trap(json!("error500")).status, 500);
    let strings = trap(json!("strings")).json();
    assert_eq!((&strings["icm_companion"], &strings["replication"]["failed"]), (&json!("1"), &json!("0")));
    let frozen = trap(json!("old")).json()["time"].clone();
    pause(1100);
    assert_eq!(get(&acme, "Web1").json()["time"], frozen);
    assert_ne!(trap(json!(null)).json()["time"], frozen);
    acme.set("Web1", json!({ "companion_login": true }));
    assert!(get(&acme, "Web1").text().contains("_DominoForm"));
    assert_eq!(Client::to(acme.http("Web1")).get_with(COMPANION, &[BASIC]).json()["icm_companion"], 1);
    acme.set("Web1", json!({ "companion": false }));
    assert_eq!(get(&acme, "Web1").status, 404);
}

#[test]
fn the_companion_starts_a_replication_for_who_has_the_token() {
    let acme = Acme::replicating("{ push_ms: 3600000, companion: true, companion_token: t0ken }");
    let saved = create_document(&mut Client::to(acme.http("Web1")), "all.nsf", &[]);
    let unid = saved["unid"].as_str().unwrap();
    acme.stop_server("Web1");
    acme.start_server("Web1");
    acme.stop_server("Web3");
    let post =
        |headers: &[(&str, &str)], form: &str| Client::to(acme.http("Web1")).post(COMPANION, headers, form);
    let refused = post(&[("Authorization", "Bearer wrong")], "action=replicate&token=wrong");
    assert_eq!(refused.status, 403);
    let form = "action=replicate&server=Web1%2FAcme&cluster=AcmeWeb&token=t0ken";
    let started = post(&[("Authorization", "Bearer t0ken")], form);
    assert_eq!(started.json(), json!({ "icm_companion": 1, "replicating_with": ["CN=Web2/O=Acme"] }));
    acme.wait_for_replication("replicated", |_| {
        read_document(&mut Client::to(acme.http("Web2")), "all.nsf", unid).is_some()
    });
    let calls = acme.replication()["servers"]["Web1/Acme"]["companion_calls"].clone();
    assert_eq!((&calls[0]["allowed"], &calls[1]["allowed"]), (&json!(false), &json!(true)));
    let call = ["token", "authorization", "server", "cluster"].map(|name| calls[1][name].as_str().unwrap());
    assert_eq!(call, ["t0ken", "Bearer t0ken", "Web1/Acme", "AcmeWeb"]);
    acme.start_server("Web3");
    acme.set("Web3", json!({ "replicate_delay_ms": 3_600_000 }));
    let waits = Client::to(acme.http("Web3")).post(COMPANION, &[], form);
    assert_eq!(waits.status, 200);
    assert_eq!(acme.replication()["servers"]["Web3/Acme"]["requested"], 1);
    assert_eq!(read_document(&mut Client::to(acme.http("Web3")), "all.nsf", unid), None);
}

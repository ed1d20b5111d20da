//! `home_mail`: one address that leads each user to his own mail file.

use serde_json::json;

use crate::support::*;

/// `Jane Doe:secret` and `Max Muster:geheim`
const JANE: (&str, &str) = ("Authorization", "Basic SmFuZSBEb2U6c2VjcmV0");
const MAX: (&str, &str) = ("Authorization", "Basic TWF4IE11c3RlcjpnZWhlaW0=");

fn start() -> (Acme, Icm) {
    let acme = Acme::built_in();
    acme.set("all", json!({ "companion": true }));
    let mut config = config(&acme);
    let route = "[{ name: home, match: { path: [/mail, /mail/] }, home_mail: on }]";
    set(&mut config, "clusters.0.routes", route);
    let icm = Icm::start(config);
    (acme, icm)
}

/// Status and `Location` of an answer that no cache may keep.
fn redirected(answer: &Answer) -> (u16, &str) {
    let location = answer.header("location").unwrap_or_else(|| panic!("{}\n{}", answer.head, answer.text()));
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{}", answer.head);
    (answer.status, location)
}

/// What the agents were asked so far, over all servers.
fn calls(acme: &Acme) -> Vec<serde_json::Value> {
    let replication = acme.replication();
    let servers = replication["servers"].as_object().unwrap().values();
    servers.flat_map(|server| server["companion_calls"].as_array().unwrap().clone()).collect()
}

#[test]
fn a_user_is_led_to_the_login_and_then_to_his_own_mail_file() {
    let (acme, icm) = start();
    let mut browser = Browser::new(icm.address);
    let first = browser.get("/mail?from=portal");
    assert_eq!(redirected(&first), (302, "/names.nsf?Login&RedirectTo=%2Fmail%3Ffrom%3Dportal"));
    let logged_in = browser.log_in("/mail?from=portal");
    assert_eq!((logged_in.status, logged_in.header("location")), (302, Some("/mail?from=portal")));
    let home = browser.get("/mail?from=portal");
    assert_eq!(redirected(&home), (302, "/mail/jdoe.nsf"));
    // The agent gets the session under its own name, and none of our cookies.
    let last = calls(&acme).into_iter().rfind(|call| call["cookie"].is_string()).unwrap();
    let sent = last["cookie"].as_str().unwrap();
    assert!(sent.starts_with("DomAuthSessId=") && !sent.contains("ICM"), "{sent}");
    assert_eq!(last["host"], icm.address.to_string());
    assert_eq!(last["forwarded_for"], "127.0.0.1");
    // Affinity takes over at the database.
    let open = |target: &str| icm.client().get_with(target, &[JANE]);
    let home = open("/mail/");
    assert_eq!(redirected(&home), (302, "/mail/jdoe.nsf"));
    let mail = open(home.header("location").unwrap());
    assert!(mail.status == 200 && mail.cookie("ICM").is_some(), "{}", mail.head);
    assert_eq!(redirected(&icm.client().get_with("/mail", &[MAX])).1, "/mail/mmuster.nsf");
    assert_eq!(redirected(&icm.client().request("HEAD", "/mail", &[JANE], b"").unwrap()).1, "/mail/jdoe.nsf");
    // Neither another path nor a login of the connection reaches the agent.
    let asked = calls(&acme).len();
    assert_eq!(icm.client().get_with("/mail/jdoe.nsf", &[JANE]).status, 200);
    assert_eq!(calls(&acme).len(), asked);
    let step = icm.client().get_with("/mail", &[("Authorization", "Negotiate YIIB")]);
    assert!(redirected(&step).1.starts_with("/names.nsf?Login"), "{}", step.head);
    assert_eq!(calls(&acme).iter().filter(|call| call["authorization"] == "Negotiate YIIB").count(), 0);
    icm.wait_for_log("\"why\":\"session\"");
    let explained = icm.explain("/mail");
    let note = explained["notes"][0].as_str().unwrap();
    assert!(note.contains("/icm.nsf/companion?OpenAgent&whoami"), "{explained}");
}

#[test]
fn an_ambiguous_path_becomes_the_replica_id_and_no_answer_becomes_a_page() {
    let (acme, icm) = start();
    let other =
        json!({ "server": "Web4/Acme", "path": "mail/mmuster.nsf", "replica_id": "852562F3007AB001" });
    acme.ask("POST", "/databases", Some(&other));
    let by_id =
        || icm.client().get_with("/mail", &[MAX]).header("location") == Some("/__852562F3007ABFD7.nsf");
    assert!(eventually(MAX_WAIT, by_id), "{:?}", icm.client().get_with("/mail", &[MAX]).head);
    let page = |settings: serde_json::Value| {
        acme.set("all", settings);
        let answer = icm.client().get_with("/mail", &[JANE, ("Accept", "application/json")]);
        (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
    };
    assert_eq!(page(json!({ "companion_missing": ["mail_file"] })), (404, "no_home_mail".to_owned()));
    let bad_gateway = (502, "bad_gateway".to_owned());
    assert_eq!(page(json!({ "companion_missing": [], "companion_trap": "truncated" })), bad_gateway);
    assert_eq!(page(json!({ "companion_trap": "error500" })), bad_gateway);
    icm.wait_for_log("OpenAgent&whoami: the answer is not the companion's JSON");
    assert_eq!(page(json!({ "companion_trap": null, "companion": false })), bad_gateway);
    // Nothing was sent to a server that refuses connections, so another one is asked.
    acme.set("all", json!({ "companion": true }));
    for server in ["Web1", "Web2", "Web3"] {
        acme.fault(server, json!("refuse"));
    }
    assert_eq!(redirected(&icm.client().get_with("/mail", &[JANE])).1, "/mail/jdoe.nsf");
    acme.fault("Web4", json!("refuse"));
    assert_eq!(page(json!({})), (503, "no_server".to_owned()));
}

//! The receiver of Domino's statistics: which sender may report about which server, and the responses to everything else.

use crate::support::*;
use serde_json::json;

const TOKEN: &str = "k3yR7uPq";

/// A receiver with a token, and a client of it. Web1 is at 127.0.0.1, Web2 at another address.
fn receiver(change: impl FnOnce(&mut serde_yaml::Value)) -> (Acme, Icm, Client, tempfile::TempDir) {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    let dir = tempfile::tempdir().unwrap();
    let file = secret_file(dir.path(), "statpub-token", TOKEN);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    set(&mut settings, "clusters.0.availability", "{ source: statpub }");
    set(&mut settings, "clusters.0.servers.list.1.http", "\"127.0.0.2:9\"");
    set(&mut settings, "clusters.0.servers.list.1.https", "\"127.0.0.2:9\"");
    set(&mut settings, "statpub", &format!("{{ address: \"{address}\", token_file: {file} }}"));
    change(&mut settings);
    let icm = Icm::start(settings);
    let client = Client::to(address).with("Authorization", &format!("Bearer {TOKEN}"));
    (acme, icm, client, dir)
}

fn post(client: &mut Client, target: &str, body: &str) -> u16 {
    client.request("POST", target, &[("Content-Type", "text/plain")], body.as_bytes()).unwrap().status
}

fn body(index: u32) -> String {
    format!("Domino.Server.AvailabilityIndex {index}\nDomino.Server.Users 4\nDomino.Server.Name Web1/Acme\n")
}

#[test]
fn a_report_names_its_server_by_common_name_full_name_or_only_in_the_body() {
    let (_acme, icm, mut client, _dir) = receiver(|_| {});
    let targets = [
        "/statpub/Web1",
        "/statpub/wEB1",
        "/statpub/CN%3DWeb1%2FO%3DAcme",
        "/statpub/Web1%2FAcme",
        "/statpub",
    ];
    for (n, target) in targets.into_iter().enumerate() {
        let index = 50 + n as u32;
        assert_eq!(post(&mut client, target, &body(index)), 204, "{target}");
        assert_eq!(icm.status_of("Web1")["index"], index, "{target}");
    }
    // The name in the URL is enough.
    assert_eq!(post(&mut client, "/statpub/Web1", "Server.AvailabilityIndex=33"), 204);
    assert_eq!(icm.status_of("Web1")["index"], 33);
}

#[test]
fn an_invalid_report_is_refused_and_changes_nothing() {
    let (_acme, icm, mut client, _dir) = receiver(|_| {});
    assert_eq!(post(&mut client, "/statpub/Web1", &body(77)), 204);
    assert_eq!(
        post(&mut client, "/statpub/Nobody", "Domino.Server.AvailabilityIndex 5"),
        404,
        "unknown server"
    );
    assert_eq!(post(&mut client, "/statpub/Nobody", &body(5)), 404, "the URL's name is unknown");
    assert_eq!(post(&mut client, "/elsewhere", &body(5)), 404, "unknown path");
    assert_eq!(post(&mut client, "/statpub/Web3", &body(5)), 400, "URL and body differ");
    assert_eq!(post(&mut client, "/statpub/Web1", "nothing of ours"), 400, "no statistics");
    assert_eq!(post(&mut client, "/statpub", "Domino.Server.AvailabilityIndex 5"), 400, "no server is named");
    assert_eq!(
        post(&mut client, "/statpub/Web2", "Domino.Server.AvailabilityIndex 5"),
        403,
        "the sender has another address than the server"
    );
    assert_eq!(client.get("/statpub/Web1").status, 405);
    let large = "x".repeat((1 << 20) + 1);
    let head = client.head("POST", "/statpub/Web1", &[("Content-Length", &large.len().to_string())]);
    client.close();
    client.send(head.as_bytes()).unwrap();
    assert_eq!(client.read("POST").unwrap().status, 413, "Content-Length is too large");
    client.close();
    for token in [None, Some("Bearer wrong"), Some("k3yR7uPq"), Some("Basic k3yR7uPq")] {
        let address: std::net::SocketAddr = client.host.parse().unwrap();
        let mut other = Client::to(address);
        if let Some(token) = token {
            other = other.with("Authorization", token);
        }
        assert_eq!(post(&mut other, "/statpub/Web1", &body(5)), 401, "{token:?}");
    }
    assert_eq!(icm.status_of("Web1")["index"], 77, "no refused report was used");
}

#[test]
fn a_chunked_body_that_becomes_too_large_is_refused() {
    let (_acme, icm, mut client, _dir) = receiver(|_| {});
    let mut bytes = client.head("POST", "/statpub/Web1", &[("Transfer-Encoding", "chunked")]).into_bytes();
    let chunk = format!("8000\r\n{}\r\n", "Domino.Server.Users 7 ".repeat(1490).get(..0x8000).unwrap());
    for _ in 0..40 {
        bytes.extend_from_slice(chunk.as_bytes());
    }
    // The receiver may answer before the whole body was written.
    let _ = client.send(&bytes);
    assert_eq!(client.read("POST").map(|a| a.status).unwrap_or(413), 413);
    assert!(icm.status_of("Web1")["index"].is_null());
}

#[test]
fn a_sender_in_an_allowed_network_may_report_about_every_server() {
    let (_acme, icm, mut client, _dir) = receiver(|c| set(c, "statpub.allow", "[127.0.0.0/8]"));
    assert_eq!(post(&mut client, "/statpub/Web2", "Domino.Server.AvailabilityIndex 61"), 204);
    assert_eq!(icm.status_of("Web2")["index"], 61);
}

#[test]
fn a_report_about_a_server_without_statpub_is_a_conflict() {
    let (_acme, _icm, mut client, _dir) =
        receiver(|c| set(c, "clusters.0.servers.list.0.availability", "[{ source: observed }]"));
    assert_eq!(post(&mut client, "/statpub/Web1", &body(61)), 409);
}

#[test]
fn reports_pushed_by_domino_arrive() {
    let (acme, icm, client, _dir) = receiver(|_| {});
    let url = format!("http://{}/statpub/{{name}}", client.host);
    acme.set(
        "Web1",
        json!({ "statpub_url": url, "statpub_token": TOKEN, "index": 42, "statpub_interval_ms": 100 }),
    );
    icm.wait_for_server("Web1", "with index 42", |s| s["index"] == 42);
}

#[test]
fn guessed_tokens_are_answered_with_401_and_then_429() {
    let mut address = String::new();
    let (_acme, icm, mut client, _dir) =
        receiver(|settings| settings["statpub"]["address"].as_str().unwrap().clone_into(&mut address));
    let address = address.parse().unwrap();
    assert_guesses_are_limited(|n| {
        let mut client = Client::to(address).with("Authorization", &format!("Bearer guess{n}"));
        post(&mut client, "/statpub/Web1", &body(n as u32))
    });
    icm.wait_for_log("statpub: too many wrong tokens from 127.0.0.1");
    assert!(eventually(MAX_WAIT, || post(&mut client, "/statpub/Web1", &body(77)) == 204), "the limit ends");
}

#[test]
fn a_sender_without_permission_is_refused_before_its_body_is_read() {
    let (_acme, icm, client, _dir) = receiver(|c| {
        for server in c["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap() {
            set(server, "http", "\"127.0.0.2:9\"");
            set(server, "https", "\"127.0.0.2:9\"");
        }
    });
    let address: std::net::SocketAddr = client.host.parse().unwrap();
    let with_token = || Client::to(address).with("Authorization", &format!("Bearer {TOKEN}"));
    for (mut client, target, expected) in [
        (with_token(), "/statpub", 403),
        (with_token(), "/statpub/Web1", 403),
        (Client::to(address), "/statpub", 401),
        (Client::to(address), "/statpub/Web1", 401),
    ] {
        // Only the head is sent.
        let head = client.head("POST", target, &[("Content-Length", "1000000")]);
        client.send(head.as_bytes()).unwrap();
        assert_eq!(client.read("POST").unwrap().status, expected, "{target}");
    }
    assert!(icm.status_of("Web1")["index"].is_null());
}

//! The access log, in both formats, for requests of every kind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::*;
use serde_json::{Value, json};

/// A cluster in front of which the log is a file in this format; one path there means two databases.
fn logged(format: &str) -> (Acme, Icm, tempfile::TempDir, PathBuf) {
    let scenario = format!(
        "{THREE_SERVERS}  - {{ path: news.nsf, replica_id: C1257A000041D204, replicas: [Web1] }}
  - {{ path: news.nsf, replica_id: C1257A000041D205, replicas: [Web2] }}
"
    );
    let acme = Acme::start(&scenario);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let mut config = config(&acme);
    set(&mut config, "access_log", &format!("{{ path: {}, format: {format} }}", file.display()));
    set(&mut config, "clusters.0.hostnames", "[www.acme.example]");
    set(
        &mut config,
        "clusters.0.probe",
        "{ interval: 1h, timeout: 1s, unreachable_after: 1000, healthy_after: 1 }",
    );
    set(&mut config, "clusters.0.failover.passive_failures", "0");
    let icm = Icm::start(config);
    (acme, icm, dir, file)
}

fn client(icm: &Icm) -> Client {
    icm.client().host("www.acme.example")
}

/// The lines, once there are so many.
fn lines(file: &Path, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let came = eventually(MAX_WAIT, || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        lines = text.lines().map(str::to_owned).collect();
        lines.len() >= count && text.ends_with('\n')
    });
    assert!(came && lines.len() == count, "{count} lines are due: {lines:#?}");
    lines
}

fn objects(file: &Path, count: usize) -> Vec<Value> {
    lines(file, count)
        .iter()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect()
}

#[test]
fn a_request_is_logged_with_its_database_its_server_and_every_attempt() {
    let (acme, icm, _dir, file) = logged("json");
    // First, as long as no connection is kept that could be found dead.
    acme.fault("Web1", json!("refuse"));
    acme.fault("Web2", json!("reset"));
    assert_eq!(client(&icm).get("/all.nsf").server(), "Web3/Acme");
    // Each line waits for the one before: they are written after the answer, by several threads.
    lines(&file, 1);
    assert_eq!(client(&icm).get("/only.nsf").status, 503);
    lines(&file, 2);
    assert_eq!(client(&icm).post("/two.nsf/form?OpenForm", &[], "a=b").status, 502);
    lines(&file, 3);
    acme.heal("Web1");
    let answer = client(&icm).get_with("/only.nsf?OpenDatabase", &[("User-Agent", "test"), ("Referer", "r")]);
    assert_eq!(answer.status, 200);
    let log = objects(&file, 4);
    let first = &log[3];
    for (key, expected) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("host", json!("www.acme.example")),
        ("target", json!("/only.nsf?OpenDatabase")),
        ("protocol", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("bytes", json!(answer.body.len())),
        ("referer", json!("r")),
        ("user_agent", json!("test")),
        ("cluster", json!("AcmeWeb")),
        ("database", json!("only.nsf")),
        ("replica_id", json!("C1257A000041D203")),
        ("server", json!("Web1/Acme")),
        ("state", json!("AVAILABLE")),
        ("why", json!("lightest")),
        ("attempts", json!([{ "server": "Web1/Acme", "cause": null }])),
        ("page", json!(null)),
    ] {
        assert_eq!(first[key], expected, "{key} in {first:#}");
    }
    let time = first["time"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok() && time.ends_with('Z'), "{time}");
    assert!(first["ttfb_ms"].as_u64().unwrap() <= first["total_ms"].as_u64().unwrap());

    assert_eq!(log[0]["server"], "Web3/Acme");
    let tried = log[0]["attempts"].as_array().unwrap();
    assert_eq!(tried.last().unwrap(), &json!({ "server": "Web3/Acme", "cause": null }));
    for attempt in &tried[..tried.len() - 1] {
        let cause = if attempt["server"] == "Web1/Acme" { "connect" } else { "broken" };
        assert_eq!(attempt["cause"], cause, "{tried:?}");
    }
    assert_eq!((&log[1]["status"], &log[1]["page"]), (&json!(503), &json!("no_server")));
    assert_eq!(log[1]["attempts"], json!([{ "server": "Web1/Acme", "cause": "connect" }]));
    // Sent once and never again: the last attempt has a cause, too.
    assert_eq!((&log[2]["status"], &log[2]["page"]), (&json!(502), &json!("bad_gateway")));
    let tried = log[2]["attempts"].as_array().unwrap();
    assert_eq!(tried.last().unwrap(), &json!({ "server": "Web2/Acme", "cause": "broken" }), "{tried:?}");
}

#[test]
fn what_we_answer_ourselves_is_logged_with_its_cluster_and_its_reason() {
    let (_acme, icm, _dir, file) = logged("json");
    assert_eq!(client(&icm).get("/news.nsf").status, 300);
    lines(&file, 1);
    assert_eq!(client(&icm).post("/news.nsf", &[], "a=b").status, 409);
    lines(&file, 2);
    assert_eq!(icm.client().host("elsewhere.example").get("/").status, 421);
    lines(&file, 3);
    assert_eq!(client(&icm).get("/a/../only.nsf").status, 400);
    let log = objects(&file, 4);
    let said = |n: usize| {
        let field = |key: &str| log[n][key].as_str().unwrap_or("-").to_owned();
        (field("cluster"), field("why"), field("page"))
    };
    let expected =
        |cluster: &str, why: &str, page: &str| (cluster.to_owned(), why.to_owned(), page.to_owned());
    assert_eq!(said(0), expected("AcmeWeb", "choice", "-"));
    assert_eq!((said(1).0, &log[1]["status"]), ("AcmeWeb".to_owned(), &json!(409)));
    assert_eq!(said(2), expected("-", "misdirected", "misdirected"));
    assert_eq!(log[2]["host"], "elsewhere.example");
    assert_eq!(said(3), expected("-", "bad_request", "bad_request"));
}

#[test]
fn nothing_a_client_writes_can_forge_a_line() {
    for format in ["json", "combined"] {
        let (_acme, icm, _dir, file) = logged(format);
        let mut client = client(&icm);
        client.send(
            b"GET /only.nsf?%22%0d%0a HTTP/1.1\r\nHost: www.acme.example\r\nUser-Agent: x\" 200 \\\xff\xc3\xa4\tcluster=Forged\r\nReferer: \x80\"}{\"a\":1\r\nConnection: close\r\n\r\n",
        ).unwrap();
        let answer = client.read("GET").unwrap();
        let all = lines(&file, 1);
        if format == "json" {
            let line: Value = serde_json::from_str(&all[0]).unwrap();
            assert_eq!(line["status"], answer.status);
            assert_eq!(line["user_agent"], "x\" 200 \\\u{fffd}\u{e4}\tcluster=Forged");
            assert_eq!(line["referer"], "\u{fffd}\"}{\"a\":1");
        } else {
            assert!(all[0].is_ascii(), "{}", all[0]);
            assert!(all[0].contains(r#""x\" 200 \\\xff\xc3\xa4\x09cluster=Forged""#), "{}", all[0]);
            let blank = all[0].matches("\" cluster=").count();
            assert_eq!(blank, 1, "{}", all[0]);
        }
    }
}

#[test]
fn the_combined_format_is_apaches_with_our_fields_behind() {
    let (acme, icm, _dir, file) = logged("combined");
    acme.fault("Web1", json!("refuse"));
    assert_eq!(client(&icm).get("/only.nsf").status, 503);
    acme.heal("Web1");
    assert_eq!(client(&icm).get_with("/only.nsf", &[("User-Agent", "Mozilla/5.0 (X)")]).status, 200);
    let all = lines(&file, 2);
    assert!(all[0].contains(" failed=Web1/Acme:connect page=no_server ttfb=- total="), "{}", all[0]);
    assert!(all[1].starts_with("127.0.0.1 - - ["), "{}", all[1]);
    assert!(all[1].contains("] \"GET /only.nsf HTTP/1.1\" 200 "), "{}", all[1]);
    let ours = "\"-\" \"Mozilla/5.0 (X)\" cluster=AcmeWeb db=only.nsf replica=C1257A000041D203 server=Web1/Acme state=AVAILABLE index=";
    assert!(all[1].contains(ours), "{}", all[1]);
    assert!(all[1].contains(" why=lightest ttfb="), "{}", all[1]);
}

#[test]
fn the_documentation_names_the_fields_that_there_are() {
    let (_acme, icm, _dir, file) = logged("json");
    client(&icm).get("/only.nsf");
    let line = lines(&file, 1).remove(0);
    let mut live: BTreeSet<String> =
        serde_json::from_str::<serde_json::Map<String, Value>>(&line).unwrap().keys().cloned().collect();
    // `tls::client_certificates` has a client that shows one.
    live.insert("client_subject".to_owned());
    // `admin::rehearsal` has users who are moved.
    live.insert("rehearsal".to_owned());
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap();
    let table = docs.split("## Access log").nth(1).unwrap();
    let named = |l: &str| l.strip_prefix("| `")?.split('`').next().map(str::to_owned);
    let documented: BTreeSet<String> = table.lines().filter_map(named).collect();
    assert_eq!(live, documented);
}

#[test]
fn a_log_that_cannot_be_written_is_counted_and_serves_on() {
    let (_acme, icm, _dir, _file) = logged("json");
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: no /dev/full");
        return;
    }
    let mut config: serde_yaml::Value =
        serde_yaml::from_str(&std::fs::read_to_string(&icm.file).unwrap()).unwrap();
    set(&mut config, "access_log.path", "/dev/full");
    icm.reload(&config);
    let errors = || {
        assert_eq!(client(&icm).get("/only.nsf").status, 200);
        icm.metric("icm_access_log_errors_total").unwrap()
    };
    assert!(eventually(MAX_WAIT, || errors() > 0.0), "{}", icm.log());
    assert_eq!(icm.metric("icm_access_log_dropped_total"), Some(0.0));
}

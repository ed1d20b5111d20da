//! The companion's document in all its shapes.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn sample() -> Value {
    serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/companion.json")))
        .unwrap()
}

fn parsed(value: &Value) -> CompanionDocument {
    parse(value.to_string().as_bytes()).unwrap()
}

#[test]
fn the_revision_of_a_document_is_read_as_a_whole_or_not_at_all() {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/companion-modified.json"));
    let sample: Value = serde_json::from_str(text).unwrap();
    let document = parsed(&sample);
    let expected = CompanionRevision {
        replica_id: ReplicaId(0xC125_7A00_0041_D2E0),
        unid: Unid::parse(b"E86886A81087A25805258E4F00502001").unwrap(),
        saved_unix_ms: 1_796_026_480_000,
    };
    assert_eq!(document.revision, Some(expected));
    assert_eq!(document.started_unix_ms(), Some(1_795_989_600_000));
    for (item, value) in [
        ("unid", json!("8FA")),
        ("replica_id", json!(null)),
        ("saved", json!("yesterday")),
        ("saved", json!(7)),
        ("unid", json!(["E86886A81087A25805258E4F00502001"])),
    ] {
        let mut changed = sample.clone();
        changed["revision"][item] = value;
        assert_eq!(parsed(&changed).revision, None, "{changed}");
    }
    assert_eq!(
        parsed(&json!({ "icm_companion": 1, "revision": "x", "started": "x" })).started_unix_ms(),
        None
    );
}

#[test]
fn every_item_of_the_sample_is_read() {
    let document = parsed(&sample());
    let report = &document.report;
    assert_eq!((report.index, report.threshold, report.restricted), (Some(84), Some(20), Some(false)));
    assert_eq!((report.users, report.max_users), (Some(96), Some(0)));
    assert_eq!(report.name.as_deref(), Some("Web1/Acme"));
    assert_eq!(report.updated_at, Some(1_796_026_502.0));
    let expected = ReplicatorReport {
        successful: Some(1204),
        failed: Some(0),
        retry_waiting: Some(0),
        work_queue_depth: Some(0),
        seconds_on_queue: Some(1),
        run: Some("2026-11-29T22:00:00Z".to_owned()),
    };
    assert_eq!(report.replicator, expected);
    assert_eq!(document.time_unix_ms, Some(1_796_026_502_000));
    let members: Vec<&str> = document.members.iter().map(ServerName::abbreviated).collect();
    assert_eq!(members, ["Web1/Acme", "Web2/Acme", "Web3/Acme"]);
    let replicas = document.replicas.unwrap();
    assert_eq!(replicas[0].path, "sales/leads.nsf");
    assert_eq!(replicas[0].replica_id, ReplicaId(0xC125_7A00_0041_D2E0));
    assert_eq!(replicas[0].modified_unix_ms, Some(1_796_026_480_000));
    assert_eq!(replicas[0].mark, Some(ReplicaStatus::InService));
    assert_eq!(document.missing.len(), 1);
    assert!(document.absent.is_empty() && document.warnings.is_empty(), "{:?}", document.warnings);
}

#[test]
fn numbers_may_be_strings_and_marks_numbers() {
    let mut value = sample();
    value["icm_companion"] = json!("1");
    value["availability_index"] = json!("84");
    value["server_restricted"] = json!("2");
    value["replication"]["retry_waiting"] = json!("3");
    value["replicas"][0]["out_of_service"] = json!(1);
    value["replicas"][0]["modified"] = json!("2026-11-30T09:14:40+01:00");
    let document = parsed(&value);
    assert_eq!((document.report.index, document.report.restricted), (Some(84), Some(true)));
    assert_eq!(document.report.replicator.retry_waiting, Some(3));
    let replica = &document.replicas.as_ref().unwrap()[0];
    assert_eq!(replica.mark, Some(ReplicaStatus::OutOfService));
    assert_eq!(replica.modified_unix_ms, Some(1_796_026_480_000));
}

#[test]
fn absent_and_null_items_are_unknown_and_named() {
    let document = parsed(&json!({ "icm_companion": 1, "users": null }));
    assert_eq!(document.report, AvailabilityReport::default());
    assert_eq!(document.replicas, None);
    assert_eq!(document.absent, ITEMS);
    assert!(document.warnings.is_empty());
}

#[test]
fn a_mark_is_known_only_if_both_items_were_read_or_one_is_set() {
    let mark = |replica: Value| {
        let mut replica = replica;
        replica["replica_id"] = json!("C1257A000041D2E0");
        parsed(&json!({ "icm_companion": 1, "replicas": [replica] })).replicas.unwrap()[0].mark
    };
    assert_eq!(mark(json!({})), None);
    assert_eq!(mark(json!({ "out_of_service": false })), None);
    assert_eq!(mark(json!({ "out_of_service": true })), Some(ReplicaStatus::OutOfService));
    assert_eq!(mark(json!({ "pending_delete": "yes" })), Some(ReplicaStatus::PendingDelete));
    let both = json!({ "out_of_service": "0", "pending_delete": false });
    assert_eq!(mark(both), Some(ReplicaStatus::InService));
}

#[test]
fn values_out_of_range_and_bad_replicas_are_ignored_with_warnings() {
    let mut value = sample();
    value["icm_companion"] = json!(2);
    value["availability_index"] = json!(150);
    value["time"] = json!("yesterday");
    value["replicas"] = json!([{ "path": "a.nsf" }, 7, null, "x", { "replica_id": "no" }]);
    let document = parsed(&value);
    assert_eq!((document.report.index, document.time_unix_ms), (None, None));
    assert_eq!(document.replicas.as_deref(), Some(&[][..]));
    let warnings = document.warnings.join("; ");
    for part in ["icm_companion is 2", "150", "yesterday", "no replica_id: a.nsf", "2 more replicas"] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
}

#[test]
fn two_copies_of_a_database_on_one_server_say_nothing() {
    let replica = |path: &str| json!({ "path": path, "replica_id": "C1257A000041D2E0" });
    let mut value = sample();
    value["replicas"].as_array_mut().unwrap().push(replica("copies/leads.nsf"));
    assert_eq!(parsed(&value).replicas_by_id()[&ReplicaId(0xC125_7A00_0041_D2E0)], None);
}

#[test]
fn anything_else_is_an_error_that_says_what_came_instead() {
    let page =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/not-authorised-login-page.html"));
    assert_eq!(parse(page), Err(ParseError::LoginPage));
    let sample = sample().to_string();
    let cut = &sample.as_bytes()[..sample.len() / 2];
    for (body, part) in [
        (&b"<html><body>Error 500</body></html>"[..], "HTML"),
        (b"", "EOF"),
        (b"[1]", "no JSON object"),
        (b"{\"users\": 1}", "icm_companion"),
        (b"{\"icm_companion\": null}", "icm_companion"),
        (cut, "EOF"),
    ] {
        let error = parse(body).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(parse(b"\xef\xbb\xbf{\"icm_companion\":1}").is_ok(), "a byte order mark is no error");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let key = "path|replica_id|modified|out_of_service|retry_waiting|failed";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_value_of_an_item_spoils_the_others(item in 0..ITEMS.len(), value in any_json()) {
        let (good, mut bad) = (parsed(&sample()), sample());
        bad[ITEMS[item]] = value;
        let document = parsed(&bad);
        if ITEMS[item] != "availability_index" {
            prop_assert_eq!(document.report.index, good.report.index);
        }
        if ITEMS[item] != "replicas" {
            prop_assert_eq!(document.replicas, good.replicas);
        }
    }
}

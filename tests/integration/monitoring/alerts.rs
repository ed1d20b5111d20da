//! Alert rules and the dashboard use only metrics, labels and values that the running program has.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::exposition::read;
use crate::support::*;

/// Names of samples, their labels, and the values that each label can have.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a program with every kind of metric says, and what Prometheus adds.
fn known() -> Known {
    let (_acme, icm) = start_cluster(&[]);
    assert_eq!(icm.client().get("/all.nsf").status, 200);
    let mut known = Known::new();
    for (name, family) in read(&icm.admin("/metrics").text()).unwrap() {
        known.entry(name).or_default();
        for sample in family.samples {
            let labels = known.entry(sample.name).or_default();
            for (label, value) in sample.labels {
                labels.entry(label).or_default().insert(value);
            }
        }
    }
    // Those without a sample here are documented, and metrics.rs compares that with samples.
    for (name, labels) in [
        ("icm_tls_certificate_expiry_timestamp_seconds", &["listener", "file"][..]),
        ("icm_members_readable", &["cluster"]),
        ("icm_server_availability_index", &["cluster", "server"]),
        ("icm_replicas_behind", &["cluster"]),
        ("icm_replicas_behind_oldest_seconds", &["cluster"]),
        ("icm_server_catching_up_seconds", &["cluster", "server"]),
    ] {
        let of = known.get_mut(name).unwrap_or_else(|| panic!("{name} is gone"));
        for label in labels {
            of.entry((*label).to_owned()).or_default();
        }
    }
    known.insert("up".to_owned(), BTreeMap::new());
    for labels in known.values_mut() {
        labels.insert("job".to_owned(), BTreeSet::from(["icm".to_owned()]));
        labels.insert("instance".to_owned(), BTreeSet::new());
    }
    known
}

/// Fails where an expression asks for what does not exist. Out: the labels that its result can carry.
fn check(known: &Known, whose: &str, expression: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    let mut metrics = 0;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |n| start + n);
        let word = &rest[start..end];
        rest = &rest[end..];
        if !(word == "up" || word.starts_with("icm_") || word.starts_with("process_")) {
            continue;
        }
        metrics += 1;
        let of = known.get(word).unwrap_or_else(|| panic!("{whose}: there is no metric {word}"));
        labels.extend(of.keys().cloned());
        let Some(matchers) = rest.strip_prefix('{') else { continue };
        let (matchers, after) = matchers.split_once('}').unwrap();
        rest = after;
        for matcher in matchers.split(',') {
            let (label, value) = matcher.split_once('=').unwrap();
            let label = label.trim_end_matches('!');
            let values = of.get(label).unwrap_or_else(|| panic!("{whose}: {word} has no label {label}"));
            let value = value.trim_start_matches('~').trim_matches('"');
            let exists = value.starts_with('$') || values.contains(value);
            assert!(exists, "{whose}: {word} never has {label}={value:?}, only {values:?}");
        }
    }
    assert!(metrics > 0, "{whose} asks for nothing: {expression}");
    for (at, _) in expression.match_indices("by (") {
        let list = expression[at + 4..].split(')').next().unwrap();
        for label in list.split(',').map(str::trim) {
            assert!(labels.contains(label), "{whose}: there is no label {label} in {expression}");
        }
    }
    labels
}

#[test]
fn every_alert_and_every_panel_asks_for_what_exists() {
    let known = known();
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/conf/prometheus/alerts.yaml")).unwrap();
    let rules: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let mut names = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_sequence().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        let labels = check(&known, name, rule["expr"].as_str().unwrap());
        assert!(
            ["info", "warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        for part in summary.split("$labels.").skip(1) {
            let label: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(labels.contains(&label), "{name} speaks of {label}, which it does not have");
        }
    }
    let wanted = [
        "IcmNoServerForRequests",
        "IcmServerUnreachable",
        "IcmDirectoryStale",
        "IcmDirectoryUnreadable",
        "IcmReloadFailed",
        "IcmCertificateExpires",
        "IcmErrors",
        "IcmAllServersBusy",
        "IcmRestarts",
        "IcmNotReady",
    ];
    assert!(wanted.iter().all(|name| names.contains(name)), "{names:?}");

    let text = std::fs::read_to_string(format!("{root}/conf/grafana/domino-icm.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let variables = board["templating"]["list"].as_array().unwrap();
    assert_eq!((&variables[0]["type"], &variables[0]["query"]), (&"datasource".into(), &"prometheus".into()));
    for variable in &variables[1..] {
        let query = variable["query"]["query"].as_str().unwrap();
        let inner = query.strip_prefix("label_values(").unwrap().trim_end_matches(')');
        let (metric, label) = inner.split_once(", ").unwrap();
        assert!(check(&known, "a variable", metric).contains(label), "{query}");
    }
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the number of another");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            check(&known, title, target["expr"].as_str().unwrap());
        }
    }
    assert!(ids.len() > 10);
}

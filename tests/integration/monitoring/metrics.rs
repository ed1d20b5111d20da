//! `/metrics`, read by a strict parser and compared with docs/monitoring.md.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::exposition::{Families, read, value};
use crate::support::*;
use serde_json::json;

fn families(icm: &Icm) -> Families {
    let answer = icm.admin("/metrics");
    assert_eq!(answer.status, 200);
    read(&answer.text()).unwrap_or_else(|e| panic!("{e}"))
}

/// The same once so many requests have been counted, which happens a moment after their answers.
fn settled(icm: &Icm, requests: f64) -> Families {
    let done = |all: &Families| {
        sum(all, "icm_request_duration_seconds_count", &[]) == requests
            && value(all, "icm_requests_in_flight", &[]) == 0.0
    };
    assert!(eventually(MAX_WAIT, || done(&families(icm))), "{}", icm.admin("/metrics").text());
    families(icm)
}

fn sum(families: &Families, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |s: &&exposition::Sample| {
        s.name == name && labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|have| have == v))
    };
    families.values().flat_map(|f| &f.samples).filter(fits).map(|s| s.value).sum()
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels_and_nothing_else_is() {
    let acme = Acme::built_in();
    let mut config = config_with_equal_indexes(&acme);
    let tls = certificate();
    let (cert, key) = (tls.path().join("icm.pem"), tls.path().join("icm.key"));
    let second = format!(
        "{{ address: \"127.0.0.1:{}\", tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}",
        free_port(),
        cert.display(),
        key.display()
    );
    let first = serde_yaml::to_string(&config["listeners"][0]["address"]).unwrap();
    set(&mut config, "listeners", &format!("[{{ address: {} }}, {second}]", first.trim()));
    set(&mut config, "clusters.0.freshness", "{ source: head, interval: 1s }");
    set(&mut config, "clusters.0.routes", "[{ match: { path: /closed }, deny: true }]");
    set(&mut config, "site", "Vienna");
    set(&mut config, "clusters.0.servers.list.3.site", "Graz");
    set(&mut config, "clusters.0.access", "domino_baseline");
    let icm = Icm::start(config);
    assert_eq!(icm.client().get("/sales/orders.nsf").status, 200);
    let has_index = || {
        let families = families(&icm);
        ["icm_server_availability_index", "icm_freshness_readings_total"]
            .iter()
            .all(|name| !families[*name].samples.is_empty())
    };
    assert!(eventually(MAX_WAIT, has_index));
    let live = families(&icm);
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap();
    let mut documented = BTreeMap::new();
    for line in docs.lines().filter(|l| l.starts_with("| `icm_") || l.starts_with("| `process_")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let labels: BTreeSet<_> = cells[3].split(", ").filter(|l| !l.is_empty()).map(str::to_owned).collect();
        assert!(!cells[4].is_empty(), "{line}");
        documented.insert(cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels));
    }
    assert_eq!(live.keys().collect::<BTreeSet<_>>(), documented.keys().collect::<BTreeSet<_>>());
    for (name, family) in &live {
        let (kind, labels) = &documented[name];
        assert_eq!(kind, &family.kind, "{name}");
        for sample in &family.samples {
            let mut have: BTreeSet<_> = sample.labels.keys().cloned().collect();
            have.remove("le");
            assert_eq!(&have, labels, "{name}");
        }
        let may_be_empty = name == "icm_members_readable" || name.starts_with("icm_config_follow_");
        assert!(may_be_empty || !family.samples.is_empty(), "{name} has no sample here");
    }
    let expires =
        value(&live, "icm_tls_certificate_expiry_timestamp_seconds", &[("file", cert.to_str().unwrap())]);
    assert_eq!(expires, 4_102_444_800.0, "2100-01-01");
}

/// A certificate that ends with the century.
fn certificate() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["www.acme.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    std::fs::write(dir.path().join("icm.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    secret_file(dir.path(), "icm.key", &key.serialize_pem());
    dir
}

#[test]
fn requests_are_counted_under_the_names_of_the_icm() {
    let (acme, icm) = start_cluster(&[]);
    // First, as long as no connection is kept that could be found dead.
    acme.fault("all", json!("refuse"));
    assert_eq!(icm.client().get("/all.nsf").status, 503);
    acme.heal("all");
    for _ in 0..3 {
        assert_eq!(icm.client().get("/all.nsf").status, 200);
    }
    let all = settled(&icm, 4.0);
    assert_eq!(value(&all, "icm_command_total", &[]), 4.0);
    assert_eq!(value(&all, "icm_command_redirects_successful_total", &[]), 3.0);
    assert_eq!(value(&all, "icm_command_redirects_unsuccessful_total", &[]), 1.0);
    assert_eq!(value(&all, "icm_requests_per1minute", &[]), 4.0);
    assert_eq!(value(&all, "icm_requests_per1hour", &[]), 4.0);
    assert_eq!(value(&all, "icm_server_running", &[]), 1.0);
    assert!(value(&all, "icm_sessions_outbound_total", &[]) >= 1.0);
    assert!(value(&all, "icm_sessions_inbound_sent_bytes_total", &[]) > 100.0);
    assert_eq!(value(&all, "icm_sessions_outbound_active", &[]), 0.0);
    assert!(value(&all, "icm_sessions_outbound_peak", &[]) >= 1.0);
}

#[test]
fn times_are_kept_by_cluster_and_class_and_failovers_by_cause() {
    let (acme, icm) = start_cluster(&[("hostnames", "[www.acme.example]")]);
    let ask = |target: &str| icm.client().host("www.acme.example").get(target).status;
    acme.fault("Web1", json!("refuse"));
    acme.fault("Web2", json!("refuse"));
    assert_eq!(ask("/all.nsf"), 200);
    assert_eq!(ask("/only.nsf"), 503);
    acme.heal("Web1");
    assert_eq!(ask("/only.nsf"), 200);
    assert_eq!(icm.client().host("elsewhere.example").get("/").status, 421);
    let all = settled(&icm, 4.0);
    let count = |cluster, status| {
        value(&all, "icm_request_duration_seconds_count", &[("cluster", cluster), ("status", status)])
    };
    assert_eq!((count("AcmeWeb", "2xx"), count("AcmeWeb", "5xx"), count("-", "4xx")), (2.0, 1.0, 1.0));
    assert_eq!(sum(&all, "icm_upstream_response_seconds_count", &[("cluster", "AcmeWeb")]), 2.0);
    assert!(value(&all, "icm_upstream_response_seconds_sum", &[("class", "document")]) > 0.0);
    let by_cause = |cause| value(&all, "icm_failovers_total", &[("cause", cause)]);
    let failed = sum(&all, "icm_server_attempts_total", &[("result", "connect_failed")]);
    // The last one, for the database that only Web1 holds, had nowhere to go.
    assert_eq!((by_cause("connect"), by_cause("timeout")), (failed - 1.0, 0.0));
}

#[test]
fn probes_are_counted_by_port_and_result() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    icm.wait_for_state("Web1", "AVAILABLE");
    let probes = |result: &str| {
        let labels = [("server", "Web1/Acme"), ("port", "http"), ("result", result)];
        value(&families(&icm), "icm_probes_total", &labels)
    };
    assert!(eventually(MAX_WAIT, || probes("ok") >= 2.0));
    assert_eq!(probes("failed"), 0.0);
    acme.fault("Web1", json!("refuse"));
    icm.wait_for_state("Web1", "UNREACHABLE");
    assert!(probes("failed") >= 1.0);
    let up = |port| value(&families(&icm), "icm_server_port_up", &[("server", "Web1/Acme"), ("port", port)]);
    assert_eq!(up("http"), 0.0);
    let state = [("server", "Web1/Acme"), ("state", "unreachable")];
    assert_eq!(value(&families(&icm), "icm_server_state", &state), 1.0);
}

#[test]
fn names_with_quotes_backslashes_and_umlauts_leave_the_text_valid() {
    let server = "M\u{fc}\"l\\ler {1}, \u{65e5}\u{672c}/Acme";
    let cluster = "We\"b\\n {}";
    let name = |text: &str| serde_json::to_string(text).unwrap();
    let config = serde_yaml::from_str(&format!(
        "listeners: [{{ address: 127.0.0.1:{} }}]
admin: {{ address: 127.0.0.1:{} }}
clusters:
- name: {}
  servers: {{ list: [{{ name: {}, hostname: web1.acme.example, http: \"127.0.0.1:{}\" }}] }}
  directory:
    source: static
    databases: [{{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [{{ server: {} }}] }}]
  probe: {{ interval: 100ms, timeout: 500ms }}
",
        free_port(),
        free_port(),
        name(cluster),
        name(server),
        free_port(),
        name(server),
    ))
    .unwrap();
    let icm = Icm::start(config);
    assert_eq!(icm.client().get("/a.nsf").status, 503);
    let all = settled(&icm, 1.0);
    let labels = [("cluster", cluster), ("server", server), ("state", "unreachable")];
    assert_eq!(value(&all, "icm_server_state", &labels), 1.0);
    let labels = [("cluster", cluster), ("status", "5xx")];
    assert_eq!(value(&all, "icm_request_duration_seconds_count", &labels), 1.0);
}

#[test]
fn nothing_a_client_asks_for_becomes_a_label() {
    let (_acme, icm) = start_cluster(&[]);
    let before: BTreeSet<_> = series(&icm);
    for n in 0..20 {
        icm.client().get(&format!("/made-up-{n}.nsf/{n}?OpenView&x={n}"));
        icm.client().host(&format!("h{n}.example")).get("/x.nsf");
    }
    let after = series(&icm);
    let new: Vec<_> = after.difference(&before).filter(|s| !s.contains("availability_index")).collect();
    assert!(new.is_empty(), "{new:?}");
}

fn series(icm: &Icm) -> BTreeSet<String> {
    let all = families(icm);
    all.values().flat_map(|f| &f.samples).map(|s| format!("{} {:?}", s.name, s.labels)).collect()
}

//! Configurations for tests, as YAML values and as files.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use serde_yaml::Value;

use super::acme::{Acme, Server};
use super::free_port;

/// A configuration for this cluster with short intervals: a listener and an admin listener on free ports, the servers
/// as a static list, the directory from cldbdir.nsf, probes every 200 ms.
pub fn config(acme: &Acme) -> Value {
    config_of(&acme.servers, &acme.ca_file)
}

/// [`config`] for servers that may run in several processes ([`Acme::only`]).
pub fn config_of(servers: &[Server], ca_file: &Path) -> Value {
    let servers: Vec<String> = servers
        .iter()
        .map(|s| {
            let port = |key: &str, at: Option<SocketAddr>| {
                at.map(|a| format!(", {key}: \"{a}\"")).unwrap_or_default()
            };
            let (http, https) = (port("http", s.http), port("https", s.https));
            format!("      - {{ name: {}, hostname: {}{http}{https} }}", s.name, s.hostname)
        })
        .collect();
    let text = format!(
        "pingora: {{ threads: 2, grace_period_seconds: 5 }}
listeners:
  - address: 127.0.0.1:{}
admin: {{ address: 127.0.0.1:{} }}
access_log: {{ path: stdout, format: json }}
clusters:
- name: AcmeWeb
  upstream_tls: {{ ca_file: {} }}
  servers:
    source: static
    list:
{}
  directory:
    source: cldbdir
    columns: {{ path: 0, server: 1, title: 2, replica_id: 3, out_of_service: 4, pending_delete: 5 }}
    refresh: 1s
  probe: {{ interval: 200ms, timeout: 1s, healthy_after: 1, unreachable_after: 2 }}
  failover: {{ connect_timeout: 500ms, response_timeout: 5s, slow_start: 0s }}
",
        free_port(),
        free_port(),
        ca_file.display(),
        servers.join("\n")
    );
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Adds a listener with TLS and HTTP/2 that uses the certificate of Web1, which also names `localhost`. Returns its
/// address, for [`super::wait_for`].
pub fn add_tls(config: &mut Value, acme: &Acme) -> SocketAddr {
    let address = format!("127.0.0.1:{}", free_port());
    let listener = format!("{{ address: \"{address}\", tls: {{ certificates: [{}] }} }}", acme.certificate());
    config["listeners"].as_sequence_mut().unwrap().push(serde_yaml::from_str(&listener).unwrap());
    address.parse().unwrap()
}

/// [`config`] with the same published index on all servers, so that selection is random: an observed index can exclude
/// a server until another one is slower.
pub fn config_with_equal_indexes(acme: &Acme) -> Value {
    let mut config = config(acme);
    acme.set("all", json!({ "index": 90 }));
    for (n, server) in acme.servers.iter().enumerate() {
        let Some(metrics) = server.metrics else { continue };
        let source = format!("{{ source: prometheus, url: \"http://{metrics}/metrics\", interval: 100ms }}");
        set(&mut config, &format!("clusters.0.servers.list.{n}.availability"), &source);
    }
    config
}

/// [`config`] in which the statistics of each server, those of its Cluster Replicator included, are read from its
/// console ten times a second, and an outage of 300 ms is a long one. Probes are patient: a server that does not answer in
/// time on a busy machine would be no witness any longer.
pub fn config_with_replicator_statistics(acme: &Acme) -> Value {
    let mut config = config(acme);
    for (n, server) in acme.servers.iter().enumerate() {
        let database =
            json!({ "server": server.name, "path": "icmstat.nsf", "replica_id": "C1256A2F00310003" });
        acme.ask("POST", "/databases", Some(&database));
        let url = format!("http://{}/icmstat.nsf/stat?OpenAgent", server.http.unwrap());
        let source = format!("{{ source: console, url: \"{url}\", interval: 100ms }}");
        set(&mut config, &format!("clusters.0.servers.list.{n}.availability"), &source);
    }
    set(&mut config, "clusters.0.catch_up", "{ after: 300ms, limit: 1h }");
    set(&mut config, "clusters.0.probe.timeout", "10s");
    config
}

/// Sets one key, given as a dotted path with numbers for lists, to a value given as YAML:
/// `set(&mut config, "clusters.0.failover.attempts", "1")`. Missing maps are created.
pub fn set(config: &mut Value, path: &str, yaml: &str) {
    let mut at = config;
    for part in path.split('.') {
        at = match part.parse::<usize>() {
            Ok(n) => &mut at.as_sequence_mut().unwrap_or_else(|| panic!("{path}: no list"))[n],
            Err(_) => {
                if at.is_null() {
                    *at = Value::Mapping(serde_yaml::Mapping::new());
                }
                let map = at.as_mapping_mut().unwrap_or_else(|| panic!("{path}: no map"));
                map.entry(part.into()).or_insert(Value::Null)
            }
        };
    }
    *at = serde_yaml::from_str(yaml).unwrap();
}

/// Gives every server these availability sources, read every 100 ms. With `statpub` among them, `acme` pushes.
pub fn sources_of(config: &mut Value, acme: &Acme, sources: &[&str], stale_after: &str) {
    let push = sources.contains(&"statpub").then(free_port);
    for (n, server) in acme.servers.iter().enumerate() {
        let own: Vec<String> = sources
            .iter()
            .map(|source| {
                let place = match *source {
                    "prometheus" => format!(", url: \"http://{}/metrics\"", server.metrics.unwrap()),
                    "console" => {
                        format!(", url: \"http://{}/icmstat.nsf/stat?OpenAgent\"", server.http.unwrap())
                    }
                    "agent_check" => format!(", port: {}", server.agent.unwrap().port()),
                    _ => String::new(),
                };
                let interval = if *source == "statpub" { "" } else { ", interval: 100ms" };
                format!("{{ source: {source}{place}{interval}, stale_after: {stale_after} }}")
            })
            .collect();
        set(config, &format!("clusters.0.servers.list.{n}.availability"), &format!("[{}]", own.join(", ")));
    }
    if let Some(port) = push {
        set(config, "statpub", &format!("{{ address: \"127.0.0.1:{port}\" }}"));
        let url = format!("http://127.0.0.1:{port}/statpub/{{name}}");
        acme.set("all", serde_json::json!({ "statpub_url": url, "statpub_interval_ms": 100 }));
    }
}

/// Writes a configuration into a new directory, which is removed with the value.
pub fn write_config(config: &Value) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("icm.yaml");
    std::fs::write(&file, serde_yaml::to_string(config).unwrap()).unwrap();
    (dir, file)
}

/// Writes a file that only its owner can read.
pub fn secret_file(dir: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

/// Sets this key (`clusters.0.directory.cache`) to a file `acmeweb.json` in a directory of its own, which is removed with the
/// value. Returns both.
pub fn add_cache(config: &mut Value, key: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("acmeweb.json");
    set(config, key, &cache.display().to_string());
    (dir, cache)
}

//! What an administrator sees of a running `icm`, and what its users get: states, waits, who served whom, the
//! command line; and a cluster's availability sources as configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use serde_yaml::Value as Yaml;

use super::acme::Acme;
use super::answer::Answer;
use super::client::Client;
use super::icm::{Icm, set};
use super::status::LONG;
use super::{eventually, free_port};

impl Icm {
    /// `/status` of the admin listener.
    pub fn status(&self) -> Value {
        self.admin("/status").json()
    }

    /// Waits until a server looks so.
    pub fn wait_for_server(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
        let came = eventually(LONG, || is_so(&self.status_of(name)));
        assert!(came, "{name} never {what}: {:#}", self.status_of(name));
    }

    /// Waits until the status page looks so.
    pub fn wait_for_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let came = eventually(LONG, || is_so(&self.status()));
        assert!(came, "never {what}: {:#}", self.status());
    }

    /// Who served so many GETs of users without a cookie: common names, else the status.
    pub fn served(&self, target: &str, times: usize) -> BTreeMap<String, usize> {
        let mut client = self.client();
        let mut served = BTreeMap::new();
        for _ in 0..times {
            *served.entry(by(&client.get(target))).or_default() += 1;
        }
        served
    }

    /// Waits until users without a cookie are served by nobody else, ten in a row.
    pub fn wait_for_served(&self, target: &str, only: &str) {
        let mut served = BTreeMap::new();
        let came = eventually(LONG, || {
            served = self.served(target, 10);
            served.keys().eq([only])
        });
        assert!(came, "{target} by {served:?}, not by {only} alone: {:#}", self.status());
    }

    /// A metric's value by the start of its line: `icm_directory_readable{`.
    pub fn metric(&self, start: &str) -> Option<f64> {
        let text = self.admin("/metrics").text();
        text.lines().find(|l| l.starts_with(start))?.rsplit(' ').next()?.parse().ok()
    }

    /// Events of the status page, newest first, that are about this server.
    pub fn events_of(&self, name: &str) -> Vec<Value> {
        let whole = format!("{name}/Acme");
        let all = self.status()["events"].as_array().unwrap().clone();
        all.into_iter().filter(|e| e["server"] == whole.as_str()).collect()
    }

    /// `icm explain --json` of the running balancer, asked through the configuration file.
    pub fn explain(&self, url: &str) -> Value {
        let told = icm_cli(&["explain", url, "--json", "-c", self.file.to_str().unwrap()]);
        serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{e}: {told:?}"))
    }
}

/// The common name of whoever served, else the status.
fn by(answer: &Answer) -> String {
    match answer.server().split('/').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => answer.status.to_string(),
    }
}

/// A browser that keeps the affinity cookie.
pub struct User {
    client: Client,
    cookie: Option<String>,
}

impl User {
    /// Of the first listener.
    pub fn of(icm: &Icm) -> User {
        User { client: icm.client(), cookie: None }
    }

    /// Who served it: a common name, else the status.
    pub fn get(&mut self, target: &str) -> String {
        let cookie = self.cookie.as_ref().map(|c| format!("ICM={c}"));
        let headers: Vec<(&str, &str)> = cookie.iter().map(|c| ("Cookie", c.as_str())).collect();
        let answer = self.client.get_with(target, &headers);
        if let Some(new) = answer.cookie("ICM") {
            self.cookie = Some(new.to_owned());
        }
        by(&answer)
    }
}

/// What a run of the command line said.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs `icm` to its end.
pub fn icm_cli(arguments: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_icm")).args(arguments).output().unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    Told { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Gives every server of the configuration these availability sources, read every 100 ms, and has `acme` push
/// if statpub is among them.
pub fn sources_of(config: &mut Yaml, acme: &Acme, sources: &[&str], stale_after: &str) {
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

/// Writes a configuration beside nothing else; the file lives as long as the value.
pub fn write_config(config: &Yaml) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("icm.yaml");
    std::fs::write(&file, serde_yaml::to_string(config).unwrap()).unwrap();
    (dir, file)
}

/// A file that only its owner may read.
pub fn secret_file(dir: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

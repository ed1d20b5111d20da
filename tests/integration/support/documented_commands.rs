//! Runs the commands of the documentation; only ports, host names and files are replaced.

use std::path::Path;
use std::process::{Command, Output};

use serde_yaml::Value;

use super::{Acme, Icm, free_port, set};

/// `conf/acme.yaml` with the ports of this cluster.
pub fn demo_config(acme: &Acme) -> Value {
    let mut config: Value =
        serde_yaml::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/acme.yaml"))).unwrap();
    set(&mut config, "listeners.0.address", &format!("127.0.0.1:{}", free_port()));
    set(&mut config, "admin.address", &format!("127.0.0.1:{}", free_port()));
    for (n, server) in acme.servers.iter().enumerate() {
        let at = format!("clusters.0.servers.list.{n}");
        assert_eq!(config["clusters"][0]["servers"]["list"][n]["name"].as_str(), Some(&*server.name));
        set(&mut config, &format!("{at}.http"), &server.http.unwrap().to_string());
        set(&mut config, &format!("{at}.https"), &server.https.unwrap().to_string());
        let url = format!("http://{}/metrics", server.metrics.unwrap());
        set(&mut config, &format!("{at}.availability.url"), &format!("{url:?}"));
    }
    config
}

/// Replaces the addresses of `conf/acme.yaml` and the files in `/etc/icm` by those of this test; `etc` is the folder
/// for `/etc/icm`.
pub fn with_test_addresses(command: &str, acme: &Acme, icm: &Icm, etc: &Path) -> String {
    let mut replaced = command
        .replace("127.0.0.1:8080", &icm.address.to_string())
        .replace("127.0.0.1:8098", &icm.admin.to_string())
        .replace("127.0.0.1:8099", &acme.control.to_string())
        .replace("target/debug/icm", env!("CARGO_BIN_EXE_icm"));
    for file in ["conf/acme.yaml", "/etc/icm/icm.yaml"] {
        replaced = replaced.replace(file, &icm.file.display().to_string());
    }
    for server in &acme.servers {
        for (port, at) in [(":9100", server.metrics), (":5666", server.agent), ("", server.http)] {
            replaced = replaced.replace(&format!("{}{port}", server.hostname), &at.unwrap().to_string());
        }
    }
    for folder in ["/etc/icm", "/etc/bash_completion.d", "/usr/local/share/man/man1"] {
        replaced = replaced.replace(folder, &etc.display().to_string());
    }
    replaced
}

/// Runs a command in bash with the built `icm` on the PATH.
pub fn run(command: &str) -> Output {
    let built = Path::new(env!("CARGO_BIN_EXE_icm")).parent().unwrap();
    let path = format!("{}:{}", built.display(), std::env::var("PATH").unwrap_or_default());
    Command::new("bash").args(["-o", "pipefail", "-c", command]).env("PATH", path).output().unwrap()
}

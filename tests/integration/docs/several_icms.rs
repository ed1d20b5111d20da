//! The examples of `docs/several-icms.md` are valid, and leader and follower fit together.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use domino_icm::config::{Content, Files, LoadedConfig, load_clusters, load_with};

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/several-icms.md"));

/// A machine on which every named file exists with suitable content.
struct Machine {
    cert: String,
    key: String,
}

impl Machine {
    fn new() -> Machine {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["www.acme.example".to_owned()]).unwrap();
        Machine { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }
}

impl Files for Machine {
    fn read(&self, path: &Path, _limit: u64) -> io::Result<Content> {
        let text = match path.extension().and_then(|e| e.to_str()) {
            Some("pem") => self.cert.as_str(),
            Some("key") if path.ends_with("affinity.key") => "0123456789abcdef0123456789abcdef",
            Some("key") => &self.key,
            _ => "a-token-of-many-characters",
        };
        Ok(Content { bytes: text.as_bytes().to_vec(), mode: 0o600 })
    }
    fn is_dir(&self, _path: &Path) -> bool {
        true
    }
    fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other(format!("{host} must not be resolved")))
    }
}

/// Each YAML block with the heading above it.
fn examples() -> Vec<(String, String)> {
    let (mut heading, mut found) = (String::new(), Vec::new());
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text.to_owned();
        } else if line == "```yaml" {
            let block: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            found.push((heading.clone(), block.join("\n") + "\n"));
        }
    }
    found
}

fn load(machine: &Machine, text: &str) -> LoadedConfig {
    load_with(Path::new("/etc/icm/icm.yaml"), text, machine).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_example_loads_without_a_warning() {
    let machine = Machine::new();
    let all = examples();
    let with = |word: &str| all.iter().filter(|(heading, _)| heading.starts_with(word)).count();
    assert_eq!(
        [
            with("One ICM, outside"),
            with("Several ICMs, outside"),
            with("One ICM, on"),
            with("An ICM on every")
        ],
        [1, 2, 2, 2]
    );
    for (heading, text) in all {
        let warnings = load(&machine, &text).warnings;
        assert!(warnings.is_empty(), "{heading}: {warnings:?}\n{text}");
    }
}

#[test]
fn a_follower_accepts_the_file_names_of_its_leader() {
    let machine = Machine::new();
    for topology in ["Several ICMs, outside", "An ICM on every"] {
        let all: Vec<_> = examples().into_iter().filter(|(h, _)| h.starts_with(topology)).collect();
        let (leader, follower) = (load(&machine, &all[0].1).settings, load(&machine, &all[1].1).settings);
        let follow = follower.follow.unwrap();
        assert_eq!(follow.url.at.port, leader.admin.address.port());
        assert!(follow.cache.is_some() && leader.admin.tls.is_some() && leader.admin.token == follow.token);
        let text = format!("clusters:\n{}", leader.clusters_yaml.unwrap());
        let taken = load_clusters(Path::new("icm1"), &text, &follow.files, &machine).unwrap();
        assert_eq!(format!("{:?}", taken.clusters), format!("{:?}", leader.clusters));
        assert!(!taken.clusters[0].affinity.secrets.is_empty(), "equal cookies need an equal key");
    }
}

#[test]
fn on_a_domino_server_the_icm_and_domino_use_different_ports() {
    let machine = Machine::new();
    for (heading, text) in examples().into_iter().filter(|(h, _)| h.contains("member")) {
        let settings = load(&machine, &text).settings;
        for cluster in &settings.clusters {
            let domino_icm::config::settings::Servers::Static(servers) = &cluster.servers else {
                panic!("static")
            };
            let taken = servers.iter().flat_map(|s| [&s.http, &s.https]).flatten().map(ToString::to_string);
            let ours: Vec<String> = settings.listeners.iter().map(|l| l.address.to_string()).collect();
            for at in taken {
                assert!(!ours.contains(&at), "{heading}: {at} is Domino's and the ICM's");
            }
        }
    }
}

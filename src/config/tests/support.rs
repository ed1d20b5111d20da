//! Files that exist only here, and short ways to load a text.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rcgen::{CertificateParams, KeyPair};

use super::super::{ConfigError, Content, Files, LoadedConfig, load_with};

/// Paths and what they hold.
#[derive(Clone, Default)]
pub struct Virtual(HashMap<PathBuf, Content>);

impl Virtual {
    pub fn with(mut self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> Self {
        self.0.insert(path.into(), Content { bytes: bytes.as_ref().to_vec(), mode });
        self
    }
}

impl Files for Virtual {
    fn read(&self, path: &Path, _limit: u64) -> io::Result<Content> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
    fn is_dir(&self, path: &Path) -> bool {
        path == Path::new("/etc/icm/pages") || path == Path::new("/etc/icm/files")
    }
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match host {
            "localhost" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
            _ => Err(io::Error::other("unknown host")),
        }
    }
}

/// A self-signed certificate and its key, PEM, that ends in this many days.
pub fn certificate(days: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["www.acme.example".to_owned()]).unwrap();
    // `SystemTime`, so that the crate for dates that rcgen uses need not be named.
    let now = std::time::SystemTime::now();
    let days_from_now = |days: i64| {
        let span = std::time::Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { now - span } else { now + span }
    };
    params.not_before = days_from_now(days.min(0) - 10).into();
    params.not_after = days_from_now(days).into();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// All files that `conf/full.yaml` names.
pub static FULL_FILES: LazyLock<Virtual> = LazyLock::new(|| {
    let (cert, key) = certificate(365);
    Virtual::default()
        .with("/etc/icm/tls/icm.pem", &cert, 0o644)
        .with("/etc/icm/tls/icm.key", &key, 0o640)
        .with("/etc/icm/tls/domino-ca.pem", &cert, 0o644)
        .with("/etc/icm/tls/admin-ca.pem", &cert, 0o644)
        .with("/etc/icm/tls/clients.pem", &cert, 0o644)
        .with("/etc/icm/tls/tickets.key", "0123456789abcdef".repeat(4), 0o600)
        .with("/etc/icm/tls/acme-ca.pem", &cert, 0o644)
        .with("/etc/icm/token", "0123456789abcdef\n", 0o640)
        .with("/etc/icm/connector", "0123456789abcdef\n", 0o640)
        .with("/etc/icm/statpub-token", "fedcba9876543210\r\n", 0o600)
        .with("/etc/icm/maintenance.html", "<!doctype html><title>Maintenance</title>", 0o644)
        .with("/etc/icm/password", "geheim und länger", 0o600)
        .with(
            "/etc/icm/affinity.key",
            "a key of sixteen or more bytes\nthe key that was used before\n",
            0o400,
        )
        .with(
            "/etc/icm/databases.csv",
            "path,server,replica_id,title,mark\nmail/jdoe.nsf,Mail1/Acme,C1257A00:0041D2E0,John Doe,\n",
            0o644,
        )
});

pub const FILE: &str = "icm.yaml";

pub fn load(text: &str) -> Result<LoadedConfig, Vec<ConfigError>> {
    load_from(text, &*FULL_FILES)
}

pub fn load_from(text: &str, files: &dyn Files) -> Result<LoadedConfig, Vec<ConfigError>> {
    load_with(Path::new(FILE), text, files).map_err(|errors| errors.0)
}

/// A good file with one cluster whose map ends with `rest`, which begins in line 8 and is indented
/// by four blanks.
pub fn cluster(rest: &str) -> String {
    format!(
        "listeners: [{{ address: 127.0.0.1:8080 }}]\n\
         clusters:\n\
         \x20 - name: A\n\
         \x20   servers:\n\
         \x20     list:\n\
         \x20       - {{ name: Web1/Acme, hostname: w1.example, http: 10.0.0.11:80 }}\n\
         \x20   directory: {{ source: cldbdir }}\n{rest}"
    )
}

/// A good file with these lines in front, which begin in line 1.
pub fn top(front: &str) -> String {
    format!("{front}\n{}", cluster(""))
}

/// Made-up files first, then real ones.
pub struct VirtualThenDisk<'a>(pub &'a Virtual);

impl Files for VirtualThenDisk<'_> {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Content> {
        self.0.read(path, limit).or_else(|_| super::super::Disk.read(path, limit))
    }
    fn is_dir(&self, path: &Path) -> bool {
        self.0.is_dir(path) || path.is_dir()
    }
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.0.resolve(host, port)
    }
}

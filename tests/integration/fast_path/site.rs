//! The servers with one `icm` in front of them, which takes the fast path or does not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::origin::Origin;
use crate::support::*;

/// What both sites have in common.
pub struct Shared {
    dir: tempfile::TempDir,
    pub authority: String,
    tls: Arc<rustls::ServerConfig>,
}

/// How the clients and the servers of a run speak.
#[derive(Clone, Copy)]
pub struct Setup {
    pub servers: usize,
    pub https: bool,
}

pub struct Site {
    pub origin: Origin,
    pub icm: Icm,
    /// The listener with TLS.
    pub secure: SocketAddr,
    log: PathBuf,
}

impl Shared {
    pub fn new() -> Shared {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("Acme Test CA", None);
        let (certificate, key) =
            authority.leaf(&["www.acme.example", "web1.acme.example", "web2.acme.example"]);
        for (name, pem) in [("ca.pem", &authority.pem), ("icm.pem", &certificate), ("icm.key", &key)] {
            secret_file(dir.path(), name, pem);
        }
        secret_file(dir.path(), "affinity.key", "0123456789abcdef0123456789abcdef\n");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
        Shared { dir, authority: authority.pem, tls: Arc::new(tls) }
    }
}

impl Site {
    pub fn start(shared: &Shared, setup: Setup, fast_path: &str) -> Site {
        let origin = Origin::start(setup.servers, setup.https.then_some(&shared.tls));
        let at = shared.dir.path().display();
        let (scheme, replicas) = (if setup.https { "https" } else { "http" }, ["Web1/Acme", "Web2/Acme"]);
        let server = |(n, address): (usize, SocketAddr)| {
            format!("{{ name: Web{n}/Acme, hostname: web{n}.acme.example, {scheme}: \"{address}\" }}")
        };
        let list: Vec<String> = (1..).zip(origin.addresses()).map(server).collect();
        let replica = |name: &&str| format!("{{ server: {name} }}");
        let replicas: Vec<String> = replicas.iter().take(setup.servers).map(replica).collect();
        let secure: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        let log = shared.dir.path().join(format!("access-{fast_path}.log"));
        let text = format!(
            "pingora: {{ threads: 1, grace_period_seconds: 1 }}
listeners:
- {{ address: \"127.0.0.1:{}\" }}
- {{ address: \"{secure}\", tls: {{ certificates: [{{ cert: {at}/icm.pem, key: {at}/icm.key }}] }} }}
admin: {{ address: \"127.0.0.1:{}\" }}
access_log: {{ path: {}, format: json }}
proxy: {{ fast_path: {fast_path} }}
clusters:
- name: AcmeWeb
  upstream_scheme: {scheme}
  upstream_tls: {{ ca_file: {at}/ca.pem }}
  servers: {{ source: static, list: [ {} ] }}
  directory:
    source: static
    databases: [ {{ path: all.nsf, replica_id: C1257A000041D201, replicas: [ {} ] }} ]
  probe: {{ interval: 1h, timeout: 10s, healthy_after: 1, unreachable_after: 1000 }}
  failover: {{ passive_failures: 0, retry_budget: 100%, connect_timeout: 5s, response_timeout: 3s, slow_start: 0s }}
  affinity: {{ secret_file: {at}/affinity.key }}
",
            free_port(),
            free_port(),
            log.display(),
            list.join(", "),
            replicas.join(", "),
        );
        let icm = Icm::start(serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}")));
        wait_for(secure);
        for n in 1..=setup.servers {
            icm.wait_for_state(&format!("Web{n}"), "AVAILABLE");
        }
        Site { origin, icm, secure, log }
    }

    /// The lines of the access log, as soon as there are so many; what is refused early has none.
    pub fn log(&self, count: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        eventually(Duration::from_secs(6), || {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            lines.len() >= count
        });
        lines
    }
}

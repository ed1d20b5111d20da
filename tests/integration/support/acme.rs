//! The simulated Domino cluster as a child process, with its control port as methods. The process is killed with the
//! value, and exits with the test program even if that is killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::client::Client;

/// Three servers with the databases of the published samples.
pub const SAMPLE: &str = "
servers:
  - { name: Web1/Acme, set: { index: 84, threshold: 20, users: 96 } }
  - { name: Web2/Acme }
  - { name: Web3/Acme, https: false, agent: false, metrics: false }
outsiders: [Hub1/Acme]
users: { ICM Reader/Acme: reader }
databases:
  - { path: mail/jdoe.nsf, replica_id: 852562F3007ABFD6, title: Jane Doe, replicas: [Web1, Web2] }
  - { path: sales/leads.nsf, replica_id: C1257A000041D2E0, title: Leads, replicas: [Web1, {server: Web2, path: apps/leads.nsf}] }
  - { path: sales/leads.nsf, replica_id: C125790F002B11AA, title: Leads (old project), replicas: [Web3] }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
";

/// The names and addresses of a simulated server.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub hostname: String,
    pub http: Option<SocketAddr>,
    pub https: Option<SocketAddr>,
    pub agent: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
}

pub struct Acme {
    child: Child,
    /// The servers of this process.
    pub servers: Vec<Server>,
    pub control: SocketAddr,
    /// The CA that signed the servers' certificates.
    pub ca_file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Acme {
    /// The built-in cluster (Web1 to Web4) on free ports.
    pub fn built_in() -> Acme {
        let text = include_str!("../../acme/built-in.yaml");
        let mut scenario: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        for server in scenario["servers"].as_sequence_mut().unwrap() {
            for port in ["http", "https", "agent", "metrics"] {
                server[port] = 0.into();
            }
        }
        Acme::start(&serde_yaml::to_string(&scenario).unwrap())
    }

    /// The cluster of [`SAMPLE`].
    pub fn sample() -> Acme {
        Acme::start(SAMPLE)
    }

    /// A cluster from a scenario's text; absent ports and 0 are free ports.
    pub fn start(scenario: &str) -> Acme {
        Acme::launch(scenario, None)
    }

    /// One server of a scenario in its own process, to be stopped or killed by [`Acme::signal`]. The scenario needs
    /// fixed ports ([`super::free_port`]) if other processes must find it.
    pub fn only(scenario: &str, name: &str) -> Acme {
        Acme::launch(scenario, Some(name))
    }

    fn launch(scenario: &str, only: Option<&str>) -> Acme {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.yaml");
        std::fs::write(&file, scenario).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_acme"));
        command.arg("--scenario").arg(&file).arg("--tls-dir").arg(dir.path().join("tls"));
        command.args(["--control", "127.0.0.1:0", "--quiet", "--exit-with-parent"]);
        if let Some(name) = only {
            command.args(["--only", name]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("acme did not start: {line:?} {e}; scenario:\n{scenario}"));
        let server = |s: &Value| {
            let port = |key: &str| {
                let port = u16::try_from(s[key].as_u64()?).unwrap();
                Some(SocketAddr::new(s["address"].as_str().unwrap().parse().unwrap(), port))
            };
            Server {
                name: s["name"].as_str().unwrap().to_owned(),
                hostname: s["hostname"].as_str().unwrap().to_owned(),
                http: port("http"),
                https: port("https"),
                agent: port("agent"),
                metrics: port("metrics"),
            }
        };
        Acme {
            servers: announced["servers"].as_array().unwrap().iter().map(server).collect(),
            control: announced["control"].as_str().unwrap().parse().unwrap(),
            ca_file: announced["ca"].as_str().unwrap().into(),
            child,
            _dir: dir,
        }
    }

    /// A server by its common or full name.
    pub fn server(&self, name: &str) -> &Server {
        let found = |s: &&Server| s.name == name || s.name.split('/').next() == Some(name);
        self.servers.iter().find(found).unwrap_or_else(|| panic!("no server {name}"))
    }

    /// The address of a server's HTTP port.
    pub fn http(&self, name: &str) -> SocketAddr {
        self.server(name).http.unwrap()
    }

    /// The certificate of Web1, which also names `localhost`, in the form of the configuration.
    pub fn certificate(&self) -> String {
        let dir = self.ca_file.parent().unwrap().display();
        format!("{{ cert: {dir}/web1.pem, key: {dir}/web1.key }}")
    }

    /// Sends a request to the control port.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let text = body.map(Value::to_string).unwrap_or_default();
        let answer = Client::to(self.control).request(method, path, &[], text.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }

    /// Changes a server, or `all`; the change is in effect when this returns.
    pub fn set(&self, server: &str, patch: Value) {
        self.ask("PUT", &format!("/servers/{server}"), Some(&patch));
    }

    /// Replaces the faults of a server: by a name, an object or a list.
    pub fn fault(&self, server: &str, fault: Value) {
        self.set(server, serde_json::json!({ "fault": fault }));
    }

    /// Removes the faults of a server.
    pub fn heal(&self, server: &str) {
        self.ask("DELETE", &format!("/servers/{server}/fault"), None);
    }

    /// How often all servers together executed the request with this `X-Request-Id`.
    pub fn executed(&self, rid: &str) -> u64 {
        self.ask("GET", &format!("/executions?rid={rid}"), None)["executed"].as_u64().unwrap()
    }

    /// How often one server received and executed the request.
    pub fn executed_on(&self, rid: &str, server: &str) -> (u64, u64) {
        let count =
            &self.ask("GET", &format!("/executions?rid={rid}"), None)["servers"][&self.server(server).name];
        (count["received"].as_u64().unwrap_or(0), count["executed"].as_u64().unwrap_or(0))
    }

    /// The last requests of a server, as they arrived.
    pub fn requests(&self, server: &str) -> Vec<Value> {
        let all = self.ask("GET", &format!("/requests?server={server}&n=1000"), None);
        all.as_array().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process: `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, name: &str) {
        super::signal(self.pid(), name);
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Acme {
    /// Makes a server send its directories in pages of one row, nine seconds apart: five Server documents take longer than
    /// `icm` allows.
    pub fn drip_directory(&self, server: &str) {
        self.set(server, serde_json::json!({ "dir": { "slow": 9_000, "count_cap": 1 } }));
    }
}

/// With the shortest `refresh`, `icm` gives the start of a reading half a minute, and several servers are asked.
pub const MAX_DRIP_WAIT: std::time::Duration = std::time::Duration::from_secs(150);

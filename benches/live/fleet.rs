//! The compared rules and the processes of each: a cluster of three servers, and one or four proxies, with the
//! configurations of all. The processes are killed when the value is dropped.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Plan;
use super::client::Client;
use super::schedule::WORKERS;

/// The proxy and its rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `icm`, with the seconds between two published indexes; 0 means none.
    Icm(u32),
    /// nginx, with the line for the method.
    Nginx(&'static str),
    /// HAProxy, with the name of the method.
    Haproxy(&'static str),
}

/// A rule that is compared.
#[derive(Debug)]
pub struct Rule {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether the configuration has the capacities as weights.
    pub weights: bool,
    /// Number of proxies in front of the cluster.
    pub proxies: usize,
}

const fn rule(name: &'static str, kind: Kind, weights: bool, proxies: usize) -> Rule {
    Rule { name, kind, weights, proxies }
}

pub const RULES: [Rule; 16] = [
    rule("icm, 60 s", Kind::Icm(60), false, 1),
    rule("icm, 5 s", Kind::Icm(5), false, 1),
    rule("icm, none", Kind::Icm(0), false, 1),
    rule("nginx least_conn", Kind::Nginx("least_conn;"), false, 1),
    rule("HAProxy leastconn", Kind::Haproxy("leastconn"), false, 1),
    rule("nginx round robin", Kind::Nginx(""), false, 1),
    rule("HAProxy roundrobin", Kind::Haproxy("roundrobin"), false, 1),
    rule("icm, weights, 60 s", Kind::Icm(60), true, 1),
    rule("nginx round robin, weights", Kind::Nginx(""), true, 1),
    rule("nginx least_conn, weights", Kind::Nginx("least_conn;"), true, 1),
    rule("HAProxy leastconn, weights", Kind::Haproxy("leastconn"), true, 1),
    rule("icm, 60 s", Kind::Icm(60), false, 4),
    rule("icm, 5 s", Kind::Icm(5), false, 4),
    rule("icm, none", Kind::Icm(0), false, 4),
    rule("nginx least_conn", Kind::Nginx("least_conn;"), false, 4),
    rule("HAProxy leastconn", Kind::Haproxy("leastconn"), false, 4),
];

impl Rule {
    /// Whether the name contains one of these words, or there are none.
    pub fn is_selected(&self, words: &[String]) -> bool {
        words.is_empty() || words.iter().any(|word| self.name.to_lowercase().contains(word))
    }
}

/// The processes of one rule.
pub struct Fleet {
    pub rule: &'static Rule,
    children: Vec<Child>,
    proxies: Vec<SocketAddr>,
    control: Client,
    folder: PathBuf,
}

struct Server {
    http: u64,
    metrics: u64,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port below the range from which the kernel takes ports for outgoing connections, so that it stays free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = 20_000 + (NEXT.fetch_add(1, Relaxed) - 20_000) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Fleet {
    /// Starts the processes; [`Fleet::wait_until_ready`] waits until they serve.
    pub fn start(plan: &Plan, rule: &'static Rule, work: &Path) -> Fleet {
        let folder = work.join(format!("{}-{}", rule.name.replace([' ', ','], "-"), rule.proxies));
        fs::create_dir(&folder).unwrap();
        let mut fleet = Fleet {
            rule,
            children: Vec::new(),
            proxies: Vec::new(),
            control: Client::to(([127, 0, 0, 1], 0).into()),
            folder: folder.clone(),
        };
        let servers = fleet.start_acme(plan, &folder);
        for n in 0..rule.proxies {
            let port = free_port();
            let mut command = match rule.kind {
                Kind::Icm(every) => icm(plan, &folder, n, port, &servers, every, rule.weights),
                Kind::Nginx(method) => nginx(&folder, n, port, &servers, method, rule.weights),
                Kind::Haproxy(method) => haproxy(&folder, n, port, &servers, method, rule.weights),
            };
            let log = fs::File::create(folder.join(format!("{n}.log"))).unwrap();
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            fleet.children.push(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
            fleet.proxies.push(([127, 0, 0, 1], port).into());
        }
        fleet
    }

    fn start_acme(&mut self, plan: &Plan, folder: &Path) -> Vec<Server> {
        let every = if let Kind::Icm(every) = self.rule.kind { every } else { 0 };
        let mut scenario = String::from("cluster: Live\nservers:\n");
        for (n, workers) in WORKERS.iter().enumerate() {
            let index =
                if every == 0 { "index: null".to_owned() } else { format!("measure_index_ms: {every}000") };
            let _ = writeln!(
                scenario,
                "  - {{ name: Web{}/Acme, https: false, agent: false, set: {{ workers: {workers}, {index} }} }}",
                n + 1
            );
        }
        scenario.push_str(
            "databases:\n  - { path: sales/orders.nsf, replica_id: C1257A000041D2E1, title: Orders, replicas: all }\n",
        );
        let file = folder.join("acme.yaml");
        fs::write(&file, scenario).unwrap();
        let mut command = Command::new(&plan.acme);
        command.args(["--quiet", "--exit-with-parent", "--scenario"]).arg(&file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.children.push(child);
        let announced: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("acme: {line:?}: {e}"));
        self.control = Client::to(announced["control"].as_str().unwrap().parse().unwrap());
        let port = |server: &Value, kind: &str| server[kind].as_u64().unwrap();
        let servers = announced["servers"].as_array().unwrap();
        servers.iter().map(|s| Server { http: port(s, "http"), metrics: port(s, "metrics") }).collect()
    }

    /// One client for each proxy, without connections yet.
    pub fn clients(&self) -> Arc<Vec<Client>> {
        Arc::new(self.proxies.iter().map(|address| Client::to(*address)).collect())
    }

    /// Waits until every proxy serves responses of the cluster.
    pub async fn wait_until_ready(&self) {
        let begin = Instant::now();
        for (n, client) in self.clients().iter().enumerate() {
            while !matches!(client.get("/sales/orders.nsf?OpenDatabase", "").await, Ok(a) if a.status == 200)
            {
                if begin.elapsed() > Duration::from_secs(30) {
                    let log = fs::read_to_string(self.folder.join(format!("{n}.log"))).unwrap_or_default();
                    panic!("{} does not serve; its log: {log}", self.rule.name);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    pub async fn patch_server(&self, server: &str, patch: &str) {
        let result = self.control.put(&format!("/servers/{server}"), patch).await;
        assert!(matches!(&result, Ok(a) if a.status == 200), "acme refused {patch}");
    }
}

fn write(folder: &Path, name: String, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// `icm` with defaults for everything else. An index that is renewed every 5 s is read every second, another one in the
/// default interval.
fn icm(
    plan: &Plan,
    folder: &Path,
    n: usize,
    port: u16,
    servers: &[Server],
    every: u32,
    weights: bool,
) -> Command {
    let mut list = String::new();
    let mut holders = String::new();
    for (server, (at, workers)) in servers.iter().zip(WORKERS).enumerate() {
        let name = format!("Web{}/Acme", server + 1);
        let weight = if weights { workers } else { 1 };
        let interval = if every < 15 { "1s" } else { "15s" };
        let source = match every {
            0 => "{ source: observed }".to_owned(),
            _ => format!(
                "{{ source: prometheus, url: \"http://127.0.0.1:{}/metrics\", interval: {interval} }}",
                at.metrics
            ),
        };
        let _ = writeln!(
            list,
            "        - {{ name: {name}, hostname: web{}.acme.example, http: \"127.0.0.1:{}\", weight: {weight}, \
             availability: {source} }}",
            server + 1,
            at.http
        );
        let _ = write!(holders, "{{ server: {name} }}, ");
    }
    // One file for each proxy, because another one may be reading its own. All have the same key.
    let key = write(folder, format!("key{n}"), &"a1b2c3d4".repeat(8));
    let text = format!(
        "pingora: {{ threads: 1, grace_period_seconds: 1, upstream_keepalive_pool_size: 512 }}
listeners: [{{ address: \"127.0.0.1:{port}\" }}]
admin: {{ address: \"127.0.0.1:{}\" }}
clusters:
  - name: Live
    servers:
      source: static
      list:
{list}    directory:
      source: static
      databases:
        - path: sales/orders.nsf
          replica_id: C1257A000041D2E1
          replicas: [{holders}]
    probe: {{ interval: 500ms, timeout: 1s }}
    failover: {{ connect_timeout: 1s }}
    affinity: {{ secret_file: {} }}
",
        free_port(),
        key.display()
    );
    let mut command = Command::new(&plan.icm);
    command.arg("run").arg("-c").arg(write(folder, format!("icm{n}.yaml"), &text));
    command
}

/// Users stay by a hash of their cookie, the only affinity in open source nginx; new users are balanced by the rule.
fn nginx(folder: &Path, n: usize, port: u16, servers: &[Server], method: &str, weights: bool) -> Command {
    let upstream = |name: &str, method: &str| {
        let mut text = format!("    upstream {name} {{\n        {method}\n");
        for (server, workers) in servers.iter().zip(WORKERS) {
            let weight = if weights { workers } else { 1 };
            let _ = writeln!(text, "        server 127.0.0.1:{} weight={weight};", server.http);
        }
        text + "        keepalive 512; keepalive_requests 1000000;\n    }\n"
    };
    let text = format!(
        "daemon off; master_process off; pid {folder}/nginx{n}.pid; error_log {folder}/nginx{n}-error.log error;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
{}{}    map $cookie_user $pool {{ '' newcomers; default users; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://$pool; proxy_http_version 1.1; proxy_set_header Connection '';
            proxy_connect_timeout 1s;
        }}
    }}
}}
",
        upstream("newcomers", method),
        upstream("users", "hash $cookie_user consistent;"),
        folder = folder.display(),
    );
    let mut command = Command::new("nginx");
    command.arg("-c").arg(write(folder, format!("nginx{n}.conf"), &text));
    command.arg("-e").arg(folder.join(format!("nginx{n}.log")));
    command
}

fn haproxy(folder: &Path, n: usize, port: u16, servers: &[Server], method: &str, weights: bool) -> Command {
    let mut text = format!(
        "global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout check 1s
    http-reuse always
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
frontend web
    bind 127.0.0.1:{port} backlog 4096
    default_backend cluster
backend cluster
    balance {method}
    cookie SRV insert indirect nocache
    option httpchk GET /
    http-check expect status 200-499
    default-server check inter 500ms fall 2 rise 2 slowstart 30s observe layer7 error-limit 5 on-error mark-down
"
    );
    for (n, (server, workers)) in servers.iter().zip(WORKERS).enumerate() {
        let weight = if weights { workers } else { 1 } * 10;
        let _ = writeln!(text, "    server web{n} 127.0.0.1:{} cookie w{n} weight {weight}", server.http);
    }
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(write(folder, format!("haproxy{n}.cfg"), &text));
    command
}

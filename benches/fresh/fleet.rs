//! The compared load balancers, and the processes of each: a cluster of three servers that replicate, and the load
//! balancer in front of it. The processes are killed when the value is dropped.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Settings;
use super::experiment::client::{self, Browser};
use super::experiment::{self, DATABASES, SERVERS, Site};

/// `freshness.slack`.
pub const SLACK_MS: u64 = 2_000;
/// From when on a replica counts as known to be behind: `behind_after` (2 s), `slack` (2 s), and three seconds in which
/// every database is read once, at five requests a second.
pub const KNOWN_AFTER: f64 = 7.0;

/// What the `icm` of a column knows about replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Knowledge {
    /// `catch_up` with a request, and `freshness` and statistics from the companion.
    Companion,
    /// `catch_up` with the published statistics, `freshness` by HEAD; nothing is installed on the servers.
    Head,
    /// Everything off, and browsers that refuse the write cookie.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Icm(Knowledge),
    Nginx,
    Haproxy,
}

/// A column of the table.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    program: Program,
}

pub const KINDS: [Kind; 5] = [
    Kind { name: "icm, companion", program: Program::Icm(Knowledge::Companion) },
    Kind { name: "icm, HEAD", program: Program::Icm(Knowledge::Head) },
    Kind { name: "icm, off", program: Program::Icm(Knowledge::Nothing) },
    Kind { name: "HAProxy", program: Program::Haproxy },
    Kind { name: "nginx", program: Program::Nginx },
];

impl Kind {
    /// Whether the name contains one of these words, or there are none.
    pub fn is_selected(&self, words: &[String]) -> bool {
        words.is_empty() || words.iter().any(|word| self.name.to_lowercase().contains(word))
    }
}

/// The processes of one column.
pub struct Fleet {
    pub site: Site,
    children: Vec<Child>,
    log: PathBuf,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The ports of a simulated server.
struct Ports {
    http: u64,
    metrics: u64,
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
    pub fn start(settings: &Settings, kind: &'static Kind, work: &Path) -> Fleet {
        let folder = work.join(kind.name.replace([' ', ','], "-"));
        fs::create_dir_all(&folder).unwrap();
        let mut acme = start_acme(settings, &folder);
        let announced = announced(&mut acme);
        let port = |server: &Value, key: &str| server[key].as_u64().unwrap();
        let servers = announced["servers"].as_array().unwrap();
        let servers: Vec<Ports> =
            servers.iter().map(|s| Ports { http: port(s, "http"), metrics: port(s, "metrics") }).collect();
        let (balancer, admin) = (free_port(), free_port());
        let mut command = match kind.program {
            Program::Icm(knowledge) => icm(settings, &folder, balancer, admin, &servers, knowledge),
            Program::Nginx => nginx(&folder, balancer, &servers),
            Program::Haproxy => haproxy(&folder, balancer, &servers),
        };
        let path = folder.join("log");
        let log = fs::File::create(&path).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let is_before = kind.program == Program::Icm(Knowledge::Nothing);
        let site = Site {
            name: kind.name.to_owned(),
            balancer: ([127, 0, 0, 1], balancer).into(),
            control: announced["control"].as_str().unwrap().parse::<SocketAddr>().unwrap(),
            admin: None,
            refused_cookie: is_before.then_some("-write"),
        };
        Fleet { site, children: vec![acme, child], log: path }
    }

    /// Waits until the load balancer serves pages of every database.
    pub async fn wait_until_ready(&self) {
        let begin = Instant::now();
        let mut browser = Browser::new(client::http(1), self.site.balancer, None);
        for (path, _) in DATABASES {
            let target = format!("/{path}?OpenDatabase");
            while !matches!(browser.get(&target).await, Ok(page) if page.status == 200 && page.server.is_some())
            {
                if begin.elapsed() > Duration::from_secs(30) {
                    let log = fs::read_to_string(&self.log).unwrap_or_default();
                    panic!("{} does not serve; its log: {log}", self.site.name);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn start_acme(settings: &Settings, folder: &Path) -> Child {
    let file = folder.join("acme.yaml");
    fs::write(&file, experiment::scenario()).unwrap();
    let mut command = Command::new(&settings.acme);
    command.args(["--quiet", "--exit-with-parent", "--scenario"]).arg(&file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn announced(acme: &mut Child) -> Value {
    let mut line = String::new();
    BufReader::new(acme.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("acme: {line:?}: {e}"))
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// `icm` with short intervals, because an hour of a real cluster is some seconds here.
fn icm(
    settings: &Settings,
    folder: &Path,
    port: u16,
    admin: u16,
    servers: &[Ports],
    knowledge: Knowledge,
) -> Command {
    let mut list = String::new();
    for (name, ports) in SERVERS.iter().zip(servers) {
        let source = match knowledge {
            Knowledge::Companion => String::new(),
            _ => format!(
                ", availability: {{ source: prometheus, url: \"http://127.0.0.1:{}/metrics\", interval: 1s }}",
                ports.metrics
            ),
        };
        let _ = writeln!(
            list,
            "        - {{ name: {name}/Acme, hostname: {}.acme.example, http: \"127.0.0.1:{}\"{source} }}",
            name.to_lowercase(),
            ports.http
        );
    }
    let request =
        format!("request: {{ url: \"http://127.0.0.1:{}/icm.nsf/companion?OpenAgent\" }}", servers[0].http);
    let freshness = "interval: 1s, slack: 2s, behind_after: 2s, after_write: tell";
    let truth = match knowledge {
        Knowledge::Companion => format!(
            "    availability: {{ source: companion, interval: 1s }}
    catch_up: {{ after: 2s, {request} }}
    freshness: {{ source: companion, {freshness} }}"
        ),
        Knowledge::Head => {
            format!("    catch_up: {{ after: 2s }}\n    freshness: {{ source: head, {freshness} }}")
        }
        Knowledge::Nothing => "    catch_up: { mode: off }".to_owned(),
    };
    let key = write(folder, "key", &"a1b2c3d4".repeat(8));
    let state = folder.join("state");
    fs::create_dir_all(&state).unwrap();
    let text = format!(
        "pingora: {{ threads: 1, grace_period_seconds: 1 }}
state_dir: {}
listeners: [{{ address: \"127.0.0.1:{port}\" }}]
admin: {{ address: \"127.0.0.1:{admin}\" }}
clusters:
  - name: Fresh
    servers:
      source: static
      list:
{list}    directory: {}
    probe: {{ interval: 500ms, timeout: 1s }}
    failover: {{ connect_timeout: 1s }}
    affinity: {{ secret_file: {} }}
{truth}
",
        state.display(),
        experiment::directory(),
        key.display(),
    );
    let mut command = Command::new(&settings.icm);
    command.arg("run").arg("-c").arg(write(folder, "icm.yaml", &text));
    command.env("RUST_LOG", "info");
    command
}

/// Users stay by a hash of a cookie that nginx sets, the only affinity by cookie in open source nginx. What it does after
/// a failure is its default: another server for a request that may be repeated, 10 s without the failed one.
fn nginx(folder: &Path, port: u16, servers: &[Ports]) -> Command {
    let mut upstream = String::new();
    for server in servers {
        let _ = writeln!(upstream, "        server 127.0.0.1:{};", server.http);
    }
    let text = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    map $cookie_route $route {{ '' $request_id; default $cookie_route; }}
    upstream cluster {{
        hash $route consistent;
{upstream}        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            add_header Set-Cookie \"route=$route; Path=/; HttpOnly\" always;
            proxy_pass http://cluster; proxy_http_version 1.1; proxy_set_header Connection '';
            proxy_connect_timeout 1s;
        }}
    }}
}}
",
        folder = folder.display(),
    );
    let mut command = Command::new("nginx");
    command.arg("-c").arg(write(folder, "nginx.conf", &text));
    command.arg("-e").arg(folder.join("start.log"));
    command
}

/// Users stay by an inserted cookie, and get another one when their server is down.
fn haproxy(folder: &Path, port: u16, servers: &[Ports]) -> Command {
    let mut text = format!(
        "global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout check 1s
    retries 3
    option redispatch 1
frontend web
    bind 127.0.0.1:{port}
    default_backend cluster
backend cluster
    balance roundrobin
    cookie SRV insert indirect nocache
    option httpchk GET /
    http-check expect status 200-499
    default-server check inter 500ms fall 2 rise 2 slowstart 30s
"
    );
    for (name, server) in SERVERS.iter().zip(servers) {
        let name = name.to_lowercase();
        let _ = writeln!(text, "    server {name} 127.0.0.1:{} cookie {name}", server.http);
    }
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(write(folder, "haproxy.cfg", &text));
    command
}

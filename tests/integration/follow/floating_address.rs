//! A floating address between two ICMs, with keepalived in network namespaces: how many requests fail when one fails, and that
//! users keep their servers.
//!
//! Uses the files of `conf/keepalived/`; `--nocapture` prints the figures of `docs/several-icms.md`. Skipped where namespaces are
//! not permitted or keepalived is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::*;

const FLOATING: &str = "192.0.2.100";
const USERS: usize = 4;
/// Duration of the load.
const LOAD: Duration = Duration::from_secs(12);
const FAIL_AFTER: Duration = Duration::from_secs(2);
/// Limit of the time without a served request: far more than usual, as the machine may be busy.
const MAX_OUTAGE: Duration = Duration::from_millis(8_500);

/// Runs a command to its end.
fn run(words: &str) -> Result<String, String> {
    let mut parts = words.split_whitespace();
    let output =
        Command::new(parts.next().unwrap()).args(parts).output().map_err(|e| format!("{words}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{words}: {}", text(&output.stderr)))
    }
}

/// Namespaces on one switch; they are removed with the value.
struct Network {
    prefix: String,
    made: Vec<String>,
}

impl Network {
    fn new() -> Result<Network, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        run("keepalived --version").map_err(|e| format!("keepalived is missing ({e})"))?;
        run("curl --version").map_err(|e| format!("curl is missing ({e})"))?;
        let prefix = format!("icm{}x{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let mut network = Network { prefix, made: Vec::new() };
        network.make("switch")?;
        let switch = network.name("switch");
        run(&format!("ip -n {switch} link add br0 type bridge"))?;
        run(&format!("ip -n {switch} link set br0 up"))?;
        for (n, (host, address)) in
            [("one", "192.0.2.11"), ("two", "192.0.2.12"), ("domino", "192.0.2.21"), ("client", "192.0.2.31")]
                .into_iter()
                .enumerate()
        {
            network.make(host)?;
            let name = network.name(host);
            run(&format!("ip -n {switch} link add v{n} type veth peer name eth0 netns {name}"))?;
            run(&format!("ip -n {switch} link set v{n} master br0 up"))?;
            run(&format!("ip -n {name} addr add {address}/24 dev eth0"))?;
            run(&format!("ip -n {name} link set eth0 up"))?;
        }
        Ok(network)
    }

    fn make(&mut self, host: &str) -> Result<(), String> {
        let name = self.name(host);
        run(&format!("ip netns add {name}"))?;
        self.made.push(name.clone());
        run(&format!("ip -n {name} link set lo up")).map(|_| ())
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A command in a namespace; `ip` executes the program, so the pid is the program's.
    fn command(&self, host: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).stdin(Stdio::null());
        command
    }

    fn has_floating(&self, host: &str) -> bool {
        run(&format!("ip -n {} addr show dev eth0", self.name(host))).unwrap().contains(FLOATING)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.made {
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}

/// A process that ends with the value.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // keepalived ends its children on TERM.
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.0.id(), "TERM");
        }
        let ended =
            eventually(Duration::from_secs(3), || self.0.try_wait().is_ok_and(|ended| ended.is_some()));
        if !ended {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Two ICMs behind one floating address, which the first one holds.
struct Site {
    // Dropped in this order.
    keepalived: Vec<Process>,
    icms: Vec<Process>,
    _acme: Process,
    network: Network,
    dir: tempfile::TempDir,
    /// The process that `icm upgrade` started.
    upgraded: Option<u32>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(pid) = self.upgraded.take() {
            signal(pid, "KILL");
        }
    }
}

impl Site {
    fn build(network: Network) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let scenario = file(
            "scenario.yaml",
            "servers:
  - { name: Web1/Acme, address: 192.0.2.21, http: 8081, https: false }
  - { name: Web2/Acme, address: 192.0.2.21, http: 8082, https: false }
databases:
  - { path: all.nsf, replica_id: C1257A000041D201, replicas: all }
",
        );
        let mut acme = network.command("domino");
        acme.arg(env!("CARGO_BIN_EXE_acme")).arg("--scenario").arg(&scenario);
        acme.arg("--tls-dir").arg(dir.path().join("tls"));
        acme.args(["--control", "127.0.0.1:8099", "--quiet"]).stdout(Stdio::piped());
        let mut acme = Process(acme.spawn().unwrap());
        BufReader::new(acme.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let key = secret_file(dir.path(), "affinity.key", "0123456789abcdef0123456789abcdef\n");
        let config = |host: &str| {
            let pid_file = dir.path().join(format!("{host}.pid"));
            let text = format!(
                "pingora: {{ threads: 1, pid_file: {} }}
listeners: [ {{ address: 0.0.0.0:80 }} ]
access_log: {{ format: off }}
clusters:
- name: AcmeWeb
  servers:
    list:
      - {{ name: Web1/Acme, hostname: web1.acme.example, http: \"192.0.2.21:8081\" }}
      - {{ name: Web2/Acme, hostname: web2.acme.example, http: \"192.0.2.21:8082\" }}
  directory:
    source: static
    databases:
      - {{ path: all.nsf, replica_id: C1257A000041D201, replicas: [ {{ server: Web1/Acme }}, {{ server: Web2/Acme }} ] }}
  probe: {{ interval: 200ms, healthy_after: 1 }}
  failover: {{ slow_start: 0s }}
  affinity: {{ secret_file: {key} }}
",
                pid_file.display()
            );
            file(&format!("{host}.yaml"), &text)
        };
        let configs = ["one", "two"].map(config);
        let mut site =
            Site { keepalived: Vec::new(), icms: Vec::new(), _acme: acme, network, dir, upgraded: None };
        for (host, config) in ["one", "two"].iter().zip(&configs) {
            let mut icm = site.network.command(host);
            icm.args([env!("CARGO_BIN_EXE_icm"), "run", "-c"]).arg(config);
            icm.stderr(site.log(&format!("icm-{host}"))).stdout(Stdio::null());
            site.icms.push(Process(icm.spawn().unwrap()));
        }
        for host in ["one", "two"] {
            let name = site.network.name(host);
            let ready =
                || run(&format!("ip netns exec {name} curl -fs http://127.0.0.1:8098/readyz")).is_ok();
            assert!(eventually(MAX_WAIT, ready), "icm {host} is not ready: {}", site.logs());
        }
        for host in ["one", "two"] {
            site.start_keepalived(host);
            let there = eventually(MAX_WAIT, || site.network.has_floating("one"));
            assert!(there, "the first has no floating address: {}", site.logs());
        }
        // Without advertisements of the first, the second would have taken the address by then.
        pause(2_500);
        assert!(!site.network.has_floating("two"), "both have the address: {}", site.logs());
        site
    }

    /// Uses the files of the repository, with the addresses exchanged for the second host.
    fn start_keepalived(&mut self, host: &str) {
        let conf = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/keepalived");
        let mut text = std::fs::read_to_string(format!("{conf}/keepalived.conf")).unwrap();
        assert!(text.contains("/etc/keepalived/check-icm") && text.contains("    enable_script_security"));
        text = text.replace("/etc/keepalived/check-icm", &format!("{conf}/check-icm"));
        // With this option keepalived refuses a script that users other than root may write.
        text = text.replace("    enable_script_security", "");
        if host == "two" {
            text = text
                .replace("192.0.2.11", "first")
                .replace("192.0.2.12", "192.0.2.11")
                .replace("first", "192.0.2.12");
        }
        let path = |name: &str| self.dir.path().join(format!("{host}-{name}"));
        std::fs::write(path("keepalived.conf"), text).unwrap();
        let mut keepalived = self.network.command(host);
        keepalived.args([
            "keepalived",
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--vrrp",
            "--use-file",
        ]);
        keepalived
            .arg(path("keepalived.conf"))
            .arg("--pid")
            .arg(path("pid"))
            .arg("--vrrp_pid")
            .arg(path("vrrp"));
        let log = self.log(&format!("keepalived-{host}"));
        keepalived.stdout(log.try_clone().unwrap()).stderr(log);
        self.keepalived.push(Process(keepalived.spawn().unwrap()));
    }

    /// Replaces the active process by a new one, and returns the new one.
    fn upgrade(&mut self) -> u32 {
        let mut upgrade = self.network.command("one");
        upgrade.args([env!("CARGO_BIN_EXE_icm"), "upgrade", "-c"]).arg(self.dir.path().join("one.yaml"));
        let output = upgrade.output().unwrap();
        assert!(output.status.success(), "{output:?}: {}", self.logs());
        let pid = std::fs::read_to_string(self.dir.path().join("one.pid")).unwrap().trim().parse().unwrap();
        assert_ne!(pid, self.icms[0].0.id());
        self.upgraded = Some(pid);
        pid
    }

    fn log(&self, name: &str) -> std::fs::File {
        std::fs::File::create(self.dir.path().join(format!("{name}.log"))).unwrap()
    }

    fn logs(&self) -> String {
        let names = ["icm-one", "icm-two", "keepalived-one", "keepalived-two"];
        let read =
            |n: &&str| std::fs::read_to_string(self.dir.path().join(format!("{n}.log"))).unwrap_or_default();
        names.iter().map(|n| format!("--- {n}\n{}\n", read(n))).collect()
    }
}

/// One request of a user.
struct RequestRecord {
    user: usize,
    /// When it ended, since the load began.
    at: Duration,
    /// The status, or the name of the failure.
    outcome: String,
    server: String,
}

/// Sends requests of users through the floating address, breaks the site meanwhile, and counts failures.
fn takeover(what: &str, hurt: impl FnOnce(&mut Site)) {
    // One test at a time, as keepalived must send its advertisements in time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let network = match Network::new() {
        Ok(network) => network,
        Err(why) => {
            eprintln!("skipped, {what}: {why}");
            return;
        }
    };
    let mut site = Site::build(network);
    let mut load = site.network.command("client");
    load.arg(std::env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = format!("{module}::users_who_ask_through_the_floating_address");
    load.args(["--exact", &test, "--ignored", "--nocapture"]);
    let load = load.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(FAIL_AFTER);
    // At any time between two checks of keepalived, as it costs a different time.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    pause(u64::from(now.subsec_millis()));
    hurt(&mut site);
    let output = load.wait_with_output().unwrap();
    let mut asked: Vec<RequestRecord> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut parts = line.strip_prefix("asked ")?.split(' ');
            Some(RequestRecord {
                user: parts.next()?.parse().ok()?,
                at: Duration::from_millis(parts.next()?.parse().ok()?),
                outcome: parts.next()?.to_owned(),
                server: parts.next().unwrap_or_default().to_owned(),
            })
        })
        .collect();
    asked.sort_by_key(|a| a.at);
    let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    let mut servers = vec![BTreeSet::new(); USERS];
    let (mut last, mut outage) = (Duration::ZERO, Duration::ZERO);
    for one in &asked {
        if one.outcome == "200" {
            outage = outage.max(one.at - last);
            last = one.at;
            servers[one.user].insert(one.server.clone());
        } else {
            *failures.entry(&one.outcome).or_default() += 1;
        }
    }
    let failed: usize = failures.values().sum();
    let moved = servers.iter().filter(|s| s.len() != 1).count();
    eprintln!(
        "{what}: {failed} of {} requests failed {failures:?}, no request was served for {:.1} s, {moved} of {USERS} users moved to another server",
        asked.len(),
        outage.as_secs_f64()
    );
    assert!(site.network.has_floating("two"), "the second never took the address: {}", site.logs());
    assert!(asked.len() > USERS * 20, "only {} requests", asked.len());
    assert!(outage < MAX_OUTAGE, "{outage:?} without a served request: {}", site.logs());
    for user in 0..USERS {
        let last = asked.iter().rfind(|a| a.user == user).map(|a| a.outcome.as_str());
        assert_eq!(last, Some("200"), "user {user} is not served in the end: {}", site.logs());
    }
    assert_eq!(moved, 0, "users were served by {servers:?}");
}

#[test]
fn the_standby_continues_every_session_when_the_active_icm_is_killed() {
    takeover("kill -9 of the active icm", |site| site.icms[0].kill());
}

#[test]
fn the_standby_continues_every_session_when_the_active_icm_hangs() {
    takeover("SIGSTOP of the active icm", |site| signal(site.icms[0].0.id(), "STOP"));
}

#[test]
fn an_upgrade_keeps_the_address_and_the_end_of_the_new_process_moves_it() {
    takeover("icm upgrade, then TERM of the active icm", |site| {
        let new = site.upgrade();
        // The old process ends, and keepalived asks the new one.
        pause(1_500);
        assert!(!site.network.has_floating("two"), "an upgrade moved the address: {}", site.logs());
        signal(new, "TERM");
        site.upgraded = None;
    });
}

#[test]
fn the_standby_continues_every_session_when_keepalived_is_killed() {
    takeover("kill -9 of the active keepalived", |site| site.keepalived[0].kill());
}

#[test]
fn the_standby_continues_every_session_when_the_active_machine_is_cut_off() {
    takeover("link of the active machine down", |site| {
        run(&format!("ip -n {} link set eth0 down", site.network.name("one"))).unwrap();
    });
}

#[test]
#[ignore = "the load of the other tests, which run it in a namespace of its own"]
fn users_who_ask_through_the_floating_address() {
    let address = format!("{FLOATING}:80").parse().unwrap();
    let start = Instant::now();
    let asked = load(USERS, LOAD, |user| {
        let mut client = Client::to(address).timeout(Duration::from_secs(1));
        let mut cookie = String::new();
        move |_| {
            let headers = [("Cookie", cookie.as_str())];
            let headers = if cookie.is_empty() { &headers[..0] } else { &headers[..] };
            let outcome = match client.request("GET", "/all.nsf", headers, b"") {
                Ok(answer) => {
                    if let Some(value) = answer.cookie("ICM") {
                        cookie = format!("ICM={value}");
                    }
                    format!("{} {}", answer.status, answer.server())
                }
                Err(failure) => {
                    client.close();
                    failure.name().to_owned()
                }
            };
            println!("asked {user} {} {outcome}", start.elapsed().as_millis());
            pause(50);
            outcome
        }
    });
    assert!(asked.total() > 0);
}

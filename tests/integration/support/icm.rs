//! `icm` as a child process, with its addresses, log and exit.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_yaml::Value;

use super::answer::Answer;
use super::client::Client;
use super::config::set;
use super::status::MAX_WAIT;
use super::{eventually, signal};

pub struct Icm {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub file: PathBuf,
    pid_file: PathBuf,
    log: Arc<Mutex<String>>,
    pub dir: tempfile::TempDir,
}

impl Icm {
    /// Starts `icm` and waits until it listens. Fails the test with the log if it exits before that.
    pub fn start(config: Value) -> Icm {
        Icm::spawn(config).listening()
    }

    /// Waits until both listeners accept connections.
    pub fn listening(mut self) -> Icm {
        let icm = &mut self;
        let (address, admin) = (icm.address, icm.admin);
        let mut ended = None;
        let listens = eventually(MAX_WAIT, || {
            ended = icm.child.try_wait().unwrap();
            ended.is_some() || [address, admin].iter().all(|a| std::net::TcpStream::connect(a).is_ok())
        });
        assert!(listens && ended.is_none(), "icm does not listen on {address} ({ended:?}):\n{}", icm.log());
        self
    }

    /// Starts `icm` without waiting.
    pub fn spawn(config: Value) -> Icm {
        Icm::spawn_with(config, &[])
    }

    /// [`Icm::spawn`] with environment variables.
    pub fn spawn_with(config: Value, environment: &[(&str, &str)]) -> Icm {
        Icm::spawn_program(Path::new(env!("CARGO_BIN_EXE_icm")), config, environment)
    }

    /// [`Icm::spawn_with`] with another path of the program, which a test can replace later.
    pub fn spawn_program(program: &Path, mut config: Value, environment: &[(&str, &str)]) -> Icm {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("icm.yaml");
        let pid_file = dir.path().join("icm.pid");
        set(&mut config, "pingora.pid_file", &pid_file.display().to_string());
        // An empty `state_dir` means none.
        let wanted = config.get("state_dir").map(|state| state.as_str() != Some(""));
        if wanted.is_none() {
            let state = dir.path().join("state");
            std::fs::create_dir(&state).unwrap();
            set(&mut config, "state_dir", &state.display().to_string());
        } else if wanted == Some(false) {
            config.as_mapping_mut().unwrap().remove("state_dir");
        }
        let address = |value: &Value| value.as_str().and_then(|s| s.parse().ok());
        let listener = address(&config["listeners"][0]["address"]).expect("a listener with an address");
        let admin = address(&config["admin"]["address"]).expect("an admin address");
        write(&file, &config);
        let mut child = Command::new(program)
            .args(["run", "-c"])
            .arg(&file)
            .env("RUST_LOG", "info")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), log.clone());
        collect(child.stderr.take().unwrap(), log.clone());
        Icm { child, address: listener, admin, file, pid_file, log, dir }
    }

    /// A client of the first listener.
    pub fn client(&self) -> Client {
        Client::to(self.address)
    }

    /// GET on the admin listener.
    pub fn admin(&self, target: &str) -> Answer {
        Client::to(self.admin).get(target)
    }

    /// Everything it wrote to standard output and standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log contains this text, else fails the test.
    pub fn wait_for_log(&self, text: &str) {
        let there = eventually(MAX_WAIT, || self.log.lock().unwrap().contains(text));
        assert!(there, "{text:?} is not in the log:\n{}", self.log());
    }

    /// Writes another configuration and sends HUP.
    pub fn reload(&self, config: &Value) {
        self.configure(config);
        self.signal("HUP");
    }

    /// Writes another configuration without a signal.
    pub fn configure(&self, config: &Value) {
        let mut config = config.clone();
        set(&mut config, "pingora.pid_file", &self.pid_file.display().to_string());
        if config.get("state_dir").is_none() {
            set(&mut config, "state_dir", &self.dir.path().join("state").display().to_string());
        }
        write(&self.file, &config);
    }

    /// The started process; after an upgrade [`Icm::current_pid`] differs.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory in bytes from `/proc/PID/status`: `VmRSS` is the current value, `VmHWM` the peak.
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The process in the pid file.
    pub fn current_pid(&self) -> Option<u32> {
        std::fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()
    }

    /// Sends a signal to the started process: `HUP`, `TERM`, `USR2`, `KILL`, ...
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits until it exits, up to this time.
    pub fn wait_for_end(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let mut status = None;
        eventually(at_most, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status
    }
}

impl Drop for Icm {
    fn drop(&mut self) {
        // After an upgrade the serving process is not our child; the pid file names it.
        let successor = self.current_pid().filter(|pid| *pid != self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(pid) = successor.and_then(|pid| i32::try_from(pid).ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("--- log of icm ---\n{}", self.log());
        }
    }
}

/// With `FAST_PATH=off` in the environment all requests take Pingora's loop, unless the test sets the key itself.
fn write(file: &Path, config: &Value) {
    let mut config = config.clone();
    if std::env::var("FAST_PATH").is_ok_and(|value| value == "off") && config["proxy"]["fast_path"].is_null()
    {
        set(&mut config, "proxy.fast_path", "off");
    }
    std::fs::write(file, serde_yaml::to_string(&config).unwrap()).unwrap();
}

/// Collects the lines of a pipe until its other end is closed.
fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = into.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

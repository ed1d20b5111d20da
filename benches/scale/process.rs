//! The real `icm` as a child process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::catalogue::SERVERS;
use crate::{Failure, MAX_WAIT, Settings};

pub struct Icm {
    child: Child,
    pub listener: SocketAddr,
    admin: SocketAddr,
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub resident: u64,
    /// Since the start or the last reset.
    pub peak: u64,
}

impl Icm {
    /// Starts it and waits until it is ready.
    pub fn start(
        settings: &Settings,
        folder: &Path,
        servers: &[SocketAddr],
        directory: &str,
    ) -> Result<Self, Failure> {
        let icm = Self::spawn(settings, folder, servers, directory)?;
        icm.wait("readiness", || Ok(icm.ask("/readyz").is_ok_and(|a| a.starts_with("HTTP/1.1 200"))))?;
        Ok(icm)
    }

    pub fn spawn(
        settings: &Settings,
        folder: &Path,
        servers: &[SocketAddr],
        directory: &str,
    ) -> Result<Self, Failure> {
        let (listener, admin) = (free_port()?, free_port()?);
        let mut text = format!(
            "pingora: {{ threads: 1 }}\nlisteners: [{{ address: \"{listener}\" }}]\nadmin: {{ address: \"{admin}\" }}\n\
             access_log: {{ path: icm-access.log, format: combined }}\nclusters:\n  - name: Scale\n    servers:\n      \
             source: static\n      list:\n"
        );
        for (name, address) in SERVERS.iter().zip(servers) {
            text +=
                &format!("        - {{ name: {name}, hostname: web.acme.example, http: \"{address}\" }}\n");
        }
        text += &format!("    directory: {directory}\n");
        let file = folder.join("icm.yaml");
        std::fs::write(&file, text)?;
        let log = std::fs::File::create(folder.join("icm.log"))?;
        let mut command = match settings.cpus.0.as_str() {
            "" => Command::new(&settings.icm),
            cpus => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", cpus, &settings.icm]);
                pinned
            }
        };
        let child = command
            .args(["run", "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(|error| format!("{}: {error}", settings.icm))?;
        Ok(Self { child, listener, admin })
    }

    pub fn wait(&self, what: &str, mut until: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
        let begin = Instant::now();
        while !until()? {
            if begin.elapsed() > MAX_WAIT {
                return Err(format!("{what} took over {MAX_WAIT:?}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub fn reload(&self) -> Result<(), Failure> {
        Ok(kill(self.pid()?, Signal::SIGHUP)?)
    }

    /// When the current directory was read, in milliseconds since 1970.
    pub fn directory_at(&self) -> Result<u64, Failure> {
        self.directory("at")
    }

    pub fn databases(&self) -> Result<u64, Failure> {
        self.directory("databases")
    }

    fn directory(&self, key: &str) -> Result<u64, Failure> {
        let answer = self.ask("/status")?;
        let body = answer.split("\r\n\r\n").nth(1).ok_or("no body")?;
        let status: Value = serde_json::from_str(body)?;
        Ok(status["clusters"][0]["directory"][key].as_u64().unwrap_or(0))
    }

    fn ask(&self, target: &str) -> Result<String, Failure> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(MAX_WAIT))?;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    pub fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let of = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        Memory { resident: of("VmRSS:"), peak: of("VmHWM:") }
    }

    /// Resets the peak memory.
    pub fn reset_peak(&self) -> Result<(), Failure> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    fn pid(&self) -> Result<Pid, Failure> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }
}

impl Drop for Icm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Restricts this process and its future threads to some processors.
pub fn pin_to_cpus(cpus: &str) {
    let own = std::process::id().to_string();
    if !cpus.is_empty() {
        let _ = Command::new("taskset").args(["-pc", cpus, &own]).stdout(Stdio::null()).status();
    }
}

fn free_port() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

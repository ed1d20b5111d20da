//! A new Debian system for the packages, in a folder: made with mmdebstrap, entered with chroot, in namespaces of its own.
//! There the ports of the packaged configuration are free, and when the namespaces end, mounts and processes go with them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::support::*;
use serde_yaml::Value;

const ROOT: &str = "ICM_PACKAGES_ROOT";
const MIRROR: &str = "http://deb.debian.org/debian";

/// What the scripts of the packages ask systemd for, which does not run in a chroot. It writes down every call.
const SYSTEMCTL: &str = r#"echo "$*" >>/var/log/systemctl.log
for word; do case $word in -*) ;; *) [ -n "$verb" ] || verb=$word ;; esac; done
pid=$(cat /run/icm/icm.pid 2>/dev/null)
case $verb in
preset)
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -sf /lib/systemd/system/domino-icm.service /etc/systemd/system/multi-user.target.wants/ ;;
is-enabled) [ -e /etc/systemd/system/multi-user.target.wants/domino-icm.service ] && echo enabled ;;
is-active) [ -n "$pid" ] && kill -0 "$pid" ;;
start)
    install -d -o icm -g icm /run/icm
    start-stop-daemon --start --background --no-close --chuid icm:icm --pidfile /run/icm/icm.pid \
        --startas /usr/bin/icm -- run -c /etc/icm/icm.yaml >>/var/log/icm.out 2>&1 ;;
stop)
    kill -TERM "$pid"
    while [ -d "/proc/$pid" ]; do sleep 0.1; done ;;
kill) kill -USR1 "$pid" ;;
esac"#;

/// Runs ignored tests of these packages in a new system. Returns the reason where that is not possible.
pub(super) fn run_in_new_machine(tests: &[&str]) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("it takes root".to_owned());
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = dir.path().join("root");
    bootstrap(&root)?;
    let prepare = "ip link set lo up; mount -t proc proc \"$0/proc\"; mount --rbind /dev \"$0/dev\"";
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]);
        command.stdin(Stdio::null());
        command
    };
    let possible = unshare().arg(prepare).arg(&root).output().map_err(|error| error.to_string())?;
    if !possible.status.success() {
        return Err(format!("no namespaces: {}", String::from_utf8_lossy(&possible.stderr)));
    }
    // The shell stays, because the first process of a namespace must wait for those that others leave behind.
    let mut inner = unshare();
    inner.arg(format!("{prepare}; \"$@\"; exit $?")).arg(&root).arg(std::env::current_exe().unwrap());
    inner.args(["--exact", "--ignored", "--nocapture", "--test-threads", "1"]).args(tests).env(ROOT, &root);
    let output = inner.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let passed = format!("{} passed", tests.len());
    assert!(output.status.success() && text.contains(&passed), "{text}");
    eprintln!("{text}");
    Ok(())
}

/// The distribution on which the executable was built, so that its C library fits.
fn bootstrap(root: &Path) -> Result<(), String> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| release.lines().find_map(|line| line.strip_prefix(key));
    let (Some("debian"), Some(suite)) = (value("ID="), value("VERSION_CODENAME=")) else {
        return Err("this is not Debian".to_owned());
    };
    let output = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=minbase", "--include=logrotate,cron", "--quiet"])
        .args(["--dpkgopt=force-unsafe-io", "--aptopt=Acquire::Check-Valid-Until \"false\""])
        .args([suite, &root.display().to_string(), MIRROR])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("mmdebstrap: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The system from inside the namespaces.
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    pub fn from_environment() -> Machine {
        Machine { root: std::env::var_os(ROOT).expect("run by another test").into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    pub fn exists(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    pub fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_else(|e| panic!("{inside}: {e}"))
    }

    /// Makes the scripts of packages believe that systemd runs.
    pub fn with_systemd(&self) {
        std::fs::create_dir_all(self.path("/run/systemd/system")).unwrap();
        write_script(&self.path("/usr/bin/systemctl"), SYSTEMCTL);
    }

    pub fn without_systemd(&self) {
        let _ = std::fs::remove_dir_all(self.path("/run/systemd"));
        let _ = std::fs::remove_file(self.path("/usr/bin/systemctl"));
    }

    /// The number of calls of systemctl that contain this text.
    pub fn systemctl_calls(&self, text: &str) -> usize {
        self.read("/var/log/systemctl.log").lines().filter(|line| line.contains(text)).count()
    }

    /// Runs a shell script in the system. Out: success, and both streams.
    pub fn try_shell(&self, script: &str) -> (bool, String) {
        let output = Command::new("chroot")
            .arg(&self.root)
            .args(["/bin/sh", "-c", &format!("exec 2>&1; {script}")])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([("LC_ALL", "C"), ("DEBIAN_FRONTEND", "noninteractive"), ("HOME", "/root")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn shell(&self, script: &str) -> String {
        let (success, text) = self.try_shell(script);
        assert!(success, "{script}\n{text}\n{}", self.log());
        text
    }

    /// Modes, owners and names.
    pub fn modes(&self, paths: &[&str]) -> String {
        self.shell(&format!("stat -c '%a %U:%G %n' {}", paths.join(" ")))
    }

    /// Starts the installed program as the user of the service.
    pub fn start(&self) {
        let systemctl = SYSTEMCTL.replace("/var/log/systemctl.log", "/dev/null");
        self.shell(&format!("set -- start\n{systemctl}"));
    }

    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.path("/run/icm/icm.pid")).ok()?.trim().parse().ok()
    }

    /// What the program wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("/var/log/icm.out")).unwrap_or_default()
    }

    /// The configuration of an administrator, for this cluster. Returns the address of the listener.
    pub fn configure(&self, acme: &Acme) -> SocketAddr {
        let mut config: Value = config(acme);
        std::fs::copy(&acme.ca_file, self.path("/etc/icm/ca.pem")).unwrap();
        set(&mut config, "clusters.0.upstream_tls.ca_file", "/etc/icm/ca.pem");
        set(&mut config, "pingora.pid_file", "/run/icm/icm.pid");
        set(&mut config, "pingora.grace_period_seconds", "20");
        set(&mut config, "state_dir", "/var/lib/icm");
        set(&mut config, "access_log", "{ path: /var/log/icm/access.log, format: json }");
        // Writes into the file, so its mode and owner stay.
        std::fs::write(self.path("/etc/icm/icm.yaml"), serde_yaml::to_string(&config).unwrap()).unwrap();
        config["listeners"][0]["address"].as_str().unwrap().parse().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|pid| is_icm(*pid)) {
            signal(pid, "KILL");
        }
        if std::thread::panicking() {
            eprintln!("--- log of icm ---\n{}", self.log());
        }
    }
}

pub(super) fn is_icm(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "icm")
}

/// GETs and POSTs, quick and slow, on kept and on new connections, while `work` runs. Fails the test if one of them fails.
pub(super) fn under_load<T>(machine: &Machine, address: SocketAddr, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let request = |client: &mut Client, n: u64| {
        let answer = match n % 4 {
            0 => client.request("POST", "/sales/orders.nsf/form?CreateDocument", &[], &[b'x'; 20_000]),
            1 => client.request("GET", "/sales/orders.nsf?Open&delay=150", &[], b""),
            2 => client.request("GET", "/sales/orders.nsf?Open&size=300000", &[], b""),
            _ => client.request("GET", "/sales/orders.nsf?Open", &[], b""),
        };
        if n.is_multiple_of(5) {
            client.close();
        }
        match answer {
            Ok(answer) if answer.complete => answer.status.to_string(),
            Ok(answer) => format!("{} incomplete", answer.status),
            Err(failure) => failure.name().to_owned(),
        }
    };
    let (tallies, result) = std::thread::scope(|scope| {
        let tallies = scope.spawn(|| {
            let mut tallies = Vec::new();
            // Once more afterwards, so that the new process gets some, too.
            for _ in 0..2 {
                while !done.load(Relaxed) || tallies.is_empty() {
                    tallies.push(one_round(address, &request));
                }
                tallies.push(one_round(address, &request));
            }
            tallies
        });
        pause(500);
        let result = work();
        done.store(true, Relaxed);
        (tallies.join().unwrap(), result)
    });
    let mut all = String::new();
    for tally in &tallies {
        write!(all, "{tally:?} ").unwrap();
    }
    let (good, other): (u64, u64) =
        tallies.iter().fold((0, 0), |(good, other), t| (good + t.of("200"), other + t.other_than("200")));
    eprintln!("{good} requests, {other} failed");
    assert!(good > 0 && other == 0, "{all}\n{}", machine.log());
    result
}

fn one_round(address: SocketAddr, request: &(impl Fn(&mut Client, u64) -> String + Sync)) -> Tally {
    load(4, Duration::from_millis(700), |_| {
        let mut client = Client::to(address);
        move |n| request(&mut client, n)
    })
}

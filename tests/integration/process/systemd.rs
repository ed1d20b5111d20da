//! Notifications to systemd, on a socket in its place, and `systemd-analyze` on the unit.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;

/// systemd's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        Manager { socket, dir }
    }

    /// Starts the product under this manager.
    fn start(&self, config: serde_yaml::Value) -> Icm {
        Icm::spawn_with(config, &[("NOTIFY_SOCKET", &self.dir.path().join("notify").display().to_string())])
    }

    /// The next message, as lines; `None` when none came in time.
    fn hears(&self, within: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect())
    }

    fn next(&self, icm: &Icm) -> Vec<String> {
        self.hears(MAX_WAIT).unwrap_or_else(|| panic!("systemd heard nothing:\n{}", icm.log()))
    }
}

fn has(message: &[String], line: &str) -> bool {
    message.iter().any(|l| l == line)
}

#[test]
fn systemd_hears_of_the_start_of_reloads_good_and_bad_and_of_the_end() {
    let manager = Manager::new();
    let acme = Acme::built_in();
    let config = config(&acme);
    let mut icm = manager.start(config.clone());
    let ready = manager.next(&icm);
    assert!(has(&ready, "READY=1") && has(&ready, &format!("MAINPID={}", icm.pid())), "{ready:?}");
    // It is true: listeners are open, every server was probed, the directory is loaded.
    assert_eq!(icm.admin("/readyz").status, 200);
    assert!(std::net::TcpStream::connect(icm.address).is_ok());

    let mut bad = config.clone();
    set(&mut bad, "clusters.0.nonsense", "1");
    let mut before = 0;
    for (config, refused) in [(&config, false), (&bad, true), (&config, false)] {
        icm.reload(config);
        let reloading = manager.next(&icm);
        assert!(has(&reloading, "RELOADING=1"), "{reloading:?}");
        let since = reloading.iter().find_map(|l| l.strip_prefix("MONOTONIC_USEC=")).unwrap();
        let since: u64 = since.parse().unwrap();
        assert!(since > before, "{since} is not later than {before}");
        before = since;
        let ready = manager.next(&icm);
        assert!(has(&ready, "READY=1"), "{ready:?}");
        assert_eq!(ready.iter().any(|l| l.contains("refused")), refused, "{ready:?}");
    }
    icm.signal("TERM");
    let stopping = manager.next(&icm);
    assert!(has(&stopping, "STOPPING=1"), "{stopping:?}");
    assert!(icm.wait_for_end(MAX_WAIT).unwrap().success());
    assert!(manager.hears(Duration::from_millis(1)).is_none(), "it spoke after it had stopped");
}

#[test]
fn an_upgrade_gives_systemd_another_main_process_and_stops_nothing() {
    let manager = Manager::new();
    let acme = Acme::built_in();
    let mut icm = manager.start(config(&acme));
    assert!(has(&manager.next(&icm), "READY=1"));
    icm.signal("USR2");
    // By the old process, which alone is heard with NotifyAccess=main, and by the new one.
    let mut heard = [manager.next(&icm), manager.next(&icm)];
    let new = icm.current_pid().unwrap();
    assert_ne!(new, icm.pid());
    heard.sort_by_key(|message| has(message, "READY=1"));
    assert_eq!(heard[0], [format!("MAINPID={new}")]);
    assert!(has(&heard[1], "READY=1") && has(&heard[1], &format!("MAINPID={new}")), "{heard:?}");
    assert!(icm.wait_for_end(MAX_WAIT).unwrap().success());
    assert!(manager.hears(Duration::from_millis(300)).is_none(), "the service does not stop");
    signal(new, "TERM");
    assert!(has(&manager.next(&icm), "STOPPING=1"));
}

#[test]
fn it_is_not_ready_before_every_member_was_probed() {
    let manager = Manager::new();
    // Takes connections and never answers, longer than the listeners wait.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.probe.timeout", "7s");
    let server = format!(
        "{{ name: Silent/Acme, hostname: silent.acme.example, http: \"{}\" }}",
        silent.local_addr().unwrap()
    );
    let list = config["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.push(serde_yaml::from_str(&server).unwrap());
    let started = Instant::now();
    let icm = manager.start(config);
    let ready = manager.next(&icm);
    assert!(has(&ready, "READY=1"), "{ready:?}");
    assert!(started.elapsed() >= Duration::from_secs(7), "ready after {:?}", started.elapsed());
    assert_eq!(icm.admin("/readyz").status, 200);
}

#[test]
fn a_directory_that_cannot_be_read_does_not_keep_systemd_waiting() {
    let manager = Manager::new();
    let acme = Acme::built_in();
    acme.fault("all", serde_json::json!("refuse"));
    let icm = manager.start(config(&acme));
    let ready = manager.next(&icm);
    assert!(has(&ready, "READY=1") && ready.iter().any(|l| l.contains("no directory")), "{ready:?}");
    assert_eq!(icm.admin("/readyz").status, 503);
}

#[test]
fn a_container_asks_the_program_itself_for_its_health() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    assert!(eventually(MAX_WAIT, || icm.admin("/readyz").status == 200));
    let check = || {
        let file = icm.file.display().to_string();
        let args = ["check", "--running", "-c", &file];
        let output = Command::new(env!("CARGO_BIN_EXE_icm")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert_eq!(check(), (Some(0), "ready".to_owned()));
    icm.signal("KILL");
    assert!(eventually(MAX_WAIT, || check().0 == Some(1)));
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/systemd/domino-icm.service"))
            .unwrap();
    assert!(unit.contains("\nType=notify-reload\n"));
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let number: u32 = version.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domino-icm.service");
    // The program is not installed here, and older versions know Type=notify only.
    let mut unit = unit.replace("/usr/local/bin/icm", "/bin/true");
    if number < 253 {
        unit = unit.replace("Type=notify-reload", "Type=notify");
    }
    std::fs::write(&path, unit).unwrap();
    let analyze = |args: &[&str]| Command::new("systemd-analyze").args(args).arg(&path).output().unwrap();
    let said = analyze(&["verify", "--man=no"]);
    let complaints = String::from_utf8_lossy(&said.stderr).into_owned();
    let ours: Vec<_> = complaints.lines().filter(|l| l.contains("domino-icm.service")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    // 10 is wide open; what is left is the network, which is what it is for.
    let said = analyze(&["security", "--offline=true", "--threshold=25", "--no-pager"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}

//! Upgrades that fail: the old process continues to serve, and log, events and status give the reason.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::*;

/// A product that was started by a name of its own, which can be given to another program.
struct UpgradableIcm {
    acme: Acme,
    config: serde_yaml::Value,
    icm: Icm,
    program: PathBuf,
    _dir: tempfile::TempDir,
}

impl UpgradableIcm {
    fn new() -> UpgradableIcm {
        let acme = Acme::built_in();
        let mut config = config(&acme);
        set(&mut config, "access_log", "{ path: /dev/null, format: json }");
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("icm");
        symlink(env!("CARGO_BIN_EXE_icm"), &program).unwrap();
        let icm = Icm::spawn_program(&program, config.clone(), &[]).listening();
        icm.wait_for_status("ready", |status| status["ready"] == true);
        UpgradableIcm { acme, config, icm, program, _dir: dir }
    }

    /// Puts a shell script into the program's place.
    fn script(&self, text: &str) {
        let aside = self.program.with_extension("new");
        write_script(&aside, text);
        std::fs::rename(aside, &self.program).unwrap();
    }

    /// Puts the product back.
    fn product(&self) {
        std::fs::remove_file(&self.program).unwrap();
        symlink(env!("CARGO_BIN_EXE_icm"), &self.program).unwrap();
    }

    fn upgrade(&self) -> CliOutput {
        icm_cli(&["upgrade", "-c", self.icm.file.to_str().unwrap()])
    }

    /// It fails for this reason, and nothing else has changed.
    fn fails(&self, why: &str) {
        let output = self.upgrade();
        assert!(output.code == 1 && output.err.contains(why), "{why:?}: {output:?}\n{}", self.icm.log());
        self.serves_on(why);
    }

    fn serves_on(&self, why: &str) {
        let status = self.icm.status();
        assert_eq!((&status["pid"], &status["ready"]), (&self.icm.pid().into(), &true.into()), "{why}");
        assert_eq!(self.icm.current_pid(), Some(self.icm.pid()), "{why}");
        assert_eq!(self.icm.client().get("/fast").status, 200, "{why}");
    }

    /// It has been said where people look.
    fn is_told(&self, why: &str) {
        let status = self.icm.status();
        assert_eq!(status["upgrade"]["state"], "failed", "{status}");
        assert!(status["upgrade"]["reason"].as_str().unwrap().contains(why), "{status}");
        let is_it =
            |e: &serde_json::Value| e["kind"] == "upgrade" && e["cause"].as_str().unwrap().contains(why);
        assert!(status["events"].as_array().unwrap().iter().any(is_it), "{status}");
        self.icm.wait_for_log("upgrade failed");
    }
}

fn is_alive(marker: &Path) -> bool {
    let pid = std::fs::read_to_string(marker).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z")
}

#[test]
fn a_new_program_that_ends_hangs_is_none_or_is_not_there_leaves_the_old_process() {
    let fixture = UpgradableIcm::new();
    let marker = fixture.icm.dir.path().join("hung");
    let turns = std::thread::scope(|scope| {
        let load = scope.spawn(|| load_get(fixture.icm.address, "/fast", "up", 4, Duration::from_secs(14)));
        fixture.script("exit 3");
        fixture.fails("exit status: 3");
        fixture.is_told("exit status: 3");
        fixture.script("echo hello icm >&0; sleep 5");
        fixture.fails("unexpected handover message");
        fixture.script(&format!("sleep 300 & echo $! > {}; wait", marker.display()));
        fixture.fails("in time");
        fixture.is_told("in time");
        assert!(!is_alive(&marker), "what hung is still there");
        std::fs::remove_file(&fixture.program).unwrap();
        fixture.fails("cannot be started");
        std::fs::write(&fixture.program, "no program").unwrap();
        fixture.fails("cannot be started");
        load.join().unwrap()
    });
    assert_eq!(turns.other_than("200"), 0, "{turns:?}");
    // Nothing of it stands in the way of the next one.
    fixture.product();
    let output = fixture.upgrade();
    assert_eq!(output.code, 0, "{output:?}\n{}", fixture.icm.log());
    assert_ne!(fixture.icm.status()["pid"], fixture.icm.pid());
}

#[test]
fn a_configuration_that_is_wrong_or_cannot_be_served_leaves_the_old_process() {
    let fixture = UpgradableIcm::new();
    let mut wrong = fixture.config.clone();
    set(&mut wrong, "clusters.0.nonsense", "1");
    fixture.icm.configure(&wrong);
    fixture.fails("nonsense");
    // The same without the command, which has looked by itself.
    fixture.icm.signal("USR2");
    fixture.icm.wait_for_status("failed", |status| status["upgrade"]["state"] == "failed");
    fixture.is_told("nonsense");
    fixture.serves_on("nonsense");
    // A port that another process has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut second = fixture.config.clone();
    let listener = format!("{{ address: \"{}\" }}", taken.local_addr().unwrap());
    second["listeners"].as_sequence_mut().unwrap().push(serde_yaml::from_str(&listener).unwrap());
    fixture.icm.configure(&second);
    fixture.fails("cannot listen on");
    fixture.is_told(&taken.local_addr().unwrap().to_string());
    // A directory that is nowhere, where the old process has one.
    let mut without = fixture.config.clone();
    set(&mut without, "clusters.0.directory.database", "nosuch.nsf");
    let empty = tempfile::tempdir().unwrap();
    set(&mut without, "state_dir", empty.path().to_str().unwrap());
    fixture.icm.configure(&without);
    fixture.fails("no directory of cluster AcmeWeb");
    fixture.icm.configure(&fixture.config);
    assert_eq!(fixture.upgrade().code, 0);
}

#[test]
fn while_one_is_under_way_another_is_refused_a_reload_is_done_and_term_ends_everything() {
    let mut fixture = UpgradableIcm::new();
    let marker = fixture.icm.dir.path().join("hung");
    fixture.script(&format!("sleep 300 & echo $! > {}; wait", marker.display()));
    fixture.icm.signal("USR2");
    assert!(eventually(MAX_WAIT, || std::fs::read_to_string(&marker).is_ok_and(|pid| pid.ends_with('\n'))));
    fixture.icm.signal("USR2");
    fixture.icm.wait_for_log("USR2 ignored: an upgrade is under way");
    let output = fixture.upgrade();
    assert!(output.code == 1 && output.err.contains("under way"), "{output:?}");
    fixture.icm.reload(&fixture.config);
    fixture.icm.wait_for_log("configuration reloaded");
    assert!(is_alive(&marker));
    fixture.icm.signal("TERM");
    assert!(fixture.icm.wait_for_end(MAX_WAIT).expect("ends").success());
    assert!(eventually(MAX_WAIT, || !is_alive(&marker)), "the new program outlives the old process");
    assert_eq!(fixture.icm.current_pid(), None, "the pid file is left");
    drop(fixture.acme);
}

#[test]
fn without_a_process_or_with_somebody_elses_nothing_is_signalled() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let (_dir, file) = write_config(&config);
    let upgrade = |file: &Path| icm_cli(&["upgrade", "-c", file.to_str().unwrap()]);
    let output = upgrade(&file);
    assert!(output.code == 1 && output.err.contains("pid_file is needed"), "{output:?}");
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("icm.pid");
    set(&mut config, "pingora.pid_file", pid_file.to_str().unwrap());
    let (_dir, file) = write_config(&config);
    let output = upgrade(&file);
    assert!(output.code == 1 && output.err.contains("no process runs"), "{output:?}");
    // Of a process that has ended, of one that USR2 would end, and of no process at all.
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(&pid_file, other.id().to_string()).unwrap();
    let alive = upgrade(&file);
    let still = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    let gone = upgrade(&file);
    assert!(still, "USR2 ended it");
    assert!(alive.code == 1 && alive.err.contains("is not icm"), "{alive:?}");
    assert!(gone.code == 1 && gone.err.contains("no process runs"), "{gone:?}");
    for nonsense in ["", "-1", "0", "1", "x"] {
        std::fs::write(&pid_file, nonsense).unwrap();
        let output = upgrade(&file);
        assert!(output.code == 1 && output.err.contains("no process runs"), "{nonsense:?}: {output:?}");
    }
}

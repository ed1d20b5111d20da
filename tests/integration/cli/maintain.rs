//! `icm maintain --rolling` on a cluster that replicates: a rolling restart under load, each reason to stop, and going on
//! after an interruption.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::support::*;
use serde_json::{Value, json};

const SERVERS: [&str; 3] = ["Web1", "Web2", "Web3"];

/// A cluster that replicates, `icm` in front of it, and a directory for the hook.
struct Site {
    acme: Acme,
    icm: Icm,
    dir: tempfile::TempDir,
}

impl Site {
    /// With these settings of replication and of catching up.
    fn start(replication: &str, catch_up: &str) -> Site {
        let acme = Acme::replicating(replication);
        let mut config = config(&acme);
        sources_of(&mut config, &acme, &["prometheus"], "5s");
        set(&mut config, "clusters.0.catch_up", catch_up);
        // A busy machine must not make a working server UNREACHABLE: it would be no witness any longer.
        set(&mut config, "clusters.0.probe.timeout", "10s");
        let icm = Icm::start(config);
        for server in SERVERS {
            icm.wait_for_state(server, "AVAILABLE");
        }
        Site { acme, icm, dir: tempfile::tempdir().unwrap() }
    }

    /// [`Site::start`], and every server reports about its Cluster Replicator.
    fn reporting(replication: &str, catch_up: &str) -> Site {
        let site = Site::start(replication, catch_up);
        for server in SERVERS {
            site.icm.wait_for_server(server, "reported", |status| status["replicator"].is_object());
        }
        site
    }

    /// A hook that writes the server's name into the list of hooks and then does this.
    fn hook(&self, then: &str) -> String {
        let list = self.dir.path().join("hooks");
        let control = format!("curl -sS -f -o {} -X POST", self.dir.path().join("answer").display());
        let server = format!("http://{}/servers/$ICM_SERVER_COMMON", self.acme.control);
        let then = then
            .replace("STOP", &format!("{control} {server}/stop"))
            .replace("START", &format!("{control} {server}/start"));
        format!("echo $ICM_SERVER >> {}; {then}", list.display())
    }

    fn restarting_hook(&self) -> String {
        self.hook("STOP && sleep 2 && START")
    }

    /// The servers for which a hook was run, in order.
    fn hooks(&self) -> Vec<String> {
        let list = std::fs::read_to_string(self.dir.path().join("hooks")).unwrap_or_default();
        list.lines().map(str::to_owned).collect()
    }

    /// The arguments of a run with short limits, within which a busy machine still brings the two reports that are needed.
    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["maintain", "--rolling", "-c", self.icm.file.to_str().unwrap()];
        for (option, value) in [("--drain-timeout", "5s"), ("--settle", "3s")] {
            if !more.contains(&option) {
                all.extend([option, value]);
            }
        }
        all.extend(more);
        all
    }

    fn maintain(&self, more: &[&str]) -> CliOutput {
        icm_cli(&self.arguments(more))
    }

    fn spawn(&self, more: &[&str]) -> RunningMaintenance {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icm"));
        command.args(self.arguments(more)).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        RunningMaintenance(Some(command.spawn().unwrap()))
    }

    fn progress_file(&self) -> PathBuf {
        self.icm.dir.path().join("state/maintenance/AcmeWeb.json")
    }

    fn progress(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.progress_file()).unwrap()).unwrap()
    }

    fn assert_all_available(&self) {
        for server in SERVERS {
            self.icm.wait_for_state(server, "AVAILABLE");
            assert_eq!(self.icm.status_of(server)["restricted_by_admin"], Value::Null);
        }
    }
}

impl Drop for Site {
    /// Ends the hook of a run that was killed.
    fn drop(&mut self) {
        let text = std::fs::read(self.progress_file()).unwrap_or_default();
        let progress: Value = serde_json::from_slice(&text).unwrap_or_default();
        let pid = progress["current"]["hook_process"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.filter(|_| std::thread::panicking()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

/// A run that is killed with the value.
struct RunningMaintenance(Option<Child>);

impl RunningMaintenance {
    fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    fn wait(mut self) -> std::process::Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for RunningMaintenance {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn events(output: &CliOutput) -> Vec<Value> {
    output.out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

fn wait_for_file(path: &Path) {
    assert!(eventually(MAX_WAIT, || path.exists()), "{} never appeared", path.display());
}

const CATCH_UP: &str = "{ after: 300ms, limit: 10m }";

/// A user who changes one document again and again, and reads it. Returns how often.
fn edit_until(site: &Site, is_over: &AtomicBool) -> u64 {
    let mut browser = Browser::new(site.icm.address);
    let created = create_document(&mut browser, "all.nsf", &[("subject", "a user's own")]);
    let unid = created["unid"].as_str().unwrap().to_owned();
    let mut seq = created["seq"].as_u64().unwrap();
    let mut edits = 0;
    while !is_over.load(Relaxed) {
        let text = format!("edit {edits}");
        // Longer than a push takes, so that an older copy is one that has missed it.
        pause(1_500);
        let read = read_document(&mut browser, "all.nsf", &unid);
        let read = read.unwrap_or_else(|| panic!("{unid} is missing: {:#}", site.acme.replication()));
        assert!(read["seq"].as_u64().unwrap() >= seq, "an older copy than {seq}: {read}");
        let saved = change_document(&mut browser, "all.nsf", &unid, seq, &text).unwrap();
        assert_eq!((&saved["conflict"], &saved["lost_update"]), (&json!(false), &json!(false)), "{saved}");
        seq = saved["seq"].as_u64().unwrap();
        edits += 1;
    }
    edits
}

#[test]
fn a_rolling_restart_under_load_fails_no_request_and_shows_no_user_an_older_copy() {
    let site = Site::reporting("{ push_ms: 20, retry_ms: 1500 }", CATCH_UP);
    let boot_ids = || {
        let state = site.acme.replication();
        SERVERS.map(|server| state["servers"][format!("{server}/Acme")]["boot_id"].clone())
    };
    let before = boot_ids();
    let is_over = AtomicBool::new(false);
    let hook = site.restarting_hook();
    let (output, edits, tally) = std::thread::scope(|scope| {
        let users: Vec<_> = (0..4).map(|_| scope.spawn(|| edit_until(&site, &is_over))).collect();
        let readers = scope.spawn(|| {
            let mut tally = Tally::default();
            while !is_over.load(Relaxed) {
                let address = site.icm.address;
                let target = "/all.nsf?OpenDatabase";
                let part = load_get(address, target, &unique_id(), 4, Duration::from_millis(500));
                for (outcome, n) in part.0 {
                    *tally.0.entry(outcome).or_default() += n;
                }
            }
            tally
        });
        let output = site.maintain(&["--hook", &hook, "--json"]);
        is_over.store(true, Relaxed);
        let edits: Vec<u64> = users.into_iter().map(|user| user.join().unwrap()).collect();
        (output, edits, readers.join().unwrap())
    });
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(site.hooks(), ["Web1/Acme", "Web2/Acme", "Web3/Acme"], "each server once, in order");
    assert!(before.iter().zip(&boot_ids()).all(|(before, after)| before != after));
    assert!(edits.iter().all(|edits| *edits > 3), "{edits:?}");
    assert!(tally.total() > 100 && tally.other_than("200") == 0, "{tally:?}");
    let of_web2: Vec<String> = events(&output)
        .iter()
        .filter(|event| event["server"] == "Web2/Acme" && event["event"] != "waiting")
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect();
    let expected =
        "restricted closed drained pushed hook_started hook_ended returned caught_up released serves";
    assert_eq!(of_web2.join(" "), expected, "{output:?}");
    assert!(!site.progress_file().exists(), "the progress is removed at the end");
    site.assert_all_available();
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let site = Site::reporting("{ push_ms: 20 }", CATCH_UP);
    let output = site.maintain(&["--dry-run"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("AcmeWeb: 3 servers, one after the other"), "{output:?}");
    assert!(output.out.contains("Retry.Waiting 0, WorkQueueDepth 0"), "{output:?}");
    site.acme.stop_server("Web2");
    site.icm.wait_for_state("Web2", "UNREACHABLE");
    let output = site.maintain(&["--dry-run", "--json", "--servers", "Web3,web1"]);
    assert_eq!(output.code, 2, "{output:?}");
    let plan = output.json();
    let servers: Vec<&Value> = plan["servers"].as_array().unwrap().iter().collect();
    assert_eq!((&servers[0]["server"], &servers[1]["server"]), (&json!("Web3/Acme"), &json!("Web1/Acme")));
    assert_eq!((&servers[1]["last_replicas"], &servers[1]["examples"]), (&json!(1), &json!(["two.nsf"])));
    assert!(servers[1]["stops"].as_str().unwrap().contains("last eligible replica: two.nsf"), "{plan:#}");
    assert_eq!(servers[0]["stops"], Value::Null);
    for server in ["Web1", "Web3"] {
        assert_eq!(site.icm.status_of(server)["restricted_by_admin"], Value::Null);
    }
    assert!(!site.progress_file().parent().unwrap().exists());
}

#[test]
fn it_stops_before_a_database_loses_its_last_replica() {
    let site = Site::reporting("{ push_ms: 20 }", CATCH_UP);
    site.acme.stop_server("Web2");
    site.icm.wait_for_state("Web2", "UNREACHABLE");
    let hook = site.hook("true");
    let output = site.maintain(&["--servers", "Web1", "--hook", &hook]);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("1 databases would lose their last eligible replica: two.nsf"), "{output:?}");
    assert!(output.err.contains("not restricted by this run"), "{output:?}");
    assert_eq!((site.icm.state_of("Web1").as_str(), site.hooks().len()), ("AVAILABLE", 0));
    let output = site.maintain(&["--servers", "Web1", "--hook", &hook, "--allow-outage"]);
    assert_eq!((output.code, site.hooks().len()), (0, 1), "{output:?}");
}

#[test]
fn a_hook_that_fails_leaves_the_server_restricted_and_the_same_command_goes_on() {
    let site = Site::reporting("{ push_ms: 20, retry_ms: 500 }", CATCH_UP);
    let mut browser = Browser::on(site.icm.address, "/all.nsf?OpenDatabase", "Web1");
    let failing = site.hook("exit 3");
    let output = site.maintain(&["--hook", &failing]);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("stopped at Web1/Acme: the hook failed: exit status: 3"), "{output:?}");
    assert!(output.err.contains("Web1/Acme stays RESTRICTED until `icm release Web1/Acme`"), "{output:?}");
    let restriction = site.icm.status_of("Web1")["restricted_by_admin"].clone();
    assert!(restriction["by"].as_str().unwrap().starts_with("icm maintain on "), "{restriction}");
    assert_eq!(restriction["closed"], true);
    assert!(!browser.server_of("/all.nsf?OpenDatabase").starts_with("Web1"), "its users are elsewhere");
    let current = &site.progress()["current"];
    assert_eq!((&current["server"], &current["phase"]), (&json!("Web1/Acme"), &json!("hook")));
    let other = site.maintain(&["--hook", &failing, "--servers", "Web2"]);
    assert!(other.code == 2 && other.err.contains("--forget"), "{other:?}");
    let output = site.maintain(&["--hook", &site.restarting_hook()]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("goes on") && output.out.contains("Web1/Acme at its hook"), "{output:?}");
    assert_eq!(site.hooks(), ["Web1/Acme", "Web1/Acme", "Web2/Acme", "Web3/Acme"]);
    site.assert_all_available();
}

#[test]
fn a_hook_done_by_hand_is_not_run_again() {
    let site = Site::reporting("{ push_ms: 20 }", CATCH_UP);
    let failing = site.hook("exit 3");
    let arguments = ["--servers", "Web1", "--hook", &failing];
    let early = site.maintain(&[&arguments[..], &["--hook-done"]].concat());
    assert!(early.code == 2 && early.err.contains("no unfinished run"), "{early:?}");
    assert_eq!(site.maintain(&arguments).code, 2);
    let output = site.maintain(&[&arguments[..], &["--hook-done"]].concat());
    assert_eq!((output.code, site.hooks().len()), (0, 1), "{output:?}");
    site.assert_all_available();
}

#[test]
fn a_server_that_does_not_return_stops_it_until_it_answers() {
    let site = Site::reporting("{ push_ms: 20, retry_ms: 500 }", CATCH_UP);
    let hook = site.hook("STOP");
    let arguments = ["--servers", "Web2", "--hook", &hook, "--return-timeout", "2s"];
    let output = site.maintain(&arguments);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("stopped at Web2/Acme: it did not return within 2s"), "{output:?}");
    assert_eq!(site.progress()["current"]["phase"], "return");
    site.acme.start_server("Web2");
    // Users are still led elsewhere.
    let seen = |status: &Value| status["http_up"] == true && status["restricted_by_admin"].is_object();
    site.icm.wait_for_server("Web2", "answered, RESTRICTED", seen);
    let output = site.maintain(&["--servers", "Web2", "--hook", &hook, "--return-timeout", "30s"]);
    assert_eq!((output.code, site.hooks().len()), (0, 1), "{output:?}");
    site.assert_all_available();
}

#[test]
fn an_asynchronous_hook_and_one_that_restarts_nothing_are_understood() {
    let site = Site::reporting("{ push_ms: 20, retry_ms: 500 }", CATCH_UP);
    let later = site.hook("(sleep 1; STOP; sleep 2; START) > /dev/null 2>&1 &");
    let output = site.maintain(&["--servers", "Web1", "--hook", &later, "--settle", "20s", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let returned = |output: &CliOutput| {
        let all = events(output);
        let found = all.iter().find(|event| event["event"] == "returned");
        found.unwrap_or_else(|| panic!("{output:?}"))["text"].as_str().unwrap().to_owned()
    };
    assert!(returned(&output).contains("answers again after"), "{output:?}");
    let output = site.maintain(&["--servers", "Web1", "--hook", &site.hook("true"), "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(returned(&output).contains("was not seen to go down within 3s"), "{output:?}");
}

#[test]
fn a_hook_that_takes_too_long_fails() {
    let site = Site::reporting("{ push_ms: 20 }", CATCH_UP);
    let hook = site.hook("sleep 600");
    let output = site.maintain(&["--servers", "Web3", "--hook", &hook, "--hook-timeout", "1s"]);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("it ran longer than 1s"), "{output:?}");
    assert_eq!(site.icm.state_of("Web3"), "RESTRICTED");
}

#[test]
fn without_reports_it_stops_at_once_unless_that_is_accepted() {
    let site = Site::start("{ push_ms: 20, replica_statistics: false }", CATCH_UP);
    let hook = site.restarting_hook();
    let arguments = ["--servers", "Web1", "--hook", &hook];
    let output = site.maintain(&arguments);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("nobody reports Replica.Cluster.Retry.Waiting"), "{output:?}");
    assert_eq!((site.icm.state_of("Web1").as_str(), site.hooks().len()), ("AVAILABLE", 0));
    let output = site.maintain(&[&arguments[..], &["--accept-unproven"]].concat());
    assert_eq!((output.code, site.hooks().len()), (0, 1), "{output:?}");
    assert!(output.out.contains("accepted"), "{output:?}");
    site.assert_all_available();
}

#[test]
fn changes_that_are_not_pushed_stop_it_before_the_hook() {
    let site = Site::reporting("{ push_ms: 20 }", CATCH_UP);
    site.acme.set("Web1", json!({ "push_ms": 3_600_000 }));
    create_document(&mut Client::to(site.acme.http("Web1")), "all.nsf", &[]);
    let waits = |status: &Value| status["replicator"]["work_queue_depth"].as_u64().is_some_and(|n| n > 0);
    site.icm.wait_for_server("Web1", "reported a queue", waits);
    let output = site.maintain(&["--servers", "Web1", "--hook", &site.hook("true")]);
    assert_eq!((output.code, site.hooks().len()), (2, 0), "{output:?}");
    assert!(output.err.contains("its Cluster Replicator still has work after"), "{output:?}");
    assert_eq!(site.icm.state_of("Web1"), "RESTRICTED");
    site.acme.set("Web1", json!({ "push_ms": 10 }));
    let output = site.maintain(&["--servers", "Web1", "--hook", &site.hook("true")]);
    assert_eq!((output.code, site.hooks().len()), (0, 1), "{output:?}");
}

#[test]
fn a_gate_that_ends_by_its_limit_stops_it() {
    let site = Site::reporting("{ push_ms: 20, retry_ms: 3600000 }", "{ after: 300ms, limit: 4s }");
    let [down, written] = ["down", "written"].map(|name| site.dir.path().join(name));
    let wait = format!("until [ -e {} ]; do sleep 0.1; done", written.display());
    let hook = site.hook(&format!("STOP && touch {} && {wait} && START", down.display()));
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| site.maintain(&["--servers", "Web2,Web3", "--hook", &hook]));
        wait_for_file(&down);
        site.icm.wait_for_state("Web2", "UNREACHABLE");
        create_document(&mut Client::to(site.acme.http("Web1")), "all.nsf", &[]);
        // The server returns only after the push to it has failed, and an outage that is long enough.
        let waiting = || site.acme.replica_statistic("Web1", "Retry.Waiting");
        assert!(eventually(MAX_WAIT, || waiting() == 1), "{:#}", site.acme.replication());
        pause(400);
        std::fs::write(&written, "").unwrap();
        run.join().unwrap()
    });
    assert_eq!(output.code, 2, "{output:?}");
    let why = "nobody could prove that it has caught up: CATCHING UP ended by its limit";
    assert!(output.err.contains(why), "{output:?}");
    assert!(output.err.contains("--accept-unproven"), "{output:?}");
    assert_eq!((site.icm.state_of("Web2").as_str(), site.hooks().len()), ("RESTRICTED", 1));
    assert_eq!(site.progress()["current"]["phase"], "catch_up");
    site.acme.replicate();
    site.acme.set("all", json!({ "retry_ms": 300 }));
    let hook = site.hook("true");
    let output = site.maintain(&["--hook", &hook, "--accept-unproven"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(site.hooks(), ["Web2/Acme", "Web3/Acme"]);
    site.assert_all_available();
}

#[test]
fn after_ctrl_c_or_a_kill_the_same_command_goes_on_and_a_second_run_is_refused() {
    let site = Site::reporting("{ push_ms: 20, retry_ms: 500 }", CATCH_UP);
    let started = site.dir.path().join("started");
    let slow = site.hook(&format!("touch {}; exec sleep 600", started.display()));
    for name in ["INT", "KILL"] {
        let child = site.spawn(&["--hook", &slow]);
        wait_for_file(&started);
        std::fs::remove_file(&started).unwrap();
        if name == "INT" {
            let second = site.maintain(&["--hook", &slow]);
            assert!(
                second.code == 2 && second.err.contains("another `icm maintain` of AcmeWeb"),
                "{second:?}"
            );
        }
        let hook = || site.progress()["current"]["hook_process"]["pid"].as_u64();
        assert!(eventually(MAX_WAIT, || hook().is_some()));
        let hook = u32::try_from(hook().unwrap()).unwrap();
        signal(child.pid(), name);
        if name == "KILL" {
            let early = site.maintain(&["--hook", &slow]);
            let text = format!("the hook of the last run is still running as process {hook}");
            assert!(early.code == 2 && early.err.contains(&text), "{early:?}");
            signal(hook, "TERM");
        }
        let output = child.wait();
        let text = String::from_utf8(output.stdout).unwrap();
        if name == "INT" {
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(
                text.contains("interrupted; it stays RESTRICTED. The same command goes on here"),
                "{text}"
            );
        }
        assert_eq!(site.icm.state_of("Web1"), "RESTRICTED");
        assert_eq!(site.progress()["current"]["phase"], "hook");
    }
    let output = site.maintain(&["--hook", &site.restarting_hook()]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(site.hooks(), ["Web1/Acme", "Web1/Acme", "Web1/Acme", "Web2/Acme", "Web3/Acme"]);
    assert!(!site.progress_file().exists());
    site.assert_all_available();
}

#[test]
fn a_server_that_was_restricted_before_stays_so_and_another_maintenance_is_respected() {
    let site = Site::reporting("{ push_ms: 20 }", CATCH_UP);
    let admin = Client::to(site.icm.admin).post("/servers/Web3/restrict?by=Jane%20Doe", &[], "");
    assert_eq!(admin.status, 200);
    let output = site.maintain(&["--servers", "Web3", "--hook", &site.hook("true")]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("stays restricted by Jane Doe"), "{output:?}");
    let restriction = site.icm.status_of("Web3")["restricted_by_admin"].clone();
    assert_eq!((&restriction["by"], &restriction["closed"]), (&json!("Jane Doe"), &json!(false)));
    assert_eq!(site.hooks().len(), 1);
    Client::to(site.icm.admin).post("/servers/Web2/restrict?by=icm%20maintain%20on%20b", &[], "");
    let output = site.maintain(&["--servers", "Web1", "--hook", &site.hook("true")]);
    assert!(output.code == 2 && output.err.contains("another maintenance is at Web2/Acme"), "{output:?}");
    assert_eq!((site.icm.state_of("Web1").as_str(), site.hooks().len()), ("AVAILABLE", 1));
}

#[test]
fn another_icm_in_front_of_the_servers_is_drained_too() {
    let site = Site::reporting("{ push_ms: 20 }", CATCH_UP);
    let second = Icm::start(config(&site.acme));
    second.wait_for_state("Web1", "AVAILABLE");
    let mut browser = Browser::on(second.address, "/all.nsf?OpenDatabase", "Web1");
    let also = format!("http://{}", second.admin);
    let arguments = ["--servers", "Web1", "--also", &also, "--json"];
    let failed = site.maintain(&[&arguments[..], &["--hook", "exit 1"]].concat());
    assert_eq!(failed.code, 2, "{failed:?}");
    let waits = |text: &str| events(&failed).iter().any(|e| e["text"].as_str().unwrap().contains(text));
    assert!(waits("users may return"), "the user of the other ICM: {failed:?}");
    assert_eq!(second.status_of("Web1")["restricted_by_admin"]["closed"], true);
    assert!(!browser.server_of("/all.nsf?OpenDatabase").starts_with("Web1"));
    let output = site.maintain(&[&arguments[..], &["--hook", "true"]].concat());
    assert_eq!(output.code, 0, "{output:?}");
    second.wait_for_state("Web1", "AVAILABLE");
    site.assert_all_available();
}

#[test]
fn a_long_request_is_cut_and_wrong_arguments_are_refused() {
    let site = Site::reporting("{ push_ms: 20, retry_ms: 500 }", CATCH_UP);
    let mut browser = Browser::on(site.icm.address, "/all.nsf?OpenDatabase", "Web1");
    let slow = std::thread::spawn(move || {
        let cookie = format!("ICM={}", browser.icm().unwrap());
        // Half a minute, one piece after the other.
        browser.client.request("GET", "/all.nsf/x?OpenPage&drip=500&size=60000", &[("Cookie", &cookie)], b"")
    });
    site.icm.wait_for_in_flight("Web1", 1);
    let hook = site.restarting_hook();
    let output = site.maintain(&["--servers", "Web1", "--hook", &hook, "--drain-timeout", "4s"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.out.contains("the hook will cut 1 requests in flight"), "{output:?}");
    assert!(slow.join().unwrap().is_err(), "it was cut");
    for (wrong, text) in [
        (&["--servers", "Web9", "--hook", "true"][..], "has no server Web9"),
        (&["--servers", "Web1,Web1/Acme", "--hook", "true"], "named twice"),
        (&["--cluster", "No", "--hook", "true"], "there are: AcmeWeb"),
        (&[], "a terminal is needed"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icm"));
        let output = command.args(site.arguments(wrong)).stdin(Stdio::null()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && err.contains(text), "{wrong:?}: {err}");
    }
}

//! `icm replay` over the log of a real load: it agrees with what happened, and its changes with what a cluster that really
//! changes does.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;
use serde_json::{Value, json};

const USERS: usize = 24;
const REQUESTS: usize = 4;

/// A cluster whose log is a JSON file; Web1 alone has `only.nsf`.
struct Logged {
    acme: Acme,
    icm: Icm,
    config: serde_yaml::Value,
    dir: tempfile::TempDir,
    log: PathBuf,
}

impl Logged {
    fn start() -> Self {
        let acme = Acme::start(THREE_SERVERS);
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        let mut config = config_with_equal_indexes(&acme);
        set(&mut config, "access_log", &format!("{{ path: {}, format: json }}", log.display()));
        set(&mut config, "clusters.0.directory.cache", &dir.path().join("directory").display().to_string());
        // A slow probe on a busy machine must not change a state.
        set(&mut config, "clusters.0.probe.timeout", "20s");
        let icm = Icm::start(config.clone());
        let logged = Self { acme, icm, config, dir, log };
        for server in ["Web1", "Web2", "Web3"] {
            logged
                .icm
                .wait_for_server(server, "published", |s| s["index"] == 90 && s["state"] == "AVAILABLE");
        }
        logged
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Waits until the log has recorded such a state of Web1. `icm` answers the requests of this wait itself.
    fn wait_for_record(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        let came = eventually(MAX_WAIT, || {
            assert_eq!(self.icm.client().get("/a/../b").status, 400);
            let web1 = |line: &Value| line["servers"]["list"].as_array().map(|list| list[0].clone());
            self.lines().iter().rev().find_map(web1).is_some_and(|web1| is_it(&web1))
        });
        assert!(came, "{what} was never recorded: {:#?}", self.lines().last());
    }

    /// The requests for a database, once there are so many.
    fn requests(&self, database: &str, count: usize) -> Vec<Value> {
        let mut found = Vec::new();
        let came = eventually(MAX_WAIT, || {
            found = self.lines();
            found.retain(|line| line["database"] == database);
            found.len() >= count
        });
        assert!(came && found.len() == count, "{} requests for {database}, {count} are due", found.len());
        found
    }

    /// Runs `icm replay --json` on a log; returns its exit code and the report on the cluster.
    fn replay(&self, log: &Path, arguments: &[&str]) -> (i32, Value, Value) {
        let (conf, log) = (self.icm.file.display().to_string(), log.display().to_string());
        let mut all = vec!["replay", &log, "-c", &conf, "--json"];
        all.extend(arguments);
        let output = icm_cli(&all);
        assert!([0, 2].contains(&output.code), "{arguments:?}: {output:?}");
        let report = output.json();
        let cluster = report["clusters"][0].clone();
        (output.code, report, cluster)
    }
}

/// Users who stay where they come first.
fn users(icm: &Icm) -> Vec<Browser> {
    (0..USERS).map(|_| Browser::new(icm.address)).collect()
}

/// Sends one request for each user, and returns their servers.
fn visit(users: &mut [Browser], target: &str) -> Vec<String> {
    let one = |(n, user): (usize, &mut Browser)| {
        let agent = format!("browser {n}");
        user.request("GET", target, &[("User-Agent", &agent)], b"").server().to_owned()
    };
    users.iter_mut().enumerate().map(one).collect()
}

fn by_server(cluster: &Value, key: &str) -> BTreeMap<String, u64> {
    let servers = cluster["servers"].as_array().unwrap().iter();
    servers.map(|s| (s["server"].as_str().unwrap().to_owned(), s[key].as_u64().unwrap())).collect()
}

fn count(lines: &[Value], is_it: impl Fn(&&Value) -> bool) -> u64 {
    lines.iter().filter(is_it).count() as u64
}

#[test]
fn a_replay_agrees_with_the_log_and_a_change_with_a_cluster_that_really_changes() {
    let logged = Logged::start();
    logged.wait_for_record("an index", |web1| web1["index"] == 90);
    let mut all = users(&logged.icm);
    for _ in 0..REQUESTS {
        visit(&mut all, "/all.nsf");
    }
    for _ in 0..5 {
        assert_eq!(logged.icm.client().get("/only.nsf").status, 200);
    }
    let lines = logged.requests("all.nsf", USERS * REQUESTS);
    let sent = (lines.len() + logged.requests("only.nsf", 5).len()) as u64;
    let on = |server: &str| count(&lines, |line| line["server"] == server);

    // Without a change: what happened.
    let (code, report, cluster) = logged.replay(&logged.log, &[]);
    assert_eq!((code, &cluster["requests"]), (0, &json!(sent)), "{report:#}");
    assert_eq!(cluster["states_recorded"], json!(sent), "{cluster:#}");
    let with_server = (USERS * (REQUESTS - 1)) as u64;
    assert_eq!(cluster["agreement"]["with_server"], json!(with_server));
    assert_eq!(cluster["agreement"]["same_server"], json!(with_server), "{cluster:#}");
    assert_eq!(cluster["users"], json!(USERS + 1));
    let before = by_server(&cluster, "requests_before");
    for server in ["Web2/Acme", "Web3/Acme"] {
        assert_eq!(before[server], on(server), "{cluster:#}");
    }
    assert_eq!(cluster["single_replicas"]["examples"][0]["path"], "only.nsf");
    assert!(report["lines"]["own_answers"].as_u64().unwrap() > 0, "{report:#}");

    // A server that is down loses its requests, and no others move.
    let (code, _, cluster) = logged.replay(&logged.log, &["--down", "Web3"]);
    assert_eq!((code, &cluster["moved_requests"]), (0, &json!(on("Web3/Acme"))), "{cluster:#}");
    assert_eq!(by_server(&cluster, "requests_after")["Web3/Acme"], 0);
    let moves = cluster["moves"].as_array().unwrap();
    assert!(moves.iter().all(|m| m["from"] == "Web3/Acme" && m["to"] != "Web3/Acme"), "{moves:#?}");
    let users_of_web3 = count(&lines, |line| line["server"] == "Web3/Acme" && line["why"] == "lightest");
    assert_eq!(cluster["moved_users"], json!(users_of_web3));
    let mut without_web3 = logged.config.clone();
    without_web3["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap().pop();
    let (_other_dir, other) = write_config(&without_web3);
    let (_, _, with) = logged.replay(&logged.log, &["--with", &other.display().to_string()]);
    assert_eq!(with["moved_requests"], cluster["moved_requests"], "{with:#}");

    // A mark keeps new users away, and here all users came as new ones.
    let (_, _, cluster) = logged.replay(&logged.log, &["--out-of-service", "all.nsf@Web2"]);
    assert_eq!(cluster["moved_requests"], json!(on("Web2/Acme")), "{cluster:#}");
    // A larger weight moves users to that server only.
    let (_, _, cluster) = logged.replay(&logged.log, &["--weight", "Web1/Acme=1000", "--cluster", "AcmeWeb"]);
    assert!(by_server(&cluster, "requests_after")["Web1/Acme"] >= before["Web1/Acme"], "{cluster:#}");
    assert!(cluster["moves"].as_array().unwrap().iter().all(|m| m["to"] == "Web1/Acme"), "{cluster:#}");

    // Without Web1 one database is lost: `simulate` says so, and the cluster does it.
    let (code, _, cluster) = logged.replay(&logged.log, &["--down", "Web1/Acme"]);
    assert_eq!((code, &cluster["newly_refused"]), (2, &json!(5)), "{cluster:#}");
    assert_eq!(cluster["refused_databases"]["examples"][0]["path"], "only.nsf");
    let conf = logged.icm.file.display().to_string();
    let simulated = icm_cli(&["simulate", "--down", "Web1", "--offline", "-c", &conf]);
    assert_eq!(simulated.code, 2);
    assert!(simulated.out.contains("only.nsf"), "{}", simulated.out);
    let moved = cluster["moved_requests"].as_u64().unwrap();
    logged.acme.ask("POST", "/servers/Web1/stop", None);
    logged.icm.wait_for_server("Web1", "left", |s| s["state"] == "UNREACHABLE");
    assert_eq!(logged.icm.client().get("/only.nsf").status, 503);
    let really_moved = visit(&mut all, "/all.nsf");
    let of_web1 = count(&lines, |line| line["server"] == "Web1/Acme" && line["why"] == "lightest");
    assert!(really_moved.iter().all(|server| server != "Web1/Acme"));
    assert_eq!(moved, of_web1 * REQUESTS as u64, "the users who really move, with all of their requests");
}

#[test]
fn a_threshold_in_a_replay_does_what_the_same_threshold_really_does() {
    let logged = Logged::start();
    logged.wait_for_record("an index", |web1| web1["index"] == 90);
    let mut all = users(&logged.icm);
    let first = visit(&mut all, "/all.nsf");
    assert_eq!(visit(&mut all, "/all.nsf"), first, "users stay");
    assert_eq!(logged.icm.client().get("/only.nsf").server(), "Web1/Acme");
    logged.requests("only.nsf", 1);
    logged.requests("all.nsf", 2 * USERS);
    let of_web1 = first.iter().filter(|server| *server == "Web1/Acme").count() as u64;

    // With a threshold above its index Web1 gets no new users, and here all users came as new ones.
    let (code, _, cluster) = logged.replay(&logged.log, &["--threshold", "Web1/Acme=95"]);
    assert_eq!((code, &cluster["moved_requests"]), (0, &json!(2 * of_web1)), "{cluster:#}");
    assert_eq!(by_server(&cluster, "requests_after")["Web1/Acme"], 1, "only.nsf: {cluster:#}");
    assert_eq!(by_server(&cluster, "last_resort_after")["Web1/Acme"], 1);
    assert_eq!(by_server(&cluster, "last_resort_before")["Web1/Acme"], 0);
    let (_, _, all_servers) = logged.replay(&logged.log, &["--threshold", "95"]);
    assert_eq!(all_servers["moved_requests"], json!(0), "all are BUSY alike: {all_servers:#}");

    // Its index falls, but nobody has set a threshold. Who is there would stay with one, too.
    logged.acme.set("Web1", json!({ "index": 40 }));
    logged.wait_for_record("an index of 40", |web1| web1["index"] == 40);
    assert_eq!(visit(&mut all, "/all.nsf"), first);
    logged.requests("all.nsf", 3 * USERS);
    let (_, _, cluster) = logged.replay(&logged.log, &["--threshold", "Web1/Acme=50"]);
    assert_eq!(cluster["moved_requests"], json!(0), "{cluster:#}");
    let advice = &cluster["thresholds"][0];
    assert_eq!((&advice["server"], &advice["lowest"]), (&json!("Web1/Acme"), &json!(40)), "{advice:#}");
    assert!(advice["suggested"].is_null() && advice["reason"].as_str().unwrap().starts_with("too little"));
    let share = advice["set_aside"][0]["percent"].as_f64().unwrap();
    assert!(share > 0.0 && share < 100.0, "{advice:#}");

    // The same threshold for real.
    let mut config = logged.config.clone();
    set(&mut config, "clusters.0.servers.list.0.server_availability_threshold", "95");
    logged.icm.reload(&config);
    logged.icm.wait_for_server("Web1", "became BUSY", |s| s["state"] == "BUSY");
    let new = visit(&mut users(&logged.icm), "/all.nsf");
    assert!(new.iter().all(|server| server != "Web1/Acme"), "{new:?}");
    assert_eq!(visit(&mut all, "/all.nsf"), first, "users who are there stay");
    assert_eq!(logged.icm.client().get("/only.nsf").server(), "Web1/Acme", "as a last resort");
    logged.requests("only.nsf", 2);
    logged.wait_for_record("BUSY", |web1| web1["state"] == "BUSY" && web1["threshold"] == 95);
    let (_, _, cluster) = logged.replay(&logged.log, &[]);
    assert_eq!(by_server(&cluster, "last_resort_before")["Web1/Acme"], 1, "{cluster:#}");
}

#[test]
fn every_form_of_a_log_gives_the_same_replay_and_damage_is_reported() {
    let logged = Logged::start();
    logged.wait_for_record("an index", |web1| web1["index"] == 90);
    let mut all = users(&logged.icm);
    visit(&mut all, "/all.nsf");
    let first_file = logged.dir.path().join("access.log.1");
    logged.requests("all.nsf", USERS);
    std::fs::rename(&logged.log, &first_file).unwrap();
    logged.icm.signal("USR1");
    assert!(eventually(MAX_WAIT, || logged.log.exists()), "USR1 opened no new file");
    visit(&mut all, "/all.nsf");
    let second = logged.requests("all.nsf", USERS);
    assert!(
        second[0].get("servers").is_some_and(Value::is_object),
        "each file begins with states: {:#}",
        second[0]
    );

    let conf = logged.icm.file.display().to_string();
    let path = |name: &str| logged.dir.path().join(name).display().to_string();
    let (log, old) = (path("access.log"), path("access.log.1"));
    let run = |files: &[&str], input: Option<&[u8]>, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icm"));
        command.arg("replay").args(files).args(["-c", &conf, "--down", "Web2"]).args(more);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.unwrap_or_default()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text, String::from_utf8(output.stderr).unwrap())
    };
    // The first line names the files.
    let report = |(code, text, err): (i32, String, String)| {
        assert_eq!(code, 0, "{text}{err}");
        text.split_once(": ").unwrap().1.to_owned()
    };
    let expected = report(run(&[&log, &old], None, &[]));
    assert!(
        expected.contains("moved: ") && expected.contains("agreement with the log: 100.0 %"),
        "{expected}"
    );
    assert_eq!(report(run(&[&old, &log], None, &[])), expected, "the order of the arguments");
    let texts = [std::fs::read(&old).unwrap(), std::fs::read(&log).unwrap()];
    assert_eq!(report(run(&["-"], Some(&texts.concat()), &[])), expected, "standard input");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&texts[0]).unwrap();
    std::fs::write(path("old.gz"), gz.finish().unwrap()).unwrap();
    std::fs::write(path("new.zst"), zstd::encode_all(&*texts[1], 3).unwrap()).unwrap();
    assert_eq!(report(run(&[&path("new.zst"), &path("old.gz")], None, &[])), expected, "compressed");

    let (_, json, _) = run(&[&log, &old], None, &["--json"]);
    let whole: Value = serde_json::from_str(&json).unwrap();
    let moved = &whole["clusters"][0]["moved_requests"];
    // A log of an older version has no states; its lines show those of the servers that they name.
    let without = |text: &[u8]| -> String {
        let lines = std::str::from_utf8(text).unwrap().lines();
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("servers");
            format!("{line}\n")
        };
        lines.map(line).collect()
    };
    std::fs::write(path("stateless"), without(&texts[0]) + &without(&texts[1])).unwrap();
    let (_, json, _) = run(&[&path("stateless")], None, &["--json"]);
    let stateless: Value = serde_json::from_str(&json).unwrap();
    let cluster = &stateless["clusters"][0];
    assert_eq!((&cluster["moved_requests"], &cluster["states_recorded"]), (moved, &json!(0)), "{cluster:#}");
    assert_eq!(cluster["states_partly_known"], cluster["requests"], "each shows its own server: {cluster:#}");

    // Damage is counted with its place, and ends nothing.
    let damaged =
        [b"{\"time\":\n".as_slice(), &texts[0], b"\xff\n", &texts[1][..texts[1].len() - 20]].concat();
    std::fs::write(path("damaged"), damaged).unwrap();
    let (code, text, _) = run(&[&path("damaged")], None, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("3 lines could not be read"), "{text}");
    assert!(text.contains("damaged:1: not a line of the JSON access log"), "{text}");
    let combined = "127.0.0.1 - - [24/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n";
    std::fs::write(path("combined"), combined).unwrap();
    let (code, text, _) = run(&[&path("combined")], None, &[]);
    assert!(code == 2 && text.starts_with(&format!("{}: 1 line\n", path("combined"))), "{code}: {text}");
    assert!(text.contains("only logs with access_log.format: json can be replayed"), "{text}");
    // Times, names and arguments.
    let (code, text, _) = run(&[&log], None, &["--to", "2020-01-01"]);
    assert!(code == 2 && text.contains("no request could be replayed"), "{code}: {text}");
    for (more, expected, part) in [
        (&["--down", "Web9"][..], 2, "no server Web9"),
        (&["--out-of-service", "only.nsf@Web2"][..], 2, "no replica of only.nsf on Web2"),
        (&["--cluster", "Other"][..], 2, "no cluster Other"),
        (&["--threshold", "101"][..], 64, "a number from 0 to 100"),
        (&["--weight", "2"][..], 64, "Web1/Acme=2 is expected"),
        (&["--from", "tuesday"][..], 64, "2026-11-24T08:00:00Z"),
        (&["--from", "2026-11-25", "--to", "2026-11-24"][..], 64, "--from must be before --to"),
    ] {
        let (code, text, err) = run(&[&log], None, more);
        assert!(code == expected && err.contains(part), "{more:?}: {code} {text}{err}");
    }
    let (code, _, err) = run(&[&path("none")], None, &[]);
    assert!(code == 1 && err.contains("cannot open"), "{code} {err}");
}

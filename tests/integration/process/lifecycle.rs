//! From start to end of a process: errors at the start, readiness, and graceful termination.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::*;
use serde_json::json;
use serde_yaml::Value;

/// One server at this address, one database, everything quick; nothing else is needed to start.
fn alone(server: &str) -> Value {
    serde_yaml::from_str(&format!(
        "pingora: {{ threads: 1, grace_period_seconds: 60 }}
listeners: [{{ address: 127.0.0.1:{} }}]
admin: {{ address: 127.0.0.1:{} }}
clusters:
- name: Alone
  servers: {{ list: [{{ name: Web1/Acme, hostname: web1.acme.example, http: \"{server}\" }}] }}
  directory:
    source: static
    databases: [{{ path: a.nsf, replica_id: C1257A000041D2E0, replicas: [{{ server: Web1/Acme }}] }}]
  probe: {{ interval: 100ms, timeout: 500ms, healthy_after: 1, unreachable_after: 1 }}
",
        free_port(),
        free_port()
    ))
    .unwrap()
}

fn nobody() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn ready(icm: &Icm) -> u16 {
    icm.admin("/readyz").status
}

fn becomes_ready(icm: &Icm) {
    assert!(eventually(MAX_WAIT, || ready(icm) == 200), "never ready:\n{}", icm.log());
}

fn in_flight(icm: &Icm) -> u64 {
    let status = icm.admin("/status").json();
    let servers = status["clusters"][0]["servers"].as_array().unwrap();
    servers.iter().map(|s| s["in_flight"].as_u64().unwrap()).sum()
}

/// Requests that the balancer works on, also those that have no server yet.
fn in_progress(icm: &Icm) -> u64 {
    icm.metric("icm_requests_in_flight ").unwrap() as u64
}

fn refused(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err()
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_its_address_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (key, what) in
        [("listeners.0.address", "listener"), ("admin.address", "admin"), ("statpub.address", "statpub")]
    {
        let mut config = alone(&nobody());
        set(&mut config, key, &address.to_string());
        let mut icm = Icm::spawn(config);
        let status = icm.wait_for_end(MAX_WAIT).unwrap_or_else(|| panic!("{what} goes on:\n{}", icm.log()));
        assert_eq!(status.code(), Some(1), "{what}");
        icm.wait_for_log(&format!("cannot listen on {address} ({what})"));
        assert_eq!(icm.current_pid(), None, "{what} left a pid file");
    }
}

#[test]
fn a_second_process_that_cannot_start_leaves_the_pid_file_of_the_first() {
    let first = Icm::start(alone(&nobody()));
    let file = first.file.display().to_string();
    let second = Command::new(env!("CARGO_BIN_EXE_icm")).args(["run", "-c", &file]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(first.current_pid(), Some(first.pid()));
}

#[test]
fn an_access_log_that_cannot_be_written_ends_the_start_with_its_name() {
    let mut config = alone(&nobody());
    set(&mut config, "access_log.path", "/nowhere/at/all/access.log");
    let mut icm = Icm::spawn(config);
    assert_eq!(icm.wait_for_end(MAX_WAIT).unwrap().code(), Some(1));
    icm.wait_for_log("/nowhere/at/all/access.log");
}

#[test]
fn it_is_ready_although_all_members_are_dead() {
    let icm = Icm::start(alone(&nobody()));
    becomes_ready(&icm);
    assert_eq!(icm.admin("/livez").status, 200);
    assert_eq!(icm.admin("/status").json()["clusters"][0]["servers"][0]["state"], "UNREACHABLE");
    let answer = icm.client().get("/a.nsf");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn it_is_alive_but_not_ready_before_every_member_was_probed_and_no_early_signal_kills_it() {
    // A server that takes connections and never answers: the probe ends with its timeout, after the
    // longest time that the listeners wait.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = alone(&silent.local_addr().unwrap().to_string());
    set(&mut config, "clusters.0.probe.timeout", "7s");
    let mut icm = Icm::spawn(config.clone());
    let alive = || TcpStream::connect(icm.admin).is_ok() && icm.admin("/livez").status == 200;
    assert!(eventually(MAX_WAIT, alive), "{}", icm.log());
    assert_eq!(ready(&icm), 503);
    assert!(refused(icm.address), "the listener is open before anything was probed");
    icm.signal("USR1");
    icm.signal("USR2");
    set(&mut config, "clusters.0.servers.list.0.weight", "7");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || !refused(icm.address)), "the listener never opens");
    let weight = || icm.admin("/status").json()["clusters"][0]["servers"][0]["weight"] == 7;
    assert!(eventually(MAX_WAIT, weight), "the early HUP was lost:\n{}", icm.log());
    becomes_ready(&icm);
    icm.wait_for_log("upgrade: starting");
    assert!(icm.wait_for_end(Duration::from_millis(50)).is_none());
}

#[test]
fn it_says_that_it_is_ready_only_when_every_listener_accepts() {
    let mut config = alone(&nobody());
    // So many that opening them takes a while.
    let addresses: Vec<SocketAddr> =
        (0..500).map(|_| format!("127.0.0.1:{}", free_port()).parse().unwrap()).collect();
    let listeners: Vec<String> = addresses.iter().map(|a| format!("{{ address: \"{a}\" }}")).collect();
    set(&mut config, "listeners", &format!("[{}]", listeners.join(", ")));
    for _ in 0..4 {
        let icm = Icm::spawn(config.clone());
        let mut client = Client::to(icm.admin);
        let start = std::time::Instant::now();
        while !client.request("GET", "/readyz", &[], b"").is_ok_and(|answer| answer.status == 200) {
            assert!(start.elapsed() < MAX_WAIT, "never ready:\n{}", icm.log());
        }
        // The last one opens last.
        let closed = addresses.iter().rev().filter(|a| TcpStream::connect(a).is_err()).count();
        assert_eq!(closed, 0, "ready, and so many refuse");
    }
}

#[test]
fn it_is_not_ready_without_a_directory_and_a_cached_one_will_do() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("directory.json");
    let mut with_cache = config(&acme);
    set(&mut with_cache, "clusters.0.directory.cache", &cache.display().to_string());
    {
        let icm = Icm::start(with_cache.clone());
        becomes_ready(&icm);
        assert!(eventually(MAX_WAIT, || cache.exists()));
    }
    acme.fault("all", json!("refuse"));
    let mut without = config(&acme);
    for config in [&mut with_cache, &mut without] {
        set(config, "listeners.0.address", &nobody());
        set(config, "admin.address", &nobody());
        set(config, "clusters.0.directory.refresh", "100ms");
    }
    let icm = Icm::start(with_cache);
    becomes_ready(&icm);
    assert_eq!(icm.client().get("/legacy/archive2009.nsf").status, 503);
    let icm = Icm::start(without);
    let said = || icm.admin("/status").json()["clusters"][0]["directory"]["trouble"] != "";
    assert!(eventually(MAX_WAIT, said), "{}", icm.log());
    assert_eq!(ready(&icm), 503);
    assert_eq!(icm.admin("/livez").status, 200);
}

#[test]
fn an_idle_process_leaves_at_once_and_removes_its_pid_file() {
    for signal in ["TERM", "INT"] {
        let mut icm = Icm::start(alone(&nobody()));
        assert_eq!(icm.current_pid(), Some(icm.pid()));
        // A connection without a request is not waited for.
        let mut idle = icm.client();
        idle.connect().unwrap();
        icm.signal(signal);
        let status =
            icm.wait_for_end(MAX_WAIT).unwrap_or_else(|| panic!("{signal}: waits for its grace period"));
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(icm.current_pid(), None, "{signal} left the pid file");
        assert!(idle.peer_closes());
    }
}

#[test]
fn requests_in_flight_finish_while_nothing_new_is_taken() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "pingora.grace_period_seconds", "60");
    let mut icm = Icm::start(config);
    becomes_ready(&icm);
    let mut kept = icm.client();
    assert_eq!(kept.get("/").status, 200);
    assert!(eventually(MAX_WAIT, || in_progress(&icm) == 0));
    // A small body is read whole before a server is chosen, a large one is passed on as it comes.
    let mut uploads = [8, 100_000].map(|length: usize| {
        let mut client = icm.client();
        let length_text = length.to_string();
        let head =
            client.head("POST", "/sales/orders.nsf?CreateDocument", &[("Content-Length", &length_text)]);
        client.send(head.as_bytes()).unwrap();
        client.send(&vec![b'x'; length / 2]).unwrap();
        (client, length / 2)
    });
    let mut waiting = icm.client();
    waiting.send(waiting.head("GET", "/sales/orders.nsf?OpenPage&delay=3000", &[]).as_bytes()).unwrap();
    assert!(eventually(MAX_WAIT, || in_progress(&icm) == 3), "{}", in_progress(&icm));

    icm.signal("TERM");
    assert!(eventually(MAX_WAIT, || ready(&icm) == 503));
    assert_eq!(icm.admin("/readyz").text(), "draining\n");
    assert_eq!(icm.admin("/livez").status, 200);
    assert!(eventually(MAX_WAIT, || refused(icm.address)), "a new connection was taken");
    assert!(kept.peer_closes(), "an idle connection is kept");
    assert!(icm.wait_for_end(Duration::from_millis(10)).is_none(), "did not wait:\n{}", icm.log());

    for (uploading, rest) in &mut uploads {
        uploading.send(&vec![b'x'; *rest]).unwrap();
        let answer = uploading.read("POST").unwrap();
        assert_eq!((answer.status, answer.complete), (200, true));
        assert!(answer.closed, "{}", answer.head);
    }
    let answer = waiting.read("GET").unwrap();
    assert_eq!((answer.status, answer.complete), (200, true));
    assert_eq!(answer.header("connection"), Some("close"), "{}", answer.head);
    let status = icm.wait_for_end(MAX_WAIT).expect("waits for its grace period");
    assert_eq!(status.code(), Some(0));
    assert!(icm.log().contains("POST"), "the last lines of the access log are missing:\n{}", icm.log());
}

#[test]
fn a_second_signal_leaves_now() {
    let acme = Acme::built_in();
    acme.fault("all", json!("hang"));
    let mut config = config(&acme);
    set(&mut config, "pingora.grace_period_seconds", "300");
    set(&mut config, "clusters.0.failover.response_timeout", "250s");
    let mut icm = Icm::start(config);
    becomes_ready(&icm);
    let mut hanging = icm.client();
    hanging.send(hanging.head("GET", "/sales/orders.nsf", &[]).as_bytes()).unwrap();
    assert!(eventually(MAX_WAIT, || in_flight(&icm) == 1));
    icm.signal("INT");
    assert!(eventually(MAX_WAIT, || ready(&icm) == 503));
    assert!(icm.wait_for_end(Duration::from_secs(1)).is_none(), "did not wait for the request");
    icm.signal("TERM");
    assert_eq!(icm.wait_for_end(MAX_WAIT).expect("goes on").code(), Some(0));
    assert_eq!(icm.current_pid(), None);
}

#[test]
fn the_grace_period_bounds_the_end() {
    let acme = Acme::built_in();
    acme.fault("all", json!("hang"));
    let mut config = config(&acme);
    set(&mut config, "pingora.grace_period_seconds", "1");
    set(&mut config, "clusters.0.failover.response_timeout", "250s");
    let mut icm = Icm::start(config);
    becomes_ready(&icm);
    let mut hanging = icm.client().timeout(Duration::from_secs(60));
    hanging.send(hanging.head("GET", "/sales/orders.nsf", &[]).as_bytes()).unwrap();
    assert!(eventually(MAX_WAIT, || in_flight(&icm) == 1));
    icm.signal("TERM");
    assert_eq!(icm.wait_for_end(MAX_WAIT).expect("goes on after the grace period").code(), Some(0));
    assert!(hanging.read("GET").is_err());
    assert_eq!(icm.current_pid(), None, "the pid file was left");
}

#[test]
fn no_line_of_the_access_log_is_lost_when_its_file_is_moved_away() {
    let acme = Acme::built_in();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let mut config = config(&acme);
    set(&mut config, "access_log", &format!("{{ path: {}, format: combined }}", log.display()));
    let mut icm = Icm::start(config);
    becomes_ready(&icm);
    let turns = std::thread::scope(|scope| {
        let load = scope.spawn(|| load_get(icm.address, "/fast", "rotate", 4, Duration::from_secs(3)));
        for n in 0..5 {
            pause(400);
            std::fs::rename(&log, dir.path().join(format!("access.log.{n}"))).unwrap();
            icm.signal("USR1");
            assert!(eventually(MAX_WAIT, || log.exists()), "USR1 opened no new file");
        }
        load.join().unwrap()
    });
    assert_eq!(turns.other_than("200"), 0, "{turns:?}");
    icm.signal("TERM");
    icm.wait_for_end(MAX_WAIT).expect("ends");
    let mut lines = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a line is torn");
        lines += text.lines().filter(|l| l.contains("GET /fast HTTP/1.1\" 200 ")).count() as u64;
    }
    assert_eq!(lines, turns.total());
}

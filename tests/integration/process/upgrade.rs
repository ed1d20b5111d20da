//! Upgrades of a running process: clients notice nothing, and state goes over to the new process.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::*;
use serde_json::{Value, json};

/// Upgrades it. Out: the process that served, and the one that does.
fn upgrade(icm: &Icm) -> (u32, u32) {
    let old = icm.current_pid().unwrap();
    let output = icm_cli(&["upgrade", "--json", "-c", icm.file.to_str().unwrap()]);
    assert_eq!(output.code, 0, "{output:?}");
    let output: Value = serde_json::from_str(&output.out).unwrap();
    let new = icm.current_pid().unwrap();
    assert_eq!(output, json!({ "ok": true, "old": old, "new": new }));
    assert_ne!(old, new);
    (old, new)
}

fn is_gone(pid: u32) -> bool {
    // A zombie is one that its parent, which has not ended itself, has not buried.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z")
}

/// Without an access log, which would be most of a failing test's output.
fn config(acme: &Acme) -> serde_yaml::Value {
    let mut config = crate::support::config(acme);
    set(&mut config, "access_log", "{ path: /dev/null, format: json }");
    config
}

fn outcome(answer: Result<Answer, Failure>) -> String {
    match answer {
        Ok(answer) if answer.complete => answer.status.to_string(),
        Ok(answer) => format!("{} incomplete", answer.status),
        Err(failure) => failure.name().to_owned(),
    }
}

/// GETs and POSTs, on kept connections and on new ones, quick and slow ones.
fn work(client: &mut Client, n: u64) -> String {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let kept = !n.is_multiple_of(4);
    let answer = match n % 7 {
        0 => client.request("POST", "/sales/orders.nsf/form?CreateDocument", &form, &[b'x'; 40_000]),
        1 => client.request("GET", "/sales/orders.nsf?Open&delay=150", &[], b""),
        2 => client.request("GET", "/sales/orders.nsf?Open&size=300000", &[], b""),
        3 => client.request("HEAD", "/sales/orders.nsf?Open", &[], b""),
        4 => client.request("PUT", "/sales/orders.nsf/x", &form, b"a=b"),
        _ => client.request("GET", "/sales/orders.nsf?Open", &[], b""),
    };
    if !kept {
        client.close();
    }
    outcome(answer)
}

/// Requests of one HTTP/2 client, several at a time, until told to stop.
fn http2(acme: &Acme, address: SocketAddr, time: Duration) -> Tally {
    let client = h2_client(acme);
    let url = format!("https://localhost:{}/sales/orders.nsf?Open", address.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let end = std::time::Instant::now() + time;
    let mut tally = Tally::default();
    let one = || async {
        let answer = client.get(&url).send().await.map_err(|e| format!("{e:?}"))?;
        let word = format!("{:?} {}", answer.version(), answer.status().as_u16());
        answer.bytes().await.map(|_| word).map_err(|e| format!("{e:?}"))
    };
    while std::time::Instant::now() < end {
        let (a, b, c) = runtime.block_on(async { tokio::join!(one(), one(), one()) });
        for result in [a, b, c] {
            *tally.0.entry(result.unwrap_or_else(|e| e)).or_default() += 1;
        }
    }
    tally
}

#[test]
fn several_upgrades_in_a_row_under_load_fail_no_request_and_refuse_no_connection() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "clusters.0.failover.response_timeout", "20s");
    set(&mut config, "pingora.grace_period_seconds", "25");
    let secure = add_tls(&mut config, &acme);
    let mut icm = Icm::start(config);
    wait_for(secure);
    icm.wait_for_status("ready", |status| status["ready"] == true);
    let time = Duration::from_secs(9);
    let mut pids = Vec::new();
    let (plain, tls, h2, connects) = std::thread::scope(|scope| {
        let plain = scope.spawn(|| {
            load(6, time, |_| {
                let mut client = Client::to(icm.address);
                move |n| work(&mut client, n)
            })
        });
        let tls = scope.spawn(|| {
            load(3, time, |_| {
                let mut client = Client::tls(secure, "localhost", &acme.ca_file);
                move |n| work(&mut client, n)
            })
        });
        let h2 = scope.spawn(|| http2(&acme, secure, time));
        let connects = scope.spawn(|| {
            load(1, time, |_| {
                move |_| match TcpStream::connect(icm.address) {
                    Ok(_) => "connected".to_owned(),
                    Err(error) => error.to_string(),
                }
            })
        });
        for _ in 0..3 {
            pause(1500);
            let (old, new) = upgrade(&icm);
            pids.extend([old, new]);
            let status = icm.status();
            assert_eq!((&status["pid"], &status["ready"]), (&json!(new), &json!(true)), "{status}");
            assert_eq!(status["upgrade"]["from"], old);
        }
        (plain.join().unwrap(), tls.join().unwrap(), h2.join().unwrap(), connects.join().unwrap())
    });
    eprintln!("plain {plain:?}, TLS {tls:?}, HTTP/2 {h2:?}, new connections {connects:?}");
    assert!(plain.of("200") > 0 && plain.other_than("200") == 0, "{plain:?}\n{}", icm.log());
    assert!(tls.of("200") > 0 && tls.other_than("200") == 0, "{tls:?}\n{}", icm.log());
    assert!(h2.of("HTTP/2.0 200") > 0 && h2.other_than("HTTP/2.0 200") == 0, "{h2:?}\n{}", icm.log());
    assert_eq!(connects.other_than("connected"), 0, "{connects:?}");
    // On a busy machine the load may end before the last handover.
    assert_eq!(icm.client().get("/sales/orders.nsf?Open").status, 200);
    assert!(icm.metric("icm_command_total").unwrap() > 0.0, "the last process served nothing");
    // Replaced processes end by themselves once they have no connections.
    assert!(icm.wait_for_end(MAX_WAIT).expect("the first process ends").success());
    let last = icm.current_pid().unwrap();
    for pid in pids.into_iter().filter(|pid| *pid != last) {
        assert!(eventually(MAX_WAIT, || is_gone(pid)), "{pid} is still there:\n{}", icm.log());
    }
    assert_eq!(icm.status()["pid"], last, "the pid file of the last one went with an old one");
    signal(last, "TERM");
    assert!(eventually(MAX_WAIT, || icm.current_pid().is_none()), "the last process leaves its pid file");
}

#[test]
fn a_connection_between_two_requests_is_answered_once_more_and_told_to_come_anew() {
    let acme = Acme::built_in();
    let mut icm = Icm::start(config(&acme));
    icm.wait_for_status("ready", |status| status["ready"] == true);
    let mut idle: Vec<Client> = (0..10).map(|_| icm.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/fast").header("connection"), Some("keep-alive"));
    }
    // One that has not said anything yet.
    idle.push(icm.client());
    idle[10].connect().unwrap();
    pause(100);
    let (old, _) = upgrade(&icm);
    pause(300);
    assert!(!is_gone(old), "it left though clients are connected");
    for client in &mut idle {
        assert!(client.connected());
        let answer = client.get("/fast");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    assert!(icm.wait_for_end(MAX_WAIT).expect("ends").success());
    assert_eq!(icm.client().get("/fast").header("connection"), Some("keep-alive"));
}

#[test]
fn a_websocket_lives_on_in_the_old_process() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "pingora.grace_period_seconds", "60");
    let mut icm = Icm::start(config);
    icm.wait_for_status("ready", |status| status["ready"] == true);
    let mut client = icm.client();
    let head = client.head(
        "GET",
        "/ws",
        &[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ],
    );
    client.send(head.as_bytes()).unwrap();
    assert_eq!(client.read("GET").unwrap().status, 101);
    let mut frame = || {
        let start = client.read_bytes(2).unwrap();
        client.read_bytes(usize::from(start[1])).unwrap()
    };
    assert!(frame().starts_with(b"hello"));
    let (old, _) = upgrade(&icm);
    pause(500);
    // Masked with nothing: a text of two bytes.
    client.send(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
    let start = client.read_bytes(2).unwrap();
    assert_eq!(client.read_bytes(usize::from(start[1])).unwrap(), b"hi");
    assert!(!is_gone(old));
    client.close();
    assert!(icm.wait_for_end(MAX_WAIT).expect("ends with the last tunnel").success());
}

#[test]
fn sessions_and_restrictions_go_over_where_nothing_is_kept_on_disk() {
    let acme = Acme::built_in();
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "state_dir", "\"\"");
    let icm = Icm::start(config);
    icm.wait_for_status("ready", |status| status["ready"] == true);
    let cookie = format!("ICM={}", icm.cookie_for("Web2", "/sales/orders.nsf?Open"));
    let output = icm_cli(&["restrict", "Web4", "--yes", "--no-wait", "-c", icm.file.to_str().unwrap()]);
    assert_eq!(output.code, 0, "{output:?}");
    let before = icm.status_of("Web4")["restrictions"].clone();
    upgrade(&icm);
    upgrade(&icm);
    assert_eq!(
        (icm.state_of("Web4"), &icm.status_of("Web4")["restrictions"]),
        ("RESTRICTED".into(), &before)
    );
    for _ in 0..12 {
        let answer = icm.client().get_with("/sales/orders.nsf?Open", &[("Cookie", &cookie)]);
        assert!(answer.server().starts_with("Web2") && answer.cookie("ICM").is_none(), "{}", answer.head);
    }
}

#[test]
fn the_new_process_has_the_listeners_of_the_new_configuration() {
    let acme = Acme::built_in();
    let mut first = config(&acme);
    let leaves = add_tls(&mut first, &acme);
    let icm = Icm::start(first.clone());
    wait_for(leaves);
    icm.wait_for_status("ready", |status| status["ready"] == true);
    let mut second = config_of(&acme.servers, &acme.ca_file);
    second["listeners"][0] = first["listeners"][0].clone();
    second["admin"] = first["admin"].clone();
    let comes = add_tls(&mut second, &acme);
    icm.configure(&second);
    upgrade(&icm);
    assert_eq!(icm.client().get("/fast").status, 200);
    assert_eq!(Client::tls(comes, "localhost", &acme.ca_file).get("/fast").status, 200);
    assert!(eventually(MAX_WAIT, || TcpStream::connect(leaves).is_err()), "it still listens on {leaves}");
    assert_eq!(icm.status()["reload"]["restart_required"], json!([]));
}

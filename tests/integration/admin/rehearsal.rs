//! A rehearsed failover: who is moved, who is not, what is counted, how it ends, and when it does not begin.

use std::time::{Duration, Instant};

use crate::support::*;
use serde_json::{Value, json};

const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));
const PAGE: &str = "/all.nsf?OpenDatabase";

fn post(icm: &Icm, target: &str) -> Answer {
    Client::to(icm.admin).post(target, &[], "")
}

/// Begins a rehearsal, which must be allowed.
fn begin(icm: &Icm, query: &str) -> Value {
    let answer = post(icm, &format!("/rehearsal?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()["rehearsal"].clone()
}

/// The word with which a rehearsal is refused.
fn refusal(icm: &Icm, query: &str) -> (u16, String) {
    let answer = post(icm, &format!("/rehearsal?{query}"));
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

fn rehearsal(icm: &Icm) -> Value {
    icm.admin("/rehearsal").json()["rehearsal"].clone()
}

fn wait_for_end(icm: &Icm, why: &str) {
    let ended = || rehearsal(icm)["ended_because"].as_str().map(str::to_owned);
    assert!(eventually(MAX_WAIT, || ended().is_some()), "{}", rehearsal(icm));
    assert_eq!(ended().as_deref(), Some(why), "{}", rehearsal(icm));
}

/// A cluster behind a proxy that tells the addresses of the users, because these draw by them, too. A server that is slow to
/// answer a probe on a busy machine does not become UNREACHABLE.
fn configuration(acme: &Acme) -> serde_yaml::Value {
    let mut config = config_with_equal_indexes(acme);
    set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.1]");
    set(&mut config, "clusters.0.probe", "{ interval: 1s, timeout: 30s, unreachable_after: 100 }");
    config
}

struct User {
    browser: Browser,
    /// The server of the first page.
    home: String,
    address: String,
}

impl User {
    /// Opens the page over a new connection.
    fn open_page(&mut self, icm: &Icm) -> Answer {
        self.browser.client = icm.client().with("X-Forwarded-For", &self.address);
        self.browser.get(PAGE)
    }

    fn server_of_page(&mut self, icm: &Icm) -> String {
        let answer = self.open_page(icm);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.server().to_owned()
    }
}

/// Users that have opened the page, a fifth of them or more at Web1. On a busy machine a server that answered slowly once
/// gets no new users for a while.
fn users(icm: &Icm, count: usize) -> Vec<User> {
    let end = Instant::now() + MAX_WAIT;
    let mut users = Vec::with_capacity(count);
    let mut others = 0;
    for number in 0.. {
        let address = format!("10.1.{}.{}", number / 250 % 250, number % 250);
        let mut user = User { browser: Browser::new(icm.address), home: String::new(), address };
        user.home = user.server_of_page(icm);
        if user.home == "Web1/Acme" {
            users.push(user);
        } else if others < count * 4 / 5 {
            others += 1;
            users.push(user);
        } else {
            assert!(Instant::now() < end, "Web1 gets no new users: {}", icm.admin("/status").text());
            std::thread::sleep(Duration::from_millis(20));
        }
        if users.len() == count {
            break;
        }
    }
    users
}

/// Each user opens the page, several users at a time. Returns the server of each.
fn open_page(icm: &Icm, users: &mut [User]) -> Vec<String> {
    let size = users.len().div_ceil(8);
    std::thread::scope(|scope| {
        let threads = users.chunks_mut(size).map(|some| {
            scope.spawn(|| some.iter_mut().map(|user| user.server_of_page(icm)).collect::<Vec<_>>())
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn cookies_of(browser: &Browser) -> String {
    let all: Vec<String> = browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    all.join("; ").replace('%', "%25").replace('=', "%3D").replace(';', "%3B").replace(' ', "%20")
}

#[test]
fn exactly_the_drawn_users_of_the_server_are_moved_and_return_when_it_ends() {
    for fast_path in ["on", "off"] {
        let acme = Acme::start(THREE_SERVERS);
        let mut config = configuration(&acme);
        set(&mut config, "proxy.fast_path", fast_path);
        let icm = Icm::start(config);
        let mut users = users(&icm, 300);
        let began = begin(&icm, "down=Web1&users=20&for=10m&by=Jane%20Doe");
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let faults = schema::faults(&described, &described["components"]["schemas"]["Rehearsal"], &began);
        assert!(faults.is_empty(), "{faults:#?}");
        assert_eq!(began["only_replicas"], json!({ "count": 1, "examples": ["only.nsf"] }));
        assert_eq!(icm.admin("/status").json()["rehearsal"]["server"], "Web1/Acme");

        let rounds: Vec<Vec<String>> = (0..3).map(|_| open_page(&icm, &mut users)).collect();
        let (mut moved, mut stayed) = (Vec::new(), Vec::new());
        for (number, User { home, .. }) in users.iter().enumerate() {
            let servers: Vec<&String> = rounds.iter().map(|round| &round[number]).collect();
            let at_web1 = servers.iter().filter(|server| *server == &"Web1/Acme").count();
            match (home.as_str(), at_web1) {
                ("Web1/Acme", 0) => moved.push(number),
                ("Web1/Acme", 3) => stayed.push(number),
                _ => {
                    assert!(home != "Web1/Acme" && servers.iter().all(|s| *s == home), "{home}: {servers:?}")
                }
            }
        }
        let of_web1 = moved.len() + stayed.len();
        assert!(of_web1 > 30 && (1..of_web1 / 2).contains(&moved.len()), "{} of {of_web1}", moved.len());

        // A database without another replica, and clients without cookies.
        let in_share = moved[0];
        assert_eq!(users[in_share].browser.server_of("/only.nsf?OpenDatabase"), "Web1/Acme");
        assert_eq!(users[in_share].browser.server_of(PAGE), rounds[2][in_share], "it stays where it is");
        let without_cookies = || icm.client().get("/two.nsf").server().to_owned();
        assert!(eventually(MAX_WAIT, || without_cookies() == "Web1/Acme"), "{}", rehearsal(&icm));
        let seen = rehearsal(&icm);
        let count = |name: &str| usize::try_from(seen[name].as_u64().unwrap()).unwrap();
        assert_eq!((count("requests"), count("moved")), (moved.len() * 3 + 1, moved.len()), "{seen:#}");
        assert_eq!((count("failed"), count("not_found"), count("kept")), (0, 0, 1), "{seen:#}");
        // Two of them may share a bit.
        assert!((moved.len() - 1..=moved.len()).contains(&count("users")), "{} {seen:#}", moved.len());
        assert_eq!(seen["stayed"]["requests"], stayed.len() * 3, "{seen:#}");
        assert!(seen["p99_ms"].as_f64().unwrap() >= seen["median_ms"].as_f64().unwrap());

        // What explain, the access log, the servers and the metrics see.
        let explain = |number: usize| {
            let query = format!("/explain?url=/all.nsf&cookie={}", cookies_of(&users[number].browser));
            icm.admin(&query).json()
        };
        let web1 = |explained: &Value| {
            let all = explained["candidates"].as_array().unwrap();
            all.iter().find(|c| c["server"] == "Web1/Acme").unwrap()["verdict"].clone()
        };
        let of_moved = explain(in_share);
        assert_eq!(web1(&of_moved), "dropped: UNREACHABLE (rehearsal)", "{of_moved:#}");
        assert_eq!(of_moved["rehearsal"]["in_share"], true);
        let of_stayed = explain(stayed[0]);
        assert_eq!(
            (&of_stayed["server"], &of_stayed["rehearsal"]["in_share"]),
            (&json!("Web1/Acme"), &json!(false))
        );
        let logged = || icm.log().matches(r#","rehearsal":true}"#).count();
        assert!(eventually(MAX_WAIT, || logged() == count("requests")), "{} {seen:#}", logged());
        for server in ["Web1", "Web2", "Web3"] {
            let requests = json!(acme.requests(server)).to_string();
            assert!(!requests.contains("ICM-rehearsal"), "{server} got the cookie");
        }
        assert!(icm.admin("/metrics").text().contains("icm_rehearsal_running 1"));

        let stopped = post(&icm, "/rehearsal/stop?by=Jane%20Doe").json()["rehearsal"].clone();
        assert_eq!((&stopped["ended_because"], &stopped["left_ms"]), (&json!("stopped"), &json!(0)));
        let homes: Vec<String> = users.iter().map(|user| user.home.clone()).collect();
        assert_eq!(open_page(&icm, &mut users), homes, "all are back");
        let metrics = icm.admin("/metrics").text();
        assert!(metrics.contains("icm_rehearsal_ended_total{reason=\"stopped\"} 1"), "{metrics}");
        let events = icm.admin("/events").json().to_string();
        assert!(
            events.contains("begun by Jane Doe") && events.contains("ended: stopped (by Jane Doe)"),
            "{events}"
        );
        assert_eq!(post(&icm, "/rehearsal/stop").status, 409);
    }
}

#[test]
fn the_cookie_has_the_attributes_of_the_affinity_cookie_and_a_forged_one_draws_anew() {
    let (_acme, icm) = start_cluster(&[]);
    let mut browser = Browser::new(icm.address);
    browser.get(PAGE);
    begin(&icm, "down=Web1/Acme&users=50&for=10m&cluster=AcmeWeb");
    let affinity = browser.icm().unwrap().to_owned();
    let draw = |cookies: &str| {
        let answer = icm.client().with("Cookie", cookies).get(PAGE);
        let all = answer.all("set-cookie");
        let line = all.iter().find(|line| line.starts_with("ICM-rehearsal=")).map(|line| (*line).to_owned());
        line.unwrap_or_else(|| panic!("{cookies}: {}", answer.head))
    };
    let line = draw(&format!("ICM={affinity}"));
    assert!(line.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age="), "{line}");
    let value = |line: &str| line.split([';', '=']).nth(1).unwrap().to_owned();
    // Two connections that bring the same affinity cookie draw the same, and a forged cookie is none.
    for cookies in [format!("ICM={affinity}"), format!("ICM-rehearsal=AAAA; ICM={affinity}")] {
        assert_eq!(value(&draw(&cookies)), value(&line), "{cookies}");
    }
    let known = format!("ICM={affinity}; ICM-rehearsal={}", value(&line));
    let again = icm.client().with("Cookie", &known).get(PAGE);
    assert!(!again.head.contains("ICM-rehearsal"), "{}", again.head);
}

#[test]
fn the_command_follows_a_rehearsal_to_its_end_and_fails_as_soon_as_errors_rise() {
    let acme = Acme::start(THREE_SERVERS);
    let icm = Icm::start(configuration(&acme));
    let mut users: Vec<_> = users(&icm, 120).into_iter().filter(|user| user.home == "Web1/Acme").collect();
    let admin = format!("http://{}", icm.admin);
    let rehearse = |rest: &[&str]| {
        let mut arguments = vec!["rehearse", "--admin", &admin];
        arguments.extend(rest);
        icm_cli(&arguments)
    };
    let none = rehearse(&["--status"]);
    assert_eq!((none.code, none.err.contains("no rehearsal was run")), (2, true), "{none:?}");
    let run = rehearse(&["--down", "Web1/Acme", "--users", "50%", "--for", "10s"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("AcmeWeb: Web1/Acme counts as UNREACHABLE for 50 % of the users"), "{run:?}");
    assert!(
        run.out.contains("1 databases have no other replica in service") && run.out.contains("only.nsf"),
        "{run:?}"
    );
    assert!(run.out.contains("ran to its end"), "{run:?}");
    assert_eq!(rehearse(&["--status", "--json"]).json()["rehearsal"]["ended_because"], "time");

    // A server that fails, and one whose access control list does not know the users.
    for (status, count) in [(500, "failed"), (403, "denied")] {
        for server in ["Web2", "Web3"] {
            acme.fault(server, json!({ "kind": "status", "status": status, "path": "/all" }));
        }
        let failed = std::thread::scope(|scope| {
            let command =
                scope.spawn(|| rehearse(&["--down", "Web1", "--users", "50", "--for", "1h", "--json"]));
            while !command.is_finished() {
                for user in &mut users {
                    user.open_page(&icm);
                }
            }
            command.join().unwrap()
        });
        assert_eq!(failed.code, 2, "{failed:?}");
        let last: Value = serde_json::from_str(failed.out.lines().last().unwrap()).unwrap();
        assert_eq!(last["rehearsal"]["ended_because"], "errors", "{last:#}");
        assert!(last["rehearsal"][count].as_u64().unwrap() >= 5, "{last:#}");
        assert_eq!(last["rehearsal"]["stayed"][count], 0, "{last:#}");
    }
    // Nobody is left behind on a server that fails.
    assert!(open_page(&icm, &mut users).iter().all(|server| server == "Web1/Acme"));

    // Ctrl-C, --stop and --detach.
    acme.heal("all");
    let begun = rehearse(&["--down", "Web1", "--users", "1", "--for", "1h", "--detach"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    let second = rehearse(&["--down", "Web2", "--users", "1", "--for", "1h"]);
    assert_eq!((second.code, second.err.contains("one at a time")), (2, true), "{second:?}");
    assert_eq!(rehearse(&["--stop"]).code, 0);
    assert_eq!(rehearse(&["--stop"]).code, 2);
    for wrong in [
        ["--users", "60", "--for", "1h"],
        ["--users", "0.01", "--for", "1h"],
        ["--users", "5", "--for", "1s"],
    ] {
        assert_eq!(rehearse(&[&["--down", "Web1"][..], &wrong].concat()).code, 64, "{wrong:?}");
    }
    assert_eq!(rehearse(&["--down", "Web1"]).code, 64, "without a share");
    assert_eq!(rehearse(&["--down", "Web9", "--users", "5", "--for", "1h"]).code, 2);
}

#[test]
fn two_balancers_that_rehearse_together_draw_the_same_users_and_end_together() {
    let acme = Acme::start(THREE_SERVERS);
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path(), "secret", "0123456789abcdef0123456789abcdef");
    let start = || {
        let mut config = configuration(&acme);
        set(&mut config, "clusters.0.affinity.secret_file", &secret);
        Icm::start(config)
    };
    let (one, two) = (start(), start());
    let users = users(&one, 60);
    let urls = [&one, &two].map(|icm| format!("http://{}", icm.admin));
    let both =
        |rest: &[&str]| icm_cli(&[&["rehearse", "--admin", &urls[0], "--also", &urls[1]][..], rest].concat());
    let begun = both(&["--down", "Web1", "--users", "50", "--for", "1h", "--detach"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    let mut moved = 0;
    for mut user in users {
        let cookies = Browser::new(two.address).with_cookies_of(&user.browser);
        let mut same = User { browser: cookies, home: user.home.clone(), address: user.address.clone() };
        let at_one = user.server_of_page(&one) == "Web1/Acme";
        assert_eq!(same.server_of_page(&two) == "Web1/Acme", at_one, "{:?}", user.browser.cookies);
        moved += usize::from(user.home == "Web1/Acme" && !at_one);
    }
    assert!(moved > 0);
    let stopped = both(&["--stop", "--json"]);
    assert_eq!(stopped.json()["balancers"].as_array().unwrap().len(), 2, "{stopped:?}");
    // One refuses, so that none begins.
    begin(&two, "down=Web2&users=1&for=1h");
    assert_eq!(both(&["--down", "Web1", "--users", "50", "--for", "1h"]).code, 2);
    assert_eq!(rehearsal(&one)["ended_because"], "stopped");
}

#[test]
fn it_does_not_begin_and_ends_while_other_servers_cannot_take_over() {
    let acme = Acme::start(THREE_SERVERS);
    let mut config = config(&acme);
    set(&mut config, "clusters.0.catch_up", "{ after: 1h }");
    let mut icm = Icm::start(config.clone());
    let order = "down=Web1&users=10&for=1h";
    let refused = |query: &str, status: u16, code: &str| {
        assert_eq!(refusal(&icm, query), (status, code.to_owned()), "{query}");
    };
    refused("down=Web9&users=10&for=1h", 404, "unknown_server");
    refused("down=Web1&users=0.05&for=1h", 400, "bad_request");
    refused("down=Web1&users=many&for=1h", 400, "bad_request");
    refused("down=Web1&users=10&for=9s", 400, "bad_request");
    refused("down=Web1&users=10&for=25h", 400, "bad_request");
    refused("down=Web1&users=10&for=1h&id=xyz", 400, "bad_request");
    for server in ["Web2", "Web3"] {
        assert_eq!(post(&icm, &format!("/servers/{server}/restrict")).status, 200);
    }
    refused(order, 409, "no_takeover");
    assert_eq!(post(&icm, "/servers/Web2/release").status, 200);
    begin(&icm, order);
    refused(order, 409, "rehearsal_running");
    assert_eq!(post(&icm, "/servers/Web2/restrict").status, 200);
    wait_for_end(&icm, "no_takeover");
    for server in ["Web2", "Web3"] {
        assert_eq!(post(&icm, &format!("/servers/{server}/release")).status, 200);
    }

    for (away, why) in [("Web3", "other_server_unreachable"), ("Web1", "server_unreachable")] {
        begin(&icm, order);
        acme.fault(away, json!("refuse"));
        wait_for_end(&icm, why);
        refused(order, 409, why);
        acme.heal(away);
        icm.wait_for_state(away, "AVAILABLE");
    }

    begin(&icm, order);
    let mut without = config.clone();
    let list = without["clusters"][0]["servers"]["list"].as_sequence_mut().unwrap();
    list.retain(|server| server["name"].as_str() != Some("Web1/Acme"));
    icm.reload(&without);
    wait_for_end(&icm, "reload");
    icm.reload(&config);
    icm.wait_for_status("three servers", |status| {
        let servers = status["clusters"][0]["servers"].as_array().unwrap();
        servers.iter().filter(|server| server["state"] == "AVAILABLE").count() == 3
    });
    // Other changes of the configuration leave it alone.
    begin(&icm, order);
    set(&mut config, "clusters.0.failover.attempts", "2");
    let before = icm.status()["reload"]["at"].clone();
    icm.reload(&config);
    icm.wait_for_status("a reload", |status| status["reload"]["at"] != before);
    assert_eq!(rehearsal(&icm)["running"], true);
    icm.signal("TERM");
    assert!(icm.wait_for_end(Duration::from_secs(30)).is_some());
    icm.wait_for_log("rehearsal of Web1/Acme ended: shutdown");
}

//! `explain` agrees with the proxy: 10,000 random URLs in random states against the proxy's own functions, and 240 against the
//! running proxy.

use std::sync::Arc;

use crate::support::*;
use domino_icm::domain::cluster::AvailabilityReport;
use domino_icm::domain::cluster::{Port, Restriction};
use domino_icm::domain::select::SelectionOutcome;
use domino_icm::insight::explain::{ExplainRequest, explain};
use domino_icm::proxy::failover::decide;
use domino_icm::proxy::local_reply::LocalReply;
use domino_icm::proxy::route::{self, TargetUri};
use domino_icm::state::Balancer;
use pingora_http::RequestHeader;
use serde_json::json;

const CONF: &str = "
listeners: [{ address: 127.0.0.1:18080 }]
clusters:
  - name: AcmeWeb
    hostnames: [www.acme.example]
    upstream_scheme: same
    unknown_database: UNKNOWN
    failover: { slow_start: 0s }
    availability: { source: agent_check, port: 5666 }
    servers:
      list:
        - { name: Web1/Acme, hostname: w1.example, http: 127.0.0.1:1, https: 127.0.0.1:2 }
        - { name: Web2/Acme, hostname: w2.example, http: 127.0.0.1:3, https: 127.0.0.1:4 }
        - { name: Web3/Acme, hostname: w3.example, http: 127.0.0.1:5, https: 127.0.0.1:6, weight: 3 }
        - { name: Web4/Acme, hostname: w4.example, http: 127.0.0.1:7 }
    directory:
      source: static
      databases:
        - { path: a.nsf, replica_id: C1257A0000410001, replicas: [{ server: Web1/Acme }, { server: Web2/Acme }] }
        - { path: b/b.nsf, replica_id: C1257A0000410002, replicas: [{ server: Web3/Acme }, { server: Web2/Acme, path: c/b.nsf }] }
        - { path: x.nsf, replica_id: C1257A0000410003, replicas: [{ server: Web1/Acme }] }
        - { path: x.nsf, replica_id: C1257A0000410004, replicas: [{ server: Web3/Acme }] }
        - { path: m.nsf, replica_id: C1257A0000410005, replicas: [{ server: Web1/Acme, mark: out_of_service }, { server: Web4/Acme, mark: pending_delete }] }
        - { path: o.nsf, replica_id: C1257A0000410006, replicas: [{ server: Web2/Acme, mark: out_of_service }, { server: Web4/Acme }] }
        - { path: all.nsf, replica_id: C1257A0000410007, replicas: [{ server: Web1/Acme }, { server: Web2/Acme }, { server: Web3/Acme }, { server: Web4/Acme }] }
";

fn one_of<'a>(random: &mut fastrand::Rng, list: &[&'a str]) -> &'a str {
    list[random.usize(..list.len())]
}

fn url(random: &mut fastrand::Rng) -> String {
    let database = one_of(
        random,
        &[
            "/a.nsf",
            "/b/b.nsf",
            "/c/B.nsf",
            "/x.nsf",
            "/m.nsf",
            "/o.nsf",
            "/all.nsf",
            "/new.nsf",
            "",
            "/__C1257A0000410002.nsf",
            "/c1257a0000410006.nsf",
            "/__C1257A0000410003.nsf",
            "/icons/x.gif",
            "/names.nsf?Login",
            "/a%2Ensf",
            "/../a.nsf",
            "/%00.nsf",
        ],
    );
    let rest = one_of(
        random,
        &[
            "",
            "?OpenDatabase",
            "/All?OpenView",
            "/0/8F6?DeleteDocument",
            "/x?OpenAgent",
            "/x!OpenForm",
            "/x.gif",
        ],
    );
    format!("{database}{rest}")
}

fn randomize_states(balancer: &Balancer, random: &mut fastrand::Rng) {
    let now = domino_icm::util::clock::now_ms();
    for holder in &balancer.snapshot().clusters[0].view.load().entries {
        for port in [Port::Http, Port::Https] {
            let up = random.u8(..4) > 0;
            holder.server.probed(port, if up { Ok(200) } else { Err("refused") }, now);
            holder.server.probed(port, if up { Ok(200) } else { Err("refused") }, now);
        }
        let report = AvailabilityReport {
            index: Some(random.u8(..=100)),
            threshold: Some(if random.bool() { 0 } else { random.u8(..=100) }),
            users: Some(random.u32(..10)),
            max_users: Some(if random.bool() { 0 } else { 5 }),
            ..AvailabilityReport::default()
        };
        holder.server.report(0, &report, now);
        let by = Restriction { since_unix_ms: 1, by: "a test".to_owned(), at: None, closed: false };
        holder.server.restrict((random.u8(..4) == 0).then_some(by), now);
    }
}

#[test]
fn explain_agrees_with_routing_for_10_000_random_urls_in_random_states() {
    let mut random = fastrand::Rng::with_seed(20_261_122);
    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    for unknown in ["any", "not_found"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("icm.yaml");
        std::fs::write(&file, CONF.replace("UNKNOWN", unknown)).unwrap();
        let loaded = domino_icm::config::load(&file).unwrap_or_else(|e| panic!("{e}"));
        let balancer = Balancer::new(Arc::new(loaded.settings), vec![0; 32]).unwrap();
        let mut asked = 0;
        while asked < 5_000 {
            randomize_states(&balancer, &mut random);
            for _ in 0..50 {
                asked += 1;
                let (target, tls) = (url(&mut random), random.bool());
                let target = if target.starts_with('/') { target } else { format!("/{target}") };
                let host = one_of(&mut random, &["www.acme.example", "www.acme.example", "other.example"]);
                let method = one_of(&mut random, &["GET", "POST", "HEAD"]);
                let request = ExplainRequest {
                    url: target.clone(),
                    scheme: Some(if tls { Port::Https } else { Port::Http }),
                    method: method.to_owned(),
                    host: host.to_owned(),
                    ..ExplainRequest::default()
                };
                let snapshot = balancer.snapshot();
                let explained = explain(&snapshot, &request);
                let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
                head.insert_header("Host", host).unwrap();
                let uri = TargetUri { authority: host, target: target.as_bytes(), tls };
                let outcome = match route::route(&snapshot, &head, uri, None).result {
                    Err(LocalReply::Problem(problem, _)) => problem.as_str().to_owned(),
                    Err(LocalReply::Choice(..)) => "choice".to_owned(),
                    Err(LocalReply::List(..)) => "list".to_owned(),
                    Err(other) => panic!("not a reply of routing: {other:?}"),
                    Ok(routed) => match decide(&routed, &[]).outcome {
                        SelectionOutcome::Serve(server, why) => {
                            let name = routed.view.server(server).unwrap().config.name.to_string();
                            assert!(
                                explained.band.contains(&name),
                                "{target} {tls} by {name}: {explained:#?}"
                            );
                            assert!(
                                explained.band.contains(explained.server.as_ref().unwrap()),
                                "{explained:#?}"
                            );
                            assert_eq!(explained.why.as_deref(), Some(why.to_string().as_str()), "{target}");
                            let chosen = explained.candidates.iter().filter(|c| c.chosen).count();
                            assert_eq!(chosen, 1, "{explained:#?}");
                            "serve".to_owned()
                        }
                        SelectionOutcome::OutOfService => "out_of_service".to_owned(),
                        SelectionOutcome::NoServer => "no_server".to_owned(),
                        SelectionOutcome::Full => "overloaded".to_owned(),
                        SelectionOutcome::NoteIdServerGone => "note_id_server_gone".to_owned(),
                    },
                };
                assert_eq!(
                    explained.outcome, outcome,
                    "{method} {target} at {host}, tls {tls}: {explained:#?}"
                );
                *outcomes.entry(outcome).or_default() += 1;
            }
        }
    }
    // The random states and URLs reached every kind of answer.
    for outcome in ["serve", "choice", "no_server", "out_of_service"] {
        assert!(outcomes.get(outcome).is_some_and(|n| *n > 100), "{outcomes:?}");
    }
    assert_eq!(outcomes.values().sum::<usize>(), 10_000);
}

#[test]
fn explain_agrees_with_the_running_proxy_for_random_urls_while_states_change() {
    let acme = Acme::built_in();
    let mut settings = config(&acme);
    sources_of(&mut settings, &acme, &["console"], "60s");
    let icm = Icm::start(settings);
    icm.wait_for_served("/legacy/archive2009.nsf", "Web4");
    let mut random = fastrand::Rng::with_seed(7);
    let databases = [
        "/sales/orders.nsf",
        "/Sales/LEADS.nsf",
        "/apps/leads.nsf",
        "/legacy/archive2009.nsf",
        "/hr/vacation.nsf",
        "/old/closed.nsf",
        "/old/phonebook.nsf",
        "/projects/plan.nsf",
        "/app.nsf",
        "/help/help12_client.nsf",
        "/apps/qa.nsf",
        "/nowhere.nsf",
        "/__C1257A000041D2E8.nsf",
        "",
    ];
    let states = [
        ("Web1", "BUSY", json!({ "index": 10, "threshold": 20 })),
        ("Web3", "RESTRICTED", json!({ "restricted": 1 })),
        ("Web2", "UNREACHABLE", json!({ "fault": "refuse" })),
        ("Web4", "MAXUSERS", json!({ "users": 9, "maxusers": 9 })),
    ];
    for (server, state, change) in states {
        acme.set(server, change);
        icm.wait_for_state(server, state);
        for _ in 0..60 {
            let target = format!(
                "{}{}",
                one_of(&mut random, &databases),
                one_of(&mut random, &["?OpenDatabase", "/x?OpenView", "/"])
            );
            let target = if target.starts_with('/') { target } else { format!("/{target}") };
            let explained = icm.admin(&format!("/explain?url={}", target.replace('?', "%3F"))).json();
            let answer = icm.client().get(&target);
            if explained["outcome"] == "serve" {
                let band = explained["band"].as_array().unwrap();
                assert!(
                    band.iter().any(|b| b == answer.server()),
                    "{state} {target} {}: {explained:#}",
                    answer.server()
                );
            } else {
                assert_eq!(explained["status"], answer.status, "{state} {target}: {explained:#}");
                assert_eq!(answer.server(), "", "{state} {target}: {explained:#}");
            }
        }
    }
}

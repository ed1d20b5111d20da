//! A server dies with changes that nobody else has, and returns: what users and newcomers read meanwhile. The short form of
//! `make fresh`, which runs the same experiment behind other load balancers, too.

use crate::support::*;

#[allow(dead_code, reason = "the bench uses the rest")]
#[path = "../../../benches/fresh/experiment/mod.rs"]
mod experiment;

use experiment::judge::{BehindRule, Findings};
use experiment::{Plan, Site, Timeline};

/// Runs the experiment behind an `icm` with these cluster settings.
fn findings(settings: impl Fn(&Acme) -> Vec<(&'static str, String)>) -> Findings {
    let acme = Acme::start(&experiment::scenario());
    let mut config = config(&acme);
    let directory = experiment::directory();
    // A busy machine must not make a working server UNREACHABLE.
    let patient = [
        ("directory", directory.as_str()),
        ("probe", "{ interval: 200ms, timeout: 10s, healthy_after: 1, unreachable_after: 3 }"),
        ("failover", "{ connect_timeout: 5s, response_timeout: 20s }"),
    ];
    for (key, value) in patient {
        set(&mut config, &format!("clusters.0.{key}"), value);
    }
    for (key, value) in settings(&acme) {
        set(&mut config, &format!("clusters.0.{key}"), &value);
    }
    let icm = Icm::start(config);
    for server in experiment::SERVERS {
        icm.wait_for_state(server, "AVAILABLE");
    }
    let site = Site {
        name: "icm".to_owned(),
        balancer: icm.address,
        control: acme.control,
        admin: Some(icm.admin),
        refused_cookie: None,
    };
    let plan = Plan {
        timeline: Timeline::SHORT,
        users: 24,
        think_ms: 100..300,
        newcomers_per_second: 6.0,
        rule: BehindRule { slack_ms: 2_000, after: 7.0 },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let findings = runtime.block_on(experiment::run(&site, &plan));
    assert!(findings.own_reads > 0 && findings.newcomers > 0, "{findings:?}");
    findings
}

fn assert_no_avoidable_stale_read(findings: &Findings) {
    let examples = findings.examples.join("\n");
    assert_eq!(findings.own_last_eligible, 0, "older than the user's own last write:\n{examples}");
    assert_eq!(findings.newcomers_behind, 0, "newcomers on a replica known to be behind:\n{examples}");
    assert_eq!(findings.failed_gets, 0, "{:?}", findings.failures);
}

#[test]
fn with_the_companion_nobody_reads_an_older_state_while_a_server_has_the_newer_one() {
    let findings = findings(|acme| {
        let request = format!(
            "{{ after: 2s, request: {{ url: \"http://{}/icm.nsf/companion?OpenAgent\" }} }}",
            acme.http("Web1")
        );
        let freshness = "{ source: companion, interval: 1s, slack: 2s, behind_after: 2s, after_write: tell }";
        vec![
            ("availability", "{ source: companion, interval: 1s }".to_owned()),
            ("catch_up", request),
            ("freshness", freshness.to_owned()),
        ]
    });
    assert_no_avoidable_stale_read(&findings);
}

#[test]
fn with_modification_times_nobody_reads_an_older_state_while_a_server_has_the_newer_one() {
    let findings = findings(|acme| {
        let mut settings = vec![
            ("catch_up", "{ after: 2s }".to_owned()),
            (
                "freshness",
                "{ source: head, interval: 1s, slack: 2s, behind_after: 2s, after_write: tell }".to_owned(),
            ),
        ];
        let places =
            ["servers.list.0.availability", "servers.list.1.availability", "servers.list.2.availability"];
        for (place, server) in places.into_iter().zip(&acme.servers) {
            let url = format!("http://{}/metrics", server.metrics.unwrap());
            settings.push((place, format!("{{ source: prometheus, url: \"{url}\", interval: 1s }}")));
        }
        settings
    });
    assert_no_avoidable_stale_read(&findings);
}

//! What a server makes of its health, its observed times and its requests in flight.

use std::sync::Arc;

use super::*;
use crate::domain::cluster::health::tests::settings;

fn server(sources: &[ReportSource]) -> Arc<ClusterServer> {
    let name = ServerName::parse("Web1/Acme").unwrap();
    Arc::new(ClusterServer::new(name, 1, 1, ServerHealth::new(settings(), sources, 0)))
}

#[test]
fn a_repeated_report_does_not_hide_the_requests_sent_since_it_was_made() {
    let sources = [ReportSource { kind: "prometheus", stale_after_ms: 60_000 }];
    let server = server(&sources);
    let report =
        AvailabilityReport { index: Some(80), updated_at: Some(1_000.0), ..AvailabilityReport::default() };
    server.report(0, &report, 10);
    let requests: Vec<InFlight> = (0..3).filter_map(|_| server.begin(0)).collect();
    for tick in 1..100 {
        server.tick(6, 180_000, &load::Peers::default(), tick * 500);
    }
    server.report(0, &report, 50_000);
    assert_eq!((server.snapshot().in_flight, server.snapshot().in_flight_then), (3, 0.0));
    server.report(0, &AvailabilityReport { updated_at: Some(1_060.0), ..report }, 50_010);
    assert!(server.snapshot().in_flight_then > 2.8, "{:?}", server.snapshot());
    drop(requests);
    assert_eq!(server.snapshot().in_flight, 0);
}

#[test]
fn a_published_index_is_compared_with_what_was_observed_in_the_same_time() {
    let server = server(&[ReportSource { kind: "prometheus", stale_after_ms: 180_000 }]);
    let report = |index, at| AvailabilityReport {
        index: Some(index),
        updated_at: Some(at),
        ..AvailabilityReport::default()
    };
    let seconds = |from: u64, to: u64, micros: u64| {
        for at in (from * 1_000..to * 1_000).step_by(100) {
            server.observe(RequestClass::Document, micros, at);
            if at.is_multiple_of(500) {
                server.tick(6, 180_000, &load::Peers::default(), at);
            }
        }
    };
    let ranked = || server.snapshot().index.unwrap();
    seconds(1, 60, 20_000);
    server.report(0, &report(70, 60.0), 60_000);
    assert!((ranked() - 70.0).abs() < 1.0, "as published: {}", ranked());
    seconds(60, 90, 20_000);
    assert!((ranked() - 70.0).abs() < 1.0, "half a minute later as well: {}", ranked());
    seconds(90, 120, 160_000);
    assert!(ranked() < 40.0, "eightfold slowness shows before Domino reports it: {}", ranked());
    // Domino's report on that minute: what was already observed does not count twice.
    let observed = ranked();
    server.report(0, &report(51, 120.0), 120_000);
    assert!((ranked() - observed).abs() < 8.0, "{observed} {}", ranked());
}

#[test]
fn an_index_older_than_the_first_response_does_not_offset_later_slowness() {
    let sources = [ReportSource { kind: "prometheus", stale_after_ms: 180_000 }];
    let (fast, slow) = (server(&sources), server(&sources));
    let idle =
        AvailabilityReport { index: Some(100), updated_at: Some(0.5), ..AvailabilityReport::default() };
    for server in [&fast, &slow] {
        server.report(0, &idle, 500);
    }
    for at in (1_000..30_000).step_by(100) {
        fast.observe(RequestClass::Document, 20_000, at);
        slow.observe(RequestClass::Document, 160_000, at);
        if at % 500 == 0 {
            let peers = load::Peers::of([fast.as_ref(), slow.as_ref()].into_iter());
            fast.tick(6, 180_000, &peers, at);
            slow.tick(6, 180_000, &peers, at);
        }
    }
    let (fast, slow) = (fast.snapshot().index.unwrap(), slow.snapshot().index.unwrap());
    assert!((fast - 100.0).abs() < 1.0, "no other load slowed it down: {fast}");
    assert!(slow < 80.0, "eight times slower, whatever was published before: {slow}");
}

#[test]
fn after_busy_a_published_rise_ranks_whatever_was_observed() {
    let sources = [ReportSource { kind: "console", stale_after_ms: 180_000 }];
    for responds in [false, true] {
        let server = server(&sources);
        let report = |index| AvailabilityReport {
            index: Some(index),
            threshold: Some(20),
            ..AvailabilityReport::default()
        };
        let mut now = 0;
        for (index, polls) in [(90, 6), (10, 6), (95, 1)] {
            for _ in 0..polls {
                for _ in 0..30 {
                    now += 500;
                    if responds {
                        (0..5).for_each(|_| server.observe(RequestClass::Document, 20_000, now));
                    }
                    server.tick(6, 180_000, &load::Peers::default(), now);
                }
                server.report(0, &report(index), now);
            }
            assert_eq!(server.snapshot().busy, index == 10);
            let ranked = server.snapshot().index.unwrap();
            assert!((ranked - f32::from(index)).abs() < 2.0, "{responds}: {ranked} for {index}");
        }
        // A small step out of BUSY and then a large one, in reports a second apart.
        for (index, polls) in [(15, 6), (30, 1), (95, 1)] {
            for _ in 0..polls {
                now += 1_000;
                if responds {
                    server.observe(RequestClass::Document, 20_000, now);
                }
                server.tick(6, 180_000, &load::Peers::default(), now);
                server.report(0, &report(index), now);
            }
            let ranked = server.snapshot().index.unwrap();
            assert!(
                index == 15 || (ranked - f32::from(index)).abs() < 5.0,
                "{responds}: {ranked} for {index}"
            );
        }
    }
}

#[test]
fn fast_servers_that_differ_by_less_than_two_milliseconds_share_their_users() {
    let servers = [5_000, 6_500, 9_000].map(|micros| {
        let server = server(&[]);
        (0..400).for_each(|i| server.observe(RequestClass::Document, micros, i * 10));
        server
    });
    let peers = load::Peers::of(servers.iter().map(AsRef::as_ref));
    servers.iter().for_each(|server| drop(server.tick(6, 180_000, &peers, 4_000)));
    let [a, b, c] = servers.map(|server| server.snapshot());
    let allowed = |x: &ServerSnapshot, y: &ServerSnapshot| x.noise.min(y.noise);
    let gap = |x: &ServerSnapshot, y: &ServerSnapshot| x.index.unwrap() - y.index.unwrap();
    assert!(gap(&a, &b) < allowed(&a, &b), "{a:?} {b:?}");
    assert!(gap(&b, &c) > allowed(&b, &c), "{b:?} {c:?}");
}

#[test]
fn a_tunnel_counts_once_among_the_requests_in_flight_and_ends_with_its_request() {
    let server = server(&[]);
    let mut tunnel = server.begin(0).unwrap();
    let plain = server.begin(0).unwrap();
    tunnel.mark_as_tunnel();
    tunnel.mark_as_tunnel();
    assert_eq!((server.in_flight(), server.tunnels()), (2, 1));
    drop((tunnel, plain));
    assert_eq!((server.in_flight(), server.tunnels()), (0, 0));
}

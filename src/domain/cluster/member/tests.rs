//! What a member shows of what it has learned, and of the requests in flight there.

use std::sync::Arc;

use super::*;
use crate::domain::cluster::ledger::tests::settings;

fn member(sources: &[Source]) -> Arc<Member> {
    let name = ServerName::parse("Web1/Acme").unwrap();
    Arc::new(Member::new(name, 1, 1, Ledger::new(settings(), sources, 0)))
}

#[test]
fn an_index_that_is_read_again_does_not_hide_what_was_sent_since_it_was_taken() {
    let sources = [Source { kind: "prometheus", stale_after_ms: 60_000 }];
    let member = member(&sources);
    let facts = Facts { index: Some(80), updated_at: Some(1_000.0), ..Facts::default() };
    member.report(0, &facts, 10);
    let requests: Vec<InFlight> = (0..3).filter_map(|_| member.begin(0)).collect();
    for tick in 1..100 {
        member.tick(6, 180_000, &load::Peers::default(), tick * 500);
    }
    member.report(0, &facts, 50_000);
    assert_eq!((member.view().in_flight, member.view().in_flight_then), (3, 0.0));
    member.report(0, &Facts { updated_at: Some(1_060.0), ..facts }, 50_010);
    assert!(member.view().in_flight_then > 2.8, "{:?}", member.view());
    drop(requests);
    assert_eq!(member.view().in_flight, 0);
}

#[test]
fn a_published_index_is_held_against_what_was_observed_in_the_same_time() {
    let member = member(&[Source { kind: "prometheus", stale_after_ms: 180_000 }]);
    let facts = |index, at| Facts { index: Some(index), updated_at: Some(at), ..Facts::default() };
    let seconds = |from: u64, to: u64, micros: u64| {
        for at in (from * 1_000..to * 1_000).step_by(100) {
            member.observe(RequestClass::Document, micros, at);
            if at.is_multiple_of(500) {
                member.tick(6, 180_000, &load::Peers::default(), at);
            }
        }
    };
    let ranked = || member.view().index.unwrap();
    seconds(1, 60, 20_000);
    member.report(0, &facts(70, 60.0), 60_000);
    assert!((ranked() - 70.0).abs() < 1.0, "as published: {}", ranked());
    seconds(60, 90, 20_000);
    assert!((ranked() - 70.0).abs() < 1.0, "half a minute later as well: {}", ranked());
    seconds(90, 120, 160_000);
    assert!(ranked() < 40.0, "eight times slower shows before Domino says so: {}", ranked());
    // Domino's word on that minute: what was seen already does not count twice.
    let seen = ranked();
    member.report(0, &facts(51, 120.0), 120_000);
    assert!((ranked() - seen).abs() < 8.0, "{seen} {}", ranked());
}

#[test]
fn an_index_from_before_the_first_answers_excuses_no_server_for_what_it_does_since() {
    let sources = [Source { kind: "prometheus", stale_after_ms: 180_000 }];
    let (fast, slow) = (member(&sources), member(&sources));
    let idle = Facts { index: Some(100), updated_at: Some(0.5), ..Facts::default() };
    for one in [&fast, &slow] {
        one.report(0, &idle, 500);
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
    let (fast, slow) = (fast.view().index.unwrap(), slow.view().index.unwrap());
    assert!((fast - 100.0).abs() < 1.0, "nobody else slowed it down: {fast}");
    assert!(slow < 80.0, "eight times slower, whatever was published before: {slow}");
}

#[test]
fn a_published_rise_after_busy_is_what_ranks_whatever_was_observed() {
    let sources = [Source { kind: "console", stale_after_ms: 180_000 }];
    for answers in [false, true] {
        let member = member(&sources);
        let facts = |index| Facts { index: Some(index), threshold: Some(20), ..Facts::default() };
        let mut now = 0;
        for (index, polls) in [(90, 6), (10, 6), (95, 1)] {
            for _ in 0..polls {
                for _ in 0..30 {
                    now += 500;
                    if answers {
                        (0..5).for_each(|_| member.observe(RequestClass::Document, 20_000, now));
                    }
                    member.tick(6, 180_000, &load::Peers::default(), now);
                }
                member.report(0, &facts(index), now);
            }
            assert_eq!(member.view().busy, index == 10);
            let ranked = member.view().index.unwrap();
            assert!((ranked - f32::from(index)).abs() < 2.0, "{answers}: {ranked} for {index}");
        }
        // Out of BUSY by a small step, and up by a large one, in readings a second apart.
        for (index, polls) in [(15, 6), (30, 1), (95, 1)] {
            for _ in 0..polls {
                now += 1_000;
                if answers {
                    member.observe(RequestClass::Document, 20_000, now);
                }
                member.tick(6, 180_000, &load::Peers::default(), now);
                member.report(0, &facts(index), now);
            }
            let ranked = member.view().index.unwrap();
            assert!(
                index == 15 || (ranked - f32::from(index)).abs() < 5.0,
                "{answers}: {ranked} for {index}"
            );
        }
    }
}

#[test]
fn fast_servers_that_differ_by_less_than_two_milliseconds_share_their_users() {
    let members = [5_000, 6_500, 9_000].map(|micros| {
        let member = member(&[]);
        (0..400).for_each(|i| member.observe(RequestClass::Document, micros, i * 10));
        member
    });
    let peers = load::Peers::of(members.iter().map(AsRef::as_ref));
    members.iter().for_each(|m| drop(m.tick(6, 180_000, &peers, 4_000)));
    let [a, b, c] = members.map(|m| m.view());
    let allowed = |x: &View, y: &View| x.noise.min(y.noise);
    let gap = |x: &View, y: &View| x.index.unwrap() - y.index.unwrap();
    assert!(gap(&a, &b) < allowed(&a, &b), "{a:?} {b:?}");
    assert!(gap(&b, &c) > allowed(&b, &c), "{b:?} {c:?}");
}

#[test]
fn a_tunnel_is_counted_once_among_the_requests_in_flight_and_ends_with_them() {
    let member = member(&[]);
    let mut tunnel = member.begin(0).unwrap();
    let plain = member.begin(0).unwrap();
    tunnel.is_tunnel();
    tunnel.is_tunnel();
    assert_eq!((member.in_flight(), member.tunnels()), (2, 1));
    drop((tunnel, plain));
    assert_eq!((member.in_flight(), member.tunnels()), (0, 0));
}

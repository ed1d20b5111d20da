//! The health of a server after each event that can change it.

use super::*;
use proptest::prelude::*;

/// The settings of a server with only an HTTP port.
pub(crate) fn settings() -> HealthSettings {
    HealthSettings {
        http: true,
        https: false,
        healthy_after: 2,
        unreachable_after: 2,
        passive_failures: 3,
        threshold: None,
        restricted: false,
        max_users: 0,
        uses_http: true,
        uses_https: true,
        catch_up_after_ms: None,
    }
}

fn sources<const N: usize>(kinds: [&'static str; N]) -> [ReportSource; N] {
    kinds.map(|kind| ReportSource { kind, stale_after_ms: 60_000 })
}

fn up() -> ServerHealth {
    let mut health = ServerHealth::new(settings(), &sources(["console", "prometheus"]), 0);
    health.probed(Port::Http, Ok(200), 1);
    health
}

fn published(health: &ServerHealth, now_ms: u64) -> Option<u8> {
    health.snapshot(now_ms).published_index.map(|index| index.value)
}

fn index(value: u8) -> AvailabilityReport {
    AvailabilityReport { index: Some(value), ..AvailabilityReport::default() }
}

#[test]
fn the_later_of_two_reports_in_one_millisecond_counts() {
    let mut health = up();
    health.report(0, &index(54), 10);
    health.report(0, &index(33), 10);
    assert_eq!(published(&health, 10), Some(33));
}

#[test]
fn a_new_server_is_unreachable_until_its_first_probe() {
    let mut health = ServerHealth::new(settings(), &[], 0);
    assert_eq!(health.state().0, ServerState::Unreachable);
    let change = health.probed(Port::Http, Ok(200), 5).unwrap();
    assert_eq!(
        (change.old, change.new, change.held_ms),
        (ServerState::Unreachable, ServerState::Available, 5)
    );
    assert_eq!(health.returned_at(), None, "the first start is not a return");
}

#[test]
fn probes_change_the_state_only_after_the_configured_number_in_a_row() {
    let mut health = up();
    assert!(health.probed(Port::Http, Err("timed out"), 10).is_none());
    assert!(health.probed(Port::Http, Ok(200), 20).is_none());
    assert!(health.probed(Port::Http, Err("timed out"), 30).is_none());
    let change = health.probed(Port::Http, Err("refused"), 40).unwrap();
    assert_eq!(change.new, ServerState::Unreachable);
    assert!(change.cause.contains("refused"));
    assert!(health.probed(Port::Http, Ok(200), 50).is_none());
    assert_eq!(health.probed(Port::Http, Ok(200), 60).unwrap().new, ServerState::Available);
    assert_eq!(health.returned_at(), Some(60));
}

#[test]
fn after_a_failed_request_one_bad_probe_decides_and_a_good_one_changes_nothing() {
    let mut health = up();
    health.let_one_bad_probe_decide(Port::Http);
    assert!(health.probed(Port::Http, Ok(200), 10).is_none());
    assert!(health.probed(Port::Http, Err("refused"), 20).is_none(), "the good one has settled it");
    health.let_one_bad_probe_decide(Port::Http);
    let change = health.probed(Port::Http, Err("refused"), 30).unwrap();
    assert_eq!(change.new, ServerState::Unreachable);
}

#[test]
fn consecutive_passive_failures_make_a_server_unreachable_and_a_response_resets_them() {
    let mut health = up();
    health.passive_failure(Port::Http, "reset", 2);
    health.passive_failure(Port::Http, "reset", 3);
    health.passive_success(Port::Http);
    assert!(health.passive_failure(Port::Http, "reset", 4).is_none());
    assert!(health.passive_failure(Port::Http, "reset", 5).is_none());
    assert_eq!(health.passive_failure(Port::Http, "reset", 6).unwrap().new, ServerState::Unreachable);
}

#[test]
fn a_configured_threshold_overrides_the_published_one() {
    let mut health = up();
    let report = AvailabilityReport { index: Some(20), threshold: Some(20), ..AvailabilityReport::default() };
    assert_eq!(health.report(0, &report, 10).unwrap().new, ServerState::Busy);
    let lower = HealthSettings { threshold: Some(10), ..settings() };
    assert_eq!(
        health.reconfigure(lower, &sources(["console", "prometheus"]), 11).unwrap().new,
        ServerState::Available
    );
}

#[test]
fn a_stale_report_makes_the_index_unknown_but_keeps_restricted() {
    let mut health = up();
    let report = AvailabilityReport {
        index: Some(10),
        threshold: Some(50),
        users: Some(9),
        max_users: Some(5),
        ..AvailabilityReport::default()
    };
    health.report(0, &report, 10);
    assert_eq!(health.state().0, ServerState::Busy);
    assert_eq!(health.tick(60_011).unwrap().new, ServerState::Available);
    assert_eq!(health.snapshot(60_011).smoothed_index, None);
    let report = AvailabilityReport { restricted: Some(true), ..AvailabilityReport::default() };
    health.report(0, &report, 70_000);
    health.tick(500_000);
    assert_eq!(health.state().0, ServerState::Restricted);
    assert!(health.restriction_stale(500_000));
}

#[test]
fn the_newest_report_wins_for_each_value() {
    let mut health = up();
    health.report(0, &index(30), 10);
    health.report(1, &index(90), 20);
    assert_eq!(published(&health, 20), Some(90));
    health.report(0, &AvailabilityReport { threshold: Some(95), ..AvailabilityReport::default() }, 30);
    assert_eq!(health.state().0, ServerState::Busy, "the index of one source, the threshold of another");
}

#[test]
fn a_stamp_that_does_not_advance_becomes_stale_on_our_own_clock() {
    let mut health = up();
    let report =
        AvailabilityReport { index: Some(80), updated_at: Some(1_000.0), ..AvailabilityReport::default() };
    for now in [10, 30_000, 60_000] {
        health.report(0, &report, now);
        assert_eq!(published(&health, now), Some(80));
    }
    health.report(0, &report, 60_011);
    assert_eq!(published(&health, 60_011), None);
    health.report(0, &AvailabilityReport { updated_at: Some(1_060.0), ..report }, 60_020);
    assert_eq!(published(&health, 60_020), Some(80));
}

#[test]
fn each_restriction_is_released_only_by_its_source() {
    let mut health = up();
    let restriction = Restriction { since_unix_ms: 0, by: "admin".into(), at: None, closed: false };
    health.restrict(Some(restriction), 10);
    health.report(0, &AvailabilityReport { restricted: Some(true), ..AvailabilityReport::default() }, 11);
    health.restrict(None, 12);
    assert_eq!(health.state().0, ServerState::Restricted);
    assert_eq!(health.restrictions().len(), 1);
    let change = health
        .report(0, &AvailabilityReport { restricted: Some(false), ..AvailabilityReport::default() }, 13)
        .unwrap();
    assert_eq!(change.new, ServerState::Available);
    assert_eq!(health.returned_at(), Some(13));
}

#[test]
fn ready_and_up_of_agent_check_each_clear_only_their_own_dimension() {
    let mut health = up();
    let drain =
        AvailabilityReport { administrative: Some(Administrative::Drain), ..AvailabilityReport::default() };
    let down = AvailabilityReport {
        operational: Some(Operational::Down("ended".into())),
        ..AvailabilityReport::default()
    };
    let is_up = AvailabilityReport { operational: Some(Operational::Up), ..AvailabilityReport::default() };
    let ready =
        AvailabilityReport { administrative: Some(Administrative::Ready), ..AvailabilityReport::default() };
    health.report(0, &drain, 10);
    assert_eq!(health.state().0, ServerState::Restricted);
    let change = health.report(0, &down, 11).unwrap();
    assert_eq!(change.new, ServerState::Unreachable);
    assert!(change.cause.contains("ended"));
    health.report(0, &ready, 12);
    assert_eq!(health.state().0, ServerState::Unreachable, "ready does not clear down");
    health.report(0, &drain, 13);
    health.report(0, &is_up, 14);
    assert_eq!(health.state().0, ServerState::Restricted, "up does not clear drain");
    health.report(0, &ready, 15);
    assert_eq!(health.state().0, ServerState::Available);
}

#[test]
fn published_users_are_compared_with_the_effective_limit() {
    let mut health = up();
    health.report(0, &AvailabilityReport { users: Some(100), ..AvailabilityReport::default() }, 10);
    assert_eq!(health.state().0, ServerState::Available, "without a limit never MAXUSERS");
    health.report(0, &AvailabilityReport { max_users: Some(100), ..AvailabilityReport::default() }, 11);
    assert_eq!(health.state().0, ServerState::MaxUsers);
}

fn agent_report(
    administrative: Option<Administrative>,
    operational: Option<Operational>,
) -> AvailabilityReport {
    AvailabilityReport { administrative, operational, ..AvailabilityReport::default() }
}

#[test]
fn down_and_maxconn_of_agent_check_lapse_and_drain_and_maint_stay() {
    let mut health = up();
    let down = agent_report(None, Some(Operational::Down("ended".into())));
    health.report(0, &AvailabilityReport { max_connections: Some(1), ..down }, 10);
    assert_eq!(health.snapshot(10).max_connections, 1);
    assert_eq!(
        health.tick(60_011).unwrap().new,
        ServerState::Available,
        "a stale report never makes a server UNREACHABLE"
    );
    assert_eq!(health.snapshot(60_011).max_connections, 0);
    let states = [
        (Administrative::Drain, ServerState::Restricted, 100_000),
        (Administrative::Maint, ServerState::Unreachable, 300_000),
    ];
    for (reported, state, at) in states {
        health.report(0, &agent_report(Some(reported), None), at);
        assert!(!health.restriction_stale(at));
        health.tick(at + 100_000);
        assert_eq!(health.state().0, state);
        assert!(health.restriction_stale(at + 100_000), "{reported:?}");
    }
}

#[test]
fn restricted_is_updated_while_the_stamp_does_not_advance_and_then_becomes_stale() {
    let mut health = up();
    let report = AvailabilityReport {
        restricted: Some(false),
        updated_at: Some(1_000.0),
        ..AvailabilityReport::default()
    };
    health.report(0, &report, 10);
    let report = AvailabilityReport { restricted: Some(true), ..report };
    assert_eq!(health.report(0, &report, 50_000).unwrap().new, ServerState::Restricted);
    assert!(!health.restriction_stale(50_000));
    health.report(0, &report, 61_000);
    assert!(health.restriction_stale(61_000), "the exporter responds, but Domino no longer writes");
    assert_eq!(health.state().0, ServerState::Restricted);
}

#[test]
fn an_old_value_of_a_frozen_exporter_does_not_replace_a_newer_one() {
    let mut health = up();
    let frozen = AvailabilityReport {
        restricted: Some(false),
        updated_at: Some(1_000.0),
        ..AvailabilityReport::default()
    };
    health.report(1, &frozen, 10);
    health.report(0, &AvailabilityReport { restricted: Some(true), ..AvailabilityReport::default() }, 20_000);
    assert!(health.report(1, &frozen, 20_100).is_none());
    assert_eq!(health.state().0, ServerState::Restricted);
}

#[test]
fn a_reload_keeps_the_reports_of_reordered_sources_and_drops_those_of_removed_ones() {
    let mut health = up();
    health.report(0, &index(70), 10);
    health.report(1, &AvailabilityReport { restricted: Some(true), ..AvailabilityReport::default() }, 11);
    let reordered = sources(["agent_check", "prometheus", "console"]);
    assert!(health.reconfigure(settings(), &reordered, 12).is_none());
    assert_eq!((published(&health, 12), health.state().0), (Some(70), ServerState::Restricted));
    // The console is now the third source, and still the one that reported 70.
    health.report(2, &index(60), 13);
    assert_eq!(published(&health, 13), Some(60));
    let change = health.reconfigure(settings(), &sources(["console"]), 14).unwrap();
    assert_eq!(change.new, ServerState::Available, "no source could clear its RESTRICTED");
    assert_eq!(published(&health, 14), Some(60));
    health.reconfigure(settings(), &sources(["agent_check"]), 15);
    assert_eq!((published(&health, 15), health.snapshot(15).smoothed_index), (None, None));
    health.report(0, &agent_report(None, Some(Operational::Down(String::new()))), 16);
    assert_eq!(health.state().0, ServerState::Unreachable);
    assert_eq!(health.reconfigure(settings(), &[], 17).unwrap().new, ServerState::Available);
}

#[test]
fn only_the_ports_that_requests_use_decide_whether_a_server_is_unreachable() {
    let https_only = HealthSettings { https: true, uses_http: false, ..settings() };
    let mut health = ServerHealth::new(https_only, &[], 0);
    health.probed(Port::Https, Err("refused"), 1);
    health.probed(Port::Http, Ok(200), 2);
    assert_eq!(health.state().0, ServerState::Unreachable);
    assert!(health.state().2.contains("HTTPS probe failed: refused"), "{}", health.state().2);
    health.probed(Port::Https, Ok(200), 3);
    assert!(health.probed(Port::Https, Ok(200), 4).is_some());
    for now in 5..9 {
        assert!(health.probed(Port::Http, Err("refused"), now).is_none());
    }
    assert_eq!(health.state().0, ServerState::Available);
    let without = HealthSettings { https: false, uses_http: false, ..settings() };
    let mut health = ServerHealth::new(without, &[], 0);
    health.probed(Port::Http, Ok(200), 1);
    assert_eq!((health.state().0, health.state().2), (ServerState::Unreachable, "it has no HTTPS port"));
}

#[test]
fn a_published_threshold_becomes_stale_and_a_configured_one_does_not() {
    let mut health = up();
    health.report(0, &AvailabilityReport { threshold: Some(90), ..AvailabilityReport::default() }, 10);
    health.report(1, &index(50), 50_000);
    assert_eq!(health.state().0, ServerState::Busy);
    assert_eq!(health.tick(60_011).unwrap().new, ServerState::Available);
    let own = HealthSettings { threshold: Some(90), ..settings() };
    let both = sources(["console", "prometheus"]);
    assert_eq!(health.reconfigure(own, &both, 60_012).unwrap().new, ServerState::Busy);
}

#[test]
fn a_threshold_of_100_is_busy_without_an_index_until_it_is_stale() {
    let always = HealthSettings { threshold: Some(100), ..settings() };
    let mut health = ServerHealth::new(always, &[], 0);
    let change = health.probed(Port::Http, Ok(200), 1).unwrap();
    assert_eq!((change.new, health.snapshot(1).busy), (ServerState::Busy, true));
    assert!(change.cause.contains("threshold 100"), "{}", change.cause);
    assert_eq!(health.reconfigure(settings(), &[], 2).unwrap().new, ServerState::Available);
    let mut health = up();
    health.report(0, &AvailabilityReport { threshold: Some(100), ..AvailabilityReport::default() }, 10);
    assert_eq!(health.state().0, ServerState::Busy);
    assert_eq!(health.tick(60_011).unwrap().new, ServerState::Available);
}

#[test]
fn a_published_rise_after_busy_ranks_at_once() {
    let mut health = up();
    for now in 1..6 {
        health.report(
            0,
            &AvailabilityReport { index: Some(10), threshold: Some(20), ..AvailabilityReport::default() },
            now * 15_000,
        );
    }
    assert_eq!(health.state().0, ServerState::Busy);
    assert_eq!(health.report(0, &index(95), 90_000).unwrap().new, ServerState::Available);
    assert_eq!(health.snapshot(90_000).smoothed_index, Some(95.0));
}

proptest! {
    #[test]
    fn transitions_chain_without_a_gap(steps in proptest::collection::vec((0u8..8, 0u8..=100), 1..120)) {
        let mut health = ServerHealth::new(settings(), &[ReportSource { kind: "console", stale_after_ms: 500 }], 0);
        let mut seen = ServerState::Unreachable;
        for (i, (kind, value)) in steps.into_iter().enumerate() {
            let now = i as u64 * 100;
            let change = match kind {
                0 => health.probed(Port::Http, Ok(200), now),
                1 => health.probed(Port::Http, Err("x"), now),
                2 => health.passive_failure(Port::Http, "x", now),
                3 => health.report(0, &AvailabilityReport { index: Some(value), threshold: Some(50), ..AvailabilityReport::default() }, now),
                4 => health.report(0, &AvailabilityReport { restricted: Some(value > 50), ..AvailabilityReport::default() }, now),
                5 => health.restrict((value > 50).then(|| Restriction { since_unix_ms: 0, by: "a".into(), at: None, closed: false }), now),
                6 => { health.passive_success(Port::Http); None }
                _ => health.tick(now),
            };
            if let Some(change) = change {
                prop_assert_eq!(change.old, seen);
                prop_assert_ne!(change.old, change.new);
                seen = change.new;
            }
            prop_assert_eq!(health.state().0, seen);
            if kind != 6 {
                prop_assert_eq!(health.snapshot(now).state, seen);
            }
        }
    }
}

//! What one server's ledger says after each thing that can happen to it.

use super::*;
use proptest::prelude::*;

/// Of a server with an HTTP port alone.
pub(crate) fn settings() -> Settings {
    Settings {
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
    }
}

fn sources<const N: usize>(kinds: [&'static str; N]) -> [Source; N] {
    kinds.map(|kind| Source { kind, stale_after_ms: 60_000 })
}

fn up() -> Ledger {
    let mut ledger = Ledger::new(settings(), &sources(["console", "prometheus"]), 0);
    ledger.probed(Port::Http, Ok(200), 1);
    ledger
}

fn index(value: u8) -> Facts {
    Facts { index: Some(value), ..Facts::default() }
}

#[test]
fn of_two_reports_in_one_millisecond_the_later_counts() {
    let mut ledger = up();
    ledger.report(0, &index(54), 10);
    ledger.report(0, &index(33), 10);
    assert_eq!(ledger.standing(10).raw_index, Some(33));
}

#[test]
fn a_new_server_is_unreachable_until_its_first_probe_decides() {
    let mut ledger = Ledger::new(settings(), &[], 0);
    assert_eq!(ledger.state().0, ServerState::Unreachable);
    let change = ledger.probed(Port::Http, Ok(200), 5).unwrap();
    assert_eq!(
        (change.old, change.new, change.held_ms),
        (ServerState::Unreachable, ServerState::Available, 5)
    );
    assert_eq!(ledger.returned_at(), None, "a first start is no return");
}

#[test]
fn probes_flip_the_state_only_after_their_number_in_a_row() {
    let mut ledger = up();
    assert!(ledger.probed(Port::Http, Err("timed out"), 10).is_none());
    assert!(ledger.probed(Port::Http, Ok(200), 20).is_none());
    assert!(ledger.probed(Port::Http, Err("timed out"), 30).is_none());
    let change = ledger.probed(Port::Http, Err("refused"), 40).unwrap();
    assert_eq!(change.new, ServerState::Unreachable);
    assert!(change.cause.contains("refused"));
    assert!(ledger.probed(Port::Http, Ok(200), 50).is_none());
    assert_eq!(ledger.probed(Port::Http, Ok(200), 60).unwrap().new, ServerState::Available);
    assert_eq!(ledger.returned_at(), Some(60));
}

#[test]
fn one_bad_probe_decides_after_a_request_has_failed_and_a_good_one_changes_nothing() {
    let mut ledger = up();
    ledger.let_one_bad_probe_decide(Port::Http);
    assert!(ledger.probed(Port::Http, Ok(200), 10).is_none());
    assert!(ledger.probed(Port::Http, Err("refused"), 20).is_none(), "the good one has settled it");
    ledger.let_one_bad_probe_decide(Port::Http);
    let change = ledger.probed(Port::Http, Err("refused"), 30).unwrap();
    assert_eq!(change.new, ServerState::Unreachable);
}

#[test]
fn passive_failures_in_a_row_make_it_unreachable_at_once_and_an_answer_breaks_the_row() {
    let mut ledger = up();
    ledger.passive_failure(Port::Http, "reset", 2);
    ledger.passive_failure(Port::Http, "reset", 3);
    ledger.passive_success(Port::Http);
    assert!(ledger.passive_failure(Port::Http, "reset", 4).is_none());
    assert!(ledger.passive_failure(Port::Http, "reset", 5).is_none());
    assert_eq!(ledger.passive_failure(Port::Http, "reset", 6).unwrap().new, ServerState::Unreachable);
}

#[test]
fn busy_follows_the_published_threshold_and_the_configured_one_wins() {
    let mut ledger = up();
    let facts = Facts { index: Some(20), threshold: Some(20), ..Facts::default() };
    assert_eq!(ledger.report(0, &facts, 10).unwrap().new, ServerState::Busy);
    let lower = Settings { threshold: Some(10), ..settings() };
    assert_eq!(
        ledger.reconfigure(lower, &sources(["console", "prometheus"]), 11).unwrap().new,
        ServerState::Available
    );
}

#[test]
fn silence_makes_the_index_unknown_but_keeps_restricted_and_never_kills() {
    let mut ledger = up();
    let facts = Facts {
        index: Some(10),
        threshold: Some(50),
        users: Some(9),
        max_users: Some(5),
        ..Facts::default()
    };
    ledger.report(0, &facts, 10);
    assert_eq!(ledger.state().0, ServerState::Busy);
    assert_eq!(ledger.tick(60_011).unwrap().new, ServerState::Available);
    assert_eq!(ledger.standing(60_011).index, None);
    let facts = Facts { restricted: Some(true), ..Facts::default() };
    ledger.report(0, &facts, 70_000);
    ledger.tick(500_000);
    assert_eq!(ledger.state().0, ServerState::Restricted);
    assert!(ledger.restriction_stale(500_000));
}

#[test]
fn the_freshest_source_wins_for_each_fact() {
    let mut ledger = up();
    ledger.report(0, &index(30), 10);
    ledger.report(1, &index(90), 20);
    assert_eq!(ledger.standing(20).raw_index, Some(90));
    ledger.report(0, &Facts { threshold: Some(95), ..Facts::default() }, 30);
    assert_eq!(ledger.state().0, ServerState::Busy, "the index of one source, the threshold of another");
}

#[test]
fn a_stamp_that_does_not_advance_is_stale_on_our_own_clock() {
    let mut ledger = up();
    let facts = Facts { index: Some(80), updated_at: Some(1_000.0), ..Facts::default() };
    for now in [10, 30_000, 60_000] {
        ledger.report(0, &facts, now);
        assert_eq!(ledger.standing(now).raw_index, Some(80));
    }
    ledger.report(0, &facts, 60_011);
    assert_eq!(ledger.standing(60_011).raw_index, None);
    ledger.report(0, &Facts { updated_at: Some(1_060.0), ..facts }, 60_020);
    assert_eq!(ledger.standing(60_020).raw_index, Some(80));
}

#[test]
fn each_restriction_is_taken_back_only_by_whoever_set_it() {
    let mut ledger = up();
    let who = Restriction { since_unix_ms: 0, by: "admin".into(), at: None };
    ledger.restrict(Some(who), 10);
    ledger.report(0, &Facts { restricted: Some(true), ..Facts::default() }, 11);
    ledger.restrict(None, 12);
    assert_eq!(ledger.state().0, ServerState::Restricted);
    assert_eq!(ledger.restrictions().len(), 1);
    let change = ledger.report(0, &Facts { restricted: Some(false), ..Facts::default() }, 13).unwrap();
    assert_eq!(change.new, ServerState::Available);
    assert_eq!(ledger.returned_at(), Some(13));
}

#[test]
fn agent_words_ready_and_up_each_clear_only_their_own() {
    let mut ledger = up();
    let drain = Facts { administrative: Some(Administrative::Drain), ..Facts::default() };
    let down = Facts { operational: Some(Operational::Down("ended".into())), ..Facts::default() };
    let is_up = Facts { operational: Some(Operational::Up), ..Facts::default() };
    let ready = Facts { administrative: Some(Administrative::Ready), ..Facts::default() };
    ledger.report(0, &drain, 10);
    assert_eq!(ledger.state().0, ServerState::Restricted);
    let change = ledger.report(0, &down, 11).unwrap();
    assert_eq!(change.new, ServerState::Unreachable);
    assert!(change.cause.contains("ended"));
    ledger.report(0, &ready, 12);
    assert_eq!(ledger.state().0, ServerState::Unreachable, "ready does not clear down");
    ledger.report(0, &drain, 13);
    ledger.report(0, &is_up, 14);
    assert_eq!(ledger.state().0, ServerState::Restricted, "up does not clear drain");
    ledger.report(0, &ready, 15);
    assert_eq!(ledger.state().0, ServerState::Available);
}

#[test]
fn max_users_compares_published_users_with_the_limit_in_force() {
    let mut ledger = up();
    ledger.report(0, &Facts { users: Some(100), ..Facts::default() }, 10);
    assert_eq!(ledger.state().0, ServerState::Available, "no limit, never MAXUSERS");
    ledger.report(0, &Facts { max_users: Some(100), ..Facts::default() }, 11);
    assert_eq!(ledger.state().0, ServerState::MaxUsers);
}

fn said(administrative: Option<Administrative>, operational: Option<Operational>) -> Facts {
    Facts { administrative, operational, ..Facts::default() }
}

#[test]
fn the_agents_down_and_cap_lapse_with_its_silence_and_an_administrators_words_stay() {
    let mut ledger = up();
    let down = said(None, Some(Operational::Down("ended".into())));
    ledger.report(0, &Facts { max_connections: Some(1), ..down }, 10);
    assert_eq!(ledger.standing(10).max_connections, 1);
    assert_eq!(ledger.tick(60_011).unwrap().new, ServerState::Available, "silence never makes a server dead");
    assert_eq!(ledger.standing(60_011).max_connections, 0);
    let words = [
        (Administrative::Drain, ServerState::Restricted, 100_000),
        (Administrative::Maint, ServerState::Unreachable, 300_000),
    ];
    for (word, state, at) in words {
        ledger.report(0, &said(Some(word), None), at);
        assert!(!ledger.restriction_stale(at));
        ledger.tick(at + 100_000);
        assert_eq!(ledger.state().0, state);
        assert!(ledger.restriction_stale(at + 100_000), "{word:?}");
    }
}

#[test]
fn restricted_is_read_anew_while_the_stamp_stands_and_is_shown_as_stale_then() {
    let mut ledger = up();
    let facts = Facts { restricted: Some(false), updated_at: Some(1_000.0), ..Facts::default() };
    ledger.report(0, &facts, 10);
    let facts = Facts { restricted: Some(true), ..facts };
    assert_eq!(ledger.report(0, &facts, 50_000).unwrap().new, ServerState::Restricted);
    assert!(!ledger.restriction_stale(50_000));
    ledger.report(0, &facts, 61_000);
    assert!(ledger.restriction_stale(61_000), "the exporter answers, Domino no longer writes");
    assert_eq!(ledger.state().0, ServerState::Restricted);
}

#[test]
fn an_old_word_of_a_frozen_exporter_does_not_overrule_a_fresh_one() {
    let mut ledger = up();
    let frozen = Facts { restricted: Some(false), updated_at: Some(1_000.0), ..Facts::default() };
    ledger.report(1, &frozen, 10);
    ledger.report(0, &Facts { restricted: Some(true), ..Facts::default() }, 20_000);
    assert!(ledger.report(1, &frozen, 20_100).is_none());
    assert_eq!(ledger.state().0, ServerState::Restricted);
}

#[test]
fn a_reload_keeps_what_a_source_said_wherever_it_stands_now_and_forgets_a_source_that_is_gone() {
    let mut ledger = up();
    ledger.report(0, &index(70), 10);
    ledger.report(1, &Facts { restricted: Some(true), ..Facts::default() }, 11);
    let turned = sources(["agent_check", "prometheus", "console"]);
    assert!(ledger.reconfigure(settings(), &turned, 12).is_none());
    assert_eq!((ledger.standing(12).raw_index, ledger.state().0), (Some(70), ServerState::Restricted));
    // The console is the third now, and still the one that said 70.
    ledger.report(2, &index(60), 13);
    assert_eq!(ledger.standing(13).raw_index, Some(60));
    let change = ledger.reconfigure(settings(), &sources(["console"]), 14).unwrap();
    assert_eq!(change.new, ServerState::Available, "nobody could take its RESTRICTED back");
    assert_eq!(ledger.standing(14).raw_index, Some(60));
    ledger.reconfigure(settings(), &sources(["agent_check"]), 15);
    assert_eq!((ledger.standing(15).raw_index, ledger.standing(15).index), (None, None));
    ledger.report(0, &said(None, Some(Operational::Down(String::new()))), 16);
    assert_eq!(ledger.state().0, ServerState::Unreachable);
    assert_eq!(ledger.reconfigure(settings(), &[], 17).unwrap().new, ServerState::Available);
}

#[test]
fn only_the_ports_that_requests_go_to_decide_whether_it_is_unreachable() {
    let https_only = Settings { https: true, uses_http: false, ..settings() };
    let mut ledger = Ledger::new(https_only, &[], 0);
    ledger.probed(Port::Https, Err("refused"), 1);
    ledger.probed(Port::Http, Ok(200), 2);
    assert_eq!(ledger.state().0, ServerState::Unreachable);
    assert!(ledger.state().2.contains("HTTPS probe failed: refused"), "{}", ledger.state().2);
    ledger.probed(Port::Https, Ok(200), 3);
    assert!(ledger.probed(Port::Https, Ok(200), 4).is_some());
    for now in 5..9 {
        assert!(ledger.probed(Port::Http, Err("refused"), now).is_none());
    }
    assert_eq!(ledger.state().0, ServerState::Available);
    let without = Settings { https: false, uses_http: false, ..settings() };
    let mut ledger = Ledger::new(without, &[], 0);
    ledger.probed(Port::Http, Ok(200), 1);
    assert_eq!((ledger.state().0, ledger.state().2), (ServerState::Unreachable, "it has no HTTPS port"));
}

#[test]
fn a_threshold_that_its_source_no_longer_repeats_lapses_and_the_configured_one_does_not() {
    let mut ledger = up();
    ledger.report(0, &Facts { threshold: Some(90), ..Facts::default() }, 10);
    ledger.report(1, &index(50), 50_000);
    assert_eq!(ledger.state().0, ServerState::Busy);
    assert_eq!(ledger.tick(60_011).unwrap().new, ServerState::Available);
    let own = Settings { threshold: Some(90), ..settings() };
    let both = sources(["console", "prometheus"]);
    assert_eq!(ledger.reconfigure(own, &both, 60_012).unwrap().new, ServerState::Busy);
}

#[test]
fn threshold_hundred_is_busy_also_without_an_index_and_a_published_one_lapses_with_its_source() {
    let always = Settings { threshold: Some(100), ..settings() };
    let mut ledger = Ledger::new(always, &[], 0);
    let change = ledger.probed(Port::Http, Ok(200), 1).unwrap();
    assert_eq!((change.new, ledger.standing(1).busy), (ServerState::Busy, true));
    assert!(change.cause.contains("threshold 100"), "{}", change.cause);
    assert_eq!(ledger.reconfigure(settings(), &[], 2).unwrap().new, ServerState::Available);
    let mut ledger = up();
    ledger.report(0, &Facts { threshold: Some(100), ..Facts::default() }, 10);
    assert_eq!(ledger.state().0, ServerState::Busy);
    assert_eq!(ledger.tick(60_011).unwrap().new, ServerState::Available);
}

#[test]
fn a_published_rise_after_busy_ranks_at_once() {
    let mut ledger = up();
    for now in 1..6 {
        ledger.report(0, &Facts { index: Some(10), threshold: Some(20), ..Facts::default() }, now * 15_000);
    }
    assert_eq!(ledger.state().0, ServerState::Busy);
    assert_eq!(ledger.report(0, &index(95), 90_000).unwrap().new, ServerState::Available);
    assert_eq!(ledger.standing(90_000).index, Some(95.0));
}

proptest! {
    #[test]
    fn transitions_chain_without_a_gap(steps in proptest::collection::vec((0u8..8, 0u8..=100), 1..120)) {
        let mut ledger = Ledger::new(settings(), &[Source { kind: "console", stale_after_ms: 500 }], 0);
        let mut seen = ServerState::Unreachable;
        for (i, (kind, value)) in steps.into_iter().enumerate() {
            let now = i as u64 * 100;
            let change = match kind {
                0 => ledger.probed(Port::Http, Ok(200), now),
                1 => ledger.probed(Port::Http, Err("x"), now),
                2 => ledger.passive_failure(Port::Http, "x", now),
                3 => ledger.report(0, &Facts { index: Some(value), threshold: Some(50), ..Facts::default() }, now),
                4 => ledger.report(0, &Facts { restricted: Some(value > 50), ..Facts::default() }, now),
                5 => ledger.restrict((value > 50).then(|| Restriction { since_unix_ms: 0, by: "a".into(), at: None }), now),
                6 => { ledger.passive_success(Port::Http); None }
                _ => ledger.tick(now),
            };
            if let Some(change) = change {
                prop_assert_eq!(change.old, seen);
                prop_assert_ne!(change.old, change.new);
                seen = change.new;
            }
            prop_assert_eq!(ledger.state().0, seen);
            if kind != 6 {
                prop_assert_eq!(ledger.standing(now).state, seen);
            }
        }
    }
}

//! Servers of other sites.

use super::*;

const ALL_RULES: [CrossSites; 3] = [CrossSites::WhenUnavailable, CrossSites::WhenBusy, CrossSites::Never];

fn far(id: ServerId, change: impl FnOnce(&mut ServerSnapshot)) -> Candidate {
    Candidate { of_other_site: true, ..server(id, change) }
}

fn near(id: ServerId, change: impl FnOnce(&mut ServerSnapshot)) -> Candidate {
    server(id, change)
}

fn with_rule(cross_sites: CrossSites) -> SelectionPolicy {
    SelectionPolicy { cross_sites, ..POLICY }
}

fn decided(servers: &[Candidate], cross_sites: CrossSites) -> Decision {
    decide(&without_affinity(servers), &with_rule(cross_sites))
}

#[test]
fn the_own_site_serves_whatever_the_load() {
    let servers = [near(0, |v| v.index = Some(1.0)), far(1, |v| v.index = Some(100.0))];
    for rule in ALL_RULES {
        assert_eq!(chosen_servers(&without_affinity(&servers), &with_rule(rule)), [0], "{rule:?}");
        let expected = match rule {
            CrossSites::Never => CandidateVerdict::OtherSiteExcluded,
            _ => CandidateVerdict::OtherSite,
        };
        assert_eq!(decided(&servers, rule).verdict(1), Some(expected));
    }
}

#[test]
fn another_site_serves_when_none_of_the_own_one_may_and_never_only_if_that_is_forbidden() {
    let gone: [fn(&mut ServerSnapshot); 2] = [|v| v.http = false, |v| v.restricted_since_ms = Some(1)];
    for change in gone {
        let servers = [near(0, change), far(1, |_| {})];
        for rule in [CrossSites::WhenUnavailable, CrossSites::WhenBusy] {
            let expected = SelectionOutcome::Serve(1, SelectionReason::OtherSite);
            assert_eq!(decided(&servers, rule).outcome, expected, "{rule:?}");
        }
        assert_eq!(decided(&servers, CrossSites::Never).outcome, SelectionOutcome::NoServer);
    }
    let busy = [near(0, |v| v.http = false), far(1, |v| v.busy = true)];
    let expected = SelectionOutcome::Serve(1, SelectionReason::SetAside);
    assert_eq!(decided(&busy, CrossSites::WhenUnavailable).outcome, expected);
}

#[test]
fn a_server_of_the_own_site_that_is_set_aside_serves_unless_busy_is_a_reason_to_cross() {
    let changes: [fn(&mut ServerSnapshot); 3] =
        [|v| v.busy = true, |v| v.max_users = true, |v| v.catching_up_since_unix_ms = Some(1)];
    for change in changes {
        let servers = [near(0, change), far(1, |_| {})];
        let stays = SelectionOutcome::Serve(0, SelectionReason::SetAside);
        assert_eq!(decided(&servers, CrossSites::WhenUnavailable).outcome, stays);
        assert_eq!(decided(&servers, CrossSites::Never).outcome, stays);
        let crosses = SelectionOutcome::Serve(1, SelectionReason::OtherSite);
        assert_eq!(decided(&servers, CrossSites::WhenBusy).outcome, crosses);
        let both = [near(0, change), far(1, |v| v.busy = true)];
        assert_eq!(decided(&both, CrossSites::WhenBusy).chosen(), Some(0), "both are set aside");
    }
    let mut behind = near(0, |_| {});
    behind.freshness.behind_since_unix_ms = Some(1);
    let servers = [behind, far(1, |_| {})];
    assert_eq!(decided(&servers, CrossSites::WhenUnavailable).chosen(), Some(0));
    assert_eq!(decided(&servers, CrossSites::WhenBusy).chosen(), Some(1));
}

#[test]
fn users_of_a_server_of_another_site_stay_there_and_their_other_databases_come_home() {
    let servers = [near(0, |_| {}), far(1, |v| v.busy = true)];
    for rule in ALL_RULES {
        let decided = |input: SelectionInput<'_>| decide(&input, &with_rule(rule)).outcome;
        let entry = SelectionInput { entry: Some(1), ..without_affinity(&servers) };
        assert_eq!(decided(entry), SelectionOutcome::Serve(1, SelectionReason::Entry));
        let hint = SelectionInput { hint: Some((1, Hint::Referer)), ..without_affinity(&servers) };
        assert_eq!(decided(hint), SelectionOutcome::Serve(1, SelectionReason::Hint(Hint::Referer)));
        let recent = SelectionInput { recent: Some(1), sessions: &[1], ..without_affinity(&servers) };
        assert_eq!(decided(recent), SelectionOutcome::Serve(0, SelectionReason::Lightest));
        let wrote = SelectionInput { written_on: Some(1), ..without_affinity(&servers) };
        assert_eq!(decided(wrote), SelectionOutcome::Serve(1, SelectionReason::OwnWrite));
    }
}

#[test]
fn who_has_crossed_meets_the_same_server_for_other_databases_too() {
    let servers = [near(0, |v| v.http = false), far(1, |_| {}), far(2, |_| {})];
    let input = SelectionInput { recent: Some(2), ..without_affinity(&servers) };
    let policy = with_rule(CrossSites::WhenUnavailable);
    assert_eq!(chosen_servers(&input, &policy), [2]);
    let input = SelectionInput { recent: None, sessions: &[1], ..input };
    assert_eq!(chosen_servers(&input, &policy), [1]);
}

#[test]
fn a_replica_with_the_own_write_serves_before_one_of_the_own_site_that_lacks_it() {
    let with = |mut candidate: Candidate, own_write| {
        candidate.freshness.own_write = own_write;
        candidate
    };
    let servers = [
        near(0, |v| v.http = false),
        with(near(1, |_| {}), OwnWrite::Missing),
        with(far(2, |_| {}), OwnWrite::Included),
    ];
    let input = SelectionInput { written_on: Some(0), ..without_affinity(&servers) };
    assert_eq!(decide(&input, &with_rule(CrossSites::WhenUnavailable)).chosen(), Some(2));
    assert_eq!(decide(&input, &with_rule(CrossSites::Never)).chosen(), Some(1));
}

#[test]
fn the_last_resort_is_a_server_of_the_own_site() {
    let servers = [far(0, |v| v.http = false), near(1, |v| v.http = false)];
    for rule in ALL_RULES {
        let policy = SelectionPolicy { try_unreachable: true, ..with_rule(rule) };
        assert_eq!(chosen_servers(&without_affinity(&servers), &policy), [1]);
        let alone = decide(&without_affinity(&servers[..1]), &policy).chosen();
        assert_eq!(alone, (rule != CrossSites::Never).then_some(0), "{rule:?}");
    }
}

#[test]
fn a_request_does_not_wait_for_a_server_of_a_site_that_it_may_not_use() {
    let policy = SelectionPolicy { max_in_flight: 5, ..with_rule(CrossSites::Never) };
    let servers = [near(0, |v| v.http = false), far(1, |v| v.in_flight = 5)];
    assert_eq!(decide(&without_affinity(&servers), &policy).outcome, SelectionOutcome::NoServer);
}

proptest! {
    #[test]
    fn no_newcomer_crosses_while_the_own_site_can_serve_him(
        mut servers in proptest::collection::vec(any_candidate(), 1..12),
        recent in proptest::option::of(0u16..12),
        sessions in proptest::collection::vec(0u16..12, 0..3),
        tried in proptest::collection::vec(0u16..12, 0..4),
        cross_sites in any_rule(),
        seed: u64,
    ) {
        for (at, server) in servers.iter_mut().enumerate() {
            server.server = at as u16;
        }
        let input = SelectionInput { recent, sessions: &sessions, tried: &tried, seed, ..without_affinity(&servers) };
        let policy = SelectionPolicy { slow_start_ms: 5_000, ..with_rule(cross_sites) };
        let decision = decide(&input, &policy);
        let eligible = || servers.iter().filter(|server| is_eligible(server, &input, &policy));
        let crosses = decision.chosen().is_some_and(|chosen| servers[usize::from(chosen)].of_other_site);
        let is_good = |server: &Candidate| {
            let Candidate { snapshot, freshness, .. } = server;
            let is_gated = snapshot.catching_up_since_unix_ms.is_some() && !freshness.shown_fresh;
            let is_behind = freshness.behind_since_unix_ms.is_some() && !sessions.contains(&server.server);
            !snapshot.busy && !snapshot.max_users && !is_gated && !is_behind
        };
        match cross_sites {
            CrossSites::Never => prop_assert!(!crosses),
            CrossSites::WhenUnavailable => {
                prop_assert!(!crosses || eligible().all(|server| server.of_other_site));
            }
            CrossSites::WhenBusy => {
                prop_assert!(!crosses || !eligible().any(|server| !server.of_other_site && is_good(server)));
                // Nothing is gained by a server that is set aside as well.
                let stays = eligible().any(|server| !server.of_other_site);
                let chosen = decision.chosen().map(|chosen| &servers[usize::from(chosen)]);
                prop_assert!(!crosses || !stays || chosen.is_some_and(is_good));
            }
        }
    }

    #[test]
    fn servers_without_other_sites_are_chosen_as_if_there_were_no_rule(
        mut servers in proptest::collection::vec(any_candidate(), 0..12),
        [entry, recent, written_on] in [0u16..28, 0u16..28, 0u16..28].prop_map(|all| all.map(|s| (s < 14).then_some(s))),
        seed: u64,
    ) {
        for (at, server) in servers.iter_mut().enumerate() {
            (server.server, server.of_other_site) = (at as u16, false);
        }
        let input = SelectionInput { entry, recent, written_on, seed, ..without_affinity(&servers) };
        let [first, second, third] = ALL_RULES.map(|rule| decide(&input, &with_rule(rule)));
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(&first, &third);
    }
}

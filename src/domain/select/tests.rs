//! One test for each rule, and properties over random clusters.

use crate::domain::cluster::Port;
use proptest::prelude::*;

use super::*;
use crate::domain::cluster::ServerSnapshot;

mod freshness;
mod sites;

const POLICY: SelectionPolicy = SelectionPolicy {
    drain_timeout_ms: 1_000,
    slow_start_ms: 0,
    max_in_flight: 0,
    try_unreachable: false,
    cross_sites: CrossSites::WhenUnavailable,
    transinfo_range: 6,
};

fn idle_server() -> ServerSnapshot {
    ServerSnapshot {
        http: true,
        https: true,
        restricted_since_ms: None,
        closed: false,
        busy: false,
        max_users: false,
        catching_up_since_unix_ms: None,
        index: Some(80.0),
        in_flight: 0,
        in_flight_then: 0.0,
        noise: 0.0,
        weight: 1,
        max_connections: 0,
        returned_at_ms: None,
        failing: 0.0,
    }
}

fn server(server: ServerId, change: impl FnOnce(&mut ServerSnapshot)) -> Candidate {
    let mut snapshot = idle_server();
    change(&mut snapshot);
    Candidate {
        server,
        status: ReplicaStatus::InService,
        snapshot,
        freshness: CandidateFreshness::default(),
        of_other_site: false,
    }
}

fn without_affinity(candidates: &[Candidate]) -> SelectionInput<'_> {
    SelectionInput::without_affinity(candidates, Port::Http, 10_000, 7)
}

/// The servers chosen over many draws, sorted.
fn chosen_servers(input: &SelectionInput<'_>, policy: &SelectionPolicy) -> Vec<ServerId> {
    let mut all: Vec<ServerId> =
        (0..400).filter_map(|seed| decide(&SelectionInput { seed, ..*input }, policy).chosen()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn unreachable_servers_are_eliminated() {
    let servers = [server(0, |v| v.http = false), server(1, |_| {})];
    let decision = decide(&without_affinity(&servers), &POLICY);
    assert_eq!(decision.outcome, SelectionOutcome::Serve(1, SelectionReason::Lightest));
    assert_eq!(decision.verdict(0), Some(CandidateVerdict::Unreachable));
}

#[test]
fn restricted_servers_are_eliminated_even_if_no_other_is_left() {
    let servers = [server(0, |v| v.restricted_since_ms = Some(1))];
    let decision = decide(&without_affinity(&servers), &POLICY);
    assert_eq!(decision.outcome, SelectionOutcome::NoServer);
    assert_eq!(decision.verdict(0), Some(CandidateVerdict::Restricted));
}

#[test]
fn busy_and_maxusers_serve_only_if_no_other_is_left() {
    let servers =
        [server(0, |v| v.busy = true), server(1, |v| v.max_users = true), server(2, |v| v.index = Some(1.0))];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [2]);
    let decision = decide(&without_affinity(&servers[..2]), &POLICY);
    assert!(
        matches!(decision.outcome, SelectionOutcome::Serve(_, SelectionReason::SetAside)),
        "{decision:?}"
    );
}

#[test]
fn maxusers_may_serve_when_it_is_alone() {
    let servers = [server(3, |v| v.max_users = true)];
    assert_eq!(
        decide(&without_affinity(&servers), &POLICY).outcome,
        SelectionOutcome::Serve(3, SelectionReason::SetAside)
    );
}

#[test]
fn the_lightest_of_the_servers_set_aside_serves() {
    let servers = [
        server(0, |v| (v.busy, v.index) = (true, Some(5.0))),
        server(1, |v| (v.busy, v.index) = (true, Some(20.0))),
    ];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [1]);
}

#[test]
fn the_lightest_workload_wins() {
    let servers = [
        server(0, |v| v.index = Some(60.0)),
        server(1, |v| v.index = Some(80.0)),
        server(2, |v| v.index = Some(70.0)),
    ];
    let decision = decide(&without_affinity(&servers), &POLICY);
    assert_eq!(decision.outcome, SelectionOutcome::Serve(1, SelectionReason::Lightest));
    assert_eq!(decision.verdict(0), Some(CandidateVerdict::Heavier(60.0)));
    assert_eq!(decision.verdict(1), Some(CandidateVerdict::Chosen(Some(80.0))));
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [1]);
}

#[test]
fn servers_within_the_band_are_equal_and_both_serve() {
    let servers = [server(0, |v| v.index = Some(79.0)), server(1, |v| v.index = Some(80.0))];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [0, 1]);
    let lighter = [server(0, |v| v.index = Some(78.9)), server(1, |v| v.index = Some(80.0))];
    assert_eq!(chosen_servers(&without_affinity(&lighter), &POLICY), [1]);
    let decision = decide(&without_affinity(&servers), &POLICY);
    assert!(decision.verdicts.iter().any(|(_, v)| matches!(v, CandidateVerdict::Equal(_))));
}

#[test]
fn out_of_service_and_pending_delete_serve_only_users_inside() {
    for (status, verdict) in [
        (ReplicaStatus::OutOfService, CandidateVerdict::OutOfService),
        (ReplicaStatus::PendingDelete, CandidateVerdict::PendingDelete),
    ] {
        let servers = [
            Candidate { status, ..server(0, |v| v.index = Some(100.0)) },
            server(1, |v| v.index = Some(1.0)),
        ];
        let decision = decide(&without_affinity(&servers), &POLICY);
        assert_eq!(decision.chosen(), Some(1));
        assert_eq!(decision.verdict(0), Some(verdict));
        let inside = SelectionInput { entry: Some(0), ..without_affinity(&servers) };
        assert_eq!(decide(&inside, &POLICY).outcome, SelectionOutcome::Serve(0, SelectionReason::Entry));
        let only_recent = SelectionInput { recent: Some(0), ..without_affinity(&servers) };
        assert_eq!(
            decide(&only_recent, &POLICY).chosen(),
            Some(1),
            "an entry for another database does not count"
        );
    }
}

#[test]
fn a_database_that_is_out_of_service_everywhere_has_its_own_outcome() {
    let servers = [Candidate { status: ReplicaStatus::OutOfService, ..server(0, |_| {}) }];
    assert_eq!(decide(&without_affinity(&servers), &POLICY).outcome, SelectionOutcome::OutOfService);
}

#[test]
fn http_clients_need_the_http_port_and_https_clients_the_https_port() {
    let servers = [server(0, |v| v.https = false), server(1, |v| v.http = false)];
    assert_eq!(decide(&without_affinity(&servers), &POLICY).chosen(), Some(0));
    assert_eq!(
        decide(&SelectionInput { port: Port::Https, ..without_affinity(&servers) }, &POLICY).chosen(),
        Some(1)
    );
}

#[test]
fn tried_servers_are_not_tried_again() {
    let servers = [server(0, |_| {}), server(1, |_| {})];
    assert_eq!(chosen_servers(&SelectionInput { tried: &[0], ..without_affinity(&servers) }, &POLICY), [1]);
    assert_eq!(
        decide(&SelectionInput { tried: &[0, 1], ..without_affinity(&servers) }, &POLICY).outcome,
        SelectionOutcome::NoServer
    );
}

#[test]
fn a_user_stays_on_a_busy_server_and_leaves_an_unreachable_one() {
    let servers = [server(0, |v| v.busy = true), server(1, |_| {})];
    assert_eq!(
        decide(&SelectionInput { entry: Some(0), ..without_affinity(&servers) }, &POLICY).outcome,
        SelectionOutcome::Serve(0, SelectionReason::Entry)
    );
    let servers = [server(0, |v| v.http = false), server(1, |_| {})];
    assert_eq!(
        decide(&SelectionInput { entry: Some(0), ..without_affinity(&servers) }, &POLICY).chosen(),
        Some(1)
    );
}

#[test]
fn a_user_stays_on_a_restricted_server_until_the_drain_timeout() {
    let servers = [server(0, |v| v.restricted_since_ms = Some(9_500)), server(1, |_| {})];
    let inside = SelectionInput { entry: Some(0), ..without_affinity(&servers) };
    assert_eq!(decide(&inside, &POLICY).chosen(), Some(0));
    assert_eq!(decide(&SelectionInput { now_ms: 10_500, ..inside }, &POLICY).chosen(), Some(1));
}

#[test]
fn no_user_returns_to_a_server_that_is_restricted_for_everyone() {
    let closed = |v: &mut ServerSnapshot| (v.restricted_since_ms, v.closed) = (Some(9_500), true);
    let servers = [server(0, closed), server(1, |_| {})];
    let inside = SelectionInput { entry: Some(0), sessions: &[0], ..without_affinity(&servers) };
    assert_eq!(decide(&inside, &POLICY).chosen(), Some(1));
    let alone = [server(0, closed)];
    assert_eq!(decide(&SelectionInput { candidates: &alone, ..inside }, &POLICY).chosen(), None);
}

#[test]
fn the_most_recent_server_takes_a_first_request_for_another_database_unless_set_aside() {
    let servers = [server(0, |v| v.index = Some(10.0)), server(1, |v| v.index = Some(90.0))];
    let input = SelectionInput { recent: Some(0), ..without_affinity(&servers) };
    assert_eq!(decide(&input, &POLICY).outcome, SelectionOutcome::Serve(0, SelectionReason::Recent));
    let servers = [server(0, |v| v.busy = true), server(1, |_| {})];
    assert_eq!(
        decide(&SelectionInput { recent: Some(0), ..without_affinity(&servers) }, &POLICY).chosen(),
        Some(1)
    );
}

#[test]
fn a_server_with_a_session_comes_before_the_lightest_and_after_the_most_recent() {
    let servers = [server(0, |_| {}), server(1, |_| {}), server(2, |_| {})];
    let input = SelectionInput { sessions: &[7, 1, 2], ..without_affinity(&servers) };
    assert_eq!(decide(&input, &POLICY).outcome, SelectionOutcome::Serve(1, SelectionReason::Session));
    let input = SelectionInput { recent: Some(0), ..input };
    assert_eq!(decide(&input, &POLICY).outcome, SelectionOutcome::Serve(0, SelectionReason::Recent));
    let input = SelectionInput { recent: None, tried: &[1], ..input };
    assert_eq!(decide(&input, &POLICY).outcome, SelectionOutcome::Serve(2, SelectionReason::Session));
}

#[test]
fn a_login_form_returns_to_the_server_that_showed_it() {
    let servers = [server(0, |v| v.busy = true), server(1, |_| {}), server(2, |_| {})];
    let input =
        SelectionInput { hint: Some((0, Hint::RedirectTo)), recent: Some(2), ..without_affinity(&servers) };
    assert_eq!(
        decide(&input, &POLICY).outcome,
        SelectionOutcome::Serve(0, SelectionReason::Hint(Hint::RedirectTo))
    );
}

#[test]
fn a_note_id_is_served_only_by_the_users_server() {
    let servers = [server(0, |v| v.http = false), server(1, |_| {})];
    let input = SelectionInput { entry: Some(0), note_id: true, ..without_affinity(&servers) };
    assert_eq!(decide(&input, &POLICY).outcome, SelectionOutcome::NoteIdServerGone);
    let newcomer = SelectionInput { entry: None, ..input };
    assert_eq!(decide(&newcomer, &POLICY).chosen(), Some(1));
}

#[test]
fn requests_sent_since_the_report_correct_the_index() {
    let servers =
        [server(0, |v| (v.index, v.in_flight) = (Some(90.0), 40)), server(1, |v| v.index = Some(70.0))];
    assert_eq!(
        chosen_servers(&without_affinity(&servers), &POLICY),
        [1],
        "forty requests later it is no longer the best"
    );
    let servers = [
        server(0, |v| (v.index, v.in_flight, v.in_flight_then) = (Some(90.0), 40, 40.0)),
        server(1, |v| v.index = Some(70.0)),
    ];
    assert_eq!(
        chosen_servers(&without_affinity(&servers), &POLICY),
        [0],
        "the index already covers what was in flight at the report"
    );
}

#[test]
fn servers_whose_indexes_differ_by_less_than_the_noise_of_both_are_equal() {
    let two = |noise: f32, other: f32| {
        [
            server(0, |v| (v.index, v.noise) = (Some(100.0), noise)),
            server(1, |v| (v.index, v.noise) = (Some(95.3), other)),
        ]
    };
    assert_eq!(chosen_servers(&without_affinity(&two(8.1, 6.4)), &POLICY), [0, 1], "5 ms and 6.5 ms");
    assert_eq!(
        chosen_servers(&without_affinity(&two(0.0, 6.4)), &POLICY),
        [0],
        "the better one is known exactly"
    );
    assert_eq!(
        chosen_servers(&without_affinity(&two(8.1, 0.0)), &POLICY),
        [0],
        "the other one is known exactly"
    );
    assert_eq!(chosen_servers(&without_affinity(&two(8.1, 4.0)), &POLICY), [0], "they differ by more");
    let [fast, mut failing] = two(8.1, 6.4);
    failing.snapshot.failing = 0.02;
    assert_eq!(
        chosen_servers(&without_affinity(&[fast, failing]), &POLICY),
        [0],
        "noise does not offset failures"
    );
}

#[test]
fn a_server_that_fails_fast_does_not_look_idle() {
    let servers = [server(0, |v| v.failing = 0.2), server(1, |v| v.index = Some(70.0))];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [1]);
    assert_eq!(
        chosen_servers(&without_affinity(&servers[..1]), &POLICY),
        [0],
        "it serves if no other server is left"
    );
}

#[test]
fn an_unknown_index_is_neutral() {
    let servers = [server(0, |v| v.index = None), server(1, |v| v.index = Some(40.0))];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [0, 1]);
}

#[test]
fn weights_share_idle_servers_in_proportion() {
    let servers = [server(0, |v| v.weight = 1), server(1, |v| v.weight = 4)];
    let heavy = (0..10_000)
        .filter(|seed| {
            decide(&SelectionInput { seed: *seed, ..without_affinity(&servers) }, &POLICY).chosen() == Some(1)
        })
        .count();
    assert!((7_600..8_400).contains(&heavy), "{heavy}");
}

#[test]
fn among_equals_fewer_requests_in_flight_per_weight_win() {
    let servers = [
        server(0, |v| (v.in_flight, v.in_flight_then) = (2, 2.0)),
        server(1, |v| (v.in_flight, v.in_flight_then, v.weight) = (3, 3.0, 4)),
    ];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [1]);
}

#[test]
fn a_server_that_returns_starts_slowly() {
    let policy = SelectionPolicy { slow_start_ms: 1_000, ..POLICY };
    let servers = [
        server(0, |v| (v.returned_at_ms, v.index) = (Some(9_800), Some(100.0))),
        server(1, |v| v.index = Some(50.0)),
    ];
    let share = (0..10_000)
        .filter(|seed| {
            decide(&SelectionInput { seed: *seed, ..without_affinity(&servers) }, &policy).chosen() == Some(0)
        })
        .count();
    assert!((1_700..2_300).contains(&share), "a fifth of the ramp: {share}");
    // Among two equals it gets a fifth of its half.
    let equals = [server(0, |v| v.returned_at_ms = Some(9_800)), server(1, |_| {})];
    let share = (0..10_000)
        .filter(|seed| {
            decide(&SelectionInput { seed: *seed, ..without_affinity(&equals) }, &policy).chosen() == Some(0)
        })
        .count();
    assert!((850..1_150).contains(&share), "a tenth: {share}");
    let alone = decide(&without_affinity(&servers[..1]), &policy);
    assert_eq!(alone.chosen(), Some(0));
}

#[test]
fn a_request_waits_only_if_no_other_server_can_replace_a_full_one() {
    let policy = SelectionPolicy { max_in_flight: 5, ..POLICY };
    let servers = [server(0, |v| v.in_flight = 5), server(1, |v| v.busy = true)];
    assert_eq!(decide(&without_affinity(&servers), &policy).chosen(), Some(1));
    let decision = decide(&without_affinity(&servers[..1]), &policy);
    assert_eq!(decision.outcome, SelectionOutcome::Full);
    let limited = [server(0, |v| (v.in_flight, v.max_connections) = (2, 2))];
    assert_eq!(
        decide(&without_affinity(&limited), &POLICY).outcome,
        SelectionOutcome::Full,
        "maxconn of agent-check limits as well"
    );
}

#[test]
fn the_last_resort_tries_unreachable_holders_but_never_restricted_ones() {
    let policy = SelectionPolicy { try_unreachable: true, ..POLICY };
    let servers = [server(0, |v| v.http = false), server(1, |v| v.restricted_since_ms = Some(1))];
    assert_eq!(
        decide(&without_affinity(&servers), &policy).outcome,
        SelectionOutcome::Serve(0, SelectionReason::LastResort)
    );
    assert_eq!(decide(&without_affinity(&servers[1..]), &policy).outcome, SelectionOutcome::NoServer);
}

#[test]
fn verdicts_come_in_the_order_of_elimination_with_the_chosen_last() {
    let servers = [server(0, |_| {}), server(1, |v| v.busy = true), server(2, |v| v.http = false)];
    let decision = decide(&without_affinity(&servers), &POLICY);
    assert_eq!(decision.verdicts.len(), 3);
    assert_eq!(decision.verdicts.last().unwrap().0, 0);
}

fn any_rule() -> impl Strategy<Value = CrossSites> {
    (0usize..3).prop_map(|at| [CrossSites::WhenUnavailable, CrossSites::WhenBusy, CrossSites::Never][at])
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    (
        any::<[bool; 6]>(),
        0u8..3,
        proptest::option::of(0u64..20_000),
        proptest::option::of(0f32..100.0),
        0u32..50,
        1u32..10,
        proptest::option::of(0u64..10_000),
        (any::<bool>(), 0u8..3, any::<bool>()),
    )
        .prop_map(
            |(
                [http, https, busy, max_users, catching_up, behind],
                status,
                restricted_since_ms,
                index,
                in_flight,
                weight,
                returned_at_ms,
                (shown_fresh, own_write, of_other_site),
            )| Candidate {
                server: 0,
                status: [ReplicaStatus::InService, ReplicaStatus::OutOfService, ReplicaStatus::PendingDelete]
                    [usize::from(status)],
                snapshot: ServerSnapshot {
                    http,
                    https,
                    restricted_since_ms,
                    closed: false,
                    busy,
                    max_users,
                    catching_up_since_unix_ms: catching_up.then_some(1),
                    index,
                    in_flight,
                    in_flight_then: 0.0,
                    noise: 0.0,
                    weight,
                    max_connections: 0,
                    returned_at_ms,
                    failing: 0.0,
                },
                freshness: CandidateFreshness {
                    behind_since_unix_ms: behind.then_some(1),
                    shown_fresh,
                    own_write: [OwnWrite::Included, OwnWrite::Unknown, OwnWrite::Missing]
                        [usize::from(own_write)],
                },
                of_other_site,
            },
        )
}

/// How far a candidate is set aside, by a rule written apart from that of the module: the own write, then the site, then a
/// replica that is behind, then the state of the server.
fn set_aside(
    candidate: &Candidate,
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
) -> (OwnWrite, u8, (bool, u8)) {
    let inside = input.entry == Some(candidate.server);
    let wrote_here = input.written_on == Some(candidate.server);
    let Candidate { snapshot, freshness, .. } = candidate;
    let own_write =
        if wrote_here || input.written_on.is_none() { OwnWrite::Included } else { freshness.own_write };
    let may_enter = freshness.shown_fresh || wrote_here || (inside && input.posts_login_form);
    let is_gated = snapshot.catching_up_since_unix_ms.is_some() && !may_enter;
    let state = match () {
        () if is_gated => 2,
        () if inside || wrote_here => 0,
        () => u8::from(snapshot.busy || snapshot.max_users),
    };
    let condition = (!inside && !wrote_here && freshness.behind_since_unix_ms.is_some(), state);
    let far = u8::from(candidate.of_other_site && !inside && !wrote_here);
    let site = match policy.cross_sites {
        CrossSites::WhenBusy if condition > (false, 0) => 2 + far,
        _ => far,
    };
    (own_write, site, condition)
}

fn is_eligible(candidate: &Candidate, input: &SelectionInput<'_>, policy: &SelectionPolicy) -> bool {
    let inside = input.entry == Some(candidate.server);
    let belongs_here = inside || input.written_on == Some(candidate.server);
    let is_excluded = policy.cross_sites == CrossSites::Never && candidate.of_other_site && !belongs_here;
    let is_restricted = candidate
        .snapshot
        .restricted_since_ms
        .is_some_and(|since| !inside || input.now_ms.saturating_sub(since) >= POLICY.drain_timeout_ms);
    candidate.snapshot.http
        && (inside || candidate.status == ReplicaStatus::InService)
        && !is_restricted
        && !is_excluded
        && !input.tried.contains(&candidate.server)
}

proptest! {
    #[test]
    fn rules_hold_for_random_clusters(
        mut servers in proptest::collection::vec(any_candidate(), 0..12),
        [entry, recent, written_on] in [0u16..28, 0u16..28, 0u16..28].prop_map(|all| all.map(|s| (s < 14).then_some(s))),
        tried in proptest::collection::vec(0u16..12, 0..4),
        note_id: bool,
        posts_login_form: bool,
        cross_sites in any_rule(),
        seed: u64,
    ) {
        for (i, server) in servers.iter_mut().enumerate() {
            server.server = i as u16;
        }
        let input = SelectionInput {
            entry, recent, written_on, note_id, posts_login_form, tried: &tried, seed, ..without_affinity(&servers)
        };
        let policy = SelectionPolicy { slow_start_ms: 5_000, cross_sites, ..POLICY };
        let decision = decide(&input, &policy);
        prop_assert_eq!(&decision, &decide(&input, &policy), "the same input gives the same decision");
        // No candidate has two verdicts.
        let mut named: Vec<_> = decision.verdicts.iter().map(|(server, _)| *server).collect();
        named.sort_unstable();
        named.dedup();
        prop_assert_eq!(named.len(), decision.verdicts.len());
        let eligible: Vec<_> = servers.iter().filter(|s| is_eligible(s, &input, &policy)).collect();
        let Some(chosen) = decision.chosen() else {
            prop_assert!(decision.outcome != SelectionOutcome::NoServer || eligible.is_empty(),
                "no request is refused while a server can serve it");
            return Ok(());
        };
        prop_assert_eq!(named.len(), servers.len());
        let server = &servers[usize::from(chosen)];
        prop_assert!(is_eligible(server, &input, &policy));
        if entry != Some(chosen) {
            let best = eligible.iter().map(|s| set_aside(s, &input, &policy)).min();
            prop_assert_eq!(Some(set_aside(server, &input, &policy)), best, "a better server serves first");
        } else if !note_id {
            let (_, _, (_, state)) = set_aside(server, &input, &policy);
            let better = eligible.iter().any(|s| set_aside(s, &input, &policy) < set_aside(server, &input, &policy));
            prop_assert!(state == 0 || !better, "no user stays on a server that is set aside");
            let writer_works = eligible.iter().any(|s| written_on == Some(s.server));
            prop_assert!(written_on == Some(chosen) || !writer_works, "the own write is at hand");
        }
    }
}

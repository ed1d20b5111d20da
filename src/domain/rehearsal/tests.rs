//! Tests of the draw, of what selection sees, of the conditions and of the end by errors.

use proptest::prelude::*;

use super::*;
use crate::domain::cluster::{Port, ServerSnapshot, ServerState};
use crate::domain::directory::ReplicaStatus;
use crate::domain::select::{
    CandidateFreshness, CandidateVerdict, CrossSites, SelectionInput, SelectionPolicy, decide,
};

const POLICY: SelectionPolicy = SelectionPolicy {
    drain_timeout_ms: 1_000,
    slow_start_ms: 0,
    max_in_flight: 0,
    try_unreachable: true,
    cross_sites: CrossSites::WhenUnavailable,
    transinfo_range: 6,
};

fn candidate(server: ServerId, up: bool) -> Candidate {
    Candidate {
        server,
        status: ReplicaStatus::InService,
        snapshot: ServerSnapshot {
            http: up,
            https: up,
            restricted_since_ms: None,
            closed: false,
            busy: false,
            max_users: false,
            catching_up_since_unix_ms: None,
            index: Some(90.0),
            noise: 0.0,
            in_flight: 0,
            in_flight_then: 0.0,
            weight: 100,
            max_connections: 0,
            returned_at_ms: None,
            failing: 0.0,
        },
        freshness: CandidateFreshness::default(),
        of_other_site: false,
    }
}

#[test]
fn the_share_has_limits() {
    for percent in [0.1, 5.0, 50.0] {
        assert_eq!(UserShare::from_percent(percent).unwrap().percent(), percent);
    }
    for percent in [0.0, 0.09, -5.0, 50.1, 100.0, f64::NAN, f64::INFINITY] {
        assert_eq!(UserShare::from_percent(percent), None, "{percent}");
    }
}

proptest! {
    #[test]
    fn the_drawn_share_is_near_the_percentage_and_a_user_always_draws_the_same(
        percent in 0.5_f64..50.0,
        rehearsal: u32,
        salt: u64,
    ) {
        let share = UserShare::from_percent(percent).unwrap();
        let users = 4_000_u32;
        let cookie = |user: u32| format!("{salt:x}.{user}");
        let drawn = |user: &u32| {
            let mut hasher = DrawHasher::new(rehearsal, Some([192, 0, 2, 7].into()));
            hasher.add(cookie(*user).as_bytes());
            share.contains(hasher.finish())
        };
        let inside = (0..users).filter(drawn).count();
        prop_assert_eq!(inside, (0..users).filter(drawn).count());
        let expected = f64::from(users) * percent / 100.0;
        let deviation = (expected * (1.0 - percent / 100.0)).sqrt();
        prop_assert!((inside as f64 - expected).abs() < 6.0 * deviation + 1.0, "{inside} of {expected}");
    }

    #[test]
    fn no_user_of_the_share_reaches_the_server_while_another_may_take_over(
        up in proptest::collection::vec(any::<bool>(), 1..6),
        entry in proptest::option::of(0_u16..6),
        note_id: bool,
        seed: u64,
    ) {
        let candidates: Vec<_> = up.iter().zip(0..).map(|(up, server)| candidate(server, *up || server == 0)).collect();
        let ask = |candidates: &[Candidate]| {
            let input = SelectionInput { entry, note_id, ..SelectionInput::without_affinity(candidates, Port::Http, 9, seed) };
            decide(&input, &POLICY)
        };
        let decision = ask(&with_unreachable(&candidates, 0));
        prop_assert_eq!(decision.verdict(0).filter(|_| decision.chosen() != Some(0)),
            (decision.chosen() != Some(0)).then_some(CandidateVerdict::Unreachable));
        let other_is_up = up.iter().skip(1).any(|up| *up);
        // A NoteID means another document elsewhere.
        let is_bound = note_id && entry.is_some();
        prop_assert!(is_taken_over(decision.outcome, 0) || !other_is_up || is_bound);
        if is_taken_over(decision.outcome, 0) {
            prop_assert!(decision.chosen().is_some_and(|chosen| chosen != 0 && up[usize::from(chosen)]));
        }
    }

    #[test]
    fn errors_that_are_no_more_than_those_of_the_others_end_nothing(
        requests in 1_u64..100_000,
        errors in 0_u64..100_000,
        factor in 1_u64..50,
    ) {
        let errors = errors.min(requests);
        let moved = GroupErrors { requests, errors, users: 9, users_with_errors: 9 };
        let stayed = GroupErrors { requests: requests * factor, errors: errors * factor, ..moved };
        prop_assert!(!have_errors_risen(&moved, &stayed));
    }
}

#[test]
fn errors_end_a_rehearsal_if_they_are_several_of_several_users_and_more_than_usual() {
    let group = |requests, errors, users, users_with_errors| GroupErrors {
        requests,
        errors,
        users,
        users_with_errors,
    };
    let stayed = group(10_000, 20, 500, 15);
    assert!(have_errors_risen(&group(5, 5, 5, 5), &stayed), "every request fails");
    assert!(have_errors_risen(&group(5, 5, 5, 5), &GroupErrors::default()), "there is nobody else");
    assert!(have_errors_risen(&group(1_000, 20, 50, 9), &stayed), "ten times as many");
    assert!(!have_errors_risen(&group(4, 4, 4, 4), &stayed), "too few");
    assert!(!have_errors_risen(&group(1_000, 5, 50, 5), &stayed), "2.5 times as many of five is chance");
    let many = group(100_000, 10_000, 900, 400);
    assert!(
        !have_errors_risen(&group(10_000, 1_900, 90, 40), &many),
        "users differ: less than twice as many"
    );
    assert!(have_errors_risen(&group(10_000, 2_100, 90, 40), &many), "more than twice as many");
    assert!(!have_errors_risen(&group(90, 60, 50, 1), &stayed), "one user reloads a broken page");
    assert!(have_errors_risen(&group(90, 60, 1, 1), &stayed), "there is only this user");
    assert!(!have_errors_risen(&group(100, 60, 9, 9), &group(1_000, 600, 90, 90)), "all fail everywhere");
}

/// The limit is checked after every error, so chance has many tries.
#[test]
fn by_chance_hardly_a_rehearsal_ends() {
    for ratio in [1_u64, 19] {
        let mut random = fastrand::Rng::with_seed(19);
        let mut ended = 0;
        for _ in 0..2_000 {
            let mut moved = GroupErrors { users: 200, users_with_errors: 9, ..GroupErrors::default() };
            let mut stayed = moved;
            let ends = (0..2_000).any(|_| {
                moved.requests += 1;
                stayed.requests += ratio;
                stayed.errors += (0..ratio).map(|_| u64::from(random.f64() < 0.02)).sum::<u64>();
                let fails = random.f64() < 0.02;
                moved.errors += u64::from(fails);
                fails && have_errors_risen(&moved, &stayed)
            });
            ended += u32::from(ends);
        }
        assert!(ended < 20, "{ended} of 2000 rehearsals ended by chance, {ratio} stayed for one that moved");
    }
}

#[test]
fn a_rehearsal_needs_a_server_that_serves_and_an_available_one_beside_it() {
    use ServerState::{Available, Busy, CatchingUp, MaxUsers, Restricted, Unreachable};
    let other = |name: &str, state| OtherServer { name: name.to_owned(), state, may_take_over: true };
    let check = |state, others: &[OtherServer]| check_servers("Web1/Acme", state, others);
    let available = [other("Web2/Acme", Available), other("Web3/Acme", Restricted)];
    for state in [Available, Busy, MaxUsers] {
        assert_eq!(check(state, &available), Ok(()));
    }
    let ends = |state, others: &[OtherServer]| check(state, others).unwrap_err().end();
    assert_eq!(ends(Unreachable, &available), RehearsalEnd::ServerUnreachable);
    assert_eq!(ends(Restricted, &available), RehearsalEnd::ServerNotServing);
    assert_eq!(ends(CatchingUp, &available), RehearsalEnd::ServerNotServing);
    let away = [other("Web2/Acme", Available), other("Web3/Acme", Unreachable)];
    assert_eq!(ends(Available, &away), RehearsalEnd::OtherServerUnreachable);
    assert_eq!(ends(Available, &[]), RehearsalEnd::NoTakeover);
    for state in [Busy, MaxUsers, Restricted, CatchingUp] {
        let problem = check(Available, &[other("Web2/Acme", state)]).unwrap_err();
        assert_eq!(problem.end(), RehearsalEnd::NoTakeover);
        assert_eq!(problem.to_string(), format!("no other server can take over: Web2/Acme is {state}"));
    }
    let far = OtherServer { may_take_over: false, ..other("Web9/Acme", Available) };
    let text = "no other server can take over: Web9/Acme is of another site, and cross_sites is never";
    assert_eq!(check(Available, &[far]).unwrap_err().to_string(), text);
}

#[test]
fn a_moved_user_returns_when_that_rehearsal_has_ended() {
    let cookie = RehearsalCookie { rehearsal: 7, user: UserDraw(1), group: Some(UserGroup::Moved) };
    assert!(!cookie.returns(Some(7)));
    assert!(cookie.returns(None) && cookie.returns(Some(8)));
    for group in [None, Some(UserGroup::Stayed)] {
        assert!(!RehearsalCookie { group, ..cookie }.returns(None));
    }
}

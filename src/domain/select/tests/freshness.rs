//! CATCHING UP, replicas that are behind, and the user's own last write.

use super::*;

fn catching_up(id: ServerId) -> Candidate {
    server(id, |v| v.catching_up_since_unix_ms = Some(1))
}

fn busy(id: ServerId) -> Candidate {
    server(id, |v| v.busy = true)
}

fn behind(id: ServerId) -> Candidate {
    with(server(id, |_| {}), |f| f.behind_since_unix_ms = Some(1))
}

fn with_own_write(id: ServerId, own_write: OwnWrite) -> Candidate {
    with(server(id, |_| {}), |f| f.own_write = own_write)
}

fn with(mut candidate: Candidate, change: impl FnOnce(&mut CandidateFreshness)) -> Candidate {
    change(&mut candidate.freshness);
    candidate
}

fn outcome(input: SelectionInput<'_>) -> SelectionOutcome {
    decide(&input, &POLICY).outcome
}

#[test]
fn a_server_that_catches_up_serves_after_busy_and_maxusers() {
    let servers = [catching_up(0), busy(1), server(2, |v| v.max_users = true)];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [1, 2]);
    let decision = decide(&without_affinity(&servers), &POLICY);
    assert_eq!(decision.verdict(0), Some(CandidateVerdict::CatchingUp));
    assert_eq!(
        outcome(without_affinity(&servers[..1])),
        SelectionOutcome::Serve(0, SelectionReason::SetAside),
        "it serves if it is alone"
    );
}

#[test]
fn a_user_leaves_a_server_that_catches_up() {
    let servers = [catching_up(0), server(1, |_| {})];
    let entry = SelectionInput { entry: Some(0), ..without_affinity(&servers) };
    assert_eq!(decide(&entry, &POLICY).chosen(), Some(1));
    let hint = SelectionInput { hint: Some((0, Hint::Referer)), ..without_affinity(&servers) };
    assert_eq!(decide(&hint, &POLICY).chosen(), Some(1));
    let recent = SelectionInput { recent: Some(0), sessions: &[0], ..without_affinity(&servers) };
    assert_eq!(decide(&recent, &POLICY).chosen(), Some(1));
    let note_id = SelectionInput { note_id: true, ..entry };
    assert_eq!(
        decide(&note_id, &POLICY).outcome,
        SelectionOutcome::Serve(0, SelectionReason::Entry),
        "a NoteID means another document elsewhere"
    );
}

#[test]
fn a_login_form_returns_to_a_server_that_catches_up() {
    let servers = [catching_up(0), server(1, |_| {})];
    let entry = SelectionInput { entry: Some(0), posts_login_form: true, ..without_affinity(&servers) };
    assert_eq!(outcome(entry), SelectionOutcome::Serve(0, SelectionReason::Entry));
    let hint = SelectionInput { entry: None, hint: Some((0, Hint::RedirectTo)), ..entry };
    assert_eq!(outcome(hint), SelectionOutcome::Serve(0, SelectionReason::Hint(Hint::RedirectTo)));
    let newcomer = SelectionInput { entry: None, ..entry };
    assert_eq!(decide(&newcomer, &POLICY).chosen(), Some(1), "nothing names the server");
}

#[test]
fn the_server_of_the_own_write_serves_although_it_catches_up_or_is_busy() {
    for written in [catching_up(0), busy(0)] {
        let servers = [written, server(1, |_| {})];
        for entry in [None, Some(0), Some(1)] {
            let input = SelectionInput { written_on: Some(0), entry, ..without_affinity(&servers) };
            let reason = if entry == Some(0) { SelectionReason::Entry } else { SelectionReason::OwnWrite };
            assert_eq!(outcome(input), SelectionOutcome::Serve(0, reason), "{entry:?}");
        }
        let other = SelectionInput { written_on: Some(1), ..without_affinity(&servers) };
        assert_eq!(decide(&other, &POLICY).chosen(), Some(1));
    }
}

#[test]
fn among_servers_set_aside_alike_the_users_own_serves_and_then_the_lightest() {
    let servers = [
        server(0, |v| (v.catching_up_since_unix_ms, v.index) = (Some(1), Some(10.0))),
        server(1, |v| (v.catching_up_since_unix_ms, v.index) = (Some(1), Some(90.0))),
    ];
    let input = without_affinity(&servers);
    for own in [
        SelectionInput { entry: Some(0), ..input },
        SelectionInput { hint: Some((0, Hint::Referer)), ..input },
        SelectionInput { sessions: &[0], ..input },
    ] {
        assert_eq!(outcome(own), SelectionOutcome::Serve(0, SelectionReason::SetAside), "{own:?}");
    }
    assert_eq!(chosen_servers(&input, &POLICY), [1]);
    let with_busy = [servers[0], busy(2)];
    let own = SelectionInput { entry: Some(0), sessions: &[0], ..without_affinity(&with_busy) };
    assert_eq!(decide(&own, &POLICY).chosen(), Some(2), "a better class comes first");
}

#[test]
fn a_database_that_is_shown_fresh_opens_before_its_server_has_caught_up() {
    let fresh = with(catching_up(0), |f| f.shown_fresh = true);
    let servers = [fresh, server(1, |_| {})];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [0, 1]);
    let entry = SelectionInput { entry: Some(0), ..without_affinity(&servers) };
    assert_eq!(outcome(entry), SelectionOutcome::Serve(0, SelectionReason::Entry));
}

#[test]
fn newcomers_get_a_replica_that_is_not_behind_while_there_is_one() {
    let servers = [behind(0), server(1, |v| v.index = Some(1.0))];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [1]);
    assert_eq!(
        decide(&without_affinity(&servers), &POLICY).verdict(0),
        Some(CandidateVerdict::Behind),
        "a verdict of its own"
    );
    let recent = SelectionInput { recent: Some(0), ..without_affinity(&servers) };
    assert_eq!(decide(&recent, &POLICY).chosen(), Some(1), "an entry for another database does not count");
    let servers = [behind(0), catching_up(1)];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [1], "known to be behind is worse");
}

#[test]
fn users_stay_on_a_replica_that_is_behind() {
    let servers = [behind(0), server(1, |_| {})];
    let entry = SelectionInput { entry: Some(0), ..without_affinity(&servers) };
    assert_eq!(outcome(entry), SelectionOutcome::Serve(0, SelectionReason::Entry));
    let session = SelectionInput { sessions: &[0], ..without_affinity(&servers) };
    assert_eq!(outcome(session), SelectionOutcome::Serve(0, SelectionReason::Session));
}

#[test]
fn all_replicas_behind_make_no_difference() {
    let servers =
        [with(server(0, |v| v.index = Some(90.0)), |f| f.behind_since_unix_ms = Some(1)), behind(1)];
    assert_eq!(chosen_servers(&without_affinity(&servers), &POLICY), [0]);
    assert!(matches!(outcome(without_affinity(&servers)), SelectionOutcome::Serve(0, _)));
    let busy_too = [with(busy(0), |f| f.behind_since_unix_ms = Some(1)), behind(1)];
    assert_eq!(chosen_servers(&without_affinity(&busy_too), &POLICY), [1], "the state still counts");
}

#[test]
fn without_the_server_of_the_own_write_a_replica_that_has_it_serves_then_an_unknown_one_then_an_older_one() {
    let servers = [
        server(0, |v| v.http = false),
        with(busy(1), |f| f.own_write = OwnWrite::Included),
        with_own_write(2, OwnWrite::Unknown),
        with_own_write(3, OwnWrite::Missing),
    ];
    let chosen = |tried: &[ServerId], entry| {
        let input = SelectionInput { written_on: Some(0), entry, tried, ..without_affinity(&servers) };
        decide(&input, &POLICY).chosen()
    };
    for entry in [None, Some(0)] {
        assert_eq!(chosen(&[], entry), Some(1), "even a BUSY one");
        assert_eq!(chosen(&[1], entry), Some(2));
        assert_eq!(chosen(&[1, 2], entry), Some(3));
    }
    let input = SelectionInput { written_on: Some(0), ..without_affinity(&servers) };
    assert_eq!(decide(&input, &POLICY).verdict(3), Some(CandidateVerdict::OlderThanOwnWrite));
    assert_eq!(
        chosen_servers(&without_affinity(&servers), &POLICY),
        [2, 3],
        "without a write nothing is older than it"
    );
}

#[test]
fn a_user_who_has_moved_stays_unless_the_replica_is_surely_older_than_the_own_write() {
    let gone = server(0, |v| v.http = false);
    let decided = |own_write, other| {
        let servers = [gone, with_own_write(1, own_write), other];
        let input = SelectionInput { written_on: Some(0), entry: Some(1), ..without_affinity(&servers) };
        decide(&input, &POLICY).chosen()
    };
    let has_it = with_own_write(2, OwnWrite::Included);
    assert_eq!(decided(OwnWrite::Included, has_it), Some(1));
    assert_eq!(decided(OwnWrite::Unknown, has_it), Some(1), "it may have the write");
    assert_eq!(decided(OwnWrite::Missing, has_it), Some(2));
    assert_eq!(decided(OwnWrite::Missing, with_own_write(2, OwnWrite::Unknown)), Some(1));
    let busy_with_it = with(busy(2), |f| f.own_write = OwnWrite::Included);
    assert_eq!(decided(OwnWrite::Missing, busy_with_it), Some(1), "a BUSY server attracts nobody");
}

#[test]
fn a_user_goes_back_to_the_server_of_the_own_write_whatever_the_times_of_the_replica_at_hand_say() {
    for own_write in [OwnWrite::Included, OwnWrite::Unknown, OwnWrite::Missing] {
        for written in [server(0, |_| {}), catching_up(0), busy(0), behind(0)] {
            let servers = [written, with_own_write(1, own_write)];
            let input = SelectionInput { written_on: Some(0), entry: Some(1), ..without_affinity(&servers) };
            assert_eq!(decide(&input, &POLICY).chosen(), Some(0), "{own_write:?}");
        }
    }
}

#[test]
fn a_note_id_is_never_moved_to_the_server_of_the_own_write() {
    let servers = [server(0, |_| {}), with_own_write(1, OwnWrite::Missing)];
    let input =
        SelectionInput { written_on: Some(0), entry: Some(1), note_id: true, ..without_affinity(&servers) };
    assert_eq!(outcome(input), SelectionOutcome::Serve(1, SelectionReason::Entry));
    let gone = [server(0, |_| {}), server(1, |v| v.http = false)];
    let input = SelectionInput { candidates: &gone, ..input };
    assert_eq!(outcome(input), SelectionOutcome::NoteIdServerGone);
}

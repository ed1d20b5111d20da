//! Tests of the verdict: single cases, and what must hold for any answers.

use super::*;
use crate::domain::directory::ReplicaId;
use crate::domain::save::Unid;
use proptest::prelude::*;

const SENT: u64 = 1_796_026_502_400;
const SETTLED: u64 = SENT + 60_000;
const WEB1: u32 = 1;
const WEB2: u32 = 2;

fn post() -> SaveToken {
    SaveToken {
        database: ReplicaId(1),
        unid: Unid([1; 16]),
        server: WEB1,
        sent_unix_ms: SENT,
        settled_unix_ms: SETTLED,
        earlier_write_unix_ms: 0,
    }
}

fn state(revised: u64) -> CopyState {
    let asked_unix_ms = SENT + 5_000;
    CopyState { revised_unix_ms: revised, uncertainty_ms: 1_010, started_unix_ms: None, asked_unix_ms }
}

fn of(server: u32, state: CopyState) -> CopyReading {
    CopyReading { server, answer: CopyAnswer::State(state) }
}

fn without(server: u32, answer: CopyAnswer) -> CopyReading {
    CopyReading { server, answer }
}

fn unknown(why: SaveUnknown) -> SaveVerdict {
    SaveVerdict::Unknown(why)
}

#[test]
fn a_change_on_any_server_shows_that_it_was_saved() {
    let changed = SENT + 300;
    let (old, new) = (state(SENT - 90_000), state(changed));
    let saved = |is_everywhere| SaveVerdict::Saved { changed_unix_ms: changed, is_everywhere };
    assert_eq!(decide(&post(), &[of(WEB1, new), of(WEB2, new)]), saved(true));
    assert_eq!(decide(&post(), &[of(WEB1, new), of(WEB2, old)]), saved(false));
    assert_eq!(decide(&post(), &[without(WEB1, CopyAnswer::Unreachable), of(WEB2, new)]), saved(false));
    assert_eq!(decide(&post(), &[of(WEB2, new)]), saved(true), "the server has left the cluster");
}

#[test]
fn times_of_whole_seconds_before_the_request_may_be_the_save() {
    assert_eq!(decide(&post(), &[of(WEB1, state(SENT - 900))]).as_str(), "saved");
    assert_eq!(decide(&post(), &[of(WEB1, state(SENT - 2_011))]), unknown(SaveUnknown::MayStillRun));
}

#[test]
fn only_the_server_that_got_the_request_shows_that_it_was_not_saved() {
    let old = state(SENT - 90_000);
    let later = CopyState { asked_unix_ms: SETTLED, ..old };
    assert_eq!(decide(&post(), &[of(WEB1, later), of(WEB2, later)]), SaveVerdict::NotSaved);
    let without_web2 = [of(WEB1, later), without(WEB2, CopyAnswer::Unreachable)];
    assert_eq!(decide(&post(), &without_web2), SaveVerdict::NotSaved);
    assert_eq!(decide(&post(), &[of(WEB2, later)]), unknown(SaveUnknown::ServerGone));
    for (answer, why) in [
        (CopyAnswer::Unreachable, SaveUnknown::ServerGone),
        (CopyAnswer::NotTold, SaveUnknown::NotTold),
        (CopyAnswer::ClockMoved, SaveUnknown::ClockMoved),
    ] {
        assert_eq!(decide(&post(), &[without(WEB1, answer), of(WEB2, later)]), unknown(why));
    }
    assert_eq!(decide(&post(), &[]), unknown(SaveUnknown::ServerGone));
}

#[test]
fn a_server_that_may_still_work_on_the_request_shows_nothing_until_it_was_restarted() {
    let old = state(SENT - 90_000);
    assert_eq!(decide(&post(), &[of(WEB1, old)]), unknown(SaveUnknown::MayStillRun));
    let started = |at| CopyState { started_unix_ms: Some(at), ..old };
    assert_eq!(decide(&post(), &[of(WEB1, started(SENT - 1))]), unknown(SaveUnknown::MayStillRun));
    assert_eq!(decide(&post(), &[of(WEB1, started(SENT + 2_000))]), unknown(SaveUnknown::MayStillRun));
    assert_eq!(decide(&post(), &[of(WEB1, started(SENT + 2_500))]), SaveVerdict::NotSaved);
}

#[test]
fn a_save_of_the_same_user_just_before_is_not_taken_for_this_one() {
    let earlier = SaveToken { earlier_write_unix_ms: SENT - 1_000, ..post() };
    assert_eq!(decide(&earlier, &[of(WEB1, state(SENT - 700))]), unknown(SaveUnknown::EarlierWrite));
    assert_eq!(decide(&earlier, &[of(WEB1, state(SENT + 2_100))]).as_str(), "saved");
    let long_ago = SaveToken { earlier_write_unix_ms: SENT - 20_000, ..post() };
    assert_eq!(decide(&long_ago, &[of(WEB1, state(SENT - 700))]).as_str(), "saved");
    assert_eq!(decide(&long_ago, &[of(WEB1, state(SENT - 19_000))]), unknown(SaveUnknown::MayStillRun));
}

fn any_reading() -> impl Strategy<Value = CopyReading> {
    let around = SENT - 100_000..SENT + 100_000;
    let state = (around.clone(), 0_u64..5_000, proptest::option::of(around.clone()), around).prop_map(
        |(revised_unix_ms, uncertainty_ms, started_unix_ms, asked_unix_ms)| {
            CopyAnswer::State(CopyState { revised_unix_ms, uncertainty_ms, started_unix_ms, asked_unix_ms })
        },
    );
    let others = [CopyAnswer::Unreachable, CopyAnswer::NotTold, CopyAnswer::ClockMoved];
    let answer = prop_oneof![3 => state, 1 => proptest::sample::select(others.to_vec())];
    (1_u32..5, answer).prop_map(|(server, answer)| CopyReading { server, answer })
}

proptest! {
    #[test]
    fn no_verdict_says_more_than_the_answers(
        readings in proptest::collection::vec(any_reading(), 0..6), earlier in 0_u64..2
    ) {
        let post = SaveToken { earlier_write_unix_ms: earlier * (SENT - 3_000), ..post() };
        let states = |server: Option<u32>| -> Vec<CopyState> {
            let wanted = readings.iter().filter(|r| server.is_none_or(|s| s == r.server));
            wanted.filter_map(|r| if let CopyAnswer::State(s) = r.answer { Some(s) } else { None }).collect()
        };
        match decide(&post, &readings) {
            SaveVerdict::Saved { changed_unix_ms, is_everywhere } => {
                prop_assert!(states(None).iter().any(|s| s.revised_unix_ms == changed_unix_ms));
                prop_assert!(changed_unix_ms + 7_000 > SENT);
                prop_assert!(!is_everywhere || states(None).len() == readings.len());
            }
            SaveVerdict::NotSaved => {
                prop_assert!(states(None).iter().all(|s| s.revised_unix_ms < SENT));
                let is_settled = |s: &CopyState| {
                    s.asked_unix_ms >= SETTLED || s.started_unix_ms.is_some_and(|at| at > SENT)
                };
                prop_assert!(states(Some(WEB1)).iter().any(is_settled));
            }
            SaveVerdict::Unknown(_) => {}
        }
    }

    #[test]
    fn an_answer_that_comes_later_never_turns_not_saved_or_saved_into_the_other(
        readings in proptest::collection::vec(any_reading(), 1..6)
    ) {
        // Taking an answer away only makes less known.
        let whole = decide(&post(), &readings);
        for n in 0..readings.len() {
            let mut fewer = readings.clone();
            fewer.remove(n);
            let less = decide(&post(), &fewer);
            if whole == SaveVerdict::NotSaved {
                prop_assert!(less.as_str() != "saved");
            }
        }
    }
}

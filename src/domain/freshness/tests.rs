//! One test for each rule, with times in seconds, and properties over random histories.

use proptest::prelude::*;

use super::*;
use crate::domain::directory::{ReplicaId, ReplicaStatus};

const RULES: FreshnessRules =
    FreshnessRules { slack_ms: 5_000, behind_after_ms: 60_000, behind_limit_ms: 7_200_000 };
const LEADS: ReplicaId = ReplicaId(1);
/// Servers with a replica.
const A: u32 = 1;
const H: u32 = 2;
const C: u32 = 3;
/// Some moment, far from 0.
const T: u64 = 1_000_000;

/// A tracker that is told and asked in seconds after [`T`].
#[derive(Default)]
struct Times(FreshnessTracker);

impl Times {
    fn read(&mut self, server: u32, modified: i64, taken: i64) -> &mut Self {
        let reading = ModifiedReading { modified_unix_ms: ms(modified), taken_unix_ms: ms(taken) };
        self.0.record_reading(LEADS, server, reading, &RULES);
        self
    }

    fn table(&mut self, now: i64) -> TrackedTable {
        self.0.table(&RULES, ms(now))
    }

    /// Since when H is behind.
    fn behind(&mut self, now: i64) -> Option<i64> {
        let table = self.table(now).table;
        let since = table.replica(LEADS, H)?.behind_since_unix_ms?;
        Some(since as i64 / 1_000 - T as i64)
    }

    fn is_newest(&mut self, server: u32, now: i64) -> bool {
        self.table(now).table.replica(LEADS, server).is_some_and(|replica| replica.is_newest)
    }
}

fn ms(seconds: i64) -> u64 {
    (T as i64 + seconds) as u64 * 1_000
}

#[test]
fn a_replica_that_stays_older_for_longer_than_behind_after_is_behind_since_the_other_was_modified() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -100, 11);
    assert_eq!(times.behind(20), None);
    times.read(A, 0, 40).read(H, -100, 41);
    assert_eq!(times.behind(100), None, "time alone proves nothing");
    times.read(H, -100, 60);
    assert_eq!(times.behind(61), Some(0));
}

#[test]
fn differences_up_to_slack_do_not_count() {
    for (modified, expected) in [(-5, None), (-6, Some(0))] {
        let mut times = Times::default();
        times.read(A, -100, -50).read(H, -100, -50);
        // A got the change of H, and then took one of its own.
        times.read(H, modified, -2).read(A, -3, -2);
        times.read(A, 0, 10).read(H, modified, 11).read(H, modified, 100);
        assert_eq!(times.behind(100), expected);
    }
}

#[test]
fn the_server_that_took_a_change_is_not_behind_those_that_got_it_later() {
    // In whatever order they are read, and whether or not they were read before.
    let readings = [(H, 0), (A, 20), (C, 45)];
    for known in [false, true] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut times = Times::default();
            if known {
                times.read(A, -500, -100).read(H, -500, -100).read(C, -500, -100);
            }
            for pass in 0..10 {
                for at in order {
                    let (server, modified) = readings[at];
                    times.read(server, modified, 50 + pass * 30);
                }
                let tracked = times.table(50 + pass * 30);
                assert_eq!((tracked.behind, tracked.changes), (0, vec![]), "{known} {order:?} pass {pass}");
            }
        }
    }
}

#[test]
fn a_replica_that_catches_up_late_makes_the_server_that_took_the_change_not_behind() {
    let mut times = Times::default();
    times.read(A, -500, -100).read(H, -500, -100).read(C, -500, -100);
    times.read(A, 0, 10).read(C, 3, 10).read(H, -500, 100);
    assert_eq!(times.behind(100), Some(0));
    // An hour later the retry comes, while A has got another change.
    times.read(A, 3_590, 3_600).read(H, 3_600, 3_610).read(C, 3, 3_610);
    assert_eq!(times.table(3_611).behind, 0);
    times.read(C, 3_605, 3_640).read(A, 3_590, 3_700).read(H, 3_600, 3_700).read(C, 3_605, 3_700);
    assert_eq!(times.table(3_700).behind, 0);
}

#[test]
fn a_further_change_on_the_server_of_the_first_one_counts() {
    let mut times = Times::default();
    times.read(H, -500, -100).read(A, -500, -100);
    // The order of the readings does not matter.
    times.read(A, 22, 30).read(H, 20, 31);
    // H took another change that A never gets; A is asked about here, so the two change places.
    times.read(H, 60, 62).read(A, 22, 130);
    let table = times.table(131).table;
    assert_eq!(table.replica(LEADS, A).unwrap().behind_since_unix_ms, Some(ms(60)));
}

#[test]
fn a_reading_from_before_the_change_does_not_count_against_a_replica() {
    let mut times = Times::default();
    times.read(H, -100, -1).read(A, 0, 10);
    assert_eq!(times.behind(5_000), None);
}

#[test]
fn one_reading_alone_and_a_holder_without_readings_give_no_verdict() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(A, 0, 1_000);
    assert!(!times.is_newest(A, 1_000));
    assert_eq!(times.behind(1_000), None);
    assert_eq!(times.table(1_000).behind, 0);
}

#[test]
fn the_lag_of_pushes_never_makes_a_replica_behind() {
    let mut times = Times::default();
    // A is modified all the time, and each change reaches H 20 s later.
    for pass in 0..100 {
        let now = pass * 30;
        times.read(A, now, now + 1).read(H, now - 20, now + 2);
        assert_eq!(times.behind(now + 3), None, "pass {pass}");
    }
}

#[test]
fn a_replica_that_is_stuck_is_found_although_the_other_is_modified_all_the_time() {
    let mut times = Times::default();
    for pass in 0..10 {
        let now = pass * 30;
        times.read(A, now, now + 1).read(H, -100, now + 2);
    }
    assert_eq!(times.behind(275), Some(0), "since the first change that is missing");
}

#[test]
fn it_has_caught_up_when_its_time_reaches_that_of_the_change() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -100, 70);
    assert_eq!(times.behind(70), Some(0));
    times.read(A, 65, 80).read(H, 75, 81);
    assert_eq!(times.behind(82), None);
    let mut again = Times::default();
    again.read(A, 0, 10).read(H, -100, 70);
    // It got the first change and lacks a later one, which is too young to count.
    again.read(A, 80, 90).read(H, 2, 91);
    assert_eq!(again.behind(92), None);
    again.read(H, 2, 141);
    assert_eq!(again.behind(141), Some(80));
}

#[test]
fn of_several_changes_that_are_missing_the_first_one_counts() {
    let mut times = Times::default();
    times.read(A, 50, 60).read(C, 10, 60).read(H, -100, 120);
    assert_eq!(times.behind(120), Some(10));
}

#[test]
fn after_the_limit_it_no_longer_counts_until_it_was_not_older_once() {
    let mut times = Times::default();
    times.read(A, 0, 7_000).read(H, -100, 7_000);
    assert_eq!(times.behind(7_200), Some(0));
    assert_eq!(times.behind(7_201), None);
    // Further changes of a kind that does not replicate do not start it again.
    times.read(A, 7_300, 7_400).read(H, -100, 7_500);
    assert_eq!(times.behind(7_500), None);
    // It was as new once; what comes then counts.
    times.read(H, 7_510, 7_520).read(A, 7_600, 7_610).read(H, 7_510, 7_700);
    assert_eq!(times.behind(7_700), Some(7_600));
}

#[test]
fn a_change_that_its_server_has_pushed_no_longer_counts() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -100, 70);
    times.0.record_pushed(A, ms(-500), ms(-1));
    assert_eq!(times.behind(71), Some(0), "an empty queue before the change proves nothing");
    times.0.record_pushed(A, ms(1), ms(72));
    assert_eq!(times.behind(72), Some(0), "the server restarted after the change and lost its queue");
    times.0.record_pushed(H, ms(-500), ms(72));
    assert_eq!(times.behind(72), Some(0), "another server's queue says nothing about this change");
    times.0.record_pushed(A, ms(-500), ms(72));
    assert_eq!(times.behind(73), None);
    times.read(H, -100, 500);
    assert_eq!(times.behind(500), None, "the same change does not count again");
    times.read(A, 600, 610).read(H, -100, 660);
    assert_eq!(times.behind(660), Some(600), "a later one does");
}

#[test]
fn the_last_time_of_a_server_that_is_gone_still_counts_until_the_limit() {
    let mut times = Times::default();
    // A took a write and died.
    times.read(A, 0, 10).read(H, -100, 300);
    assert_eq!(times.behind(300), Some(0));
    times.read(H, -100, 7_000).read(H, -100, 7_300);
    assert_eq!(times.behind(7_300), None);
    assert_eq!(times.table(7_300).table.replicas(LEADS).len(), 1, "A's reading is forgotten");
}

#[test]
fn a_replica_that_turns_out_to_say_nothing_makes_no_other_behind() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -100, 70);
    times.0.record_unknown(LEADS, A);
    assert_eq!(times.behind(71), None);
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -100, 70);
    times.0.record_unknown(LEADS, H);
    assert_eq!(times.behind(71), None);
}

#[test]
fn a_server_that_leaves_the_cluster_is_forgotten() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -100, 70);
    times.0.retain_servers(|server| server == H);
    assert_eq!(times.behind(71), None);
}

#[test]
fn an_older_reading_that_arrives_late_is_ignored() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, 20, 100).read(H, -100, 90);
    assert_eq!(times.behind(100), None);
}

#[test]
fn the_newest_is_not_older_than_any_other_that_was_read() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -4, 11).read(C, -100, 12);
    assert!(times.is_newest(A, 20) && times.is_newest(H, 20));
    assert!(!times.is_newest(C, 20));
}

#[test]
fn the_time_of_a_write_through_us_does_not_show_that_a_replica_is_newest() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, 0, 11);
    times.0.record_write(LEADS, H, ms(20));
    times.read(H, 20, 30);
    assert!(!times.is_newest(H, 31), "its time is only that of the user's write");
    times.read(A, 22, 40);
    assert!(!times.is_newest(H, 41), "that the write has reached A says nothing about changes of A");
    times.read(A, 50, 60).read(H, 51, 61);
    assert!(times.is_newest(H, 62), "a later change of A has reached it");
}

#[test]
fn changes_are_reported_once() {
    let mut times = Times::default();
    times.read(A, 0, 10).read(H, -100, 70);
    let changes = |times: &mut Times, now| {
        let table = times.table(now);
        table.changes.into_iter().map(|c| (c.server, c.change)).collect::<Vec<_>>()
    };
    let table = times.0.table(&RULES, ms(70));
    assert_eq!((table.behind, table.oldest_behind), (1, Some(ms(0))));
    assert_eq!(table.changes.len(), 1);
    assert_eq!(changes(&mut times, 71), []);
    times.read(H, 72, 73);
    assert_eq!(changes(&mut times, 74), [(H, BehindChange::CaughtUp(ms(0)))]);
    times.read(A, 100, 110).read(H, 72, 200);
    assert_eq!(changes(&mut times, 200), [(H, BehindChange::Behind(ms(100)))]);
    times.0.record_unknown(LEADS, H);
    assert_eq!(changes(&mut times, 201), [(H, BehindChange::Unknown(ms(100)))]);
    times.read(A, 300, 310).read(H, 72, 400);
    assert_eq!(changes(&mut times, 400).len(), 1);
    assert_eq!(changes(&mut times, 7_501), [(H, BehindChange::GaveUp(ms(300)))]);
}

#[test]
fn marks_are_kept_beside_the_times_and_end_with_the_replica() {
    let mut times = Times::default();
    times.0.record_mark(LEADS, H, ReplicaStatus::OutOfService, ms(5));
    times.read(H, 0, 1);
    let replica = times.table(10).table.replica(LEADS, H).copied().unwrap();
    assert_eq!(replica.mark, Some((ReplicaStatus::OutOfService, ms(5))));
    times.0.forget_readings();
    assert!(times.table(11).table.replica(LEADS, H).unwrap().mark.is_some());
    times.0.retain_replicas(H, |_| false);
    assert_eq!(times.table(12).table.replicas(LEADS), []);
}

/// Readings of servers in the order of their times: server, age of the modification, pause since the last reading.
fn history() -> impl Strategy<Value = Vec<(u32, i64, i64)>> {
    proptest::collection::vec((1_u32..4, 0_i64..400, 0_i64..50), 0..60)
}

proptest! {
    #[test]
    fn no_replica_is_behind_within_behind_after_or_after_the_limit(history in history(), limit in 100_u64..1_000) {
        let rules = FreshnessRules { behind_limit_ms: limit * 1_000, ..RULES };
        let (mut tracker, mut now) = (FreshnessTracker::default(), 0);
        for (server, age, pause) in history {
            now += pause;
            let reading = ModifiedReading { modified_unix_ms: ms(now - age), taken_unix_ms: ms(now) };
            tracker.record_reading(LEADS, server, reading, &rules);
            for replica in tracker.table(&rules, ms(now)).table.replicas(LEADS) {
                if let Some(since) = replica.behind_since_unix_ms {
                    let taken = replica.reading.unwrap().taken_unix_ms;
                    prop_assert!(taken >= since + rules.behind_after_ms && ms(now) - since <= rules.behind_limit_ms);
                    prop_assert!(replica.reading.unwrap().modified_unix_ms + rules.slack_ms < since);
                }
            }
        }
    }

    #[test]
    fn a_replica_that_is_newest_is_never_behind_and_one_that_becomes_newest_is_cleared(history in history()) {
        let (mut times, mut now) = (Times::default(), 0);
        for (server, age, pause) in history {
            now += pause;
            times.read(server, now - age, now);
            for replica in times.table(now).table.replicas(LEADS) {
                prop_assert!(!(replica.is_newest && replica.behind_since_unix_ms.is_some()));
            }
        }
        times.read(H, now, now);
        prop_assert_eq!(times.behind(now), None);
    }

    #[test]
    fn a_single_server_is_never_behind_or_newest(ages in proptest::collection::vec(0_i64..10_000, 0..20)) {
        let mut times = Times::default();
        for (now, age) in ages.into_iter().enumerate() {
            let now = now as i64 * 500;
            times.read(H, now - age, now);
            prop_assert!(times.behind(now).is_none() && !times.is_newest(H, now));
        }
    }

    #[test]
    fn no_times_make_it_panic(
        readings: Vec<(u32, u64, u64)>, idle: (u32, u64), write: (u32, u64), now: u64,
        slack: u64, after: u64, limit: u64
    ) {
        let rules = FreshnessRules { slack_ms: slack, behind_after_ms: after, behind_limit_ms: limit };
        let mut tracker = FreshnessTracker::default();
        tracker.record_pushed(idle.0, idle.1.saturating_sub(50_000), idle.1);
        tracker.record_write(LEADS, write.0, write.1);
        for (server, modified_unix_ms, taken_unix_ms) in readings {
            let reading = ModifiedReading { modified_unix_ms, taken_unix_ms };
            tracker.record_reading(LEADS, server % 4, reading, &rules);
            let _ = tracker.table(&rules, now);
        }
    }
}

//! Every course of the maintenance of one server, without a balancer.

use super::*;
use crate::cli::maintain::observe::*;

const LIMITS: StepLimits = StepLimits {
    drain_ms: 60_000,
    return_ms: 90_000,
    settle_ms: 20_000,
    allow_outage: false,
    accept_unproven: false,
};
const UNPROVEN: StepLimits = StepLimits { accept_unproven: true, ..LIMITS };

fn server(name: &str) -> ObservedServer {
    let replicator = ObservedReplicator {
        retry_waiting: Some(0),
        work_queue_depth: Some(0),
        run: Some("run 1".into()),
        age_ms: Some(0),
    };
    ObservedServer {
        name: name.into(),
        state: "AVAILABLE".into(),
        replicator: Some(replicator),
        ..ObservedServer::default()
    }
}

/// Three servers of a cluster; the maintenance is of the first.
fn idle_cluster(now: u64) -> Observation {
    let servers = ["Web1/Acme", "Web2/Acme", "Web3/Acme"].map(server).to_vec();
    let reporting = servers.iter().map(|server| ObservedReporter { server: server.name.clone() }).collect();
    let evidence = ObservedEvidence { enabled: true, after_ms: 5_000, reporting, freshness: false };
    Observation {
        now,
        cluster: ObservedCluster { name: "AcmeWeb".into(), pool_of: None, servers, evidence },
        events: Vec::new(),
        drain: ObservedDrain::default(),
    }
}

fn changed(now: u64, change: impl FnOnce(&mut ObservedServer)) -> Observation {
    let mut seen = idle_cluster(now);
    change(&mut seen.cluster.servers[0]);
    seen
}

fn restricted(server: &mut ObservedServer, closed: bool) {
    server.state = "RESTRICTED".into();
    server.restricted_by_admin = Some(ObservedRestriction { by: format!("{RESTRICTED_BY} on a"), closed });
}

/// A step in this phase since the time 0.
fn step(phase: StepPhase) -> ServerStep {
    ServerStep { phase, ..ServerStep::new("Web1/Acme", 0) }
}

fn is_wait(action: &NextAction, text: &str) -> bool {
    matches!(action, NextAction::Wait(what, _) if what.contains(text))
}

fn word(action: &NextAction) -> &'static str {
    match action {
        NextAction::Tell(word, _) => word,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_goes_through_all_phases() {
    let mut step = step(StepPhase::Check);
    assert_eq!(step.next(&idle_cluster(0), &LIMITS), NextAction::Restrict);
    let mut drain = |now, in_flight, may_return_ms, closed| {
        let mut seen = changed(now, |server| restricted(server, closed));
        seen.drain = ObservedDrain { in_flight, may_return_ms, ..ObservedDrain::default() };
        step.next(&seen, &LIMITS)
    };
    assert!(is_wait(&drain(1_000, 2, 9_000, false), "2 requests in flight, users may return"));
    assert!(is_wait(&drain(2_000, 0, 8_000, false), "users may return"));
    assert_eq!(drain(9_000, 0, 0, false), NextAction::Close);
    assert_eq!(word(&drain(9_500, 0, 0, true)), "drained");
    let closed = |now, age| {
        changed(now, |server| {
            restricted(server, true);
            server.replicator.as_mut().unwrap().age_ms = Some(age);
        })
    };
    assert!(is_wait(&step.next(&closed(10_000, 5_000), &LIMITS), "WorkQueueDepth 0"), "an old report");
    assert!(is_wait(&step.next(&closed(11_000, 0), &LIMITS), "WorkQueueDepth 0"), "one report");
    assert!(is_wait(&step.next(&closed(12_000, 1_001), &LIMITS), "WorkQueueDepth 0"), "the same report");
    assert_eq!(word(&step.next(&closed(13_000, 0), &LIMITS)), "pushed");
    assert_eq!(step.next(&closed(13_000, 0), &LIMITS), NextAction::RunHook);
    step.hook_at = 13_000;
    step.enter(StepPhase::Return, 14_000);
    let away = changed(15_000, |server| server.state = UNREACHABLE.into());
    assert!(is_wait(&step.next(&away, &LIMITS), "UNREACHABLE"));
    let back = |now| changed(now, |server| restricted(server, true));
    assert_eq!(word(&step.next(&back(40_000), &LIMITS)), "returned");
    let mut gated = back(41_000);
    gated.cluster.servers[0].catching_up =
        Some(ObservedCatchUp { limit_at: Some(99_000), waiting_for: vec!["Web2/Acme must report".into()] });
    assert!(is_wait(&step.next(&gated, &LIMITS), "CATCHING UP: Web2/Acme must report"));
    let mut open = back(50_000);
    open.cluster.servers[0].last_catch_up =
        Some(ObservedOpening { opened_at: 49_000, by: "evidence".into() });
    assert_eq!(word(&step.next(&open, &LIMITS)), "caught_up");
    assert_eq!(step.next(&open, &LIMITS), NextAction::Release);
    step.enter(StepPhase::Serve, 51_000);
    assert!(is_wait(&step.next(&back(51_000), &LIMITS), "it is RESTRICTED"));
    assert_eq!(step.next(&idle_cluster(52_000), &LIMITS), NextAction::Done);
}

#[test]
fn a_last_replica_or_missing_reports_stop_it_before_anything_is_changed() {
    let mut seen = idle_cluster(0);
    seen.drain = ObservedDrain { last_replicas: 2, examples: vec!["only.nsf".into()], ..seen.drain };
    let NextAction::Stop(stop) = step(StepPhase::Check).next(&seen, &LIMITS) else { panic!("it stops") };
    assert!(
        stop.to_string().contains("2 databases would lose their last eligible replica: only.nsf and 1 more")
    );
    assert!(stop.advice("Web1/Acme", false).contains("is not restricted by this run"));
    let accepting = StepLimits { allow_outage: true, ..LIMITS };
    assert_eq!(step(StepPhase::Check).next(&seen, &accepting), NextAction::Restrict);
    for report in [None, Some(ObservedReplicator { retry_waiting: Some(0), ..ObservedReplicator::default() })]
    {
        let seen = changed(0, |server| server.replicator = report);
        assert_eq!(step(StepPhase::Check).next(&seen, &LIMITS), NextAction::Stop(StopReason::NoReports));
        assert_eq!(step(StepPhase::Check).next(&seen, &UNPROVEN), NextAction::Restrict);
    }
    let mut seen = idle_cluster(0);
    seen.cluster.evidence.reporting.truncate(1);
    let mut alone = step(StepPhase::Check);
    assert_eq!(alone.next(&seen, &LIMITS), NextAction::Stop(StopReason::NoWitness), "it cannot be its own");
    seen.cluster.evidence.freshness = true;
    assert_eq!(alone.next(&seen, &LIMITS), NextAction::Restrict);
}

#[test]
fn it_waits_for_a_server_that_is_catching_up_and_yields_to_another_maintenance() {
    let mut seen = idle_cluster(0);
    seen.cluster.servers[2].state = CATCHING_UP.into();
    let action = step(StepPhase::Check).next(&seen, &LIMITS);
    assert!(is_wait(&action, "first Web3/Acme must have caught up"), "{action:?}");
    restricted(&mut seen.cluster.servers[1], false);
    let action = step(StepPhase::Check).next(&seen, &LIMITS);
    assert!(
        matches!(&action, NextAction::Stop(StopReason::OtherMaintenance { server, .. }) if server == "Web2/Acme"),
        "{action:?}"
    );
}

#[test]
fn a_restriction_from_before_is_remembered() {
    let by = |by: &str| ObservedRestriction { by: by.into(), closed: false };
    let seen = changed(0, |server| server.restricted_by_admin = Some(by("Jane")));
    let mut first = step(StepPhase::Check);
    assert_eq!(first.next(&seen, &LIMITS), NextAction::Restrict);
    assert_eq!(first.restricted_before.as_deref(), Some("Jane"));
    assert_eq!(first.next(&seen, &LIMITS), NextAction::Restrict, "Jane's restriction is not ours");
    let mut again = step(StepPhase::Check);
    again.next(&changed(0, |server| restricted(server, false)), &LIMITS);
    assert_eq!(again.restricted_before, None, "ours of an earlier run");
    let mut last = ServerStep { state_before: "RESTRICTED".into(), ..step(StepPhase::Serve) };
    let seen = changed(1, |server| server.state = "RESTRICTED".into());
    assert_eq!(last.next(&seen, &LIMITS), NextAction::Done, "as before");
}

#[test]
fn the_drain_ends_at_its_limit_and_long_requests_are_cut_after_a_grace() {
    let mut step = step(StepPhase::Drain);
    let mut drain = |now, in_flight, closed| {
        let mut seen = changed(now, |server| restricted(server, closed));
        seen.drain = ObservedDrain { in_flight, may_return_ms: 1_000_000, ..ObservedDrain::default() };
        step.next(&seen, &LIMITS)
    };
    assert!(is_wait(&drain(59_999, 0, false), "users may return"));
    assert_eq!(drain(60_000, 3, false), NextAction::Close);
    assert!(is_wait(&drain(60_500, 3, true), "3 requests in flight, nobody may return"));
    assert_eq!(word(&drain(90_000, 3, true)), "cut");
    assert_eq!(step.phase, StepPhase::Push);
}

#[test]
fn a_released_or_dead_server_is_not_waited_for() {
    assert_eq!(step(StepPhase::Drain).next(&idle_cluster(1), &LIMITS), NextAction::Restrict);
    let mut seen = changed(1, |server| {
        restricted(server, false);
        server.state = UNREACHABLE.into();
    });
    seen.drain.may_return_ms = 9_000;
    assert_eq!(step(StepPhase::Drain).next(&seen, &LIMITS), NextAction::Close, "no user can return");
}

#[test]
fn a_replicator_with_work_stops_it_after_the_drain_time() {
    let busy =
        |now, retry| changed(now, |server| server.replicator.as_mut().unwrap().retry_waiting = Some(retry));
    let mut first = step(StepPhase::Push);
    assert!(is_wait(&first.next(&busy(1_000, 0), &LIMITS), "Retry.Waiting 0"));
    assert!(is_wait(&first.next(&busy(2_000, 1), &LIMITS), "Retry.Waiting 1"));
    assert!(is_wait(&first.next(&busy(3_000, 0), &LIMITS), "Retry.Waiting 0"), "counted anew");
    let expected = StopReason::NotReplicated { after_ms: 60_000, retry_waiting: 1, work_queue_depth: 0 };
    assert_eq!(first.next(&busy(60_000, 1), &LIMITS), NextAction::Stop(expected));
    assert_eq!(word(&first.next(&busy(60_000, 1), &UNPROVEN)), "unproven");
    let stop = NextAction::Stop(StopReason::TooFewReports { after_ms: 60_000 });
    assert_eq!(step(StepPhase::Push).next(&busy(60_000, 0), &LIMITS), stop, "only one report");
    let silent = |now| changed(now, |server| server.replicator = None);
    assert!(is_wait(&step(StepPhase::Push).next(&silent(1_000), &LIMITS), "unknown"));
    assert_eq!(step(StepPhase::Push).next(&silent(60_000), &LIMITS), NextAction::Stop(StopReason::NoReports));
    assert_eq!(word(&step(StepPhase::Push).next(&silent(1), &UNPROVEN)), "unproven");
}

#[test]
fn a_return_is_seen_by_an_outage_an_event_another_run_or_after_the_settle_time() {
    let back = |now| changed(now, |server| restricted(server, true));
    assert!(is_wait(&step(StepPhase::Return).next(&back(19_000), &LIMITS), "not gone down yet"));
    let mut quiet = step(StepPhase::Return);
    assert_eq!(word(&quiet.next(&back(20_000), &LIMITS)), "returned");
    assert!(is_wait(&quiet.next(&back(21_000), &LIMITS), "it answers"));
    let mut open = back(22_000);
    open.cluster.evidence.enabled = false;
    assert_eq!(word(&quiet.next(&open, &LIMITS)), "caught_up", "it was not away");
    let mut seen = back(1_000);
    seen.events = vec![ObservedEvent {
        at: 500,
        cluster: Some("AcmeWeb".into()),
        server: Some("Web1/Acme".into()),
        new: Some(UNREACHABLE.into()),
    }];
    let mut short = ServerStep { hook_at: 400, ..step(StepPhase::Return) };
    assert_eq!(word(&short.next(&seen, &LIMITS)), "returned");
    let mut late = ServerStep { hook_at: 501, ..step(StepPhase::Return) };
    assert!(is_wait(&late.next(&seen, &LIMITS), "not gone down yet"), "an event from before the hook");
    let mut run = ServerStep { run_before: Some("run 0".into()), ..step(StepPhase::Return) };
    assert_eq!(word(&run.next(&back(1_000), &LIMITS)), "returned");
}

#[test]
fn a_server_that_does_not_return_or_goes_down_again_stops_it() {
    let away = |now| changed(now, |server| server.state = UNREACHABLE.into());
    let mut step = ServerStep { down_at: 1_000, back_at: 2_000, ..step(StepPhase::CatchUp) };
    assert_eq!(word(&step.next(&away(3_000), &LIMITS)), "down");
    assert!(is_wait(&step.next(&away(89_000), &LIMITS), "UNREACHABLE"));
    let stop = StopReason::NotReturned { after_ms: 90_000 };
    assert_eq!(step.next(&away(90_000), &LIMITS), NextAction::Stop(stop));
}

#[test]
fn a_gate_that_ended_without_evidence_stops_it() {
    let after_outage =
        || ServerStep { hook_at: 1_000, down_at: 2_000, back_at: 10_000, ..step(StepPhase::CatchUp) };
    let opened = |by: &str, opened_at| {
        let mut seen = changed(20_000, |server| restricted(server, true));
        seen.cluster.servers[0].last_catch_up = Some(ObservedOpening { opened_at, by: by.into() });
        seen
    };
    for (by, opened_at, is_proven) in [
        ("evidence", 15_000, true),
        ("freshness", 15_000, true),
        ("administrator", 15_000, true),
        ("limit", 15_000, false),
        ("no_source", 15_000, false),
        ("evidence", 500, false),
    ] {
        let action = after_outage().next(&opened(by, opened_at), &LIMITS);
        let is_stop = matches!(action, NextAction::Stop(StopReason::Unproven(_)));
        assert_eq!(!is_stop, is_proven, "{by}: {action:?}");
        if is_stop {
            let mut accepting = after_outage();
            assert_eq!(word(&accepting.next(&opened(by, opened_at), &UNPROVEN)), "unproven");
            assert_eq!(accepting.phase, StepPhase::Release);
        }
    }
    let mut short = ServerStep { back_at: 7_000, ..after_outage() };
    assert_eq!(word(&short.next(&idle_cluster(20_000), &LIMITS)), "caught_up", "shorter than catch_up.after");
    let mut off = idle_cluster(20_000);
    off.cluster.evidence.enabled = false;
    assert!(matches!(after_outage().next(&off, &LIMITS), NextAction::Stop(StopReason::Unproven(_))));
}

#[test]
fn a_cluster_of_one_server_has_nobody_to_replicate_with() {
    let mut alone = changed(10_000, |server| server.replicator = None);
    alone.cluster.servers.truncate(1);
    assert_eq!(step(StepPhase::Check).next(&alone, &LIMITS), NextAction::Restrict);
    assert_eq!(word(&step(StepPhase::Push).next(&alone, &LIMITS)), "pushed");
    let mut back = ServerStep { down_at: 1, back_at: 2, ..step(StepPhase::CatchUp) };
    assert_eq!(word(&back.next(&alone, &LIMITS)), "caught_up");
}

#[test]
fn after_a_release_by_hand_a_resumed_step_begins_anew_unless_the_hook_was_done() {
    let ours = changed(500_000, |server| restricted(server, true));
    for phase in [StepPhase::Drain, StepPhase::Push, StepPhase::Hook] {
        let mut released = step(phase);
        released.resume(&idle_cluster(500_000));
        assert_eq!(released, ServerStep::new("Web1/Acme", 500_000), "{phase:?}");
        let mut held = step(phase);
        held.resume(&ours);
        assert_eq!(held.phase, phase);
        let since = if phase == StepPhase::Drain { 0 } else { 500_000 };
        assert_eq!(held.since, since, "users have had their time; other limits begin anew");
    }
    let mut returning = ServerStep { hook_at: 7, ..step(StepPhase::Return) };
    returning.resume(&idle_cluster(500_000));
    assert_eq!((returning.phase, returning.since, returning.hook_at), (StepPhase::Return, 500_000, 7));
}

#[test]
fn a_released_server_that_does_not_serve_stops_it() {
    let mut released = step(StepPhase::Serve);
    let seen = |now| {
        changed(now, |server| {
            server.state = "RESTRICTED".into();
            server.restrictions = vec!["the server reports Server_Restricted".into()];
        })
    };
    assert!(is_wait(&released.next(&seen(89_000), &LIMITS), "it is RESTRICTED"));
    let NextAction::Stop(stop) = released.next(&seen(90_000), &LIMITS) else { panic!("it stops") };
    assert!(stop.to_string().contains("RESTRICTED (the server reports Server_Restricted)"), "{stop}");
    let gone = Observation { cluster: ObservedCluster { servers: Vec::new(), ..seen(1).cluster }, ..seen(1) };
    assert_eq!(released.next(&gone, &LIMITS), NextAction::Stop(StopReason::NoSuchServer));
}

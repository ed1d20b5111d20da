//! Outages and gates over a restart, by the records of the process before.

use super::*;

#[test]
fn the_first_probe_of_a_process_is_no_return_unless_an_outage_is_known() {
    let cluster = Cluster::new(2);
    let mut new = cluster.restarted(10 * MINUTE);
    (0..2).for_each(|server| new.up(server));
    assert!(new.happened.is_empty() && new.state(0) == ServerState::Available);

    let mut cluster = Cluster::new(2);
    cluster.down(0);
    let mut new = cluster.restarted(10 * MINUTE);
    new.up(0);
    assert_eq!(new.state(0), ServerState::CatchingUp);
    assert!(new.happened.is_empty(), "Web2 was not probed yet");
    new.up(1);
    new.wait(200);
    assert!(new.last().contains("gated true") && new.last().contains("until Web2/Acme"), "{}", new.last());
    (0..2).for_each(|_| new.report(1, &idle()));
    assert_eq!(new.state(0), ServerState::Available);
}

#[test]
fn a_server_that_was_away_when_the_process_started_is_gated_at_its_return() {
    let mut cluster = Cluster::silent(0).restarted(0);
    cluster.servers = Cluster::silent(2).restarted(0).servers;
    cluster.down(0);
    cluster.up(1);
    cluster.report(1, &idle());
    cluster.wait(MINUTE);
    cluster.up(0);
    assert_eq!(cluster.state(0), ServerState::CatchingUp);
    (0..2).for_each(|_| cluster.report(1, &idle()));
    assert_eq!(cluster.state(0), ServerState::Available);
}

#[test]
fn a_gate_and_its_limit_survive_a_restart_and_a_witness_that_restarted_meanwhile_does_not() {
    let run = |run: &str| ReplicatorReport { run: Some(run.to_owned()), ..idle() };
    let mut cluster = Cluster::new(2);
    cluster.report(1, &run("1"));
    cluster.wait(1);
    cluster.probe(0, true);
    cluster.outage(0, MINUTE);
    cluster.wait(10 * MINUTE);
    for (seen, opens) in [("1", true), ("2", false)] {
        let mut new = cluster.restarted(5 * MINUTE);
        (0..2).for_each(|server| new.up(server));
        assert_eq!(new.state(0), ServerState::CatchingUp);
        assert!(!new.tracker.must_request(&name(9)) && new.tracker.must_request(&name(0)));
        assert!(new.happened.is_empty(), "the return was judged before");
        (0..2).for_each(|_| new.report(1, &run(seen)));
        assert_eq!(new.is_gated(0), !opens);
        if !opens {
            new.wait(59 * MINUTE);
            assert!(new.is_gated(0));
            new.wait(MINUTE + 1_000);
            assert!(new.last().contains("opened by limit"));
        }
    }
}

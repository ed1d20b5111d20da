//! What holds after every sequence of outages, returns, reports and restarts.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Down(usize),
    Up(usize),
    Report(usize, u32, u32, u8),
    Wait(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..3).prop_map(Step::Down),
        (0_usize..3).prop_map(Step::Up),
        (0_usize..3, 0_u32..3, 0_u32..2, 0_u8..3).prop_map(|(s, r, q, run)| Step::Report(s, r, q, run)),
        (0_u64..120_000).prop_map(Step::Wait),
        Just(Step::Restart),
    ]
}

fn run_step(cluster: &mut Cluster, step: &Step) {
    match step {
        Step::Down(server) => cluster.down(*server),
        Step::Up(server) => cluster.up(*server),
        Step::Report(server, retry, queue, run) => {
            let report = ReplicatorReport { run: Some(run.to_string()), ..waiting(*retry, *queue) };
            cluster.report(*server, &report);
        }
        Step::Wait(ms) => cluster.wait(*ms),
        Step::Restart => {
            let happened = std::mem::take(&mut cluster.happened);
            *cluster = cluster.restarted(1_000);
            cluster.happened = happened;
        }
    }
}

proptest! {
    #[test]
    fn the_limit_opens_every_gate(steps in proptest::collection::vec(step(), 0..60)) {
        let mut cluster = Cluster::new(3);
        for step in &steps {
            run_step(&mut cluster, step);
        }
        (0..3).for_each(|server| cluster.up(server));
        cluster.wait(200);
        cluster.wait(75 * MINUTE);
        prop_assert!((0..3).all(|server| cluster.state(server) == ServerState::Available), "{:?}", cluster.happened);
        prop_assert!(cluster.tracker.records().is_empty());
    }

    #[test]
    fn without_a_source_of_evidence_nobody_is_ever_gated(steps in proptest::collection::vec(step(), 0..60)) {
        let mut cluster = Cluster::silent(3);
        for step in steps.iter().filter(|step| !matches!(step, Step::Report(..))) {
            run_step(&mut cluster, step);
            prop_assert!((0..3).all(|server| cluster.state(server) != ServerState::CatchingUp), "{steps:?}");
        }
    }

    #[test]
    fn records_survive_a_restart_unchanged(steps in proptest::collection::vec(step(), 0..40)) {
        let mut cluster = Cluster::new(3);
        for step in &steps {
            run_step(&mut cluster, step);
        }
        let records = cluster.tracker.records();
        prop_assert_eq!(cluster.restarted(0).tracker.records(), records);
    }
}

//! The rules of CATCHING UP, with the health of three servers as it really changes and with passed-in time.

mod processes;
mod sequences;

use super::types::SourceId;
use super::*;
use crate::domain::cluster::health::tests::settings;
use crate::domain::cluster::report::ReplicatorReport;
use crate::domain::cluster::{
    Administrative, AvailabilityReport, HealthSettings, Operational, Port, ReportSource, Restriction,
    ServerHealth, ServerName, ServerState,
};

/// Time since 1970 at 0 of the monotonic clock.
const UNIX_MS: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;
const STATPUB: SourceId = ("statpub", 0);

fn name(number: usize) -> ServerName {
    ServerName::parse(&format!("Web{}/Acme", number + 1)).unwrap()
}

/// What an idle Cluster Replicator reports.
fn idle() -> ReplicatorReport {
    waiting(0, 0)
}

fn waiting(retry_waiting: u32, work_queue_depth: u32) -> ReplicatorReport {
    ReplicatorReport {
        retry_waiting: Some(retry_waiting),
        work_queue_depth: Some(work_queue_depth),
        ..ReplicatorReport::default()
    }
}

/// Servers Web1, Web2, ... and their tracker.
struct Cluster {
    servers: Vec<ServerHealth>,
    tracker: CatchUpTracker,
    rules: CatchUpRules,
    now_ms: u64,
    /// What happened, as texts.
    happened: Vec<String>,
}

impl Cluster {
    /// All servers are up; none has reported.
    fn silent(count: usize) -> Self {
        let rules =
            CatchUpRules { enabled: true, after_ms: 30_000, limit_ms: 75 * MINUTE, reads_freshness: false };
        let health_settings = HealthSettings {
            catch_up_after_ms: Some(rules.after_ms),
            healthy_after: 1,
            unreachable_after: 1,
            ..settings()
        };
        let sources = [ReportSource { kind: "agent_check", stale_after_ms: 60_000 }];
        let server = |_| {
            let mut health = ServerHealth::new(health_settings.clone(), &sources, 1_000);
            health.set_unix_offset(UNIX_MS);
            health
        };
        let servers = (0..count).map(server).collect();
        let tracker = CatchUpTracker::default();
        let mut cluster = Self { servers, tracker, rules, now_ms: 1_000, happened: Vec::new() };
        (0..count).for_each(|server| cluster.probe(server, true));
        cluster
    }

    /// All servers are up, and have reported that nothing waits.
    fn new(count: usize) -> Self {
        let mut cluster = Self::silent(count);
        (0..count).for_each(|server| cluster.report(server, &idle()));
        cluster.wait(1_000);
        (0..count).for_each(|server| cluster.probe(server, true));
        cluster
    }

    fn now(&self) -> Moment {
        Moment { ms: self.now_ms, unix_ms: UNIX_MS + self.now_ms }
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.update();
    }

    fn probe(&mut self, server: usize, good: bool) {
        self.now_ms += 1;
        let result = if good { Ok(200) } else { Err("refused") };
        self.servers[server].probed(Port::Http, result, self.now_ms);
        self.update_with(Some(&name(server)));
    }

    fn down(&mut self, server: usize) {
        self.probe(server, false);
    }

    fn up(&mut self, server: usize) {
        self.probe(server, true);
    }

    /// Away for so long.
    fn outage(&mut self, server: usize, ms: u64) {
        self.down(server);
        self.wait(ms);
        self.up(server);
    }

    fn report(&mut self, server: usize, report: &ReplicatorReport) {
        self.report_from(STATPUB, server, report, None);
    }

    fn report_from(
        &mut self,
        source: SourceId,
        server: usize,
        report: &ReplicatorReport,
        stamp: Option<f64>,
    ) {
        self.now_ms += 1;
        self.tracker.report(&name(server), source, report, stamp, self.now());
        self.update();
    }

    fn update(&mut self) {
        self.update_with(None);
    }

    /// Records a change of this server, and applies all actions.
    fn update_with(&mut self, returning: Option<&ServerName>) {
        let all = self.servers.iter().enumerate();
        let all: Vec<ServerReachability> = all
            .map(|(number, health)| ServerReachability { name: name(number), health: health.reachability() })
            .collect();
        for action in self.tracker.update(&all, returning, self.rules, self.now()) {
            let position = |of: &ServerName| (0..self.servers.len()).find(|number| name(*number) == *of);
            match action {
                CatchUpAction::Gated { server, text, is_new } => {
                    self.happened.push(format!("{} gated {is_new}: {text}", server.common()));
                }
                CatchUpAction::NotGated { server, returned_ms, text } => {
                    let at = position(&server).unwrap();
                    self.servers[at].open_gate(returned_ms, "not gated", self.now_ms);
                    self.tracker.opened(&server, false);
                    self.happened.push(format!("{} not gated: {text:?}", server.common()));
                }
                CatchUpAction::Open { server, returned_ms, reason, text } => {
                    let at = position(&server).unwrap();
                    self.servers[at].open_gate(returned_ms, &text, self.now_ms);
                    self.tracker.opened(&server, false);
                    self.happened.push(format!("{} opened by {}: {text}", server.common(), reason.as_str()));
                }
            }
        }
    }

    fn state(&self, server: usize) -> ServerState {
        self.servers[server].state().0
    }

    fn is_gated(&self, server: usize) -> bool {
        self.servers[server].reachability().gate.is_some()
    }

    fn last(&self) -> &str {
        self.happened.last().map(String::as_str).unwrap_or_default()
    }

    /// The same servers in a new process that has read the records.
    fn restarted(&self, later_ms: u64) -> Self {
        let mut new = Self::silent(0);
        (new.rules, new.now_ms) = (self.rules, self.now_ms + later_ms);
        new.tracker.restore(self.tracker.records());
        for number in 0..self.servers.len() {
            let health_settings = HealthSettings {
                catch_up_after_ms: Some(new.rules.after_ms),
                healthy_after: 1,
                unreachable_after: 1,
                ..settings()
            };
            let mut health = ServerHealth::new(health_settings, &[], new.now_ms);
            health.set_unix_offset(UNIX_MS);
            let now = new.now();
            if let Some((outage, gate)) = new.tracker.restored(&name(number), now) {
                health.restore_catch_up(outage, gate, new.now_ms);
            }
            new.servers.push(health);
        }
        new.update();
        new
    }
}

#[test]
fn a_server_that_returns_after_a_long_outage_is_catching_up_in_the_same_step() {
    let mut cluster = Cluster::new(3);
    cluster.down(0);
    cluster.now_ms += 130_000;
    let change = cluster.servers[0].probed(Port::Http, Ok(200), cluster.now_ms).unwrap();
    assert_eq!((change.old, change.new), (ServerState::Unreachable, ServerState::CatchingUp));
    assert_eq!(change.cause, "returned after 2m 10s");
    let snapshot = cluster.servers[0].snapshot(cluster.now_ms);
    assert_eq!(snapshot.catching_up_since_unix_ms, Some(UNIX_MS + cluster.now_ms));
    cluster.update();
    assert!(cluster.happened.is_empty(), "its change of state is not recorded yet");
    cluster.update_with(Some(&name(0)));
    assert!(
        cluster.last().contains("until Web2/Acme and Web3/Acme report that no replica waits"),
        "{}",
        cluster.last()
    );
}

#[test]
fn a_short_outage_closes_no_gate() {
    let mut cluster = Cluster::new(2);
    cluster.outage(0, 29_998);
    assert_eq!(cluster.state(0), ServerState::Available);
    assert!(cluster.happened.is_empty() && cluster.tracker.records().is_empty());
    cluster.outage(0, 30_001);
    assert_eq!(cluster.state(0), ServerState::CatchingUp);
}

#[test]
fn every_witness_must_report_twice_that_nothing_waits() {
    let mut cluster = Cluster::new(3);
    cluster.outage(0, MINUTE);
    cluster.report(1, &idle());
    cluster.report(1, &idle());
    cluster.report(2, &idle());
    assert_eq!(cluster.state(0), ServerState::CatchingUp, "Web3 has reported only once");
    assert_eq!(
        cluster.tracker.waiting_for(&name(0)),
        ["Web3/Acme must report a second time since the return"]
    );
    cluster.report(2, &idle());
    assert_eq!(cluster.state(0), ServerState::Available);
    assert!(cluster.last().contains("opened by evidence") && cluster.last().contains("Web2/Acme, Web3/Acme"));
    assert_eq!(cluster.servers[0].returned_at(), Some(cluster.now_ms), "slow start begins now");
    assert!(cluster.tracker.records().is_empty());
}

#[test]
fn the_latest_report_must_show_that_no_replica_waits_and_one_an_empty_queue() {
    let mut cluster = Cluster::new(2);
    cluster.outage(0, MINUTE);
    cluster.report(1, &waiting(0, 3));
    cluster.report(1, &waiting(2, 0));
    assert!(cluster.tracker.waiting_for(&name(0))[0].contains("2 replicas that wait for a retry, 0 before"));
    cluster.report(1, &waiting(0, 3));
    assert!(!cluster.is_gated(0), "the queue was empty once, and now nothing waits for a retry");
    cluster.outage(0, MINUTE);
    cluster.report(1, &waiting(0, 0));
    cluster.report(1, &waiting(0, 4));
    assert!(cluster.tracker.waiting_for(&name(0))[0].contains("4 databases in its work queue"));
    cluster.report(1, &waiting(0, 0));
    assert!(!cluster.is_gated(0));
}

#[test]
fn what_waited_before_the_outage_does_not_block_but_what_the_outage_caused_does() {
    let mut cluster = Cluster::new(3);
    // A dead third server leaves retries behind.
    cluster.report(1, &waiting(4, 0));
    cluster.wait(5_000);
    cluster.probe(0, true);
    // The push fails before the probe does: this is not the value from before the outage.
    cluster.report(1, &waiting(5, 0));
    cluster.outage(0, MINUTE);
    let report_all = |cluster: &mut Cluster, waits: u32| {
        for _ in 0..2 {
            cluster.report(1, &waiting(waits, 0));
            cluster.report(2, &idle());
        }
    };
    report_all(&mut cluster, 5);
    assert!(cluster.tracker.waiting_for(&name(0))[0].contains("5 replicas that wait for a retry, 4 before"));
    report_all(&mut cluster, 4);
    assert!(!cluster.is_gated(0));
}

#[test]
fn a_witness_that_restarted_or_was_away_proves_nothing() {
    for restart in [
        ReplicatorReport { run: Some("2".to_owned()), ..idle() },
        ReplicatorReport { successful: Some(1), ..idle() },
        ReplicatorReport { failed: Some(0), ..idle() },
    ] {
        let mut cluster = Cluster::new(3);
        let run = ReplicatorReport { run: Some("1".into()), successful: Some(9), failed: Some(1), ..idle() };
        cluster.report(1, &run);
        cluster.wait(1_000);
        cluster.probe(0, true);
        cluster.down(0);
        cluster.wait(MINUTE);
        cluster.report(1, &restart);
        cluster.up(0);
        for _ in 0..2 {
            cluster.report(2, &waiting(1, 0));
            cluster.report(1, &restart);
        }
        assert!(cluster.is_gated(0), "{restart:?}");
        let waits = cluster.tracker.waiting_for(&name(0));
        assert!(waits.len() == 1 && waits[0].contains("Web3"), "{waits:?}");
        // Without Web3 nobody is left.
        cluster.outage(2, 1_000);
        let waits = cluster.tracker.waiting_for(&name(0));
        assert!(waits[0].contains("Web2/Acme restarted") && waits[0].contains("Web3/Acme was UNREACHABLE"));
        (0..9).for_each(|_| (1..3).for_each(|server| cluster.report(server, &idle())));
        assert!(cluster.is_gated(0), "no witness is no evidence");
        cluster.wait(75 * MINUTE);
        assert!(cluster.last().contains("opened by limit") && cluster.last().contains("NOTHING HAS SHOWN"));
        assert_eq!(cluster.state(0), ServerState::Available);
    }
}

#[test]
fn a_restart_that_happened_before_the_outage_does_not_exclude_a_witness() {
    let mut cluster = Cluster::new(2);
    cluster.report(1, &ReplicatorReport { run: Some("1".into()), ..idle() });
    cluster.report(1, &ReplicatorReport { run: Some("2".into()), ..idle() });
    cluster.wait(10);
    cluster.probe(0, true);
    cluster.outage(0, MINUTE);
    cluster.report(1, &idle());
    cluster.report(1, &idle());
    assert!(!cluster.is_gated(0));
}

#[test]
fn the_file_of_an_exporter_read_again_is_no_new_report() {
    let exporter: SourceId = ("prometheus", 0);
    let mut cluster = Cluster::new(2);
    cluster.report_from(exporter, 1, &idle(), Some(100.0));
    cluster.outage(0, MINUTE);
    for _ in 0..5 {
        cluster.report_from(exporter, 1, &idle(), Some(100.0));
    }
    assert!(cluster.tracker.waiting_for(&name(0))[0].contains("has not reported"));
    // Measured before the return and read after it, as far as anybody knows.
    (0..5).for_each(|_| cluster.report_from(exporter, 1, &idle(), Some(160.0)));
    assert!(cluster.is_gated(0));
    cluster.report_from(exporter, 1, &idle(), Some(220.0));
    assert!(!cluster.is_gated(0));
}

#[test]
fn two_sources_that_each_report_once_are_not_two_reports() {
    let mut cluster = Cluster::new(2);
    cluster.outage(0, MINUTE);
    cluster.report_from(("console", 0), 1, &idle(), None);
    cluster.report_from(("prometheus", 1), 1, &idle(), Some(1.0));
    assert!(cluster.is_gated(0));
    cluster.report_from(("console", 0), 1, &idle(), None);
    assert!(!cluster.is_gated(0));
}

#[test]
fn a_report_without_the_values_proves_nothing() {
    let mut cluster = Cluster::new(2);
    cluster.outage(0, MINUTE);
    let half = [
        ReplicatorReport { work_queue_depth: None, ..idle() },
        ReplicatorReport { retry_waiting: None, ..idle() },
        ReplicatorReport { run: Some("1".into()), ..ReplicatorReport::default() },
    ];
    for report in &half {
        (0..3).for_each(|_| cluster.report(1, report));
        assert!(cluster.is_gated(0), "{report:?}");
    }
}

#[test]
fn after_an_outage_of_all_servers_together_nobody_is_gated() {
    let mut cluster = Cluster::new(3);
    (0..3).for_each(|server| cluster.down(server));
    cluster.wait(5 * MINUTE);
    for server in 0..3 {
        cluster.up(server);
        assert_eq!(cluster.state(server), ServerState::Available);
        assert!(cluster.last().contains("all servers were UNREACHABLE together"), "{}", cluster.last());
        cluster.wait(MINUTE);
    }
    // The next outage is judged alone.
    cluster.outage(1, MINUTE);
    assert!(cluster.is_gated(1));
}

#[test]
fn without_another_server_that_is_available_or_busy_nobody_is_gated() {
    let mut cluster = Cluster::new(3);
    cluster.down(1);
    let restriction = Restriction { since_unix_ms: 0, by: "Jo".into(), at: None, closed: false };
    cluster.servers[2].restrict(Some(restriction), cluster.now_ms);
    cluster.outage(0, MINUTE);
    assert_eq!(cluster.state(0), ServerState::Available);
    assert!(cluster.last().contains("no other server is AVAILABLE or BUSY"), "{}", cluster.last());
    // Web1 is AVAILABLE now.
    cluster.up(1);
    assert_eq!(cluster.state(1), ServerState::CatchingUp);
}

#[test]
fn a_restricted_witness_still_proves_and_a_restricted_server_is_gated_too() {
    let mut cluster = Cluster::new(3);
    let restriction = || Some(Restriction { since_unix_ms: 0, by: "Jo".into(), at: None, closed: false });
    for server in [0, 1] {
        cluster.servers[server].restrict(restriction(), cluster.now_ms);
    }
    cluster.outage(0, MINUTE);
    assert_eq!(cluster.state(0), ServerState::Restricted);
    assert!(cluster.servers[0].snapshot(cluster.now_ms).catching_up_since_unix_ms.is_some());
    cluster.servers[0].restrict(None, cluster.now_ms);
    assert_eq!(cluster.state(0), ServerState::CatchingUp, "released, and not trusted yet");
    assert_eq!(cluster.servers[0].returned_at(), None);
    for _ in 0..2 {
        cluster.report(1, &idle());
        cluster.report(2, &idle());
    }
    assert_eq!(cluster.state(0), ServerState::Available);
}

#[test]
fn without_any_source_of_evidence_there_is_no_gate_and_no_event() {
    let mut cluster = Cluster::silent(3);
    cluster.outage(0, 10 * MINUTE);
    assert_eq!((cluster.state(0), cluster.last()), (ServerState::Available, "Web1 not gated: None"));
    // Modification times are one.
    cluster.rules.reads_freshness = true;
    cluster.outage(0, 10 * MINUTE);
    assert_eq!(cluster.state(0), ServerState::CatchingUp);
}

#[test]
fn a_cluster_of_one_server_is_never_gated() {
    let mut cluster = Cluster::new(1);
    cluster.outage(0, MINUTE);
    assert_eq!((cluster.state(0), cluster.last()), (ServerState::Available, "Web1 not gated: None"));
}

#[test]
fn changed_settings_apply_to_servers_that_are_catching_up() {
    let gated = || {
        let mut cluster = Cluster::new(2);
        cluster.outage(0, MINUTE);
        cluster.wait(5 * MINUTE);
        assert!(cluster.is_gated(0));
        cluster
    };
    let mut cluster = gated();
    cluster.rules.enabled = false;
    cluster.update();
    assert!(!cluster.is_gated(0) && cluster.last().contains("opened by configuration: catch_up.mode is off"));
    let mut cluster = gated();
    cluster.rules.after_ms = 2 * MINUTE;
    cluster.update();
    assert!(!cluster.is_gated(0) && cluster.last().contains("opened by configuration: catch_up.after is 2m"));
    let mut cluster = gated();
    cluster.rules.limit_ms = 6 * MINUTE;
    cluster.update();
    assert!(cluster.is_gated(0));
    cluster.wait(MINUTE);
    assert!(!cluster.is_gated(0) && cluster.last().contains("opened by limit"));
}

#[test]
fn a_short_interruption_of_catching_up_starts_the_evidence_again_but_not_the_limit() {
    let mut cluster = Cluster::new(2);
    cluster.outage(0, 5 * MINUTE);
    cluster.report(1, &idle());
    cluster.outage(0, 1_000);
    assert_eq!(cluster.state(0), ServerState::CatchingUp);
    assert!(cluster.last().contains("gated false"), "{}", cluster.last());
    cluster.report(1, &idle());
    assert!(cluster.is_gated(0), "the first report since the last return");
    cluster.wait(75 * MINUTE - 1_000);
    assert!(cluster.last().contains("opened by limit"));
    // A long one begins everything again.
    cluster.outage(0, 5 * MINUTE);
    cluster.wait(70 * MINUTE);
    cluster.outage(0, MINUTE);
    assert!(cluster.last().contains("gated true"), "{}", cluster.last());
    cluster.wait(70 * MINUTE);
    assert!(cluster.is_gated(0));
}

#[test]
fn maint_and_down_of_agent_check_are_outages_too() {
    let mut cluster = Cluster::new(2);
    let report = |administrative, operational| AvailabilityReport {
        administrative,
        operational,
        ..AvailabilityReport::default()
    };
    let states = [
        (report(Some(Administrative::Maint), None), report(Some(Administrative::Ready), None)),
        (report(None, Some(Operational::Down(String::new()))), report(None, Some(Operational::Up))),
    ];
    for (away, back) in states {
        cluster.servers[0].report(0, &away, cluster.now_ms);
        cluster.update();
        assert_eq!(cluster.state(0), ServerState::Unreachable);
        cluster.wait(40_000);
        cluster.servers[0].report(0, &back, cluster.now_ms);
        cluster.wait(200);
        assert_eq!(cluster.state(0), ServerState::CatchingUp);
        (0..2).for_each(|_| cluster.report(1, &idle()));
        assert_eq!(cluster.state(0), ServerState::Available);
    }
}

#[test]
fn an_administrator_opens_the_gate_of_a_server_that_is_away_and_it_is_judged_again() {
    let mut cluster = Cluster::new(2);
    cluster.outage(0, MINUTE);
    cluster.down(0);
    let returned = cluster.servers[0].reachability().gate.unwrap().returned_ms;
    cluster.servers[0].open_gate(returned, "released", cluster.now_ms);
    cluster.tracker.opened(&name(0), true);
    assert_eq!(cluster.tracker.records()[0].limit_from_unix_ms, None);
    cluster.up(0);
    assert_eq!(cluster.state(0), ServerState::Available, "a short outage");
    cluster.outage(0, MINUTE);
    assert_eq!(cluster.state(0), ServerState::CatchingUp);
}

#[test]
fn busy_and_maxusers_show_only_after_catching_up() {
    let mut cluster = Cluster::new(2);
    cluster.outage(0, MINUTE);
    let busy = HealthSettings { threshold: Some(100), catch_up_after_ms: Some(30_000), ..settings() };
    cluster.servers[0].reconfigure(busy, &[], cluster.now_ms);
    assert_eq!(cluster.state(0), ServerState::CatchingUp);
    (0..2).for_each(|_| cluster.report(1, &idle()));
    assert_eq!(cluster.state(0), ServerState::Busy);
    assert_eq!(cluster.servers[0].returned_at(), Some(cluster.now_ms));
}

//! The tracker of one cluster: outages in progress, gates that are closed, and the evidence that opens them.

use std::collections::BTreeMap;

use super::absence::Absence;
use super::evidence::{Exclusion, Witness};
use super::records::{OutageRecord, WitnessRecord};
use super::reporter::{Novelty, Reporter};
use super::types::{
    CatchUpAction, CatchUpRules, Moment, OpenReason, ReporterStatus, ServerReachability, SourceId,
};
use crate::domain::cluster::health::{CatchUpGate, Outage, duration};
use crate::domain::cluster::name::ServerName;
use crate::domain::cluster::report::ReplicatorReport;

/// How long a return waits until its change of state is recorded. That takes microseconds.
const MIN_RETURN_AGE_MS: u64 = 200;

/// Follows the outages of the servers of one cluster.
#[derive(Clone, Debug, Default)]
pub struct CatchUpTracker {
    servers: BTreeMap<ServerName, Server>,
    /// A server has reported how its Cluster Replicator does, in this process or before an outage that is not over.
    has_evidence: bool,
}

#[derive(Clone, Debug, Default)]
struct Server {
    reporter: Reporter,
    /// The number of its outages at the last update.
    outages: u64,
    /// When its last outage ended.
    returned_ms: u64,
    absence: Option<Absence>,
}

impl CatchUpTracker {
    /// Compares the servers with what was known, and says what to do. Must be called after each change to or from
    /// UNREACHABLE, and regularly. The caller applies every action before the next call. `returning` is the server whose
    /// change of state the caller is about to record: a return that another caller sees first waits for that, so that
    /// both become one event.
    pub fn update(
        &mut self,
        servers: &[ServerReachability],
        returning: Option<&ServerName>,
        rules: CatchUpRules,
        now: Moment,
    ) -> Vec<CatchUpAction> {
        for server in servers {
            self.note_interruption(server, now);
        }
        for server in servers {
            self.note_outage(server, servers, now);
        }
        let all_unreachable =
            !servers.is_empty() && servers.iter().all(|s| s.health.probed && !s.health.is_reachable());
        if all_unreachable {
            for absence in self.servers.values_mut().filter_map(|server| server.absence.as_mut()) {
                absence.record.all_unreachable = true;
            }
        }
        servers.iter().filter_map(|server| self.judge(server, servers, returning, rules, now)).collect()
    }

    /// Adds a report about the Cluster Replicator of a server. `stamp` is the time that the source gives the report: a
    /// report that is not newer than the last one is the same.
    pub fn report(
        &mut self,
        server: &ServerName,
        source: SourceId,
        report: &ReplicatorReport,
        stamp: Option<f64>,
        now: Moment,
    ) {
        let reporter = &mut self.servers.entry(server.clone()).or_default().reporter;
        let novelty = reporter.add(source, report, stamp, now);
        if novelty == Novelty::Nothing {
            return;
        }
        self.has_evidence |= report.retry_waiting.is_some() || report.work_queue_depth.is_some();
        for absence in self.servers.values_mut().filter_map(|server| server.absence.as_mut()) {
            let Some(witness) = absence.witnesses.get_mut(server) else { continue };
            if novelty == Novelty::Restarted {
                witness.excluded.get_or_insert(Exclusion::Restarted);
            }
            witness.check_run(source, report);
            if absence.judged.is_some() {
                witness.add(source, report);
            }
        }
    }

    /// What a server whose gate is closed still waits for. Empty for other servers.
    #[must_use]
    pub fn waiting_for(&self, server: &ServerName) -> Vec<String> {
        let judged = self.absence(server).filter(|absence| absence.judged.is_some());
        judged.map(Absence::waiting_for).unwrap_or_default()
    }

    /// When the time of the limit began for a server whose gate is closed, in milliseconds since 1970.
    #[must_use]
    pub fn limit_from_unix_ms(&self, server: &ServerName) -> Option<u64> {
        self.absence(server)?.record.limit_from_unix_ms
    }

    /// Whether the return of this server was judged, and its gate stays closed.
    #[must_use]
    pub fn is_gated(&self, server: &ServerName) -> bool {
        self.absence(server).is_some_and(|absence| absence.judged.is_some())
    }

    /// The last report about the Cluster Replicator of a server.
    #[must_use]
    pub fn reporter(&self, server: &ServerName) -> Option<&ReporterStatus> {
        self.servers.get(server)?.reporter.last.as_ref()
    }

    /// Whether `catch_up.request` was not yet answered for the gate of this return.
    #[must_use]
    pub fn must_request(&self, server: &ServerName) -> bool {
        self.absence(server).is_some_and(|absence| absence.judged.is_some() && !absence.record.requested)
    }

    /// `catch_up.request` was answered, or given up.
    pub fn requested(&mut self, server: &ServerName) {
        if let Some(absence) = self.servers.get_mut(server).and_then(|known| known.absence.as_mut()) {
            absence.record.requested = true;
        }
    }

    /// The gate of a server was opened. If it is away, its outage goes on.
    pub fn opened(&mut self, server: &ServerName, is_away: bool) {
        let Some(known) = self.servers.get_mut(server) else { return };
        known.absence = known.absence.take().filter(|_| is_away);
        if let Some(absence) = &mut known.absence {
            absence.record.limit_from_unix_ms = None;
        }
    }

    /// All outages in progress and closed gates.
    #[must_use]
    pub fn records(&self) -> Vec<OutageRecord> {
        let absences = self.servers.values().filter_map(|server| server.absence.as_ref());
        absences
            .map(|absence| OutageRecord {
                witnesses: absence
                    .witnesses
                    .iter()
                    .filter_map(|(name, witness)| witness.record(name))
                    .collect(),
                ..absence.record.clone()
            })
            .collect()
    }

    /// Replaces all outages and gates by those of an earlier process.
    pub fn restore(&mut self, records: Vec<OutageRecord>) {
        self.servers.values_mut().for_each(|server| server.absence = None);
        for record in records {
            let witness =
                |w: &WitnessRecord| (w.server.clone(), Witness::new(w.retry_waiting, w.runs.clone()));
            let witnesses: BTreeMap<_, _> = record.witnesses.iter().map(witness).collect();
            self.has_evidence |= witnesses.values().any(Witness::has_baseline);
            let server = self.servers.entry(record.server.clone()).or_default();
            server.absence = Some(Absence { record, witnesses, judged: None });
        }
    }

    /// The outage and the gate with which the health of a server begins, after [`CatchUpTracker::restore`].
    pub fn restored(
        &mut self,
        server: &ServerName,
        now: Moment,
    ) -> Option<(Option<Outage>, Option<CatchUpGate>)> {
        let absence = self.servers.get_mut(server)?.absence.as_mut()?;
        let record = &absence.record;
        let is_away = record.returned_unix_ms.is_none();
        let outage = is_away.then(|| Outage {
            since_ms: now.ms,
            before_ms: now.unix_ms.saturating_sub(record.since_unix_ms),
            last_answer_ms: 0,
        });
        let gate = record.limit_from_unix_ms.map(|limit_from| CatchUpGate {
            returned_ms: now.ms,
            returned_unix_ms: record.returned_unix_ms.unwrap_or(limit_from),
            limit_from_ms: now.ms,
            before_ms: now.unix_ms.saturating_sub(limit_from),
            outage_ms: record.outage_ms,
        });
        // The return was judged by the earlier process.
        absence.judged = gate.filter(|_| !is_away).map(|gate| gate.returned_ms);
        Some((outage, gate))
    }

    fn absence(&self, server: &ServerName) -> Option<&Absence> {
        self.servers.get(server)?.absence.as_ref()
    }

    /// A server that was UNREACHABLE since the last update is a witness no longer.
    fn note_interruption(&mut self, server: &ServerReachability, now: Moment) {
        let health = &server.health;
        let known = self.servers.entry(server.name.clone()).or_default();
        let was_interrupted = health.outages != known.outages || (health.probed && !health.is_reachable());
        known.outages = health.outages;
        if !was_interrupted {
            return;
        }
        known.returned_ms = now.ms;
        for absence in self.servers.values_mut().filter_map(|other| other.absence.as_mut()) {
            if let Some(witness) = absence.witnesses.get_mut(&server.name) {
                witness.excluded.get_or_insert(Exclusion::Unreachable);
            }
        }
    }

    /// Keeps the record of an outage or a gate in step with the health of the server.
    fn note_outage(&mut self, server: &ServerReachability, all: &[ServerReachability], now: Moment) {
        let health = &server.health;
        let is_known = self.absence(&server.name).is_some();
        match (health.outage, health.gate) {
            (None, None) => {
                if let Some(known) = self.servers.get_mut(&server.name) {
                    known.absence = None;
                }
            }
            (outage, gate) if !is_known => {
                let began_ms = outage.map_or_else(
                    || gate.map_or(now.ms, |gate| gate.returned_ms.saturating_sub(gate.outage_ms)),
                    |outage| outage.last_answer_ms,
                );
                let away_ms = outage.map_or_else(
                    || gate.map_or(0, |gate| gate.outage_ms),
                    |outage| outage.duration_ms(now.ms),
                );
                let absence =
                    self.new_absence(&server.name, all, began_ms, now.unix_ms.saturating_sub(away_ms));
                if let Some(known) = self.servers.get_mut(&server.name) {
                    known.absence = Some(absence);
                }
            }
            (Some(_), _) => {
                if let Some(absence) = self.absence_mut(&server.name) {
                    absence.judged = None;
                    absence.record.returned_unix_ms = None;
                }
            }
            (None, Some(_)) => {}
        }
    }

    fn absence_mut(&mut self, server: &ServerName) -> Option<&mut Absence> {
        self.servers.get_mut(server)?.absence.as_mut()
    }

    /// `began_ms` is when the server last answered: a restart of a witness after that loses changes.
    fn new_absence(
        &self,
        server: &ServerName,
        all: &[ServerReachability],
        began_ms: u64,
        since_unix_ms: u64,
    ) -> Absence {
        // What was never probed counts until its first probe fails: at the start all servers are probed at once.
        let is_up = |other: &ServerReachability| other.health.is_reachable() || !other.health.probed;
        let others = all.iter().filter(|other| other.name != *server && is_up(other));
        let witness = |other: &ServerReachability| {
            let known = self.servers.get(&other.name)?;
            let was_up = known.returned_ms <= began_ms;
            let reporter = &known.reporter;
            let same_run = reporter.restarted_ms.is_none_or(|at| at <= began_ms);
            let witness = Witness::new(reporter.retry_waiting_at(began_ms), reporter.runs());
            (was_up && same_run).then(|| (other.name.clone(), witness))
        };
        Absence {
            record: OutageRecord {
                server: server.clone(),
                since_unix_ms,
                returned_unix_ms: None,
                limit_from_unix_ms: None,
                outage_ms: 0,
                all_unreachable: false,
                requested: false,
                witnesses: Vec::new(),
            },
            witnesses: others.filter_map(witness).collect(),
            judged: None,
        }
    }

    /// Decides about the gate of one server.
    fn judge(
        &mut self,
        server: &ServerReachability,
        all: &[ServerReachability],
        returning: Option<&ServerName>,
        rules: CatchUpRules,
        now: Moment,
    ) -> Option<CatchUpAction> {
        let gate = server.health.gate?;
        if !server.health.is_reachable() {
            return None;
        }
        let has_source = self.has_evidence || rules.reads_freshness;
        let absence = self.servers.get_mut(&server.name)?.absence.as_mut()?;
        let (name, returned_ms) = (server.name.clone(), gate.returned_ms);
        let outage = duration(gate.outage_ms);
        let by_configuration = |text: String| {
            let (server, reason) = (name.clone(), OpenReason::Configuration);
            CatchUpAction::Open { server, returned_ms, reason, text }
        };
        if !rules.enabled {
            return Some(by_configuration("catch_up.mode is off".to_owned()));
        }
        if gate.outage_ms <= rules.after_ms {
            let text = format!("catch_up.after is {}, the outage lasted {outage}", duration(rules.after_ms));
            return Some(by_configuration(text));
        }
        if absence.judged != Some(returned_ms) {
            let is_due = returning == Some(&name) || now.ms.saturating_sub(returned_ms) >= MIN_RETURN_AGE_MS;
            if !is_due {
                return None;
            }
            return absence.judge_return(server, all, has_source, now, rules);
        }
        let waiting_for = absence.waiting_for();
        let took = duration(gate.elapsed_ms(now.ms));
        let (reason, text) = if waiting_for.is_empty() {
            let shown = absence.sources().join(", ");
            (OpenReason::Evidence, format!("nothing waits for replication on {shown}, shown after {took}"))
        } else if gate.elapsed_ms(now.ms) >= rules.limit_ms {
            let missing = waiting_for.join("; ");
            let text = format!(
                "catch_up.limit is over after {took}, and NOTHING HAS SHOWN that its replicas have the changes made \
                 while it was UNREACHABLE for {outage}: {missing}"
            );
            (OpenReason::Limit, text)
        } else {
            return None;
        };
        Some(CatchUpAction::Open { server: name, returned_ms, reason, text })
    }
}

//! The steps of the maintenance of one server: from what the balancer shows to the next action. No sockets, no clock and no
//! processes, so that every course can be tested.

use serde::{Deserialize, Serialize};

use super::hook::HookProcess;
use super::observe::{Observation, ObservedReplicator, ObservedServer};
use super::phases::{NextAction, StepLimits, StepPhase};
use super::stop::StopReason;

/// Every restriction of a maintenance is made by a name that begins so.
pub(super) const RESTRICTED_BY: &str = "icm maintain";
/// Two reports are distinct if their times differ by more than the error of an age that travels in milliseconds.
const MIN_REPORT_DISTANCE_MS: u64 = 100;
/// How long requests may still end after nobody may return, when the drain took all its time.
const MAX_GRACE_MS: u64 = 30_000;
/// A server must answer for this long before its state counts, because CATCHING UP begins with the next update.
const STABLE_MS: u64 = 2_000;

/// How far the maintenance of one server is. Times are the balancer's, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerStep {
    pub server: String,
    pub phase: StepPhase,
    /// When the phase began.
    pub since: u64,
    /// Its state before the restriction.
    #[serde(default)]
    pub state_before: String,
    /// Who had restricted it before.
    #[serde(default)]
    pub restricted_before: Option<String>,
    /// When the hook was started.
    #[serde(default)]
    pub hook_at: u64,
    /// The process of the hook, while it runs.
    #[serde(default)]
    pub hook_process: Option<HookProcess>,
    /// What identified the run of the server before the hook.
    #[serde(default)]
    pub run_before: Option<String>,
    /// When it was first seen UNREACHABLE after the start of the hook; 0 = not yet.
    #[serde(default)]
    pub down_at: u64,
    /// When it was first seen to answer again; 0 = not yet.
    #[serde(default)]
    pub back_at: u64,
    /// When the last report without work was made, and how many there were one after the other.
    #[serde(skip)]
    idle_report: (u64, u8),
}

impl ServerStep {
    pub(super) fn new(server: &str, now: u64) -> Self {
        Self {
            server: server.to_owned(),
            phase: StepPhase::Check,
            since: now,
            state_before: String::new(),
            restricted_before: None,
            hook_at: 0,
            hook_process: None,
            run_before: None,
            down_at: 0,
            back_at: 0,
            idle_report: (0, 0),
        }
    }

    /// Goes on after an interruption: time limits begin anew. If an administrator has released the server before the
    /// hook, its maintenance begins anew.
    pub(super) fn resume(&mut self, seen: &Observation) {
        let is_ours = seen.server(&self.server).is_some_and(is_restricted_by_maintenance);
        let is_before_hook = self.phase <= StepPhase::Hook;
        if is_before_hook && !is_ours {
            *self = Self::new(&self.server, seen.now);
        } else if self.phase != StepPhase::Drain {
            self.since = seen.now;
        }
    }

    /// The hook was done by hand.
    pub(super) fn hook_done(&mut self, now: u64) {
        self.hook_at = if self.hook_at == 0 { self.since } else { self.hook_at };
        self.enter(StepPhase::Return, now);
    }

    pub(super) fn enter(&mut self, phase: StepPhase, now: u64) {
        (self.phase, self.since, self.idle_report) = (phase, now, (0, 0));
    }

    /// Notes that the server went down, also while the hook runs.
    pub(super) fn note_outage(&mut self, seen: &Observation) {
        let is_down = seen.server(&self.server).is_some_and(|server| !server.is_reachable());
        if self.down_at == 0 {
            let event = seen.went_down_since(&self.server, self.hook_at);
            self.down_at = event.or(is_down.then_some(seen.now)).unwrap_or(0);
        }
    }

    /// The next action, from what is seen now.
    pub(super) fn next(&mut self, seen: &Observation, limits: &StepLimits) -> NextAction {
        let Some(server) = seen.server(&self.server) else {
            return NextAction::Stop(StopReason::NoSuchServer);
        };
        match self.phase {
            StepPhase::Check => self.check(seen, server, limits),
            StepPhase::Drain => self.drain(seen, server, limits),
            StepPhase::Push => self.push(seen, server, limits),
            StepPhase::Hook => NextAction::RunHook,
            StepPhase::Return => self.wait_for_return(seen, server, limits),
            StepPhase::CatchUp => self.catch_up(seen, server, limits),
            StepPhase::Release => NextAction::Release,
            StepPhase::Serve => self.serve(seen, server, limits),
        }
    }

    fn check(&mut self, seen: &Observation, server: &ObservedServer, limits: &StepLimits) -> NextAction {
        if let Some(other) = seen.others(&self.server).find(|other| is_restricted_by_maintenance(other)) {
            let by = other.restricted_by_admin.as_ref().map_or_else(String::new, |r| r.by.clone());
            return NextAction::Stop(StopReason::OtherMaintenance { server: other.name.clone(), by });
        }
        // A restart would lose what the others still have to push there, or what it has to push itself.
        let catching_up: Vec<&str> =
            seen.cluster.servers.iter().filter(|s| s.is_catching_up()).map(|s| &*s.name).collect();
        if !catching_up.is_empty() {
            let what = format!("first {} must have caught up", catching_up.join(", "));
            return NextAction::Wait(what, String::new());
        }
        if let Some(stop) = before_restricting(seen, server, limits) {
            return NextAction::Stop(stop);
        }
        self.state_before.clone_from(&server.state);
        self.restricted_before = server
            .restricted_by_admin
            .as_ref()
            .map(|r| r.by.clone())
            .filter(|by| !by.starts_with(RESTRICTED_BY));
        self.enter(StepPhase::Drain, seen.now);
        NextAction::Restrict
    }

    fn drain(&mut self, seen: &Observation, server: &ObservedServer, limits: &StepLimits) -> NextAction {
        if !is_restricted_by_maintenance(server) {
            return NextAction::Restrict;
        }
        let (drain, waited) = (&seen.drain, seen.now.saturating_sub(self.since));
        let is_closed = server.restricted_by_admin.as_ref().is_some_and(|r| r.closed);
        let is_empty = drain.in_flight == 0 && (drain.may_return_ms == 0 || !server.is_reachable());
        let grace = limits.drain_ms.min(MAX_GRACE_MS);
        if !is_closed && (is_empty || waited >= limits.drain_ms) {
            return NextAction::Close;
        }
        if is_closed && drain.in_flight == 0 {
            self.enter(StepPhase::Push, seen.now);
            return NextAction::Tell("drained", "nothing is in flight, and nobody may return".to_owned());
        }
        if waited >= limits.drain_ms.saturating_add(grace) {
            self.enter(StepPhase::Push, seen.now);
            let text = format!("the drain is over: the hook will cut {} requests in flight", drain.in_flight);
            return NextAction::Tell("cut", text);
        }
        let tunnels = if drain.tunnels > 0 { format!(" ({} tunnels)", drain.tunnels) } else { String::new() };
        let mut what = format!("{} requests in flight{tunnels}", drain.in_flight);
        let left = limits.drain_ms.saturating_sub(waited);
        let mut detail = format!("the drain ends in {} at the latest", seconds(left));
        if is_closed {
            what.push_str(", nobody may return");
            detail = String::new();
        } else if drain.may_return_ms > 0 {
            what.push_str(", users may return");
            detail = format!("for {} at most", seconds(drain.may_return_ms.min(left)));
        }
        NextAction::Wait(what, detail)
    }

    fn push(&mut self, seen: &Observation, server: &ObservedServer, limits: &StepLimits) -> NextAction {
        let waited = seen.now.saturating_sub(self.since);
        if seen.others(&self.server).next().is_none() {
            self.enter(StepPhase::Hook, seen.now);
            return NextAction::Tell("pushed", "there is no other server to push to".to_owned());
        }
        let report = server.replicator.as_ref().filter(|report| report.is_idle().is_some());
        if let Some((at, report)) = report.and_then(|report| Some((report.reported_at(seen.now)?, report))) {
            let (last, count) = self.idle_report;
            if report.is_idle() != Some(true) {
                self.idle_report = (at, 0);
            } else if at >= self.since && at > last.saturating_add(MIN_REPORT_DISTANCE_MS) {
                self.idle_report = (at, count.saturating_add(1));
            }
            if self.idle_report.1 >= 2 {
                self.run_before.clone_from(&report.run);
                self.enter(StepPhase::Hook, seen.now);
                let text = "its Cluster Replicator has nothing left to push (two reports)".to_owned();
                return NextAction::Tell("pushed", text);
            }
        }
        let stop = not_pushed(report, waited);
        if report.is_none() && limits.accept_unproven {
            self.enter(StepPhase::Hook, seen.now);
            return NextAction::Tell("unproven", format!("{stop}; accepted"));
        }
        if waited >= limits.drain_ms {
            if !limits.accept_unproven {
                return NextAction::Stop(stop);
            }
            self.enter(StepPhase::Hook, seen.now);
            return NextAction::Tell("unproven", format!("{stop}; accepted"));
        }
        let count = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        let report = report.cloned().unwrap_or_default();
        let what = format!(
            "its changes are pushed: WorkQueueDepth {}, Retry.Waiting {}",
            count(report.work_queue_depth),
            count(report.retry_waiting)
        );
        NextAction::Wait(what, format!("for {} at most", seconds(limits.drain_ms.saturating_sub(waited))))
    }

    fn wait_for_return(
        &mut self,
        seen: &Observation,
        server: &ObservedServer,
        limits: &StepLimits,
    ) -> NextAction {
        self.note_outage(seen);
        let waited = seen.now.saturating_sub(self.since);
        if !server.is_reachable() {
            if waited >= limits.return_ms {
                return NextAction::Stop(StopReason::NotReturned { after_ms: waited });
            }
            let left = seconds(limits.return_ms.saturating_sub(waited));
            return NextAction::Wait("it is UNREACHABLE".to_owned(), format!("for {left} at most"));
        }
        let run = server.replicator.as_ref().and_then(|report| report.run.as_ref());
        let is_another_run = run.is_some() && self.run_before.is_some() && run != self.run_before.as_ref();
        if self.down_at == 0 && !is_another_run && waited < limits.settle_ms {
            let left = seconds(limits.settle_ms.saturating_sub(waited));
            return NextAction::Wait("it has not gone down yet".to_owned(), format!("for {left} at most"));
        }
        self.back_at = seen.now;
        // The limit of the return still counts if it goes down again.
        (self.phase, self.idle_report) = (StepPhase::CatchUp, (0, 0));
        let text = match (self.down_at, is_another_run) {
            (0, false) => {
                format!("it answers; it was not seen to go down within {}", seconds(limits.settle_ms))
            }
            (0, true) => "it answers, in another run".to_owned(),
            (down, _) => format!("it answers again after {}", seconds(seen.now.saturating_sub(down))),
        };
        NextAction::Tell("returned", text)
    }

    fn catch_up(&mut self, seen: &Observation, server: &ObservedServer, limits: &StepLimits) -> NextAction {
        if !server.is_reachable() {
            self.phase = StepPhase::Return;
            return NextAction::Tell("down", "it does not answer again".to_owned());
        }
        if server.is_catching_up() {
            let gate = server.catching_up.clone().unwrap_or_default();
            let whom = gate.waiting_for.join("; ");
            let whom = if whom.is_empty() { String::new() } else { format!(": {whom}") };
            let limit = gate.limit_at.map_or_else(String::new, |at| {
                format!("its limit is over in {}", seconds(at.saturating_sub(seen.now)))
            });
            return NextAction::Wait(format!("CATCHING UP{whom}"), limit);
        }
        if seen.now.saturating_sub(self.back_at) < STABLE_MS {
            return NextAction::Wait("it answers".to_owned(), String::new());
        }
        let proof = self.proof(seen, server);
        let done = |step: &mut Self, word, text| {
            step.enter(StepPhase::Release, seen.now);
            NextAction::Tell(word, text)
        };
        match proof {
            Ok(text) => done(self, "caught_up", text),
            Err(text) if limits.accept_unproven => {
                done(self, "unproven", format!("{}; accepted", StopReason::Unproven(text)))
            }
            Err(text) => NextAction::Stop(StopReason::Unproven(text)),
        }
    }

    /// Why the server may be trusted, or why nobody can say so.
    fn proof(&self, seen: &Observation, server: &ObservedServer) -> Result<String, String> {
        if seen.others(&self.server).next().is_none() {
            return Ok("there is no other server to catch up with".to_owned());
        }
        match server.last_catch_up.as_ref().filter(|opening| opening.opened_at >= self.hook_at) {
            Some(opening) if opening.by == "limit" => Err("CATCHING UP ended by its limit".to_owned()),
            Some(opening) if matches!(&*opening.by, "evidence" | "freshness" | "administrator") => {
                Ok(format!("it has caught up (by {})", opening.by))
            }
            Some(opening) => Err(format!("CATCHING UP ended without evidence ({})", opening.by)),
            None if self.down_at == 0 => Ok("it was not away".to_owned()),
            None => {
                let away = self.back_at.saturating_sub(self.down_at);
                let evidence = &seen.cluster.evidence;
                if !evidence.enabled {
                    Err("a returned server is not examined, because catch_up is off or nobody reports"
                        .to_owned())
                } else if away <= evidence.after_ms {
                    Ok(format!("it was away for {} only (catch_up.after)", seconds(away)))
                } else {
                    Err("it was away, and was not CATCHING UP: there is no evidence".to_owned())
                }
            }
        }
    }

    fn serve(&mut self, seen: &Observation, server: &ObservedServer, limits: &StepLimits) -> NextAction {
        let waited = seen.now.saturating_sub(self.since);
        let is_as_before = server.state == "RESTRICTED" && self.state_before == "RESTRICTED";
        if is_as_before || matches!(&*server.state, "AVAILABLE" | "BUSY" | "MAXUSERS") {
            return NextAction::Done;
        }
        if waited >= limits.return_ms {
            let why = server.restrictions.join("; ");
            let state =
                if why.is_empty() { server.state.clone() } else { format!("{} ({why})", server.state) };
            return NextAction::Stop(StopReason::NotServing { after_ms: waited, state });
        }
        let left = seconds(limits.return_ms.saturating_sub(waited));
        NextAction::Wait(format!("it is {}", server.state), format!("for {left} at most"))
    }
}

/// What forbids to restrict a server; the plan shows the same.
pub(super) fn before_restricting(
    seen: &Observation,
    server: &ObservedServer,
    limits: &StepLimits,
) -> Option<StopReason> {
    let drain = &seen.drain;
    if drain.last_replicas > 0 && !limits.allow_outage {
        return Some(StopReason::LastReplica {
            count: drain.last_replicas,
            examples: drain.examples.clone(),
        });
    }
    let has_others = seen.others(&server.name).next().is_some();
    if !has_others || limits.accept_unproven {
        return None;
    }
    if server.replicator.as_ref().is_none_or(|report| report.is_idle().is_none()) {
        return Some(StopReason::NoReports);
    }
    let evidence = &seen.cluster.evidence;
    let has_witness = evidence.freshness || evidence.reporting.iter().any(|one| one.server != server.name);
    (!evidence.enabled || !has_witness).then_some(StopReason::NoWitness)
}

pub(super) fn is_restricted_by_maintenance(server: &ObservedServer) -> bool {
    server.restricted_by_admin.as_ref().is_some_and(|r| r.by.starts_with(RESTRICTED_BY))
}

fn not_pushed(report: Option<&ObservedReplicator>, after_ms: u64) -> StopReason {
    match report {
        Some(report) if report.is_idle() == Some(true) => StopReason::TooFewReports { after_ms },
        Some(report) => StopReason::NotReplicated {
            after_ms,
            retry_waiting: report.retry_waiting.unwrap_or(0),
            work_queue_depth: report.work_queue_depth.unwrap_or(0),
        },
        None => StopReason::NoReports,
    }
}

/// A duration in whole seconds, rounded up.
fn seconds(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(ms.div_ceil(1_000))).to_string()
}

#[cfg(test)]
mod tests;

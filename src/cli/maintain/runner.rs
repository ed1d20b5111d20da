//! Carries out the steps of a rolling maintenance: observes the balancer, acts, and keeps the progress. What is done next is
//! decided by `steps`, which has no sockets.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::balancers::Balancers;
use super::hook::{self, HookStatus, RunningHook};
use super::observe::Observation;
use super::phases::{NextAction, StepLimits, StepPhase};
use super::progress::{MaintenanceProgress, ProgressFile};
use super::report::MaintenanceReporter;
use super::steps::ServerStep;
use super::stop::StopReason;
use crate::cli::admin::{Interrupts, WaitOutcome, percent_encode};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// For how long the balancer may not answer, as while it is restarted.
const BALANCER_TIMEOUT: Duration = Duration::from_secs(60);
/// Databases that are named when they would lose their last replica.
pub(super) const MAX_EXAMPLES: usize = 20;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunOutcome {
    Done,
    Stopped,
}

/// How the work at one server ended.
enum StepOutcome {
    Done,
    Stopped(StopReason),
    Interrupted,
}

/// One run over the servers of a cluster.
pub(super) struct MaintenanceRun<'a> {
    pub balancers: &'a Balancers,
    pub interrupts: Interrupts,
    pub limits: StepLimits,
    pub hook: Option<&'a str>,
    pub hook_timeout: Duration,
    pub json: bool,
    /// By whom the servers are restricted.
    pub by: String,
    pub file: ProgressFile,
    pub progress: MaintenanceProgress,
    pub reporter: MaintenanceReporter,
}

impl MaintenanceRun<'_> {
    /// Goes through the servers that are not done.
    ///
    /// # Errors
    /// If the balancer does not answer, or the progress cannot be saved.
    pub(super) fn run(mut self) -> anyhow::Result<RunOutcome> {
        while let Some(server) = self.progress.next_server() {
            let outcome = self.run_server(&server).with_context(|| {
                format!("stopped at {server}; `icm show cluster` shows its state, the same command goes on")
            })?;
            match outcome {
                StepOutcome::Done => {
                    self.reporter.event("serves", Some(&server), "it serves again");
                    self.progress.done.push(server);
                    self.progress.current = None;
                    self.file.save(&self.progress)?;
                }
                StepOutcome::Stopped(reason) => {
                    let advice = reason.advice(&server, self.is_restricted_now());
                    self.reporter.stopped(&server, &reason, &advice);
                    return Ok(RunOutcome::Stopped);
                }
                StepOutcome::Interrupted => {
                    let text = self.after_interruption(&server);
                    self.reporter.event("interrupted", Some(&server), &text);
                    return Ok(RunOutcome::Stopped);
                }
            }
        }
        self.file.remove()?;
        self.reporter.event("done", None, &format!("{} servers are maintained", self.progress.done.len()));
        Ok(RunOutcome::Done)
    }

    fn is_restricted_now(&self) -> bool {
        self.progress
            .current
            .as_ref()
            .is_some_and(|step| step.phase > StepPhase::Check && step.phase < StepPhase::Serve)
    }

    fn after_interruption(&self, server: &str) -> String {
        let again = if self.file.is_kept() {
            "The same command goes on here".to_owned()
        } else {
            let rest: Vec<&str> = self.progress.remaining().map(|name| &**name).collect();
            format!("Progress is not kept without --state-dir; to go on: --servers {}", rest.join(","))
        };
        if self.is_restricted_now() {
            format!(
                "interrupted; it stays RESTRICTED. {again}; `icm release {server}` gives it back to its users"
            )
        } else {
            format!("interrupted; it is not restricted by this run. {again}")
        }
    }

    fn run_server(&mut self, server: &str) -> anyhow::Result<StepOutcome> {
        let Some(seen) = self.observe(server, None)? else { return Ok(StepOutcome::Interrupted) };
        let mut step = match self.progress.current.take() {
            Some(mut step) if step.server == server => {
                step.resume(&seen);
                step
            }
            _ => ServerStep::new(server, seen.now),
        };
        loop {
            let examples = (step.phase == StepPhase::Check).then_some(MAX_EXAMPLES);
            let Some(seen) = self.observe(server, examples)? else { return Ok(StepOutcome::Interrupted) };
            let action = step.next(&seen, &self.limits);
            self.keep(&step)?;
            match action {
                NextAction::Tell(word, text) => {
                    self.reporter.event(word, Some(server), &text);
                    continue;
                }
                NextAction::Wait(what, detail) => self.reporter.waiting(server, &what, &detail),
                NextAction::Restrict => self.restrict(server, false)?,
                NextAction::Close => self.restrict(server, true)?,
                NextAction::RunHook => match self.run_hook(&mut step, &seen)? {
                    Some(StepOutcome::Done) | None => {}
                    Some(outcome) => return Ok(outcome),
                },
                NextAction::Release => self.release(&mut step, seen.now)?,
                NextAction::Done => return Ok(StepOutcome::Done),
                NextAction::Stop(reason) => return Ok(StepOutcome::Stopped(reason)),
            }
            if self.balancers.main.pause(POLL_INTERVAL, &mut self.interrupts) == WaitOutcome::Interrupted {
                return Ok(StepOutcome::Interrupted);
            }
        }
    }

    /// Saves the step if that matters to a later run.
    fn keep(&mut self, step: &ServerStep) -> anyhow::Result<()> {
        if self.progress.current.as_ref() != Some(step) {
            self.progress.current = Some(step.clone());
            self.file.save(&self.progress)?;
        }
        Ok(())
    }

    /// Observes, and waits if the balancer does not answer. `None` = interrupted.
    fn observe(&mut self, server: &str, examples: Option<usize>) -> anyhow::Result<Option<Observation>> {
        let cluster = self.progress.cluster.clone();
        let began = Instant::now();
        loop {
            match self.balancers.observe(&cluster, server, examples) {
                Ok(seen) => return Ok(Some(seen)),
                Err(error) if began.elapsed() >= BALANCER_TIMEOUT => return Err(error),
                Err(error) => self.reporter.waiting(server, &format!("the balancer: {error:#}"), ""),
            }
            if self.balancers.main.pause(POLL_INTERVAL, &mut self.interrupts) == WaitOutcome::Interrupted {
                return Ok(None);
            }
        }
    }

    fn restrict(&mut self, server: &str, closed: bool) -> anyhow::Result<()> {
        let closed_argument = if closed { "&closed=1" } else { "" };
        let action = format!("restrict?by={}{closed_argument}", percent_encode(&self.by));
        let notes = self.balancers.post(server, &action)?;
        if closed {
            self.reporter.event("closed", Some(server), "nobody may return");
        } else {
            self.reporter.event("restricted", Some(server), "RESTRICTED: no new users");
            notes.iter().for_each(|note| self.reporter.event("note", Some(server), note));
        }
        Ok(())
    }

    fn release(&mut self, step: &mut ServerStep, now: u64) -> anyhow::Result<()> {
        let server = step.server.clone();
        let text = match &step.restricted_before {
            Some(by) => {
                self.balancers.post(&server, &format!("restrict?by={}", percent_encode(by)))?;
                format!("stays restricted by {by}, as before")
            }
            None => {
                self.balancers.post(&server, "release")?;
                "released".to_owned()
            }
        };
        step.enter(StepPhase::Serve, now);
        self.keep(step)?;
        self.reporter.event("released", Some(&server), &text);
        Ok(())
    }

    /// Runs the hook and observes the server meanwhile. `None` = it is done.
    fn run_hook(&mut self, step: &mut ServerStep, seen: &Observation) -> anyhow::Result<Option<StepOutcome>> {
        let server = step.server.clone();
        let Some(observed) = seen.server(&server) else {
            return Ok(Some(StepOutcome::Stopped(StopReason::NoSuchServer)));
        };
        (step.hook_at, step.down_at, step.back_at) = (seen.now, 0, 0);
        step.hook_process = None;
        self.keep(step)?;
        let mut running = match self.hook {
            Some(command) => {
                self.reporter.event("hook_started", Some(&server), &format!("hook: {command}"));
                hook::start_command(command, &self.progress.cluster, observed, self.json)?
            }
            None => {
                let text = "maintain it now, and press Enter when it is back";
                self.reporter.event("question", Some(&server), text);
                hook::start_question()
            }
        };
        step.hook_process = running.process();
        self.keep(step)?;
        loop {
            match running.poll(self.hook_timeout)? {
                HookStatus::Running => {}
                HookStatus::Succeeded => break,
                HookStatus::Failed(why) => {
                    return Ok(Some(StepOutcome::Stopped(StopReason::HookFailed(why))));
                }
            }
            if self.balancers.main.pause(POLL_INTERVAL, &mut self.interrupts) == WaitOutcome::Interrupted {
                self.end_hook(&mut running);
                return Ok(Some(StepOutcome::Interrupted));
            }
            // The balancer may be away meanwhile: its events tell later what happened.
            if let Ok(seen) = self.balancers.observe(&self.progress.cluster, &server, None) {
                step.note_outage(&seen);
            }
        }
        step.hook_process = None;
        let text = if self.hook.is_some() { "the hook has succeeded" } else { "Enter was pressed" };
        self.reporter.event("hook_ended", Some(&server), text);
        let now =
            self.balancers.observe(&self.progress.cluster, &server, None).map_or(seen.now, |seen| seen.now);
        step.enter(StepPhase::Return, now);
        self.keep(step)?;
        Ok(None)
    }

    /// A second signal ends the waiting for the hook.
    fn end_hook(&mut self, running: &mut RunningHook) {
        running.interrupt();
        let (admin, interrupts) = (&self.balancers.main, &mut self.interrupts);
        running.wait_for_end(|| admin.pause(POLL_INTERVAL, interrupts) == WaitOutcome::Elapsed);
    }
}

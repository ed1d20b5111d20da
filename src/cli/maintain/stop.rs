//! Why a rolling maintenance stops, and what the administrator does next. Kept apart, because these sentences are read when
//! something has gone wrong.

use crate::cli::output::format_age;

/// A reason to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StopReason {
    #[error("the balancer has no such server in this cluster now")]
    NoSuchServer,
    #[error("another maintenance is at {server}: it is restricted by {by}")]
    OtherMaintenance { server: String, by: String },
    #[error("{count} databases would lose their last eligible replica: {}", list_examples(*.count, .examples))]
    LastReplica { count: usize, examples: Vec<String> },
    #[error("nobody reports Replica.Cluster.Retry.Waiting and WorkQueueDepth of this server")]
    NoReports,
    #[error("nobody could prove later that it has caught up: catch_up is off, or no other server reports")]
    NoWitness,
    #[error("its Cluster Replicator still has work after {}: {retry_waiting} replicas wait for a retry, {work_queue_depth} for their push", format_age(*.after_ms))]
    NotReplicated { after_ms: u64, retry_waiting: u64, work_queue_depth: u64 },
    #[error("fewer than two reports of its Cluster Replicator came within {}", format_age(*.after_ms))]
    TooFewReports { after_ms: u64 },
    #[error("the hook failed: {0}")]
    HookFailed(String),
    #[error("it did not return within {}", format_age(*.after_ms))]
    NotReturned { after_ms: u64 },
    #[error("nobody could prove that it has caught up: {0}")]
    Unproven(String),
    #[error("it is released, but does not serve after {}: {state}", format_age(*.after_ms))]
    NotServing { after_ms: u64, state: String },
}

fn list_examples(count: usize, examples: &[String]) -> String {
    let more = count.saturating_sub(examples.len());
    let list = examples.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

impl StopReason {
    /// A word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoSuchServer => "no_such_server",
            Self::OtherMaintenance { .. } => "other_maintenance",
            Self::LastReplica { .. } => "last_replica",
            Self::NoReports => "no_reports",
            Self::NoWitness => "no_witness",
            Self::NotReplicated { .. } => "not_replicated",
            Self::TooFewReports { .. } => "too_few_reports",
            Self::HookFailed(_) => "hook_failed",
            Self::NotReturned { .. } => "not_returned",
            Self::Unproven(_) => "unproven",
            Self::NotServing { .. } => "not_serving",
        }
    }

    /// What to do next.
    pub(super) fn advice(&self, server: &str, is_restricted: bool) -> String {
        let what = match self {
            Self::NoSuchServer => "name the servers with --servers, or begin anew with --forget",
            Self::OtherMaintenance { .. } => {
                "wait until it has ended; if it was given up, release that server"
            }
            Self::LastReplica { .. } => {
                "create a replica on another server, or accept that these databases are away for a while: --allow-outage"
            }
            Self::NoReports | Self::NoWitness => {
                "give the servers an availability source that has Replica.Cluster.* (docs/availability.md), or go on without \
                 proof: --accept-unproven"
            }
            Self::NotReplicated { .. } => {
                "look at `show stat Replica.Cluster` on its console, and replicate the databases that wait (`replicate SERVER`). \
                 What waits is lost at a restart; --accept-unproven goes on all the same"
            }
            Self::TooFewReports { .. } => {
                "run the same command again with a --drain-timeout of more than two intervals of the availability source"
            }
            Self::HookFailed(_) => {
                "mend its cause and run the same command again, which runs the hook again; if it was done by hand, add --hook-done"
            }
            Self::NotReturned { .. } => {
                "look at the server; when it answers again, run the same command again, which goes on here"
            }
            Self::Unproven(_) => {
                "replicate with this server (`replicate SERVER`) and run the same command again with --accept-unproven"
            }
            Self::NotServing { .. } => {
                "`icm show cluster` says why; run the same command again when it serves"
            }
        };
        if is_restricted {
            format!("{server} stays RESTRICTED until `icm release {server}`. Next: {what}")
        } else {
            format!("{server} is not restricted by this run. Next: {what}")
        }
    }
}

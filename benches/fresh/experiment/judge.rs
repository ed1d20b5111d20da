//! Judges what was served: which reads were older than the reader's own writes, and which newcomers got a replica that was
//! known to be behind. It knows the truth from the servers, not from the load balancer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Events;
use super::control::ReplicaPoll;
use super::ledger::{OwnRead, Records};

/// When a replica is known to be behind: it lacks a change, its modification time is older than that of another running
/// replica by more than `slack_ms`, and both for longer than `after` seconds.
#[derive(Clone, Debug)]
pub struct BehindRule {
    pub slack_ms: u64,
    pub after: f64,
}

/// The reads of an older state in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StaleSecond {
    pub own: u32,
    pub newcomers: u32,
}

/// The counts of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    pub gets: usize,
    pub posts: usize,
    pub own_reads: usize,
    pub newcomers: usize,
    /// Reads without the user's own last write in this database, although the server that took it was up.
    pub own_last_eligible: usize,
    /// ... while that server was down, without a word to the user.
    pub own_last_down: usize,
    /// ... while that server was down, after a page that said so.
    pub own_last_down_told: usize,
    /// Reads without one of his earlier writes.
    pub own_earlier: usize,
    pub newcomers_behind: usize,
    /// Newcomers on the server that returned, before it had the changes of its absence.
    pub newcomers_returned: usize,
    /// Documents that newcomers were not shown, or in an older state, although a running server had them.
    pub outdated_documents: usize,
    pub told: usize,
    pub lost_updates: u64,
    pub replication_conflicts: u64,
    pub save_conflicts: u64,
    /// Saves of a document that the server did not have.
    pub absent_edits: u64,
    pub saves: u64,
    pub failed_gets: usize,
    pub failed_posts: usize,
    /// By kind.
    pub failures: BTreeMap<String, usize>,
    pub moved_users: usize,
    pub moves: usize,
    pub median_ms: f64,
    /// Seconds from the return until every replica had got, once, all that it lacked then.
    fn complete_after(&self) -> Option<f64> {
        let returned = self.polls.iter().position(|poll| poll.at > self.events.back)?;
        let replicas = (0..3).flat_map(|server| (0..3).map(move |database| (server, database)));
        let mut last = returned;
        for key in replicas {
            let lacks = |at: usize| self.polls[at].replicas.get(&key).map(|replica| &replica.lacks);
            for unid in lacks(returned).into_iter().flatten() {
                let got = |at: &usize| lacks(*at).is_some_and(|lacks| !lacks.contains(unid));
                last = last.max((returned..self.polls.len()).find(got)?);
            }
        }
        Some(self.polls[last].at - self.events.back)
    }
}

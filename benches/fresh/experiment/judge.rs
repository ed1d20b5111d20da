//! Judges what was served: which reads were older than the reader's own writes, and which newcomers got a replica that was
//! known to be behind. It knows the truth from the servers, not from the load balancer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::ReplicaPoll;
use super::ledger::{OwnRead, Records};
use super::{DATABASES, Events};

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
    /// By users who miss their own writes and were not told.
    pub own: u32,
    /// By users who miss their own writes, after a page that said so.
    pub told: u32,
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
    /// Milliseconds of every response.
    #[serde(skip)]
    pub times: Vec<f64>,
    /// For each round, seconds from the return until every replica had got all that it lacked then; absent if never.
    pub complete_after: Vec<Option<f64>>,
    pub seconds: Vec<StaleSecond>,
    /// Kill, return, forced replication.
    pub events: [f64; 3],
    /// The first stale reads of the two kinds that must not occur, for the message of a failing test.
    pub examples: Vec<String>,
}

impl Findings {
    /// Adds those of another round.
    pub fn add(&mut self, other: &Findings) {
        let sums: [(&mut usize, usize); 14] = [
            (&mut self.gets, other.gets),
            (&mut self.posts, other.posts),
            (&mut self.own_reads, other.own_reads),
            (&mut self.newcomers, other.newcomers),
            (&mut self.own_last_eligible, other.own_last_eligible),
            (&mut self.own_last_down, other.own_last_down),
            (&mut self.own_last_down_told, other.own_last_down_told),
            (&mut self.own_earlier, other.own_earlier),
            (&mut self.newcomers_behind, other.newcomers_behind),
            (&mut self.newcomers_returned, other.newcomers_returned),
            (&mut self.outdated_documents, other.outdated_documents),
            (&mut self.told, other.told),
            (&mut self.moved_users, other.moved_users),
            (&mut self.moves, other.moves),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
        self.failed_gets += other.failed_gets;
        self.failed_posts += other.failed_posts;
        self.lost_updates += other.lost_updates;
        self.replication_conflicts += other.replication_conflicts;
        self.save_conflicts += other.save_conflicts;
        self.absent_edits += other.absent_edits;
        self.saves += other.saves;
        for (kind, number) in &other.failures {
            *self.failures.entry(kind.clone()).or_default() += number;
        }
        self.times.extend(&other.times);
        self.complete_after.extend(&other.complete_after);
        self.seconds.resize(self.seconds.len().max(other.seconds.len()), StaleSecond::default());
        for (sum, more) in self.seconds.iter_mut().zip(&other.seconds) {
            sum.own += more.own;
            sum.told += more.told;
            sum.newcomers += more.newcomers;
        }
        self.events = other.events;
        self.examples.extend(other.examples.iter().cloned());
    }
}

struct Judge<'a> {
    records: &'a Records,
    polls: &'a [ReplicaPoll],
    events: &'a Events,
    rule: &'a BehindRule,
}

/// `counts` are those of the simulated cluster at the end.
pub fn judge(
    records: &Records,
    polls: &[ReplicaPoll],
    events: &Events,
    rule: &BehindRule,
    counts: &Value,
) -> Findings {
    let judge = Judge { records, polls, events, rule };
    let mut findings = Findings {
        gets: records.gets,
        posts: records.posts,
        own_reads: records.own_reads.len(),
        newcomers: records.newcomers.len(),
        told: records.told,
        moved_users: records.moves.len(),
        moves: records.moves.values().sum(),
        times: records.times.clone(),
        complete_after: vec![judge.complete_after()],
        seconds: vec![StaleSecond::default(); events.end.ceil() as usize + 1],
        events: [events.kill, events.back, events.replicated],
        ..Findings::default()
    };
    judge.own_reads(&mut findings);
    judge.newcomers(&mut findings);
    for failed in &records.failed {
        let method = if failed.is_get { "GET" } else { "POST" };
        *findings.failures.entry(format!("{method} {}", failed.failure)).or_default() += 1;
        if failed.is_get {
            findings.failed_gets += 1;
        } else {
            findings.failed_posts += 1;
        }
    }
    let count = |name: &str| counts[name].as_u64().unwrap_or_default();
    findings.saves = count("saves");
    findings.lost_updates = count("lost_update_edits");
    findings.save_conflicts = count("save_conflicts");
    findings.absent_edits = count("absent_edits");
    findings.replication_conflicts = count("replication_conflicts");
    findings
}

impl Judge<'_> {
    fn own_reads(&self, findings: &mut Findings) {
        for read in self.records.own_reads.iter().filter(|read| self.is_stale(read)) {
            let Some(written) = self.records.writes[&read.wanted].acknowledged else { continue };
            let second = &mut findings.seconds[read.sent as usize];
            *if read.told { &mut second.told } else { &mut second.own } += 1;
            if !read.is_last {
                findings.own_earlier += 1;
            } else if self.is_eligible(written.server, read) {
                findings.own_last_eligible += 1;
                if findings.examples.len() < 20 {
                    findings.examples.push(format!("{read:?} of {written:?}"));
                }
            } else if read.told {
                findings.own_last_down_told += 1;
            } else {
                findings.own_last_down += 1;
            }
        }
    }

    /// Whether the reader did not get his own write. A write that lost against another one in a replication conflict is
    /// not in the newest state either, which is no fault of the server that shows it.
    fn is_stale(&self, read: &OwnRead) -> bool {
        let Some(wanted) = self.records.writes[&read.wanted].acknowledged else { return false };
        let Some((seq, found)) = &read.found else { return true };
        if self.records.includes(found, &read.wanted) {
            return false;
        }
        let before = self.polls.iter().rfind(|poll| poll.at < read.sent).filter(|poll| poll.at > wanted.at);
        let after = self.polls.iter().find(|poll| poll.at > read.received);
        let is_newest = |poll: &ReplicaPoll| {
            let replica = poll.replicas.get(&(read.server, read.database));
            replica.is_some_and(|replica| !replica.lacks.contains_key(&read.unid))
        };
        let lost_a_conflict = *seq >= wanted.seq && before.into_iter().chain(after).any(is_newest);
        !lost_a_conflict
    }

    /// Whether the server that took the write could serve this request from its beginning to its end.
    fn is_eligible(&self, server: usize, read: &OwnRead) -> bool {
        server != 0 || read.received < self.events.kill || read.sent > self.events.eligible
    }

    fn newcomers(&self, findings: &mut Findings) {
        let behind: BTreeMap<(usize, usize), Vec<Option<f64>>> = (0..3)
            .flat_map(|server| (0..DATABASES.len()).map(move |database| (server, database)))
            .map(|key| (key, self.behind_since(key)))
            .collect();
        let complete = self.complete_after().map_or(f64::MAX, |after| self.events.back + after);
        for read in &self.records.newcomers {
            let Some(at) = self.polls.iter().rposition(|poll| poll.at < read.sent) else { continue };
            let key = (read.server, read.database);
            // At the next poll, too, so that it did not become complete meanwhile.
            let since = behind[&key][at].filter(|_| behind[&key].get(at + 1).is_some_and(Option::is_some));
            let is_known = since.is_some_and(|since| read.sent - since > self.rule.after);
            let is_returned = read.server == 0
                && read.sent > self.events.back
                && read.sent < complete
                && !self.lacks(at, key).is_empty();
            findings.newcomers_behind += usize::from(is_known);
            findings.newcomers_returned += usize::from(is_returned);
            findings.outdated_documents += self.lacks(at, key).len();
            if is_known || is_returned {
                findings.seconds[read.sent as usize].newcomers += 1;
            }
            if is_known && findings.examples.len() < 20 {
                findings.examples.push(format!("{read:?}, behind since {since:?}"));
            }
        }
    }

    /// For each poll, since when the replica is behind.
    fn behind_since(&self, key: (usize, usize)) -> Vec<Option<f64>> {
        let mut since = None;
        let is_behind = |poll: &ReplicaPoll| {
            let Some(own) = poll.replicas.get(&key).filter(|_| poll.running[key.0]) else { return false };
            let is_older = |(other, replica): (&(usize, usize), &super::control::ReplicaState)| {
                other.1 == key.1
                    && poll.running[other.0]
                    && replica.modified_ms > own.modified_ms + self.rule.slack_ms
            };
            !own.lacks.is_empty() && poll.replicas.iter().any(is_older)
        };
        let step = |poll: &ReplicaPoll| {
            since = if is_behind(poll) { since.or(Some(poll.at)) } else { None };
            since
        };
        self.polls.iter().map(step).collect()
    }

    /// The documents that this replica lacks and another running one has, at two polls in a row, so that changes on their
    /// way do not count.
    fn lacks(&self, at: usize, key: (usize, usize)) -> Vec<&String> {
        let Some(before) = at.checked_sub(4).and_then(|before| self.polls.get(before)) else {
            return Vec::new();
        };
        let poll = &self.polls[at];
        let (Some(own), Some(own_before)) = (poll.replicas.get(&key), before.replicas.get(&key)) else {
            return Vec::new();
        };
        let others = |unid: &String| {
            (0..3).any(|server| {
                let other = poll.replicas.get(&(server, key.1));
                server != key.0
                    && poll.running[server]
                    && other.is_some_and(|other| !other.lacks.contains_key(unid))
            })
        };
        own.lacks.keys().filter(|unid| own_before.lacks.contains_key(*unid) && others(unid)).collect()
    }

    /// Seconds from the return until every replica had what it lacked then.
    fn complete_after(&self) -> Option<f64> {
        let returned = self.polls.iter().position(|poll| poll.at > self.events.back)?;
        let mut last = returned;
        for (key, replica) in &self.polls[returned].replicas {
            for (unid, (_, wanted)) in &replica.lacks {
                let got = |at: &usize| {
                    let lacks = self.polls[*at].replicas.get(key).map(|replica| &replica.lacks);
                    lacks.is_some_and(|lacks| lacks.get(unid).is_none_or(|(own, _)| own >= wanted))
                };
                last = last.max((returned..self.polls.len()).find(got)?);
            }
        }
        Some(self.polls[last].at - self.events.back)
    }
}

//! Compares the modification times of the replicas of each database.
//!
//! Applying a replicated change sets the time of a replica to the moment of the change there. So a later time counts
//! against another replica only if no change elsewhere explains it: else the server that took a change would look older
//! than those that it was pushed to. A replica that has not reached the time of an unexplained change lacks it if that
//! stays so for long. Until then the first such time is kept as an anchor: it does not move with later changes, which
//! would hide a replica that is stuck.

use ahash::AHashMap;
use smallvec::SmallVec;

use super::{FreshnessTable, ModifiedReading, ReplicaFreshness};
use crate::domain::directory::{ReplicaId, ReplicaStatus};

/// The durations of the rules, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshnessRules {
    /// Differences of two times up to this do not count.
    pub slack_ms: u64,
    /// A replica that is older for longer than this is behind.
    pub behind_after_ms: u64,
    /// After this time it no longer counts as behind; older readings are forgotten.
    pub behind_limit_ms: u64,
}

/// What happened to a replica since the last table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BehindChange {
    /// It lacks changes of another replica since then.
    Behind(u64),
    /// It was behind since then, and has those changes now.
    CaughtUp(u64),
    /// It is older since then, but for so long that the changes may be of a kind that does not replicate.
    GaveUp(u64),
    /// It was behind since then, and can no longer be read.
    Unknown(u64),
}

/// A replica whose state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedChange {
    /// Its database in the directory.
    pub database: ReplicaId,
    /// The tag of its server.
    pub server: u32,
    /// What happened to it.
    pub change: BehindChange,
}

/// A new table, and what differs from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackedTable {
    /// What is known about all replicas.
    pub table: FreshnessTable,
    /// Ordered by database and server.
    pub changes: Vec<TrackedChange>,
    /// Number of replicas that are behind.
    pub behind: usize,
    /// Since when the first of them is behind.
    pub oldest_behind: Option<u64>,
}

/// A time of another replica that this one has not reached.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    modified: u64,
    /// The server where it was made, unless it may have come there by replication.
    made_on: Option<u32>,
    /// A reading long enough after it still showed an older time.
    confirmed: bool,
}

#[derive(Clone, Debug)]
struct TrackedReplica {
    server: u32,
    reading: Option<ModifiedReading>,
    /// Its time before it was last seen to move; `None` = not seen.
    before: Option<u64>,
    /// When the change was made, as far as is known, that its time comes from: here, or on the server that pushed it.
    origin: u64,
    anchor: Option<Anchor>,
    mark: Option<(ReplicaStatus, u64)>,
    /// The last write through this balancer.
    written_at: Option<u64>,
    /// What the last table said.
    shown_behind: Option<u64>,
}

/// Times of one replica that differ by less were read from the same one: HTTP dates have whole seconds.
const SAME_TIME_MS: u64 = 2_000;

type Replicas = SmallVec<[TrackedReplica; 3]>;

/// The replicas of one cluster. All times are milliseconds since 1970 on our clock.
#[derive(Debug, Default)]
pub struct FreshnessTracker {
    databases: AHashMap<ReplicaId, Replicas>,
    /// By server: changes made there between these times have been pushed to all others.
    pushed: AHashMap<u32, (u64, u64)>,
}

impl FreshnessTracker {
    /// Takes a reading; an older one than the last is ignored.
    pub fn record_reading(
        &mut self,
        database: ReplicaId,
        server: u32,
        reading: ModifiedReading,
        rules: &FreshnessRules,
    ) {
        self.change_replica(database, server, |replica| replica.read(reading, rules));
        if let Some(replicas) = self.databases.get_mut(&database) {
            compare(replicas, &self.pushed, rules);
        }
    }

    /// The replica cannot be read, for a reason that will last: what was read before says nothing about it any more.
    pub fn record_unknown(&mut self, database: ReplicaId, server: u32) {
        let known = self.databases.get_mut(&database).into_iter().flatten();
        for replica in known.filter(|replica| replica.server == server) {
            (replica.reading, replica.anchor) = (None, None);
        }
    }

    /// Forgets the modification times of a database, which turned out to say nothing.
    pub fn forget_database(&mut self, database: ReplicaId) {
        for replica in self.databases.get_mut(&database).into_iter().flatten() {
            (replica.reading, replica.anchor) = (None, None);
        }
    }

    /// Takes the mark that a server reports about its replica.
    pub fn record_mark(&mut self, database: ReplicaId, server: u32, mark: ReplicaStatus, at_unix_ms: u64) {
        self.change_replica(database, server, |replica| replica.mark = Some((mark, at_unix_ms)));
    }

    /// A user wrote to this replica through this balancer, so its time no longer proves that it has the changes of the
    /// other replicas.
    pub fn record_write(&mut self, database: ReplicaId, server: u32, at_unix_ms: u64) {
        self.change_replica(database, server, |replica| {
            replica.written_at = replica.written_at.max(Some(at_unix_ms));
        });
    }

    /// All changes made on this server between these times have been pushed: its Cluster Replicator, in one run, had
    /// nothing in its queue and nothing that waited for a retry.
    pub fn record_pushed(&mut self, server: u32, from_unix_ms: u64, until_unix_ms: u64) {
        self.pushed.insert(server, (from_unix_ms, until_unix_ms));
    }

    /// Forgets servers that left the cluster.
    pub fn retain_servers(&mut self, stays: impl Fn(u32) -> bool) {
        self.pushed.retain(|server, _| stays(*server));
        self.databases.retain(|_, replicas| {
            replicas.retain(|replica| stays(replica.server));
            !replicas.is_empty()
        });
    }

    /// Forgets the replicas on a server that it no longer lists.
    pub fn retain_replicas(&mut self, server: u32, stays: impl Fn(ReplicaId) -> bool) {
        self.databases.retain(|database, replicas| {
            if !stays(*database) {
                replicas.retain(|replica| replica.server != server || replica.written_at.is_some());
                for replica in replicas.iter_mut().filter(|replica| replica.server == server) {
                    (replica.reading, replica.anchor, replica.mark) = (None, None, None);
                }
            }
            !replicas.is_empty()
        });
    }

    /// Forgets the modification times, because another source will read them. Marks stay.
    pub fn forget_readings(&mut self) {
        for replica in self.databases.values_mut().flatten() {
            (replica.reading, replica.anchor, replica.shown_behind) = (None, None, None);
        }
    }

    /// Forgets the marks, because no source reports them any more.
    pub fn forget_marks(&mut self) {
        self.databases.values_mut().flatten().for_each(|replica| replica.mark = None);
    }

    /// What is known at this time. Readings older than the limit are forgotten.
    pub fn table(&mut self, rules: &FreshnessRules, now_unix_ms: u64) -> TrackedTable {
        let mut out = TrackedTable::default();
        let is_old = |at: u64| now_unix_ms.saturating_sub(at) > rules.behind_limit_ms;
        let Self { databases, pushed } = self;
        databases.retain(|database, replicas| {
            for replica in replicas.iter_mut() {
                replica.reading = replica.reading.filter(|reading| !is_old(reading.taken_unix_ms));
                replica.written_at = replica.written_at.filter(|at| !is_old(*at));
            }
            compare(replicas, pushed, rules);
            let known = replicas.clone();
            for replica in replicas.iter_mut() {
                let behind = replica.behind(rules, now_unix_ms);
                out.changes.extend(replica.change(behind).map(|change| TrackedChange {
                    database: *database,
                    server: replica.server,
                    change,
                }));
                replica.shown_behind = behind;
                out.behind += usize::from(behind.is_some());
                out.oldest_behind = out.oldest_behind.into_iter().chain(behind).min();
                if replica.reading.is_some() || replica.mark.is_some() {
                    out.table.insert(*database, replica.shown(behind, &known, rules));
                }
            }
            replicas.retain(|replica| !replica.is_blank());
            !replicas.is_empty()
        });
        out.changes.sort_unstable_by_key(|change| (change.database, change.server));
        out
    }

    fn change_replica(&mut self, database: ReplicaId, server: u32, change: impl FnOnce(&mut TrackedReplica)) {
        let replicas = self.databases.entry(database).or_default();
        match replicas.iter_mut().find(|replica| replica.server == server) {
            Some(replica) => change(replica),
            None => {
                let mut replica = TrackedReplica::new(server);
                change(&mut replica);
                replicas.push(replica);
            }
        }
    }
}

/// Finds for each time the change that explains it: one on another server that the replica did not have before, and that
/// was made no later. Of a replica that was never seen to move, a change shortly before its time may be the reason.
fn find_origins(replicas: &mut Replicas, rules: &FreshnessRules) {
    replicas.sort_by_key(|replica| (replica.reading.map(|reading| reading.modified_unix_ms), replica.server));
    let mut origins: SmallVec<[u64; 3]> = SmallVec::new();
    for replica in replicas.iter_mut() {
        let Some(reading) = replica.reading else { continue };
        let modified = reading.modified_unix_ms;
        let before = replica.before.unwrap_or_else(|| modified.saturating_sub(rules.behind_after_ms));
        let explaining = origins.iter().copied().filter(|origin| *origin > before && *origin <= modified);
        replica.origin = replica.origin.min(explaining.max().unwrap_or(u64::MAX));
        origins.push(replica.origin);
    }
}

/// Sets and clears the anchors of all replicas of a database.
fn compare(replicas: &mut Replicas, pushed: &AHashMap<u32, (u64, u64)>, rules: &FreshnessRules) {
    find_origins(replicas, rules);
    let times: SmallVec<[(u32, Anchor); 3]> =
        replicas.iter().filter_map(|r| Some((r.server, r.time()?))).collect();
    // A change that needs no push any more, and that this replica does not show, is of a kind that does not replicate.
    let is_pushed = |anchor: &Anchor| {
        let on = anchor.made_on.and_then(|server| pushed.get(&server));
        on.is_some_and(|(from, until)| (*from..=*until).contains(&anchor.modified))
    };
    for replica in replicas.iter_mut() {
        let Some(reading) = replica.reading else {
            replica.anchor = None;
            continue;
        };
        let reached = reading.modified_unix_ms.saturating_add(rules.slack_ms);
        let newer = times.iter().filter(|(server, anchor)| {
            *server != replica.server && anchor.modified > reached && !is_pushed(anchor)
        });
        let mut newer = newer.map(|(_, anchor)| *anchor).peekable();
        let is_reached = |anchor: &Anchor| anchor.modified <= reached || is_pushed(anchor);
        if newer.peek().is_none() || replica.anchor.as_ref().is_some_and(is_reached) {
            replica.anchor = None;
        }
        // A reading from before the other's change cannot count against this replica. Of several changes the first one
        // is missing for longest.
        let missing = newer.filter(|anchor| reading.taken_unix_ms > anchor.modified);
        let anchor = replica.anchor.or(missing.min_by_key(|anchor| anchor.modified));
        let confirmed_from = |anchor: &Anchor| anchor.modified.saturating_add(rules.behind_after_ms);
        replica.anchor = anchor.map(|anchor| Anchor {
            confirmed: anchor.confirmed || reading.taken_unix_ms >= confirmed_from(&anchor),
            ..anchor
        });
    }
}

impl TrackedReplica {
    fn new(server: u32) -> Self {
        Self {
            server,
            reading: None,
            before: None,
            origin: 0,
            anchor: None,
            mark: None,
            written_at: None,
            shown_behind: None,
        }
    }

    fn read(&mut self, reading: ModifiedReading, rules: &FreshnessRules) {
        let modified = reading.modified_unix_ms;
        match self.reading {
            Some(known) if known.taken_unix_ms > reading.taken_unix_ms => return,
            // Two conversions of the same time may differ a little.
            Some(known) if known.modified_unix_ms.abs_diff(modified) <= rules.slack_ms.min(SAME_TIME_MS) => {
                self.origin = self.origin.min(modified);
            }
            Some(known) if known.modified_unix_ms < modified => {
                self.before = Some(known.modified_unix_ms);
                // The change that it lacked may be gone from the server that took it, under a later one.
                let lacked = self.anchor.map(|anchor| anchor.modified);
                self.origin = lacked.filter(|anchor| *anchor <= modified).unwrap_or(modified);
            }
            _ => (self.before, self.origin) = (None, modified),
        }
        self.reading = Some(reading);
    }

    /// The change behind its time, as an anchor for other replicas.
    fn time(&self) -> Option<Anchor> {
        let modified = self.reading?.modified_unix_ms;
        let made_on = (modified.abs_diff(self.origin) <= SAME_TIME_MS).then_some(self.server);
        Some(Anchor { modified: self.origin, made_on, confirmed: false })
    }

    fn is_blank(&self) -> bool {
        self.reading.is_none() && self.mark.is_none() && self.written_at.is_none()
    }

    /// An anchor that is too old is kept, so that it is not replaced by the next one of a database that never becomes
    /// equal.
    fn behind(&self, rules: &FreshnessRules, now_unix_ms: u64) -> Option<u64> {
        let anchor = self.anchor.filter(|anchor| anchor.confirmed)?;
        let age = now_unix_ms.saturating_sub(anchor.modified);
        (age <= rules.behind_limit_ms).then_some(anchor.modified)
    }

    fn change(&self, behind: Option<u64>) -> Option<BehindChange> {
        match (self.shown_behind, behind) {
            (None, Some(since)) => Some(BehindChange::Behind(since)),
            (Some(since), None) => Some(match (self.reading, self.anchor) {
                (None, _) => BehindChange::Unknown(since),
                (Some(_), Some(_)) => BehindChange::GaveUp(since),
                (Some(_), None) => BehindChange::CaughtUp(since),
            }),
            _ => None,
        }
    }

    fn shown(&self, behind: Option<u64>, all: &Replicas, rules: &FreshnessRules) -> ReplicaFreshness {
        ReplicaFreshness {
            server: self.server,
            reading: self.reading,
            behind_since_unix_ms: behind,
            is_newest: self.is_newest(all, rules),
            mark: self.mark,
        }
    }

    fn is_newest(&self, all: &Replicas, rules: &FreshnessRules) -> bool {
        let Some(own) = self.reading else { return false };
        let others = || all.iter().filter(|other| other.server != self.server).filter_map(|o| o.reading);
        let as_new = |one: ModifiedReading, other: ModifiedReading| {
            one.modified_unix_ms.saturating_add(rules.slack_ms) >= other.modified_unix_ms
        };
        // A time that comes from a write of a user here says nothing about the changes made elsewhere.
        let is_later = |written_at: u64| own.modified_unix_ms > written_at.saturating_add(rules.slack_ms);
        others().next().is_some()
            && others().all(|other| as_new(own, other))
            && self.written_at.is_none_or(is_later)
    }
}

//! What is known about the replicas of a cluster over reloads: modification times, marks, and writes that passed through.
//!
//! Background tasks fill it; requests read the table that is made from it, and only add to its queue of writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::settings::{Freshness, FreshnessSource};
use crate::domain::directory::ReplicaId;
use crate::domain::freshness::{
    ClockOffset, FreshnessRules, FreshnessTracker, ModifiedReading, OwnReads, ServerClock, TrackedTable,
    UnknownModified,
};
use crate::util::clock;

/// A page that is computed while it is sent may be a second older than its `Date`.
const COMPUTED_PAGE_MS: u64 = 1_000;
/// Once, the database may have been modified in the second of the reading.
const COMPUTED_AFTER: u8 = 2;

/// A replica whose `Last-Modified` was the time of the response.
#[derive(Clone, Copy, Debug, Default)]
struct ComputedPage {
    /// How often, in different seconds.
    times: u8,
    /// When that was last counted, on the monotonic clock.
    last_ms: u64,
}

/// A write of a user: the database, the tag of the server, and the time in milliseconds since 1970.
type Write = (ReplicaId, u32, u64);

/// The state of freshness and marks of one cluster.
#[derive(Debug)]
pub struct ReplicaReadings {
    inner: Mutex<Inner>,
    /// A queue, so that a request never waits for a comparison.
    writes: UnboundedSender<Write>,
    takes_writes: AtomicBool,
    /// Notified when the table should be made again.
    pub(super) changed: Notify,
    /// Numbers of the last table, for the metrics.
    behind: AtomicUsize,
    oldest_behind: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    tracker: FreshnessTracker,
    written: UnboundedReceiver<Write>,
    /// Where the modification times came from.
    source: FreshnessSource,
    clocks: AHashMap<u32, ServerClock>,
    own_reads: AHashMap<ReplicaId, OwnReads>,
    /// Replicas of which nothing else was read since.
    computed: AHashMap<(ReplicaId, u32), ComputedPage>,
    /// The time in the last document of each companion: one that does not advance is an old document.
    documents: AHashMap<u32, u64>,
    /// Readings by server and result.
    results: BTreeMap<(u32, &'static str), u64>,
    /// The last warning about members, so that it is given once.
    members_warning: String,
}

impl Default for ReplicaReadings {
    fn default() -> Self {
        let (writes, written) = unbounded_channel();
        let inner = Inner {
            tracker: FreshnessTracker::default(),
            written,
            source: FreshnessSource::Off,
            clocks: AHashMap::new(),
            own_reads: AHashMap::new(),
            computed: AHashMap::new(),
            documents: AHashMap::new(),
            results: BTreeMap::new(),
            members_warning: String::new(),
        };
        Self {
            inner: Mutex::new(inner),
            writes,
            takes_writes: AtomicBool::new(false),
            changed: Notify::new(),
            behind: AtomicUsize::new(0),
            oldest_behind: AtomicU64::new(0),
        }
    }
}

/// A modification time by the clock of its server, in milliseconds since 1970, and when it was read by ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerTimes {
    pub(super) modified: u64,
    /// The server's own time when it answered.
    pub(super) clock: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// The durations of the settings.
pub(super) fn rules(settings: &Freshness) -> FreshnessRules {
    FreshnessRules {
        slack_ms: clock::saturating_millis(settings.slack),
        behind_after_ms: clock::saturating_millis(settings.behind_after),
        behind_limit_ms: clock::saturating_millis(settings.behind_limit),
    }
}

impl ReplicaReadings {
    /// Prepares for the settings after a start or a reload. Times of another source are forgotten, and marks if no
    /// companion is left.
    pub(super) fn prepare(&self, source: FreshnessSource, reads_marks: bool) {
        let mut inner = self.inner.lock();
        if inner.source != source {
            inner.source = source;
            inner.tracker.forget_readings();
            inner.own_reads.clear();
            inner.computed.clear();
            inner.documents.clear();
        }
        if !reads_marks {
            inner.tracker.forget_marks();
        }
        if source == FreshnessSource::Off {
            self.behind.store(0, Relaxed);
            while inner.written.try_recv().is_ok() {}
        }
        self.takes_writes.store(source != FreshnessSource::Off, Relaxed);
    }

    /// Remembers a write for the next table. Does nothing while no modification times are read.
    pub(super) fn record_write(&self, database: ReplicaId, server: u32, at_unix_ms: u64) {
        if self.takes_writes.load(Relaxed) {
            // The receiver lives as long as the sender.
            let _ = self.writes.send((database, server, at_unix_ms));
        }
    }

    /// Takes a modification time that was read alone. Returns why it is unknown, if it is.
    pub(super) fn record_times(
        &self,
        database: ReplicaId,
        server: u32,
        times: ServerTimes,
        rules: &FreshnessRules,
    ) -> Result<(), UnknownModified> {
        let mut inner = self.inner.lock();
        let Inner { tracker, clocks, own_reads, computed, .. } = &mut *inner;
        if times.clock.saturating_sub(times.modified) > COMPUTED_PAGE_MS {
            computed.remove(&(database, server));
        } else if computed.contains_key(&(database, server)) {
            return Err(UnknownModified::EqualsDate);
        }
        let clock = clocks.entry(server).or_default();
        let (sent, received) = (times.sent, times.received);
        let offset = clock.observe(times.clock, sent, received, rules.slack_ms, rules.behind_limit_ms)?;
        let modified_unix_ms = offset.to_ours(times.modified)?;
        let reads = own_reads.entry(database).or_default();
        if reads.is_moved_by_us(server, modified_unix_ms, sent, received) {
            return Err(UnknownModified::MovedByReading);
        }
        // The database was read after the request was sent.
        let reading = ModifiedReading { modified_unix_ms, taken_unix_ms: sent };
        tracker.record_reading(database, server, reading, rules);
        Ok(())
    }

    /// A reading did not say when a replica was modified. Forgets what was read before, if the reason will last.
    pub(super) fn record_unknown(&self, database: ReplicaId, server: u32, why: UnknownModified) {
        let mut inner = self.inner.lock();
        let Inner { tracker, own_reads, computed, .. } = &mut *inner;
        match why {
            UnknownModified::Slow | UnknownModified::ClockMoved => {}
            UnknownModified::EqualsDate => {
                let page = computed.entry((database, server)).or_default();
                let now_ms = clock::now_ms();
                if now_ms.saturating_sub(page.last_ms) > COMPUTED_PAGE_MS * 3 / 2 {
                    *page = ComputedPage { times: page.times.saturating_add(1), last_ms: now_ms };
                }
                if page.times >= COMPUTED_AFTER {
                    tracker.record_unknown(database, server);
                }
            }
            UnknownModified::MovedByReading => {
                tracker.forget_database(database);
                own_reads.remove(&database);
            }
            _ => tracker.record_unknown(database, server),
        }
    }

    /// Runs a change of the tracker under the lock.
    pub(super) fn track<T>(&self, change: impl FnOnce(&mut FreshnessTracker) -> T) -> T {
        change(&mut self.inner.lock().tracker)
    }

    /// Takes the clock of a companion's server. `None` if the document is the one before.
    pub(super) fn observe_document(
        &self,
        server: u32,
        times: ServerTimes,
        rules: &FreshnessRules,
    ) -> Option<Result<ClockOffset, UnknownModified>> {
        let mut inner = self.inner.lock();
        let last = inner.documents.insert(server, times.clock);
        if last.is_some_and(|last| times.clock <= last) {
            return None;
        }
        let clock = inner.clocks.entry(server).or_default();
        let (slack, limit) = (rules.slack_ms, rules.behind_limit_ms);
        Some(clock.observe(times.clock, times.sent, times.received, slack, limit))
    }

    /// Takes the clock of a server from a response to a single question.
    pub(super) fn observe_clock(
        &self,
        server: u32,
        times: ServerTimes,
        rules: &FreshnessRules,
    ) -> Result<ClockOffset, UnknownModified> {
        let mut inner = self.inner.lock();
        let clock = inner.clocks.entry(server).or_default();
        let (sent, received) = (times.sent, times.received);
        clock.observe(times.clock, sent, received, rules.slack_ms, rules.behind_limit_ms)
    }

    /// Counts readings by their result.
    pub(super) fn count(&self, server: u32, result: &'static str, number: u64) {
        if number > 0 {
            *self.inner.lock().results.entry((server, result)).or_default() += number;
        }
    }

    /// All counts by tag of the server and result.
    pub(crate) fn results(&self) -> Vec<((u32, &'static str), u64)> {
        self.inner.lock().results.iter().map(|(key, count)| (*key, *count)).collect()
    }

    /// Number of replicas that are behind, and since when the first one is, in milliseconds since 1970.
    pub(crate) fn behind(&self) -> (usize, Option<u64>) {
        let oldest = self.oldest_behind.load(Relaxed);
        match self.behind.load(Relaxed) {
            0 => (0, None),
            count => (count, Some(oldest)),
        }
    }

    /// True if this text about the members differs from the last one.
    pub(super) fn is_new_members_warning(&self, text: &str) -> bool {
        let mut inner = self.inner.lock();
        let is_new = inner.members_warning != text;
        if is_new {
            text.clone_into(&mut inner.members_warning);
        }
        is_new
    }

    /// Makes the table of this moment, for the servers with these tags.
    pub(super) fn table(&self, rules: &FreshnessRules, tags: &[u32], now_unix_ms: u64) -> TrackedTable {
        let mut inner = self.inner.lock();
        let Inner { tracker, written, clocks, own_reads, computed, documents, .. } = &mut *inner;
        while let Ok((database, server, at)) = written.try_recv() {
            tracker.record_write(database, server, at);
        }
        tracker.retain_servers(|server| tags.contains(&server));
        clocks.retain(|server, _| tags.contains(server));
        documents.retain(|server, _| tags.contains(server));
        let tracked = tracker.table(rules, now_unix_ms);
        computed.retain(|(_, server), _| tags.contains(server));
        own_reads.retain(|database, _| !tracked.table.replicas(*database).is_empty());
        self.behind.store(tracked.behind, Relaxed);
        self.oldest_behind.store(tracked.oldest_behind.unwrap_or(0), Relaxed);
        tracked
    }
}

//! A server of a cluster in the running balancer: its health behind a lock, and atomics for the request path.
//!
//! The request path must never wait, so each change of the health stores what selection reads in atomics. A server
//! lives as long as the process knows it, so its counters and probe history survive every reload.

mod catch_up;
mod in_flight;
mod probe_requests;

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

pub use in_flight::InFlight;

use super::availability::{Baselines, Observed, RequestClass};
use super::counters::Counters;
use super::date_offset::DateOffset;
use super::health::{HealthSettings, HealthSnapshot, ReportSource, Restriction, ServerHealth};
use super::keep_alive::KeepAlive;
use super::load;
use super::name::ServerName;
use super::ranking::Ranking;
use super::report::AvailabilityReport;
use super::server_snapshot::ServerSnapshot;
use super::state::{Port, ServerState, Transition};

const HTTP: u32 = 1;
const HTTPS: u32 = 1 << 1;
const BUSY: u32 = 1 << 2;
const MAX_USERS: u32 = 1 << 3;
const CLOSED: u32 = 1 << 4;

fn bit(port: Port) -> u32 {
    match port {
        Port::Http => HTTP,
        Port::Https => HTTPS,
    }
}

/// Weight of the newest attempt in the failing share.
const FAILING_SHARE_NEWEST: f32 = 0.1;
/// Factor on the failing share for each tick of half a second. It halves the share in about three seconds, so that a
/// server without requests is tried again.
const FAILING_SHARE_DECAY: f32 = 0.9;
/// The bits of an unknown `f32` index.
const UNKNOWN: u32 = u32::MAX;
/// The bits of an unknown ranking index.
const NO_INDEX: u64 = u64::MAX;

/// A Domino server of a cluster.
#[derive(Debug)]
pub struct ClusterServer {
    name: ServerName,
    tag: u32,
    health: Mutex<ServerHealth>,
    observed: Mutex<Observed>,
    ranking: Mutex<Ranking>,
    /// The last probed address of each port: a port at another address must be probed again.
    addresses: Mutex<[Option<SocketAddr>; 2]>,

    flags: AtomicU32,
    state: AtomicU32,
    restricted_since: AtomicU64,
    /// In milliseconds since 1970; 0 = not CATCHING UP.
    catching_up_since: AtomicU64,
    returned_at: AtomicU64,
    /// The bits of an `f32`: the published index, else the observed one, for pages and metrics.
    shown_index: AtomicU32,
    /// The bits of [`load::RankingIndex::index`] and of its `in_flight`, so that both are read together.
    ranking_index: AtomicU64,
    /// The bits of [`load::RankingIndex::noise`].
    noise: AtomicU32,
    max_connections: AtomicU32,
    weight: AtomicU32,
    in_flight: AtomicU32,
    /// WebSocket tunnels, included in `in_flight`.
    tunnels: AtomicU32,
    /// When the last response header arrived; 0 = never.
    last_answer: AtomicU64,
    /// The bits of [`ServerSnapshot::failing`].
    failing_share: AtomicU32,
    /// A connect has failed since the last response.
    failing: AtomicBool,
    /// A probe was requested ahead of the schedule.
    probe_now: AtomicBool,
    /// Ports ([`HTTP`], [`HTTPS`]) on which a request failed before its response header: the next probe decides.
    suspected: AtomicU32,
    /// How long the server keeps pooled connections.
    pub keep_alive: KeepAlive,
    /// How far its clock is from ours.
    pub(crate) date_offset: DateOffset,
    /// Counters for the status page and the metrics.
    pub(crate) counters: Counters,
}

impl ClusterServer {
    /// Creates a server that is UNREACHABLE until its health changes.
    #[must_use]
    pub fn new(name: ServerName, tag: u32, weight: u32, health: ServerHealth) -> Self {
        Self {
            name,
            tag,
            health: Mutex::new(health),
            observed: Mutex::default(),
            ranking: Mutex::default(),
            addresses: Mutex::default(),
            flags: AtomicU32::new(0),
            state: AtomicU32::new(ServerState::Unreachable as u32),
            restricted_since: AtomicU64::new(0),
            catching_up_since: AtomicU64::new(0),
            returned_at: AtomicU64::new(0),
            shown_index: AtomicU32::new(UNKNOWN),
            ranking_index: AtomicU64::new(NO_INDEX),
            noise: AtomicU32::new(0),
            max_connections: AtomicU32::new(0),
            weight: AtomicU32::new(weight.max(1)),
            in_flight: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
            last_answer: AtomicU64::new(0),
            failing_share: AtomicU32::new(0),
            failing: AtomicBool::new(false),
            probe_now: AtomicBool::new(false),
            suspected: AtomicU32::new(0),
            keep_alive: KeepAlive::default(),
            date_offset: DateOffset::default(),
            counters: Counters::default(),
        }
    }

    /// The Domino name of the server.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// A hash of the name that identifies the server within this process. Cookies have keyed tags instead.
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// The current state, read without a lock.
    #[must_use]
    pub fn state(&self) -> ServerState {
        let number = self.state.load(Relaxed) as usize;
        ServerState::ALL.get(number).copied().unwrap_or(ServerState::Unreachable)
    }

    /// The values that selection needs, read without a lock.
    #[must_use]
    pub fn snapshot(&self) -> ServerSnapshot {
        let flags = self.flags.load(Relaxed);
        let ranking_index = self.ranking_index.load(Relaxed);
        let known = ranking_index != NO_INDEX;
        let known_time = |ms: u64| (ms > 0).then_some(ms);
        ServerSnapshot {
            http: flags & HTTP != 0,
            https: flags & HTTPS != 0,
            restricted_since_ms: known_time(self.restricted_since.load(Relaxed)),
            closed: flags & CLOSED != 0,
            busy: flags & BUSY != 0,
            max_users: flags & MAX_USERS != 0,
            catching_up_since_unix_ms: known_time(self.catching_up_since.load(Relaxed)),
            index: known.then(|| f32::from_bits((ranking_index >> 32) as u32)),
            noise: f32::from_bits(self.noise.load(Relaxed)),
            in_flight: self.in_flight.load(Relaxed),
            in_flight_then: if known { f32::from_bits(ranking_index as u32) } else { 0.0 },
            weight: self.weight.load(Relaxed),
            max_connections: self.max_connections.load(Relaxed),
            returned_at_ms: known_time(self.returned_at.load(Relaxed)),
            failing: f32::from_bits(self.failing_share.load(Relaxed)),
        }
    }

    /// The index to show, 0..=100: the published one, else the observed one.
    #[must_use]
    pub fn index(&self) -> Option<f32> {
        let index = self.shown_index.load(Relaxed);
        (index != UNKNOWN).then(|| f32::from_bits(index))
    }

    /// Reads the health under its lock, which pages and metrics may do and the request path may not.
    pub fn read<T>(&self, read: impl FnOnce(&ServerHealth) -> T) -> T {
        read(&self.health.lock())
    }

    /// Applies new settings after a reload.
    pub fn reconfigure(
        &self,
        settings: HealthSettings,
        sources: &[ReportSource],
        weight: u32,
        now_ms: u64,
    ) -> Option<Transition> {
        self.weight.store(weight.max(1), Relaxed);
        self.update_health(now_ms, |health| health.reconfigure(settings, sources, now_ms))
    }

    /// The last probed address of a port.
    #[must_use]
    pub fn last_address(&self, port: Port) -> Option<SocketAddr> {
        let addresses = self.addresses.lock();
        addresses.get(port as usize).copied().flatten()
    }

    /// Sets the address of a port; probes of other addresses no longer count.
    pub fn set_address(&self, port: Port, address: Option<SocketAddr>) {
        let mut addresses = self.addresses.lock();
        if let Some(slot) = addresses.get_mut(port as usize) {
            *slot = address;
        }
    }

    /// Resets a port that has a new address, and requests a probe.
    pub fn address_changed(
        &self,
        port: Port,
        first: Option<Result<u16, &str>>,
        now_ms: u64,
    ) -> Option<Transition> {
        self.probe_now();
        self.update_health(now_ms, |health| health.address_changed(port, first, now_ms))
    }

    /// Counts a probe and adds it to the health.
    pub fn probed(&self, port: Port, result: Result<u16, &str>, now_ms: u64) -> Option<Transition> {
        let [good, bad] = self.counters.probe_counters(port);
        if result.is_ok() { good } else { bad }.fetch_add(1, Relaxed);
        self.update_health(now_ms, |health| health.probed(port, result, now_ms))
    }

    /// Merges the report of a source into the health.
    pub fn report(&self, source: usize, report: &AvailabilityReport, now_ms: u64) -> Option<Transition> {
        self.update_health(now_ms, |health| health.report(source, report, now_ms))
    }

    /// Restricts (`Some`) or releases (`None`) the server on this ICM.
    pub fn restrict(&self, restriction: Option<Restriction>, now_ms: u64) -> Option<Transition> {
        self.update_health(now_ms, |health| health.restrict(restriction, now_ms))
    }

    /// Replaces the restrictions made on the followed ICM, if they changed.
    pub fn restrict_elsewhere(&self, all: Vec<Restriction>, now_ms: u64) -> Option<Transition> {
        if self.read(|health| *health.restrictions_elsewhere() == all) {
            return None;
        }
        self.update_health(now_ms, |health| health.restrict_elsewhere(all, now_ms))
    }

    /// Lets stale reports lapse and updates the observed index, twice a second.
    pub fn tick(&self, range: u8, stale_ms: u64, peers: &load::Peers, now_ms: u64) -> Option<Transition> {
        let expansion = self.observed.lock().expansion(&peers.baselines, now_ms, stale_ms);
        let observed = expansion.map(|xf| xf.index(range));
        self.ranking.lock().observe(observed, self.in_flight(), peers, now_ms);
        let failing = f32::from_bits(self.failing_share.load(Relaxed));
        if failing > 0.0 {
            let faded = if failing < 0.01 { 0.0 } else { failing * FAILING_SHARE_DECAY };
            self.failing_share.store(faded.to_bits(), Relaxed);
        }
        self.update_health(now_ms, |health| health.tick(now_ms))
    }

    /// The observed baselines by request class.
    #[must_use]
    pub fn baselines(&self) -> Baselines {
        self.observed.lock().baselines()
    }

    /// The contribution of this server to [`load::Peers`].
    #[must_use]
    pub fn share(&self) -> load::Share {
        self.ranking.lock().share()
    }

    /// Adds a failed connect to the health, and requests a probe.
    pub fn passive_failure(&self, port: Port, reason: &str, now_ms: u64) -> Option<Transition> {
        self.probe_now();
        self.update_health(now_ms, |health| health.passive_failure(port, reason, now_ms))
    }

    /// A response header arrived, after this time if that is known. Takes the lock only if a connect had failed before.
    pub fn passive_success(&self, port: Port, micros: Option<u64>) {
        match micros {
            Some(micros) => self.counters.response_times.observe(micros),
            None => {
                self.counters.answered_untimed.fetch_add(1, Relaxed);
            }
        }
        if self.failing.load(Relaxed) {
            self.failing.store(false, Relaxed);
            self.health.lock().passive_success(port);
        }
    }

    /// Adds the time to the first byte, unless another thread holds the lock: losing a value costs less than waiting.
    pub fn observe(&self, class: RequestClass, micros: u64, now_ms: u64) {
        self.last_answer.store(now_ms, Relaxed);
        if let Some(mut observed) = self.observed.try_lock() {
            observed.observe(class, micros, now_ms);
        }
    }

    /// An attempt ended; `failed` = another server is tried. If two threads store at once, one value is lost, which
    /// does not matter in a share of many attempts.
    pub fn attempt_ended(&self, failed: bool) {
        let share = f32::from_bits(self.failing_share.load(Relaxed));
        if failed || share > 0.0 {
            let new = share + (f32::from(u8::from(failed)) - share) * FAILING_SHARE_NEWEST;
            self.failing_share.store(new.to_bits(), Relaxed);
        }
    }

    /// Requests of this balancer in flight, including tunnels.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests in flight that are WebSocket tunnels.
    #[must_use]
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Relaxed)
    }

    /// When the last response header arrived.
    #[must_use]
    pub fn last_answer_ms(&self) -> Option<u64> {
        Some(self.last_answer.load(Relaxed)).filter(|ms| *ms > 0)
    }

    /// Stores the index for ranking and the index to show.
    fn store_index(&self, snapshot: &HealthSnapshot, left_busy: bool) {
        let mut ranking = self.ranking.lock();
        if left_busy {
            ranking.leave_busy();
        }
        ranking.publish(snapshot.published_index, snapshot.smoothed_index.map(|index| index as f32));
        let index = ranking.index();
        let bits =
            index.map_or(NO_INDEX, |i| u64::from(i.index.to_bits()) << 32 | u64::from(i.in_flight.to_bits()));
        self.ranking_index.store(bits, Relaxed);
        self.noise.store(index.map_or(0.0, |i| i.noise).to_bits(), Relaxed);
        let shown = snapshot.published_index.map(|index| f32::from(index.value));
        let shown = shown.or(ranking.observed_index());
        self.shown_index.store(shown.map_or(UNKNOWN, f32::to_bits), Relaxed);
    }

    /// Changes the health and stores the values that the request path reads.
    fn update_health(
        &self,
        now_ms: u64,
        change: impl FnOnce(&mut ServerHealth) -> Option<Transition>,
    ) -> Option<Transition> {
        let mut health = self.health.lock();
        let transition = change(&mut health);
        let snapshot = health.snapshot(now_ms);
        let mut flags = 0;
        for (set, bit) in [
            (snapshot.http, HTTP),
            (snapshot.https, HTTPS),
            (snapshot.busy, BUSY),
            (snapshot.max_users, MAX_USERS),
            (health.is_closed(), CLOSED),
        ] {
            if set {
                flags |= bit;
            }
        }
        self.failing.store(health.is_failing(), Relaxed);
        let left_busy = self.flags.swap(flags, Relaxed) & BUSY != 0 && !snapshot.busy;
        self.state.store(snapshot.state as u32, Relaxed);
        self.restricted_since.store(snapshot.restricted_since_ms.map_or(0, |ms| ms.max(1)), Relaxed);
        self.catching_up_since.store(snapshot.catching_up_since_unix_ms.map_or(0, |ms| ms.max(1)), Relaxed);
        self.returned_at.store(health.returned_at().map_or(0, |ms| ms.max(1)), Relaxed);
        self.store_index(&snapshot, left_busy);
        self.max_connections.store(snapshot.max_connections, Relaxed);
        transition
    }
}

#[cfg(test)]
mod tests;

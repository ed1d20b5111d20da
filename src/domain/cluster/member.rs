//! A member of a cluster as the running balancer knows it: its ledger behind a lock for those who
//! learn, and a few atomics for the request path, which never waits.
//!
//! In: reports, probe results, requests that begin and end. Out: a [`View`] for selection. It keeps
//! no sockets and does no I/O. A `Member` lives as long as the process knows the server: counters and
//! probe history survive every reload.

mod in_flight;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use in_flight::InFlight;

use super::availability::{Baselines, Observed, RequestClass};
use super::counters::Counters;
use super::facts::Facts;
use super::indexes::{Indexes, Taken};
use super::keep_alive::KeepAlive;
use super::ledger::{Ledger, Restriction, Settings, Source, Standing};
use super::load;
use super::name::ServerName;
use super::state::{Port, ServerState, Transition};
use super::view::View;

const HTTP: u32 = 1;
const HTTPS: u32 = 1 << 1;
const BUSY: u32 = 1 << 2;
const MAX_USERS: u32 = 1 << 3;

fn bit(port: Port) -> u32 {
    match port {
        Port::Http => HTTP,
        Port::Https => HTTPS,
    }
}

/// Weight of the newest attempt in the failing share.
const NEWEST: f32 = 0.1;
/// What is left of the failing share after a tick of half a second: half after some three seconds, so that
/// a server that nobody is sent to is tried again.
const FADE: f32 = 0.9;
/// Bits of an `f32` that stand for "unknown".
const UNKNOWN: u32 = u32::MAX;
/// The same for a reading.
const NO_READING: u64 = u64::MAX;

/// See the module's description.
#[derive(Debug)]
pub struct Member {
    name: ServerName,
    /// Of the server within its cluster, for the affinity cookie; equal on every ICM.
    tag: u32,
    ledger: Mutex<Ledger>,
    observed: Mutex<Observed>,
    indexes: Mutex<Indexes>,
    /// Where its ports were last seen: another address is another port.
    addresses: Mutex<[Option<SocketAddr>; 2]>,

    flags: AtomicU32,
    state: AtomicU32,
    restricted_since: AtomicU64,
    returned_at: AtomicU64,
    /// Bits of an `f32`: the published index, else the observed one, for those who look.
    shown_index: AtomicU32,
    /// Bits of both numbers of a [`load::Reading`]: what selection ranks by.
    reading: AtomicU64,
    /// Bits of an `f32`: [`load::Reading::noise`].
    noise: AtomicU32,
    max_connections: AtomicU32,
    weight: AtomicU32,
    in_flight: AtomicU32,
    /// Those of the requests in flight that are tunnels.
    tunnels: AtomicU32,
    /// When the last answer's header arrived; 0 = never.
    last_answer: AtomicU64,
    /// Bits of an `f32`: see [`View::failing`].
    failing_share: AtomicU32,
    /// Some passive failure is on record.
    failing: AtomicBool,
    /// A probe is wanted at once.
    probe_now: AtomicBool,
    /// Ports ([`HTTP`], [`HTTPS`]) on which a request failed before the head of its answer: the next probe decides.
    suspected: AtomicU32,
    /// How long it keeps idle connections.
    pub keep_alive: KeepAlive,
    /// Counters for the status page and metrics.
    pub counters: Counters,
}

impl Member {
    /// A server of which nothing is known yet.
    #[must_use]
    pub fn new(name: ServerName, tag: u32, weight: u32, ledger: Ledger) -> Self {
        Self {
            name,
            tag,
            ledger: Mutex::new(ledger),
            observed: Mutex::default(),
            indexes: Mutex::default(),
            addresses: Mutex::default(),
            flags: AtomicU32::new(0),
            state: AtomicU32::new(ServerState::Unreachable as u32),
            restricted_since: AtomicU64::new(0),
            returned_at: AtomicU64::new(0),
            shown_index: AtomicU32::new(UNKNOWN),
            reading: AtomicU64::new(NO_READING),
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
            counters: Counters::default(),
        }
    }

    /// Its Domino name.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// A number made of its name alone, which tells members apart inside this process; cookies have keyed tags.
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// The state as a word, without a lock.
    #[must_use]
    pub fn state(&self) -> ServerState {
        let number = self.state.load(Relaxed) as usize;
        ServerState::ALL.get(number).copied().unwrap_or(ServerState::Unreachable)
    }

    /// Plain data for selection; loads only.
    #[must_use]
    pub fn view(&self) -> View {
        let flags = self.flags.load(Relaxed);
        let reading = self.reading.load(Relaxed);
        let known = reading != NO_READING;
        let never_zero = |ms: u64| (ms > 0).then_some(ms);
        View {
            http: flags & HTTP != 0,
            https: flags & HTTPS != 0,
            restricted_since_ms: never_zero(self.restricted_since.load(Relaxed)),
            busy: flags & BUSY != 0,
            max_users: flags & MAX_USERS != 0,
            index: known.then(|| f32::from_bits((reading >> 32) as u32)),
            noise: f32::from_bits(self.noise.load(Relaxed)),
            in_flight: self.in_flight.load(Relaxed),
            in_flight_then: if known { f32::from_bits(reading as u32) } else { 0.0 },
            weight: self.weight.load(Relaxed),
            max_connections: self.max_connections.load(Relaxed),
            returned_at_ms: never_zero(self.returned_at.load(Relaxed)),
            failing: f32::from_bits(self.failing_share.load(Relaxed)),
        }
    }

    /// Index 0..=100 as an administrator knows it: as published, else as observed.
    #[must_use]
    pub fn index(&self) -> Option<f32> {
        let index = self.shown_index.load(Relaxed);
        (index != UNKNOWN).then(|| f32::from_bits(index))
    }

    /// Reads the ledger: for pages, never on the request path.
    pub fn read<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.lock())
    }

    /// Takes new settings at a reload.
    pub fn reconfigure(
        &self,
        settings: Settings,
        sources: &[Source],
        weight: u32,
        now_ms: u64,
    ) -> Option<Transition> {
        self.weight.store(weight.max(1), Relaxed);
        self.learn(now_ms, |ledger| ledger.reconfigure(settings, sources, now_ms))
    }

    /// Where a port was last seen.
    #[must_use]
    pub fn last_address(&self, port: Port) -> Option<SocketAddr> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(port as usize).copied().flatten()
    }

    /// Remembers where a port is.
    pub fn set_address(&self, port: Port, address: Option<SocketAddr>) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = addresses.get_mut(port as usize) {
            *slot = address;
        }
    }

    /// See [`Ledger::address_changed`]. The new address is probed at once.
    pub fn address_changed(
        &self,
        port: Port,
        first: Option<Result<u16, &str>>,
        now_ms: u64,
    ) -> Option<Transition> {
        self.probe_now();
        self.learn(now_ms, |ledger| ledger.address_changed(port, first, now_ms))
    }

    /// See [`Ledger::probed`].
    pub fn probed(&self, port: Port, result: Result<u16, &str>, now_ms: u64) -> Option<Transition> {
        let [good, bad] = self.counters.of(port);
        if result.is_ok() { good } else { bad }.fetch_add(1, Relaxed);
        self.learn(now_ms, |ledger| ledger.probed(port, result, now_ms))
    }

    /// See [`Ledger::report`].
    pub fn report(&self, source: usize, facts: &Facts, now_ms: u64) -> Option<Transition> {
        self.learn(now_ms, |ledger| ledger.report(source, facts, now_ms))
    }

    /// See [`Ledger::restrict`].
    pub fn restrict(&self, restriction: Option<Restriction>, now_ms: u64) -> Option<Transition> {
        self.learn(now_ms, |ledger| ledger.restrict(restriction, now_ms))
    }

    /// See [`Ledger::restrict_elsewhere`].
    pub fn restrict_elsewhere(&self, all: Vec<Restriction>, now_ms: u64) -> Option<Transition> {
        if self.read(|ledger| *ledger.restrictions_elsewhere() == all) {
            return None;
        }
        self.learn(now_ms, |ledger| ledger.restrict_elsewhere(all, now_ms))
    }

    /// Twice a second: what went stale lapses, and the observed index is renewed.
    pub fn tick(&self, range: u8, stale_ms: u64, peers: &load::Peers, now_ms: u64) -> Option<Transition> {
        let expansion = self.observed.lock().unwrap_or_else(PoisonError::into_inner).expansion(
            &peers.baselines,
            now_ms,
            stale_ms,
        );
        let observed = expansion.map(|xf| xf.index(range));
        self.indexes().observe(observed, self.in_flight(), peers, now_ms);
        let failing = f32::from_bits(self.failing_share.load(Relaxed));
        if failing > 0.0 {
            let faded = if failing < 0.01 { 0.0 } else { failing * FADE };
            self.failing_share.store(faded.to_bits(), Relaxed);
        }
        self.learn(now_ms, |ledger| ledger.tick(now_ms))
    }

    /// See [`Observed::baselines`].
    #[must_use]
    pub fn baselines(&self) -> Baselines {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner).baselines()
    }

    /// What it has for [`load::Peers`].
    #[must_use]
    pub fn share(&self) -> load::Share {
        self.indexes().share()
    }

    /// See [`Ledger::passive_failure`].
    pub fn passive_failure(&self, port: Port, reason: &str, now_ms: u64) -> Option<Transition> {
        self.probe_now();
        self.learn(now_ms, |ledger| ledger.passive_failure(port, reason, now_ms))
    }

    /// An answer's header arrived. Takes the lock only where a row of failures has to be broken.
    pub fn passive_success(&self, port: Port) {
        self.counters.answered.fetch_add(1, Relaxed);
        if self.failing.load(Relaxed) {
            self.failing.store(false, Relaxed);
            self.lock().passive_success(port);
        }
    }

    /// Takes in the time to the first byte. Skipped when somebody else is writing: a sample lost is
    /// cheaper than a request that waits.
    pub fn observe(&self, class: RequestClass, micros: u64, now_ms: u64) {
        self.last_answer.store(now_ms, Relaxed);
        if let Ok(mut observed) = self.observed.try_lock() {
            observed.observe(class, micros, now_ms);
        }
    }

    /// One more attempt ended: whether it was one that tries the next server. Two threads may lose one
    /// of their words, which a share of many can bear and a lock on this path cannot.
    pub fn attempt_ended(&self, failed: bool) {
        let share = f32::from_bits(self.failing_share.load(Relaxed));
        if failed || share > 0.0 {
            let new = share + (f32::from(u8::from(failed)) - share) * NEWEST;
            self.failing_share.store(new.to_bits(), Relaxed);
        }
    }

    /// Asks for a probe at once.
    pub fn probe_now(&self) {
        self.probe_now.store(true, Relaxed);
    }

    /// Whether a probe was asked for; answers `true` once.
    pub fn take_probe_now(&self) -> bool {
        self.probe_now.load(Relaxed) && self.probe_now.swap(false, Relaxed)
    }

    /// A request failed on this port before the head of its answer. That may be the fault of the request (a page on
    /// which the server always fails), so nothing is counted: a probe decides, by itself.
    pub fn suspect(&self, port: Port) {
        self.suspected.fetch_or(bit(port), Relaxed);
    }

    /// Whether the next probe of this port decides by itself.
    #[must_use]
    pub fn is_suspected(&self, port: Port) -> bool {
        self.suspected.load(Relaxed) & bit(port) != 0
    }

    /// The same, for the probe that begins now: what fails from here on asks for another one.
    pub fn take_suspicion(&self, port: Port) -> bool {
        self.suspected.fetch_and(!bit(port), Relaxed) & bit(port) != 0
    }

    /// See [`Ledger::let_one_bad_probe_decide`].
    pub fn let_one_bad_probe_decide(&self, port: Port) {
        self.lock().let_one_bad_probe_decide(port);
    }

    /// Requests of this balancer in flight there.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Those of them that are tunnels (WebSocket).
    #[must_use]
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Relaxed)
    }

    /// When the last answer's header arrived from there.
    #[must_use]
    pub fn last_answer_ms(&self) -> Option<u64> {
        Some(self.last_answer.load(Relaxed)).filter(|ms| *ms > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A poisoned ledger is still the best that is known: nothing in it is half-written that a
        // later report would not mend.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn indexes(&self) -> MutexGuard<'_, Indexes> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins what is known of the index.
    fn rank_by(&self, taken: Option<Taken>, standing: &Standing, left_busy: bool) {
        let mut indexes = self.indexes();
        let (index, raw) = (standing.index.map(|index| index as f32), standing.raw_index.map(f32::from));
        if left_busy {
            indexes.leave_busy();
        }
        indexes.publish(taken, index, raw);
        let reading = indexes.joined();
        let bits = reading
            .map_or(NO_READING, |r| u64::from(r.index.to_bits()) << 32 | u64::from(r.in_flight.to_bits()));
        self.reading.store(bits, Relaxed);
        self.noise.store(reading.map_or(0.0, |r| r.noise).to_bits(), Relaxed);
        let shown = standing.raw_index.map(f32::from).or(indexes.seen());
        self.shown_index.store(shown.map_or(UNKNOWN, f32::to_bits), Relaxed);
    }

    /// Changes the ledger and publishes what the request path reads.
    fn learn(
        &self,
        now_ms: u64,
        change: impl FnOnce(&mut Ledger) -> Option<Transition>,
    ) -> Option<Transition> {
        let mut ledger = self.lock();
        let transition = change(&mut ledger);
        let standing = ledger.standing(now_ms);
        let mut flags = 0;
        for (set, bit) in [
            (standing.http, HTTP),
            (standing.https, HTTPS),
            (standing.busy, BUSY),
            (standing.max_users, MAX_USERS),
        ] {
            if set {
                flags |= bit;
            }
        }
        self.failing.store(ledger.is_failing(), Relaxed);
        let left_busy = self.flags.swap(flags, Relaxed) & BUSY != 0 && !standing.busy;
        self.state.store(standing.state as u32, Relaxed);
        self.restricted_since.store(standing.restricted_since_ms.map_or(0, |ms| ms.max(1)), Relaxed);
        self.returned_at.store(ledger.returned_at().map_or(0, |ms| ms.max(1)), Relaxed);
        self.rank_by(ledger.index_taken(), &standing, left_busy);
        self.max_connections.store(standing.max_connections, Relaxed);
        transition
    }
}

#[cfg(test)]
mod tests;

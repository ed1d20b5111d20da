//! What one member's ranking index is made of: the published one, the observed one, and what lies between them.
//!
//! In: indexes as they come, what is observed twice a second, what is known of the other members. Out: the reading that
//! ranks ([`load::join`]) and this member's share for the others. It knows neither clocks nor locks.

use super::availability::ObservedIndex;
use super::load::{self, Mean, MeanInFlight, Peers, Published, Reading, Share};

/// When an index was taken, and by which source.
pub type Taken = (u64, usize);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Indexes {
    published: Option<(Taken, Published)>,
    observed: Option<Reading>,
    /// Of the observed index since the published one was taken.
    meanwhile: Mean,
    peers: Peers,
    mean: MeanInFlight,
    /// Half seconds since the server left BUSY, until they are [`load::ENOUGH`].
    since_busy: Option<f32>,
}

impl Indexes {
    /// Twice a second: the observed index, if there is one, and the requests in flight.
    pub fn observe(&mut self, seen: Option<ObservedIndex>, in_flight: u32, peers: &Peers, now_ms: u64) {
        self.peers = *peers;
        self.since_busy = self.since_busy.map(|gone| gone + 1.0).filter(|gone| *gone < load::ENOUGH);
        self.mean.sample(in_flight, now_ms);
        let in_flight = self.mean.get();
        self.observed = seen.map(|seen| Reading { index: seen.index, in_flight, noise: seen.noise });
        if let Some(seen) = seen {
            self.meanwhile.add(seen.index);
        }
    }

    /// It was BUSY until now. What was published so far is over, and as nobody was sent there, so is what was observed: for
    /// a while each index that comes counts in full.
    pub fn leave_busy(&mut self) {
        self.since_busy = Some(0.0);
    }

    /// The published index as the ledger has it now; `raw` is what the server said, without what is ours.
    pub fn publish(&mut self, taken: Option<Taken>, index: Option<f32>, raw: Option<f32>) {
        let (before, again) = match (self.published, taken) {
            (Some((before, published)), Some(now)) => (Some(published), before == now),
            _ => (None, false),
        };
        // An exporter that is read more often than Domino renews its index repeats the old one: what was sent and
        // observed since it was taken still counts.
        let (in_flight, beyond) = match before {
            Some(same) if again => (same.reading.in_flight, same.beyond),
            _ => {
                let before = before.filter(|_| self.since_busy.is_none());
                let beyond =
                    raw.and_then(|raw| load::beyond(before, raw, std::mem::take(&mut self.meanwhile)));
                (self.mean.get(), beyond)
            }
        };
        self.published = taken.zip(index).map(|(taken, index)| {
            (taken, Published { reading: Reading { index, in_flight, noise: 0.0 }, beyond })
        });
    }

    /// What ranks.
    pub fn joined(&self) -> Option<Reading> {
        load::join(self.published(self.peers.meanwhile), self.observed, self.peers.beyond)
    }

    /// The observed index.
    pub fn seen(&self) -> Option<f32> {
        self.observed.map(|reading| reading.index)
    }

    /// What it has for [`Peers`].
    pub fn share(&self) -> Share {
        let beyond = self.published(0.0).and_then(|published| published.beyond);
        Share { beyond, meanwhile: self.meanwhile.get() }
    }

    /// The published index. Where nothing was observed before it came, it is held against what is observed since, here
    /// and, unless it has just left BUSY, at `least` everywhere.
    fn published(&self, least: f32) -> Option<Published> {
        let (_, published) = self.published?;
        let least = if self.since_busy.is_some() { f32::MIN } else { least };
        let since = || Some(published.reading.index - self.meanwhile.get()?.max(least));
        Some(Published { beyond: published.beyond.or_else(since), ..published })
    }
}

//! Keeps what the ranking index of one server is computed from. [`load::join`] does the arithmetic.

use super::availability::ObservedIndex;
use super::health::Timestamped;
use super::load::{self, Mean, MeanInFlight, Peers, PublishedIndex, RankingIndex, Share};

/// The published and observed index of a server, and their history.
#[derive(Debug, Default)]
pub struct Ranking {
    published: Option<(Timestamped<u8>, PublishedIndex)>,
    observed: Option<RankingIndex>,
    /// Mean of the observed index since the published one was taken.
    meanwhile: Mean,
    peers: Peers,
    in_flight: MeanInFlight,
    /// Half seconds since the server left BUSY, up to [`load::FULL_WEIGHT_VALUES`].
    since_busy: Option<f32>,
}

impl Ranking {
    /// Adds the observed index and the requests in flight, twice a second.
    pub fn observe(&mut self, observed: Option<ObservedIndex>, in_flight: u32, peers: &Peers, now_ms: u64) {
        self.peers = *peers;
        self.since_busy =
            self.since_busy.map(|ticks| ticks + 1.0).filter(|ticks| *ticks < load::FULL_WEIGHT_VALUES);
        self.in_flight.sample(in_flight, now_ms);
        let in_flight = self.in_flight.get();
        self.observed = observed.map(|seen| RankingIndex { index: seen.index, in_flight, noise: seen.noise });
        if let Some(seen) = observed {
            self.meanwhile.add(seen.index);
        }
    }

    /// The server is no longer BUSY. Its earlier published indexes are out of date, and so are the observed ones,
    /// because it got no new users. For a while each published index counts in full.
    pub fn leave_busy(&mut self) {
        self.since_busy = Some(0.0);
    }

    /// Sets the published index, as reported and smoothed; both `None` = unknown or stale.
    pub fn publish(&mut self, reported: Option<Timestamped<u8>>, smoothed: Option<f32>) {
        let Some((reported, index)) = reported.zip(smoothed) else {
            self.published = None;
            return;
        };
        let before = self.published;
        let (in_flight, beyond) = match before {
            // An exporter that is read more often than Domino renews its index repeats a report. What was observed
            // since that report still counts.
            Some((known, published)) if known.is_same_report(&reported) => {
                (published.in_flight, published.beyond)
            }
            _ => {
                let before = before.map(|(_, published)| published).filter(|_| self.since_busy.is_none());
                let meanwhile = std::mem::take(&mut self.meanwhile);
                (self.in_flight.get(), load::beyond(before, f32::from(reported.value), meanwhile))
            }
        };
        self.published = Some((reported, PublishedIndex { index, in_flight, beyond }));
    }

    /// The index to rank by.
    pub fn index(&self) -> Option<RankingIndex> {
        load::join(self.published(self.peers.meanwhile), self.observed, self.peers.beyond)
    }

    pub fn observed_index(&self) -> Option<f32> {
        self.observed.map(|observed| observed.index)
    }

    /// The contribution of this server to [`Peers`].
    pub fn share(&self) -> Share {
        let beyond = self.published(0.0).and_then(|published| published.beyond);
        Share { beyond, meanwhile: self.meanwhile.get() }
    }

    /// The published index. Without earlier observations it is compared with what is observed since: on this server or,
    /// if that is higher and the server has not just left BUSY, on all servers (`mean_of_all`).
    fn published(&self, mean_of_all: f32) -> Option<PublishedIndex> {
        let (_, published) = self.published?;
        let mean_of_all = if self.since_busy.is_some() { f32::MIN } else { mean_of_all };
        let since = || Some(published.index - self.meanwhile.get()?.max(mean_of_all));
        Some(PublishedIndex { beyond: published.beyond.or_else(since), ..published })
    }
}

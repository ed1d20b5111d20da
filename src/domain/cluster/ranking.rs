//! The index that ranks one server, made of its published and its observed index.
//!
//! It knows neither clocks nor locks: [`load::join`] does the arithmetic, this keeps what has to be remembered for it.

use super::availability::ObservedIndex;
use super::health::Timestamped;
use super::load::{self, Mean, MeanInFlight, Peers, PublishedIndex, RankingIndex, Share};

/// What the ranking index of a server rests on.
#[derive(Debug, Default)]
pub struct Ranking {
    published: Option<(Timestamped<u8>, PublishedIndex)>,
    observed: Option<RankingIndex>,
    /// Of the observed index since the published one was taken.
    meanwhile: Mean,
    peers: Peers,
    in_flight: MeanInFlight,
    /// Half seconds since the server left BUSY, until they are [`load::ENOUGH`].
    since_busy: Option<f32>,
}

impl Ranking {
    /// Called twice a second with the observed index, if there is one, and the requests in flight.
    pub fn observe(&mut self, observed: Option<ObservedIndex>, in_flight: u32, peers: &Peers, now_ms: u64) {
        self.peers = *peers;
        self.since_busy = self.since_busy.map(|gone| gone + 1.0).filter(|gone| *gone < load::ENOUGH);
        self.in_flight.sample(in_flight, now_ms);
        let in_flight = self.in_flight.get();
        self.observed = observed.map(|seen| RankingIndex { index: seen.index, in_flight, noise: seen.noise });
        if let Some(seen) = observed {
            self.meanwhile.add(seen.index);
        }
    }

    /// The server is no longer BUSY. Its earlier published indexes are out of date and, as it got no new users, so is
    /// what was observed: for a while each published index counts in full.
    pub fn leave_busy(&mut self) {
        self.since_busy = Some(0.0);
    }

    /// Takes the published index as reported and smoothed; both `None` = unknown or stale.
    pub fn publish(&mut self, reported: Option<Timestamped<u8>>, smoothed: Option<f32>) {
        let Some((reported, index)) = reported.zip(smoothed) else {
            self.published = None;
            return;
        };
        let before = self.published;
        let (in_flight, beyond) = match before {
            // An exporter that is read more often than Domino renews its index repeats it: what was sent and observed
            // since it was taken still counts.
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

    /// The observed index.
    pub fn observed_index(&self) -> Option<f32> {
        self.observed.map(|observed| observed.index)
    }

    /// What it contributes to [`Peers`].
    pub fn share(&self) -> Share {
        let beyond = self.published(0.0).and_then(|published| published.beyond);
        Share { beyond, meanwhile: self.meanwhile.get() }
    }

    /// The published index. Where nothing was observed before it came, it is compared with what is observed since, here
    /// and, unless the server has just left BUSY, at `least` everywhere.
    fn published(&self, least: f32) -> Option<PublishedIndex> {
        let (_, published) = self.published?;
        let least = if self.since_busy.is_some() { f32::MIN } else { least };
        let since = || Some(published.index - self.meanwhile.get()?.max(least));
        Some(PublishedIndex { beyond: published.beyond.or_else(since), ..published })
    }
}

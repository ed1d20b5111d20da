//! Counters of requests for cached paths, by what the cache did.

use std::sync::atomic::AtomicU64;

/// What the cache did for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// It answered without a server.
    Hit,
    /// A server answered, because nothing was stored.
    Miss,
    /// It answered with a response that is no longer fresh, because no server could.
    Stale,
    /// A server confirmed the response that it had.
    Revalidated,
    /// The request must not use it.
    Bypass,
}

impl CacheResult {
    pub const ALL: [Self; 5] = [Self::Hit, Self::Miss, Self::Stale, Self::Revalidated, Self::Bypass];

    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Bypass => "bypass",
        }
    }

    /// The value of `X-Cache`; `None` if the response has none.
    #[must_use]
    pub fn field(self) -> Option<&'static str> {
        match self {
            Self::Hit => Some("HIT"),
            Self::Miss => Some("MISS"),
            Self::Stale => Some("STALE"),
            Self::Revalidated => Some("REVALIDATED"),
            Self::Bypass => None,
        }
    }

    /// Whether the response came from memory without a server.
    #[must_use]
    pub fn needs_no_server(self) -> bool {
        matches!(self, Self::Hit | Self::Stale)
    }
}

/// The requests with each result.
#[derive(Debug, Default)]
pub struct CacheCounters {
    hit: AtomicU64,
    miss: AtomicU64,
    stale: AtomicU64,
    revalidated: AtomicU64,
    bypass: AtomicU64,
}

impl CacheCounters {
    #[must_use]
    pub fn of(&self, result: CacheResult) -> &AtomicU64 {
        match result {
            CacheResult::Hit => &self.hit,
            CacheResult::Miss => &self.miss,
            CacheResult::Stale => &self.stale,
            CacheResult::Revalidated => &self.revalidated,
            CacheResult::Bypass => &self.bypass,
        }
    }
}

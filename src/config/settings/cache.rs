//! The cache of responses.

use std::time::Duration;

use crate::domain::cached_paths::CachedPaths;

/// Which responses are kept in memory, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSettings {
    /// The memory that they may take, in bytes.
    pub size: u64,
    /// A larger body is not kept; in bytes.
    pub max_object: u64,
    /// How long a response that is no longer fresh may be used while no server can send a new one. Zero: never.
    pub stale: Duration,
    /// The paths whose responses are kept.
    pub paths: CachedPaths,
}

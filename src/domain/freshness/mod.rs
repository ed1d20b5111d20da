//! Which replicas are behind: the modification times of databases on their servers, compared with each other. Pure, so
//! that every sequence of readings can be tested.

mod ignored;
mod own_reads;
mod own_write;
mod server_clock;
mod table;
mod tracker;
mod unknown;

pub use ignored::{IgnoredDatabases, NOT_COMPARED};
pub use own_reads::OwnReads;
pub use own_write::own_write;
pub use server_clock::{ClockOffset, ServerClock};
pub use table::{FreshnessTable, ModifiedReading, ReplicaFreshness};
pub use tracker::{BehindChange, FreshnessRules, FreshnessTracker, TrackedChange, TrackedTable};
pub use unknown::UnknownModified;

#[cfg(test)]
mod tests;

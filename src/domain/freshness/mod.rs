//! Which replicas are behind: the modification times of databases on their servers, compared with each other. Pure, so
//! that every sequence of readings can be tested.

mod table;

pub use table::{FreshnessTable, ModifiedReading, ReplicaFreshness};

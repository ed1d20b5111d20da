//! Which replicas are behind: the modification times of databases on their servers, compared with each other. Pure, so
//! that every sequence of readings can be tested.

mod own_write;
mod table;

pub use own_write::own_write;
pub use table::{FreshnessTable, ModifiedReading, ReplicaFreshness};

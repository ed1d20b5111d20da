//! The decision without traffic: why a request goes where it goes, what would change, what is a single point of failure.

pub mod audit;
pub mod explain;
pub mod simulate;

//! The decision without traffic: why a request goes where it goes, what would change, what is a single point of failure.

pub(crate) mod audit;
pub mod explain;
pub(crate) mod simulate;

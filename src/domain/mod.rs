//! Decides, and does nothing else: what a URL names, which servers hold the database, which of them gets the request.
//!
//! Pure functions of plain values, without sockets, clock, log or a lock on the request path: the same code serves
//! traffic, `explain`, the simulation and the tests.

pub mod affinity;
pub mod cached_paths;
pub mod cluster;
pub mod compression;
pub mod directory;
pub mod freshness;
pub mod login_attempts;
pub mod rehearsal;
pub(crate) mod renewal;
pub(crate) mod rewrite;
pub mod rules;
pub mod save;
pub mod select;
pub mod url;

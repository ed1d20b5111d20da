//! Decides, and does nothing else: what a URL names, who holds the database, which server gets the request.
//!
//! In: plain values. Out: decisions with their reasons. Never a socket, a clock, a log or a lock on the request path:
//! the same code serves traffic, `explain`, the simulation and the tests.

pub mod affinity;
pub mod cluster;
pub mod directory;
pub mod rewrite;
pub mod select;
pub mod url;

//! Learns from Domino: the directory, the Server documents, which ports answer, how available a server is.
//!
//! It is given addresses and settings and returns values; the running state is filled by those who ask.

pub mod availability;
pub(crate) mod directory;
pub mod domino;
pub(crate) mod probe;
pub(crate) mod servers;

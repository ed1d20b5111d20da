//! Reads from Domino: the directory, the Server documents, whether ports answer, how available a server is.
//!
//! It takes addresses and settings and returns values; `state` decides what to do with them.

pub mod availability;
pub(crate) mod caller;
pub(crate) mod directory;
pub mod domino;
pub(crate) mod freshness;
pub(crate) mod probe;
pub(crate) mod replication_request;
pub(crate) mod server_url;
pub(crate) mod servers;
pub(crate) mod site_rules;

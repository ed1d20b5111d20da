//! What Pingora's pool does not track about connections to servers: idle time and number of requests ([`usage`]), response
//! deadlines ([`deadline`]), and whether a connection may carry a request ([`reuse`]).
//!
//! The state is in one table by file descriptor, which is all that Pingora's hooks get of a connection. The fast path has
//! connections ([`connection`]) and a pool ([`pool`]) of its own, and uses the same table. [`service`] is the task of both.

#[allow(dead_code, reason = "the fast path is the user")]
pub mod connection;
mod connection_table;
pub mod deadline;
#[allow(dead_code, reason = "the fast path is the user")]
mod idle_store;
#[allow(dead_code, reason = "the fast path is the user")]
pub mod pool;
pub mod reuse;
pub mod service;
#[cfg(test)]
mod testing;
pub mod tunnel;
pub mod usage;

//! What Pingora's pool does not track about connections to servers: idle time and number of requests (`usage`), response
//! deadlines (`deadline`), and whether a connection may carry a request (`reuse`). Responses as the fast path reads
//! them: head (`raw_response_head`) and body (`response_body`).
//!
//! The state is in one table by file descriptor, which is all that Pingora's hooks get of a connection. The fast path has
//! connections (`connection`) and a pool (`pool`) of its own, and uses the same table. `service` is the task of both.

pub(crate) mod connection;
mod connection_table;
pub(crate) mod deadline;
mod idle_store;
pub(crate) mod pool;
pub mod raw_response_head;
pub mod response_body;
pub mod response_head;
pub(crate) mod reuse;
pub(crate) mod service;
#[cfg(test)]
mod testing;
pub(crate) mod tunnel;
pub(crate) mod usage;

#[cfg(test)]
mod tests;

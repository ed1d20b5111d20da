//! Reading Domino over HTTP: one client, its login, and the rows of a view.
//!
//! In: an address, credentials, the name of a view. Out: bytes, or rows. It never decides what a
//! row means: `directory::source` and `cluster::names_view` do.

pub mod client;
#[cfg(test)]
mod client_tests;
pub mod fault;
pub mod login;
#[cfg(test)]
mod login_tests;
pub mod request;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod view_entries;

pub use client::{DominoClient, DominoResponse};
pub use fault::{Fault, FetchError, ProbeError};
pub use login::LoginSessions;
pub use request::DominoRequest;

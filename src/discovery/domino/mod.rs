//! Reads Domino over HTTP: the client, its login, and the rows of a view.
//!
//! What a row means is decided by `discovery::directory` and `discovery::servers`.

pub(crate) mod client;
#[cfg(test)]
mod client_tests;
pub(crate) mod fault;
pub(crate) mod login;
pub(crate) mod login_cookie;
#[cfg(test)]
mod login_tests;
pub(crate) mod request;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tls;
pub mod view_entries;

pub(crate) use client::{DominoClient, DominoResponse};
pub(crate) use fault::{Fault, FetchError};
pub(crate) use login::LoginSessions;
pub(crate) use request::DominoRequest;

//! The selection without traffic: why a request goes to a server, what a failure would change, and what is a single point
//! of failure.

pub(crate) mod audit;
pub mod explain;
pub mod exposure;
pub mod import;
pub(crate) mod replay;
pub(crate) mod simulate;
pub(crate) mod sso;

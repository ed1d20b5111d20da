//! Keeping a user on the server that holds the session: a signed cookie, no shared store.
//!
//! [`AffinityEntries`] say which server served which database; [`CookieKeys`] turn them into a cookie and back.
//! [`session`] keeps the servers' own session cookies apart, [`carried`] says which requests could bring ours.

pub mod carried;
pub mod cookie;
pub mod entries;
mod isolation;
pub mod session;

pub use carried::SameSite;
pub use cookie::CookieKeys;
pub use entries::{AffinityEntries, AffinityEntry};
pub use session::{CookieClassifier, SessionCookieStyle};

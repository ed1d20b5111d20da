//! Keeping a user on the server that holds the session: a signed cookie, no shared store.
//!
//! [`AffinityEntries`] say which server served which database; [`CookieKeys`] turn them into a cookie and back.
//! [`session`] keeps the servers' own session cookies apart, [`carried`] says which requests could bring ours.

pub mod cookie;
pub mod entries;
pub mod same_site;
pub mod session_cookies;
mod session_tag;

pub use cookie::CookieKeys;
pub use entries::{AffinityEntries, AffinityEntry};
pub use same_site::SameSite;
pub use session_cookies::{CookieClassifier, SessionCookieStyle};

//! Keeps a user on the server that holds the session, by a signed cookie and without a shared store.
//!
//! [`AffinityEntries`] record which server served which database, and [`WriteStamps`] which one took the user's last
//! writes; [`CookieKeys`] turn them into cookies and back.
//! [`session_cookies`] keeps the session cookies of the servers apart, and `same_site` decides which requests could
//! bring our cookie.

pub mod cookie;
pub mod entries;
pub(crate) mod same_site;
pub mod session_cookies;
mod session_tag;
mod verified;
pub mod writes;

pub use cookie::CookieKeys;
pub use entries::{AffinityEntries, AffinityEntry};
pub use same_site::SameSite;
pub use session_cookies::{CookieClassifier, SessionCookieStyle};
pub use writes::{WriteStamp, WriteStamps};

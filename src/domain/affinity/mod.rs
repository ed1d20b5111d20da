//! Keeping a user on the server that holds the session: a signed cookie, no shared store.
//!
//! [`Entries`] say which server served which database; [`Keys`] turn them into a cookie and back.
//! [`session`] keeps the servers' own session cookies apart, [`carried`] says which requests could bring ours.

pub mod carried;
pub mod cookie;
pub mod entries;
mod isolation;
pub mod session;

pub use carried::SameSite;
pub use cookie::Keys;
pub use entries::{Entries, Entry};
pub use session::{Cookies, SessionCookieStyle};

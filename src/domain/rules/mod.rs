//! Which requests a rule of the configuration means: one matcher for routes and access rules, so that both read a URL in
//! the same way, and as Domino opens it.

mod access;
mod baseline;
mod glob;
mod request_match;

pub use access::{AccessDecision, AccessEffect, AccessRule, AccessRules, AccessTest, OpenedDatabases};
pub use baseline::{BaselineReason, is_odd_replica_id};
pub use glob::Glob;
pub use request_match::{RequestFacts, RequestFields, RequestMatch, UrlReading};

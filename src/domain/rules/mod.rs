//! Which requests a rule of the configuration means: one matcher for routes and access rules, so that both read a URL in
//! the same way, and as Domino opens it.

mod access;
mod baseline;
mod glob;
mod opened_databases;
mod request_match;

pub use access::{AccessDecision, AccessEffect, AccessRule, AccessRules, AccessTest};
pub use baseline::BaselineReason;
pub use glob::Glob;
pub use opened_databases::{DatabaseNames, OpenedDatabases, is_odd_replica_id};
pub use request_match::{RequestFacts, RequestFields, RequestMatch, UrlReading};

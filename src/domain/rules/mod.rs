//! Which requests a rule of the configuration means, and what it reads from their URLs: one matcher for routes and access
//! rules, so that both read a URL in the same way, and as Domino opens it.

mod access;
mod baseline;
mod glob;
mod opened_databases;
mod redirect_target;
mod request_match;
mod request_path;
mod site_rule;

pub use access::{AccessDecision, AccessEffect, AccessRule, AccessRules, AccessTest};
pub use baseline::BaselineReason;
pub use glob::Glob;
pub use opened_databases::{DatabaseNames, OpenedDatabases, is_odd_replica_id};
pub use redirect_target::{RedirectTarget, RedirectTargetError, local_url};
pub use request_match::{RequestFacts, RequestFields, RequestMatch, UrlReading};
pub use request_path::{after_segments, file_path};
pub use site_rule::{SiteRule, SiteRuleError, SiteRuleKind, SiteRules};

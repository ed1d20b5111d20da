//! The rules of the site as routes: those whose database the directory has. They are made with each view, because both the
//! rules and the directory change at run time.

use std::fmt;
use std::sync::Arc;

use super::directory::LoadedDirectory;
use crate::config::settings::{HeaderRules, Route, RouteAction};
use crate::domain::directory::LookupResult;
use crate::domain::rules::{SiteRule, SiteRules};
use crate::domain::url;

/// The rules in use, in the order in which they are tried. `Display` tells what became of all of them.
#[derive(Debug, Default)]
pub struct SiteRoutes {
    routes: Vec<Arc<Route>>,
    /// Pattern and database of each route.
    used: Vec<String>,
    /// Pattern of each other rule, and why.
    unused: Vec<String>,
    ignored: usize,
}

impl SiteRoutes {
    pub(super) fn new(rules: &SiteRules, directory: &LoadedDirectory) -> Self {
        let mut made = Self { unused: rules.unused.clone(), ignored: rules.ignored, ..Self::default() };
        for rule in rules.rules() {
            match database_of(rule, directory) {
                Ok(database) => {
                    made.used.push(format!("{} -> {database}", rule.incoming()));
                    made.routes.push(Arc::new(route(rule)));
                }
                Err(reason) => made.unused.push(format!("{}: {reason}", rule.incoming())),
            }
        }
        made
    }

    /// Tried after all routes of the configuration.
    #[must_use]
    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

/// A route that no configuration has: it counts as none of the cluster's.
fn route(rule: &SiteRule) -> Route {
    Route {
        number: usize::MAX,
        name: format!("rule {}", rule.incoming()).into(),
        condition: rule.condition(),
        action: RouteAction::SiteRule(Arc::new(rule.clone())),
        servers: Vec::new(),
        response_timeout: None,
        body_timeout: None,
        headers: HeaderRules::default(),
    }
}

/// The database that a rule leads to, as messages show it; else why it is not used.
fn database_of(rule: &SiteRule, directory: &LoadedDirectory) -> Result<String, String> {
    let target = url::parse(rule.fixed_start());
    if target.hazard.is_some() {
        return Err("servers would interpret the path of the replacement differently".to_owned());
    }
    let Some(database) = &target.database else {
        return match rule.has_stars() {
            true => Ok("the database in the URL".to_owned()),
            false => Err("the replacement names no database".to_owned()),
        };
    };
    let name = String::from_utf8_lossy(database.raw).trim_start_matches('/').to_owned();
    let of_replica = database.replica.and_then(|id| directory.index.find_by_replica_id(id));
    let is_known =
        of_replica.is_some() || directory.index.find_by_url_path(database.raw) != LookupResult::Unknown;
    match is_known || !directory.is_loaded() {
        true => Ok(name),
        false => Err(format!("{name} is not in the directory")),
    }
}

impl fmt::Display for SiteRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} used", self.used.len())?;
        if !self.used.is_empty() {
            write!(f, " ({})", self.used.join(", "))?;
        }
        if !self.unused.is_empty() {
            write!(f, ", {} not used ({})", self.unused.len(), self.unused.join("; "))?;
        }
        match self.ignored {
            0 => Ok(()),
            ignored => write!(f, ", {ignored} of other types"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn before_a_directory_is_read_every_database_may_exist() {
        let rule = |incoming, to| SiteRule::parse("Redirection", incoming, to, &[]).unwrap().unwrap();
        let rules = vec![rule("/a", "/a.nsf"), rule("/pages", "/html/a.html"), rule("/all/*", "/*")];
        let rules = SiteRules::new(rules, vec!["/x: no".to_owned()], 2);
        let routes = SiteRoutes::new(&rules, &LoadedDirectory::empty());
        assert_eq!(
            routes.to_string(),
            "2 used (/all/* -> the database in the URL, /a -> a.nsf), 2 not used (/x: no; /pages: the replacement names no database), 2 of other types"
        );
        let names: Vec<&str> = routes.routes().iter().map(|route| &*route.name).collect();
        assert_eq!(names, ["rule /all/*", "rule /a"]);
        assert_eq!(SiteRoutes::default().to_string(), "0 used");
    }
}

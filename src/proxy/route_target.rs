//! The URL of a request whose route names the database. Apart from what a route does, because access rules and the page of a
//! failed save need it, too.

use crate::config::settings::{Route, RouteAction, RouteDatabase};
use crate::domain::directory::db_path::{self, FoldBuffer};
use crate::domain::rules::after_segments;
use crate::domain::url;

/// The target with the database of the route in place of the one in the URL, else of the segments that the condition
/// names as a prefix; for a rule of the site, what that makes of the URL. So everything that depends on the database, its
/// objects and the command is found as usual. `None` if the route names no database.
pub(super) fn target_with_database(route: &Route, target: &[u8]) -> Option<Vec<u8>> {
    let database = match &route.action {
        RouteAction::Database(database) => database,
        RouteAction::SiteRule(rule) => return rule.substituted(target),
        _ => return None,
    };
    let parsed = url::parse(target);
    let mut named = match database {
        RouteDatabase::Path(path) => format!("/{}", db_path::percent_encode_path(path)),
        RouteDatabase::ReplicaId(id) => format!("/__{id}.nsf"),
    }
    .into_bytes();
    if let Some(of_url) = &parsed.database {
        named.extend_from_slice(target.get(of_url.range.end..).unwrap_or_default());
        return Some(named);
    }
    let mut folded = FoldBuffer::default();
    let prefix = route.condition.prefix_segments(db_path::fold_url_path(parsed.path, &mut folded));
    named.extend_from_slice(after_segments(parsed.path, prefix));
    named.extend_from_slice(target.get(parsed.path.len()..).unwrap_or_default());
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directory::ReplicaId;
    use crate::domain::rules::RequestMatch;

    #[test]
    fn a_route_names_its_database_in_place_of_the_prefix_or_of_the_database_of_the_url() {
        let mut condition = RequestMatch::default();
        condition.add_path_prefix("/shop");
        condition.add_path_prefix("/old.nsf");
        let mut route = Route {
            number: 0,
            name: "shop".into(),
            condition,
            action: RouteAction::Directory,
            servers: Vec::new(),
            response_timeout: None,
            body_timeout: None,
            headers: crate::config::settings::HeaderRules::default(),
        };
        assert_eq!(target_with_database(&route, b"/shop"), None);
        let mut named = |database: &RouteDatabase, target: &str| {
            route.action = RouteAction::Database(database.clone());
            String::from_utf8(target_with_database(&route, target.as_bytes()).unwrap()).unwrap()
        };
        let path = RouteDatabase::Path("web/a shop.nsf".into());
        for (target, expected) in [
            ("/shop/cart?OpenView&x=1", "/web/a%20shop.nsf/cart?OpenView&x=1"),
            ("/SHOP", "/web/a%20shop.nsf"),
            ("/shop?Open", "/web/a%20shop.nsf?Open"),
            ("/old.nsf/view?Open", "/web/a%20shop.nsf/view?Open"),
            ("/", "/web/a%20shop.nsf/"),
        ] {
            assert_eq!(named(&path, target), expected, "{target}");
        }
        let id = RouteDatabase::ReplicaId(ReplicaId(0xC125_7A00_0041_D2E0));
        assert_eq!(named(&id, "/shop/0/1A2?Open"), "/__C1257A000041D2E0.nsf/0/1A2?Open");
    }
}

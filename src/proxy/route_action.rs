//! What the action of a route makes of a request: a response, or another place for it to go. Every action is one arm of
//! [`take`]; `explain` shares it.

use std::borrow::Cow;
use std::sync::Arc;

use super::local_reply::LocalReply;
use super::route_context::TargetUri;
use super::static_files::FileRequest;
use crate::config::settings::{Route, RouteAction, RouteDatabase};
use crate::domain::directory::db_path::{self, FoldBuffer};
use crate::domain::rules::after_segments;
use crate::domain::url;
use crate::pages::Problem;
use crate::state::{Cluster, ClusterView, Snapshot};

/// Where a request goes that a route does not answer itself.
pub(super) struct Destination {
    /// The cluster of the host, unless the route has servers of its own.
    pub cluster: Arc<Cluster>,
    pub view: Arc<ClusterView>,
    /// The target as if the URL named the database of the route. Servers get the URL as it came.
    pub named_target: Option<Cow<'static, [u8]>>,
}

/// A target without a database and a command.
const NOTHING_NAMED: Cow<'static, [u8]> = Cow::Borrowed(b"/");

/// Applies the action of a route.
///
/// # Errors
/// The response of a route that answers itself.
pub(super) fn take(
    snapshot: &Snapshot,
    route: &Route,
    destination: Destination,
    uri: TargetUri<'_>,
) -> Result<Destination, LocalReply> {
    let cluster = &destination.cluster;
    match &route.action {
        RouteAction::Directory => Ok(destination),
        RouteAction::Database(_) => Ok(Destination {
            named_target: target_with_database(route, uri.target).map(Cow::Owned),
            ..destination
        }),
        RouteAction::SiteRule(rule) => {
            let named = rule.substituted(uri.target);
            // What the rule makes of a harmless URL could lead to another database than the one that was judged.
            if named.as_deref().is_some_and(|named| url::parse(named).hazard.is_some()) {
                let problem = Problem::BadRequest(
                    "A rule of the site makes a path of it that servers interpret differently.",
                );
                return Err(LocalReply::Problem(problem, Some(Arc::clone(cluster))));
            }
            Ok(Destination { named_target: named.map(Cow::Owned), ..destination })
        }
        RouteAction::Pool(number) => {
            let position = cluster.settings.first_pool.saturating_add(*number);
            let pool = snapshot.clusters.get(position).unwrap_or(cluster);
            let (cluster, view) = (Arc::clone(pool), pool.view.load_full());
            // `.nsf` and `?Logout` mean nothing there.
            Ok(Destination { cluster, view, named_target: Some(NOTHING_NAMED) })
        }
        // Any server of the cluster can say who the user is.
        RouteAction::HomeMail(_) => Ok(Destination { named_target: Some(NOTHING_NAMED), ..destination }),
        RouteAction::Redirect(redirect) => {
            let location = redirect.to.expand(uri.target, uri.authority);
            Err(LocalReply::RouteRedirect(Arc::clone(cluster), redirect.status, location))
        }
        RouteAction::Respond(response) => Err(LocalReply::Fixed(Arc::clone(cluster), Arc::clone(response))),
        RouteAction::Files(files) => {
            let path = url::parse(uri.target).path;
            let request = FileRequest::new(files, path, &route.condition);
            Err(LocalReply::File(Arc::clone(cluster), request))
        }
        RouteAction::Deny => Err(LocalReply::Problem(Problem::AccessDenied, Some(Arc::clone(cluster)))),
    }
}

/// The target with the database of the route in place of the one in the URL, else of the segments that the condition
/// names as a prefix; for a rule of the site, what that makes of the URL. So everything that depends on the database, its objects and the command is found as usual. `None`
/// if the route names no database.
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

//! What the action of a route makes of a request: a response, or another place for it to go. Every action is one arm of
//! [`take`]; `explain` shares it.

use std::borrow::Cow;
use std::sync::Arc;

use super::local_reply::LocalReply;
use super::route_context::TargetUri;
use super::route_target::target_with_database;
use super::static_files::FileRequest;
use crate::config::settings::{Route, RouteAction};
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

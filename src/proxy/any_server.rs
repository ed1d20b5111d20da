//! Routing that reads nothing of the URL, so that any server may serve: to a pool, whose servers hold no databases, and to
//! the servers that know the user's mail file. It is separate from the routing by databases, of which it shares the cookies
//! and the selection.

use std::sync::Arc;

use pingora_http::RequestHeader;

use super::route_context::{RouteContext, TargetUri};
use super::routed::{Routed, RoutedDatabase};
use super::{request_cookies, user_affinity};
use crate::config::settings::Route;
use crate::domain::cluster::availability::RequestClass;
use crate::domain::url::{self, RequestSafety};
use crate::state::cluster_view::ConnectionKind;
use crate::state::{Cluster, Snapshot};

/// Leads a request to any server of a pool or cluster. The user has one entry for a whole pool, and otherwise goes where
/// he has been last.
pub(super) fn route(
    snapshot: &Arc<Snapshot>,
    cluster: &Arc<Cluster>,
    route: Arc<Route>,
    head: &RequestHeader,
    uri: TargetUri<'_>,
) -> Box<Routed> {
    let view = cluster.view.load_full();
    // `.nsf` and `?Logout` mean nothing there.
    let target = url::parse(b"/");
    let port = cluster.settings.port_for(uri.tls);
    let context = RouteContext { cluster, view: &view, head, uri, target: &target, port };
    let cookies = request_cookies::read(cluster, &view, head);
    let rewrites_cookies = cookies.rewrites_cookies;
    let database = RoutedDatabase { tag: cluster.pool_tag, ..RoutedDatabase::default() };
    let (class, request_class) = match cluster.settings.failover.retry_methods.contains(&head.method) {
        true => (RequestSafety::Safe, RequestClass::Document),
        false => (RequestSafety::Unsafe, RequestClass::Agent),
    };
    let affinity = user_affinity::find(&context, &database, class, cookies);
    Box::new(Routed {
        snapshot: Arc::clone(snapshot),
        authority: uri.authority.into(),
        tls: uri.tls,
        port,
        exchange: ConnectionKind::Request,
        database,
        affinity,
        class,
        request_class,
        is_logout: false,
        rewrites_cookies,
        has_hop_by_hop_fields: true,
        route: Some(route),
        cluster: Arc::clone(cluster),
        view,
    })
}

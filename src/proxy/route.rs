//! Routing: from the head of a request to its cluster, its database and the servers that its user belongs to. It reads
//! what is in memory only, and `explain` shares it.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use pingora_http::RequestHeader;

use super::database_lookup::{find_database, is_login_of_directory, look_up};
use super::local_reply::LocalReply;
use super::route_context::{RouteContext, referer};
use super::routed::Routed;
use super::{request_cookies, request_facts, user_affinity};
use crate::config::settings::{OpenServer, Route};
use crate::domain::cluster::availability::RequestClass;
use crate::domain::directory::LookupResult;
use crate::domain::url::{self, Hazard, RequestSafety, ServerCommand, Target};
use crate::pages::Problem;
use crate::state::cluster_view::ConnectionKind;
use crate::state::{Cluster, ClusterView, Snapshot};

pub use super::route_context::{TargetUri, origin_form};

/// Finds cluster, database and user.
///
/// # Errors
/// The response to a request that goes to no server.
pub fn route(
    snapshot: &Arc<Snapshot>,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    client: Option<IpAddr>,
) -> Result<Box<Routed>, LocalReply> {
    let target = url::parse(uri.target);
    if let Some(hazard) = target.hazard {
        return Err(LocalReply::Problem(problem_of(hazard), None));
    }
    let Some((cluster, view)) = choose_cluster(snapshot, head, uri, &target) else {
        return Err(LocalReply::Problem(Problem::Misdirected, None));
    };
    let route = find_route(&cluster, head, uri, &target, client);
    let command = target.command.server_command();
    if target.database.is_none()
        && command == Some(ServerCommand::OpenServer)
        && cluster.settings.open_server == OpenServer::List
        && matches!(head.method, Method::GET | Method::HEAD)
    {
        return Err(LocalReply::List(cluster, view));
    }
    let port = cluster.settings.port_for(uri.tls);
    let context = RouteContext { cluster: &cluster, view: &view, head, uri, target: &target, port };
    let cookies = request_cookies::read(&cluster, &view, head);
    let rewrites_cookies = cookies.rewrites_cookies;
    let database = find_database(&context, &cookies.entries)?;
    let class = cluster.commands.classify(&target);
    let affinity = user_affinity::find(&context, &database, class, cookies);
    Ok(Box::new(Routed {
        snapshot: Arc::clone(snapshot),
        authority: uri.authority.into(),
        tls: uri.tls,
        certificate: None,
        port,
        exchange: ConnectionKind::Request,
        database,
        affinity,
        class,
        request_class: request_class(&target, class),
        is_logout: command == Some(ServerCommand::Logout),
        rewrites_cookies,
        has_hop_by_hop_fields: true,
        route,
        cluster,
        view,
    }))
}

/// The first route whose condition holds.
fn find_route(
    cluster: &Cluster,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    target: &Target<'_>,
    client: Option<IpAddr>,
) -> Option<Arc<Route>> {
    let routes = &cluster.settings.routes;
    if routes.is_empty() {
        return None;
    }
    request_facts::with_facts(head, uri, target, client, &[], |facts| {
        routes.iter().find(|route| route.condition.matches(facts)).cloned()
    })
}

fn problem_of(hazard: Hazard) -> Problem {
    Problem::BadRequest(match hazard {
        Hazard::DotSegment | Hazard::ControlByte => {
            "The path contains a dot segment or a control character, which servers interpret differently."
        }
        Hazard::AmbiguousDatabase => {
            "The path is written in a way that servers could take for another database."
        }
    })
}

/// The cluster of the host; of several, the one whose directory has the database, else the first. A login goes to the
/// cluster of the page that asks for it, because every cluster has a `names.nsf`.
fn choose_cluster(
    snapshot: &Snapshot,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    target: &Target<'_>,
) -> Option<(Arc<Cluster>, Arc<ClusterView>)> {
    let matching = snapshot.hosts.lookup(uri.authority);
    let first = snapshot.clusters.get(*matching.first()?)?;
    let holder_of = |target: &Target<'_>| {
        matching.iter().filter_map(|number| snapshot.clusters.get(*number)).find_map(|cluster| {
            let view = cluster.view.load_full();
            (look_up(&view, target) != LookupResult::Unknown).then(|| (Arc::clone(cluster), view))
        })
    };
    let found = if matching.len() < 2 {
        None
    } else if is_login_of_directory(target) {
        let redirect_to = target.argument(b"RedirectTo");
        let of_redirect = redirect_to.and_then(|value| holder_of(&url::parse(origin_form(&value).1)));
        of_redirect.or_else(|| holder_of(&referer(head, uri)?))
    } else {
        target.database.as_ref().and_then(|_| holder_of(target))
    };
    found.or_else(|| Some((Arc::clone(first), first.view.load_full())))
}

fn request_class(target: &Target<'_>, class: RequestSafety) -> RequestClass {
    if target.database.is_none() {
        RequestClass::Static
    } else if class != RequestSafety::Safe {
        RequestClass::Agent
    } else if target.attachment
        || target.command.name_bytes().ends_with(b"resource")
        || target.command.is(b"openelement")
    {
        RequestClass::Resource
    } else {
        RequestClass::Document
    }
}

//! Routing: from the head of a request to its cluster, its database and the servers that its user belongs to. It reads
//! what is in memory only, and `explain` shares it.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use pingora_http::RequestHeader;

use super::access::{self, AccessRequest};
use super::database_lookup::{find_database, is_login_of_directory, look_up};
use super::local_reply::LocalReply;
use super::rehearsal_user::RehearsalUser;
use super::route_action::{self, Destination};
use super::route_context::{RouteContext, referer};
use super::routed::{Routed, TakenRoute};
use super::{rehearsal_user, request_cookies, request_facts, save_check, user_affinity};
use crate::config::settings::{OpenServer, Route};
use crate::domain::cluster::availability::RequestClass;
use crate::domain::directory::LookupResult;
use crate::domain::rules::AccessDecision;
use crate::domain::url::{self, Hazard, RequestSafety, ServerCommand, Target};
use crate::pages::Problem;
use crate::state::cluster_view::ConnectionKind;
use crate::state::{Cluster, ClusterView, Snapshot};

pub use super::route_context::{TargetUri, origin_form};

/// What routing made of a request.
#[derive(Debug)]
pub struct Routing {
    /// The route that the request took, also if it is answered here.
    pub route: Option<TakenRoute>,
    /// Where the request goes, or the response to one that goes to no server.
    pub result: Result<Box<Routed>, LocalReply>,
}

/// Finds cluster, route, database and user.
pub fn route(
    snapshot: &Arc<Snapshot>,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    client: Option<IpAddr>,
) -> Routing {
    let target = url::parse(uri.target);
    if let Some(hazard) = target.hazard {
        return Routing { route: None, result: Err(LocalReply::Problem(problem_of(hazard), None)) };
    }
    let question = save_check::question(snapshot, head, uri, &target);
    let of_question = question.as_ref().map(|asked| (Arc::clone(&asked.cluster), Arc::clone(&asked.view)));
    let Some((cluster, view)) = of_question.or_else(|| choose_cluster(snapshot, head, uri, &target)) else {
        return Routing { route: None, result: Err(LocalReply::Problem(Problem::Misdirected, None)) };
    };
    let route = find_route(&cluster, &view, head, uri, &target, client);
    let taken =
        route.as_ref().map(|route| TakenRoute { route: Arc::clone(route), cluster: Arc::clone(&cluster) });
    let request = AccessRequest { cluster: &cluster, view: &view, head, uri, target: &target, client };
    if let Err(reply) = access::check(request, route.as_deref()) {
        return Routing { route: taken, result: Err(reply) };
    }
    // A route for a whole host must not take the link that its own page of a failed save has.
    if let Some(question) = question.filter(|question| question.is_signed() || route.is_none()) {
        return Routing { route: None, result: Err(LocalReply::SaveQuestion(Box::new(question))) };
    }
    let destination = Destination { cluster, view, named_target: None };
    let destination = match &route {
        Some(route) => route_action::take(snapshot, route, destination, uri),
        None => Ok(destination),
    };
    let result = destination.and_then(|mut destination| match destination.named_target.take() {
        Some(named) => find_servers(snapshot, head, uri, (&url::parse(&named), client), destination, route),
        None => find_servers(snapshot, head, uri, (&target, client), destination, route),
    });
    Routing { route: taken, result }
}

/// Finds database and user.
///
/// # Errors
/// The response to a request that goes to no server.
fn find_servers(
    snapshot: &Arc<Snapshot>,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    (target, client): (&Target<'_>, Option<IpAddr>),
    destination: Destination,
    route: Option<Arc<Route>>,
) -> Result<Box<Routed>, LocalReply> {
    let Destination { cluster, view, .. } = destination;
    let command = target.command.server_command();
    if target.database.is_none()
        && command == Some(ServerCommand::OpenServer)
        && cluster.settings.open_server == OpenServer::List
        && matches!(head.method, Method::GET | Method::HEAD)
    {
        return Err(LocalReply::List(cluster, view));
    }
    let port = cluster.settings.port_for(uri.tls);
    let running = rehearsal_user::running(&cluster);
    let draws = running.as_ref().map(|running| (running.id, client));
    let cookies = request_cookies::read(&cluster, &view, head, draws);
    let rehearsal = running.and_then(|running| {
        RehearsalUser::new(running, &view, cookies.rehearsal, cookies.draw, cookies.sessions.clone())
    });
    let context = RouteContext {
        cluster: &cluster,
        view: &view,
        head,
        uri,
        target,
        port,
        route: route.as_deref(),
        rehearsed_server: rehearsal.as_ref().and_then(|user| user.unreachable()),
    };
    let rewrites_cookies = cookies.rewrites_cookies;
    let database = find_database(&context, &cookies.entries)?;
    let class = match cluster.pool_tag {
        Some(_) => class_in_pool(&cluster, head),
        None => cluster.commands.classify(target),
    };
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
        rehearsal,
        class,
        request_class: match cluster.pool_tag {
            Some(_) => request_class_in_pool(class),
            None => request_class(target, class),
        },
        is_logout: command == Some(ServerCommand::Logout),
        rewrites_cookies,
        has_hop_by_hop_fields: true,
        route,
        cluster,
        view,
    }))
}

/// What the access rules of the cluster decide about a request; `None` without a cluster or rules.
pub fn access_of<T>(
    snapshot: &Arc<Snapshot>,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    client: Option<IpAddr>,
    then: impl FnOnce(AccessDecision<'_>) -> T,
) -> Option<T> {
    let target = url::parse(uri.target);
    if target.hazard.is_some() {
        return None;
    }
    let (cluster, view) = choose_cluster(snapshot, head, uri, &target)?;
    if cluster.settings.access.is_empty() {
        return None;
    }
    let (cluster, view, target) = (&cluster, &*view, &target);
    let route = find_route(cluster, view, head, uri, target, client);
    let request = AccessRequest { cluster, view, head, uri, target, client };
    Some(access::decide(request, route.as_deref(), then))
}

/// The first route whose condition holds; the rules of the site come after the routes.
fn find_route(
    cluster: &Cluster,
    view: &ClusterView,
    head: &RequestHeader,
    uri: TargetUri<'_>,
    target: &Target<'_>,
    client: Option<IpAddr>,
) -> Option<Arc<Route>> {
    let (routes, rules) = (&cluster.settings.routes, view.site_routes.routes());
    if routes.is_empty() && rules.is_empty() {
        return None;
    }
    request_facts::with_facts(head, uri, target, client, &[], |facts| {
        routes.iter().chain(rules).find(|route| route.condition.matches(facts)).cloned()
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

/// In a pool the method alone says what a request does to data: its URLs are not Domino's.
fn class_in_pool(pool: &Cluster, head: &RequestHeader) -> RequestSafety {
    match pool.settings.failover.retry_methods.contains(&head.method) {
        true => RequestSafety::Safe,
        false => RequestSafety::Unsafe,
    }
}

fn request_class_in_pool(class: RequestSafety) -> RequestClass {
    if class == RequestSafety::Safe { RequestClass::Document } else { RequestClass::Agent }
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

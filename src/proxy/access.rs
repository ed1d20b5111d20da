//! Applies the access rules of a cluster: collects which databases a server could open for the URL, and asks the rules.
//! `explain` and the audit ask in the same way.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::database_lookup::look_up;
use super::local_reply::{Denial, LocalReply};
use super::request_facts;
use super::route_context::TargetUri;
use super::route_target::target_with_database;
use crate::config::settings::Route;
use crate::domain::directory::db_path::{FoldBuffer, fold_url_path};
use crate::domain::directory::{DatabaseId, LookupResult};
use crate::domain::rules::{AccessDecision, DatabaseNames, OpenedDatabases, is_odd_replica_id};
use crate::domain::url::{self, Target};
use crate::pages::Problem;
use crate::state::{Cluster, ClusterView};

/// A request to a cluster, before any server is chosen.
#[derive(Clone, Copy)]
pub struct AccessRequest<'a> {
    pub cluster: &'a Arc<Cluster>,
    pub view: &'a ClusterView,
    pub head: &'a RequestHeader,
    pub uri: TargetUri<'a>,
    pub target: &'a Target<'a>,
    pub client: Option<IpAddr>,
}

/// Ends a request that a rule denies. The database that its `route` names counts like that of the URL.
///
/// # Errors
/// The response.
pub fn check(request: AccessRequest<'_>, route: Option<&Route>) -> Result<(), LocalReply> {
    if request.cluster.settings.access.is_empty() {
        return Ok(());
    }
    decide(request, route, |decision| match decision {
        AccessDecision::NoRule | AccessDecision::Allowed(_) => Ok(()),
        AccessDecision::Denied { number, status, reason, .. } => Err(LocalReply::Denied(Box::new(Denial {
            cluster: Arc::clone(request.cluster),
            rule: number,
            reason: reason.map_or("access_denied", |reason| reason.as_str()),
            problem: if status == 404 { Problem::NotFound } else { Problem::AccessDenied },
        }))),
    })
}

/// Asks the rules, and passes what they decide to `then`.
pub fn decide<T>(
    request: AccessRequest<'_>,
    route: Option<&Route>,
    then: impl FnOnce(AccessDecision<'_>) -> T,
) -> T {
    let AccessRequest { cluster, view, head, uri, target, client } = request;
    let rules = &cluster.settings.access;
    let named = route.and_then(|route| target_with_database(route, uri.target));
    let mut opened = OpenedDatabases::default();
    if rules.needs_databases() {
        add_databases(&mut opened, view, target);
        if let Some(named) = &named {
            add_databases(&mut opened, view, &url::parse(named));
        }
    }
    request_facts::with_facts(head, uri, target, client, &[], |facts| then(rules.decide(facts, &opened)))
}

/// Adds every database that a server could open for a target: the one it names, or all that have its path.
fn add_databases<'v>(opened: &mut OpenedDatabases<'v>, view: &'v ClusterView, target: &Target<'_>) {
    let Some(database) = &target.database else { return };
    let written = names_in_url(database.raw);
    let found = look_up(view, target);
    let is_replica = database.replica.is_some() || written.iter().any(|name| is_odd_replica_id(name));
    opened.is_unknown_replica |= is_replica && found == LookupResult::Unknown;
    add(opened, view, found, written);
}

fn add<'v>(
    opened: &mut OpenedDatabases<'v>,
    view: &'v ClusterView,
    found: LookupResult,
    written: DatabaseNames<'v>,
) {
    let of = |database: DatabaseId| {
        let database = view.directory.index.database(database);
        let mut names = written.clone();
        for replica in database.replicas() {
            let path = view.directory.index.folded_path(replica.path_id).as_bytes();
            if !names.iter().any(|name| **name == *path) {
                names.push(Cow::Borrowed(path));
            }
        }
        names.push(Cow::Owned(database.replica_id().to_hex().to_ascii_lowercase()));
        names
    };
    match found {
        LookupResult::Unknown => opened.candidates.push(written.clone()),
        LookupResult::Unique(one) => opened.candidates.push(of(one.database)),
        LookupResult::Ambiguous(ambiguous) => {
            let all = view.directory.index.ambiguous_databases(ambiguous);
            opened.candidates.extend(all.map(|found| of(found.database)));
        }
    }
}

/// The folded path; if it has a `+`, also the one with a space instead, which Domino may open.
fn names_in_url<'v>(raw: &[u8]) -> DatabaseNames<'v> {
    let mut buffer = FoldBuffer::default();
    let mut names = DatabaseNames::new();
    names.push(Cow::Owned(fold_url_path(raw, &mut buffer).to_vec()));
    if raw.contains(&b'+') {
        let spaced: SmallVec<[u8; 256]> =
            raw.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        names.push(Cow::Owned(fold_url_path(&spaced, &mut buffer).to_vec()));
    }
    names
}

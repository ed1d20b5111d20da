//! Which database a URL names, and its tag in the affinity cookie.

use std::sync::Arc;

use http::Method;

use super::local_reply::LocalReply;
use super::route_context::{RouteContext, origin_form, referer};
use super::routed::RoutedDatabase;
use crate::config::settings::{AmbiguousPath, UnknownDatabase};
use crate::domain::affinity::{AffinityEntries, cookie};
use crate::domain::directory::{AmbiguousPathId, DatabaseMatch, LookupResult, db_path};
use crate::domain::select::ServerId;
use crate::domain::url::{self, Locator, ServerCommand, Target};
use crate::pages::Problem;
use crate::state::{Cluster, ClusterView};

/// Finds the database of the URL.
///
/// # Errors
/// The response if the path is unknown or stands for several databases.
pub(super) fn find_database(
    context: &RouteContext<'_>,
    entries: &AffinityEntries,
) -> Result<RoutedDatabase, LocalReply> {
    let RouteContext { cluster, view, target, .. } = *context;
    if cluster.pool_tag.is_some() {
        return Ok(RoutedDatabase { tag: cluster.pool_tag, ..RoutedDatabase::default() });
    }
    let (mut found, mut tag) = (None, None);
    match look_up(view, target) {
        _ if is_login_of_directory(target) => {}
        LookupResult::Unique(one) => found = Some(one),
        LookupResult::Ambiguous(ambiguous) => {
            let one = settle_ambiguity(context, entries, ambiguous);
            found = Some(one.ok_or_else(|| ambiguous_reply(context, ambiguous))?);
        }
        LookupResult::Unknown => {
            if let Some(database) = &target.database {
                // A login form opens no database. Before a directory was read, an unknown database may still exist.
                if cluster.settings.unknown_database == UnknownDatabase::NotFound
                    && !target.is_login_form()
                    && view.directory.is_loaded()
                {
                    return Err(LocalReply::Problem(Problem::UnknownDatabase, Some(Arc::clone(cluster))));
                }
                tag = Some(unknown_tag(cluster, database.raw));
            }
        }
    }
    let tag = tag.or_else(|| found.as_ref().map(|found| tag_of(cluster, view, found)));
    let is_named_by_route = context.database_of_route();
    // The URL has no path of this database that could be replaced.
    let range =
        target.database.as_ref().filter(|_| !is_named_by_route).map(|database| database.range.clone());
    let note_id = target.locator == Locator::NoteId && tag.is_some();
    Ok(RoutedDatabase { found, tag, range: range.unwrap_or(0..0), is_named_by_route, note_id })
}

/// Whether the target is a login under `names.nsf`, which every server has even if the directory does not list it.
pub(super) fn is_login_of_directory(target: &Target<'_>) -> bool {
    let command = target.command.server_command();
    matches!(command, Some(ServerCommand::Login | ServerCommand::ProviderLogin)) && target.is_names_nsf()
}

/// Looks a target up in the directory: by replica ID, else by path.
pub(super) fn look_up(view: &ClusterView, target: &Target<'_>) -> LookupResult {
    let Some(database) = &target.database else { return LookupResult::Unknown };
    let index = &view.directory.index;
    if let Some(id) = database.replica
        && let Some(ix) = index.find_by_replica_id(id)
    {
        return LookupResult::Unique(DatabaseMatch { database: ix, path: None });
    }
    index.find_by_url_path(database.raw)
}

pub(super) fn tag_of(cluster: &Cluster, view: &ClusterView, found: &DatabaseMatch) -> u32 {
    cluster.affinity_keys.database_tag(view.directory.index.database(found.database).affinity_tag())
}

/// The tag of a database that is not in the directory. Its user stays on one server too.
fn unknown_tag(cluster: &Cluster, raw: &[u8]) -> u32 {
    let mut folded = db_path::FoldBuffer::default();
    let folded = db_path::fold_url_path(raw, &mut folded);
    cluster.affinity_keys.database_tag(cookie::stable_tag(&cluster.settings.name, "path", folded))
}

/// The tag of the database that a target names.
#[must_use]
pub fn tag_of_target(cluster: &Cluster, view: &ClusterView, target: &[u8]) -> Option<u32> {
    let target = url::parse(target);
    match look_up(view, &target) {
        LookupResult::Unique(found) => Some(tag_of(cluster, view, &found)),
        LookupResult::Ambiguous(_) => None,
        LookupResult::Unknown => target.database.as_ref().map(|database| unknown_tag(cluster, database.raw)),
    }
}

/// Of several databases with one path, the one of the user's most recent entry, else of a Referer of the same origin.
fn settle_ambiguity(
    context: &RouteContext<'_>,
    entries: &AffinityEntries,
    ambiguous: AmbiguousPathId,
) -> Option<DatabaseMatch> {
    let RouteContext { cluster, view, head, uri, .. } = *context;
    let index = &view.directory.index;
    let of_tag =
        |tag: u32| index.ambiguous_databases(ambiguous).find(|found| tag_of(cluster, view, found) == tag);
    if let Some(entry) = entries.most_recent_where(|tag| of_tag(tag).is_some()) {
        return of_tag(entry.database);
    }
    if let Some(LookupResult::Unique(found)) = referer(head, uri).map(|target| look_up(view, &target)) {
        let same = index.ambiguous_databases(ambiguous).find(|one| one.database == found.database);
        if same.is_some() {
            return same;
        }
    }
    if cluster.settings.ambiguous_path == AmbiguousPath::First {
        return index.ambiguous_databases(ambiguous).next();
    }
    None
}

fn ambiguous_reply(context: &RouteContext<'_>, ambiguous: AmbiguousPathId) -> LocalReply {
    let cluster = Arc::clone(context.cluster);
    match cluster.settings.ambiguous_path {
        AmbiguousPath::NotFound => LocalReply::Problem(Problem::UnknownDatabase, Some(cluster)),
        // Where a route names the database, no link can name another one.
        _ if matches!(context.head.method, Method::GET | Method::HEAD) && !context.database_of_route() => {
            LocalReply::Choice(cluster, Arc::clone(context.view), ambiguous)
        }
        _ => LocalReply::Problem(Problem::AmbiguousConflict, Some(cluster)),
    }
}

/// Like [`entry_of_target`], for the value of a `RedirectTo`.
pub(super) fn entry_of_url(
    cluster: &Cluster,
    view: &ClusterView,
    value: &[u8],
    entries: &AffinityEntries,
) -> Option<(ServerId, Option<DatabaseMatch>)> {
    let (_, target) = origin_form(value);
    entry_of_target(cluster, view, &url::parse(target), entries)
}

/// The server of the user's entry for the database of a target, and that database if the directory has it.
pub(super) fn entry_of_target(
    cluster: &Cluster,
    view: &ClusterView,
    target: &Target<'_>,
    entries: &AffinityEntries,
) -> Option<(ServerId, Option<DatabaseMatch>)> {
    let of = |tag: u32| entries.for_database(tag).and_then(|entry| view.server_by_tag(entry.server));
    match look_up(view, target) {
        LookupResult::Unique(found) => of(tag_of(cluster, view, &found)).map(|server| (server, Some(found))),
        LookupResult::Ambiguous(ambiguous) => {
            let index = &view.directory.index;
            let is_one =
                |tag: u32| index.ambiguous_databases(ambiguous).any(|f| tag_of(cluster, view, &f) == tag);
            let entry = entries.most_recent_where(is_one)?;
            view.server_by_tag(entry.server).map(|server| (server, None))
        }
        LookupResult::Unknown => {
            let server = target.database.as_ref().and_then(|d| of(unknown_tag(cluster, d.raw)))?;
            Some((server, None))
        }
    }
}

//! Which servers the user of a request belongs to, by cookies and URL. A user without an entry for the database may
//! have one for a related page.

use http::Method;

use super::database_lookup::{entry_of_target, entry_of_url};
use super::request_cookies::RequestCookies;
use super::route_context::{RouteContext, referer};
use super::routed::{RoutedDatabase, UserAffinity};
use crate::domain::affinity::AffinityEntries;
use crate::domain::cluster::ServerState;
use crate::domain::directory::{DatabaseMatch, ReplicaStatus};
use crate::domain::select::{Hint, ServerId};
use crate::domain::url::RequestSafety;
use crate::util::clock;

pub(super) fn find(
    context: &RouteContext<'_>,
    database: &RoutedDatabase,
    class: RequestSafety,
    cookies: RequestCookies,
) -> UserAffinity {
    let RequestCookies { mut entries, has_affinity_cookie, login, mut sessions, .. } = cookies;
    let has_login_cookie = login.is_some();
    let login = login.filter(|login| {
        let of_this = database.found.as_ref().filter(|_| database.tag == Some(login.database));
        let server = context.view.server_by_tag(login.server);
        server.is_some_and(|server| takes_user(context, of_this, server))
    });
    // A NoteID means another document in another replica, so a login does not move its user.
    if let Some(login) = login.filter(|_| !database.note_id) {
        entries.merge(login);
    }
    let entry = server_of_entry(context, database, class, &entries);
    let recent = entries.most_recent().and_then(|entry| context.view.server_by_tag(entry.server));
    // Sessions matter only where the cookie with the entries was lost, or is older than they are.
    sessions.retain(|session| Some(*session) != recent);
    let may_follow_hint =
        entry.is_none() && database.found.as_ref().is_none_or(|found| context.view.is_on_every_server(found));
    let hint = if may_follow_hint { hint(context, &entries) } else { None };
    UserAffinity {
        entries,
        has_affinity_cookie,
        has_login_cookie,
        login,
        entry,
        hint: hint.map(|(server, hint, _)| (server, hint)),
        hinted_database: hint.and_then(|(_, _, database)| database),
        recent,
        sessions,
    }
}

/// The user's server for this database: the former one if it is back, else that of a newer login, else that of the
/// entry.
fn server_of_entry(
    context: &RouteContext<'_>,
    database: &RoutedDatabase,
    class: RequestSafety,
    entries: &AffinityEntries,
) -> Option<ServerId> {
    let tag = database.tag?;
    let by_tag = |tag: u32| context.view.server_by_tag(tag);
    let found = database.found.as_ref();
    let may_fail_back = matches!(context.head.method, Method::GET | Method::HEAD)
        && class == RequestSafety::Safe
        && !database.note_id;
    let former = if may_fail_back { entries.former_server(tag).and_then(by_tag) } else { None };
    let after_login = if database.note_id { None } else { entries.pending_login(tag).and_then(by_tag) };
    former
        .filter(|former| is_back(context, found, *former))
        .or_else(|| after_login.filter(|server| takes_user(context, found, *server)))
        .or_else(|| entries.for_database(tag).and_then(|entry| by_tag(entry.server)))
}

/// Whether a server has been available for `fail_back`, and takes new users.
fn is_back(context: &RouteContext<'_>, found: Option<&DatabaseMatch>, former: ServerId) -> bool {
    let Some(wait) = context.cluster.settings.affinity.fail_back else { return false };
    let Some(entry) = context.view.server(former) else { return false };
    let seen = entry.server.snapshot();
    // A server that was never away since this process started counts as available since then.
    let available_for = clock::now_ms().saturating_sub(seen.returned_at_ms.unwrap_or_default());
    entry.server.state() == ServerState::Available
        && available_for >= clock::saturating_millis(wait)
        && takes_user(context, found, former)
}

/// Whether a server is reachable and holds the database in service.
fn takes_user(context: &RouteContext<'_>, found: Option<&DatabaseMatch>, server: ServerId) -> bool {
    let answers =
        context.view.server(server).is_some_and(|entry| entry.server.snapshot().is_up(context.port));
    let in_service = |found: &DatabaseMatch| {
        context.view.mark_on(found, server).is_some_and(|mark| mark == ReplicaStatus::InService)
    };
    answers && found.is_none_or(in_service)
}

/// The entry for a related page, and its database.
fn hint(
    context: &RouteContext<'_>,
    entries: &AffinityEntries,
) -> Option<(ServerId, Hint, Option<DatabaseMatch>)> {
    let RouteContext { cluster, view, head, uri, target, .. } = *context;
    if entries.is_empty() {
        return None;
    }
    if let Some(value) = target.argument(b"RedirectTo")
        && let Some((server, found)) = entry_of_url(cluster, view, &value, entries)
    {
        return Some((server, Hint::RedirectTo, found));
    }
    if let Some(of_referer) = referer(head, uri)
        && let Some((server, found)) = entry_of_target(cluster, view, &of_referer, entries)
    {
        return Some((server, Hint::Referer, found));
    }
    let recent = entries.most_recent().and_then(|entry| view.server_by_tag(entry.server))?;
    Some((recent, Hint::Recent, None))
}

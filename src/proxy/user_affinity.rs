//! Which servers the user of a request belongs to, by cookies and URL. A user without an entry for the database may
//! have one for a related page.

use std::time::Duration;

use http::Method;

use super::database_lookup::{entry_of_target, entry_of_url};
use super::own_write;
use super::request_cookies::RequestCookies;
use super::route_context::{RouteContext, referer};
use super::routed::{LastWrite, Routed, RoutedDatabase, UserAffinity};
use crate::domain::affinity::AffinityEntries;
use crate::domain::cluster::ServerState;
use crate::domain::directory::{DatabaseMatch, ReplicaStatus};
use crate::domain::select::{Hint, ServerId};
use crate::domain::url::{RequestSafety, ServerCommand};
use crate::state::cluster_view::UpstreamServer;
use crate::util::clock;

pub(super) fn find(
    context: &RouteContext<'_>,
    database: &RoutedDatabase,
    class: RequestSafety,
    cookies: RequestCookies,
) -> UserAffinity {
    let RequestCookies {
        mut entries,
        has_affinity_cookie,
        login,
        mut sessions,
        write_stamps,
        rehearsal,
        running_rehearsal,
        ..
    } = cookies;
    let fail_back = match rehearsal.is_some_and(|cookie| cookie.returns(running_rehearsal)) {
        // The server was never away.
        true => Some(Duration::ZERO),
        false => context.cluster.settings.affinity.fail_back,
    };
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
    let mut last_write = own_write::find(context, database, class, &write_stamps);
    let former = former_server(context, database, class, &entries, last_write.as_ref(), fail_back);
    let former = former.filter(|server| context.allows(*server));
    let mut moves_last_write = false;
    if let (Some(former), Some(write)) = (former, &mut last_write) {
        // Whether its replica has the write was decided with the fail-back.
        moves_last_write = write.server != former;
        write.server = former;
    }
    // A server that the route leaves out counts as if it were not in the cluster.
    let entry = former.or_else(|| server_of_entry(context, database, &entries));
    let entry = entry.filter(|server| context.allows(*server));
    let recent = entries.most_recent().and_then(|entry| context.view.server_by_tag(entry.server));
    let recent = recent.filter(|server| context.allows(*server));
    // Sessions matter only where the cookie with the entries was lost, or is older than they are.
    sessions.retain(|session| Some(*session) != recent && context.allows(*session));
    let may_follow_hint =
        entry.is_none() && database.found.as_ref().is_none_or(|found| context.view.is_on_every_server(found));
    let hint = if may_follow_hint { hint(context, &entries) } else { None };
    let hint = hint.filter(|(server, ..)| context.allows(*server));
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
        last_write,
        moves_last_write,
        write_stamps,
        posts_login_form: context.head.method == Method::POST
            && context.target.command.server_command() == Some(ServerCommand::Login),
    }
}

/// A login form that is older than this may be posted to another server than the one that showed it.
const LOGIN_FORM_SECS: u32 = 10 * 60;

/// Whether the request posts a login form to the server that served the user lately. That server knows the form.
pub(super) fn posts_recent_login_form(routed: &Routed) -> bool {
    let affinity = &routed.affinity;
    if !affinity.posts_login_form {
        return false;
    }
    let server = affinity.entry.or(affinity.hint.map(|(server, _)| server));
    let tag = server.and_then(|server| routed.view.server(server)).map(UpstreamServer::tag);
    let used = tag.and_then(|tag| affinity.entries.last_use_of_server(tag));
    let now = u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
    used.is_some_and(|used| now.saturating_sub(used) < LOGIN_FORM_SECS)
}

/// The user's former server, if this request leads back to it; `fail_back` is how long it must have been available.
fn former_server(
    context: &RouteContext<'_>,
    database: &RoutedDatabase,
    class: RequestSafety,
    entries: &AffinityEntries,
    last_write: Option<&LastWrite>,
    fail_back: Option<Duration>,
) -> Option<ServerId> {
    let wait = fail_back?;
    if !own_write::may_move(&context.head.method, class, database) {
        return None;
    }
    let former = context.view.server_by_tag(entries.former_server(database.tag?)?)?;
    let has_write = |write| own_write::allows_fail_back(context, database, write, former, wait);
    (is_back(context, database.found.as_ref(), former, wait) && last_write.is_none_or(has_write))
        .then_some(former)
}

/// The user's server for this database: that of a newer login, else that of the entry.
fn server_of_entry(
    context: &RouteContext<'_>,
    database: &RoutedDatabase,
    entries: &AffinityEntries,
) -> Option<ServerId> {
    let tag = database.tag?;
    let by_tag = |tag: u32| context.view.server_by_tag(tag);
    let after_login = if database.note_id { None } else { entries.pending_login(tag).and_then(by_tag) };
    after_login
        .filter(|server| takes_user(context, database.found.as_ref(), *server))
        .or_else(|| entries.for_database(tag).and_then(|entry| by_tag(entry.server)))
}

/// Whether a server has been available for `fail_back`, and takes new users.
fn is_back(
    context: &RouteContext<'_>,
    found: Option<&DatabaseMatch>,
    former: ServerId,
    wait: Duration,
) -> bool {
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
        context.view.server(server).is_some_and(|entry| entry.server.snapshot().is_up(context.port))
            && context.rehearsed_server != Some(server);
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

//! From the head of a request to what it names: cluster, database, user.
//!
//! In: a request's head and the snapshot. Out: [`Routed`], or the answer that it gets at once: a page, a
//! redirect, a list. It asks nobody: everything it needs is in memory.

use std::sync::Arc;

use http::Method;
use pingora_http::RequestHeader;

use super::cookies::{self, Brought};
use super::ctx::Routed;
use crate::config::settings::{AmbiguousPath, OpenServer, UnknownDatabase};
use crate::domain::affinity::{Entries, carried, cookie};
use crate::domain::cluster::availability::RequestClass;
use crate::domain::cluster::{Port, ServerState};
use crate::domain::directory::{AmbiguousIx, Found, Lookup, Mark};
use crate::domain::select::{Hint, MemberIx};
use crate::domain::url::{self, Class, Hazard, Locator, ServerCommand, Target};
use crate::pages::Problem;
use crate::state::view::Exchange;
use crate::state::{Cluster, Snapshot, View};
use crate::util::clock;

/// The first step's answer.
#[derive(Debug)]
pub enum Route {
    /// Goes to a server.
    To(Box<Routed>),
    /// Gets a page, of this cluster where it is clear whose the request is.
    Problem(Problem, Option<Arc<Cluster>>),
    /// One path, several databases: the choice page.
    Choose(Arc<Cluster>, Arc<View>, AmbiguousIx),
    /// `?OpenServer` as a list.
    List(Arc<Cluster>, Arc<View>),
}

impl Route {
    /// Whose the request is, where that is clear.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::To(routed) => Some(&routed.cluster),
            Self::Problem(_, cluster) => cluster.as_ref(),
            Self::Choose(cluster, ..) | Self::List(cluster, _) => Some(cluster),
        }
    }
}

/// The request as the client addressed it.
#[derive(Clone, Copy, Debug)]
pub struct Addressed<'a> {
    /// Host header, or the authority of an absolute target.
    pub authority: &'a str,
    /// Path and query.
    pub target: &'a [u8],
    /// By TLS.
    pub tls: bool,
}

/// Path and query of a target that may be in absolute form, and its authority.
#[must_use]
pub fn origin_form(raw: &[u8]) -> (Option<&str>, &[u8]) {
    if raw.first() == Some(&b'/') {
        return (None, raw);
    }
    match url::path_and_query_of_absolute(raw) {
        Some((host, target)) => {
            let target = if target.is_empty() { b"/".as_slice() } else { target };
            (std::str::from_utf8(host).ok(), target)
        }
        None => (None, raw),
    }
}

/// Finds cluster, database and user.
#[must_use]
pub fn route(snapshot: &Arc<Snapshot>, head: &RequestHeader, addressed: Addressed<'_>) -> Route {
    let target = url::parse(addressed.target);
    if let Some(hazard) = target.hazard {
        let problem = Problem::BadRequest(match hazard {
            Hazard::DotSegment | Hazard::Control => {
                "The path has a dot segment or a control character in it, which servers read in different ways."
            }
            Hazard::Otherwise => "The path is spelled so that servers could take it for another database.",
        });
        return Route::Problem(problem, None);
    }
    let Some((cluster, view)) = choose_cluster(snapshot, head, addressed, &target) else {
        return Route::Problem(Problem::Misdirected, None);
    };
    let settings = &cluster.settings;
    let server_command = target.command.server_command();
    if target.database.is_none()
        && server_command == Some(ServerCommand::OpenServer)
        && settings.open_server == OpenServer::List
        && matches!(head.method, Method::GET | Method::HEAD)
    {
        return Route::List(cluster, view);
    }
    let Brought { mut entries, has_affinity, login, mut sessions, rewrites_cookies } =
        cookies::read(&cluster, &view, head);

    let mut database_tag = None;
    let mut found = None;
    match look_up(&view, &target) {
        _ if is_login_of_directory(&target) => {}
        Lookup::One(one) => {
            database_tag = Some(tag_of(&cluster, &view, &one));
            found = Some(one);
        }
        Lookup::Ambiguous(ambiguous) => {
            match settle_ambiguity(&cluster, &view, head, addressed, &entries, ambiguous) {
                Some(one) => {
                    database_tag = Some(tag_of(&cluster, &view, &one));
                    found = Some(one);
                }
                None => return unsettled(cluster, view, head, ambiguous),
            }
        }
        Lookup::Unknown => {
            if let Some(database) = &target.database {
                // A server command behind a path may open the database all the same, or tell that it exists: only the
                // login forms need none. Before any directory was read, that it lacks a database says nothing.
                if settings.unknown_database == UnknownDatabase::NotFound
                    && !target.is_login_form()
                    && view.directory.is_loaded()
                {
                    return Route::Problem(Problem::UnknownDatabase, Some(cluster));
                }
                database_tag = Some(unknown_tag(&cluster, database.raw));
            }
        }
    }

    let port = settings.port_for(addressed.tls);
    let member = |tag: u32| view.by_tag(tag);
    let class = cluster.commands.classify(&target);
    let note_id = target.locator == Locator::NoteId && database_tag.is_some();
    let may_go_back = matches!(head.method, Method::GET | Method::HEAD) && class == Class::Safe && !note_id;
    let has_login = login.is_some();
    let login = login.filter(|login| {
        let of_this = found.as_ref().filter(|_| database_tag == Some(login.database));
        member(login.server).is_some_and(|server| takes_user(&view, of_this, server, port))
    });
    let mut after_login = None;
    // A NoteID means another document in another replica: no login moves its user.
    if !note_id {
        login.into_iter().for_each(|login| entries.merge(login));
        let server = database_tag.and_then(|tag| entries.login_before(tag)).and_then(member);
        after_login = server.filter(|server| takes_user(&view, found.as_ref(), *server, port));
    }
    let former = database_tag.filter(|_| may_go_back).and_then(|tag| entries.former(tag)).and_then(member);
    let entry = former
        .filter(|former| is_home_again(&cluster, &view, found.as_ref(), *former, port))
        .or(after_login)
        .or_else(|| database_tag.and_then(|tag| entries.for_database(tag)).and_then(|e| member(e.server)));
    let recent = entries.recent().and_then(|e| member(e.server));
    // The cookie with the entries may have been lost, or be of another time.
    sessions.retain(|session| Some(*session) != recent);
    let speaks_for_others = found.as_ref().is_none_or(|f| view.is_everywhere(f));
    let hint = if entry.is_none() && speaks_for_others {
        hint(&cluster, &view, head, addressed, &target, &entries)
    } else {
        None
    };
    let hinted = hint.and_then(|(_, _, hinted)| hinted);
    let hint = hint.map(|(member, hint, _)| (member, hint));
    let database_range = target.database.as_ref().map_or(0..0, |d| d.range.clone());
    let routed = Routed {
        snapshot: Arc::clone(snapshot),
        tls: addressed.tls,
        port,
        exchange: Exchange::Plain,
        request_class: request_class(&target, class),
        note_id,
        found,
        database_tag,
        database_range,
        class,
        entries,
        has_affinity,
        has_login,
        login,
        entry,
        hint,
        hinted,
        recent,
        sessions,
        rewrites_cookies,
        has_fields_of_this_hop: true,
        is_logout: server_command == Some(ServerCommand::Logout),
        authority: addressed.authority.into(),
        cluster,
        view,
    };
    Route::To(Box::new(routed))
}

/// The Host name chooses; among clusters that match, the one whose directory holds the database; else
/// the first. A login belongs where the page is for which it is asked: every cluster has a `names.nsf`.
fn choose_cluster(
    snapshot: &Snapshot,
    head: &RequestHeader,
    addressed: Addressed<'_>,
    target: &Target<'_>,
) -> Option<(Arc<Cluster>, Arc<View>)> {
    let matching = snapshot.hosts.lookup(addressed.authority);
    let first = snapshot.clusters.get(*matching.first()?)?;
    let holder_of = |target: &Target<'_>| {
        matching.iter().filter_map(|number| snapshot.clusters.get(*number)).find_map(|cluster| {
            let view = cluster.view.load_full();
            (look_up(&view, target) != Lookup::Unknown).then(|| (Arc::clone(cluster), view))
        })
    };
    let found = if matching.len() < 2 {
        None
    } else if is_login_of_directory(target) {
        let redirect_to = target.argument(b"RedirectTo");
        let of_redirect = redirect_to.and_then(|value| holder_of(&url::parse(origin_form(&value).1)));
        of_redirect.or_else(|| holder_of(&referer(head, addressed)?))
    } else {
        target.database.as_ref().and_then(|_| holder_of(target))
    };
    found.or_else(|| Some((Arc::clone(first), first.view.load_full())))
}

/// `/names.nsf?Login` is served by every member, whatever the directory says of `names.nsf`.
fn is_login_of_directory(target: &Target<'_>) -> bool {
    let command = target.command.server_command();
    matches!(command, Some(ServerCommand::Login | ServerCommand::ProviderLogin)) && target.is_of_names()
}

/// The directory's word on a target: by replica ID, else by path.
fn look_up(view: &View, target: &Target<'_>) -> Lookup {
    let Some(database) = &target.database else { return Lookup::Unknown };
    let index = &view.directory.index;
    if let Some(id) = database.replica
        && let Some(ix) = index.by_replica_id(id)
    {
        return Lookup::One(Found { database: ix, path: None });
    }
    index.by_path(database.raw)
}

/// The tag of a database that the directory knows.
#[must_use]
pub fn tag_of(cluster: &Cluster, view: &View, found: &Found) -> u32 {
    cluster.keys.database_tag(view.directory.index.database(found.database).tag())
}

/// A database that the directory does not know has a user all the same.
fn unknown_tag(cluster: &Cluster, raw: &[u8]) -> u32 {
    let mut folded = crate::domain::directory::db_path::Folded::default();
    let folded = crate::domain::directory::db_path::fold(raw, &mut folded);
    cluster.keys.database_tag(cookie::number(&cluster.settings.name, "path", folded))
}

/// The server that a user was moved off has been available for as long as `fail_back` wants, and would take a
/// newcomer.
fn is_home_again(
    cluster: &Cluster,
    view: &View,
    found: Option<&Found>,
    former: MemberIx,
    port: Port,
) -> bool {
    let Some(wait) = cluster.settings.affinity.fail_back else { return false };
    let Some(entry) = view.entry(former) else { return false };
    let seen = entry.member.view();
    let wait = clock::whole_ms(wait);
    // Of a server that never was away while this process watched, nothing older than the process is known.
    let back_for = clock::now_ms().saturating_sub(seen.returned_at_ms.unwrap_or_default());
    entry.member.state() == ServerState::Available
        && back_for >= wait
        && takes_user(view, found, former, port)
}

/// The server answers, and holds the database for newcomers too.
fn takes_user(view: &View, found: Option<&Found>, server: MemberIx, port: Port) -> bool {
    let answers = view.entry(server).is_some_and(|entry| {
        let seen = entry.member.view();
        if port == Port::Http { seen.http } else { seen.https }
    });
    answers && found.is_none_or(|f| view.holder(f, server).is_some_and(|h| h.mark == Mark::InService))
}

/// Design: the database of the user's most recent entry among them decides, else that of a
/// same-origin Referer.
fn settle_ambiguity(
    cluster: &Cluster,
    view: &View,
    head: &RequestHeader,
    addressed: Addressed<'_>,
    entries: &Entries,
    ambiguous: AmbiguousIx,
) -> Option<Found> {
    let index = &view.directory.index;
    let of_tag = |tag: u32| index.ambiguous(ambiguous).find(|f| tag_of(cluster, view, f) == tag);
    if let Some(entry) = entries.recent_among(|tag| of_tag(tag).is_some()) {
        return of_tag(entry.database);
    }
    if let Some(Lookup::One(found)) = referer(head, addressed).map(|t| look_up(view, &t)) {
        let same = index.ambiguous(ambiguous).find(|f| f.database == found.database);
        if same.is_some() {
            return same;
        }
    }
    if cluster.settings.ambiguous_path == AmbiguousPath::First {
        return index.ambiguous(ambiguous).next();
    }
    None
}

fn unsettled(cluster: Arc<Cluster>, view: Arc<View>, head: &RequestHeader, ambiguous: AmbiguousIx) -> Route {
    match cluster.settings.ambiguous_path {
        AmbiguousPath::NotFound => Route::Problem(Problem::UnknownDatabase, Some(cluster)),
        _ if matches!(head.method, Method::GET | Method::HEAD) => Route::Choose(cluster, view, ambiguous),
        _ => Route::Problem(Problem::AmbiguousConflict, Some(cluster)),
    }
}

/// The target of a Referer that names this very host, by this very scheme.
fn referer<'h>(head: &'h RequestHeader, addressed: Addressed<'_>) -> Option<Target<'h>> {
    let value = head.headers.get(http::header::REFERER)?.as_bytes();
    let (_, target) = url::path_and_query_of_absolute(value)?;
    carried::is_ours(value, addressed.authority, addressed.tls).then(|| url::parse(target))
}

/// Which entry speaks for a request that has none of its own, and for which database.
fn hint(
    cluster: &Cluster,
    view: &View,
    head: &RequestHeader,
    addressed: Addressed<'_>,
    target: &Target<'_>,
    entries: &Entries,
) -> Option<(MemberIx, Hint, Option<Found>)> {
    if entries.is_empty() {
        return None;
    }
    if let Some(value) = target.argument(b"RedirectTo")
        && let Some((member, found)) = entry_of_url(cluster, view, &value, entries)
    {
        return Some((member, Hint::RedirectTo, found));
    }
    if let Some(of_referer) = referer(head, addressed)
        && let Some((member, found)) = entry_of_target(cluster, view, &of_referer, entries)
    {
        return Some((member, Hint::Referer, found));
    }
    let recent = entries.recent().and_then(|e| view.by_tag(e.server))?;
    Some((recent, Hint::Recent, None))
}

/// The server of the user's entry for the database that a `RedirectTo` names, and that database where the
/// directory knows it.
#[must_use]
pub fn entry_of_url(
    cluster: &Cluster,
    view: &View,
    value: &[u8],
    entries: &Entries,
) -> Option<(MemberIx, Option<Found>)> {
    let (_, target) = origin_form(value);
    entry_of_target(cluster, view, &url::parse(target), entries)
}

fn entry_of_target(
    cluster: &Cluster,
    view: &View,
    target: &Target<'_>,
    entries: &Entries,
) -> Option<(MemberIx, Option<Found>)> {
    let of = |tag: u32| entries.for_database(tag).and_then(|e| view.by_tag(e.server));
    match look_up(view, target) {
        Lookup::One(found) => of(tag_of(cluster, view, &found)).map(|member| (member, Some(found))),
        Lookup::Ambiguous(ambiguous) => {
            let index = &view.directory.index;
            let is_one = |tag: u32| index.ambiguous(ambiguous).any(|f| tag_of(cluster, view, &f) == tag);
            entries.recent_among(is_one).and_then(|e| view.by_tag(e.server)).map(|member| (member, None))
        }
        Lookup::Unknown => {
            let member = target.database.as_ref().and_then(|d| of(unknown_tag(cluster, d.raw)))?;
            Some((member, None))
        }
    }
}

/// The tag of the database that a target names, as the affinity cookie knows it.
#[must_use]
pub fn tag_of_target(cluster: &Cluster, view: &View, target: &[u8]) -> Option<u32> {
    let target = url::parse(target);
    match look_up(view, &target) {
        Lookup::One(found) => Some(tag_of(cluster, view, &found)),
        Lookup::Ambiguous(_) => None,
        Lookup::Unknown => target.database.as_ref().map(|d| unknown_tag(cluster, d.raw)),
    }
}

fn request_class(target: &Target<'_>, class: Class) -> RequestClass {
    if target.database.is_none() {
        RequestClass::Static
    } else if class != Class::Safe {
        RequestClass::Agent
    } else if target.attachment
        || target.command.name().ends_with("resource")
        || target.command.is(b"openelement")
    {
        RequestClass::Resource
    } else {
        RequestClass::Document
    }
}

//! From the head of a request to what it names: cluster, database, user.
//!
//! In: a request's head and the snapshot. Out: [`Routed`], or the answer that it gets at once: a page, a
//! redirect, a list. It asks nobody: everything it needs is in memory.

use std::sync::Arc;

use http::Method;
use pingora_http::RequestHeader;

use super::ctx::Routed;
use crate::affinity::{Entries, cookie};
use crate::balancer::view::Exchange;
use crate::balancer::{Cluster, Snapshot, View};
use crate::clock;
use crate::cluster::availability::RequestClass;
use crate::config::settings::{AmbiguousPath, OpenServer, UnknownDatabase};
use crate::directory::{AmbiguousIx, Found, Lookup};
use crate::pages::Problem;
use crate::select::{Hint, MemberIx};
use crate::url::{self, Class, Hazard, Locator, ServerCommand, Target};

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
    let Some((cluster, view)) = choose_cluster(snapshot, addressed.authority, &target) else {
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
    let entries = if settings.affinity.enabled { entries_of(&cluster, head) } else { Entries::default() };

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
                // Server commands need no existing database; and before any directory was read, that it
                // does not know a database says nothing.
                if settings.unknown_database == UnknownDatabase::NotFound
                    && server_command.is_none()
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
    let entry = database_tag.and_then(|tag| entries.for_database(tag)).and_then(|e| member(e.server));
    let recent = entries.recent().and_then(|e| member(e.server));
    let speaks_for_others = found.as_ref().is_none_or(|f| view.is_everywhere(f));
    let hint = if entry.is_none() && speaks_for_others && !entries.is_empty() {
        hint(&cluster, &view, head, addressed, &target, &entries)
    } else {
        None
    };
    let class = cluster.commands.classify(&target);
    let database_range = target.database.as_ref().map_or(0..0, |d| d.range.clone());
    let routed = Routed {
        snapshot: Arc::clone(snapshot),
        tls: addressed.tls,
        port,
        exchange: Exchange::Plain,
        request_class: request_class(&target, class),
        note_id: target.locator == Locator::NoteId && database_tag.is_some(),
        found,
        database_tag,
        database_range,
        class,
        entries,
        entry,
        hint,
        recent,
        authority: addressed.authority.into(),
        cluster,
        view,
    };
    Route::To(Box::new(routed))
}

/// The Host name chooses; among clusters that match, the one whose directory holds the database; else
/// the first.
fn choose_cluster(
    snapshot: &Snapshot,
    authority: &str,
    target: &Target<'_>,
) -> Option<(Arc<Cluster>, Arc<View>)> {
    let matching = snapshot.hosts.lookup(authority);
    let first = snapshot.clusters.get(*matching.first()?)?;
    if matching.len() > 1 && target.database.is_some() && !is_login_of_directory(target) {
        for number in &matching {
            if let Some(cluster) = snapshot.clusters.get(*number) {
                let view = cluster.view.load_full();
                if look_up(&view, target) != Lookup::Unknown {
                    return Some((Arc::clone(cluster), view));
                }
            }
        }
    }
    Some((Arc::clone(first), first.view.load_full()))
}

/// `/names.nsf?Login` is served by every member, whatever the directory says of `names.nsf`.
fn is_login_of_directory(target: &Target<'_>) -> bool {
    target.command.server_command() == Some(ServerCommand::Login)
        && target.database.as_ref().is_some_and(|d| d.raw.eq_ignore_ascii_case(b"names.nsf"))
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

fn tag_of(cluster: &Cluster, view: &View, found: &Found) -> u32 {
    view.directory.index.database(found.database).tag() ^ cluster.tag
}

/// A database that the directory does not know has a user all the same.
fn unknown_tag(cluster: &Cluster, raw: &[u8]) -> u32 {
    let mut folded = crate::directory::db_path::Folded::default();
    cookie::tag(&cluster.settings.name, "path", crate::directory::db_path::fold(raw, &mut folded))
}

/// The entries of the affinity cookie.
fn entries_of(cluster: &Cluster, head: &RequestHeader) -> Entries {
    let affinity = &cluster.settings.affinity;
    let now = u32::try_from(clock::unix_secs()).unwrap_or(u32::MAX);
    let idle = u32::try_from(affinity.idle_timeout.as_secs()).unwrap_or(u32::MAX);
    head.headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|header| cookie::values(header.as_bytes(), &affinity.cookie))
        .map(|value| cluster.keys.decode(value, now, idle))
        // A neighbouring site may have set a cookie of this name for the whole domain.
        .find(|entries| !entries.is_empty())
        .unwrap_or_default()
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
    let (host, target) = url::path_and_query_of_absolute(value)?;
    let scheme: &[u8] = if addressed.tls { b"https:" } else { b"http:" };
    let same_scheme = value.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    let usual: &[u8] = if addressed.tls { b":443" } else { b":80" };
    let bare = |host| <[u8]>::strip_suffix(host, usual).unwrap_or(host);
    let same_host = bare(host).eq_ignore_ascii_case(bare(addressed.authority.as_bytes()));
    (same_scheme && same_host).then(|| url::parse(target))
}

/// Which entry speaks for a request that has none of its own.
fn hint(
    cluster: &Cluster,
    view: &View,
    head: &RequestHeader,
    addressed: Addressed<'_>,
    target: &Target<'_>,
    entries: &Entries,
) -> Option<(MemberIx, Hint)> {
    if let Some(value) = target.argument(b"RedirectTo")
        && let Some(member) = entry_of_url(cluster, view, &value, entries)
    {
        return Some((member, Hint::RedirectTo));
    }
    if let Some(of_referer) = referer(head, addressed)
        && let Some(member) = entry_of_target(cluster, view, &of_referer, entries)
    {
        return Some((member, Hint::Referer));
    }
    let recent = entries.recent().and_then(|e| view.by_tag(e.server))?;
    Some((recent, Hint::Recent))
}

/// The server of the user's entry for the database that a `RedirectTo` names.
#[must_use]
pub fn entry_of_url(cluster: &Cluster, view: &View, value: &[u8], entries: &Entries) -> Option<MemberIx> {
    let (_, target) = origin_form(value);
    entry_of_target(cluster, view, &url::parse(target), entries)
}

fn entry_of_target(
    cluster: &Cluster,
    view: &View,
    target: &Target<'_>,
    entries: &Entries,
) -> Option<MemberIx> {
    let of = |tag: u32| entries.for_database(tag).and_then(|e| view.by_tag(e.server));
    match look_up(view, target) {
        Lookup::One(found) => of(tag_of(cluster, view, &found)),
        Lookup::Ambiguous(ambiguous) => {
            let index = &view.directory.index;
            let is_one = |tag: u32| index.ambiguous(ambiguous).any(|f| tag_of(cluster, view, &f) == tag);
            entries.recent_among(is_one).and_then(|e| view.by_tag(e.server))
        }
        Lookup::Unknown => target.database.as_ref().and_then(|d| of(unknown_tag(cluster, d.raw))),
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

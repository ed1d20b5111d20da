//! `routes` of a cluster: rules that lead requests elsewhere than to the database of their URL. [`super::route_actions`]
//! reads the actions that have keys of their own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::directory_entries::server;
use super::file_access::{self, Named, OwnFile};
use super::header_edits;
use super::home_mail::home_mail;
use super::keys;
use super::policy;
use super::pools::pool_name;
use super::reader::{Item, Map};
use super::request_match::{self, MatchOf};
use super::route_actions::{files, redirect, refusal, respond};
use super::settings::{
    ClusterSettings, Directory, HostPattern, Mode, Route, RouteAction, RouteDatabase, Settings,
};
use super::values::{self, ValueError};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{ReplicaId, db_path};
use crate::domain::url;

/// The keys of which a route has one.
const ACTIONS: [&str; 7] = ["database", "pool", "home_mail", "redirect", "respond", "files", "deny"];
/// The actions that need no server.
const LOCAL_ACTIONS: [&str; 4] = ["redirect", "respond", "files", "deny"];
/// The keys about servers, which have no meaning beside those.
const SERVER_KEYS: [&str; 3] = ["servers", "response_timeout", "body_timeout"];

/// The keys that would silently mean nothing without a value, besides the actions.
const NEVER_EMPTY: [&str; 2] = ["servers", "body_timeout"];

/// The parts of a cluster that its routes name.
pub(super) struct RoutesOf<'a> {
    /// The names of the servers, if the file lists them.
    pub servers: Option<&'a [ServerName]>,
    /// Clusters of their own, in their order.
    pub pools: &'a [ClusterSettings],
    pub directory: &'a Directory,
    pub mode: Mode,
    /// The host names of the cluster; none if it serves all others.
    pub hostnames: &'a [HostPattern],
}

/// Reads the routes in their order.
pub(super) fn routes(item: &Item<'_>, of: &RoutesOf<'_>) -> Vec<Arc<Route>> {
    let items = item.list();
    let mut names: HashMap<Box<str>, String> = HashMap::new();
    let mut routes: Vec<Arc<Route>> = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let route = route(item, number, of);
        if let Some(first) = names.get(&route.name) {
            let name = item.map_quietly(keys::ROUTE).get("name");
            name.error(ValueError::new(format!("`{}` is also the name of {first}", route.name)));
        }
        names.entry(route.name.clone()).or_insert_with(|| item.key());
        if let Some(earlier) = routes.iter().find(|earlier| earlier.condition.covers(&route.condition)) {
            item.warn(format!(
                "no request gets here: the route `{}` before it takes all that it could match",
                earlier.name
            ));
        }
        routes.push(Arc::new(route));
    }
    routes
}

fn route(item: &Item<'_>, number: usize, of: &RoutesOf<'_>) -> Route {
    let map = item.map(keys::ROUTE);
    if !item.is_present() {
        item.error(ValueError::new("is empty").hint("write `match` and an action, such as `deny: true`"));
    }
    for key in ACTIONS.iter().chain(&NEVER_EMPTY) {
        let value = map.get(key);
        if value.value.is_some() && !value.is_present() {
            value.error_at_key(ValueError::new("has no value").hint("write one, or remove the key"));
        }
    }
    warn_of_hosts(&map.get("match").map_quietly(keys::MATCH).get("host"), of.hostnames);
    let servers = map.get("servers");
    let list = servers.one_or_more();
    if servers.is_list() && list.is_empty() {
        servers.error(ValueError::new("the list is empty").hint("name a server, or remove the key"));
    }
    let names = list.iter().filter_map(|s| s.parsed("a server name", |text| server(text, of.servers)));
    let body_timeout = map.get("body_timeout");
    Route {
        number,
        name: map.get("name").text().unwrap_or_else(|| format!("routes[{number}]")).into(),
        condition: request_match::read(&map.get("match"), MatchOf::Route),
        servers: names.collect(),
        response_timeout: map.get("response_timeout").period(),
        body_timeout: body_timeout.is_present().then(|| policy::body_timeout(&body_timeout)),
        headers: header_edits::header_rules(&map.get("headers").map(keys::ROUTE_HEADERS)),
        action: action(&map, of),
    }
}

/// Warns about hosts that no request of the cluster has. A pattern may be wider than the cluster.
fn warn_of_hosts(item: &Item<'_>, hostnames: &[HostPattern]) {
    for host in item.one_or_more() {
        let Some(name) = host.value.and_then(|node| node.content.text()).filter(|name| !name.contains('*'))
        else {
            continue;
        };
        let name = name.trim().to_ascii_lowercase();
        if !hostnames.is_empty() && !hostnames.iter().any(|pattern| pattern.matches(&name)) {
            host.warn(format!("`{name}` is not in `hostnames` of the cluster, so no request has it"));
        }
    }
}

fn action(map: &Map<'_>, of: &RoutesOf<'_>) -> RouteAction {
    let mut present = ACTIONS.into_iter().filter(|key| map.has(key));
    let Some(key) = present.next() else { return RouteAction::Directory };
    for other in present {
        let problem = ValueError::new(format!("cannot stand beside `{key}`"));
        map.get(other).error_at_key(problem.hint("a route has one action: write two routes, or remove one"));
    }
    if LOCAL_ACTIONS.contains(&key) {
        for other in SERVER_KEYS.into_iter().filter(|other| map.has(other)) {
            let problem = ValueError::new(format!("cannot stand beside `{key}`, which needs no server"));
            map.get(other).error_at_key(problem.hint("remove one of them"));
        }
        let to_server = map.get("headers").map_quietly(keys::ROUTE_HEADERS).get("to_server");
        if to_server.is_present() {
            let problem = ValueError::new(format!("cannot stand beside `{key}`, which needs no server"));
            to_server.error_at_key(problem.hint("remove it"));
        }
    }
    if key == "home_mail" {
        map.no_effect(&["response_timeout", "body_timeout"], "home_mail");
    }
    if key == "pool" {
        let problem = ValueError::new("cannot stand beside `pool`, which has servers of its own");
        map.has("servers").then(|| map.get("servers").error_at_key(problem.hint("remove one of them")));
    }
    let item = map.get(key);
    let action = match key {
        "database" => database(&item, of.directory).map(RouteAction::Database),
        "pool" => pool(&item, of.pools),
        "home_mail" => home_mail(&item, of.mode).map(|home| RouteAction::HomeMail(Arc::new(home))),
        "redirect" => redirect(&item).map(|redirect| RouteAction::Redirect(Arc::new(redirect))),
        "respond" => respond(&item).map(|response| RouteAction::Respond(Arc::new(response))),
        "files" => files(&item).map(|files| RouteAction::Files(Arc::new(files))),
        _ => deny(&item).map(|()| RouteAction::Deny),
    };
    action.unwrap_or(RouteAction::Directory)
}

fn deny(item: &Item<'_>) -> Option<()> {
    if item.boolean()? {
        return Some(());
    }
    item.error(ValueError::new("a route that does not deny needs no such key").hint("remove it"));
    None
}

/// A path below the data directory, or a replica ID. It should be in a directory that the file lists.
fn database(item: &Item<'_>, directory: &Directory) -> Option<RouteDatabase> {
    let database = item.parsed("the path of a database", database_name)?;
    let (Directory::Static(entries) | Directory::File { entries, .. }) = directory else {
        return Some(database);
    };
    let found = match &database {
        RouteDatabase::Path(path) => entries.databases_at(path),
        RouteDatabase::ReplicaId(id) => usize::from(entries.has_replica_id(*id)),
    };
    match found {
        0 => item.warn("the directory does not have this database"),
        1 => {}
        _ => item.warn("several databases have this path: write the replica ID of one"),
    }
    Some(database)
}

fn database_name(text: &str) -> Result<RouteDatabase, ValueError> {
    let text = text.trim();
    let stem = text.strip_suffix(".nsf").unwrap_or(text);
    if let Some(id) = ReplicaId::from_bytes(stem.as_bytes()) {
        return Ok(RouteDatabase::ReplicaId(id));
    }
    let path = db_path::normalize_separators(text);
    let target = format!("/{}", db_path::percent_encode_path(&path));
    let parsed = url::parse(target.as_bytes());
    let is_whole = parsed.database.is_some_and(|database| database.range == (1..target.len()));
    if parsed.hazard.is_some() || !is_whole || text.contains(['?', '!', '#']) {
        return Err(ValueError::new(format!("`{text}` is not the path of a database"))
            .hint("write it as in the directory, such as `web/shop.nsf`, or its replica ID"));
    }
    Ok(RouteDatabase::Path(path.as_ref().into()))
}

/// Checks that need other sections: what a folder would show to everybody, and whether a restart waits long enough.
pub(super) fn cross_check(cluster: &Map<'_>, routes: &[Arc<Route>], settings: &Settings) {
    let items = cluster.get("routes").list();
    for (route, item) in routes.iter().zip(&items) {
        let map = item.map_quietly(keys::ROUTE);
        warn_about_restart(&map, route, settings.pingora.grace_period_seconds);
        let state_dir = settings.state_dir.as_deref();
        if let RouteAction::Files(files) = &route.action {
            refuse_secrets(&map.get("files"), &files.folder, state_dir);
        }
        let page = map.get("respond").map_quietly(keys::ROUTE_RESPOND).get("page");
        if let RouteAction::Respond(_) = &route.action
            && page.is_present()
            && let Some(path) = page.text()
        {
            refuse_secrets(&page, &page.doc.load.base.join(path), state_dir);
        }
    }
}

fn warn_about_restart(map: &Map<'_>, route: &Route, grace: Option<u64>) {
    if let (Some(timeout), Some(grace)) = (route.response_timeout, grace)
        && Duration::from_secs(grace) <= timeout
    {
        map.get("response_timeout").warn(format!(
            "{}s is not below pingora.grace_period_seconds ({grace}): a restart may cut off slow responses",
            timeout.as_secs()
        ));
    }
}

/// Refuses a page, or a folder with one, that is a secret of this ICM.
fn refuse_secrets(item: &Item<'_>, path: &Path, state_dir: Option<&Path>) {
    let load = item.doc.load;
    let mut own = load.own.borrow().clone();
    own.push(OwnFile::new("configuration file", item.doc.file, Named::Secret));
    own.extend(state_dir.map(|dir| OwnFile::new("state_dir", dir, Named::Secret)));
    if let Some(secret) = file_access::secret_below(&own, load.files, path) {
        item.error(refusal(secret));
    }
    if state_dir.is_some_and(|dir| path.starts_with(dir)) {
        item.error(
            ValueError::new("is below `state_dir`, whose files are secret").hint("name another one"),
        );
    }
}

/// The pool of this name.
fn pool(item: &Item<'_>, pools: &[ClusterSettings]) -> Option<RouteAction> {
    let wanted = item.text()?;
    let names = || pools.iter().map(pool_name);
    let found = names().position(|name| name.eq_ignore_ascii_case(&wanted));
    if found.is_none() {
        let hint = match values::similar(&wanted, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None if pools.is_empty() => "write it under `pools` of the cluster".to_owned(),
            None => format!("the pools are {}", names().collect::<Vec<_>>().join(", ")),
        };
        item.error(ValueError::new(format!("the cluster has no pool `{wanted}`")).hint(hint));
    }
    found.map(RouteAction::Pool)
}

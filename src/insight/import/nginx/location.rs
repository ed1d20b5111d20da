//! Locations of nginx as routes. nginx tries exact paths, then the longest prefix and regular expressions; `icm` tries routes
//! in their order, so they are written in the order in which nginx prefers them.

use super::super::address::host_of;
use super::super::model::{ImportedCluster, ImportedRoute, KeySet};
use super::super::scalar;
use super::block::{LocationKind, NginxLocation, ProxyTarget, ServerBlock, target};
use super::order::{condition, in_order};
use super::settings::{self, RouteScope, Scope};
use super::{Context, access, redirect, upstream};

/// Adds a route for each location that does something else than the cluster.
pub(super) fn translate(
    block: &ServerBlock<'_>,
    hosts: &[String],
    cluster: &mut ImportedCluster,
    global: &mut KeySet,
    context: &mut Context<'_>,
) {
    let locations = in_order(block);
    for (at, location) in locations.iter().copied().enumerate() {
        let is_main = block.main.is_some_and(|main| main.id == location.d.id);
        if is_main || location.kind == LocationKind::Named {
            continue;
        }
        // `try_files` leads to a location with a name, whose settings are those of the cluster.
        let main_is_named = block.main.is_some_and(|main| main.arg(0).starts_with('@'));
        if location.path == "/" && location.kind != LocationKind::Exact && main_is_named {
            context.report.taken(location.d, "clusters[]");
            continue;
        }
        let Some(condition) = condition(&location, hosts) else {
            access::report_lost(location.d, context);
            let why = "its expression is no pattern with `*`";
            context.report.cannot_block(location.d, why, "write a route with `path` or `path_prefix`");
            continue;
        };
        let mut route = ImportedRoute { condition, keys: KeySet::default(), at: location.d.at.clone() };
        if !action(&location, block, &mut route, cluster, context) {
            continue;
        }
        for d in location.d.body() {
            let mut scope = Scope {
                keys: &mut route.keys,
                global: &mut *global,
                route: Some(RouteScope { condition: &route.condition }),
                zones: &context.zones,
                root: &context.root,
            };
            settings::apply(d, &mut scope, context.report);
        }
        context.report.taken(location.d, "routes[]");
        // A location that only repeats what the cluster does counts if it keeps nginx from trying another one.
        let takes = |later: &NginxLocation<'_>| {
            later.kind == LocationKind::Regex || later.path != "/" && location.path.starts_with(later.path)
        };
        if !route.keys.0.is_empty() || locations.iter().skip(at + 1).any(takes) {
            cluster.add_route(route);
        }
    }
}

/// Writes the action of a location. False if the location needs no route, or none is possible; then it is reported.
fn action(
    location: &NginxLocation<'_>,
    block: &ServerBlock<'_>,
    route: &mut ImportedRoute,
    cluster: &mut ImportedCluster,
    context: &mut Context<'_>,
) -> bool {
    if access::denies_all(location).is_some() {
        // The rule of `access` ends the request before any route.
        context.report.taken(location.d, "access[]");
        return false;
    }
    if redirect::of_location(location, block, route, context) {
        return true;
    }
    match target(location.d) {
        Ok(Some(target)) => {
            let keeps_path = target.uri.is_empty() || target.uri == location.path;
            if !keeps_path {
                let why = "icm does not change the path on the way to the servers";
                let instead = format!(
                    "a Web Site Rule of Domino from {} to {}, and a route with `database` (docs/front-door.md)",
                    location.path, target.uri
                );
                context.report.cannot(target.d, why, &instead);
            }
            let is_same = block.target.as_ref().is_some_and(|main| main.authority == target.authority);
            if is_same {
                context.report.taken(target.d, "the servers of the cluster");
                context.report.taken(location.d, "the servers of the cluster");
                return location.d.body().len() > 1;
            }
            other_servers(&target, route, cluster, context)
        }
        Ok(None) => files(location, block, route, context),
        Err((d, why)) => {
            context.report.cannot(d, why, "list the servers in a pool, and write routes to it");
            access::report_lost(location.d, context);
            let instead =
                "a route, or a rule of `access`: without one its requests go to the servers of the cluster";
            context.report.cannot_block(location.d, "it has no servers that icm knows", instead);
            false
        }
    }
}

/// Some of the cluster's servers, or a pool. False if none could be taken over, which is reported.
fn other_servers(
    target: &ProxyTarget<'_>,
    route: &mut ImportedRoute,
    cluster: &mut ImportedCluster,
    context: &mut Context<'_>,
) -> bool {
    let mut pool = upstream::pool(target, context);
    if pool.servers.is_empty() {
        return false;
    }
    if target.is_https {
        upstream::unverified(target, &mut pool.keys, context);
    }
    let member =
        |address: &str| cluster.servers.iter().find(|own| own.address == address).map(|own| own.name.clone());
    let members: Option<Vec<String>> = pool.servers.iter().map(|server| member(&server.address)).collect();
    let at = &target.d.at;
    if let Some(names) = members.filter(|names| !names.is_empty() && pool.scheme == cluster.scheme) {
        context.report.taken(target.d, "routes[].servers");
        if names.len() < cluster.servers.len() {
            let _ = route.keys.set(&["servers"], scalar::list(&names), at);
        }
        return true;
    }
    // One machine has one name, so that `icm restrict` acts on the pool too.
    for server in &mut pool.servers {
        let host = host_of(&server.address);
        if let Some(own) = cluster.servers.iter().find(|own| host_of(&own.address) == host) {
            server.name.clone_from(&own.name);
        }
    }
    if pool.name == "Domino" {
        pool.name = format!("pool{}", cluster.pools.len() + 1);
        if let Some(known) = cluster.pools.iter().find(|known| known.servers == pool.servers) {
            pool.name.clone_from(&known.name);
        }
    }
    context.report.taken(target.d, "pools, routes[].pool");
    let name = cluster.pool(pool).to_owned();
    let _ = route.keys.set(&["pool"], scalar::scalar(&name), at);
    true
}

/// A location with files of nginx.
fn files(
    location: &NginxLocation<'_>,
    block: &ServerBlock<'_>,
    route: &mut ImportedRoute,
    context: &mut Context<'_>,
) -> bool {
    let own = |name: &str| location.d.body().iter().find(|d| d.name == name);
    let folder = own("alias").or_else(|| own("root")).or_else(|| block.named("root").next());
    let Some(folder) = folder.filter(|d| !d.arg(0).contains('$')) else {
        let why = "it sends nothing to servers, and has no folder and no answer";
        context.report.cannot(location.d, why, "write a route with `respond` or `redirect`");
        return false;
    };
    if location.kind == LocationKind::Regex && folder.name == "alias" {
        context.report.cannot(folder, "the folder depends on the expression", "write a route with `files`");
        return false;
    }
    if folder.name == "root" {
        // The whole path is below the folder: a condition on the prefix would cut it off.
        for (key, values) in &mut route.condition.lists {
            if *key == "path_prefix" {
                *key = "path";
                values.iter_mut().for_each(|value| value.push_str("/*"));
            }
        }
    }
    let path = super::super::files::absolute(&context.root, folder.arg(0));
    let _ = route.keys.set(&["files"], scalar::scalar(&path), &folder.at);
    context.report.taken(folder, "routes[].files");
    if let Some(index) = own("index") {
        context
            .report
            .not_needed(index, "`index.html` is the default; write `files: { folder, index }` for another");
    }
    if let Some(try_files) = own("try_files") {
        context.report.cannot(try_files, "a file that is missing is answered with 404", "");
    }
    true
}

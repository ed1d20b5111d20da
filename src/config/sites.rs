//! Warnings about sites that lead to nothing, or to no server at all. It is separate because it needs all sections.

use super::keys;
use super::reader::{Item, Map};
use super::settings::{ClusterSettings, Server, Servers, Settings};
use super::values;
use crate::domain::cluster::SiteName;
use crate::domain::select::CrossSites;

pub(super) fn check(top: &Map<'_>, settings: &Settings) {
    let own = settings.site.as_ref();
    let mut all: Vec<&SiteName> = Vec::new();
    let mut are_known = settings.follow.is_none();
    for (cluster, item) in settings.clusters.iter().zip(&top.get("clusters").list()) {
        let map = item.map_quietly(keys::CLUSTER);
        match &cluster.servers {
            Servers::Static(servers) => {
                all.extend(servers.iter().filter_map(|server| server.site.as_ref()));
                check_servers(&map, cluster, servers, own);
            }
            Servers::Names(_) => are_known = false,
        }
    }
    if let Some(own) = own.filter(|own| are_known && !all.contains(own)) {
        let close = values::similar(own.as_str(), all.iter().map(|site| site.as_str()));
        let hint = close.map(|site| format!(", did you mean `{site}`?")).unwrap_or_default();
        top.get("site").warn(format!("no server is of this site{hint}"));
    }
}

fn check_servers(map: &Map<'_>, cluster: &ClusterSettings, servers: &[Server], own: Option<&SiteName>) {
    let cross_sites = map.get("cross_sites");
    let first = servers.iter().position(|server| server.site.is_some());
    let Some(first) = first else {
        if cross_sites.is_present() {
            cross_sites.warn("has no effect: no server has a `site`");
        }
        return;
    };
    if own.is_none() {
        let warned = site_of(map, first);
        return warned.warn("has no effect: this ICM itself has no `site`, at the top of the file");
    }
    let is_near = |server: &Server| !SiteName::differ(server.site.as_ref(), own);
    match (servers.iter().any(is_near), cluster.cross_sites) {
        (true, CrossSites::Never) => {
            cross_sites
                .warn("never: new users get an error while no server of this ICM's site can serve them");
        }
        (false, CrossSites::Never) => {
            cross_sites.warn("never: no server is of this ICM's site, so no new user is served");
        }
        (false, _) => map.get("servers").warn("no server is of this ICM's site, so every request leaves it"),
        (true, _) => {}
    }
}

/// The `site` of one server in the list.
fn site_of<'d>(cluster: &Map<'d>, number: usize) -> Item<'d> {
    let list = cluster.get("servers").map_quietly(keys::SERVERS).get("list");
    let server = list.list().into_iter().nth(number).unwrap_or(list);
    server.map_quietly(keys::SERVER).get("site")
}

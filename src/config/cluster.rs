//! `clusters`: the list of Domino clusters.

use std::collections::HashMap;
use std::sync::Arc;

use super::access;
use super::availability;
use super::companion;
use super::compression;
use super::directory;
use super::freshness;
use super::keys;
use super::policy::{self, AffinityDefaults};
use super::pools;
use super::reader::{Item, Map};
use super::routes::{self, RoutesOf};
use super::servers::{self, ClusterDefaults};
use super::settings::{
    AmbiguousPath, ClusterSettings, ForwardedPath, HostPattern, Mode, OpenServer, UnknownDatabase,
};
use super::upstream;
use super::values::{self, ValueError};
use crate::domain::select::CrossSites;

pub(super) fn clusters(item: &Item<'_>) -> Vec<Arc<ClusterSettings>> {
    let items = item.list();
    if items.is_empty() && (item.is_list() || !item.is_present()) {
        item.error_at_key(
            ValueError::new("no cluster is given")
                .hint("write `clusters:` with a name, servers and a directory"),
        );
    }
    let mut names: HashMap<String, String> = HashMap::new();
    let (mut clusters, mut pools) = (Vec::new(), Vec::new());
    for item in &items {
        let Some((cluster, of_cluster)) = cluster(item) else { continue };
        if let Some(first) = names.get(&cluster.name.to_lowercase()) {
            let name = item.map_quietly(keys::CLUSTER).get("name");
            name.error(ValueError::new(format!("`{}` is also the name of {first}", cluster.name)));
        } else {
            names.insert(cluster.name.to_lowercase(), item.key());
        }
        clusters.push(cluster);
        pools.push(of_cluster);
    }
    let mut first_pool = clusters.len();
    for (cluster, pools) in clusters.iter_mut().zip(&pools) {
        cluster.first_pool = first_pool;
        first_pool += pools.len();
    }
    for pool in pools.iter().flatten() {
        if let Some(other) = names.get(&pool.name.to_lowercase()) {
            item.error_at_key(ValueError::new(format!("`{}` is a pool and the name of {other}", pool.name)));
        }
    }
    clusters.into_iter().chain(pools.into_iter().flatten()).map(Arc::new).collect()
}

/// A cluster and its pools.
fn cluster(item: &Item<'_>) -> Option<(ClusterSettings, Vec<ClusterSettings>)> {
    let map = item.map(keys::CLUSTER);
    if !item.is_map() {
        if !item.is_present() {
            item.error(ValueError::new("is empty").hint("write a name, servers and a directory"));
        }
        return None;
    }
    let name = map.required("name").text();
    let mode = map.get("mode").choice(&[("proxy", Mode::Proxy), ("redirect", Mode::Redirect)]);
    let (mode, scheme) = (mode.unwrap_or(Mode::Proxy), upstream::scheme(&map.get("upstream_scheme")));
    let mut availability = availability::of_cluster(&map.get("availability"));
    let defaults = ClusterDefaults { mode, scheme, availability: &availability };
    let (mut servers, known) = servers::servers(&map.required("servers"), &defaults);
    let directory = directory::directory(&map.required("directory"), scheme, &servers, known.as_deref());
    companion::finish(&map, scheme, &mut availability, &mut servers, &directory);
    let upstream_tls = upstream::tls(&map.get("upstream_tls"));
    let unknown = [("any", UnknownDatabase::Any), ("not_found", UnknownDatabase::NotFound)];
    let ambiguous = [
        ("choose", AmbiguousPath::Choose),
        ("first", AmbiguousPath::First),
        ("not_found", AmbiguousPath::NotFound),
    ];
    let forwarded = [("client", ForwardedPath::Client), ("directory", ForwardedPath::Directory)];
    let open = [("off", OpenServer::Off), ("list", OpenServer::List)];
    let unknown_database = map.get("unknown_database").choice(&unknown);
    let ambiguous_path = map.get("ambiguous_path").choice(&ambiguous);
    let connector = map.get("connector_secret_file");
    let crossings = [
        ("when_unavailable", CrossSites::WhenUnavailable),
        ("when_busy", CrossSites::WhenBusy),
        ("never", CrossSites::Never),
    ];
    let mut cluster = ClusterSettings {
        pool_of: None,
        first_pool: 0,
        sibling_cookies: Vec::new(),
        hostnames: hostnames(&map),
        mode,
        upstream_scheme: scheme,
        upstream_tls,
        servers,
        cross_sites: map.get("cross_sites").choice(&crossings).unwrap_or_default(),
        directory,
        probe: policy::probe(&map.get("probe")),
        failover: policy::failover(&map.get("failover")),
        catch_up: freshness::catch_up(&map.get("catch_up")),
        freshness: freshness::freshness(&map.get("freshness"), &availability),
        affinity: policy::affinity(&map.get("affinity"), &AffinityDefaults::default()),
        unknown_database: unknown_database.unwrap_or(UnknownDatabase::Any),
        ambiguous_path: ambiguous_path.unwrap_or(AmbiguousPath::Choose),
        forwarded_path: map.get("forwarded_path").choice(&forwarded).unwrap_or(ForwardedPath::Client),
        open_server: map.get("open_server").choice(&open).unwrap_or(OpenServer::Off),
        limits: policy::limits(&map.get("limits")),
        headers: policy::headers(&map.get("headers")),
        compression: compression::compression(&map.get("compression")),
        routes: Vec::new(),
        access: access::access(&map.get("access")),
        connector_secret: connector.token(),
        availability,
        name: name?,
    };
    let pools = pools::pools(&map.get("pools"), &mut cluster);
    let of = RoutesOf {
        servers: known.as_deref(),
        pools: &pools,
        directory: &cluster.directory,
        mode,
        hostnames: &cluster.hostnames,
    };
    cluster.routes = routes::routes(&map.get("routes"), &of);
    Some((cluster, pools))
}

fn hostnames(map: &Map<'_>) -> Vec<HostPattern> {
    let item = map.get("hostnames");
    let mut list: Vec<HostPattern> = Vec::new();
    for name in item.one_or_more() {
        let Some(pattern) = name.parsed("a host name", values::host_pattern) else { continue };
        if list.contains(&pattern) {
            name.warn("is in this list twice");
        } else {
            list.push(pattern);
        }
    }
    if item.is_list() && item.list().is_empty() {
        item.warn("an empty list serves all other names, as if the key were absent");
    }
    list
}

//! `clusters`: the list of Domino clusters.

use std::collections::HashMap;
use std::sync::Arc;

use super::availability;
use super::companion;
use super::compression;
use super::directory;
use super::freshness;
use super::keys;
use super::policy;
use super::reader::{Item, Map};
use super::routes;
use super::servers::{self, ClusterDefaults};
use super::settings::{
    AmbiguousPath, ClusterSettings, ForwardedPath, HostPattern, Mode, OpenServer, UnknownDatabase,
    UpstreamScheme, UpstreamTls,
};
use super::tls;
use super::values::{self, ValueError};

pub(super) fn clusters(item: &Item<'_>) -> Vec<Arc<ClusterSettings>> {
    let items = item.list();
    if items.is_empty() && (item.is_list() || !item.is_present()) {
        item.error_at_key(
            ValueError::new("no cluster is given")
                .hint("write `clusters:` with a name, servers and a directory"),
        );
    }
    let mut names: HashMap<String, String> = HashMap::new();
    let mut clusters = Vec::new();
    for item in &items {
        let Some(cluster) = cluster(item) else { continue };
        if let Some(first) = names.get(&cluster.name.to_lowercase()) {
            let name = item.map_quietly(keys::CLUSTER).get("name");
            name.error(ValueError::new(format!("`{}` is also the name of {first}", cluster.name)));
        } else {
            names.insert(cluster.name.to_lowercase(), item.key());
        }
        clusters.push(Arc::new(cluster));
    }
    clusters
}

fn cluster(item: &Item<'_>) -> Option<ClusterSettings> {
    let map = item.map(keys::CLUSTER);
    if !item.is_map() {
        if !item.is_present() {
            item.error(ValueError::new("is empty").hint("write a name, servers and a directory"));
        }
        return None;
    }
    let name = map.required("name").text();
    let mode = map.get("mode").choice(&[("proxy", Mode::Proxy), ("redirect", Mode::Redirect)]);
    let schemes =
        [("http", UpstreamScheme::Http), ("https", UpstreamScheme::Https), ("same", UpstreamScheme::Same)];
    let scheme = map.get("upstream_scheme").choice(&schemes);
    let (mode, scheme) = (mode.unwrap_or(Mode::Proxy), scheme.unwrap_or(UpstreamScheme::Http));
    let mut availability = availability::of_cluster(&map.get("availability"));
    let defaults = ClusterDefaults { mode, scheme, availability: &availability };
    let (mut servers, known) = servers::servers(&map.required("servers"), &defaults);
    let directory = directory::directory(&map.required("directory"), scheme, &servers, known.as_deref());
    companion::finish(&map, scheme, &mut availability, &mut servers, &directory);
    let upstream_tls = upstream_tls(&map.get("upstream_tls"));
    if !upstream_tls.verify {
        map.get("upstream_tls").warn("verify: false means that any server may pose as a member");
    }
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
    Some(ClusterSettings {
        hostnames: hostnames(&map),
        mode,
        upstream_scheme: scheme,
        upstream_tls,
        servers,
        directory,
        probe: policy::probe(&map.get("probe")),
        failover: policy::failover(&map.get("failover")),
        catch_up: freshness::catch_up(&map.get("catch_up")),
        freshness: freshness::freshness(&map.get("freshness"), &availability),
        affinity: policy::affinity(&map.get("affinity")),
        unknown_database: unknown_database.unwrap_or(UnknownDatabase::Any),
        ambiguous_path: ambiguous_path.unwrap_or(AmbiguousPath::Choose),
        forwarded_path: map.get("forwarded_path").choice(&forwarded).unwrap_or(ForwardedPath::Client),
        open_server: map.get("open_server").choice(&open).unwrap_or(OpenServer::Off),
        limits: policy::limits(&map.get("limits")),
        headers: policy::headers(&map.get("headers")),
        compression: compression::compression(&map.get("compression")),
        routes: routes::routes(&map.get("routes")),
        connector_secret: connector.token(),
        availability,
        name: name?,
    })
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

fn upstream_tls(item: &Item<'_>) -> UpstreamTls {
    let map = item.map(keys::UPSTREAM_TLS);
    let authorities = tls::authorities(&map.get("ca_file"));
    UpstreamTls {
        ca_file: authorities.as_ref().map(|(path, _)| path.clone()),
        ca: authorities.map(|(_, list)| list),
        verify: map.get("verify").boolean().unwrap_or(true),
    }
}

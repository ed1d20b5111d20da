//! `pools` of a cluster: servers of another kind behind the same host names, such as those of the REST API. Each becomes a
//! cluster of its own, without host names, directory and routes, so that all that is done for clusters is done for it too.

use std::collections::HashMap;

use super::availability;
use super::keys;
use super::policy::{self, AffinityDefaults};
use super::reader::{Item, Map};
use super::servers::{self, ClusterDefaults};
use super::settings::{
    Availability, CatchUp, ClusterSettings, Directory, Entries, Freshness, FreshnessSource, Mode, Servers,
    UnknownDatabase,
};
use super::upstream;
use super::values::ValueError;
use crate::domain::affinity::session_cookies::names_of_cookies;
use crate::domain::rules::AccessRules;

/// Reads the pools of a cluster in their order, and tells each the cookies of the others.
pub(super) fn pools(item: &Item<'_>, cluster: &mut ClusterSettings) -> Vec<ClusterSettings> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut cookies: Vec<String> = names_of_cookies(&cluster.affinity.cookie).into();
    let mut pools = Vec::new();
    for item in item.list() {
        let Some(pool) = pool(&item, cluster) else { continue };
        let map = item.map_quietly(keys::POOL);
        if let Some(first) = names.insert(pool.name.to_lowercase(), item.key()) {
            map.get("name")
                .error(ValueError::new(format!("`{}` is also the name of {first}", pool_name(&pool))));
        }
        let own = names_of_cookies(&pool.affinity.cookie);
        if let Some(taken) = own.iter().find(|own| cookies.contains(own)) {
            let place = map.get("affinity").map_quietly(keys::AFFINITY).get("cookie");
            place.error(
                ValueError::new(format!("the cookie `{taken}` belongs to the cluster or to another pool"))
                    .hint("write `affinity: { cookie: NAME }` with a name of its own"),
            );
        }
        cookies.extend(own);
        pools.push(pool);
    }
    let all: Vec<String> =
        std::iter::once(&*cluster).chain(&pools).map(|one| one.affinity.cookie.clone()).collect();
    for one in std::iter::once(cluster).chain(&mut pools) {
        one.sibling_cookies = all.iter().filter(|cookie| **cookie != one.affinity.cookie).cloned().collect();
    }
    pools
}

/// The name of a pool without that of its cluster.
pub(super) fn pool_name(pool: &ClusterSettings) -> &str {
    pool.name.rsplit('/').next().unwrap_or(&pool.name)
}

fn pool(item: &Item<'_>, cluster: &ClusterSettings) -> Option<ClusterSettings> {
    let map = item.map(keys::POOL);
    if !item.is_map() {
        if !item.is_present() {
            item.error(ValueError::new("is empty").hint("write a name and servers"));
        }
        return None;
    }
    let name = map.required("name").parsed("a name such as `drapi`", name);
    let scheme = upstream::scheme(&map.get("upstream_scheme"));
    let availability = availability::of_cluster(&map.get("availability"));
    let defaults = ClusterDefaults { mode: Mode::Proxy, scheme, availability: &availability };
    let (servers, _) = servers::servers(&map.required("servers"), &defaults);
    refuse_domino(&map, &servers, &availability);
    let failover = map.get("failover");
    let without_effect = ["unsafe_commands", "unknown_commands", "save_check"];
    failover.map_quietly(keys::FAILOVER).no_effect(&without_effect, "a pool");
    let affinity = AffinityDefaults {
        cookie: format!("{}-{}", cluster.affinity.cookie, name.as_deref().unwrap_or_default()),
        secrets: cluster.affinity.secrets.clone(),
        session_cookies: Vec::new(),
        same_site: cluster.affinity.same_site,
    };
    let tls = map.get("upstream_tls");
    let headers = map.get("headers");
    let pool = ClusterSettings {
        hostnames: Vec::new(),
        mode: Mode::Proxy,
        upstream_scheme: scheme,
        upstream_tls: if tls.is_present() { upstream::tls(&tls) } else { cluster.upstream_tls.clone() },
        directory: Directory::Static(Entries::default()),
        probe: policy::probe(&map.get("probe")),
        failover: policy::failover(&failover),
        // Nothing replicates between its servers.
        catch_up: CatchUp { enabled: false, request: None, ..cluster.catch_up.clone() },
        freshness: Freshness { source: FreshnessSource::Off, ..cluster.freshness.clone() },
        affinity: policy::affinity(&map.get("affinity"), &affinity),
        unknown_database: UnknownDatabase::Any,
        limits: policy::limits(&map.get("limits")),
        headers: if headers.is_present() { policy::headers(&headers) } else { cluster.headers.clone() },
        routes: Vec::new(),
        // Those of the cluster decide before the route leads to the pool.
        access: AccessRules::default(),
        connector_secret: map.get("connector_secret_file").token(),
        servers,
        availability,
        pool_of: Some(cluster.name.clone()),
        name: format!("{}/{}", cluster.name, name?),
        ..cluster.clone()
    };
    Some(pool)
}

/// A pool has neither Server documents nor a companion.
fn refuse_domino(map: &Map<'_>, servers: &Servers, availability: &[Availability]) {
    if matches!(servers, Servers::Names(_)) {
        map.get("servers").error(
            ValueError::new("the servers of a pool are not read from Domino")
                .hint("write `servers: { list: [...] }`"),
        );
    }
    let own = match servers {
        Servers::Static(servers) => servers.as_slice(),
        Servers::Names(_) => &[],
    };
    let mut sources = availability.iter().chain(own.iter().flat_map(|server| &server.availability));
    if sources.any(|one| one.source.is_companion()) {
        map.get("availability").error(
            ValueError::new("the companion reports about Domino's databases, which a pool does not have")
                .hint("write another source, or configure the companion in the cluster"),
        );
    }
}

fn name(text: &str) -> Result<String, ValueError> {
    let name = text.trim();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 32 || !name.bytes().all(fits) {
        return Err(ValueError::new(format!("`{text}` is not the name of a pool"))
            .hint("use letters, digits, `-`, `_` and `.`, at most 32"));
    }
    Ok(name.to_owned())
}

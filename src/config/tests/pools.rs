//! Pools of a cluster: what they have from the cluster, and what is wrong with them.

use super::super::ConfigErrors;
use super::super::settings::{ClusterSettings, RouteAction, UpstreamScheme};
use super::support::{cluster, load};

const SERVERS: &str =
    "servers: { list: [{ name: Web1/Acme, hostname: w1.example, http: \"10.0.0.11:8880\" }] }";

fn loaded(rest: &str) -> Vec<ClusterSettings> {
    let text = cluster(rest);
    let loaded = load(&text).unwrap_or_else(|errors| panic!("{}\n{text}", ConfigErrors(errors)));
    loaded.settings.clusters.iter().map(|cluster| (**cluster).clone()).collect()
}

/// The only error of a cluster with these pools and routes, as it is shown.
#[track_caller]
fn error(rest: &str) -> String {
    let text = cluster(rest);
    let errors = load(&text).err().unwrap_or_else(|| panic!("accepted:\n{text}"));
    let count = errors.len();
    let shown = ConfigErrors(errors).to_string();
    assert_eq!(count, 1, "{shown}");
    shown
}

#[test]
fn a_pool_is_a_cluster_without_host_names_that_follows_all_clusters() {
    let rest = format!(
        "    affinity: {{ cookie: USER, secret_file: /etc/icm/affinity.key, same_site: strict }}
    headers: {{ hsts: off }}
    hostnames: [www.acme.example]
    upstream_tls: {{ ca_file: /etc/icm/tls/domino-ca.pem }}
    pools:
    - {{ name: drapi, {SERVERS} }}
    - {{ name: nomad, {SERVERS}, upstream_scheme: same, affinity: {{ session_cookies: [NSESS] }}, headers: {{ via: icm }} }}
    routes:
    - {{ match: {{ path_prefix: /nomad }}, pool: Nomad }}
  - name: B
    servers: {{ list: [{{ name: Web1/Acme, http: \"10.0.0.11:80\" }}] }}
    directory: {{ databases: [] }}
"
    );
    let all = loaded(&rest);
    let names: Vec<&str> = all.iter().map(|cluster| &*cluster.name).collect();
    assert_eq!(names, ["A", "B", "A/drapi", "A/nomad"]);
    assert_eq!((all[0].first_pool, all[1].first_pool), (2, 4));
    assert_eq!(all[0].routes[0].action, RouteAction::Pool(1));
    let (drapi, nomad) = (&all[2], &all[3]);
    assert!(drapi.is_pool() && drapi.hostnames.is_empty() && drapi.routes.is_empty() && !all[0].is_pool());
    assert_eq!((&*drapi.affinity.cookie, &*nomad.affinity.cookie), ("USER-drapi", "USER-nomad"));
    assert_eq!(drapi.affinity.secrets.len(), 2);
    assert_eq!(drapi.affinity.same_site, all[0].affinity.same_site);
    assert!(drapi.affinity.session_cookies.is_empty());
    assert_eq!(nomad.affinity.session_cookies, ["nsess"]);
    assert_eq!(drapi.sibling_cookies, ["USER", "USER-nomad"]);
    assert_eq!(all[0].sibling_cookies, ["USER-drapi", "USER-nomad"]);
    assert_eq!((&drapi.headers.hsts, &nomad.headers.hsts.as_deref()), (&None, &Some("max-age=31536000")));
    assert!(drapi.upstream_tls.ca.is_some() && !drapi.catch_up.enabled);
    assert_eq!((drapi.upstream_scheme, nomad.upstream_scheme), (UpstreamScheme::Http, UpstreamScheme::Same));
    assert_eq!(drapi.probe.path, "/");
}

#[test]
fn what_is_wrong_with_a_pool_is_said_with_its_place() {
    for (pools, parts) in [
        (
            "[{ nam: drapi, SERVERS }]".to_owned(),
            vec!["8:15: clusters[0].pools[0].nam", "did you mean `name`?"],
        ),
        ("[{ name: drapi }]".to_owned(), vec!["clusters[0].pools[0].servers: is missing"]),
        (
            "[{ name: a b, SERVERS }]".to_owned(),
            vec!["pools[0].name", "is not the name of a pool", "at most 32"],
        ),
        (
            "[{ name: a, SERVERS }, { name: A, SERVERS, affinity: { cookie: X } }]".to_owned(),
            vec!["pools[1].name", "is also the name of clusters[0].pools[0]"],
        ),
        (
            "[{ name: login, SERVERS }]".to_owned(),
            vec!["the cookie `ICM-login` belongs to the cluster", "cookie: NAME"],
        ),
        (
            "[{ name: a, directory: { databases: [] }, SERVERS }]".to_owned(),
            vec!["pools[0].directory: unknown key", "it belongs in `clusters[]`"],
        ),
        ("[{ name: a, SERVERS, hostnames: [x] }]".to_owned(), vec!["pools[0].hostnames: unknown key"]),
        (
            "[{ name: a, servers: { source: names, from: [\"http://127.0.0.1\"] } }]".to_owned(),
            vec!["pools[0].servers", "not read from Domino", "list:"],
        ),
        (
            "[{ name: a, SERVERS, availability: { source: companion } }]".to_owned(),
            vec!["pools[0].availability", "does not have"],
        ),
        ("[ ~ ]".to_owned(), vec!["pools[0]: is empty"]),
    ] {
        let shown = error(&format!("    pools: {}\n", pools.replace("SERVERS", SERVERS)));
        for part in parts {
            assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
        }
    }
}

#[test]
fn a_route_leads_only_to_a_pool_of_its_cluster() {
    let shown = error("    routes: [{ match: all, pool: drapi }]\n");
    assert!(
        shown.contains("routes[0].pool: the cluster has no pool `drapi`, write it under `pools`"),
        "{shown}"
    );
    let route =
        format!("    pools: [{{ name: drapi, {SERVERS} }}]\n    routes: [{{ match: all, pool: draip }}]\n");
    assert!(error(&route).contains("did you mean `drapi`?"));
}

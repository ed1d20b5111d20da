//! `use_backend` and `default_backend`: which backend is a cluster of its own, because host names lead to it, and which is a
//! pool behind a route.

use super::super::address::host_of;
use super::super::directive::Directive;
use super::super::model::{ImportModel, ImportedCluster, ImportedMatch, ImportedPool, ImportedRoute, KeySet};
use super::super::scalar;
use super::condition::AclTable;
use super::{Context, ProxySection, cluster_name, server};

/// A `use_backend` that could be translated.
struct SwitchRule<'a> {
    d: &'a Directive,
    backend: &'a str,
    conditions: Vec<ImportedMatch>,
    /// Only host names lead to it.
    by_host: bool,
}

/// A frontend with the backends to which it leads.
pub(super) struct FrontendPlan<'a> {
    pub section: ProxySection<'a>,
    pub default: Option<&'a str>,
    rules: Vec<SwitchRule<'a>>,
}

impl<'a> FrontendPlan<'a> {
    pub fn read(section: ProxySection<'a>, context: &mut Context<'a>) -> Self {
        let acls = AclTable::read(&[section.defaults, section.own()]);
        let mut rules = Vec::new();
        for d in section.own().iter().filter(|d| d.name == "use_backend") {
            let backend = d.arg(0);
            let ways =
                acls.ways(d.args_from(1)).filter(|ways| ways.iter().all(super::condition::AclWay::is_plain));
            let is_known =
                context.sections.iter().any(|s| s.name() == backend && !s.is_tcp() && s.has_servers());
            let (Some(ways), true) = (ways, is_known) else {
                let why = if is_known {
                    "icm has no such condition"
                } else {
                    "icm knows no servers of this backend"
                };
                context.report.cannot(d, why, "write a route with `pool`, or a cluster with `hostnames`");
                continue;
            };
            let conditions: Vec<ImportedMatch> = ways.into_iter().map(|way| way.positive).collect();
            let only_hosts =
                |c: &ImportedMatch| c.headers.is_empty() && matches!(c.lists.as_slice(), [("host", _)]);
            let by_host = conditions.iter().all(only_hosts);
            rules.push(SwitchRule { d, backend, conditions, by_host });
        }
        let by_default = section.find("default_backend", "").map(|d| {
            context.report.taken(d, "clusters[]");
            d.arg(0)
        });
        let default = by_default.or_else(|| section.has_servers().then(|| section.name()));
        let plan = Self { section, default, rules };
        if plan.own_clusters().next().is_some() {
            context.report.taken(section.d, "listeners[], clusters[]");
        }
        plan
    }

    /// The backends that are clusters: the default, and those to which host names lead.
    pub fn own_clusters(&self) -> impl Iterator<Item = &'a str> + '_ {
        let by_host = self.rules.iter().filter(|rule| rule.by_host).map(|rule| rule.backend);
        let fallback = self.rules.iter().map(|rule| rule.backend).take(usize::from(self.default.is_none()));
        let mut seen: Vec<&str> = Vec::new();
        self.default.into_iter().chain(by_host).chain(fallback).filter(move |name| {
            let is_new = !seen.contains(name);
            seen.push(name);
            is_new
        })
    }

    /// The host names that lead to a cluster in this frontend.
    pub fn hosts_of(&self, cluster: &str) -> Vec<String> {
        let of = |rule: &&SwitchRule<'_>| rule.by_host && cluster_name(rule.backend) == cluster;
        let conditions = self.rules.iter().filter(of).flat_map(|rule| &rule.conditions);
        conditions.filter_map(|c| c.get("host")).flatten().cloned().collect()
    }

    /// Gives the clusters their host names.
    pub fn name_hosts(&self, context: &mut Context<'_>, model: &mut ImportModel) {
        for rule in self.rules.iter().filter(|rule| rule.by_host) {
            context.report.taken(rule.d, "clusters[].hostnames");
            let name = cluster_name(rule.backend);
            let Some(cluster) = model.clusters.iter_mut().find(|cluster| cluster.name == name) else {
                continue;
            };
            for host in rule.conditions.iter().filter_map(|c| c.get("host")).flatten() {
                if !cluster.hostnames.contains(host) {
                    cluster.hostnames.push(host.clone());
                }
            }
        }
    }

    /// Adds the routes to other backends to a cluster. Those behind the rule that leads to the cluster do not count for it.
    pub fn add_routes(&self, name: &str, cluster: &mut ImportedCluster, context: &mut Context<'a>) {
        for rule in &self.rules {
            if rule.by_host {
                if cluster_name(rule.backend) == name && self.default.is_none_or(|d| cluster_name(d) != name)
                {
                    return;
                }
                continue;
            }
            let found = context.sections.iter().find(|s| s.name() == rule.backend).copied();
            let Some(section) = found else { continue };
            let (key, value) = target(rule, &section, cluster, context);
            for condition in &rule.conditions {
                let mut keys = KeySet::default();
                if !key.is_empty() {
                    let _ = keys.set(&[key], value.clone(), &rule.d.at);
                }
                cluster.add_route(ImportedRoute {
                    condition: condition.clone(),
                    keys,
                    at: rule.d.at.clone(),
                });
            }
            context.report.taken(rule.d, "routes[]");
        }
    }
}

/// The key and value of a route to a backend: none for the cluster itself, some of its servers, or a pool.
fn target<'a>(
    rule: &SwitchRule<'a>,
    section: &ProxySection<'a>,
    cluster: &mut ImportedCluster,
    context: &mut Context<'a>,
) -> (&'static str, String) {
    let name = cluster_name(rule.backend);
    if name == cluster.name {
        return ("", String::new());
    }
    let mut found = server::servers(section, context);
    context.report.taken(section.d, "pools[], routes[]");
    let member =
        |address: &str| cluster.servers.iter().find(|own| own.address == address).map(|own| own.name.clone());
    let members: Option<Vec<String>> = found.servers.iter().map(|server| member(&server.address)).collect();
    if let Some(names) = members.filter(|names| !names.is_empty() && found.scheme == cluster.scheme) {
        let is_all = names.len() == cluster.servers.len();
        return if is_all { ("", String::new()) } else { ("servers", scalar::list(&names)) };
    }
    // One machine has one name, so that `icm restrict` acts on the pool too.
    for server in &mut found.servers {
        let host = host_of(&server.address);
        if let Some(own) = cluster.servers.iter().find(|own| host_of(&own.address) == host) {
            server.name.clone_from(&own.name);
        }
    }
    let at = rule.d.at.clone();
    let pool = ImportedPool { name, at, scheme: found.scheme, servers: found.servers, keys: found.keys };
    ("pool", scalar::scalar(cluster.pool(pool)))
}

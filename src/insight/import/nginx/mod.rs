//! nginx: which server block and which location becomes which cluster, route and rule. The directives themselves are in the
//! modules below.

mod access;
mod block;
mod headers;
mod include;
mod known;
mod listener;
mod location;
mod order;
mod parser;
mod redirect;
mod settings;
mod tls;
mod to_https;
mod upstream;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Translated;
use super::directive::Directive;
use super::files::ImportFiles;
use super::model::{ImportModel, ImportedCluster};
use super::report::ImportReport;
use block::ServerBlock;
use include::Includes;
use settings::{Scope, Zones};

/// What all steps share.
struct Context<'a> {
    report: &'a mut ImportReport,
    /// The directory from which relative names count.
    root: PathBuf,
    upstreams: HashMap<&'a str, &'a Directive>,
    zones: Zones,
}

pub(super) fn import(
    path: &Path,
    text: &str,
    files: &dyn ImportFiles,
    report: &mut ImportReport,
) -> Translated {
    let mut includes = Includes::new(path, files);
    let directives = includes.parse(path, text, report)?;
    let mut http: Vec<&Directive> = Vec::new();
    for d in &directives {
        match (&*d.name, &d.block) {
            ("http", Some(body)) => {
                report.taken(d, "the file");
                http.extend(body);
            }
            // A file of conf.d has these without the block around it.
            ("server" | "upstream", Some(_)) => http.push(d),
            _ => known::main_level(d, report),
        }
    }
    let mut model = ImportModel::default();
    let upstreams = http.iter().filter(|d| d.name == "upstream").map(|d| (d.arg(0), *d)).collect();
    let zones = Zones::read(&http, report);
    let mut context = Context { report, root: includes.root, upstreams, zones };
    translate(&http, &mut context, &mut model);
    Ok((directives, model))
}

fn translate<'a>(http: &[&'a Directive], context: &mut Context<'a>, model: &mut ImportModel) {
    let blocks: Vec<ServerBlock<'a>> =
        http.iter().filter(|d| d.name == "server").map(|d| ServerBlock::read(d, context)).collect();
    let clusters = make_clusters(&blocks, context, model);
    let several_hosts = |cluster: usize| {
        let mut sets =
            blocks.iter().zip(&clusters).filter(|(_, at)| **at == Some(cluster)).map(|(b, _)| &b.names);
        let first = sets.next();
        sets.any(|names| Some(names) != first)
    };
    for block in &blocks {
        listener::translate(block, http, context, model);
    }
    // nginx prefers names to patterns, and both to a block for all names; here the first condition that matches counts.
    let mut preferred: Vec<_> = blocks.iter().zip(&clusters).collect();
    preferred.sort_by_key(|(block, _)| (block.names.is_empty(), block.names.iter().any(|n| n.contains('*'))));
    for (block, at) in preferred {
        let Some(at) = *at else { continue };
        let hosts = if several_hosts(at) { block.names.clone() } else { Vec::new() };
        let ImportModel { clusters, global, .. } = &mut *model;
        let Some(cluster) = clusters.get_mut(at) else { continue };
        redirect::server_level(block, &hosts, cluster, context);
        access::translate(block, http, &hosts, cluster, context);
        location::translate(block, &hosts, cluster, global, context);
        cluster_settings(block, http, cluster, global, context);
        if let Some(target) = block.target.as_ref().filter(|target| target.is_https) {
            upstream::unverified(target, &mut cluster.keys, context);
        }
    }
    for (block, at) in blocks.iter().zip(&clusters) {
        if at.is_none() {
            without_servers(block, context, model);
        }
    }
    listener::finish(&blocks, &clusters, http, context, model);
    for d in http {
        match &*d.name {
            "server" => {}
            "upstream" if !context.report.is_known(d) => {
                context.report.not_needed_block(d, "no proxy_pass leads to it")
            }
            _ if context.report.is_known(d) => {}
            _ => known::everywhere(d, context.report),
        }
    }
    known::inside(http, context.report);
}

/// One cluster for each group of servers to which a block sends what no location takes. Returns the cluster of each block.
fn make_clusters<'a>(
    blocks: &[ServerBlock<'a>],
    context: &mut Context<'a>,
    model: &mut ImportModel,
) -> Vec<Option<usize>> {
    let mut by_target: Vec<String> = Vec::new();
    let mut clusters = Vec::new();
    for block in blocks {
        let Some(target) = &block.target else {
            clusters.push(None);
            continue;
        };
        let at = match by_target.iter().position(|known| *known == target.authority) {
            Some(at) => at,
            None => {
                let mut cluster = upstream::cluster(target, context);
                if cluster.servers.is_empty() {
                    clusters.push(None);
                    continue;
                }
                if model.clusters.iter().any(|other| other.name.eq_ignore_ascii_case(&cluster.name)) {
                    cluster.name = format!("{}-{}", cluster.name, model.clusters.len() + 1);
                }
                model.clusters.push(cluster);
                by_target.push(target.authority.clone());
                model.clusters.len() - 1
            }
        };
        if let Some(cluster) = model.clusters.get_mut(at) {
            add_names(block, cluster);
        }
        clusters.push(Some(at));
    }
    name_clusters(model);
    clusters
}

/// A block that serves all names lets its cluster serve all of them.
fn add_names(block: &ServerBlock<'_>, cluster: &mut ImportedCluster) {
    if block.names.is_empty() {
        cluster.keys.push(&["*"], &[], &block.d.at);
    }
    for name in &block.names {
        if !cluster.hostnames.contains(name) {
            cluster.hostnames.push(name.clone());
        }
    }
}

/// Only one cluster can serve all names that no other has.
fn name_clusters(model: &mut ImportModel) {
    let mut first: Option<String> = None;
    for cluster in &mut model.clusters {
        let serves_all = cluster.keys.get(&["*"]).is_some();
        cluster.keys.0.retain(|(path, _)| path.first().is_none_or(|key| key != "*"));
        if !serves_all {
            continue;
        }
        cluster.hostnames.clear();
        cluster.serve_all_names(&mut first);
    }
}

/// The directives of `location /`, of the server block and of `http`, as far as one further inside does not replace them.
fn cluster_settings(
    block: &ServerBlock<'_>,
    http: &[&Directive],
    cluster: &mut ImportedCluster,
    global: &mut super::model::KeySet,
    context: &mut Context<'_>,
) {
    let main: Vec<&Directive> = block.main.map(|d| d.body().iter().collect()).unwrap_or_default();
    let own: Vec<&Directive> = block.d.body().iter().collect();
    let mut replaced: Vec<&str> = Vec::new();
    for level in [&main[..], &own[..], http] {
        let mut here: Vec<&str> = Vec::new();
        for d in level {
            if replaced.contains(&&*d.name) {
                context.report.overridden(d);
                continue;
            }
            let mut scope = Scope {
                keys: &mut cluster.keys,
                global: &mut *global,
                route: None,
                zones: &context.zones,
                root: &context.root,
            };
            if settings::apply(d, &mut scope, context.report) {
                here.push(&d.name);
            }
        }
        replaced.extend(here);
    }
    // `gzip_types` without `gzip on` compresses nothing.
    if cluster.keys.get(&["compression", "algorithms"]).is_none() {
        cluster.keys.0.retain(|(path, _)| path.first().is_none_or(|key| key != "compression"));
    }
}

/// A block that sends nothing to servers: it redirects, or has files of its own.
fn without_servers(block: &ServerBlock<'_>, context: &mut Context<'_>, model: &mut ImportModel) {
    if block.to_https {
        return;
    }
    if redirect::whole_host(block, model, context) {
        return;
    }
    let why = "it sends nothing to servers";
    context.report.cannot_block(
        block.d,
        why,
        "write a route with `host` and `files`, `respond` or `redirect`",
    );
}

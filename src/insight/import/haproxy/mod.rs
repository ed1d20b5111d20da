//! HAProxy: which frontend and backend becomes which listener, cluster and pool. The directives themselves are in the modules
//! below.

mod bind;
mod condition;
mod defaults;
mod exceptions;
mod known;
mod parser;
mod rules;
mod server;
mod settings;
mod switch;

use std::path::{Path, PathBuf};

use super::Translated;
use super::directive::{Directive, Numbering, shown_path};
use super::files::ImportFiles;
use super::model::{ImportModel, ImportedCluster, OWN_ICM, more_listeners, plain_name};
use super::report::ImportReport;
use switch::FrontendPlan;

/// What all steps share.
struct Context<'a> {
    report: &'a mut ImportReport,
    files: &'a dyn ImportFiles,
    /// The directory from which relative names count.
    root: PathBuf,
    sections: Vec<ProxySection<'a>>,
    global: Vec<&'a Directive>,
}

/// A `frontend`, `backend` or `listen` with the `defaults` before it.
#[derive(Clone, Copy, Debug)]
struct ProxySection<'a> {
    d: &'a Directive,
    defaults: &'a [Directive],
}

impl<'a> ProxySection<'a> {
    fn name(&self) -> &'a str {
        self.d.arg(0)
    }

    fn own(&self) -> &'a [Directive] {
        self.d.body()
    }

    /// The last directive of this name in the section, else in its defaults.
    fn find(&self, name: &str, first_argument: &str) -> Option<&'a Directive> {
        let fits =
            |d: &&Directive| d.name == name && (first_argument.is_empty() || d.arg(0) == first_argument);
        self.own().iter().rev().find(fits).or_else(|| self.defaults.iter().rev().find(fits))
    }

    fn is_tcp(&self) -> bool {
        // HAProxy proxies TCP if nothing says otherwise, and who proxies HTTP may have relied on a rule of HTTP only.
        match self.find("mode", "") {
            Some(mode) => mode.arg(0) != "http",
            None => !self
                .own()
                .iter()
                .any(|d| matches!(&*d.name, "http-request" | "http-response" | "cookie" | "redirect")),
        }
    }

    fn has_servers(&self) -> bool {
        self.own().iter().any(|d| matches!(&*d.name, "server" | "server-template"))
    }

    fn takes_clients(&self) -> bool {
        self.d.name != "backend"
    }
}

pub(super) fn import(
    path: &Path,
    text: &str,
    files: &dyn ImportFiles,
    report: &mut ImportReport,
) -> Translated {
    let real = files.real_path(path).unwrap_or_else(|_| path.to_owned());
    let root = real.parent().map_or_else(PathBuf::new, Path::to_owned);
    let shown = shown_path(&root, &real);
    let directives = parser::parse(&shown, text, &mut Numbering::default())?;
    let defaults = defaults::resolve(&directives, report);
    let mut context = Context { report, files, root, sections: Vec::new(), global: Vec::new() };
    let mut model = ImportModel::default();
    read_sections(&directives, &defaults, &mut context);
    translate(&mut context, &mut model);
    for d in &directives {
        known::section(d, context.report);
    }
    Ok((directives, model))
}

fn read_sections<'a>(directives: &'a [Directive], resolved: &'a [Vec<Directive>], context: &mut Context<'a>) {
    let mut named: Vec<(&str, &[Directive])> = Vec::new();
    let mut defaults: &[Directive] = &[];
    let mut resolved = resolved.iter();
    for d in directives {
        match &*d.name {
            "global" => {
                context.report.taken(d, "the file");
                context.global.extend(d.body());
            }
            "defaults" => {
                context.report.taken(d, "all sections behind it");
                defaults = resolved.next().map_or(d.body(), Vec::as_slice);
                named.push((d.arg(0), defaults));
            }
            "frontend" | "backend" | "listen" => {
                let from = d.args.iter().position(|arg| arg == "from").and_then(|at| d.args.get(at + 1));
                let of_name = from.and_then(|name| named.iter().find(|(known, _)| known == name));
                let defaults = of_name.map_or(defaults, |(_, body)| *body);
                context.sections.push(ProxySection { d, defaults });
            }
            _ => {}
        }
    }
}

fn translate<'a>(context: &mut Context<'a>, model: &mut ImportModel) {
    let mut plans: Vec<FrontendPlan<'a>> = Vec::new();
    for section in context.sections.clone() {
        if section.is_tcp() {
            let instead =
                "keep HAProxy for TCP; HTTPS that passed through needs a listener with a certificate";
            context.report.cannot_block(section.d, "it proxies TCP (mode tcp), icm HTTP only", instead);
        } else if section.takes_clients() && known::is_for_administrators(&section) {
            let why = "the status page and metrics are on the admin listener (docs/admin.md)";
            context.report.not_needed_block(section.d, why);
        } else if section.takes_clients() {
            plans.push(FrontendPlan::read(section, context));
        }
    }
    for plan in &plans {
        for backend in plan.own_clusters() {
            make_cluster(backend, context, model);
        }
    }
    for plan in &plans {
        plan.name_hosts(context, model);
    }
    one_for_all_names(&plans, model);
    for plan in &plans {
        bind::translate(plan, context, model);
        let names: Vec<String> = plan.own_clusters().map(cluster_name).collect();
        for name in names {
            let ImportModel { clusters, global, .. } = &mut *model;
            let Some(cluster) = clusters.iter_mut().find(|cluster| cluster.name == name) else { continue };
            rules::translate(&plan.section, plan.hosts_of(&name).as_slice(), cluster, global, context);
            plan.add_routes(&name, cluster, context);
            settings::apply_all(&plan.section, cluster, global, context);
        }
    }
    for section in context.sections.clone().iter().filter(|section| section.d.name == "backend") {
        let name = cluster_name(section.name());
        let ImportModel { clusters, global, .. } = &mut *model;
        if let Some(cluster) = clusters.iter_mut().find(|cluster| cluster.name == name) {
            rules::translate(section, &[], cluster, global, context);
            settings::apply_all(section, cluster, global, context);
        } else if !context.report.is_known(section.d) {
            context
                .report
                .not_needed_block(section.d, "no frontend leads to it, or only its servers are used");
        }
    }
    model.clusters.iter_mut().for_each(exceptions::finish);
    report_listeners(&plans, context, model);
    settings::global(context, model);
}

/// What a frontend had for itself, its addresses and its name for all hosts, and what `icm` has for all.
fn report_listeners(plans: &[FrontendPlan<'_>], context: &mut Context<'_>, model: &ImportModel) {
    let plans: Vec<_> = plans.iter().filter(|plan| plan.own_clusters().next().is_some()).collect();
    let all: Vec<String> = plans.iter().flat_map(|plan| bind::addresses(plan)).collect();
    for plan in plans {
        let is_comment = |name: &str| {
            model.clusters.iter().any(|c| c.name == cluster_name(name) && !c.commented_out.is_empty())
        };
        let more = more_listeners(&bind::addresses(plan), &all);
        if let Some(why) = more.filter(|_| !plan.own_clusters().all(is_comment)) {
            context.report.cannot(plan.section.d, &why, OWN_ICM);
        }
        for name in plan.own_clusters().filter(|name| is_comment(name)) {
            let why = format!(
                "another cluster serves all host names already, so `{name}` is written as a comment only"
            );
            context.report.cannot(plan.section.d, &why, "write its `hostnames`, and remove the `#`");
        }
    }
}

fn cluster_name(backend: &str) -> String {
    plain_name(backend, "Domino")
}

/// The cluster of a backend, made when the first frontend needs it.
fn make_cluster<'a>(backend: &str, context: &mut Context<'a>, model: &mut ImportModel) {
    let name = cluster_name(backend);
    if model.clusters.iter().any(|cluster| cluster.name == name) {
        return;
    }
    let found =
        context.sections.iter().find(|s| s.name() == backend && s.has_servers() && !s.is_tcp()).copied();
    let Some(section) = found else { return };
    let mut cluster = ImportedCluster::new(&name, &section.d.at);
    let servers = server::servers(&section, context);
    cluster.scheme = servers.scheme;
    cluster.servers = servers.servers;
    cluster.keys = servers.keys;
    context.report.taken(section.d, "clusters[]");
    if !cluster.servers.is_empty() {
        model.clusters.push(cluster);
    }
}

/// Only one cluster can serve all names that no other has.
fn one_for_all_names(plans: &[FrontendPlan<'_>], model: &mut ImportModel) {
    let defaults: Vec<String> = plans.iter().filter_map(|plan| plan.default).map(cluster_name).collect();
    let mut first: Option<String> = None;
    for cluster in &mut model.clusters {
        if defaults.contains(&cluster.name) {
            cluster.hostnames.clear();
        }
        if !cluster.hostnames.is_empty() {
            continue;
        }
        cluster.serve_all_names(&mut first);
    }
}

//! `allow`, `deny` and `return 403` of nginx as rules of `access`. The first rule that matches decides there, so those of the
//! preferred locations come first, and a location without rules gets one that allows it where a later one would deny.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::directive::Directive;
use super::super::model::{ImportedCluster, ImportedMatch, ImportedRule};
use super::super::pattern::by_database;
use super::block::{LocationKind, NginxLocation, ServerBlock};
use super::order::{condition, in_order};
use super::{Context, known};

/// The directive with which a location refuses every request.
pub(super) fn denies_all<'a>(location: &NginxLocation<'a>) -> Option<(&'a Directive, u16)> {
    let body: &'a [Directive] = location.d.body();
    let of_return = body.iter().find_map(|d| match (&*d.name, d.arg(0)) {
        ("return", "403" | "444" | "401" | "405") => Some((d, 403)),
        // Only nginx itself reaches it, by a redirect that icm does not make.
        ("return", "404" | "410") | ("internal", _) => Some((d, 404)),
        _ => None,
    });
    let has_allow = body.iter().any(|d| d.name == "allow");
    let deny = body.iter().find(|d| d.name == "deny" && d.arg(0) == "all");
    of_return.or_else(|| deny.filter(|_| !has_allow).map(|d| (d, 403)))
}

/// Adds the rules of all locations of a block, then those that hold for all of it.
pub(super) fn translate(
    block: &ServerBlock<'_>,
    http: &[&Directive],
    hosts: &[String],
    cluster: &mut ImportedCluster,
    context: &mut Context<'_>,
) {
    let of_block: Vec<&Directive> = rules_in(block.d.body());
    let of_http: Vec<&Directive> = http.iter().copied().filter(|d| is_rule(d)).collect();
    let general = if of_block.is_empty() { of_http } else { of_block };
    let main: Vec<&Directive> = block.main.map(|d| rules_in(d.body())).unwrap_or_default();
    let locations = in_order(block);
    let is_main = |l: &NginxLocation<'_>| block.main.is_some_and(|main| main.id == l.d.id);
    for (at, location) in locations.iter().enumerate() {
        if location.kind == LocationKind::Named || is_main(location) {
            continue;
        }
        let Some(condition) = condition(location, hosts) else { continue };
        if let Some((d, status)) = denies_all(location) {
            context.report.taken(d, "access[].deny");
            for inner in location.d.body().iter().filter(|inner| inner.id != d.id) {
                context.report.part_of_another(inner);
            }
            let condition = by_database(condition);
            cluster.add_rule(ImportedRule { allow: false, condition, status, at: d.at.clone() });
            continue;
        }
        let own = location.rules.map(|d| rules_in(d.body())).unwrap_or_default();
        let mut later = locations.iter().skip(at + 1).filter(|later| !is_main(later));
        let is_shadowed = if own.is_empty() && !general.is_empty() {
            !main.is_empty() || later.any(|later| may_shadow(later, location))
        } else {
            (!main.is_empty() && location.kind != LocationKind::Regex)
                || later.any(|later| shadows(later, location))
        };
        if own.is_empty() && !is_shadowed {
            continue;
        }
        // Without rules of its own a location has those of the block, and not those of a later location.
        let decides_all = rules(if own.is_empty() { &general } else { &own }, &condition, cluster, context);
        if !decides_all && (is_shadowed || !general.is_empty()) {
            let at = location.d.at.clone();
            cluster.add_rule(ImportedRule { allow: true, condition, status: 403, at });
        }
    }
    let last = if main.is_empty() { general } else { main };
    let everything =
        if hosts.is_empty() { ImportedMatch::default() } else { ImportedMatch::of("host", hosts.to_vec()) };
    rules(&last, &everything, cluster, context);
}

fn is_rule(d: &Directive) -> bool {
    matches!(&*d.name, "allow" | "deny")
}

/// Reports what restricts requests in a location that is not taken over, so that it is not lost in the count of the block.
pub(super) fn report_lost(location: &Directive, context: &mut Context<'_>) {
    for d in location.body() {
        if d.name == "location" || context.report.is_known(d) {
            continue;
        }
        if is_rule(d) || d.name == "internal" {
            let why = "the location is not taken over, so this restricts nothing";
            context.report.cannot(d, why, "a rule of `access` for its paths");
        } else if is_protection(d) {
            known::everywhere(d, context.report);
        }
    }
}

fn is_protection(d: &Directive) -> bool {
    ["auth_", "satisfy", "limit_except"].iter().any(|word| d.name.starts_with(word))
}

fn rules_in(body: &[Directive]) -> Vec<&Directive> {
    body.iter().filter(|d| is_rule(d)).collect()
}

/// Whether a later location has rules and takes paths of this one, too.
fn shadows(later: &NginxLocation<'_>, location: &NginxLocation<'_>) -> bool {
    let is_path = |l: &NginxLocation<'_>| l.kind != LocationKind::Regex;
    is_path(later) && is_path(location) && may_shadow(later, location)
}

/// Like [`shadows`], but true also where only a regular expression tells.
fn may_shadow(later: &NginxLocation<'_>, location: &NginxLocation<'_>) -> bool {
    let has_rules = denies_all(later).is_some() || later.rules.is_some();
    let is_regex = [later, location].iter().any(|l| l.kind == LocationKind::Regex);
    has_rules && (is_regex || location.path.starts_with(later.path))
}

/// Adds a rule for each directive; true if the last one decides about every client.
fn rules(
    directives: &[&Directive],
    condition: &ImportedMatch,
    cluster: &mut ImportedCluster,
    context: &mut Context<'_>,
) -> bool {
    let mut decides_all = false;
    for d in directives {
        let allow = d.name == "allow";
        let client = d.arg(0);
        let network = client.parse::<IpNet>().is_ok() || client.parse::<IpAddr>().is_ok();
        let mut condition = condition.clone();
        if client == "all" {
            decides_all = true;
            if allow && condition.is_everything() {
                context.report.not_needed(d, "what no rule denies is allowed");
                continue;
            }
        } else if network {
            condition.lists.push(("client", vec![client.to_owned()]));
        } else {
            context.report.cannot(d, "a client is an address or a network", "write a rule of `access`");
            continue;
        }
        context.report.taken(d, if allow { "access[].allow" } else { "access[].deny" });
        let condition = by_database(condition);
        cluster.add_rule(ImportedRule { allow, condition, status: 403, at: d.at.clone() });
    }
    decides_all
}

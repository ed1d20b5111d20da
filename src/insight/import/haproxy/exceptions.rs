//! `deny if ... !...`: a rule that allows some, before the one that denies the rest. The first rule that matches ends the
//! search in `icm`, so such a pair must not allow what another rule of HAProxy denies.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::model::{AccessException, ImportedCluster, ImportedMatch, ImportedRule};

/// Adds a pair behind all rules that only deny. False if that would open something.
pub(super) fn add(cluster: &mut ImportedCluster, excepted: &ImportedMatch, deny: ImportedRule) -> bool {
    let denied = deny.condition.clone();
    let Some(mut allowed) = denied.and(excepted).map(Some) else { return false };
    let mut pairs = cluster.exceptions.clone();
    for other in &mut pairs {
        if other.excepted == *excepted || are_disjoint(&other.denied, &denied) {
            continue;
        }
        // Of two pairs about the same requests the first one must allow only what both allow.
        let (is_wider, is_narrower) = (covers(&denied, &other.denied), covers(&other.denied, &denied));
        if is_wider {
            let Some(both) = meet(other.allowed.take(), excepted) else { return false };
            other.allowed = both;
        }
        if is_narrower {
            let Some(both) = meet(allowed.take(), &other.excepted) else { return false };
            allowed = both;
        }
        if !is_wider && !is_narrower {
            return false;
        }
    }
    pairs.push(AccessException { denied, excepted: excepted.clone(), allowed, deny });
    cluster.exceptions = pairs;
    true
}

/// Writes the pairs, when all rules of frontends and backends are there; the one about all requests comes last.
pub(super) fn finish(cluster: &mut ImportedCluster) {
    let mut pairs = std::mem::take(&mut cluster.exceptions);
    pairs.sort_by_key(|pair| pair.denied.is_everything());
    for AccessException { allowed, deny, .. } in pairs {
        if let Some(condition) = allowed {
            cluster.add_rule(ImportedRule { allow: true, condition, ..deny.clone() });
        }
        cluster.add_rule(deny);
    }
}

/// Whether one condition is about all requests of the other, as far as it shows.
fn covers(wide: &ImportedMatch, narrow: &ImportedMatch) -> bool {
    wide.is_everything() || wide == narrow
}

/// What both conditions match: `Some(None)` is nothing at all, `None` cannot be written.
fn meet(one: Option<ImportedMatch>, other: &ImportedMatch) -> Option<Option<ImportedMatch>> {
    let Some(one) = one else { return Some(None) };
    let (Some(a), Some(b)) = (one.get("client"), other.get("client")) else {
        return one.and(other).map(Some);
    };
    let networks = common_networks(a, b)?;
    let without = |condition: &ImportedMatch| {
        let mut condition = condition.clone();
        condition.lists.retain(|(key, _)| *key != "client");
        condition
    };
    let mut both = without(&one).and(&without(other))?;
    if networks.is_empty() {
        return Some(None);
    }
    both.lists.push(("client", networks));
    Some(Some(both))
}

fn common_networks(one: &[String], other: &[String]) -> Option<Vec<String>> {
    let network =
        |text: &String| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let mut common = Vec::new();
    for a in one {
        for b in other {
            let (first, second) = (network(a)?, network(b)?);
            if first.contains(&second) {
                common.push(b.clone());
            } else if second.contains(&first) {
                common.push(a.clone());
            }
        }
    }
    common.dedup();
    Some(common)
}

/// Whether no request can match both, as far as paths and databases tell.
fn are_disjoint(one: &ImportedMatch, other: &ImportedMatch) -> bool {
    let (one, other) = (starts(one), starts(other));
    let apart = |a: &String, b: &String| !a.starts_with(b.as_str()) && !b.starts_with(a.as_str());
    !one.is_empty() && !other.is_empty() && one.iter().all(|a| other.iter().all(|b| apart(a, b)))
}

/// The texts with which the paths of a condition begin, in lower case; none if they can begin with anything.
fn starts(condition: &ImportedMatch) -> Vec<String> {
    let paths = condition.get("path").map(<[String]>::to_vec);
    let databases = condition.get("database").map(|all| all.iter().map(|name| format!("/{name}")).collect());
    let all: Vec<String> = paths.or(databases).unwrap_or_default();
    let start = |path: &String| path.split('*').next().unwrap_or_default().to_ascii_lowercase();
    let starts: Vec<String> = all.iter().map(start).collect();
    if starts.iter().any(|start| start.len() < 2) { Vec::new() } else { starts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_both_are_the_smaller_ones() {
        let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let common = |a: &[&str], b: &[&str]| common_networks(&list(a), &list(b)).unwrap();
        assert_eq!(common(&["10.0.0.0/8"], &["10.1.0.0/16", "192.168.0.1"]), ["10.1.0.0/16"]);
        assert_eq!(common(&["10.1.2.3", "::1"], &["10.0.0.0/8"]), ["10.1.2.3"]);
        assert!(common(&["10.0.0.0/8"], &["192.168.0.0/16"]).is_empty());
    }

    #[test]
    fn paths_are_apart_if_neither_begins_with_the_other() {
        let path = |path: &str| ImportedMatch::of("path", vec![path.to_owned()]);
        let database = ImportedMatch::of("database", vec!["names.nsf".to_owned()]);
        assert!(are_disjoint(&path("/admin*"), &path("/private*")));
        assert!(are_disjoint(&path("/admin*"), &database));
        assert!(!are_disjoint(&path("/a*"), &path("/a/secret")));
        assert!(!are_disjoint(&path("*.nsf"), &path("/private*")));
        assert!(!are_disjoint(&path("/NAMES*"), &database));
        assert!(!are_disjoint(&ImportedMatch::default(), &database));
    }
}

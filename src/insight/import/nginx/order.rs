//! The order in which nginx prefers locations, and the condition of each. Routes and rules of `access` need both.

use super::super::model::ImportedMatch;
use super::super::pattern;
use super::block::{LocationKind, NginxLocation, ServerBlock};

/// The locations in the order in which nginx prefers them.
pub(super) fn in_order<'a>(block: &ServerBlock<'a>) -> Vec<NginxLocation<'a>> {
    let has_regex = block.locations.iter().any(|l| l.kind == LocationKind::Regex);
    let rank = |l: &NginxLocation<'_>| match l.kind {
        LocationKind::Exact => 0,
        LocationKind::FinalPrefix if has_regex => 1,
        LocationKind::Regex => 2,
        _ => 3,
    };
    let mut all = block.locations.clone();
    let length = |l: &NginxLocation<'_>| match l.kind {
        LocationKind::Regex => 0,
        _ => usize::MAX - l.path.len(),
    };
    all.sort_by_key(|l| (rank(l), length(l)));
    all
}

/// The condition of a location; `None` if it cannot be written.
pub(super) fn condition(location: &NginxLocation<'_>, hosts: &[String]) -> Option<ImportedMatch> {
    let path = location.path;
    let mut condition = match location.kind {
        LocationKind::Exact => (pattern::is_pattern(path) && !path.contains('*'))
            .then(|| ImportedMatch::of("path", vec![path.to_owned()]))?,
        LocationKind::Regex => ImportedMatch::of("path", pattern::of_regex(path)?),
        _ if path == "/" => ImportedMatch::default(),
        _ => match path.strip_suffix('/') {
            // A prefix is compared by whole segments.
            Some(folder) if pattern::is_pattern(folder) && !folder.contains('*') => {
                ImportedMatch::of("path_prefix", vec![folder.to_owned()])
            }
            _ => ImportedMatch::of("path", pattern::of_prefix(path)?),
        },
    };
    if !hosts.is_empty() {
        condition.lists.push(("host", hosts.to_vec()));
    }
    Some(condition)
}

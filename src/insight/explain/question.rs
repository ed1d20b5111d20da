//! The URL of an explanation: scheme, host and target, as users write them. It is apart from what is made of them.

use crate::config::settings::HostPattern;
use crate::domain::cluster::Port;
use crate::state::Snapshot;

/// Splits a URL or a path into scheme, authority (if any) and target.
pub(super) fn split_url(url: &str) -> (Port, Option<&str>, String) {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let (port, rest) = if lower.starts_with("https://") {
        (Port::Https, url.get(8..))
    } else if lower.starts_with("http://") {
        (Port::Http, url.get(7..))
    } else {
        (Port::Http, None)
    };
    let Some(rest) = rest else {
        let slash = if url.starts_with('/') { "" } else { "/" };
        return (port, None, format!("{slash}{url}"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let slash = if target.starts_with('/') { "" } else { "/" };
    (port, Some(host), format!("{slash}{target}"))
}

/// The first exact host name of the first cluster.
pub(super) fn default_host(snapshot: &Snapshot) -> String {
    snapshot
        .clusters
        .iter()
        .flat_map(|c| &c.settings.hostnames)
        .find_map(|pattern| match pattern {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Wildcard(_) => None,
        })
        .unwrap_or_else(|| "localhost".to_owned())
}

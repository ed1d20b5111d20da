//! `availability`: where the availability index comes from, for a cluster or a single server.

use std::time::Duration;

use super::auth;
use super::keys;
use super::reader::{Item, Map};
use super::settings::{Availability, AvailabilitySource};
use super::values::{self, ValueError};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Observed,
    Console,
    Prometheus,
    AgentCheck,
    Statpub,
    Companion,
}

impl Kind {
    fn of(source: &AvailabilitySource) -> Self {
        match source {
            AvailabilitySource::Observed => Self::Observed,
            AvailabilitySource::Console { .. } => Self::Console,
            AvailabilitySource::Prometheus { .. } => Self::Prometheus,
            AvailabilitySource::AgentCheck { .. } => Self::AgentCheck,
            AvailabilitySource::Statpub => Self::Statpub,
            AvailabilitySource::Companion { .. } => Self::Companion,
        }
    }
}

const WORDS: [(&str, Kind); 6] = [
    ("observed", Kind::Observed),
    ("statpub", Kind::Statpub),
    ("prometheus", Kind::Prometheus),
    ("console", Kind::Console),
    ("agent_check", Kind::AgentCheck),
    ("companion", Kind::Companion),
];

/// The sources of a cluster; by default, the observed index.
pub(super) fn of_cluster(item: &Item<'_>) -> Vec<Availability> {
    let list: Vec<_> = item.one_or_more().iter().filter_map(|i| source(i, &[])).collect();
    if list.is_empty() {
        return vec![Availability {
            source: AvailabilitySource::Observed,
            interval: Duration::from_secs(15),
            stale_after: Duration::from_secs(180),
            range: 6,
        }];
    }
    list
}

/// The sources of a server; none if it uses those of the cluster. A map without `source` changes single values of the
/// cluster's source of that kind, and leaves the other sources as they are.
pub(super) fn of_server(item: &Item<'_>, cluster: &[Availability]) -> Vec<Availability> {
    if !item.is_present() {
        return Vec::new();
    }
    let own: Vec<_> = item.one_or_more().iter().filter_map(|i| source(i, cluster)).collect();
    let refines = !item.is_list() && !item.map_quietly(keys::AVAILABILITY).has("source");
    let (true, Some(one)) = (refines, own.first()) else { return own };
    let same = |a: &Availability| Kind::of(&a.source) == Kind::of(&one.source);
    if !cluster.iter().any(same) {
        return own;
    }
    cluster.iter().map(|a| if same(a) { one.clone() } else { a.clone() }).collect()
}

fn source(item: &Item<'_>, cluster: &[Availability]) -> Option<Availability> {
    let map = item.map(keys::AVAILABILITY);
    let kind = match map.get("source") {
        given if given.is_present() => given.choice(&WORDS)?,
        _ => inferred(&map, cluster)?,
    };
    let same = cluster.iter().find(|a| Kind::of(&a.source) == kind);
    let inherited = same.or(cluster.first());
    let word = WORDS.iter().find(|(_, k)| *k == kind).map_or("", |(word, _)| word);
    let beside = format!("source: {word}");
    if !matches!(kind, Kind::Console | Kind::Prometheus | Kind::Companion) {
        map.no_effect(&["url"], &beside);
    }
    if kind != Kind::Companion {
        map.no_effect(&["auth"], &beside);
    }
    if kind != Kind::AgentCheck {
        map.no_effect(&["port"], &beside);
    }
    let source = match (kind, same) {
        (Kind::Console | Kind::Prometheus, Some(same)) if !map.has("url") => same.source.clone(),
        (Kind::AgentCheck, Some(same)) if !map.has("port") => same.source.clone(),
        (Kind::Console, _) => AvailabilitySource::Console { url: url(&map)? },
        (Kind::Prometheus, _) => AvailabilitySource::Prometheus { url: url(&map)? },
        (Kind::AgentCheck, _) => {
            AvailabilitySource::AgentCheck { port: map.required("port").integer(1, 65535)? }
        }
        (Kind::Observed, _) => AvailabilitySource::Observed,
        (Kind::Statpub, _) => AvailabilitySource::Statpub,
        (Kind::Companion, same) => companion(&map, same.map(|a| &a.source))?,
    };
    let interval = map.get("interval").period();
    let interval = interval.or(inherited.map(|a| a.interval)).unwrap_or(Duration::from_secs(15));
    let stale_after = map.get("stale_after").period();
    let stale_after = stale_after.or(inherited.map(|a| a.stale_after)).unwrap_or(Duration::from_secs(180));
    if stale_after <= interval && !matches!(kind, Kind::Observed | Kind::Statpub) {
        map.item
            .warn("stale_after is not longer than interval: each index is stale before the next one is read");
    }
    let range = map.get("range").integer(1, 30).or(inherited.map(|a| a.range)).unwrap_or(6);
    Some(Availability { source, interval, stale_after, range })
}

/// The agent of `conf/domino`. A server's own map inherits the keys that it does not give; `companion::finish` checks
/// where the password goes.
fn companion(map: &Map<'_>, inherited: Option<&AvailabilitySource>) -> Option<AvailabilitySource> {
    let (inherited_url, inherited_auth, inherited_plaintext) = match inherited {
        Some(AvailabilitySource::Companion { url, auth, allow_plaintext }) => {
            (url.clone(), auth.clone(), *allow_plaintext)
        }
        _ => (None, None, false),
    };
    let url = if map.has("url") { Some(self::url(map)?) } else { inherited_url };
    let item = map.get("auth");
    let (auth, allow_plaintext) = match item.is_present() {
        true => {
            let (auth, plaintext) = auth::auth(&item);
            (Some(auth), plaintext)
        }
        false => (inherited_auth, inherited_plaintext),
    };
    Some(AvailabilitySource::Companion { url, auth, allow_plaintext })
}

fn url(map: &Map<'_>) -> Option<String> {
    map.required("url").parsed("a URL", values::url_template)
}

/// The kind of a map without `source`.
fn inferred(map: &Map<'_>, cluster: &[Availability]) -> Option<Kind> {
    let mut kinds = cluster.iter().map(|a| Kind::of(&a.source));
    if map.has("url") {
        let mut by_url = kinds.filter(|k| matches!(k, Kind::Console | Kind::Prometheus));
        return match (by_url.next(), by_url.next()) {
            (Some(one), None) => Some(one),
            (None, _) if map.get("url").text().is_some_and(|u| u.ends_with("/metrics")) => {
                Some(Kind::Prometheus)
            }
            _ => {
                map.get("url").error_at_key(
                    ValueError::new("does not say what this URL returns")
                        .hint("add `source: prometheus` or `source: console`"),
                );
                None
            }
        };
    }
    if map.has("port") {
        return Some(Kind::AgentCheck);
    }
    Some(kinds.next().unwrap_or(Kind::Observed))
}

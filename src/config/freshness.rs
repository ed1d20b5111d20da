//! `catch_up` and `freshness`: when a server that returns is trusted again, and which replicas are behind.

use std::time::Duration;

use super::keys;
use super::reader::Item;
use super::settings::ReplicationRequest;
use super::settings::{AfterWrite, Availability, CatchUp, Freshness, FreshnessSource};
use super::values::{self, ValueError};

/// Domino retries a failed push after an hour for the first time, so that the default limit leaves it a quarter.
const LIMIT: Duration = Duration::from_secs(75 * 60);
/// With `request` a replication begins at once.
const LIMIT_WITH_REQUEST: Duration = Duration::from_secs(15 * 60);

pub(super) fn catch_up(item: &Item<'_>) -> CatchUp {
    let map = item.map(keys::CATCH_UP);
    let request = request(&map.get("request"));
    let default_limit = if request.is_some() { LIMIT_WITH_REQUEST } else { LIMIT };
    CatchUp {
        enabled: map.get("mode").choice(&[("on", true), ("off", false)]).unwrap_or(true),
        after: map.get("after").duration().unwrap_or(Duration::from_secs(30)),
        limit: map.get("limit").period().unwrap_or(default_limit),
        request,
    }
}

fn request(item: &Item<'_>) -> Option<ReplicationRequest> {
    if !item.is_present() {
        return None;
    }
    let map = item.map(keys::CATCH_UP_REQUEST);
    let url = map.required("url").parsed("a URL", values::url_template)?;
    Some(ReplicationRequest { url, token: map.get("token_file").token() })
}

pub(super) fn freshness(item: &Item<'_>, availability: &[Availability]) -> Freshness {
    let map = item.map(keys::FRESHNESS);
    let sources = [
        ("off", FreshnessSource::Off),
        ("head", FreshnessSource::Head),
        ("companion", FreshnessSource::Companion),
    ];
    let source = map.get("source").choice(&sources).unwrap_or(FreshnessSource::Off);
    let has_companion = availability.iter().any(|a| a.source.is_companion());
    if source == FreshnessSource::Companion && !has_companion {
        map.get("source")
            .error(ValueError::new("no companion is configured").hint(
                "add `availability: { source: companion }`, whose document has the modification times",
            ));
    }
    let writes = [("prefer", AfterWrite::Prefer), ("tell", AfterWrite::Tell)];
    let ignore = map.get("ignore").one_or_more();
    Freshness {
        source,
        interval: map.get("interval").period().unwrap_or(Duration::from_secs(30)),
        databases: map.get("databases").integer(1, 100_000).unwrap_or(200),
        slack: map.get("slack").duration().unwrap_or(Duration::from_secs(5)),
        behind_after: map.get("behind_after").duration().unwrap_or(Duration::from_secs(60)),
        behind_limit: map.get("behind_limit").period().unwrap_or(Duration::from_secs(2 * 3600)),
        ignore: ignore.iter().filter_map(|i| i.parsed("a path", ignored_path)).collect(),
        after_write: map.get("after_write").choice(&writes).unwrap_or(AfterWrite::Prefer),
    }
}

/// Folded as database paths are, so that the comparison ignores case and the kind of slash.
fn ignored_path(text: &str) -> Result<String, ValueError> {
    let path = text.trim().trim_start_matches(['/', '\\']).replace('\\', "/").to_lowercase();
    if path.is_empty() {
        return Err(ValueError::new("the path is empty").hint("write a path such as `stats/*.nsf`"));
    }
    Ok(path)
}

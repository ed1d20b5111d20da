//! `cache`: responses that are kept in memory.

use std::time::Duration;

use super::keys;
use super::reader::Item;
use super::request_match;
use super::settings::CacheSettings;
use super::values::{self, ValueError};
use crate::domain::cached_paths::CachedPaths;

const DEFAULT_SIZE: u64 = 256 << 20;
/// Room for a few pages of XPages.
const MIN_SIZE: u64 = 1 << 20;
const DEFAULT_MAX_OBJECT: u64 = 4 << 20;
const DEFAULT_STALE: Duration = Duration::from_secs(3600);

/// `None`: nothing is kept.
pub(super) fn cache(item: &Item<'_>) -> Option<CacheSettings> {
    if !item.is_present() || item.is_off() {
        return None;
    }
    if !item.is_map() {
        item.error(
            ValueError::new("a map, or off, is expected")
                .hint("write `cache: { size: 256MiB }`, or `cache: off`"),
        );
        return None;
    }
    let map = item.map(keys::CACHE);
    let size = map.get("size").size(MIN_SIZE).unwrap_or(DEFAULT_SIZE);
    let max_object_item = map.get("max_object");
    let max_object = max_object_item.size(1).unwrap_or(DEFAULT_MAX_OBJECT.min(size));
    if max_object > size {
        max_object_item.error(
            ValueError::new("is larger than the whole cache")
                .hint(format!("write at most `{}`, or raise `size`", values::size_text(size))),
        );
    }
    let paths: Vec<String> = map.get("paths").one_or_more().iter().filter_map(path).collect();
    let stale = map.get("stale");
    let stale = if stale.is_off() { Duration::ZERO } else { stale.duration().unwrap_or(DEFAULT_STALE) };
    Some(CacheSettings { size, max_object, stale, paths: CachedPaths::with(&paths) })
}

fn path(item: &Item<'_>) -> Option<String> {
    let path = item.parsed("a path such as `/web/resources/*`", pattern)?;
    if path.trim_matches(['/', '*']).is_empty() {
        item.warn(
            "all paths may be cached: what an application sends without Cache-Control goes to every user",
        );
    }
    Some(path)
}

/// The conditions of a route have keys for the query, `cache` has none.
fn pattern(text: &str) -> Result<String, ValueError> {
    if text.contains('?') {
        return Err(ValueError::new("a path has no query")
            .hint("end it before `?`: a listed path is cached with every query"));
    }
    request_match::path_pattern(text)
}

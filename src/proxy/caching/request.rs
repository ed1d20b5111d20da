//! What of a request decides whether it may use the cache, and which stored response it gets.
//!
//! Fields that plain requests keep out of their header map are read here before the head is completed
//! ([`raw_request::field_values`]), and from the map after that.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, PRAGMA, VARY};
use http::{HeaderName, HeaderValue};
use pingora_cache::cache_control::CacheControl;
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheMeta, ForcedFreshness, VarianceBuilder};
use pingora_http::RequestHeader;

use super::response;
use crate::edge::raw_request;

/// A request that wants a newer response than the stored one gets it only if that is older than this. Otherwise one client
/// that reloads could send all its requests to the servers.
const MIN_AGE_FOR_RELOAD: Duration = Duration::from_secs(10);

/// Whether the request neither uses nor fills the cache. Its head need not be complete.
pub(super) fn must_bypass(head: &RequestHeader) -> bool {
    head.headers.contains_key(AUTHORIZATION)
        || raw_request::field_values(head, CACHE_CONTROL.as_str()).any(|value| {
            value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"no-store"))
        })
}

/// Which of several responses with the same key a request gets: the values of the fields that `Vary` names.
pub(in crate::proxy) fn variance(meta: &CacheMeta, request: &RequestHeader) -> Option<HashBinary> {
    let mut variance = VarianceBuilder::new();
    for name in response::vary_names(meta.headers().get_all(VARY).iter()) {
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let lines: Vec<&[u8]> = request.headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        let mut value = lines.join(&b", "[..]);
        if name == ACCEPT_ENCODING {
            // Browsers differ in blanks and case only.
            value.retain(|byte| *byte != b' ');
            value.make_ascii_lowercase();
        }
        variance.add_owned_name_value(name.as_str().to_owned(), value);
    }
    variance.finalize()
}

/// Whether a request wants the server to confirm the stored response.
pub(in crate::proxy) fn forced_freshness(
    request: &RequestHeader,
    meta: &CacheMeta,
) -> Option<ForcedFreshness> {
    let age = meta.age();
    if age < MIN_AGE_FOR_RELOAD {
        return None;
    }
    let wants_newer = match CacheControl::from_req_headers(request) {
        Some(control) => {
            let max_age = control.max_age().ok().flatten();
            control.no_cache() || max_age.is_some_and(|seconds| age > Duration::from_secs(seconds.into()))
        }
        None => request
            .headers
            .get(PRAGMA)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache")),
    };
    // Without a server the stored response is still better than none.
    let expired_at = Some(SystemTime::now());
    wants_newer.then_some(ForcedFreshness::ForceExpiredServeStale { expired_at })
}

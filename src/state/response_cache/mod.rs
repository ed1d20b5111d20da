//! The cache of responses: what every page drags along is answered from memory. `pingora-cache` has the rules of HTTP
//! (RFC 9111); here is what it works with.
//!
//! It belongs to the running state, because it outlives reloads.

mod storage;
mod store;

use std::sync::OnceLock;
use std::time::Duration;

use pingora_cache::HttpCache;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::predictor::Predictor;
use pingora_cache::{CacheOptionOverrides, Storage};

use crate::domain::rules::Glob;
use store::Store;

/// How long requests wait for the one that fetches the response, before each fetches its own. As long as a slow server
/// needs for a script.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const PREDICTOR_SHARDS: usize = 16;
/// Resources for which a server does not allow caching are remembered, so that they do not wait for each other.
const PREDICTED_PER_SHARD: usize = 256;
/// Between the parts of a key; no part contains it.
const SEPARATOR: u8 = 0;

/// The cache of the process. It takes no memory until it is switched on.
#[derive(Default)]
pub struct ResponseCache {
    parts: OnceLock<&'static CacheParts>,
}

impl std::fmt::Debug for ResponseCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResponseCache({:?})", self.totals())
    }
}

/// What `pingora-cache` wants to live as long as the process.
struct CacheParts {
    store: Store,
    lock: Box<CacheKeyLockImpl>,
    predictor: Predictor<PREDICTOR_SHARDS>,
}

/// How much the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheTotals {
    /// The number of stored responses.
    pub objects: usize,
    /// The memory that they take.
    pub bytes: usize,
    /// The memory that they may take.
    pub limit: usize,
    /// Responses that made room for others.
    pub evictions: u64,
}

/// What an administrator removes from the cache.
#[derive(Clone, Debug)]
pub enum PurgeScope {
    /// All that is stored.
    All,
    /// The responses whose scheme, authority and target match; `None` matches all.
    Matching {
        /// Either `http` or `https`.
        scheme: Option<&'static str>,
        /// The host in lower case, with the port if the URL has one.
        authority: Option<String>,
        /// Path and query, in which `*` stands for any text.
        target: Glob,
    },
}

/// What a response is found by. A field of a request that is not here and that `Vary` does not name must not change the
/// response.
#[derive(Clone, Copy, Debug)]
pub struct CacheKeyParts<'a> {
    /// Of the cluster: its name, and what of its settings changes responses.
    pub cluster: &'a str,
    /// The name of the route; empty without one.
    pub route: &'a str,
    /// Whether the client uses TLS.
    pub tls: bool,
    /// The host and port as the client wrote them.
    pub authority: &'a str,
    /// Path and query as the client wrote them.
    pub target: &'a [u8],
}

impl CacheKeyParts<'_> {
    /// The key. The parts that a client chooses are last and have no [`SEPARATOR`] in them.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let authority = self.authority.to_ascii_lowercase();
        let parts = [
            self.cluster.as_bytes(),
            self.route.as_bytes(),
            scheme(self.tls).as_bytes(),
            authority.as_bytes(),
        ];
        let mut key =
            Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum::<usize>() + self.target.len());
        for part in parts {
            key.extend_from_slice(part);
            key.push(SEPARATOR);
        }
        key.extend_from_slice(self.target);
        key
    }
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

impl PurgeScope {
    fn covers(&self, key: &[u8]) -> bool {
        let Self::Matching { scheme, authority, target } = self else { return true };
        let mut parts = key.splitn(5, |byte| *byte == SEPARATOR).skip(2);
        let (Some(of_scheme), Some(of_authority), Some(of_target)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        scheme.is_none_or(|scheme| scheme.as_bytes() == of_scheme)
            && authority.as_ref().is_none_or(|authority| authority.as_bytes() == of_authority)
            && target.matches(of_target)
    }
}

impl ResponseCache {
    /// Sets how much memory the responses may take; 0 removes all.
    pub fn resize(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes == 0 && self.parts.get().is_none() {
            return;
        }
        self.parts().store.set_limit(bytes);
    }

    fn parts(&self) -> &'static CacheParts {
        self.parts.get_or_init(|| {
            Box::leak(Box::new(CacheParts {
                store: Store::new(),
                lock: CacheLock::new_boxed(FETCH_TIMEOUT),
                predictor: Predictor::new(PREDICTED_PER_SHARD, None),
            }))
        })
    }

    /// Lets a request use the cache. Larger bodies than `max_object` are not stored.
    pub fn enable(&self, request: &mut HttpCache, max_object: u64) {
        let parts = self.parts();
        let mut overrides = CacheOptionOverrides::default();
        overrides.wait_timeout = Some(FETCH_TIMEOUT);
        let storage: &'static (dyn Storage + Sync) = &parts.store;
        request.enable(storage, None, Some(&parts.predictor), Some(&*parts.lock), Some(overrides));
        request.set_max_file_size_bytes(usize::try_from(max_object).unwrap_or(usize::MAX));
    }

    /// Removes responses, and counts them. `None` if the cache is off.
    pub fn purge(&self, scope: &PurgeScope) -> Option<usize> {
        let parts = self.parts.get().filter(|parts| parts.store.limit() > 0)?;
        Some(parts.store.remove_where(|key| scope.covers(key)))
    }

    /// How much it holds; nothing if it was never on.
    #[must_use]
    pub fn totals(&self) -> CacheTotals {
        let Some(parts) = self.parts.get() else { return CacheTotals::default() };
        let (objects, bytes, evictions) = parts.store.totals();
        CacheTotals { objects, bytes, limit: parts.store.limit(), evictions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_covers_what_scheme_host_and_target_name() {
        let key = CacheKeyParts {
            cluster: "AcmeWeb 1f",
            route: "",
            tls: true,
            authority: "WWW.acme.example",
            target: b"/icons/a.gif?x=1",
        };
        let key = key.to_bytes();
        let of = |scheme, authority: Option<&str>, target: &str| PurgeScope::Matching {
            scheme,
            authority: authority.map(str::to_owned),
            target: Glob::new(target.as_bytes()),
        };
        for scope in [
            PurgeScope::All,
            of(Some("https"), Some("www.acme.example"), "/icons/a.gif?x=1"),
            of(None, None, "/icons/*"),
            of(None, Some("www.acme.example"), "*"),
        ] {
            assert!(scope.covers(&key), "{scope:?}");
        }
        for scope in [
            of(Some("http"), None, "*"),
            of(None, Some("acme.example"), "*"),
            of(None, None, "/icons/a.gif"),
            of(None, None, "/icons"),
        ] {
            assert!(!scope.covers(&key), "{scope:?}");
        }
    }

    #[test]
    fn without_the_key_in_the_configuration_there_is_no_cache() {
        let cache = ResponseCache::default();
        cache.resize(0);
        assert!(cache.parts.get().is_none() && cache.purge(&PurgeScope::All).is_none());
        cache.resize(1 << 20);
        assert_eq!(cache.purge(&PurgeScope::All), Some(0));
        assert_eq!(cache.totals().limit, 1 << 20);
        cache.resize(0);
        assert_eq!(cache.purge(&PurgeScope::All), None);
    }
}

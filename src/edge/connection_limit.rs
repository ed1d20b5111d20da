//! Limits connections, in total and per client. The proxy limits a client's requests in flight with the same type.
//!
//! Counts are exact, and memory is bounded by the number of open connections.

use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ahash::{AHashMap, RandomState};
use parking_lot::{Mutex, MutexGuard};

/// The connection limit of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// `limits` of the current configuration.
    Configured,
    /// In total and per client.
    Fixed(usize, usize),
}

/// So that the accepting threads seldom contend for a lock.
const SHARDS: usize = 16;
/// An IPv6 client usually has a /64 network of its own.
const IPV6_CLIENT_BITS: u32 = 64;

/// The open connections of all listeners that share a limit.
#[derive(Debug, Default)]
pub struct ConnectionLimiter {
    open: AtomicUsize,
    hash: RandomState,
    shards: [Mutex<AHashMap<IpAddr, usize>>; SHARDS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReached {
    Total,
    Client,
}

/// Counts as one open connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    client: Option<IpAddr>,
}

impl ConnectionLimiter {
    /// 0 = no limit. Without a `client`, `max_per_client` does not apply.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn acquire(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        max: usize,
        max_per_client: usize,
    ) -> Result<ConnectionPermit, LimitReached> {
        let before = self.open.fetch_add(1, Relaxed);
        // An early return drops the permit and so undoes the count.
        let mut permit = ConnectionPermit { limiter: Arc::clone(self), client: None };
        if max > 0 && before >= max {
            return Err(LimitReached::Total);
        }
        if let Some(client) = client {
            permit.count_client(client, max_per_client)?;
        }
        Ok(permit)
    }

    #[must_use]
    #[cfg(test)]
    pub fn open_connections(&self) -> usize {
        self.open.load(Relaxed)
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, AHashMap<IpAddr, usize>> {
        let index = self.hash.hash_one(client) as usize % SHARDS;
        // `index` is always below the length; the fallback only avoids a panic path.
        self.shards.get(index).unwrap_or(&self.shards[0]).lock()
    }
}

impl ConnectionPermit {
    /// Counts the connection for this client too, once. 0 = no limit.
    ///
    /// # Errors
    /// When the client has as many already. The connection then still counts in total.
    pub fn count_client(&mut self, client: IpAddr, max_per_client: usize) -> Result<(), LimitReached> {
        if self.client.is_some() {
            return Ok(());
        }
        let client = client_network(client);
        // Counted even without a limit: a reload may set one.
        let mut shard = self.limiter.shard(client);
        let count = shard.entry(client).or_insert(0);
        if max_per_client > 0 && *count >= max_per_client {
            return Err(LimitReached::Client);
        }
        *count += 1;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.open.fetch_sub(1, Relaxed);
        if let Some(client) = self.client
            && let Entry::Occupied(mut count) = self.limiter.shard(client).entry(client)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The address that identifies a client: of IPv6 only the network.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> IPV6_CLIENT_BITS << IPV6_CLIENT_BITS).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_dropped_permit_frees_its_connection_and_leaves_no_entry() {
        let limiter = Arc::new(ConnectionLimiter::default());
        let first = limiter.acquire(ip("192.0.2.1"), 2, 0).unwrap();
        let second = limiter.acquire(ip("192.0.2.2"), 2, 0).unwrap();
        assert_eq!(limiter.acquire(ip("192.0.2.3"), 2, 0).unwrap_err(), LimitReached::Total);
        assert_eq!(limiter.open_connections(), 2);
        drop(first);
        assert!(limiter.acquire(ip("192.0.2.3"), 2, 0).is_ok());
        drop(second);
        assert_eq!(limiter.open_connections(), 0);
        assert!(limiter.shards.iter().all(|s| s.lock().is_empty()));
    }

    #[test]
    fn a_client_behind_a_proxy_is_counted_when_it_is_known() {
        let limiter = Arc::new(ConnectionLimiter::default());
        let client = ip("192.0.2.1").unwrap();
        let mut first = limiter.acquire(None, 2, 1).unwrap();
        first.count_client(client, 1).unwrap();
        first.count_client(client, 1).unwrap();
        let mut second = limiter.acquire(None, 2, 1).unwrap();
        assert_eq!(second.count_client(client, 1).unwrap_err(), LimitReached::Client);
        assert_eq!(limiter.open_connections(), 2);
        drop(first);
        second.count_client(client, 1).unwrap();
        drop(second);
        assert_eq!(limiter.open_connections(), 0);
        assert!(limiter.shards.iter().all(|s| s.lock().is_empty()));
    }

    #[test]
    fn a_client_has_its_own_limit_and_an_ipv6_client_is_a_network() {
        let limiter = Arc::new(ConnectionLimiter::default());
        let _one = limiter.acquire(ip("2001:db8:0:1::1"), 0, 1).unwrap();
        assert_eq!(limiter.acquire(ip("2001:db8:0:1:ffff::2"), 0, 1).unwrap_err(), LimitReached::Client);
        assert!(limiter.acquire(ip("2001:db8:0:2::1"), 0, 1).is_ok());
        let _four = limiter.acquire(ip("192.0.2.1"), 0, 1).unwrap();
        assert_eq!(limiter.acquire(ip("::ffff:192.0.2.1"), 0, 1).unwrap_err(), LimitReached::Client);
        assert!(limiter.acquire(None, 0, 1).is_ok());
        assert_eq!(limiter.open_connections(), 2);
    }
}

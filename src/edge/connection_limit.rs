//! How many connections may be open, all together and from one client.
//!
//! In: a new connection's address and the limits in force. Out: a place, which is given back when it is
//! dropped, or the limit that stands against it. Counts are exact; memory is bounded by the connections that
//! are open.

use parking_lot::{Mutex, MutexGuard};
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ahash::{AHashMap, RandomState};

/// How many connections a service has at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// What `limits` says now.
    Configured,
    /// So many, and of one client.
    Fixed(usize, usize),
}

/// Independent parts of the count: accepting threads seldom meet in one.
const SHARDS: usize = 16;
/// An IPv6 client has its last 64 bits for itself.
const IPV6_CLIENT_BITS: u32 = 64;

/// The open connections of all listeners that share a limit.
#[derive(Debug, Default)]
pub struct ConnectionLimiter {
    open: AtomicUsize,
    hash: RandomState,
    shards: [Mutex<AHashMap<IpAddr, usize>>; SHARDS],
}

/// The limit that a connection is too much for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReached {
    /// `limits.connections`
    Total,
    /// `limits.per_client.connections`
    Client,
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionPermit {
    places: Arc<ConnectionLimiter>,
    client: Option<IpAddr>,
}

impl ConnectionLimiter {
    /// Takes a place. `most` and `most_of_client` are the limits, 0 for none; without a `client` the second
    /// does not apply.
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
        // From here on dropping it gives everything back that was taken.
        let mut place = ConnectionPermit { places: Arc::clone(self), client: None };
        if max > 0 && before >= max {
            return Err(LimitReached::Total);
        }
        // Counted without a limit too: a reload may set one.
        if let Some(client) = client.map(client_network) {
            let mut shard = self.shard(client);
            let count = shard.entry(client).or_insert(0);
            if max_per_client > 0 && *count >= max_per_client {
                return Err(LimitReached::Client);
            }
            *count += 1;
            place.client = Some(client);
        }
        Ok(place)
    }

    /// Connections that are open now.
    #[must_use]
    #[cfg(test)]
    pub fn open_connections(&self) -> usize {
        self.open.load(Relaxed)
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, AHashMap<IpAddr, usize>> {
        let at = self.hash.hash_one(client) as usize % SHARDS;
        // `at` is below the length, so the first of them is never taken in its stead.
        let shard = self.shards.get(at).unwrap_or(&self.shards[0]);
        shard.lock()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Relaxed);
        if let Some(client) = self.client
            && let Entry::Occupied(mut count) = self.places.shard(client).entry(client)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What counts as one client.
fn client_network(address: IpAddr) -> IpAddr {
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
    fn places_are_given_back_and_leave_no_trace() {
        let places = Arc::new(ConnectionLimiter::default());
        let first = places.acquire(ip("192.0.2.1"), 2, 0).unwrap();
        let second = places.acquire(ip("192.0.2.2"), 2, 0).unwrap();
        assert_eq!(places.acquire(ip("192.0.2.3"), 2, 0).unwrap_err(), LimitReached::Total);
        assert_eq!(places.open_connections(), 2);
        drop(first);
        assert!(places.acquire(ip("192.0.2.3"), 2, 0).is_ok());
        drop(second);
        assert_eq!(places.open_connections(), 0);
        assert!(places.shards.iter().all(|s| s.lock().is_empty()));
    }

    #[test]
    fn one_client_has_its_own_limit_and_an_ipv6_client_is_a_network() {
        let places = Arc::new(ConnectionLimiter::default());
        let _one = places.acquire(ip("2001:db8:0:1::1"), 0, 1).unwrap();
        assert_eq!(places.acquire(ip("2001:db8:0:1:ffff::2"), 0, 1).unwrap_err(), LimitReached::Client);
        assert!(places.acquire(ip("2001:db8:0:2::1"), 0, 1).is_ok());
        let _four = places.acquire(ip("192.0.2.1"), 0, 1).unwrap();
        assert_eq!(places.acquire(ip("::ffff:192.0.2.1"), 0, 1).unwrap_err(), LimitReached::Client);
        assert!(places.acquire(None, 0, 1).is_ok());
        assert_eq!(places.open_connections(), 2);
    }
}

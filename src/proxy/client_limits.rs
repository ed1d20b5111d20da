//! Limits per client: requests per second, and requests in flight. Rates are counted in a sketch of fixed size, and
//! requests in flight only for clients that have some, so that many addresses cannot exhaust memory.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pingora_limits::rate::Rate;

use crate::config::settings::Limits;
use crate::edge::connection_limit::{ConnectionLimiter, ConnectionPermit, LimitReached};
use crate::util::clock;

/// The requests of each client in the current second.
pub struct ClientRate(Rate);

impl std::fmt::Debug for ClientRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientRate")
    }
}

impl Default for ClientRate {
    fn default() -> Self {
        Self(Rate::new(Duration::from_secs(1)))
    }
}

impl ClientRate {
    /// Counts a request. False if it exceeds the limit.
    pub fn allows(&self, client: Option<IpAddr>, limits: &Limits) -> bool {
        let max = isize::try_from(limits.per_client_requests).unwrap_or(isize::MAX);
        match client {
            // A number, because the sketch hashes its key four times.
            Some(client) if max > 0 && !limits.is_exempt(client) => {
                self.0.observe(&as_number(client), 1) <= max
            }
            _ => true,
        }
    }
}

fn as_number(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The requests in flight of each client. The counts are exact: no client is refused for requests of another.
#[derive(Debug, Default)]
pub struct ClientsInFlight {
    limiter: Arc<ConnectionLimiter>,
    /// The last second in which a refusal was logged.
    logged: AtomicU64,
}

impl ClientsInFlight {
    /// Counts a request until the permit is dropped; `None` if no limit applies.
    pub fn begin(
        &self,
        client: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Option<ConnectionPermit>, LimitReached> {
        let max = limits.per_client_in_flight;
        let Some(client) = client.filter(|client| max > 0 && !limits.is_exempt(*client)) else {
            return Ok(None);
        };
        self.limiter.acquire(Some(client), 0, max).map(Some)
    }

    /// Logs that a request was refused, at most once per second.
    pub fn log_refused(&self, client: Option<IpAddr>, limits: &Limits) {
        let second = clock::unix_ms() / 1000;
        if let Some(client) = client
            && self.logged.swap(second, Relaxed) != second
        {
            let max = limits.per_client_in_flight;
            log::warn!(
                target: "icm::clients",
                "{client} has {max} requests in flight (limits.per_client.requests_in_flight): more get 429"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_one_client_does_not_limit_another() {
        let (one, other) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let limits = Limits { per_client_requests: 5, ..Limits::default() };
        let rate = ClientRate::default();
        let passed = (0..50).filter(|_| rate.allows(one, &limits)).count();
        // The second may end in between.
        assert!((5..=10).contains(&passed), "{passed}");
        assert!(rate.allows(other, &limits));
        assert!((0..50).all(|_| rate.allows(one, &Limits::default())));
    }

    #[test]
    fn requests_in_flight_of_a_client_are_limited_unless_its_network_is_exempt() {
        let (one, other) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let mut limits = Limits { per_client_in_flight: 2, ..Limits::default() };
        let clients = ClientsInFlight::default();
        let first = clients.begin(one, &limits).unwrap();
        let _second = clients.begin(one, &limits).unwrap();
        assert!(clients.begin(one, &limits).is_err());
        assert!(clients.begin(other, &limits).unwrap().is_some());
        drop(first);
        let _third = clients.begin(one, &limits).unwrap();
        assert!(clients.begin(one, &limits).is_err());
        limits.per_client_exempt = vec!["10.0.0.0/31".parse().unwrap()];
        assert!(clients.begin(one, &limits).unwrap().is_none());
        limits = Limits { per_client_in_flight: 0, ..limits };
        assert!(clients.begin(other, &limits).unwrap().is_none());
    }
}

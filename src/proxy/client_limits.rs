//! What one client may do, beyond the shape of its requests: how many a second, and how many at a time.
//!
//! In: client addresses, and the settings of `limits`. Out: may this request pass. The first it counts in a sketch of
//! fixed size, the second for clients that have a request in progress: strangers cannot make it grow.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pingora_limits::rate::Rate;

use crate::clock;
use crate::config::settings::Limits;
use crate::edge::places::{Full, Place, Places};

/// Requests of every client in the current second.
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
    /// Counts a request. False when it is one too many; `limits` may say that there is no limit.
    pub fn allows(&self, client: Option<IpAddr>, limits: &Limits) -> bool {
        let most = isize::try_from(limits.per_client_requests).unwrap_or(isize::MAX);
        match client {
            Some(client) if most > 0 && !limits.is_exempt(client) => self.0.observe(&client, 1) <= most,
            _ => true,
        }
    }
}

/// Requests of every client that are in progress. The counts are exact: nobody pays for another's requests.
#[derive(Debug, Default)]
pub struct ClientsInFlight {
    places: Arc<Places>,
    logged: AtomicU64,
}

impl ClientsInFlight {
    /// Counts a request until what comes back is dropped; nothing comes back where no limit applies.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn begin(&self, client: Option<IpAddr>, limits: &Limits) -> Result<Option<Place>, Full> {
        let most = limits.per_client_in_flight;
        let Some(client) = client.filter(|client| most > 0 && !limits.is_exempt(*client)) else {
            return Ok(None);
        };
        self.places.take(Some(client), 0, most).map(Some)
    }

    /// Says in the log that a request was refused, once a second at most.
    pub fn log_refused(&self, client: Option<IpAddr>, limits: &Limits) {
        let second = clock::unix_ms() / 1000;
        if let Some(client) = client
            && self.logged.swap(second, Relaxed) != second
        {
            let most = limits.per_client_in_flight;
            log::warn!(
                target: "icm::clients",
                "{client} has {most} requests in progress (limits.per_client.requests_in_flight): more get 429"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_send_so_many_requests_a_second_and_others_are_not_held_to_account() {
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
    fn a_client_may_have_so_many_requests_in_progress_unless_its_network_is_exempt() {
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

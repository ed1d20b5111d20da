//! What one client may do, beyond the shape of its requests: how many a second, and how slowly.
//!
//! In: client addresses, and the settings of `limits`. Out: may this request pass, and how long a read or
//! a write on the client's connection may take. It counts in a sketch of fixed size: strangers cannot
//! make it grow.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::rate::Rate;

use crate::config::settings::Limits;

/// A client that sends or takes nothing for so long, while it is its turn, is gone.
const STALL: Duration = Duration::from_secs(30);

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
            Some(client) if most > 0 => self.0.observe(&client, 1) <= most,
            _ => true,
        }
    }
}

/// How long the client may take for the next piece of its request.
#[must_use]
pub fn read_timeout(limits: &Limits) -> Option<Duration> {
    (limits.min_rate > 0).then_some(STALL)
}

/// How long the client may take for so many octets of the answer.
#[must_use]
pub fn write_timeout(limits: &Limits, octets: usize) -> Option<Duration> {
    let seconds = (octets as u64).checked_div(limits.min_rate)?;
    Some(STALL + Duration::from_secs(seconds))
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
    fn a_slow_client_gets_time_for_what_it_is_sent_and_none_without_a_rate() {
        let limits = Limits { min_rate: 512, ..Limits::default() };
        assert_eq!(write_timeout(&limits, 100), Some(STALL));
        assert_eq!(write_timeout(&limits, 51_200), Some(STALL + Duration::from_secs(100)));
        assert_eq!(read_timeout(&limits), Some(STALL));
        let none = Limits { min_rate: 0, ..Limits::default() };
        assert_eq!((read_timeout(&none), write_timeout(&none, 51_200)), (None, None));
    }
}

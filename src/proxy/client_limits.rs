//! What one client may do, beyond the shape of its requests: how many a second, and how slowly it may take an
//! HTTP/2 answer.
//!
//! In: client addresses, and the settings of `limits`. Out: may this request pass, and how long a write on a
//! stream may take. It counts in a sketch of fixed size: strangers cannot
//! make it grow.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::rate::Rate;

use crate::config::settings::Limits;
use crate::edge::patience::WINDOW;

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

/// How long an HTTP/2 client may take to open its window for so many octets of the answer: a stream that is
/// not read shows in no socket. Those of HTTP/1.1 are the edge's.
#[must_use]
pub fn stream_timeout(http2: bool, limits: &Limits, octets: usize) -> Option<Duration> {
    let seconds = (octets as u64).checked_div(limits.min_rate).filter(|_| http2)?;
    Some(WINDOW + Duration::from_secs(seconds))
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
    fn a_slow_stream_gets_time_for_what_it_is_sent_and_none_without_a_rate() {
        let limits = Limits { min_rate: 512, ..Limits::default() };
        assert_eq!(stream_timeout(true, &limits, 100), Some(WINDOW));
        assert_eq!(stream_timeout(true, &limits, 51_200), Some(WINDOW + Duration::from_secs(100)));
        assert_eq!(stream_timeout(false, &limits, 51_200), None);
        let none = Limits { min_rate: 0, ..Limits::default() };
        assert_eq!(stream_timeout(true, &none, 51_200), None);
    }
}

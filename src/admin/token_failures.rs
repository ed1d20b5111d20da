//! Failed attempts to show a token, counted for each address: a token is not to be found by trying.
//!
//! In: the addresses of clients that showed a wrong token. Out: how long an address must wait. The memory is bounded, and
//! a client that has many IPv6 addresses of one network has one count.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How long the answer to a wrong token is held back.
pub const FAILURE_DELAY: Duration = Duration::from_millis(500);
/// Failures that are forgiven at once.
const MAX_RECENT_FAILURES: u64 = 20;
/// One failure is forgotten after this.
const FAILURE_EXPIRY_MS: u64 = 5_000;
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 4_096;

/// The failures of all addresses: for each, when all of them will be forgotten.
#[derive(Debug, Default)]
pub struct TokenFailures(Mutex<HashMap<IpAddr, u64>>);

impl TokenFailures {
    /// How many seconds this client must wait until a token of its is looked at; `None` = it need not.
    #[must_use]
    pub fn retry_after_secs(&self, client: IpAddr, now_ms: u64) -> Option<u64> {
        let failures = self.0.lock();
        let left = failures.get(&client_network(client))?.saturating_sub(now_ms);
        let too_long = (left + FAILURE_EXPIRY_MS).checked_sub(MAX_RECENT_FAILURES * FAILURE_EXPIRY_MS)?;
        (too_long > 0).then(|| too_long.div_ceil(1_000))
    }

    /// Counts a wrong token, and says so in the log when it was one too many.
    pub fn record_failure(&self, client: IpAddr, listener: &str, now_ms: u64) {
        self.count(client, now_ms);
        if let Some(seconds) = self.retry_after_secs(client, now_ms) {
            log::warn!(
                target: "icm::admin",
                "{listener}: too many wrong tokens from {client}: its tokens are refused for {seconds}s"
            );
        }
    }

    fn count(&self, client: IpAddr, now_ms: u64) {
        let mut failures = self.0.lock();
        let network = client_network(client);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&network) {
            failures.retain(|_, until| *until > now_ms);
            let oldest = failures.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| failures.len() >= MAX_ADDRESSES) {
                failures.remove(&oldest);
            }
        }
        let until = failures.entry(network).or_default();
        *until = (*until).max(now_ms) + FAILURE_EXPIRY_MS;
    }
}

/// What one client can send from: its IPv4 address, or its IPv6 network of 64 bits.
fn client_network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_twenty_failures_an_address_waits_and_others_do_not() {
        let attempts = TokenFailures::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 0..20 {
            assert_eq!(attempts.retry_after_secs(address("2001:db8::1"), 1_000), None, "{n}");
            attempts.count(address(&format!("2001:db8::{n}")), 1_000);
        }
        assert_eq!(attempts.retry_after_secs(address("2001:db8::ffff:1"), 1_000), Some(5));
        assert_eq!(attempts.retry_after_secs(address("2001:db8:0:1::1"), 1_000), None, "another network");
        assert_eq!(attempts.retry_after_secs(address("192.0.2.1"), 1_000), None);
        assert_eq!(attempts.retry_after_secs(address("2001:db8::1"), 6_000), None, "one is forgotten");
        attempts.count(address("2001:db8::1"), 6_000);
        assert_eq!(attempts.retry_after_secs(address("2001:db8::1"), 6_000), Some(5));
    }

    #[test]
    fn an_ipv4_address_counts_once_in_each_of_its_forms() {
        let attempts = TokenFailures::default();
        (0..20).for_each(|_| attempts.count("::ffff:192.0.2.1".parse().unwrap(), 0));
        assert!(attempts.retry_after_secs("192.0.2.1".parse().unwrap(), 0).is_some());
        assert!(attempts.retry_after_secs("192.0.2.2".parse().unwrap(), 0).is_none());
    }

    #[test]
    fn however_many_addresses_fail_the_memory_is_bounded_and_the_worst_are_remembered() {
        let attempts = TokenFailures::default();
        let worst = IpAddr::from([192, 0, 2, 1]);
        (0..22).for_each(|_| attempts.count(worst, 0));
        for n in 0..10_000_u32 {
            attempts.count(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 1);
        }
        assert_eq!(attempts.0.lock().len(), MAX_ADDRESSES);
        assert!(attempts.retry_after_secs(worst, 1).is_some());
    }
}

//! Counts wrong tokens for each address, so that a token cannot be guessed. The memory is bounded, and all IPv6 addresses of
//! one /64 network count as one.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// The delay of the answer to a wrong token.
pub const FAILURE_DELAY: Duration = Duration::from_millis(500);
/// Further failures make the address wait.
const MAX_RECENT_FAILURES: u64 = 20;
/// One failure expires after this time.
const FAILURE_EXPIRY_MS: u64 = 5_000;
const MAX_ADDRESSES: usize = 4_096;

/// For each address the time when all of its failures will have expired.
#[derive(Debug, Default)]
pub struct TokenFailures(Mutex<HashMap<IpAddr, u64>>);

impl TokenFailures {
    /// How long this client must wait until its token is checked again; `None` = it need not wait.
    #[must_use]
    pub fn retry_after_secs(&self, client: IpAddr, now_ms: u64) -> Option<u64> {
        let failures = self.0.lock();
        let left = failures.get(&client_network(client))?.saturating_sub(now_ms);
        let too_long = (left + FAILURE_EXPIRY_MS).checked_sub(MAX_RECENT_FAILURES * FAILURE_EXPIRY_MS)?;
        (too_long > 0).then(|| too_long.div_ceil(1_000))
    }

    /// Counts a wrong token, and logs when the address must wait.
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

/// The IPv4 address, or the IPv6 /64 network, because a client can use every address in it.
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
        let failures = TokenFailures::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 0..20 {
            assert_eq!(failures.retry_after_secs(address("2001:db8::1"), 1_000), None, "{n}");
            failures.count(address(&format!("2001:db8::{n}")), 1_000);
        }
        assert_eq!(failures.retry_after_secs(address("2001:db8::ffff:1"), 1_000), Some(5));
        assert_eq!(failures.retry_after_secs(address("2001:db8:0:1::1"), 1_000), None, "another network");
        assert_eq!(failures.retry_after_secs(address("192.0.2.1"), 1_000), None);
        assert_eq!(failures.retry_after_secs(address("2001:db8::1"), 6_000), None, "one has expired");
        failures.count(address("2001:db8::1"), 6_000);
        assert_eq!(failures.retry_after_secs(address("2001:db8::1"), 6_000), Some(5));
    }

    #[test]
    fn an_ipv4_address_counts_once_in_each_of_its_forms() {
        let failures = TokenFailures::default();
        (0..20).for_each(|_| failures.count("::ffff:192.0.2.1".parse().unwrap(), 0));
        assert!(failures.retry_after_secs("192.0.2.1".parse().unwrap(), 0).is_some());
        assert!(failures.retry_after_secs("192.0.2.2".parse().unwrap(), 0).is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_addresses_with_most_failures_are_kept() {
        let failures = TokenFailures::default();
        let worst = IpAddr::from([192, 0, 2, 1]);
        (0..22).for_each(|_| failures.count(worst, 0));
        for n in 0..10_000_u32 {
            failures.count(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 1);
        }
        assert_eq!(failures.0.lock().len(), MAX_ADDRESSES);
        assert!(failures.retry_after_secs(worst, 1).is_some());
    }
}

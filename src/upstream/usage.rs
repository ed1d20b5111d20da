//! How long a pooled connection has been idle and how many requests it has carried, for [`super::reuse`].

use std::sync::atomic::Ordering::Relaxed;

use super::connection_table::TABLE;
use crate::util::socket_fd::SocketFd;

/// The low bits of a slot hold the number of requests, the others the time of the last one.
const REQUEST_BITS: u32 = 16;
const MAX_REQUESTS: u64 = (1 << REQUEST_BITS) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionUsage {
    pub idle_ms: u64,
    /// The number of requests so far.
    pub served: u32,
}

/// Counts a request and returns the usage before it; `None` if the connection is `new`.
pub fn begin_request(descriptor: SocketFd, new: bool, now_ms: u64) -> Option<ConnectionUsage> {
    let slot = TABLE.slot(descriptor)?;
    let before = if new { 0 } else { slot.usage.load(Relaxed) };
    let served = before & MAX_REQUESTS;
    slot.usage.store(now_ms << REQUEST_BITS | (served + 1).min(MAX_REQUESTS), Relaxed);
    (served > 0).then(|| ConnectionUsage {
        idle_ms: now_ms.saturating_sub(before >> REQUEST_BITS),
        served: u32::try_from(served).unwrap_or(u32::MAX),
    })
}

/// Starts the idle time of the connection.
pub fn end_request(descriptor: SocketFd, now_ms: u64) {
    if let Some(slot) = TABLE.slot(descriptor) {
        let served = slot.usage.load(Relaxed) & MAX_REQUESTS;
        slot.usage.store(now_ms << REQUEST_BITS | served, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_idle_time_are_counted_per_connection() {
        // A descriptor that no test has open.
        let descriptor = SocketFd { fd: 900_001, local_port: 1 };
        assert_eq!(begin_request(descriptor, true, 1_000), None);
        end_request(descriptor, 1_500);
        assert_eq!(
            begin_request(descriptor, false, 1_700),
            Some(ConnectionUsage { idle_ms: 200, served: 1 })
        );
        end_request(descriptor, 1_800);
        assert_eq!(begin_request(descriptor, false, 1_800), Some(ConnectionUsage { idle_ms: 0, served: 2 }));
        assert_eq!(begin_request(descriptor, true, 2_000), None, "a new connection has the descriptor now");
        assert_eq!(begin_request(descriptor, false, 2_000), Some(ConnectionUsage { idle_ms: 0, served: 1 }));
    }
}

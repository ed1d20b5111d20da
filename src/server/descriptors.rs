//! The limit of open files: raises it, compares it with `limits.connections`, and divides it among the listeners. The
//! admin and statpub listeners get a small share, so that clients of theirs cannot exhaust what the public ones need.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::edge::connection_limit::ConnectionLimit;

/// For everything but connections: listeners, logs, event queues, probes and readings.
const RESERVED_DESCRIPTORS: u64 = 200;
/// Limits the admin listener and statpub each.
const MAX_INTERNAL_CONNECTIONS: u64 = 256;
/// Each of the two gets at most this fraction of the descriptors.
const INTERNAL_SHARE_DIVISOR: u64 = 8;

/// Raises the soft limit to the hard one. Returns the limit in force; `None` if the system does not report it.
pub fn raise_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!(target: "icm::lifecycle", "cannot raise the limit of open files from {soft} to {hard}: {error}");
        return Some(soft);
    }
    Some(hard)
}

/// The limit that `icm run` would have if it were started like this process.
#[must_use]
pub fn hard_limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard)
}

/// A warning if `available` descriptors are too few for `limits.connections`.
#[must_use]
pub fn shortage(available: u64, connections: usize) -> Option<String> {
    // Each client connection may need a server connection.
    let needed = (connections as u64).saturating_mul(2).saturating_add(RESERVED_DESCRIPTORS);
    (connections > 0 && needed > available).then(|| {
        let max = available.saturating_sub(RESERVED_DESCRIPTORS) / 2;
        format!(
            "limits.connections: {connections} connections need up to {needed} open files (RLIMIT_NOFILE), and the \
             system allows {available}: raise LimitNOFILE, or set limits.connections to {max} or less"
        )
    })
}

/// The limit of the admin listener and of statpub. One client address gets at most half of it.
#[must_use]
pub fn internal_connection_limit(available: Option<u64>) -> ConnectionLimit {
    let max = available
        .map_or(MAX_INTERNAL_CONNECTIONS, |all| (all / INTERNAL_SHARE_DIVISOR).min(MAX_INTERNAL_CONNECTIONS))
        .max(2);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    ConnectionLimit::Fixed(max, max / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_too_small_for_the_connections_is_reported_with_a_number_that_fits() {
        assert_eq!(shortage(262_144, 50_000), None);
        assert_eq!(shortage(1_200, 500), None);
        let text = shortage(1_024, 50_000).unwrap();
        assert!(
            text.contains("100200") && text.contains("1024") && text.contains("to 412 or less"),
            "{text}"
        );
        assert_eq!(shortage(1_024, 0), None, "no limit on connections");
    }

    #[test]
    fn internal_listeners_get_a_small_share_of_the_descriptors() {
        assert_eq!(internal_connection_limit(None), ConnectionLimit::Fixed(256, 128));
        assert_eq!(internal_connection_limit(Some(1_000_000)), ConnectionLimit::Fixed(256, 128));
        assert_eq!(internal_connection_limit(Some(256)), ConnectionLimit::Fixed(32, 16));
        assert_eq!(internal_connection_limit(Some(10)), ConnectionLimit::Fixed(2, 1));
    }
}

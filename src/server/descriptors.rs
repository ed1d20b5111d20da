//! How many files and sockets the process may have open, and what its listeners need of them.
//!
//! In: the limit of the operating system, `limits.connections`. Out: the soft limit raised to the hard one, a share for
//! the listeners that do not serve browsers, and a warning where the limit is too small. What those listeners do not get
//! is the reserve of the public ones: no stranger on them can use it up.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::edge::connection_limit::ConnectionLimit;

/// Descriptors beside those of connections: listeners, logs, event queues, probes and readings.
const RESERVED_DESCRIPTORS: u64 = 200;
/// Connections of the admin listener, and of statpub.
const MAX_INTERNAL_CONNECTIONS: u64 = 256;
/// Each of the two has at most one in so many descriptors.
const INTERNAL_SHARE_DIVISOR: u64 = 8;

/// Raises the soft limit to the hard one. Out: descriptors that the process may have; `None` when the system does not
/// say.
pub fn raise_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!(target: "icm::lifecycle", "the limit of open files stays at {soft}, {hard} is refused: {error}");
        return Some(soft);
    }
    Some(hard)
}

/// The limit that `icm run` would have when it is started as this process is.
#[must_use]
pub fn hard_limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard)
}

/// Why so many descriptors are not enough for `limits.connections`, where they are not.
#[must_use]
pub fn shortage(available: u64, connections: usize) -> Option<String> {
    // Each connection of a client may need one to a server.
    let needed = (connections as u64).saturating_mul(2).saturating_add(RESERVED_DESCRIPTORS);
    (connections > 0 && needed > available).then(|| {
        let most = available.saturating_sub(RESERVED_DESCRIPTORS) / 2;
        format!(
            "limits.connections: {connections} connections need up to {needed} open files (RLIMIT_NOFILE), and the \
             system allows {available}: raise LimitNOFILE, or set limits.connections to {most} or less"
        )
    })
}

/// For a listener that serves no browsers: one address has at most half of it.
#[must_use]
pub fn internal_connection_limit(available: Option<u64>) -> ConnectionLimit {
    let most = available
        .map_or(MAX_INTERNAL_CONNECTIONS, |all| (all / INTERNAL_SHARE_DIVISOR).min(MAX_INTERNAL_CONNECTIONS))
        .max(2);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    ConnectionLimit::Fixed(most, most / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_small_for_the_connections_is_named_with_what_would_fit() {
        assert_eq!(shortage(262_144, 50_000), None);
        assert_eq!(shortage(1_200, 500), None);
        let text = shortage(1_024, 50_000).unwrap();
        assert!(
            text.contains("100200") && text.contains("1024") && text.contains("to 412 or less"),
            "{text}"
        );
        assert_eq!(shortage(1_024, 0), None, "there is no limit to compare");
    }

    #[test]
    fn listeners_that_serve_no_browsers_never_get_most_of_the_descriptors() {
        assert_eq!(internal_connection_limit(None), ConnectionLimit::Fixed(256, 128));
        assert_eq!(internal_connection_limit(Some(1_000_000)), ConnectionLimit::Fixed(256, 128));
        assert_eq!(internal_connection_limit(Some(256)), ConnectionLimit::Fixed(32, 16));
        assert_eq!(internal_connection_limit(Some(10)), ConnectionLimit::Fixed(2, 1));
    }
}

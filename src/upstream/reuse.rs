//! May a pooled connection carry this request? Asked at the last moment before the request goes out on it.
//!
//! In: the connection, how it was used, and what its server has shown. Out: yes, or why not. Pingora's pool watches its
//! connections, but hears of a closed one only when the runtime has looked at the sockets again, and it hands out the one
//! that was idle the longest time. Nothing is read from the connection.

use super::usage::ConnectionUsage;
use crate::domain::cluster::KeepAlive;
use crate::util::socket_fd::{ReceiveState, SocketFd};

/// Why a pooled connection is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReusable {
    /// The server has closed it.
    Closed,
    /// Bytes wait on it that belong to no request: what is read next would be taken for the answer.
    UnexpectedBytes,
    /// The server may close it while the request is on its way, and the request must not be sent twice.
    MayCloseSoon,
}

/// What a request wants of its connection.
#[derive(Clone, Copy, Debug)]
pub struct ReuseRequirements {
    /// It may be sent again.
    pub replayable: bool,
    /// The connection speaks TLS, which may send something of its own at any time.
    pub tls: bool,
    /// The connection carries a login: it belongs to one client, and another one is no substitute.
    pub private: bool,
}

/// Judges a pooled connection.
///
/// # Errors
/// Why it must not be used.
pub fn check_reusable(
    descriptor: SocketFd,
    usage: Option<ConnectionUsage>,
    needs: ReuseRequirements,
    keep_alive: &KeepAlive,
    now_ms: u64,
) -> Result<(), NotReusable> {
    match descriptor.receive_state() {
        ReceiveState::Closed => {
            if let Some(usage) = usage {
                keep_alive.closed(usage.idle_ms, usage.served, now_ms);
            }
            return Err(NotReusable::Closed);
        }
        ReceiveState::Readable if !needs.tls => return Err(NotReusable::UnexpectedBytes),
        ReceiveState::Readable | ReceiveState::Empty => {}
    }
    let allowed = needs.private
        || usage.is_none_or(|u| keep_alive.allows(u.idle_ms, u.served, needs.replayable, now_ms));
    if allowed { Ok(()) } else { Err(NotReusable::MayCloseSoon) }
}

/// The seconds that a `Keep-Alive: timeout=5, max=100` announces.
#[must_use]
pub fn keep_alive_timeout(value: &[u8]) -> Option<u32> {
    value.split(|b| *b == b',').find_map(|parameter| {
        let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_found_among_the_parameters() {
        assert_eq!(keep_alive_timeout(b"timeout=5"), Some(5));
        assert_eq!(keep_alive_timeout(b"max=100 , Timeout = 15"), Some(15));
        for none in [&b"max=100"[..], b"timeout", b"timeout=", b"timeout=x", b"", b"\xff=1"] {
            assert_eq!(keep_alive_timeout(none), None);
        }
    }
}

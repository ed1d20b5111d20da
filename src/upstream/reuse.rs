//! Decides, immediately before a request is sent, whether it may go on a pooled connection.
//!
//! Pingora's pool notices a closed connection only after the runtime has polled the sockets again, and it returns the
//! connection that was idle longest.

use super::usage::ConnectionUsage;
use crate::domain::cluster::KeepAlive;
use crate::util::socket_fd::{ReceiveState, SocketFd};

/// Why a pooled connection cannot carry a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReusable {
    Closed,
    /// It has unread bytes, which would be taken for the beginning of the response.
    UnexpectedBytes,
    /// The server may close it while the request is in transit, and the request must not be sent twice.
    MayCloseSoon,
}

/// What the check depends on besides the connection's usage.
#[derive(Clone, Copy, Debug)]
pub struct ReuseRequirements {
    pub replayable: bool,
    /// With TLS, unread bytes may be a session ticket.
    pub tls: bool,
    /// The connection carries a login, so a new one cannot replace it.
    pub private: bool,
}

/// # Errors
/// Why the connection must not be used.
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

/// The seconds in a field value such as `timeout=5, max=100`.
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
    fn the_timeout_is_found_among_other_parameters() {
        assert_eq!(keep_alive_timeout(b"timeout=5"), Some(5));
        assert_eq!(keep_alive_timeout(b"max=100 , Timeout = 15"), Some(15));
        for none in [&b"max=100"[..], b"timeout", b"timeout=", b"timeout=x", b"", b"\xff=1"] {
            assert_eq!(keep_alive_timeout(none), None);
        }
    }
}

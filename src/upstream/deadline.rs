//! Deadlines of servers: for the whole head of a response, and between two pieces of its body.
//!
//! A connection that misses its deadline is shut down. To the proxy it looks closed by the server; [`has_expired`]
//! distinguishes the two.
//! One task ([`super::service`]) checks all connections, so a request costs two stores instead of timers.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::connection_table::{ConnectionSlot, TABLE};
use crate::util::socket_fd::{ReceiveState, SocketFd};

/// Also how late an expired connection may be closed.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The extension of a body deadline while bytes of the body are unread.
const BODY_RECHECK_MS: u64 = 1_000;

// A slot has one of these two values, or a packed deadline: time, local port and `BODY_FLAG`.
const NONE: u64 = 0;
const EXPIRED: u64 = 1;
const BODY_FLAG: u64 = 1 << 1;
const PORT_SHIFT: u32 = 2;
const TIME_SHIFT: u32 = 18;

fn pack(descriptor: SocketFd, due_ms: u64, body: u64) -> u64 {
    due_ms << TIME_SHIFT | u64::from(descriptor.local_port) << PORT_SHIFT | body
}

/// A deadline that was set on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseDeadline {
    descriptor: SocketFd,
    value: u64,
}

/// Sets the deadline for the head of the response.
pub fn set_head_deadline(descriptor: SocketFd, due_ms: u64) -> ResponseDeadline {
    let value = pack(descriptor, due_ms, 0);
    set(descriptor, value);
    ResponseDeadline { descriptor, value }
}

/// Sets the deadline for the next piece of the body, unless the connection has expired.
pub fn set_body_deadline(descriptor: SocketFd, due_ms: u64) -> ResponseDeadline {
    let value = pack(descriptor, due_ms, BODY_FLAG);
    if !has_expired(descriptor) {
        set(descriptor, value);
    }
    ResponseDeadline { descriptor, value }
}

/// Resets the slot for a new connection, which may reuse the descriptor of an old one.
pub fn clear(descriptor: SocketFd) {
    set(descriptor, NONE);
}

impl ResponseDeadline {
    /// Clears the deadline, unless another request on the connection has already set its own.
    pub fn clear(self) {
        if let Some(slot) = TABLE.slot(self.descriptor) {
            let _ = slot.deadline.compare_exchange(self.value, NONE, Relaxed, Relaxed);
        }
    }
}

/// Whether the connection was shut down because it missed a deadline.
#[must_use]
pub fn has_expired(descriptor: SocketFd) -> bool {
    TABLE.slot(descriptor).is_some_and(|slot| slot.deadline.load(Relaxed) == EXPIRED)
}

fn set(descriptor: SocketFd, value: u64) {
    if let Some(slot) = TABLE.slot(descriptor) {
        slot.deadline.store(value, Relaxed);
    }
}

/// Shuts down the connections that missed their deadline.
pub(super) fn close_expired(now_ms: u64) {
    // The loop only compares, because almost all slots are empty.
    for (first, chunk) in TABLE.chunks() {
        for (at, slot) in chunk.iter().enumerate() {
            let value = slot.deadline.load(Relaxed);
            if value > EXPIRED && value >> TIME_SHIFT <= now_ms {
                close_if_expired(first + at, slot, value, now_ms);
            }
        }
    }
}

fn close_if_expired(fd: usize, slot: &ConnectionSlot, value: u64, now_ms: u64) {
    let Ok(fd) = i32::try_from(fd) else { return };
    let local_port = u16::try_from(value >> PORT_SHIFT & u64::from(u16::MAX)).unwrap_or(0);
    let descriptor = SocketFd { fd, local_port };
    let replace = |new| slot.deadline.compare_exchange(value, new, Relaxed, Relaxed).is_ok();
    // Unread bytes mean that the client is slow, not the server.
    if value & BODY_FLAG != 0 && descriptor.receive_state() == ReceiveState::Readable {
        replace(pack(descriptor, now_ms + BODY_RECHECK_MS, BODY_FLAG));
    } else if replace(EXPIRED) {
        descriptor.shut_down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn pair() -> (TcpStream, TcpStream, SocketFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let descriptor = SocketFd::from_fd(ours.as_raw_fd()).unwrap();
        (ours, listener.accept().unwrap().0, descriptor)
    }

    // One test, because tests share the table and `close_expired` checks all of it.
    #[test]
    fn a_connection_is_shut_down_when_its_deadline_has_passed_and_not_before() {
        let (mut ours, mut server, descriptor) = pair();
        let _ = set_head_deadline(descriptor, 1_000);
        close_expired(999);
        server.write_all(b"HTTP/1.1 1").unwrap();
        assert_eq!(ours.read(&mut [0; 64]).unwrap(), 10);
        assert!(!has_expired(descriptor));
        close_expired(1_000);
        assert!(has_expired(descriptor));
        assert_eq!(ours.read(&mut [0; 64]).unwrap(), 0);
        clear(descriptor);
        assert!(!has_expired(descriptor));

        // A deadline that was met, and one of an earlier connection with this descriptor.
        let (mut ours, mut server, descriptor) = pair();
        set_head_deadline(descriptor, 1_000).clear();
        close_expired(2_000);
        let old = set_body_deadline(descriptor, 1_000);
        old.clear();
        close_expired(2_000);
        let _ = set_head_deadline(SocketFd { local_port: 1, ..descriptor }, 1_000);
        close_expired(2_000);
        clear(descriptor);
        server.write_all(b"x").unwrap();
        assert_eq!(ours.read(&mut [0; 8]).unwrap(), 1);

        // A body does not expire while bytes of it are unread.
        server.write_all(b"body").unwrap();
        ours.peek(&mut [0; 8]).unwrap();
        let _ = set_body_deadline(descriptor, 1_000);
        close_expired(2_000);
        assert!(!has_expired(descriptor));
        assert_eq!(ours.read(&mut [0; 8]).unwrap(), 4);
        close_expired(2_999);
        assert!(!has_expired(descriptor));
        close_expired(3_000);
        assert!(has_expired(descriptor));
        let _ = set_body_deadline(descriptor, 9_000);
        assert!(has_expired(descriptor), "the connection stays expired");
        let ended = set_body_deadline(descriptor, 9_000);
        let _ = set_head_deadline(descriptor, 9_500);
        ended.clear();
        close_expired(9_500);
        assert!(has_expired(descriptor), "the next request keeps its deadline");
    }
}

//! Idle connections to servers, of which the fast path takes the one used last.
//!
//! Pingora's pool hands out the one that was idle longest, which is the first that a server closes, and spawns a task for
//! each connection that it keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::connection::UpstreamConnection;
use super::idle_store::IdleStore;
use crate::util::socket_fd::ReceiveState;

/// The idle connections of all servers, shared by the threads of a proxy.
#[derive(Debug)]
pub struct ConnectionPool {
    idle: IdleStore<UpstreamConnection>,
    is_closed: AtomicBool,
}

impl ConnectionPool {
    /// Keeps at most `max_idle` connections, and their number in `count`.
    #[must_use]
    pub fn new(max_idle: usize, count: Arc<AtomicUsize>) -> Self {
        Self { idle: IdleStore::new(max_idle, count), is_closed: AtomicBool::new(false) }
    }

    /// The connection used last that has not expired.
    ///
    /// The server may have closed it, or sent something: the caller passes it to [`super::reuse::check_reusable`], the only
    /// look at the socket, as late as possible before the request.
    #[must_use]
    pub fn take(&self, key: u64, now_ms: u64) -> Option<UpstreamConnection> {
        loop {
            let mut connection = self.idle.take(key, now_ms)?;
            if !connection.has_unread_bytes() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection after a response that has ended exactly, for at most `idle_timeout`. One with bytes after the
    /// response is closed instead, and the oldest of all if there are too many.
    pub fn put(&self, key: u64, mut connection: UpstreamConnection, idle_timeout: Duration, now_ms: u64) {
        if idle_timeout.is_zero() || self.is_closed.load(Relaxed) || connection.has_unread_bytes() {
            return;
        }
        connection.release_buffer();
        let timeout_ms = u64::try_from(idle_timeout.as_millis()).unwrap_or(u64::MAX);
        drop(self.idle.put(key, connection, now_ms, now_ms.saturating_add(timeout_ms)));
    }

    /// Closes connections that have expired, that their server has closed, or that have unexpected bytes.
    pub fn close_idle(&self, now_ms: u64) {
        if self.is_closed.load(Relaxed) {
            // One may have been put while the pool was being closed.
            drop(self.idle.remove_all());
            return;
        }
        drop(self.idle.remove_expired(now_ms));
        for (id, descriptor) in self.idle.list(UpstreamConnection::descriptor) {
            // Meanwhile the descriptor may belong to another socket; then the connection was taken, and its id is gone.
            // With TLS the bytes are almost always the server's farewell. A session ticket comes before the first response,
            // or costs a handshake here.
            if descriptor.receive_state() != ReceiveState::Empty {
                drop(self.idle.remove(id));
            }
        }
    }

    /// Closes all, and keeps no more.
    pub fn close(&self) {
        self.is_closed.store(true, Relaxed);
        drop(self.idle.remove_all());
    }

    #[cfg(test)]
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.len()
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;

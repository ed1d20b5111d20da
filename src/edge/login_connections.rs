//! Client connections that carry a login: NTLM and Negotiate authenticate the connection, not the request (RFC 4559
//! section 6).
//!
//! Such a client has its own connections to servers, because another client must not use its login, and each step of a
//! handshake must go to the same server. They close together with the client's connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::util::socket_fd::SocketFd;

/// The addresses of the TCP connection that identify an open client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientConnection {
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLogin {
    /// Separates its connections to servers from all others. Random, so that no two are equal.
    pub pool_key: u64,
    /// The tag of the server that got its last request.
    pub server: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    login: ConnectionLogin,
    /// Its connections to servers.
    upstream: Vec<SocketFd>,
    /// When its last request began.
    used_ms: u64,
}

/// A request that outlives its connection may begin a login that no closing connection removes. Unused logins are
/// removed after this time; at worst the user has to log in again.
const MAX_UNUSED_MS: u64 = 10 * 60 * 1_000;
/// Unused logins are searched for from this many entries on, and then each time the number has doubled.
const PRUNE_MIN_ENTRIES: usize = 256;

/// The connections of a process that carry a login.
#[derive(Debug, Default)]
pub struct LoginConnections {
    /// The number of entries: without any, a request takes no lock.
    count: AtomicUsize,
    entries: Mutex<AHashMap<ClientConnection, Entry>>,
    prune_at: AtomicUsize,
}

impl LoginConnections {
    #[must_use]
    pub fn get(
        &self,
        client: impl FnOnce() -> Option<ClientConnection>,
        now_ms: u64,
    ) -> Option<ConnectionLogin> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        self.entries.lock().get_mut(&client()?).map(|entry| {
            entry.used_ms = now_ms;
            entry.login
        })
    }

    /// Marks the client's connection as one that carries a login.
    pub fn begin(&self, client: ClientConnection, now_ms: u64) -> ConnectionLogin {
        let mut entries = self.entries.lock();
        if entries.len() >= self.prune_at.load(Relaxed).max(PRUNE_MIN_ENTRIES) {
            entries.retain(|_, entry| now_ms.saturating_sub(entry.used_ms) < MAX_UNUSED_MS);
            self.prune_at.store(entries.len() * 2, Relaxed);
        }
        let entry = entries.entry(client).or_insert_with(|| {
            let login = ConnectionLogin { pool_key: fastrand::u64(..), server: None };
            Entry { login, upstream: Vec::new(), used_ms: now_ms }
        });
        let login = entry.login;
        self.count.store(entries.len(), Relaxed);
        login
    }

    /// Records the server, and the connection to it, that got the client's request.
    pub fn add_upstream(&self, client: ClientConnection, server: u32, upstream: SocketFd) {
        if let Some(entry) = self.entries.lock().get_mut(&client) {
            entry.login.server = Some(server);
            // A descriptor that is used again is another connection.
            entry.upstream.retain(|known| known.fd != upstream.fd);
            entry.upstream.push(upstream);
        }
    }

    /// Removes the login of a client's connection that has closed, and closes its connections to servers.
    pub fn end(&self, client: impl FnOnce() -> Option<ClientConnection>) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let Some(client) = client() else { return };
        let mut entries = self.entries.lock();
        let ended = entries.remove(&client);
        self.count.store(entries.len(), Relaxed);
        drop(entries);
        for upstream in ended.map(|entry| entry.upstream).unwrap_or_default() {
            upstream.shut_down();
        }
    }
}

/// Whether a challenge or credentials have a scheme that authenticates the connection.
#[must_use]
pub fn is_connection_auth(value: &[u8]) -> bool {
    let scheme =
        value.trim_ascii_start().split(|b| matches!(b, b' ' | b',' | b'\t')).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// As [`is_connection_auth`], for a field that may list several challenges.
#[must_use]
pub fn offers_connection_auth(challenges: &[u8]) -> bool {
    challenges.split(|b| *b == b',').any(is_connection_auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> ClientConnection {
        ClientConnection { peer: ([127, 0, 0, 1], port).into(), local: ([127, 0, 0, 1], 443).into() }
    }

    #[test]
    fn a_login_belongs_to_one_connection_and_ends_with_it() {
        let logins = LoginConnections::default();
        assert_eq!(logins.get(|| unreachable!("there is no login"), 1), None);
        let first = logins.begin(client(1), 1);
        let second = logins.begin(client(2), 1);
        assert_ne!(first.pool_key, second.pool_key);
        assert_eq!(logins.begin(client(1), 1), first);
        let closed = SocketFd { fd: 900_002, local_port: 1 };
        logins.add_upstream(client(1), 7, closed);
        assert_eq!(logins.get(|| Some(client(1)), 1), Some(ConnectionLogin { server: Some(7), ..first }));
        assert_eq!(logins.get(|| Some(client(3)), 1), None);
        logins.end(|| Some(client(1)));
        assert_eq!(logins.get(|| Some(client(1)), 1), None);
        logins.end(|| Some(client(2)));
        assert_eq!(logins.get(|| unreachable!("no login is left"), 1), None);
    }

    #[test]
    fn unused_logins_are_removed_when_there_are_many() {
        let logins = LoginConnections::default();
        let begin = |ports: std::ops::Range<u16>, now_ms| {
            for port in ports {
                logins.begin(client(port), now_ms);
            }
        };
        let count = || logins.entries.lock().len();
        begin(0..300, 1);
        assert_eq!(count(), 300, "none is old");
        let kept = logins.get(|| Some(client(7)), MAX_UNUSED_MS);
        begin(300..600, MAX_UNUSED_MS + 1);
        assert_eq!(count(), 300 + 1, "of the old ones only the one in use");
        assert_eq!(logins.get(|| Some(client(7)), MAX_UNUSED_MS), kept);
    }

    #[test]
    fn ntlm_and_negotiate_are_recognized_in_any_case_and_among_other_schemes() {
        for login in ["NTLM", "ntlm TlRMTVNTUAAB", "Negotiate YII=", " negotiate", "NEGOTIATE,NTLM"] {
            assert!(is_connection_auth(login.as_bytes()), "{login}");
        }
        for other in ["", "Basic bnRsbTo=", "Bearer NTLM", "NTLMv2 x", "Digest realm=\"ntlm\""] {
            assert!(!is_connection_auth(other.as_bytes()), "{other}");
        }
        assert!(offers_connection_auth(b"Basic realm=\"Acme\", NTLM"));
        assert!(offers_connection_auth(b"Negotiate"));
        assert!(!offers_connection_auth(b"Basic realm=\"Negotiate\""));
    }
}

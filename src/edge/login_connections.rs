//! Client connections that carry a login: NTLM and Negotiate authenticate the connection, not the request (RFC 4559
//! section 6). Such a client has connections to the servers of its own: what it proved on them must serve nobody else,
//! and each step of a handshake must go where the last one went.
//!
//! In: a client's connection on which a login was begun or offered. Out: the key of its own pool, and the server that
//! took it; the connections to servers end with the client's. Costs one load a request where there is none.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ahash::AHashMap;
use parking_lot::Mutex;
use pingora::protocols::l4::socket;

use crate::util::socket_fd::SocketFd;

/// A client's connection: two that are open at the same time differ in one of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientConnection {
    /// The client's end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

impl ClientConnection {
    /// From both ends of a TCP connection.
    #[must_use]
    pub fn from_addrs(peer: Option<&socket::SocketAddr>, local: Option<&socket::SocketAddr>) -> Option<Self> {
        Some(Self { peer: *peer?.as_inet()?, local: *local?.as_inet()? })
    }
}

/// What belongs to a client's connection that carries a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLogin {
    /// Keeps its connections to servers apart from all others. Random, so that nobody meets it by chance.
    pub pool_key: u64,
    /// The tag of the server that it was last sent to.
    pub server: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    login: ConnectionLogin,
    /// Connections to servers that were used for it.
    upstream: Vec<SocketFd>,
    /// The beginning of its last request, milliseconds.
    used_ms: u64,
}

/// A request may outlive its connection and begin a login that no end of a connection takes back. What nobody has used
/// for so long, milliseconds, is forgotten; its user would only have to log in again.
const MAX_UNUSED_MS: u64 = 10 * 60 * 1_000;
/// So many are looked through for such ones, and twice as many as are left the next time.
const PRUNE_MIN_ENTRIES: usize = 256;

/// All of them.
#[derive(Debug, Default)]
pub struct LoginConnections {
    count: AtomicUsize,
    entries: Mutex<AHashMap<ClientConnection, Entry>>,
    /// How many there have to be before unused ones are looked for.
    prune_at: AtomicUsize,
}

impl LoginConnections {
    /// What belongs to this client's connection, if it carries a login.
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

    /// From now on this client's connection carries a login.
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

    /// This server takes its requests, on this connection.
    pub fn add_upstream(&self, client: ClientConnection, server: u32, upstream: SocketFd) {
        if let Some(entry) = self.entries.lock().get_mut(&client) {
            entry.login.server = Some(server);
            // A number that is used again is another connection.
            entry.upstream.retain(|known| known.fd != upstream.fd);
            entry.upstream.push(upstream);
        }
    }

    /// The client's connection has ended, or a new one begins between the same ends: what was known of it ends, and so do
    /// the connections to servers on which it had logged in.
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

/// Whether a challenge or credentials are of a scheme that logs in a connection.
#[must_use]
pub fn is_connection_auth(value: &[u8]) -> bool {
    let scheme =
        value.trim_ascii_start().split(|b| matches!(b, b' ' | b',' | b'\t')).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// The same for a field that may list several challenges.
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
        assert_eq!(logins.get(|| unreachable!("nobody has logged in"), 1), None);
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
        assert_eq!(logins.get(|| unreachable!("nobody is left"), 1), None);
    }

    #[test]
    fn logins_that_nothing_ends_are_forgotten_when_they_are_many_and_old() {
        let logins = LoginConnections::default();
        let begin = |ports: std::ops::Range<u16>, now_ms| {
            for port in ports {
                logins.begin(client(port), now_ms);
            }
        };
        let known = || logins.entries.lock().len();
        begin(0..300, 1);
        assert_eq!(known(), 300, "they are young");
        let kept = logins.get(|| Some(client(7)), MAX_UNUSED_MS);
        begin(300..600, MAX_UNUSED_MS + 1);
        assert_eq!(known(), 300 + 1, "and of the old ones the one in use");
        assert_eq!(logins.get(|| Some(client(7)), MAX_UNUSED_MS), kept);
    }

    #[test]
    fn ntlm_and_negotiate_are_known_in_every_spelling_and_among_others() {
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

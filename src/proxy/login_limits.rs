//! `limits.logins`: attempts to log in, by client address and by user name. The counts are of this process only; their
//! arithmetic is in [`crate::domain::login_attempts`].
//!
//! Names are kept as hashes with a secret seed. A refused attempt never reaches a server, and one that succeeds clears
//! the count of its user name.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::OnceLock;

use parking_lot::Mutex;

use crate::config::settings::{Limits, LoginLimits};
use crate::domain::affinity::CookieClassifier;
use crate::domain::cluster::ServerName;
use crate::domain::login_attempts::{AttemptLimit, AttemptTable, TooManyAttempts};
use crate::edge::connection_limit::client_network;
use crate::util::clock;

/// Keys of each kind, 2.5 MiB. Memory is taken with the first attempt that is counted.
const MAX_KEYS: usize = 65_536;
/// So that logins seldom contend for a lock.
const SHARDS: usize = 16;
/// More refusals in a window get no event: many addresses must not push all other events out of the list.
const MAX_EVENTS_IN_WINDOW: u32 = 10;
/// The cookies that Domino sets after a login.
const SESSION_COOKIES: [&str; 3] = ["domauthsessid", "ltpatoken", "ltpatoken2"];

/// The counts of all listeners.
#[derive(Debug)]
pub struct LoginLimiter {
    seed: RandomState,
    tables: OnceLock<[AttemptTables; 2]>,
    events: Mutex<EventBudget>,
    session_cookies: CookieClassifier,
}

type AttemptTables = Box<[Mutex<AttemptTable>]>;

#[derive(Debug, Default)]
struct EventBudget {
    window_start: u64,
    used: u32,
}

/// What an attempt is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginKey {
    Address,
    User,
}

/// The user name of an attempt, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserKey(u64);

/// An attempt that must not reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRefused {
    pub by: LoginKey,
    pub wait_secs: u32,
    /// Whether an event should tell about it.
    pub tells: bool,
}

impl Default for LoginLimiter {
    fn default() -> Self {
        Self {
            seed: RandomState::new(),
            tables: OnceLock::new(),
            events: Mutex::default(),
            session_cookies: CookieClassifier::new("", &SESSION_COOKIES.map(str::to_owned)),
        }
    }
}

impl LoginLimiter {
    /// The limits that hold for a client; `None` if none does.
    pub fn limits_for(limits: &Limits, client: Option<IpAddr>) -> Option<LoginLimits> {
        limits.logins.filter(|_| !client.is_some_and(|client| limits.is_exempt(client)))
    }

    /// Counts an attempt of an address.
    pub fn count_address(&self, limits: LoginLimits, client: Option<IpAddr>) -> Result<(), LoginRefused> {
        let Some(client) = client else { return Ok(()) };
        let key = self.seed.hash_one(client_network(client));
        self.count(LoginKey::Address, key, limits.per_address, limits)
    }

    /// Counts an attempt for a user name.
    pub fn count_user(&self, limits: LoginLimits, user: UserKey) -> Result<(), LoginRefused> {
        self.count(LoginKey::User, user.0, limits.per_user, limits)
    }

    /// The key of a name in any spelling that Domino takes for the same: case, blanks, canonical or abbreviated.
    pub fn user_key(&self, name: &[u8]) -> UserKey {
        let text = String::from_utf8_lossy(name);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let folded = match ServerName::parse(&text) {
            Ok(name) => name.folded().to_owned(),
            Err(_) => text.to_lowercase(),
        };
        self.key_of(("name", folded))
    }

    /// The key that all forms share whose user name cannot be read.
    pub fn unreadable_user_key(&self) -> UserKey {
        self.key_of("unreadable")
    }

    /// A login succeeded: earlier attempts for this name were the user's own mistakes.
    pub fn succeeded(&self, user: UserKey) {
        if let Some(table) = self.table(LoginKey::User, user.0) {
            table.lock().forget(user.0);
        }
    }

    /// Whether a `Set-Cookie` value begins a session.
    pub fn begins_session(&self, set_cookie: &[u8]) -> bool {
        self.session_cookies.sets_session(set_cookie)
    }

    fn key_of(&self, value: impl Hash) -> UserKey {
        UserKey(self.seed.hash_one(value))
    }

    fn count(&self, by: LoginKey, key: u64, max: u32, limits: LoginLimits) -> Result<(), LoginRefused> {
        if max == 0 {
            return Ok(());
        }
        let now = clock::now_ms();
        let limit = AttemptLimit { max, window_ms: clock::saturating_millis(limits.window) };
        let Some(table) = self.table(by, key) else { return Ok(()) };
        let counted = table.lock().attempt(key, limit, now);
        counted.map_err(|TooManyAttempts { wait_ms, is_first }| LoginRefused {
            by,
            wait_secs: u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX),
            tells: is_first && self.events.lock().take(now, limit.window_ms),
        })
    }

    fn table(&self, by: LoginKey, key: u64) -> Option<&Mutex<AttemptTable>> {
        let new_tables = || {
            (0..SHARDS).map(|_| Mutex::new(AttemptTable::new(MAX_KEYS / SHARDS))).collect::<AttemptTables>()
        };
        let [addresses, users] = self.tables.get_or_init(|| [new_tables(), new_tables()]);
        let tables = if by == LoginKey::Address { addresses } else { users };
        tables.get(usize::try_from(key & 0xffff).ok()? % SHARDS)
    }
}

impl EventBudget {
    fn take(&mut self, now: u64, window_ms: u64) -> bool {
        if now.saturating_sub(self.window_start) >= window_ms {
            *self = Self { window_start: now, used: 0 };
        }
        self.used = self.used.saturating_add(1);
        self.used <= MAX_EVENTS_IN_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LoginLimits =
        LoginLimits { per_address: 3, per_user: 2, window: std::time::Duration::from_secs(3_600) };

    #[test]
    fn a_user_has_one_count_in_every_spelling_of_the_name() {
        let limiter = LoginLimiter::default();
        let jane = limiter.user_key(b"Jane Doe/Acme");
        for other in ["  jane   doe/acme ", "CN=Jane Doe/O=Acme", "JANE DOE/ACME"] {
            assert_eq!(limiter.user_key(other.as_bytes()), jane, "{other}");
        }
        assert_ne!(limiter.user_key(b"Jane Doe"), jane, "it may be another one's common name");
        assert_ne!(limiter.user_key(b"unreadable"), limiter.unreadable_user_key());
        assert!((0..2).all(|_| limiter.count_user(LIMITS, jane).is_ok()));
        let refused = limiter.count_user(LIMITS, jane).unwrap_err();
        assert!(refused.by == LoginKey::User && refused.tells && refused.wait_secs >= 3_600, "{refused:?}");
        assert!(!limiter.count_user(LIMITS, jane).unwrap_err().tells);
        limiter.succeeded(jane);
        assert!(limiter.count_user(LIMITS, jane).is_ok());
    }

    #[test]
    fn addresses_are_counted_by_network_and_many_of_them_make_few_events() {
        let limiter = LoginLimiter::default();
        let refused = |text: &str| {
            let client = text.parse().ok();
            let all: Vec<_> = (0..4).map(|_| limiter.count_address(LIMITS, client)).collect();
            all.into_iter().filter_map(Result::err).collect::<Vec<_>>()
        };
        assert_eq!(refused("2001:db8:0:1::1").len(), 1);
        assert_eq!(refused("2001:db8:0:1::2").len(), 4);
        let told = (0..50).flat_map(|n| refused(&format!("192.0.2.{n}"))).filter(|r| r.tells).count();
        assert!(told < 10, "{told}");
        assert!(limiter.count_address(LIMITS, None).is_ok());
        let off = LoginLimits { per_address: 0, per_user: 0, ..LIMITS };
        assert!((0..9).all(|_| limiter.count_address(off, "192.0.2.1".parse().ok()).is_ok()));
    }
}

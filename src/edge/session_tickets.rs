//! Session tickets (RFC 5077, RFC 8446 section 4.6.1) with keys that other processes may have too.
//!
//! The library's own tickets have keys that never leave the process. These are from a file that several ICMs share, or
//! generated and handed over to the next process, so that clients resume their sessions there.
//!
//! A ticket is the name of its key, a random salt, the time, and the session encrypted with AES-256-GCM. Each ticket has a
//! key of its own, derived from the salt, so no number of tickets makes a nonce repeat. The key is also derived from the
//! [`TicketScope`]: a ticket from a listener that asks for no client certificate cannot be used where one is required.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ring::{aead, digest, hmac};
use rustls::server::{ProducesTickets, StoresServerSessions};
use serde::{Deserialize, Serialize};

use crate::util::{clock, crypto};

/// The bytes of a secret in `ticket_key_file`, and of a generated one.
const SECRET_BYTES: usize = 32;
const NAME_BYTES: usize = 16;
const SALT_BYTES: usize = 32;
const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// In seconds, as in the library.
const LIFETIME: u32 = 12 * 3600;
/// How long a generated key encrypts, in seconds, as in the library. It decrypts for as long again.
const ROTATION_INTERVAL: u64 = 6 * 3600;

/// How the clients of a listener resume their sessions.
#[derive(Clone, Debug)]
pub struct Resumption {
    pub tickets: Arc<dyn ProducesTickets>,
    /// For clients of TLS 1.2 without tickets.
    pub sessions: Arc<dyn StoresServerSessions>,
}

/// What a ticket is bound to. Two listeners accept each other's tickets only if their keys and scopes are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketScope([u8; 32]);

/// The settings of a listener for client certificates.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificateScope<'a> {
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// The certificates of the authorities in DER.
    pub authorities: &'a [Vec<u8>],
}

impl TicketScope {
    /// Keys from a file are shared between addresses, so that ICMs on several machines can resume sessions. Generated keys
    /// are not: `listener` is the address then.
    #[must_use]
    pub fn new(listener: Option<SocketAddr>, clients: Option<ClientCertificateScope<'_>>) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(listener.map(|address| address.to_string()).unwrap_or_default().as_bytes());
        if let Some(clients) = clients {
            add(if clients.required { b"require" } else { b"request" });
            // Two ICMs may have the same authorities in another order.
            let mut authorities: Vec<&Vec<u8>> = clients.authorities.iter().collect();
            authorities.sort_unstable();
            authorities.dedup();
            authorities.into_iter().for_each(|authority| add(authority));
        }
        let mut scope = [0; 32];
        scope.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(scope)
    }
}

/// A key that encrypts and decrypts tickets.
struct TicketKey {
    name: [u8; NAME_BYTES],
    derivation: hmac::Key,
}

impl TicketKey {
    fn new(secret: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut name = [0; NAME_BYTES];
        let digest = hmac::sign(&root, b"icm ticket name");
        name.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        let derived = hmac::sign(&root, b"icm ticket encryption");
        Self { name, derivation: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    fn cipher(&self, scope: &TicketScope, salt: &[u8]) -> Option<aead::LessSafeKey> {
        let mut derivation = hmac::Context::with_key(&self.derivation);
        derivation.update(&scope.0);
        derivation.update(salt);
        aead::UnboundKey::new(&aead::AES_256_GCM, derivation.sign().as_ref()).ok().map(aead::LessSafeKey::new)
    }

    fn encrypt(&self, scope: &TicketScope, now: u64, session: &[u8]) -> Option<Vec<u8>> {
        let mut salt = [0; SALT_BYTES];
        crypto::fill_random(&mut salt)?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + SALT_BYTES + TIME_BYTES + session.len() + TAG_BYTES);
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(&salt);
        ticket.extend_from_slice(&now.to_be_bytes());
        let mut encrypted = session.to_vec();
        let cipher = self.cipher(scope, &salt)?;
        let tag =
            cipher.seal_in_place_separate_tag(nonce(), aead::Aad::from(&ticket), &mut encrypted).ok()?;
        ticket.extend_from_slice(&encrypted);
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, scope: &TicketScope, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let (head, encrypted) = ticket.split_at_checked(NAME_BYTES + SALT_BYTES + TIME_BYTES)?;
        let (_, rest) = head.split_at_checked(NAME_BYTES)?;
        let (salt, issued) = rest.split_at_checked(SALT_BYTES)?;
        let issued = u64::from_be_bytes(issued.try_into().ok()?);
        // The keys of a file may stay for years. A time in the future is that of another ICM's clock.
        if now.saturating_sub(issued) >= u64::from(LIFETIME) {
            return None;
        }
        let mut session = encrypted.to_vec();
        let cipher = self.cipher(scope, salt)?;
        let length = cipher.open_in_place(nonce(), aead::Aad::from(head), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

/// Each key encrypts one ticket.
fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// Generated keys on their way to the next process.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct InheritedTicketKeys {
    /// When the first one was generated, in seconds since 1970.
    since: u64,
    /// The first encrypts, all decrypt.
    secrets: Vec<Vec<u8>>,
}

impl std::fmt::Debug for InheritedTicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InheritedTicketKeys").field("since", &self.since).finish_non_exhaustive()
    }
}

struct KeyGeneration {
    inherited: InheritedTicketKeys,
    keys: Vec<TicketKey>,
}

impl KeyGeneration {
    fn new(inherited: InheritedTicketKeys) -> Self {
        let keys = inherited.secrets.iter().map(|secret| TicketKey::new(secret)).collect();
        Self { inherited, keys }
    }

    /// A new key in front of the one in use.
    fn next(&self, now: u64) -> Option<Self> {
        let mut secret = vec![0; SECRET_BYTES];
        crypto::fill_random(&mut secret)?;
        let secrets = std::iter::once(secret).chain(self.inherited.secrets.first().cloned()).collect();
        Some(Self::new(InheritedTicketKeys { since: now, secrets }))
    }
}

/// The keys of listeners without `ticket_key_file`. They are renewed by time and only kept in memory.
pub struct GeneratedTicketKeys(ArcSwap<KeyGeneration>);

impl std::fmt::Debug for GeneratedTicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GeneratedTicketKeys(..)")
    }
}

impl GeneratedTicketKeys {
    /// Takes over the keys of the process before, or generates one.
    #[must_use]
    pub fn new(inherited: Option<InheritedTicketKeys>) -> Self {
        let mut inherited = inherited.unwrap_or_default();
        inherited.secrets.retain(|secret| secret.len() == SECRET_BYTES);
        // Without a secret the first use generates one, and so does a random number generator that failed.
        Self(ArcSwap::from_pointee(KeyGeneration::new(inherited)))
    }

    /// The keys for the next process.
    #[must_use]
    pub fn inheritance(&self) -> InheritedTicketKeys {
        self.at(clock::unix_secs()).inherited.clone()
    }

    /// The keys in use at this time, after a renewal if it is due.
    fn at(&self, now: u64) -> Arc<KeyGeneration> {
        let current = self.0.load_full();
        // The difference in both directions, because the clock may have been set back.
        let is_due = current.keys.is_empty() || now.abs_diff(current.inherited.since) >= ROTATION_INTERVAL;
        let Some(next) = is_due.then(|| current.next(now)).flatten() else { return current };
        // Another thread may have been first; then its keys count.
        self.0.compare_and_swap(&current, Arc::new(next));
        self.0.load_full()
    }
}

enum KeySource {
    File(Vec<TicketKey>),
    Generated(Arc<GeneratedTicketKeys>),
}

/// The tickets of one listener.
pub struct SessionTickets {
    keys: KeySource,
    scope: TicketScope,
}

impl std::fmt::Debug for SessionTickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionTickets").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl SessionTickets {
    /// With the secrets of a file: the first encrypts, all decrypt.
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a [u8]>, scope: TicketScope) -> Self {
        Self { keys: KeySource::File(secrets.into_iter().map(TicketKey::new).collect()), scope }
    }

    #[must_use]
    pub fn generated(keys: Arc<GeneratedTicketKeys>, scope: TicketScope) -> Self {
        Self { keys: KeySource::Generated(keys), scope }
    }

    fn encrypt_at(&self, now: u64, session: &[u8]) -> Option<Vec<u8>> {
        let encrypt = |keys: &[TicketKey]| keys.first()?.encrypt(&self.scope, now, session);
        match &self.keys {
            KeySource::File(keys) => encrypt(keys),
            KeySource::Generated(generated) => encrypt(&generated.at(now).keys),
        }
    }

    fn decrypt_at(&self, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let decrypt = |keys: &[TicketKey]| {
            let key = keys.iter().find(|key| ticket.starts_with(&key.name))?;
            key.decrypt(&self.scope, now, ticket)
        };
        match &self.keys {
            KeySource::File(keys) => decrypt(keys),
            KeySource::Generated(generated) => decrypt(&generated.at(now).keys),
        }
    }
}

impl ProducesTickets for SessionTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(clock::unix_secs(), plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(clock::unix_secs(), cipher)
    }
}

#[cfg(test)]
#[path = "session_tickets_tests.rs"]
mod tests;

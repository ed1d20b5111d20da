//! The affinity cookie: entries under a keyed MAC, which a browser can carry and cannot forge. It is equal on every ICM
//! with the same secret, and a foreign, damaged or forged value counts as no cookie.
//!
//! Format: base64url of a version byte, twelve bytes for each entry (server tag, database tag, seconds; big endian) and
//! the first sixteen bytes of the HMAC-SHA-256 of all that. The login cookie has the same format with another version
//! and one entry. The write cookie has a third version, and its first twelve bytes are a header: a bit for each of the
//! stamps that the user was told about, then zeros. The rehearsal cookie has a fourth version and twelve bytes: rehearsal,
//! draw, and group of the user. The token of a save check has a fifth one and a content of its own; its MAC also covers
//! the cluster. The tags are keyed too: with a plain hash a user could guess the server name behind the tag in a cookie.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use super::entries::{ANY_DATABASE, AffinityEntries, AffinityEntry, MAX_ENTRIES};
use super::verified::{self, KeysId};
use super::writes::{WriteStamp, WriteStamps};
use crate::domain::rehearsal::{RehearsalCookie, UserDraw, UserGroup};

/// The first signed byte. The message of a tag begins with 0, so no MAC of a cookie is valid for a tag.
const AFFINITY_VERSION: u8 = 1;
const LOGIN_VERSION: u8 = 2;
const WRITE_VERSION: u8 = 3;
const REHEARSAL_VERSION: u8 = 4;
const SAVE_TOKEN_VERSION: u8 = 5;
const ENTRY_LEN: usize = 12;
const MAC_LEN: usize = 16;
const MAX_LEN: usize = 1 + MAX_ENTRIES * ENTRY_LEN + MAC_LEN;
/// Longer text is not decoded.
const MAX_SAVE_TOKEN_LEN: usize = 256;
/// The decoder rounds its estimate up to a multiple of three.
const DECODE_BUFFER_LEN: usize = MAX_LEN + 3;

type HmacSha256 = Hmac<Sha256>;

/// The secrets of one cluster: the first signs and all verify, so that keys can be rotated.
#[derive(Clone)]
pub struct CookieKeys {
    keys: Vec<CookieKey>,
    id: KeysId,
}

#[derive(Clone)]
struct CookieKey {
    mac: HmacSha256,
    /// Makes database tags differ between clusters and keys.
    cluster: u32,
}

impl std::fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CookieKeys({})", self.keys.len())
    }
}

impl CookieKeys {
    /// Takes secrets of any length; the first one signs.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let macs = secrets.into_iter().filter_map(|s| HmacSha256::new_from_slice(s).ok());
        Self { keys: macs.map(|mac| CookieKey { cluster: 0, mac }).collect(), id: KeysId::new() }
    }

    /// Binds the database tags to this cluster.
    #[must_use]
    pub fn for_cluster(mut self, name: &str) -> Self {
        for key in &mut self.keys {
            key.cluster = keyed_tag(&key.mac, name, "cluster", b"");
        }
        self
    }

    /// The tags of a name within a cluster, equal on every ICM with the same secrets: the current tag, then those of
    /// older secrets.
    #[must_use]
    pub fn tags(&self, cluster: &str, kind: &str, name: &[u8]) -> SmallVec<[u32; 2]> {
        self.keys.iter().map(|key| keyed_tag(&key.mac, cluster, kind, name)).collect()
    }

    /// The tag of a database in the cookies of this cluster.
    #[must_use]
    pub fn database_tag(&self, number: u32) -> u32 {
        number ^ self.keys.first().map_or(0, |key| key.cluster)
    }

    /// Decodes the affinity cookie; a value that does not verify gives no entries. If an older secret signed it,
    /// database tags are converted, and `current_tag` converts server tags.
    #[must_use]
    pub fn decode(
        &self,
        value: &[u8],
        now: u32,
        idle_secs: u32,
        current_tag: impl Fn(u32) -> u32,
    ) -> AffinityEntries {
        self.verify(AFFINITY_VERSION, value, &mut [0; DECODE_BUFFER_LEN])
            .map(|(records, key)| {
                AffinityEntries::new(self.current_entries(records, key, current_tag), now, idle_secs)
            })
            .unwrap_or_default()
    }

    /// Decodes the login cookie, with `current_tag` as in [`CookieKeys::decode`].
    #[must_use]
    pub fn decode_login(
        &self,
        value: &[u8],
        now: u32,
        idle_secs: u32,
        current_tag: impl Fn(u32) -> u32,
    ) -> Option<AffinityEntry> {
        let mut buffer = [0; DECODE_BUFFER_LEN];
        let (records, key) = self.verify(LOGIN_VERSION, value, &mut buffer)?;
        AffinityEntries::new(self.current_entries(records, key, current_tag), now, idle_secs).most_recent()
    }

    /// Decodes the write cookie, with `current_tag` as in [`CookieKeys::decode`]. Stamps older than `limit_secs` are
    /// dropped.
    #[must_use]
    pub fn decode_writes(
        &self,
        value: &[u8],
        now: u32,
        limit_secs: u32,
        current_tag: impl Fn(u32) -> u32,
    ) -> WriteStamps {
        let mut buffer = [0; DECODE_BUFFER_LEN];
        let Some((records, key)) = self.verify(WRITE_VERSION, value, &mut buffer) else {
            return WriteStamps::default();
        };
        let Some((header, stamps)) = records.split_at_checked(ENTRY_LEN) else {
            return WriteStamps::default();
        };
        let told = first_u32(header);
        let stamps = self.current_entries(stamps, key, current_tag).zip(0..).map(
            |(AffinityEntry { server, database, time }, at)| WriteStamp {
                server,
                database,
                time,
                told: told.checked_shr(at).is_some_and(|bits| bits & 1 == 1),
            },
        );
        WriteStamps::new(stamps, now, limit_secs)
    }

    /// Decodes the rehearsal cookie. It names no server, so an older secret needs no conversion.
    #[must_use]
    pub fn decode_rehearsal(&self, value: &[u8]) -> Option<RehearsalCookie> {
        let mut buffer = [0; DECODE_BUFFER_LEN];
        let (records, _) = self.verify(REHEARSAL_VERSION, value, &mut buffer)?;
        let AffinityEntry { server: rehearsal, database: draw, time: group } =
            parse_entries(records).next()?;
        let group = match group {
            1 => Some(UserGroup::Moved),
            2 => Some(UserGroup::Stayed),
            _ => None,
        };
        Some(RehearsalCookie { rehearsal, user: UserDraw(draw), group })
    }

    /// The signed bytes after the version, and the position of the key that signed them.
    fn verify<'b>(
        &self,
        version: u8,
        value: &[u8],
        buffer: &'b mut [u8; DECODE_BUFFER_LEN],
    ) -> Option<(&'b [u8], usize)> {
        let length = URL_SAFE_NO_PAD.decode_slice(value, buffer).ok()?;
        let raw = buffer.get(..length)?;
        let (body, mac) = raw.split_at_checked(length.checked_sub(MAC_LEN)?)?;
        let (first, records) = body.split_first()?;
        if *first != version || records.is_empty() || !records.len().is_multiple_of(ENTRY_LEN) {
            return None;
        }
        let is_signed_with = |key: &CookieKey| {
            let computed = key.mac.clone().chain_update(body).finalize().into_bytes();
            computed.get(..MAC_LEN).is_some_and(|expected| bool::from(expected.ct_eq(mac)))
        };
        let key = verified::find_or_verify(self.id, raw, || self.keys.iter().position(is_signed_with))?;
        Some((records, key))
    }

    fn current_entries<'r>(
        &self,
        records: &'r [u8],
        key: usize,
        current_tag: impl Fn(u32) -> u32 + 'r,
    ) -> impl Iterator<Item = AffinityEntry> + 'r {
        let cluster = |key: usize| self.keys.get(key).map_or(0, |key| key.cluster);
        let difference = cluster(0) ^ cluster(key);
        parse_entries(records).map(move |entry| match entry {
            entry if key == 0 => entry,
            AffinityEntry { database: ANY_DATABASE, .. } => {
                AffinityEntry { server: current_tag(entry.server), ..entry }
            }
            AffinityEntry { server, database, time } => {
                AffinityEntry { server: current_tag(server), database: database ^ difference, time }
            }
        })
    }

    /// Encodes the affinity cookie; `None` without a key.
    #[must_use]
    pub fn encode(&self, entries: &AffinityEntries) -> Option<String> {
        self.sign(AFFINITY_VERSION, entries.iter().take(MAX_ENTRIES))
    }

    /// Encodes the write cookie; `None` without a key.
    #[must_use]
    pub fn encode_writes(&self, stamps: &WriteStamps) -> Option<String> {
        let told = stamps.iter().zip(0..).filter(|(stamp, _)| stamp.told);
        let told = told.fold(0, |bits, (_, at)| bits | (1 << at));
        let header = AffinityEntry { server: told, database: 0, time: 0 };
        let stamps =
            stamps.iter().map(|s| AffinityEntry { server: s.server, database: s.database, time: s.time });
        self.sign(WRITE_VERSION, std::iter::once(header).chain(stamps))
    }

    /// Encodes the login cookie; `None` without a key.
    #[must_use]
    pub fn encode_login(&self, login: AffinityEntry) -> Option<String> {
        self.sign(LOGIN_VERSION, std::iter::once(login))
    }

    /// Encodes the rehearsal cookie; `None` without a key.
    #[must_use]
    pub fn encode_rehearsal(&self, cookie: RehearsalCookie) -> Option<String> {
        let RehearsalCookie { rehearsal, user, group } = cookie;
        let group = match group {
            None => 0,
            Some(UserGroup::Moved) => 1,
            Some(UserGroup::Stayed) => 2,
        };
        let record = AffinityEntry { server: rehearsal, database: user.0, time: group };
        self.sign(REHEARSAL_VERSION, std::iter::once(record))
    }

    /// Signs the content of a save token for this cluster; `None` without a key.
    #[must_use]
    pub fn sign_save_token(&self, content: &[u8]) -> Option<String> {
        let key = self.keys.first()?;
        let mut raw = Vec::with_capacity(1 + content.len() + MAC_LEN);
        raw.push(SAVE_TOKEN_VERSION);
        raw.extend_from_slice(content);
        let mac = save_token_mac(key, &raw);
        raw.extend_from_slice(mac.get(..MAC_LEN)?);
        Some(URL_SAFE_NO_PAD.encode(&raw))
    }

    /// The content of a save token that this cluster has signed, with any of its secrets.
    #[must_use]
    pub fn verify_save_token(&self, token: &[u8]) -> Option<Vec<u8>> {
        let raw = URL_SAFE_NO_PAD.decode(token.get(..MAX_SAVE_TOKEN_LEN.min(token.len()))?).ok()?;
        let (body, mac) = raw.split_at_checked(raw.len().checked_sub(MAC_LEN)?)?;
        let (version, content) = body.split_first()?;
        let is_signed_with = |key: &CookieKey| {
            save_token_mac(key, body).get(..MAC_LEN).is_some_and(|own| bool::from(own.ct_eq(mac)))
        };
        (*version == SAVE_TOKEN_VERSION && self.keys.iter().any(is_signed_with)).then(|| content.to_vec())
    }

    fn sign(&self, version: u8, entries: impl Iterator<Item = AffinityEntry>) -> Option<String> {
        let key = self.keys.first()?;
        let mut raw: SmallVec<[u8; MAX_LEN]> = SmallVec::new();
        raw.push(version);
        for entry in entries {
            raw.extend_from_slice(&entry.server.to_be_bytes());
            raw.extend_from_slice(&entry.database.to_be_bytes());
            raw.extend_from_slice(&entry.time.to_be_bytes());
        }
        let mac = key.mac.clone().chain_update(&raw).finalize().into_bytes();
        raw.extend_from_slice(mac.get(..MAC_LEN)?);
        Some(URL_SAFE_NO_PAD.encode(&raw))
    }
}

fn save_token_mac(key: &CookieKey, body: &[u8]) -> impl std::ops::Deref<Target = [u8]> + use<> {
    key.mac.clone().chain_update(body).chain_update(key.cluster.to_be_bytes()).finalize().into_bytes()
}

fn parse_entries(records: &[u8]) -> impl Iterator<Item = AffinityEntry> + '_ {
    let number = |chunk: &[u8], at: usize| -> u32 {
        chunk.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    records.chunks_exact(ENTRY_LEN).map(move |c| AffinityEntry {
        server: number(c, 0),
        database: number(c, 4),
        time: number(c, 8),
    })
}

/// A hash of a name within a cluster, equal on every ICM of every release. It is not keyed, so it must not leave the
/// process.
#[must_use]
pub fn stable_tag(cluster: &str, kind: &str, name: &[u8]) -> u32 {
    let mut hash = Sha256::new();
    update_framed(cluster, kind, name, |part| hash.update(part));
    first_u32(&hash.finalize())
}

fn keyed_tag(key: &HmacSha256, cluster: &str, kind: &str, name: &[u8]) -> u32 {
    let mut mac = key.clone();
    update_framed(cluster, kind, name, |part| Mac::update(&mut mac, part));
    first_u32(&mac.finalize().into_bytes())
}

/// With lengths, so that no two triples give the same bytes.
fn update_framed(cluster: &str, kind: &str, name: &[u8], mut update: impl FnMut(&[u8])) {
    for part in [cluster.as_bytes(), kind.as_bytes()] {
        update(&(part.len() as u64).to_be_bytes());
        update(part);
    }
    update(name);
}

fn first_u32(digest: &[u8]) -> u32 {
    digest.first_chunk::<4>().map_or(1, |b| u32::from_be_bytes(*b))
}

/// The value of a cookie without surrounding quotes.
#[must_use]
pub fn strip_quotes(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;

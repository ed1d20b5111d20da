//! The affinity cookie: entries under a keyed MAC, which a browser can carry and cannot forge. It is equal on every ICM
//! with the same secret, and a foreign, damaged or forged value counts as no cookie.
//!
//! Format: base64url of a version byte, twelve bytes for each entry (server tag, database tag, seconds; big endian) and
//! the first sixteen bytes of the HMAC-SHA-256 of all that. The login cookie has the same format with another version
//! and one entry. The tags are keyed too: with a plain hash a user could guess the server name behind the tag in a
//! cookie.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use super::entries::{ANY_DATABASE, AffinityEntries, AffinityEntry, MAX_ENTRIES};

/// The first signed byte. The message of a tag begins with 0, so no MAC of a cookie is valid for a tag.
const AFFINITY_VERSION: u8 = 1;
const LOGIN_VERSION: u8 = 2;
const ENTRY_LEN: usize = 12;
const MAC_LEN: usize = 16;
const MAX_LEN: usize = 1 + MAX_ENTRIES * ENTRY_LEN + MAC_LEN;
/// The decoder rounds its estimate up to a multiple of three.
const DECODE_BUFFER_LEN: usize = MAX_LEN + 3;

type HmacSha256 = Hmac<Sha256>;

/// The secrets of one cluster: the first signs and all verify, so that keys can be rotated.
#[derive(Clone)]
pub struct CookieKeys(Vec<CookieKey>);

#[derive(Clone)]
struct CookieKey {
    mac: HmacSha256,
    /// Makes database tags differ between clusters and keys.
    cluster: u32,
}

impl std::fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CookieKeys({})", self.0.len())
    }
}

impl CookieKeys {
    /// Takes secrets of any length; the first one signs.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let macs = secrets.into_iter().filter_map(|s| HmacSha256::new_from_slice(s).ok());
        Self(macs.map(|mac| CookieKey { cluster: 0, mac }).collect())
    }

    /// Binds the database tags to this cluster.
    #[must_use]
    pub fn for_cluster(mut self, name: &str) -> Self {
        for key in &mut self.0 {
            key.cluster = keyed_tag(&key.mac, name, "cluster", b"");
        }
        self
    }

    /// The tags of a name within a cluster, equal on every ICM with the same secrets: the current tag, then those of
    /// older secrets.
    #[must_use]
    pub fn tags(&self, cluster: &str, kind: &str, name: &[u8]) -> SmallVec<[u32; 2]> {
        self.0.iter().map(|key| keyed_tag(&key.mac, cluster, kind, name)).collect()
    }

    /// The tag of a database in the cookies of this cluster.
    #[must_use]
    pub fn database_tag(&self, number: u32) -> u32 {
        number ^ self.0.first().map_or(0, |key| key.cluster)
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
        self.verify(AFFINITY_VERSION, value)
            .map(|(raw, key)| {
                AffinityEntries::new(self.current_entries(&raw, key, current_tag), now, idle_secs)
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
        let (raw, key) = self.verify(LOGIN_VERSION, value)?;
        AffinityEntries::new(self.current_entries(&raw, key, current_tag), now, idle_secs).most_recent()
    }

    /// The signed bytes, and the position of the key that signed them.
    fn verify(&self, version: u8, value: &[u8]) -> Option<(SmallVec<[u8; DECODE_BUFFER_LEN]>, usize)> {
        let mut raw: SmallVec<[u8; DECODE_BUFFER_LEN]> = SmallVec::from_elem(0, DECODE_BUFFER_LEN);
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut raw).ok()?;
        raw.truncate(length);
        let signed = length.checked_sub(MAC_LEN)?;
        if signed <= ENTRY_LEN || !(signed - 1).is_multiple_of(ENTRY_LEN) || raw.first() != Some(&version) {
            return None;
        }
        let (body, mac) = raw.split_at_checked(signed)?;
        let key = self.0.iter().position(|key| {
            let computed = key.mac.clone().chain_update(body).finalize().into_bytes();
            computed.get(..MAC_LEN).is_some_and(|expected| bool::from(expected.ct_eq(mac)))
        })?;
        raw.truncate(signed);
        Some((raw, key))
    }

    fn current_entries<'r>(
        &self,
        raw: &'r [u8],
        key: usize,
        current_tag: impl Fn(u32) -> u32 + 'r,
    ) -> impl Iterator<Item = AffinityEntry> + 'r {
        let cluster = |key: usize| self.0.get(key).map_or(0, |key| key.cluster);
        let difference = cluster(0) ^ cluster(key);
        parse_entries(raw).map(move |entry| match entry {
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

    /// Encodes the login cookie; `None` without a key.
    #[must_use]
    pub fn encode_login(&self, login: AffinityEntry) -> Option<String> {
        self.sign(LOGIN_VERSION, std::iter::once(login))
    }

    fn sign(&self, version: u8, entries: impl Iterator<Item = AffinityEntry>) -> Option<String> {
        let key = self.0.first()?;
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

fn parse_entries(raw: &[u8]) -> impl Iterator<Item = AffinityEntry> + '_ {
    let number = |chunk: &[u8], at: usize| -> u32 {
        chunk.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    raw.get(1..).unwrap_or_default().chunks_exact(ENTRY_LEN).map(move |c| AffinityEntry {
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> CookieKeys {
        CookieKeys::new([b"a secret of the right length".as_slice()])
    }

    fn some_entries() -> AffinityEntries {
        let mut entries = AffinityEntries::default();
        entries.record_response(7, 1, 1_000, 1_800);
        entries.record_response(8, 2, 1_001, 1_800);
        entries
    }

    #[test]
    fn an_encoded_cookie_decodes_on_every_icm_with_the_secret() {
        let value = keys().encode(&some_entries()).unwrap();
        assert_eq!(keys().decode(value.as_bytes(), 1_002, 1_800, |tag| tag), some_entries());
    }

    #[test]
    fn a_cookie_holds_sixteen_entries() {
        let mut entries = AffinityEntries::default();
        for database in 0..20 {
            entries.record_response(1, database, 1_000, 1_800);
        }
        let value = keys().encode(&entries).unwrap();
        let read = keys().decode(value.as_bytes(), 1_002, 1_800, |tag| tag);
        assert_eq!(read, entries);
        assert_eq!(read.iter().count(), MAX_ENTRIES);
    }

    #[test]
    fn a_forged_or_foreign_cookie_counts_as_none() {
        let value = keys().encode(&some_entries()).unwrap();
        let other = CookieKeys::new([b"another secret altogether".as_slice()]);
        assert!(other.decode(value.as_bytes(), 1_002, 1_800, |tag| tag).is_empty());
        for i in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            assert!(keys().decode(&bytes, 1_002, 1_800, |tag| tag).is_empty(), "byte {i}");
        }
    }

    #[test]
    fn an_old_key_still_verifies_after_rotation_but_no_longer_signs() {
        let old = keys().encode(&some_entries()).unwrap();
        let rotated =
            CookieKeys::new([b"the new secret, signing".as_slice(), b"a secret of the right length"]);
        assert_eq!(rotated.decode(old.as_bytes(), 1_002, 1_800, |tag| tag), some_entries());
        assert_ne!(rotated.encode(&some_entries()).unwrap(), old);
    }

    #[test]
    fn entries_under_an_older_secret_get_the_tags_of_the_current_one() {
        let (old, new) = (b"a secret of the right length".as_slice(), b"the new secret, signing".as_slice());
        let (before, after) = (
            CookieKeys::new([old]).for_cluster("AcmeWeb"),
            CookieKeys::new([new, old]).for_cluster("AcmeWeb"),
        );
        let servers = after.tags("AcmeWeb", "server", b"web1/acme");
        assert_eq!(before.tags("AcmeWeb", "server", b"web1/acme").as_slice(), &servers[1..]);
        let mut entries = AffinityEntries::default();
        entries.record_response(servers[1], before.database_tag(7), 1_000, 1_800);
        entries.record_response(servers[1], ANY_DATABASE, 1_001, 1_800);
        let current_tag = |tag| if tag == servers[1] { servers[0] } else { tag };
        let value = before.encode(&entries).unwrap();
        let read = after.decode(value.as_bytes(), 1_002, 1_800, current_tag);
        let all: Vec<_> = read.iter().map(|e| (e.server, e.database)).collect();
        assert_eq!(all, [(servers[0], ANY_DATABASE), (servers[0], after.database_tag(7))]);
    }

    #[test]
    fn a_login_cookie_is_not_an_affinity_cookie_and_vice_versa() {
        let login = AffinityEntry { server: 7, database: 1, time: 1_000 };
        let value = keys().encode_login(login).unwrap();
        assert_eq!(keys().decode_login(value.as_bytes(), 1_001, 1_800, |tag| tag), Some(login));
        assert_eq!(keys().decode_login(value.as_bytes(), 2_800, 1_800, |tag| tag), None, "too old");
        assert!(keys().decode(value.as_bytes(), 1_001, 1_800, |tag| tag).is_empty());
        let affinity = keys().encode(&some_entries()).unwrap();
        assert_eq!(keys().decode_login(affinity.as_bytes(), 1_002, 1_800, |tag| tag), None);
    }

    #[test]
    fn tags_differ_by_cluster_kind_name_and_secret() {
        let tag = |cluster, kind| keys().tags(cluster, kind, b"web1/acme")[0];
        let a = tag("AcmeWeb", "server");
        assert_eq!(a, tag("AcmeWeb", "server"));
        assert_ne!(a, tag("AcmeMail", "server"));
        assert_ne!(a, tag("AcmeWeb", "database"));
        assert_ne!(
            a,
            stable_tag("AcmeWeb", "server", b"web1/acme"),
            "the tag cannot be computed without the secret"
        );
        let other = CookieKeys::new([b"another secret altogether".as_slice()]);
        assert_ne!(a, other.tags("AcmeWeb", "server", b"web1/acme")[0]);
        assert_ne!(keys().for_cluster("A").database_tag(7), other.for_cluster("A").database_tag(7));
        assert_ne!(keys().for_cluster("A").database_tag(7), keys().for_cluster("B").database_tag(7));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(keys().decode(&value, 1_000, 1_800, |tag| tag).is_empty());
            let _ = strip_quotes(&value);
        }
    }
}

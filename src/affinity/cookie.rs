//! The affinity cookie: entries under a keyed MAC, so that a browser can carry them and not forge them.
//!
//! In: the value of a cookie. Out: entries, or none: a value that is foreign, cut or forged counts as no
//! cookie at all. Equal on every ICM with the same secret; nothing is stored here.
//!
//! Form: base64url of one version octet, twelve octets an entry (server tag, database tag, seconds,
//! all big endian) and the first sixteen octets of HMAC-SHA-256 over what stands before them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use super::entries::{Entries, Entry, MAX};

const VERSION: u8 = 1;
const ENTRY: usize = 12;
const MAC: usize = 16;
const LONGEST: usize = 1 + MAX * ENTRY + MAC;
/// The decoder rounds its estimate up to whole groups of three.
const ROOM: usize = LONGEST + 3;

type HmacSha256 = Hmac<Sha256>;

/// The secrets: the first signs, all verify, so that keys can be rotated.
#[derive(Clone)]
pub struct Keys(Vec<HmacSha256>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// From secrets of any length, in order.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(secrets.into_iter().filter_map(|s| HmacSha256::new_from_slice(s).ok()).collect())
    }

    /// Decodes a cookie's value; anything that does not verify gives no entries.
    #[must_use]
    pub fn decode(&self, value: &[u8], now: u32, idle_secs: u32) -> Entries {
        self.verified(value).map(|raw| Entries::new(entries_of(&raw), now, idle_secs)).unwrap_or_default()
    }

    fn verified(&self, value: &[u8]) -> Option<SmallVec<[u8; ROOM]>> {
        let mut raw: SmallVec<[u8; ROOM]> = SmallVec::from_elem(0, ROOM);
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut raw).ok()?;
        raw.truncate(length);
        let signed = length.checked_sub(MAC)?;
        if signed == 0 || !(signed - 1).is_multiple_of(ENTRY) || raw.first() != Some(&VERSION) {
            return None;
        }
        let (body, mac) = raw.split_at_checked(signed)?;
        let genuine = self.0.iter().any(|key| {
            let full = key.clone().chain_update(body).finalize().into_bytes();
            full.get(..MAC).is_some_and(|ours| bool::from(ours.ct_eq(mac)))
        });
        if !genuine {
            return None;
        }
        raw.truncate(signed);
        Some(raw)
    }

    /// Encodes entries; `None` when there is no key.
    #[must_use]
    pub fn encode(&self, entries: &Entries) -> Option<String> {
        let key = self.0.first()?;
        let mut raw: SmallVec<[u8; LONGEST]> = SmallVec::new();
        raw.push(VERSION);
        for entry in entries.iter().take(MAX) {
            raw.extend_from_slice(&entry.server.to_be_bytes());
            raw.extend_from_slice(&entry.database.to_be_bytes());
            raw.extend_from_slice(&entry.time.to_be_bytes());
        }
        let mac = key.clone().chain_update(&raw).finalize().into_bytes();
        raw.extend_from_slice(mac.get(..MAC)?);
        Some(URL_SAFE_NO_PAD.encode(&raw))
    }
}

fn entries_of(raw: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    let word = |chunk: &[u8], at: usize| -> u32 {
        chunk.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    raw.get(1..).unwrap_or_default().chunks_exact(ENTRY).map(move |c| Entry {
        server: word(c, 0),
        database: word(c, 4),
        time: word(c, 8),
    })
}

/// The tag of a name within a cluster: the same on every ICM, of every release.
#[must_use]
pub fn tag(cluster: &str, kind: &str, name: &[u8]) -> u32 {
    let mut hash = Sha256::new();
    for part in [cluster.as_bytes(), kind.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(name);
    let digest = hash.finalize();
    digest.first_chunk::<4>().map_or(1, |b| u32::from_be_bytes(*b))
}

/// A cookie's value without the quotes that may stand around it.
#[must_use]
pub fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> Keys {
        Keys::new([b"a secret of the right length".as_slice()])
    }

    fn some_entries() -> Entries {
        let mut entries = Entries::default();
        entries.touch(7, 1, 1_000, 1_800);
        entries.touch(8, 2, 1_001, 1_800);
        entries
    }

    #[test]
    fn what_is_encoded_reads_back_on_every_icm_with_the_secret() {
        let value = keys().encode(&some_entries()).unwrap();
        assert_eq!(keys().decode(value.as_bytes(), 1_002, 1_800), some_entries());
    }

    #[test]
    fn sixteen_entries_fit() {
        let mut entries = Entries::default();
        for database in 0..20 {
            entries.touch(1, database, 1_000, 1_800);
        }
        let value = keys().encode(&entries).unwrap();
        let read = keys().decode(value.as_bytes(), 1_002, 1_800);
        assert_eq!(read, entries);
        assert_eq!(read.iter().count(), MAX);
    }

    #[test]
    fn a_forged_or_foreign_cookie_counts_as_none() {
        let value = keys().encode(&some_entries()).unwrap();
        let other = Keys::new([b"another secret altogether".as_slice()]);
        assert!(other.decode(value.as_bytes(), 1_002, 1_800).is_empty());
        for i in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            assert!(keys().decode(&bytes, 1_002, 1_800).is_empty(), "octet {i}");
        }
    }

    #[test]
    fn an_old_key_still_verifies_after_rotation_but_no_longer_signs() {
        let old = keys().encode(&some_entries()).unwrap();
        let rotated = Keys::new([b"the new secret, signing".as_slice(), b"a secret of the right length"]);
        assert_eq!(rotated.decode(old.as_bytes(), 1_002, 1_800), some_entries());
        assert_ne!(rotated.encode(&some_entries()).unwrap(), old);
    }

    #[test]
    fn tags_differ_by_cluster_kind_and_name() {
        let a = tag("AcmeWeb", "server", b"web1/acme");
        assert_eq!(a, tag("AcmeWeb", "server", b"web1/acme"));
        assert_ne!(a, tag("AcmeMail", "server", b"web1/acme"));
        assert_ne!(a, tag("AcmeWeb", "database", b"web1/acme"));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(keys().decode(&value, 1_000, 1_800).is_empty());
            let _ = unquoted(&value);
        }
    }
}

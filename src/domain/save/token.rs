//! The token in the link of a failed save: what was saved where and when, signed, so that nobody who did not get the page
//! can ask. Nothing is stored on the balancer: every ICM with the same secret can answer.

use super::Unid;
use crate::domain::affinity::CookieKeys;
use crate::domain::directory::ReplicaId;

/// The page is open in a browser, and anyone with the link learns when the document changes.
pub const TOKEN_LIFETIME_MS: u64 = 30 * 60 * 1_000;
/// The clocks of two ICMs may differ by this.
const MAX_CLOCK_DIFFERENCE_MS: u64 = 60_000;
const CONTENT_LEN: usize = 8 + 16 + 4 + 3 * 8;

/// A request that may have saved a document. All times are milliseconds since 1970 on the clock of this balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveToken {
    /// The database of the document.
    pub database: ReplicaId,
    /// The document that may have been saved.
    pub unid: Unid,
    /// The tag of the server that got the request, as in cookies.
    pub server: u32,
    /// When the request was sent to it.
    pub sent_unix_ms: u64,
    /// A server that has not saved until then is not working on the request any more.
    pub settled_unix_ms: u64,
    /// The user's write to the same database before that one; 0 if none is known.
    pub earlier_write_unix_ms: u64,
}

impl SaveToken {
    /// The signed text; `None` without a key.
    #[must_use]
    pub fn encode(&self, keys: &CookieKeys) -> Option<String> {
        let mut content = Vec::with_capacity(CONTENT_LEN);
        content.extend_from_slice(&self.database.0.to_be_bytes());
        content.extend_from_slice(&self.unid.0);
        content.extend_from_slice(&self.server.to_be_bytes());
        for time in [self.sent_unix_ms, self.settled_unix_ms, self.earlier_write_unix_ms] {
            content.extend_from_slice(&time.to_be_bytes());
        }
        keys.sign_save_token(&content)
    }

    /// `None` if the keys have not signed the text, or it is too old.
    #[must_use]
    pub fn decode(keys: &CookieKeys, text: &[u8], now_unix_ms: u64) -> Option<Self> {
        let content = keys.verify_save_token(text)?;
        let (database, rest) = content.split_first_chunk::<8>()?;
        let (unid, rest) = rest.split_first_chunk::<16>()?;
        let (server, rest) = rest.split_first_chunk::<4>()?;
        let (sent, rest) = rest.split_first_chunk::<8>()?;
        let (settled, rest) = rest.split_first_chunk::<8>()?;
        let (earlier, rest) = rest.split_first_chunk::<8>()?;
        let sent_unix_ms = u64::from_be_bytes(*sent);
        let is_current = now_unix_ms <= sent_unix_ms.saturating_add(TOKEN_LIFETIME_MS)
            && sent_unix_ms <= now_unix_ms.saturating_add(MAX_CLOCK_DIFFERENCE_MS);
        (rest.is_empty() && is_current).then_some(Self {
            database: ReplicaId(u64::from_be_bytes(*database)),
            unid: Unid(*unid),
            server: u32::from_be_bytes(*server),
            sent_unix_ms,
            settled_unix_ms: u64::from_be_bytes(*settled),
            earlier_write_unix_ms: u64::from_be_bytes(*earlier),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::affinity::{AffinityEntries, AffinityEntry, WriteStamp, WriteStamps};
    use proptest::prelude::*;

    const NOW: u64 = 1_796_026_502_000;

    fn token() -> SaveToken {
        SaveToken {
            database: ReplicaId(0xC125_7A00_0041_D2E0),
            unid: Unid([7; 16]),
            server: 42,
            sent_unix_ms: NOW,
            settled_unix_ms: NOW + 60_000,
            earlier_write_unix_ms: 0,
        }
    }

    fn keys(secrets: &[&[u8]], cluster: &str) -> CookieKeys {
        CookieKeys::new(secrets.iter().copied()).for_cluster(cluster)
    }

    #[test]
    fn a_token_is_valid_for_half_an_hour_on_every_icm_with_the_secret() {
        let text = token().encode(&keys(&[b"one"], "AcmeWeb")).unwrap();
        assert!(
            text.len() < 110 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        let read = |secrets: &[&[u8]], cluster: &str, now: u64| {
            SaveToken::decode(&keys(secrets, cluster), text.as_bytes(), now)
        };
        assert_eq!(read(&[b"one"], "AcmeWeb", NOW), Some(token()));
        assert_eq!(read(&[b"new", b"one"], "AcmeWeb", NOW + TOKEN_LIFETIME_MS), Some(token()), "rotated");
        assert_eq!(read(&[b"one"], "AcmeWeb", NOW + TOKEN_LIFETIME_MS + 1), None, "too old");
        assert_eq!(read(&[b"one"], "AcmeWeb", NOW - 60_001), None, "from the future");
        assert_eq!(read(&[b"two"], "AcmeWeb", NOW), None, "another secret");
        assert_eq!(read(&[b"one"], "AcmeMail", NOW), None, "another cluster");
        assert_eq!(token().encode(&keys(&[], "AcmeWeb")), None);
    }

    #[test]
    fn a_cookie_is_no_token_and_a_token_is_no_cookie() {
        let keys = keys(&[b"one"], "AcmeWeb");
        let entry = AffinityEntry { server: 1, database: 2, time: 3 };
        let stamp = WriteStamp { server: 1, database: 2, time: 3, told: false };
        let stamps = WriteStamps::new(std::iter::once(stamp), 3, 10);
        let entries = AffinityEntries::new(std::iter::once(entry), 3, 10);
        let cookies = [keys.encode(&entries), keys.encode_login(entry), keys.encode_writes(&stamps)];
        for cookie in cookies.into_iter().flatten() {
            assert_eq!(keys.verify_save_token(cookie.as_bytes()), None);
        }
        let text = token().encode(&keys).unwrap();
        assert!(keys.decode_writes(text.as_bytes(), 3, 10, |tag| tag).is_empty());
        assert_eq!(keys.decode_login(text.as_bytes(), 3, 10, |tag| tag), None);
    }

    proptest! {
        #[test]
        fn every_token_is_read_as_it_was_written(
            database: u64, unid: [u8; 16], server: u32, settled: u64, earlier: u64, age in 0..TOKEN_LIFETIME_MS
        ) {
            let keys = keys(&[b"one"], "AcmeWeb");
            let written = SaveToken {
                database: ReplicaId(database), unid: Unid(unid), server, sent_unix_ms: NOW,
                settled_unix_ms: settled, earlier_write_unix_ms: earlier,
            };
            let text = written.encode(&keys).unwrap();
            prop_assert_eq!(SaveToken::decode(&keys, text.as_bytes(), NOW + age), Some(written));
        }

        #[test]
        fn a_token_with_any_other_character_is_none(at in 0_usize..200, with in "[A-Za-z0-9_=.-]") {
            let keys = keys(&[b"one"], "AcmeWeb");
            let text = token().encode(&keys).unwrap();
            let at = at % text.len();
            let mut forged = text.clone();
            forged.replace_range(at..=at, &with);
            prop_assume!(forged != text);
            prop_assert_eq!(SaveToken::decode(&keys, forged.as_bytes(), NOW), None);
        }

        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(SaveToken::decode(&keys(&[b"one"], "AcmeWeb"), &text, NOW), None);
        }
    }
}

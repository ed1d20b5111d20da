//! Round trips, forgery, rotation of keys, and tags.

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
fn a_rehearsal_cookie_says_what_was_drawn_and_is_valid_as_no_other() {
    for group in [None, Some(UserGroup::Moved), Some(UserGroup::Stayed)] {
        let cookie = RehearsalCookie { rehearsal: 7, user: UserDraw(0xfedc_ba98), group };
        let value = keys().encode_rehearsal(cookie).unwrap();
        assert_eq!(keys().decode_rehearsal(value.as_bytes()), Some(cookie));
        assert!(keys().decode(value.as_bytes(), 1_002, 1_800, |tag| tag).is_empty());
        assert!(keys().decode_writes(value.as_bytes(), 1_002, 7_200, |tag| tag).is_empty());
        for i in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys().decode_rehearsal(&bytes), None, "byte {i}");
        }
    }
    let affinity = keys().encode(&some_entries()).unwrap();
    assert_eq!(keys().decode_rehearsal(affinity.as_bytes()), None);
}

#[test]
fn an_old_key_still_verifies_after_rotation_but_no_longer_signs() {
    let old = keys().encode(&some_entries()).unwrap();
    let rotated = CookieKeys::new([b"the new secret, signing".as_slice(), b"a secret of the right length"]);
    assert_eq!(rotated.decode(old.as_bytes(), 1_002, 1_800, |tag| tag), some_entries());
    assert_ne!(rotated.encode(&some_entries()).unwrap(), old);
}

#[test]
fn entries_under_an_older_secret_get_the_tags_of_the_current_one() {
    let (old, new) = (b"a secret of the right length".as_slice(), b"the new secret, signing".as_slice());
    let (before, after) =
        (CookieKeys::new([old]).for_cluster("AcmeWeb"), CookieKeys::new([new, old]).for_cluster("AcmeWeb"));
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

fn some_stamps() -> WriteStamps {
    let mut stamps = WriteStamps::default();
    for (server, database) in [(7, 1), (7, 2), (8, 3)] {
        stamps.record(WriteStamp { server, database, time: 1_000, told: false });
    }
    stamps.mark_told(2);
    stamps
}

#[test]
fn a_write_cookie_decodes_with_what_the_user_was_told() {
    let value = keys().encode_writes(&some_stamps()).unwrap();
    let read = keys().decode_writes(value.as_bytes(), 1_002, 7_200, |tag| tag);
    assert_eq!(read, some_stamps());
    assert_eq!(read.iter().map(|s| s.told).collect::<Vec<_>>(), [false, true, false]);
    assert!(keys().decode_writes(value.as_bytes(), 8_200, 7_200, |tag| tag).is_empty(), "too old");
    let none = keys().encode_writes(&WriteStamps::default()).unwrap();
    assert!(keys().decode_writes(none.as_bytes(), 1_002, 7_200, |tag| tag).is_empty());
}

#[test]
fn a_write_cookie_holds_eight_stamps() {
    let mut stamps = WriteStamps::default();
    for database in 0..20 {
        stamps.record(WriteStamp { server: 1, database, time: 1_000, told: false });
        stamps.mark_told(database);
    }
    let value = keys().encode_writes(&stamps).unwrap();
    assert_eq!(keys().decode_writes(value.as_bytes(), 1_002, 7_200, |tag| tag), stamps);
    assert_eq!(stamps.iter().count(), 8);
}

#[test]
fn a_forged_write_cookie_and_a_cookie_of_another_kind_count_as_none() {
    let value = keys().encode_writes(&some_stamps()).unwrap();
    let writes = |keys: &CookieKeys, value: &[u8]| keys.decode_writes(value, 1_002, 7_200, |tag| tag);
    let other = CookieKeys::new([b"another secret altogether".as_slice()]);
    assert!(writes(&other, value.as_bytes()).is_empty());
    for i in 0..value.len() {
        let mut bytes = value.clone().into_bytes();
        bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
        assert!(writes(&keys(), &bytes).is_empty(), "byte {i}");
    }
    let affinity = keys().encode(&some_entries()).unwrap();
    assert!(writes(&keys(), affinity.as_bytes()).is_empty());
    assert!(keys().decode(value.as_bytes(), 1_002, 1_800, |tag| tag).is_empty());
    assert_eq!(keys().decode_login(value.as_bytes(), 1_002, 1_800, |tag| tag), None);
}

#[test]
fn stamps_under_an_older_secret_get_the_tags_of_the_current_one() {
    let (old, new) = (b"a secret of the right length".as_slice(), b"the new secret, signing".as_slice());
    let (before, after) =
        (CookieKeys::new([old]).for_cluster("AcmeWeb"), CookieKeys::new([new, old]).for_cluster("AcmeWeb"));
    let mut stamps = WriteStamps::default();
    stamps.record(WriteStamp { server: 5, database: before.database_tag(7), time: 1_000, told: true });
    let value = before.encode_writes(&stamps).unwrap();
    let read = after.decode_writes(value.as_bytes(), 1_002, 7_200, |tag| tag + 100);
    let expected = WriteStamp { server: 105, database: after.database_tag(7), time: 1_000, told: true };
    assert_eq!(read.iter().collect::<Vec<_>>(), [expected]);
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
        prop_assert!(keys().decode_writes(&value, 1_000, 1_800, |tag| tag).is_empty());
        let _ = strip_quotes(&value);
    }
}

//! Remembers for each thread which cookies it verified lately. A browser sends the same cookie with every request, and
//! computing its MAC takes longer than the rest of reading it.
//!
//! Only whole signed values are remembered, so nothing is accepted that was not verified with the same keys. A position
//! depends on a hash with a secret of the thread, and bytes are compared only if all 64 bits of the hash are equal: the
//! time that this takes tells nothing about a guessed cookie.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ahash::RandomState;

/// The version, eight entries and the MAC. Cookies with more entries are verified each time.
const MAX_LEN: usize = 1 + 8 * 12 + 16;
/// Two cache lines each: 32 KiB for a thread that has verified a cookie.
const SLOTS: usize = 256;

/// Tells the keys of a cluster from all that the process had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeysId(u64);

impl KeysId {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

#[derive(Clone)]
struct Slot {
    hash: u64,
    /// Which key has signed the value.
    key: u8,
    /// 0 = the slot is empty.
    length: u8,
    value: [u8; MAX_LEN],
}

const EMPTY: Slot = Slot { hash: 0, key: 0, length: 0, value: [0; MAX_LEN] };

#[derive(Default)]
struct Verified {
    secret: RandomState,
    /// Empty until the first cookie.
    slots: Vec<Slot>,
}

impl Verified {
    fn hash(&self, keys: KeysId, value: &[u8]) -> u64 {
        self.secret.hash_one((keys.0, value))
    }

    fn find(&self, hash: u64, value: &[u8]) -> Option<usize> {
        let slot = self.slots.get(hash as usize % SLOTS)?;
        let is_same = slot.hash == hash
            && slot.value.get(..usize::from(slot.length)).is_some_and(|known| known == value);
        is_same.then_some(usize::from(slot.key))
    }

    fn remember(&mut self, hash: u64, value: &[u8], key: usize) {
        let (Ok(key), Ok(length)) = (u8::try_from(key), u8::try_from(value.len())) else { return };
        if value.len() > MAX_LEN {
            return;
        }
        if self.slots.is_empty() {
            self.slots = vec![EMPTY; SLOTS];
        }
        let Some(slot) = self.slots.get_mut(hash as usize % SLOTS) else { return };
        let Some(bytes) = slot.value.get_mut(..value.len()) else { return };
        bytes.copy_from_slice(value);
        (slot.hash, slot.key, slot.length) = (hash, key, length);
    }
}

thread_local! {
    static VERIFIED: RefCell<Verified> = RefCell::default();
}

/// The position of the key that signed `value`, with its MAC: as remembered, else as `verify` finds it.
pub(super) fn find_or_verify(
    keys: KeysId,
    value: &[u8],
    verify: impl FnOnce() -> Option<usize>,
) -> Option<usize> {
    VERIFIED.with_borrow_mut(|verified| {
        let hash = verified.hash(keys, value);
        if let Some(key) = verified.find(hash, value) {
            return Some(key);
        }
        let key = verify()?;
        verified.remember(hash, value, key);
        Some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verified_value_is_not_verified_again_with_the_same_keys() {
        let (keys, others) = (KeysId::new(), KeysId::new());
        let value = [7; 29];
        assert_eq!(find_or_verify(keys, &value, || None), None);
        assert_eq!(find_or_verify(keys, &value, || Some(1)), Some(1));
        assert_eq!(find_or_verify(keys, &value, || unreachable!("it is remembered")), Some(1));
        assert_eq!(find_or_verify(others, &value, || None), None, "other keys");
        for at in 0..value.len() {
            let mut changed = value;
            changed[at] ^= 1;
            assert_eq!(find_or_verify(keys, &changed, || None), None, "another value");
        }
        assert_eq!(find_or_verify(keys, &value[..28], || None), None, "a part of the value");
        std::thread::spawn(move || assert_eq!(find_or_verify(keys, &value, || None), None)).join().unwrap();
    }

    #[test]
    fn a_long_value_and_the_256th_key_are_verified_each_time() {
        let keys = KeysId::new();
        for (value, key) in [(vec![1; MAX_LEN + 1], 0), (vec![1; 29], 256)] {
            assert_eq!(find_or_verify(keys, &value, || Some(key)), Some(key));
            assert_eq!(find_or_verify(keys, &value, || None), None);
        }
        let longest = [1; MAX_LEN];
        find_or_verify(keys, &longest, || Some(0));
        assert_eq!(find_or_verify(keys, &longest, || None), Some(0));
    }

    #[test]
    fn any_number_of_values_is_remembered_right_or_not_at_all() {
        let keys = KeysId::new();
        let value = |n: usize| [n.to_be_bytes().as_slice(), &[1; 21]].concat();
        for n in 0..2_000 {
            find_or_verify(keys, &value(n), || Some(n % 3));
        }
        let known = (0..2_000).filter_map(|n| find_or_verify(keys, &value(n), || None).map(|key| (n, key)));
        let known: Vec<_> = known.collect();
        assert!(known.iter().all(|(n, key)| n % 3 == *key));
        assert!((1..=SLOTS).contains(&known.len()), "{}", known.len());
    }
}

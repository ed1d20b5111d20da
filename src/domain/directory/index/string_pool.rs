//! The strings of an index, each stored once, all in one allocation of up to 4 GiB.
//!
//! A string is stored behind its own length, so that reading it touches one place in memory. The length is encoded as a
//! `char`, which keeps the arena a `str` and takes one byte for most strings.

use super::{hash_key, to_usize};
use hashbrown::HashTable;

/// Position of a string in the pool. The default is the empty string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StringId(pub(super) u32);

impl StringId {
    pub(super) const EMPTY: Self = Self(0);
}

#[derive(Clone, Default)]
pub(super) struct StringPool {
    pub(super) arena: Box<str>,
}

/// Leaves out the strings, of which there may be gigabytes.
impl std::fmt::Debug for StringPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StringPool({} bytes)", self.memory_size())
    }
}

impl StringPool {
    pub(super) fn get(&self, id: StringId) -> &str {
        read_at(&self.arena, id)
    }

    pub(super) fn memory_size(&self) -> usize {
        self.arena.len()
    }
}

/// The string at a position; empty if there is none.
fn read_at(arena: &str, id: StringId) -> &str {
    let mut rest = arena.get(to_usize(id.0)..).unwrap_or_default().chars();
    let length = rest.next().map_or(0, u32::from);
    rest.as_str().get(..to_usize(length)).unwrap_or_default()
}

pub(super) struct StringPoolBuilder {
    arena: String,
    ids: HashTable<StringId>,
}

impl Default for StringPoolBuilder {
    fn default() -> Self {
        let mut empty = Self { arena: String::new(), ids: HashTable::new() };
        empty.intern("");
        empty
    }
}

impl StringPoolBuilder {
    /// Stores `text` if it is new. `None` if the pool is full or the string is longer than 55,295 bytes, as no path or
    /// title is.
    pub(super) fn intern(&mut self, text: &str) -> Option<StringId> {
        let Self { arena, ids } = self;
        let hash = hash_key(text);
        if let Some(known) = ids.find(hash, |known| read_at(arena, *known) == text) {
            return Some(*known);
        }
        // Larger numbers begin with the surrogates, which are not a `char`.
        let length = u32::try_from(text.len()).ok().filter(|length| *length < 0xd800)?;
        let new = StringId(u32::try_from(arena.len()).ok()?);
        arena.push(char::from_u32(length)?);
        arena.push_str(text);
        ids.insert_unique(hash, new, |known| hash_key(read_at(arena, *known)));
        Some(new)
    }

    pub(super) fn get(&self, id: StringId) -> &str {
        read_at(&self.arena, id)
    }

    pub(super) fn finish(self) -> StringPool {
        StringPool { arena: self.arena.into_boxed_str() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_strings_are_stored_once() {
        let mut strings = StringPoolBuilder::default();
        let first = strings.intern("sales/leads.nsf").unwrap();
        assert_eq!(strings.intern("sales/leads.nsf"), Some(first));
        let strings = strings.finish();
        assert_eq!(strings.get(first), "sales/leads.nsf");
        assert_eq!(strings.get(StringId::default()), "");
        assert_eq!(strings.memory_size(), 1 + 1 + "sales/leads.nsf".len());
    }

    #[test]
    fn an_unknown_id_gives_the_empty_string() {
        assert_eq!(StringPool::default().get(StringId(0)), "");
        assert_eq!(StringPool::default().get(StringId(u32::MAX)), "");
        let mut strings = StringPoolBuilder::default();
        strings.intern("ä").unwrap();
        assert_eq!(strings.get(StringId(3)), "");
    }

    #[test]
    fn a_string_of_any_length_is_read_back_or_refused() {
        let mut strings = StringPoolBuilder::default();
        for length in [0, 1, 127, 128, 2047, 2048, 0xd7ff] {
            let text = "x".repeat(length);
            let at = strings.intern(&text).unwrap();
            assert_eq!(strings.get(at), text);
        }
        assert_eq!(strings.intern(&"x".repeat(0xd800)), None);
    }

    proptest! {
        #[test]
        fn every_string_is_read_back(list in proptest::collection::vec("[a-cä]{0,3}", 0..40)) {
            let mut builder = StringPoolBuilder::default();
            let ids: Vec<_> = list.iter().map(|text| builder.intern(text).unwrap()).collect();
            let strings = builder.finish();
            for (text, at) in list.iter().zip(ids) {
                prop_assert_eq!(strings.get(at), text);
            }
        }
        #[test]
        fn no_id_makes_it_panic(list in proptest::collection::vec("\\PC{0,9}", 0..9), at: u16) {
            let mut builder = StringPoolBuilder::default();
            for text in &list {
                builder.intern(text).unwrap();
            }
            let _ = builder.get(StringId(u32::from(at % 64)));
        }
    }
}

//! The texts of an index, each stored once, all in one allocation.
//!
//! In: paths and titles while an index is built. Out: their numbers, and the texts by number. Holds
//! up to 4 GiB; what does not fit is refused, never cut.

use super::{hash, place};
use hashbrown::HashTable;

/// A text of one index. Zero is the empty text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TextIx(pub u32);

/// Texts by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    arena: Box<str>,
    /// Where a text ends; it starts where the one before ended, and text 0 is not listed.
    ends: Box<[u32]>,
}

impl Texts {
    pub(super) fn get(&self, text: TextIx) -> &str {
        slice(&self.arena, &self.ends, text)
    }

    pub(super) fn bytes(&self) -> usize {
        self.arena.len() + size_of_val(&*self.ends)
    }
}

fn slice<'a>(arena: &'a str, ends: &[u32], text: TextIx) -> &'a str {
    let bound = |number: u32| match number.checked_sub(1) {
        None => Some(0),
        Some(at) => ends.get(place(at)).map(|end| place(*end)),
    };
    let range = text.0.checked_sub(1).and_then(bound).zip(bound(text.0));
    range.and_then(|(start, end)| arena.get(start..end)).unwrap_or_default()
}

/// Collects texts, each once.
#[derive(Default)]
pub(super) struct TextsBuilder {
    arena: String,
    ends: Vec<u32>,
    numbers: HashTable<TextIx>,
}

impl TextsBuilder {
    /// The number of `text`, stored now if it is new; `None` when it no longer fits.
    pub(super) fn intern(&mut self, text: &str) -> Option<TextIx> {
        if text.is_empty() {
            return Some(TextIx::default());
        }
        let Self { arena, ends, numbers } = self;
        let hashed = hash(text);
        if let Some(known) = numbers.find(hashed, |known| slice(arena, ends, *known) == text) {
            return Some(*known);
        }
        let end = u32::try_from(arena.len() + text.len()).ok()?;
        arena.push_str(text);
        ends.push(end);
        let number = TextIx(u32::try_from(ends.len()).ok()?);
        numbers.insert_unique(hashed, number, |known| hash(slice(arena, ends, *known)));
        Some(number)
    }

    pub(super) fn get(&self, text: TextIx) -> &str {
        slice(&self.arena, &self.ends, text)
    }

    pub(super) fn finish(self) -> Texts {
        Texts { arena: self.arena.into_boxed_str(), ends: self.ends.into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_texts_are_stored_once_and_the_empty_one_takes_no_room() {
        let mut texts = TextsBuilder::default();
        let first = texts.intern("sales/leads.nsf").unwrap();
        assert_eq!(texts.intern("sales/leads.nsf"), Some(first));
        assert_eq!(texts.intern(""), Some(TextIx(0)));
        let texts = texts.finish();
        assert_eq!(texts.get(first), "sales/leads.nsf");
        assert_eq!(texts.get(TextIx(0)), "");
        assert_eq!(texts.bytes(), "sales/leads.nsf".len() + 4);
    }

    #[test]
    fn an_unknown_number_is_the_empty_text() {
        assert_eq!(Texts::default().get(TextIx(0)), "");
        assert_eq!(Texts::default().get(TextIx(7)), "");
        assert_eq!(Texts::default().get(TextIx(u32::MAX)), "");
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(list in proptest::collection::vec("[a-cä]{0,3}", 0..40)) {
            let mut builder = TextsBuilder::default();
            let numbers: Vec<_> = list.iter().map(|text| builder.intern(text).unwrap()).collect();
            let texts = builder.finish();
            for (text, number) in list.iter().zip(numbers) {
                prop_assert_eq!(texts.get(number), text);
            }
        }
    }
}

//! A fact, when it was said and by which source.
//!
//! In: facts as they come, from sources of different age. Out: the newest. Whether it still holds is the ledger's to say.

/// One fact with its origin.
#[derive(Clone, Debug)]
pub struct Dated<T> {
    /// What was said.
    pub value: T,
    /// When, by the caller's clock.
    pub at_ms: u64,
    /// By which source, by its place in the list.
    pub source: usize,
}

/// Takes a fact in, unless a newer one is known.
pub fn keep_newest<T>(slot: &mut Option<Dated<T>>, value: Option<T>, at_ms: u64, source: usize) {
    if let Some(value) = value
        && slot.as_ref().is_none_or(|known| known.at_ms <= at_ms)
    {
        *slot = Some(Dated { value, at_ms, source });
    }
}

/// Gives a fact the new place of its source; a source without one takes its word along.
pub fn moved<T>(slot: &mut Option<Dated<T>>, new_place: &[Option<usize>]) {
    *slot = slot.take().and_then(|fact| {
        let source = new_place.get(fact.source).copied().flatten()?;
        Some(Dated { source, ..fact })
    });
}

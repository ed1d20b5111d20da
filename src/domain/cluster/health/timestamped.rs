//! A reported value with its time and source, which decide whether a newer report replaces it.

/// A value of an availability report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timestamped<T> {
    /// The value as reported.
    pub value: T,
    /// The time of the report.
    pub at_ms: u64,
    /// Position of the source in the list.
    pub source: usize,
}

impl<T> Timestamped<T> {
    /// True if both come from one report: an exporter repeats a report until Domino renews it.
    pub(in crate::domain::cluster) fn is_same_report(&self, other: &Self) -> bool {
        (self.at_ms, self.source) == (other.at_ms, other.source)
    }
}

/// Stores a value unless a newer one is known.
pub(super) fn keep_newest<T>(slot: &mut Option<Timestamped<T>>, value: Option<T>, at_ms: u64, source: usize) {
    if let Some(value) = value
        && slot.as_ref().is_none_or(|known| known.at_ms <= at_ms)
    {
        *slot = Some(Timestamped { value, at_ms, source });
    }
}

/// Renumbers the source of a value after a reload, and drops the value if its source was removed.
pub(super) fn renumber_source<T>(slot: &mut Option<Timestamped<T>>, new_positions: &[Option<usize>]) {
    *slot = slot.take().and_then(|known| {
        let source = new_positions.get(known.source).copied().flatten()?;
        Some(Timestamped { source, ..known })
    });
}

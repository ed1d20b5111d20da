//! One slot for each descriptor of the process: numbers are small and given out from below, so a table beats a map, and
//! its slots need no lock.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use crate::descriptor::Descriptor;

const CHUNK: usize = 1024;
const MAX_CHUNKS: usize = 1024;

/// What is known of the connection with this number.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// See [`super::deadline`].
    pub deadline: AtomicU64,
    /// See [`super::usage`].
    pub usage: AtomicU64,
}

/// Chunks are made when a number in them is first used.
pub(super) struct Table([OnceLock<Box<[Slot]>>; MAX_CHUNKS]);

/// Numbers are the process's own.
pub(super) static TABLE: Table = Table([const { OnceLock::new() }; MAX_CHUNKS]);

impl Table {
    /// The slot of a connection; `None` beyond a million descriptors, where nothing is known of any.
    pub fn slot(&self, descriptor: Descriptor) -> Option<&Slot> {
        let number = usize::try_from(descriptor.number).ok()?;
        let chunk = self.0.get(number / CHUNK)?;
        chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect()).get(number % CHUNK)
    }

    /// Chunks with slots that were ever used, each with the number of its first one.
    pub fn chunks(&self) -> impl Iterator<Item = (usize, &[Slot])> {
        let chunks = self.0.iter().enumerate();
        chunks.filter_map(|(at, chunk)| Some((at * CHUNK, &**chunk.get()?)))
    }
}

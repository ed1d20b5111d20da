//! A table with a slot for each file descriptor of the process. Descriptors are small numbers, so unlike a map it needs no
//! lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::util::socket_fd::SocketFd;

const CHUNK_LEN: usize = 1024;
const MAX_CHUNKS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct ConnectionSlot {
    pub deadline: AtomicU64,
    pub usage: AtomicU64,
}

pub(super) struct ConnectionTable {
    /// Each is allocated when a descriptor in it is first used.
    chunks: [OnceLock<Box<[ConnectionSlot]>>; MAX_CHUNKS],
    /// One more than the highest descriptor so far.
    end: AtomicUsize,
}

/// Global, as descriptors are.
pub(super) static TABLE: ConnectionTable =
    ConnectionTable { chunks: [const { OnceLock::new() }; MAX_CHUNKS], end: AtomicUsize::new(0) };

impl ConnectionTable {
    /// `None` for descriptors above a million, which are not tracked.
    pub fn slot(&self, descriptor: SocketFd) -> Option<&ConnectionSlot> {
        let fd = usize::try_from(descriptor.fd).ok()?;
        let chunk = self.chunks.get(fd / CHUNK_LEN)?;
        if fd >= self.end.load(Relaxed) {
            self.end.fetch_max(fd + 1, Relaxed);
        }
        chunk.get_or_init(|| (0..CHUNK_LEN).map(|_| ConnectionSlot::default()).collect()).get(fd % CHUNK_LEN)
    }

    /// The allocated chunks up to the highest descriptor so far, each with its first descriptor.
    pub fn chunks(&self) -> impl Iterator<Item = (usize, &[ConnectionSlot])> {
        let end = self.end.load(Relaxed);
        let chunks = self.chunks.iter().enumerate().take(end.div_ceil(CHUNK_LEN));
        chunks.filter_map(move |(at, chunk)| {
            let (first, chunk) = (at * CHUNK_LEN, chunk.get()?);
            Some((first, chunk.get(..CHUNK_LEN.min(end - first))?))
        })
    }
}

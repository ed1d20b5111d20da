//! One slot for each descriptor of the process: numbers are small and given out from below, so a table beats a map, and
//! its slots need no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::util::socket_fd::SocketFd;

const CHUNK_LEN: usize = 1024;
const MAX_CHUNKS: usize = 1024;

/// What is known of the connection with this number.
#[derive(Debug, Default)]
pub(super) struct ConnectionSlot {
    /// See [`super::deadline`].
    pub deadline: AtomicU64,
    /// See [`super::usage`].
    pub usage: AtomicU64,
}

/// Chunks are made when a number in them is first used.
pub(super) struct ConnectionTable {
    chunks: [OnceLock<Box<[ConnectionSlot]>>; MAX_CHUNKS],
    /// One more than the highest number that was ever used.
    end: AtomicUsize,
}

/// Numbers are the process's own.
pub(super) static TABLE: ConnectionTable =
    ConnectionTable { chunks: [const { OnceLock::new() }; MAX_CHUNKS], end: AtomicUsize::new(0) };

impl ConnectionTable {
    /// The slot of a connection; `None` beyond a million descriptors, where nothing is known of any.
    pub fn slot(&self, descriptor: SocketFd) -> Option<&ConnectionSlot> {
        let fd = usize::try_from(descriptor.fd).ok()?;
        let chunk = self.chunks.get(fd / CHUNK_LEN)?;
        if fd >= self.end.load(Relaxed) {
            self.end.fetch_max(fd + 1, Relaxed);
        }
        chunk.get_or_init(|| (0..CHUNK_LEN).map(|_| ConnectionSlot::default()).collect()).get(fd % CHUNK_LEN)
    }

    /// The slots up to the highest that was ever used, in chunks, each with the number of its first one.
    pub fn chunks(&self) -> impl Iterator<Item = (usize, &[ConnectionSlot])> {
        let end = self.end.load(Relaxed);
        let chunks = self.chunks.iter().enumerate().take(end.div_ceil(CHUNK_LEN));
        chunks.filter_map(move |(at, chunk)| {
            let (first, chunk) = (at * CHUNK_LEN, chunk.get()?);
            Some((first, chunk.get(..CHUNK_LEN.min(end - first))?))
        })
    }
}

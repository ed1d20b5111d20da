//! Counters of compressed responses, by content coding.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::domain::compression::ContentCoding;

/// Those of all codings.
#[derive(Debug, Default)]
pub struct CompressionCounters {
    zstd: CodingCounters,
    brotli: CodingCounters,
    gzip: CodingCounters,
}

impl CompressionCounters {
    #[must_use]
    pub fn of(&self, coding: ContentCoding) -> &CodingCounters {
        match coding {
            ContentCoding::Zstd => &self.zstd,
            ContentCoding::Brotli => &self.brotli,
            ContentCoding::Gzip => &self.gzip,
        }
    }
}

/// The responses with one coding, and the bytes of their bodies before and after it.
#[derive(Debug, Default)]
pub struct CodingCounters {
    pub responses: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

impl CodingCounters {
    /// Counts a response that has ended.
    pub fn add(&self, bytes_in: u64, bytes_out: u64) {
        self.responses.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes_in, Relaxed);
        self.bytes_out.fetch_add(bytes_out, Relaxed);
    }
}

//! The gate: its output does not depend on how the input is split into reads, and other parsers read it the same way.

use domino_icm::edge::gate::{Gate, GateStage, GateVerdict, HeadLimits, Refusal, rewrite_head};

#[path = "../../../src/edge/gate/tests/streams.rs"]
mod streams;

/// Feeds the bytes of a client; the first byte is the seed for the sizes of reads.
pub fn gate(data: &[u8]) {
    let limits = HeadLimits { header_count: 16, header_bytes: 512, uri_bytes: 128 };
    let Some((seed, bytes)) = data.split_first() else { return };
    let whole = streams::feed(bytes, &limits, || usize::MAX);
    let mut state = usize::from(*seed);
    let pieces = streams::feed(bytes, &limits, || {
        state = (state * 13 + 5) % 31;
        state / 4
    });
    assert_eq!(whole, pieces);
    streams::assert_unambiguous(&whole);
}

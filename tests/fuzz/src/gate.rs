//! The gate: what passes does not depend on the pieces that octets come in, and others read it the same way.

use domino_icm::edge::gate::{Gate, Limits, Refusal, Stage, Verdict, rewritten};

#[path = "../../../src/edge/gate/tests/streams.rs"]
mod streams;

/// A client's octets. The first one says in what pieces they come.
pub fn gate(data: &[u8]) {
    let limits = Limits { header_count: 16, header_bytes: 512, uri_bytes: 128 };
    let Some((seed, octets)) = data.split_first() else { return };
    let whole = streams::feed(octets, &limits, || usize::MAX);
    let mut state = usize::from(*seed);
    let pieces = streams::feed(octets, &limits, || {
        state = (state * 13 + 5) % 31;
        state / 4
    });
    assert_eq!(whole, pieces);
    streams::read_again(&whole);
}

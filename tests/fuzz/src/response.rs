//! The responses of a server: what is read does not depend on how the input is split into reads, a head that is written
//! reads as the same head, and no body is longer than declared.

use domino_icm::upstream::{raw_response_head, response_body, response_head};

#[path = "../../../src/upstream/tests/responses.rs"]
mod responses;

/// Feeds the bytes of a server; the first byte is the seed for the sizes of reads, and odd for requests with HEAD.
pub fn response(data: &[u8]) {
    let Some((seed, bytes)) = data.split_first() else { return };
    let is_head = seed % 2 == 1;
    let whole = responses::read(bytes, is_head, || usize::MAX);
    let mut state = usize::from(*seed);
    let pieces = responses::read(bytes, is_head, || {
        state = (state * 13 + 5) % 31;
        state / 4
    });
    assert_eq!(whole, pieces);
}

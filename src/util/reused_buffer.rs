//! A buffer for each thread that short texts are built in one after another, so that the heads of requests and responses
//! need no allocation and stay in the processor's cache.

use std::cell::Cell;

/// A larger buffer is not kept.
const MAX_KEPT: usize = 8 * 1024;
/// What most heads need.
const CAPACITY: usize = 1024;

thread_local! {
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The buffer of this thread, empty. A second one is allocated while the first is in use.
#[must_use]
pub fn take() -> Vec<u8> {
    let mut buffer = KEPT.take();
    buffer.clear();
    buffer.reserve(CAPACITY);
    buffer
}

/// Keeps a buffer for the next use on this thread.
pub fn give_back(buffer: Vec<u8>) {
    if (CAPACITY..=MAX_KEPT).contains(&buffer.capacity()) {
        KEPT.set(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_buffer_is_used_again_unless_it_is_in_use_or_large() {
        let mut first = take();
        first.extend_from_slice(b"secret");
        let at = first.as_ptr();
        let second = take();
        assert_ne!(second.as_ptr(), at);
        give_back(first);
        let again = take();
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        give_back(Vec::with_capacity(MAX_KEPT + 1));
        assert_eq!(take().capacity(), CAPACITY);
    }
}

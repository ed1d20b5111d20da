//! Interim responses (1xx) to HTTP/2 clients: a 103 lets a browser load resources while the server still works.
//!
//! Pingora drops them and does not expose the stream of a request. So the edge adds the stream number to each request as a
//! header field, removes it before the proxy sees the request, and writes the interim response itself between two frames of
//! the `h2` library. Its fields are literals without indexing (RFC 7541 section 6.2.2), which leave the HPACK tables of
//! both sides as they are.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Waker;

use pingora_http::{RequestHeader, ResponseHeader};

use super::frames::{END_HEADERS, HEADERS, MAX_FRAME_SIZE};

const STREAM_FIELD: &str = "x-icm-stream";
/// Bytes of interim responses that wait for a connection; more are dropped.
const MAX_PENDING_BYTES: usize = 64 * 1024;
const HPACK_LITERAL_NEW_NAME: u8 = 0x00;
/// A literal whose name is entry 8 of the static table, `:status`.
const HPACK_LITERAL_STATUS: u8 = 0x08;

/// The interim responses that wait for one connection.
#[derive(Debug, Default)]
pub struct InterimResponses {
    has_pending: AtomicBool,
    pending: Mutex<PendingFrames>,
}

#[derive(Debug, Default)]
struct PendingFrames {
    /// Streams and frames, in order.
    frames: Vec<(u32, Vec<u8>)>,
    bytes: usize,
    /// The task of the connection.
    waker: Option<Waker>,
}

impl InterimResponses {
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.has_pending.load(SeqCst)
    }

    /// Takes all frames, with their streams.
    pub fn take(&self) -> Vec<(u32, Vec<u8>)> {
        let mut pending = self.pending.lock();
        self.has_pending.store(false, SeqCst);
        pending.bytes = 0;
        std::mem::take(&mut pending.frames)
    }

    /// Wakes the connection when a frame is pushed, and at once if one is waiting.
    pub fn register(&self, waker: &Waker) {
        // Contended only by requests with interim responses.
        let mut pending = self.pending.lock();
        if !pending.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            pending.waker = Some(waker.clone());
        }
        if !pending.frames.is_empty() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn push(&self, stream: u32, frame: Vec<u8>) {
        let mut pending = self.pending.lock();
        if pending.bytes + frame.len() > MAX_PENDING_BYTES {
            return;
        }
        pending.bytes += frame.len();
        pending.frames.push((stream, frame));
        self.has_pending.store(true, SeqCst);
        if let Some(waker) = &pending.waker {
            waker.wake_by_ref();
        }
    }
}

/// Removes the stream number from a request, with any such field of the client's.
pub fn take_stream(request: &mut RequestHeader) -> Option<u32> {
    // The edge's field is the last.
    let stream = request.headers.get_all(STREAM_FIELD).iter().next_back()?.to_str().ok()?.parse().ok();
    request.remove_header(STREAM_FIELD);
    stream
}

/// The HPACK encoding of the field with the stream number.
#[must_use]
pub fn stream_field(stream: u32) -> Vec<u8> {
    let mut field = Vec::with_capacity(32);
    push_literal(&mut field, STREAM_FIELD.as_bytes(), stream.to_string().as_bytes());
    field
}

/// `None` if the head does not fit into one HEADERS frame.
pub(super) fn encode_headers_frame(stream: u32, head: &ResponseHeader) -> Option<Vec<u8>> {
    let mut block = vec![HPACK_LITERAL_STATUS];
    push_string(&mut block, head.status.as_str().as_bytes());
    for (name, value) in &head.headers {
        // Forbidden in HTTP/2 (RFC 9113 section 8.2.2).
        let is_connection_field = matches!(
            name.as_str(),
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
        );
        if !is_connection_field {
            push_literal(&mut block, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if block.len() > MAX_FRAME_SIZE {
        return None;
    }
    let [.., a, b, c] = block.len().to_be_bytes();
    Some([&[a, b, c, HEADERS, END_HEADERS], &stream.to_be_bytes()[..], &block].concat())
}

fn push_literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(HPACK_LITERAL_NEW_NAME);
    push_string(block, name);
    push_string(block, value);
}

/// A string without Huffman coding, after its length with a 7-bit prefix (RFC 7541 sections 5.1 and 5.2).
fn push_string(block: &mut Vec<u8>, text: &[u8]) {
    const PREFIX_MAX: usize = 0x7F;
    if text.len() < PREFIX_MAX {
        block.push(text.len() as u8);
    } else {
        block.push(PREFIX_MAX as u8);
        let mut rest = text.len() - PREFIX_MAX;
        while rest > 0x7F {
            block.push((rest & 0x7F) as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_response_is_one_frame_of_literals() {
        let mut head = ResponseHeader::build(103, None).unwrap();
        head.insert_header("Link", "</a.css>").unwrap();
        head.insert_header("Connection", "x").unwrap();
        let frame = encode_headers_frame(5, &head).unwrap();
        let block = [&[0x08, 3][..], b"103", &[0, 4], b"link", &[8], b"</a.css>"].concat();
        assert_eq!(frame[..9], [0, 0, block.len() as u8, HEADERS, END_HEADERS, 0, 0, 0, 5]);
        assert_eq!(frame[9..], block);
        head.insert_header("X", "y".repeat(MAX_FRAME_SIZE)).unwrap();
        assert_eq!(encode_headers_frame(5, &head), None);
    }

    #[test]
    fn a_length_is_an_integer_with_a_7_bit_prefix() {
        for (length, coded) in [
            (0, &[0][..]),
            (126, &[126]),
            (127, &[127, 0]),
            (254, &[127, 127]),
            (255, &[127, 128, 1]),
            (1337 + 127, &[127, 185, 10]),
        ] {
            let mut block = Vec::new();
            push_string(&mut block, &vec![b'x'; length]);
            assert_eq!(block[..coded.len()], *coded, "{length}");
            assert_eq!(block.len(), coded.len() + length);
        }
    }

    #[test]
    fn the_stream_number_is_removed_from_the_request_with_fields_of_the_client() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        assert_eq!(take_stream(&mut request), None);
        for number in ["7", "x", "9"] {
            request.append_header(STREAM_FIELD, number).unwrap();
        }
        assert_eq!(take_stream(&mut request), Some(9));
        assert!(request.headers.is_empty());
        assert!(stream_field(4_294_967_295).ends_with(b"\x0a4294967295"));
    }

    #[test]
    fn pending_frames_are_bounded_and_wake_the_connection() {
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.store(true, SeqCst);
            }
        }
        let woken = std::sync::Arc::new(Woken(AtomicBool::new(false)));
        let interims = InterimResponses::default();
        interims.register(&std::sync::Arc::clone(&woken).into());
        assert!(!woken.0.load(SeqCst) && !interims.has_pending());
        interims.push(1, vec![0; MAX_PENDING_BYTES]);
        assert!(woken.0.swap(false, SeqCst) && interims.has_pending());
        interims.push(3, vec![0]);
        let taken: Vec<u32> = interims.take().into_iter().map(|(stream, _)| stream).collect();
        assert!(taken == [1] && !interims.has_pending());
        interims.push(5, vec![0]);
        interims.register(&std::sync::Arc::clone(&woken).into());
        assert!(woken.0.load(SeqCst));
    }
}

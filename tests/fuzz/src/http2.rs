//! The reading side of an HTTP/2 connection: what reaches the library does not depend on how the input is split into
//! reads, and no input makes it panic.

use std::task::{Context, Poll, Waker};

use domino_icm::config::settings::Limits;
use domino_icm::edge::ClientLimits;
use domino_icm::edge::http2::Http2;
use tokio::io::ReadBuf;

/// The preface and an empty SETTINGS frame, which must precede other frames.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The bytes that reach the library; `None` if the connection is ended because of the input.
fn passed(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let client_limits = ClientLimits::from(&Limits::default());
    let (mut http2, mut out) = (Http2::default(), Vec::new());
    for mut piece in bytes.chunks(piece) {
        loop {
            let mut space = [0; 1000];
            let mut buf = ReadBuf::new(&mut space);
            match http2.poll_read(
                &mut piece,
                &mut Context::from_waker(Waker::noop()),
                &mut buf,
                &client_limits,
            ) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => break,
                Poll::Ready(Ok(())) => out.extend_from_slice(buf.filled()),
                Poll::Ready(Err(_)) => return None,
                Poll::Pending => break,
            }
        }
        let _ = http2.take_notices();
    }
    Some(out)
}

/// Feeds the frames of a client.
pub fn http2(data: &[u8]) {
    let bytes = [BEGINNING, data].concat();
    let whole = passed(&bytes, usize::MAX);
    for piece in [1, 7] {
        if let (Some(whole), Some(pieces)) = (&whole, passed(&bytes, piece)) {
            assert_eq!(*whole, pieces, "in pieces of {piece}");
        }
    }
}

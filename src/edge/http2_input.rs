//! The reading side of an HTTP/2 connection: bytes pass to the `h2` library as they are read, except that each header
//! block gets one more field.
//!
//! It is separate from [`super::http2`], which follows frames and changes none. A request gets its stream number, for
//! [`super::interim`]. A trailer section gets a leading field: without it, the library silently drops pseudo-header fields
//! in trailers, where RFC 9113 section 8.1 requires an error. It does refuse pseudo-header fields after regular ones.
//! Pingora forwards no request trailers, so the field goes no further.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::ClientLimits;
use super::frames::{FRAME_HEADER_LEN, FrameHeader, MAX_FRAME_SIZE};
use super::http2::Http2;
use super::interim;
use super::read_buffer::READ_CHUNK;

/// `t:` as a literal without indexing (RFC 7541 section 6.2.2), which leaves the HPACK tables as they are.
const TRAILER_GUARD_FIELD: [u8; 4] = [0x00, 0x01, b't', 0x00];

const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;

impl Http2 {
    /// Fills `buf` with bytes for the library. If it is empty when ready, there will be no more.
    ///
    /// # Errors
    /// When reading fails or the client violates the protocol.
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        client_limits: &ClientLimits,
    ) -> Poll<Result<()>> {
        let read = self.fill_input(stream, cx, buf, client_limits);
        if read.is_pending() {
            self.interims().register(cx.waker());
        }
        read
    }

    fn fill_input<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        client_limits: &ClientLimits,
    ) -> Poll<Result<()>> {
        loop {
            if self.buffered.readable > 0 {
                self.buffered.drain_into(buf);
                return Poll::Ready(Ok(()));
            }
            if self.buffered.bytes.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
                let read = buf.filled().get(before..).unwrap_or_default();
                let passed = self.track_read(read, client_limits)?;
                self.buffered.bytes.extend_from_slice(read.get(passed..).unwrap_or_default());
                let is_end = read.is_empty();
                buf.set_filled(before + passed);
                if passed > 0 || is_end {
                    return Poll::Ready(Ok(()));
                }
            } else if !self.check_buffered(client_limits)?
                && ready!(self.buffered.fill(stream, cx, READ_CHUNK))? == 0
            {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Determines how much of the buffer may be read. False if nothing may.
    fn check_buffered(&mut self, client_limits: &ClientLimits) -> Result<bool> {
        let bytes = std::mem::take(&mut self.buffered.bytes);
        self.buffered.bytes = match FrameHeader::parse(&bytes) {
            Some(head) if self.is_trailers(&head) || self.is_request(&head) => {
                self.rewrite_header_block(bytes, head, client_limits)?
            }
            _ => {
                self.buffered.readable = self.track_read(&bytes, client_limits)?;
                bytes
            }
        };
        Ok(self.buffered.readable > 0)
    }

    /// Adds a field to the HEADERS frame at the beginning of `bytes`, if the frame is complete.
    fn rewrite_header_block(
        &mut self,
        bytes: BytesMut,
        head: FrameHeader,
        client_limits: &ClientLimits,
    ) -> Result<BytesMut> {
        if head.length > MAX_FRAME_SIZE {
            return Err(Error::new(ErrorKind::InvalidData, "an HTTP/2 frame is too large"));
        }
        let Some((frame, rest)) = bytes.split_at_checked(FRAME_HEADER_LEN + head.length) else {
            self.expect_header_block(client_limits);
            return Ok(bytes);
        };
        let is_trailers = self.is_trailers(&head);
        self.track_frame(frame, client_limits)?;
        let rewritten = if is_trailers {
            insert_field(frame, head, fields_start(frame, head), &TRAILER_GUARD_FIELD)
                .ok_or_else(|| Error::new(ErrorKind::InvalidData, "HTTP/2 trailers are too large"))?
        } else {
            // Without the number, the request only gets no interim responses.
            insert_field(frame, head, fields_end(frame, head), &interim::stream_field(head.stream))
                .unwrap_or_else(|| frame.to_vec())
        };
        self.buffered.readable = rewritten.len();
        Ok(BytesMut::from_iter(rewritten.iter().chain(rest)))
    }
}

/// The HEADERS frame with a field inserted at byte `at`; `None` if it becomes too long.
fn insert_field(frame: &[u8], head: FrameHeader, at: usize, field: &[u8]) -> Option<Vec<u8>> {
    let length = head.length + field.len();
    let (before, after) = frame.split_at_checked(at).filter(|_| length <= MAX_FRAME_SIZE)?;
    let [.., a, b, c] = length.to_be_bytes();
    Some([&[a, b, c], before.get(3..)?, field, after].concat())
}

/// Where the first field begins, after table size updates, which must come first (RFC 7541 section 4.2).
fn fields_start(frame: &[u8], head: FrameHeader) -> usize {
    let mut at = FRAME_HEADER_LEN;
    if head.flags & FLAG_PADDED != 0 {
        at += 1;
    }
    if head.flags & FLAG_PRIORITY != 0 {
        at += 5;
    }
    while let Some(first) = frame.get(at).filter(|byte| **byte & 0xE0 == 0x20) {
        at += 1;
        if first & 0x1F == 0x1F {
            at += frame.iter().skip(at).take_while(|byte| **byte & 0x80 != 0).count() + 1;
        }
    }
    at
}

/// Where the last field ends and the padding begins.
fn fields_end(frame: &[u8], head: FrameHeader) -> usize {
    let padding = if head.flags & FLAG_PADDED != 0 {
        frame.get(FRAME_HEADER_LEN).copied().unwrap_or_default()
    } else {
        0
    };
    frame.len().saturating_sub(usize::from(padding)).max(fields_start(frame, head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS};
    use crate::edge::http2::tests::{client_limits, frame_of, with_bodies};
    use std::task::Waker;

    /// What the library reads when bytes come in pieces of this size.
    fn passed(http2: &mut Http2, bytes: &[u8], piece: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for mut piece in bytes.chunks(piece) {
            loop {
                let mut space = [0; 100];
                let mut buf = ReadBuf::new(&mut space);
                let mut cx = Context::from_waker(Waker::noop());
                match http2.poll_read(&mut piece, &mut cx, &mut buf, &client_limits()) {
                    Poll::Ready(done) => done?,
                    Poll::Pending => break,
                }
                if buf.filled().is_empty() {
                    break;
                }
                out.extend_from_slice(buf.filled());
            }
        }
        Ok(out)
    }

    const END: u8 = END_HEADERS | END_STREAM;

    #[tokio::test]
    async fn trailers_get_a_field_before_all_others_and_a_request_one_after_them() {
        let body = frame_of(1, DATA, 0, &[b'x'; 300]);
        let number = interim::stream_field(3);
        for (flags, block, first, last) in [
            (END, &[0x84][..], 0, 1),
            (END, &[], 0, 0),
            (END | FLAG_PADDED, &[2, 0x84, 0, 0], 1, 2),
            (END | FLAG_PRIORITY, &[0, 0, 0, 0, 9, 0x84], 5, 6),
            (END | FLAG_PADDED | FLAG_PRIORITY, &[1, 0, 0, 0, 0, 9, 0x84, 0], 6, 7),
            (END, &[0x20, 0x3f, 0xe1, 0x1f, 0x84], 4, 5),
            (END_HEADERS, &[0x84], 0, 1),
        ] {
            let with = |at: usize, field: &[u8]| {
                frame_of(3, HEADERS, flags, &[&block[..at], field, &block[at..]].concat())
            };
            let sent = [&body[..], &with(0, &[]), &body, &with(0, &[]), &body].concat();
            let expected =
                [&body[..], &with(last, &number), &body, &with(first, &TRAILER_GUARD_FIELD), &body].concat();
            for piece in [1, 2, 7, 64, 1_000_000] {
                let got = passed(&mut with_bodies(&[1]), &sent, piece).unwrap();
                assert_eq!(got, expected, "{flags} {block:?} in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_header_block_of_several_frames_gets_its_field_in_the_first_or_none() {
        let second = |stream| frame_of(stream, CONTINUATION, END_HEADERS, &[0x84]);
        let first = |stream, block: &[u8]| frame_of(stream, HEADERS, END_STREAM, block);
        let sent = [first(3, &[0x82]), second(3), first(1, &[0x84]), second(1)].concat();
        let rewritten = [&TRAILER_GUARD_FIELD[..], &[0x84]].concat();
        let expected = [first(3, &[0x82]), second(3), first(1, &rewritten), second(1)].concat();
        for piece in [1, 5, 1_000_000] {
            assert_eq!(passed(&mut with_bodies(&[1]), &sent, piece).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn trailers_that_fill_a_frame_end_the_connection_and_a_request_passes_without_its_number() {
        let large = frame_of(1, HEADERS, END, &[0x84; MAX_FRAME_SIZE - 3]);
        assert!(passed(&mut with_bodies(&[1]), &large, 1_000_000).is_err());
        assert_eq!(passed(&mut with_bodies(&[]), &large, 1_000_000).unwrap(), large);
        // A frame over the limit is not buffered.
        assert!(passed(&mut with_bodies(&[]), &[0xFF, 0, 0, HEADERS, END, 0, 0, 0, 1], 1).is_err());
    }
}

//! Bytes of a client that were read but not yet passed to Pingora: an incomplete head (HTTP/1.1) or frame (HTTP/2), or a
//! pipelined request. Both protocols use it.

use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// The most that one read adds to the buffer.
pub const READ_CHUNK: usize = 4 * 1024;

#[derive(Debug, Default)]
pub struct ReadBuffer {
    pub bytes: BytesMut,
    /// How many of the first bytes may be passed on.
    pub readable: usize,
}

impl ReadBuffer {
    /// Passes on what may go, and frees the memory when the buffer is empty.
    pub fn drain_into(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.readable.min(buf.remaining());
        buf.put_slice(self.bytes.get(..length).unwrap_or_default());
        self.bytes.advance(length);
        self.readable -= length;
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }

    /// Takes what may go, without a copy.
    pub fn take_readable(&mut self) -> Bytes {
        let readable = std::mem::take(&mut self.readable);
        if readable >= self.bytes.len() {
            return std::mem::take(&mut self.bytes).freeze();
        }
        self.bytes.split_to(readable).freeze()
    }

    /// Appends at most `room` bytes and returns how many it has read: 0 at the end of the stream.
    ///
    /// # Errors
    /// When reading fails, or `room` is more than [`READ_CHUNK`].
    pub fn fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Result<usize>> {
        let mut piece = [MaybeUninit::uninit(); READ_CHUNK];
        let piece = piece.get_mut(..room).ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        let mut buf = ReadBuf::uninit(piece);
        ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
        self.bytes.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }
}

//! Bytes of a client that were read and have not been given out: the beginning of something that must be seen as a
//! whole, a head in HTTP/1.1 and a frame in HTTP/2, or what was sent ahead.

use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that are read at once behind what is held.
pub const READ_CHUNK: usize = 4 * 1024;

/// See the module's description.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    /// In the order in which they were read.
    pub bytes: BytesMut,
    /// How many of them may be given out.
    pub readable: usize,
}

impl ReadBuffer {
    /// Gives out what may go of what is held, and the memory when nothing is left.
    pub fn drain_into(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.readable.min(buf.remaining());
        buf.put_slice(self.bytes.get(..length).unwrap_or_default());
        self.bytes.advance(length);
        self.readable -= length;
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }

    /// Reads at most `room` bytes behind what is held; `room` is at most [`READ_CHUNK`]. Returns how many came: 0 at the end
    /// of what the client sends.
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

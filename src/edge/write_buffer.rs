//! Buffers small writes until the next flush, so that a response's head and body leave in one TLS record and one system
//! call.
//!
//! `tokio::io::BufWriter` would write a full buffer and the next chunk separately; this writes both in one vectored write,
//! the chunk without a copy.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// One TCP segment: copying more costs more than another write.
const MAX_BUFFERED: usize = 1460;
/// Slices of one vectored write beside the buffer; Pingora writes a chunk in three.
const MAX_SLICES: usize = 8;

#[derive(Debug, Default)]
pub struct WriteBuffer {
    buffered: Vec<u8>,
    /// How much of `buffered` was written.
    written_len: usize,
}

impl WriteBuffer {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// Takes what was not written.
    pub fn take(&mut self) -> Vec<u8> {
        let mut buffered = std::mem::take(&mut self.buffered);
        buffered.drain(..std::mem::take(&mut self.written_len).min(buffered.len()));
        buffered
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffered.is_empty()
    }

    /// Not empty, and nothing of it was written: no write is unwritten for the client.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        !self.buffered.is_empty() && self.written_len == 0
    }

    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.buffered.len() + bytes <= MAX_BUFFERED {
            self.buffered.reserve_exact(MAX_BUFFERED - self.buffered.len());
            bufs.iter().for_each(|buf| self.buffered.extend_from_slice(buf));
            return Poll::Ready(Ok(bytes));
        }
        loop {
            let unwritten = self.buffered.get(self.written_len..).unwrap_or_default();
            if unwritten.is_empty() {
                self.clear();
                return match bufs {
                    [one] => Pin::new(stream).poll_write(cx, one),
                    _ => Pin::new(stream).poll_write_vectored(cx, bufs),
                };
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES + 1];
            let all = std::iter::once(IoSlice::new(unwritten)).chain(bufs.iter().copied());
            slices.iter_mut().zip(all).for_each(|(slice, buf)| *slice = buf);
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?;
            let written_of_bufs = written.saturating_sub(unwritten.len());
            self.advance(written)?;
            if written_of_bufs > 0 {
                return Poll::Ready(Ok(written_of_bufs));
            }
        }
    }

    pub fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        ready!(self.poll_drain(stream, cx))?;
        Pin::new(stream).poll_flush(cx)
    }

    /// Writes the whole buffer without a flush of the stream.
    pub fn poll_drain<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        loop {
            let unwritten = self.buffered.get(self.written_len..).unwrap_or_default();
            if unwritten.is_empty() {
                self.clear();
                return Poll::Ready(Ok(()));
            }
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, unwritten))?;
            self.advance(written)?;
        }
    }

    fn advance(&mut self, written: usize) -> Result<()> {
        if written == 0 {
            return Err(Error::from(ErrorKind::WriteZero));
        }
        self.written_len = (self.written_len + written).min(self.buffered.len());
        Ok(())
    }

    /// Keeps the capacity for the next response.
    fn clear(&mut self) {
        self.buffered.clear();
        self.written_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Accepts this many bytes per write, and records the writes.
    struct RecordedWrites(usize, Vec<Vec<u8>>);

    impl AsyncWrite for RecordedWrites {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
            let bytes = buf.len().min(self.0);
            self.1.push(buf[..bytes].to_vec());
            Poll::Ready(Ok(bytes))
        }
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            let all = bufs.iter().flat_map(|buf| buf.iter().copied());
            let all: Vec<u8> = all.take(self.0).collect();
            self.poll_write(cx, &all)
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// Writes the pieces, each as two slices, and flushes. Returns the writes that reached the stream.
    fn written(pieces: &[Vec<u8>], per_write: usize) -> Vec<Vec<u8>> {
        let (mut stream, mut buffer) = (RecordedWrites(per_write, Vec::new()), WriteBuffer::default());
        for piece in pieces {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let (a, b) = rest.split_at(rest.len() / 3);
                let bufs = [IoSlice::new(a), IoSlice::new(b)];
                let Poll::Ready(bytes) = buffer.poll_write(&mut stream, &mut cx(), &bufs) else { panic!() };
                rest = &rest[bytes.unwrap()..];
            }
        }
        assert!(buffer.poll_flush(&mut stream, &mut cx()).is_ready());
        assert!(buffer.take().is_empty());
        stream.1
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| n as u8).collect()
    }

    #[test]
    fn a_head_and_its_body_are_one_write_whatever_the_size_of_the_body() {
        for body in [0, 1, 1000, 1460, 1461, 300_000] {
            let writes = written(&[bytes(300), bytes(body)], usize::MAX);
            assert_eq!(writes, [[bytes(300), bytes(body)].concat()], "{body}");
        }
    }

    #[test]
    fn all_bytes_arrive_in_order_when_writes_are_partial() {
        let pieces = [bytes(300), bytes(70_000), bytes(7), bytes(5000), bytes(1400)];
        for per_write in [1, 7, 299, 300, 301, 1460, 65_536, usize::MAX] {
            assert!(written(&pieces, per_write).concat() == pieces.concat(), "{per_write}");
        }
    }

    #[test]
    fn unwritten_bytes_can_be_taken() {
        let (mut stream, mut buffer) = (RecordedWrites(2, Vec::new()), WriteBuffer::default());
        let bufs = [IoSlice::new(b"abc")];
        assert!(buffer.poll_write(&mut stream, &mut cx(), &bufs).is_ready());
        assert!(stream.1.is_empty(), "small writes are buffered");
        assert_eq!(buffer.take(), b"abc");
        assert!(buffer.take().is_empty());
    }
}

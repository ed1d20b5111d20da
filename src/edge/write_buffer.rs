//! What goes to a client waits a moment, so that an answer's head leaves together with its body: one record of TLS,
//! one system call, one wake-up of the client.
//!
//! In: writes as Pingora makes them. Out: the same octets in the same order. Little is held until a flush or until more
//! comes than it holds; that goes without a copy, behind what was held. It never holds anything past a flush.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Octets that are held at most: what fits into one segment of TCP is worth a copy.
const MAX_BUFFERED: usize = 1460;
/// Parts that leave with what was held; Pingora writes a chunk in three.
const MAX_PARTS: usize = 8;

/// See the module's description.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    buffered: Vec<u8>,
    /// How much of it has left.
    written_len: usize,
}

impl WriteBuffer {
    /// Holds these bytes until the next write or flush.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// Takes what was held and has not left.
    pub fn take(&mut self) -> Vec<u8> {
        let mut buffered = std::mem::take(&mut self.buffered);
        buffered.drain(..std::mem::take(&mut self.written_len).min(buffered.len()));
        buffered
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffered.is_empty()
    }

    /// Something is held, and nothing of it has left: the client reads as fast as we write.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        !self.buffered.is_empty() && self.written_len == 0
    }

    /// As `AsyncWrite::poll_write_vectored`.
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
            let waiting = self.buffered.get(self.written_len..).unwrap_or_default();
            if waiting.is_empty() {
                self.clear();
                return match bufs {
                    [one] => Pin::new(stream).poll_write(cx, one),
                    _ => Pin::new(stream).poll_write_vectored(cx, bufs),
                };
            }
            let mut parts = [IoSlice::new(&[]); MAX_PARTS + 1];
            let all = std::iter::once(IoSlice::new(waiting)).chain(bufs.iter().copied());
            parts.iter_mut().zip(all).for_each(|(part, buf)| *part = buf);
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &parts))?;
            let beyond = written.saturating_sub(waiting.len());
            self.advance(written)?;
            if beyond > 0 {
                return Poll::Ready(Ok(beyond));
            }
        }
    }

    /// As `AsyncWrite::poll_flush`.
    pub fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        ready!(self.poll_drain(stream, cx))?;
        Pin::new(stream).poll_flush(cx)
    }

    /// Ready when nothing is held any more.
    pub fn poll_drain<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        loop {
            let waiting = self.buffered.get(self.written_len..).unwrap_or_default();
            if waiting.is_empty() {
                self.clear();
                return Poll::Ready(Ok(()));
            }
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, waiting))?;
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

    /// The room stays for the next answer.
    fn clear(&mut self) {
        self.buffered.clear();
        self.written_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many octets at a time, and remembers each write.
    struct Slow(usize, Vec<Vec<u8>>);

    impl AsyncWrite for Slow {
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

    /// Writes all of it, in two parts each time, and flushes. Out: the writes that reached the stream.
    fn written(pieces: &[Vec<u8>], at_once: usize) -> Vec<Vec<u8>> {
        let (mut stream, mut outgoing) = (Slow(at_once, Vec::new()), WriteBuffer::default());
        for piece in pieces {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let (a, b) = rest.split_at(rest.len() / 3);
                let bufs = [IoSlice::new(a), IoSlice::new(b)];
                let Poll::Ready(bytes) = outgoing.poll_write(&mut stream, &mut cx(), &bufs) else { panic!() };
                rest = &rest[bytes.unwrap()..];
            }
        }
        assert!(outgoing.poll_flush(&mut stream, &mut cx()).is_ready());
        assert!(outgoing.take().is_empty());
        stream.1
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| n as u8).collect()
    }

    #[test]
    fn a_head_leaves_with_its_body_in_one_write_however_large_the_body() {
        for body in [0, 1, 1000, 1460, 1461, 300_000] {
            let writes = written(&[bytes(300), bytes(body)], usize::MAX);
            assert_eq!(writes, [[bytes(300), bytes(body)].concat()], "{body}");
        }
    }

    #[test]
    fn all_bytes_arrive_in_order_whatever_a_write_takes() {
        let pieces = [bytes(300), bytes(70_000), bytes(7), bytes(5000), bytes(1400)];
        for at_once in [1, 7, 299, 300, 301, 1460, 65_536, usize::MAX] {
            assert!(written(&pieces, at_once).concat() == pieces.concat(), "{at_once}");
        }
    }

    #[test]
    fn what_was_held_and_has_not_left_can_be_taken() {
        let (mut stream, mut outgoing) = (Slow(2, Vec::new()), WriteBuffer::default());
        let bufs = [IoSlice::new(b"abc")];
        assert!(outgoing.poll_write(&mut stream, &mut cx(), &bufs).is_ready());
        assert!(stream.1.is_empty(), "little is held");
        assert_eq!(outgoing.take(), b"abc");
        assert!(outgoing.take().is_empty());
    }
}

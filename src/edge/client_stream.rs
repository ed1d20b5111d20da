//! A client's connection as Pingora sees it: the strict gate, the deadlines and the rates are in here.
//!
//! In: a connection, with or without TLS, and the rules for it. Out: Pingora's `IO`, behind which no request
//! arrives that is not clean and none that comes too slowly. What is refused is answered here and nobody
//! behind this hears of it; the rest of the connection's life then is a read error and lost writes. Little that is
//! written may leave after its flush: when this is next asked for input, for the next request, or to close.

use std::future::poll_fn;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use pingora::protocols::{GetSocketDigest, IO};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http1::{Http1, ReadEnd};
use super::http2::Http2;
use super::pending_responses::PendingResponses;
use super::response_windows::Overdue;
use super::tcp::{WriteCounter, tcp_ack_progress};
use super::timeouts::{AckTracker, MinRateBudget, Timer};
use super::write_buffer::WriteBuffer;
use super::{ClientLimits, ListenerContext, lingering_close};
use crate::edge::gate::Refusal;

#[derive(Debug)]
enum Protocol {
    Http1(Http1),
    Http2(Box<Http2>),
}

/// See the module's description.
#[derive(Debug)]
pub struct ClientStream<S: IO + 'static> {
    /// Gone once the connection was refused.
    pub(super) stream: Option<S>,
    protocol: Protocol,
    pub(super) client_limits: ClientLimits,
    pub(super) context: Arc<ListenerContext>,
    pub(super) timer: Timer,
    pub(super) write_budget: MinRateBudget,
    pub(super) acks: AckTracker,
    /// What the system has taken, and how much of it was seen; nothing where the stream takes by itself.
    pub(super) written: Option<(WriteCounter, u64)>,
    /// Of HTTP/1.1: what speaks HTTP/2 has a buffer of its own, and only notices of ours are held here.
    write_buffer: WriteBuffer,
    /// What is held was flushed, and leaves when this is next asked for anything.
    flush_is_deferred: bool,
}

impl<S: IO + 'static> ClientStream<S> {
    /// A connection that speaks HTTP/1.1.
    pub fn http1(stream: S, client_limits: ClientLimits, context: Arc<ListenerContext>) -> Self {
        Self::new(stream, Protocol::Http1(Http1::default()), client_limits, context)
    }

    /// A connection that speaks HTTP/2, and whose answers wait here.
    pub fn http2(
        stream: S,
        client_limits: ClientLimits,
        context: Arc<ListenerContext>,
        waiting: Arc<PendingResponses>,
    ) -> Self {
        Self::new(stream, Protocol::Http2(Box::new(Http2::new(waiting))), client_limits, context)
    }

    fn new(
        stream: S,
        protocol: Protocol,
        client_limits: ClientLimits,
        context: Arc<ListenerContext>,
    ) -> Self {
        Self {
            stream: Some(stream),
            protocol,
            client_limits,
            context,
            timer: Timer::default(),
            write_budget: MinRateBudget::default(),
            acks: AckTracker::default(),
            written: None,
            write_buffer: WriteBuffer::default(),
            flush_is_deferred: false,
        }
    }

    /// On a stream that hands what it takes to the system, which counts it here.
    #[must_use]
    pub fn with_write_counter(mut self, written: WriteCounter) -> Self {
        let seen = written.bytes();
        self.written = Some((written, seen));
        self
    }

    /// The answer is complete: on to the next request, by the rules as they are now. False when there cannot
    /// be one.
    pub fn next_request(&mut self, client_limits: ClientLimits) -> bool {
        self.client_limits = client_limits;
        match &mut self.protocol {
            Protocol::Http1(http1) => self.stream.is_some() && http1.next_request(&self.client_limits),
            Protocol::Http2(_) => false,
        }
    }

    /// The answer has left, with those of others. False when it could not.
    pub async fn flush_deferred(&mut self) -> bool {
        if self.flush_is_deferred {
            if let Some(coalescer) = &self.context.coalescer {
                coalescer.coalesce_writes().await;
            }
            return poll_fn(|cx| self.poll_deferred_flush(cx)).await.is_ok();
        }
        true
    }

    /// Ready when nothing is held any more. Whoever asks for input has nothing to add for now.
    fn poll_deferred_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.flush_is_deferred && self.write_buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(Self::aborted())) };
        let result = self.write_buffer.poll_flush(stream, cx);
        self.flush_is_deferred = result.is_pending();
        self.enforce_min_rate(cx, result, |()| 0)
    }

    /// What is held may leave a moment later: it is little, the client keeps up, and somebody is sure to come back.
    fn may_defer_flush(&self) -> bool {
        matches!(&self.protocol, Protocol::Http1(http1) if http1.awaits_response_only())
            && self.write_buffer.is_unsent()
            && self.context.coalescer.as_ref().is_some_and(|coalescer| coalescer.is_active())
    }

    /// Waits for the next request's head. False when there will be none; whoever must hear why has heard it.
    pub async fn wait_for_head(&mut self) -> bool {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (Some(stream), Protocol::Http1(http1)) = (&mut self.stream, &mut self.protocol) else {
            return Poll::Ready(false);
        };
        let read = ready!(http1.poll_head(stream, cx, &self.client_limits, &mut self.timer));
        if let Ok(Err(ReadEnd::Refused(refusal, can_be_told))) = read {
            self.reject(refusal, can_be_told);
        }
        Poll::Ready(matches!(read, Ok(Ok(()))))
    }

    fn reject(&mut self, refusal: Refusal, can_be_told: bool) -> Error {
        let unseen = matches!(&self.protocol, Protocol::Http1(http1) if http1.is_in_head());
        let client = self.get_socket_digest();
        self.context.count_refused(&refusal, client.as_deref().filter(|_| unseen));
        match self.stream.take() {
            Some(stream) if can_be_told => {
                let mut last = self.write_buffer.take();
                last.extend(refusal.response());
                lingering_close::close_in_background(stream, last);
            }
            Some(stream) => self.close(stream),
            None => {}
        }
        Error::new(ErrorKind::InvalidData, refusal.reason)
    }

    /// Closes the connection. What was written and not flushed goes if it can go at once, what is owed in any case.
    fn close(&mut self, mut stream: S) {
        let flushed = self.write_buffer.poll_flush(&mut stream, &mut Context::from_waker(Waker::noop()));
        if self.flush_is_deferred && flushed.is_pending() {
            lingering_close::close_in_background(stream, self.write_buffer.take());
        }
    }

    /// So many octets of these were written. They may have given the client its turn, when nobody reads for now:
    /// then this sees that somebody is woken when it has lasted too long.
    fn frames_written<'b>(
        &mut self,
        cx: &mut Context<'_>,
        bufs: impl Iterator<Item = &'b [u8]>,
        mut written: usize,
    ) {
        let (Protocol::Http2(http2), Some(stream)) = (&mut self.protocol, &self.stream) else { return };
        for buf in bufs {
            let part = buf.get(..written).unwrap_or(buf);
            http2.track_written(part, &self.client_limits);
            written -= part.len();
        }
        let overdue =
            http2.poll_timeout(cx, &self.client_limits, &mut self.timer, || tcp_ack_progress(stream.id()));
        if overdue.is_ready() {
            // Who reads next ends it.
            cx.waker().wake_by_ref();
        }
    }

    /// What the client must hear between two frames goes before the next.
    fn buffer_notices(&mut self) {
        if let Protocol::Http2(http2) = &mut self.protocol
            && let Some(notices) = http2.take_notices()
        {
            self.write_buffer.push(&notices);
        }
    }

    /// The client of an HTTP/2 connection has sent nothing for now.
    fn poll_overdue(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let (Protocol::Http2(http2), Some(stream)) = (&mut self.protocol, &self.stream) else {
            return Poll::Pending;
        };
        let look = || tcp_ack_progress(stream.id());
        let overdue = ready!(http2.poll_timeout(cx, &self.client_limits, &mut self.timer, look));
        self.context.count_too_slow();
        match overdue {
            Overdue::Stream(stream) => {
                http2.reset_stream(stream);
                http2.read_injected(buf);
                Poll::Ready(Ok(()))
            }
            Overdue::Connection => Poll::Ready(Err(Error::from(ErrorKind::TimedOut))),
        }
    }

    fn aborted() -> Error {
        Error::from(ErrorKind::ConnectionAborted)
    }
}

impl<S: IO + 'static> AsyncRead for ClientStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.buffer_notices();
        if let Poll::Ready(Err(error)) = this.poll_deferred_flush(cx) {
            return Poll::Ready(Err(error));
        }
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(Self::aborted())) };
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match &mut this.protocol {
            Protocol::Http1(http1) => {
                match ready!(http1.poll_read(stream, cx, buf, &this.client_limits, &mut this.timer))? {
                    Ok(()) | Err(ReadEnd::Eof) => Poll::Ready(Ok(())),
                    Err(ReadEnd::Refused(refusal, can_be_told)) => {
                        Poll::Ready(Err(this.reject(refusal, can_be_told)))
                    }
                }
            }
            Protocol::Http2(http2) => {
                if http2.read_injected(buf) {
                    return Poll::Ready(Ok(()));
                }
                match http2.poll_read(stream, cx, buf, &this.client_limits) {
                    Poll::Pending => this.poll_overdue(cx, buf),
                    read => read,
                }
            }
        }
    }
}

impl<S: IO + 'static> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        this.buffer_notices();
        // The client has heard something else.
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(Self::aborted())) };
        let result = match &mut this.protocol {
            Protocol::Http1(http1) => {
                let result = this.write_buffer.poll_write(stream, cx, &[IoSlice::new(buf)]);
                if matches!(result, Poll::Ready(Ok(1..))) {
                    http1.track_written(buf);
                }
                result
            }
            Protocol::Http2(http2) => {
                let buf = http2.write_limit().and_then(|limit| buf.get(..limit)).unwrap_or(buf);
                let result = if this.write_buffer.is_empty() {
                    Pin::new(stream).poll_write(cx, buf)
                } else {
                    this.write_buffer.poll_write(stream, cx, &[IoSlice::new(buf)])
                };
                if let Poll::Ready(Ok(written @ 1..)) = &result {
                    this.frames_written(cx, std::iter::once(buf), *written);
                }
                result
            }
        };
        this.enforce_min_rate(cx, result, |bytes| *bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        if let Protocol::Http2(http2) = &self.protocol
            && http2.write_limit().is_some()
        {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        let this = self.get_mut();
        this.buffer_notices();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(Self::aborted())) };
        let result = match &mut this.protocol {
            Protocol::Http1(http1) => {
                let result = this.write_buffer.poll_write(stream, cx, bufs);
                if matches!(result, Poll::Ready(Ok(1..))) {
                    http1.track_written(bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| b));
                }
                result
            }
            Protocol::Http2(_) => {
                let result = if this.write_buffer.is_empty() {
                    Pin::new(stream).poll_write_vectored(cx, bufs)
                } else {
                    this.write_buffer.poll_write(stream, cx, bufs)
                };
                if let Poll::Ready(Ok(written @ 1..)) = &result {
                    this.frames_written(cx, bufs.iter().map(|buf| &**buf), *written);
                }
                result
            }
        };
        this.enforce_min_rate(cx, result, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.buffer_notices();
        if this.stream.is_some() && this.may_defer_flush() {
            this.flush_is_deferred = true;
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(Self::aborted())) };
        let result = this.write_buffer.poll_flush(stream, cx);
        this.enforce_min_rate(cx, result, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
        let result = match this.write_buffer.poll_drain(stream, cx) {
            Poll::Ready(Ok(())) => Pin::new(stream).poll_shutdown(cx),
            other => other,
        };
        this.enforce_min_rate(cx, result, |()| 0)
    }
}

impl<S: IO + 'static> Drop for ClientStream<S> {
    fn drop(&mut self) {
        let http1 = match &self.protocol {
            Protocol::Http1(http1) => http1,
            Protocol::Http2(http2) => return http2.close(),
        };
        let Some(stream) = self.stream.take() else { return };
        if http1.has_unread_input() {
            lingering_close::close_in_background(stream, self.write_buffer.take());
        } else {
            self.close(stream);
        }
    }
}

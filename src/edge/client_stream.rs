//! A client's connection as Pingora sees it, with the gate, the deadlines and the minimum rates inside.
//!
//! It responds to a refused request itself; Pingora then gets a read error, and its writes fail. A small response may be
//! sent later than its flush: with the next read, the next request, or the close.

use std::future::poll_fn;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use pingora::protocols::{GetSocketDigest, IO};
use pingora_http::RequestHeader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http1::{Http1, ReadEnd};
use super::http2::Http2;
use super::pending_responses::PendingResponses;
use super::raw_request::RawRequest;
use super::response_windows::Overdue;
use super::tcp::{WriteCounter, tcp_ack_progress};
use super::timeouts::{AckTracker, MinRateBudget, Timer};
use super::write_buffer::WriteBuffer;
use super::{ClientLimits, ListenerContext, lingering_close};
use crate::edge::gate::Refusal;

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the small variant belongs to the larger connections")]
enum Protocol {
    Http1(Http1),
    Http2(Box<Http2>),
}

#[derive(Debug)]
pub struct ClientStream<S: IO + 'static> {
    /// `None` after a refusal or a timeout.
    pub(super) stream: Option<S>,
    protocol: Protocol,
    pub(super) client_limits: ClientLimits,
    pub(super) context: Arc<ListenerContext>,
    pub(super) timer: Timer,
    pub(super) write_budget: MinRateBudget,
    pub(super) acks: AckTracker,
    /// The bytes that the kernel has accepted, and how many of them are counted; `None` without TCP (tests).
    pub(super) written: Option<(WriteCounter, u64)>,
    /// HTTP/2 responses have the library's buffer; only frames of our own go through this one.
    write_buffer: WriteBuffer,
    /// `write_buffer` was flushed by Pingora but not yet written.
    flush_is_deferred: bool,
}

impl<S: IO + 'static> ClientStream<S> {
    pub fn http1(stream: S, client_limits: ClientLimits, context: Arc<ListenerContext>) -> Self {
        Self::new(stream, Protocol::Http1(Http1::default()), client_limits, context)
    }

    pub fn http2(
        stream: S,
        client_limits: ClientLimits,
        context: Arc<ListenerContext>,
        pending: Arc<PendingResponses>,
    ) -> Self {
        Self::new(stream, Protocol::Http2(Box::new(Http2::new(pending))), client_limits, context)
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

    /// Measures the minimum rate by what the kernel accepts instead of what a TLS stream buffers.
    #[must_use]
    pub fn with_write_counter(mut self, written: WriteCounter) -> Self {
        let counted = written.bytes();
        self.written = Some((written, counted));
        self
    }

    /// Prepares for the next request, with the current limits. False if the connection cannot carry another.
    pub fn next_request(&mut self, client_limits: ClientLimits) -> bool {
        self.client_limits = client_limits;
        match &mut self.protocol {
            Protocol::Http1(http1) => self.stream.is_some() && http1.next_request(&self.client_limits),
            Protocol::Http2(_) => false,
        }
    }

    /// Writes a deferred response, together with those of other connections. False if that fails.
    pub async fn flush_deferred(&mut self) -> bool {
        if self.flush_is_deferred {
            if let Some(coalescer) = &self.context.coalescer {
                coalescer.coalesce_writes().await;
            }
            return poll_fn(|cx| self.poll_deferred_flush(cx)).await.is_ok();
        }
        true
    }

    fn poll_deferred_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.flush_is_deferred && self.write_buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(Self::aborted())) };
        let result = self.write_buffer.poll_flush(stream, cx);
        self.flush_is_deferred = result.is_pending();
        self.enforce_min_rate(cx, result, |()| 0)
    }

    /// A flush may be deferred if the response is small, the client keeps up, and Pingora is certain to read again.
    fn may_defer_flush(&self) -> bool {
        matches!(&self.protocol, Protocol::Http1(http1) if http1.awaits_response_only())
            && self.write_buffer.is_unsent()
            && self.context.coalescer.as_ref().is_some_and(|coalescer| coalescer.is_active())
    }

    /// Waits for the next request's head. False if none comes; an error response was then sent if one was due.
    pub async fn wait_for_head(&mut self) -> bool {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    /// Whether the heads of plain requests can be taken, from the next one on.
    pub fn record_heads(&mut self, is_on: bool) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.record_heads(is_on);
        }
    }

    /// Takes the head for which [`Self::wait_for_head`] has waited, if its request is plain.
    pub fn take_plain_head(&mut self) -> Option<(Arc<RawRequest>, RequestHeader)> {
        let Protocol::Http1(http1) = &mut self.protocol else { return None };
        let (head, record) = http1.take_plain_head()?;
        let raw = Arc::new(RawRequest::new(head, record));
        let header = raw.header();
        if header.is_none() {
            http1.put_back_head(raw.head());
        }
        header.map(|header| (raw, header))
    }

    /// Buffers bytes of a response, to be written with the next write, flush or read.
    pub fn buffer(&mut self, bytes: &[u8]) {
        if let Protocol::Http1(http1) = &mut self.protocol {
            http1.track_written(bytes);
        }
        self.write_buffer.push(bytes);
    }

    /// As `poll_flush`, but never deferred: for a response that goes on.
    pub fn poll_flush_now(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(Self::aborted())) };
        let result = self.write_buffer.poll_flush(stream, cx);
        self.flush_is_deferred &= result.is_pending();
        self.enforce_min_rate(cx, result, |()| 0)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let (Some(stream), Protocol::Http1(http1)) = (&mut self.stream, &mut self.protocol) else {
            return Poll::Ready(false);
        };
        let read = ready!(http1.poll_head(stream, cx, &self.client_limits, &mut self.timer));
        if let Ok(Err(ReadEnd::Refused(refusal, can_respond))) = read {
            self.reject(refusal, can_respond);
        }
        Poll::Ready(matches!(read, Ok(Ok(()))))
    }

    fn reject(&mut self, refusal: Refusal, can_respond: bool) -> Error {
        // The proxy logs requests whose head has passed.
        let unlogged = matches!(&self.protocol, Protocol::Http1(http1) if http1.is_in_head());
        let client = self.get_socket_digest();
        self.context.count_refused(&refusal, client.as_deref().filter(|_| unlogged));
        match self.stream.take() {
            Some(stream) if can_respond => {
                let mut last = self.write_buffer.take();
                last.extend(refusal.response());
                lingering_close::close_in_background(stream, last);
            }
            Some(stream) => self.close(stream),
            None => {}
        }
        Error::new(ErrorKind::InvalidData, refusal.reason)
    }

    /// Closes the connection. A deferred response is still written; other buffered bytes only if that needs no wait.
    fn close(&mut self, mut stream: S) {
        let flushed = self.write_buffer.poll_flush(&mut stream, &mut Context::from_waker(Waker::noop()));
        if self.flush_is_deferred && flushed.is_pending() {
            lingering_close::close_in_background(stream, self.write_buffer.take());
        }
    }

    /// Follows the first `written` bytes of these. They may start a deadline of the client, so the timer is polled too.
    fn frames_written(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>], mut written: usize) {
        let (Protocol::Http2(http2), Some(stream)) = (&mut self.protocol, &self.stream) else { return };
        for buf in bufs {
            let part = buf.get(..written).unwrap_or(buf);
            http2.track_written(part, &self.client_limits);
            written -= part.len();
        }
        let overdue =
            http2.poll_timeout(cx, &self.client_limits, &mut self.timer, || tcp_ack_progress(stream.id()));
        if overdue.is_ready() {
            // The next read ends the connection.
            cx.waker().wake_by_ref();
        }
    }

    /// Queues frames of our own, which may go only between two of the library's.
    fn buffer_notices(&mut self) {
        if let Protocol::Http2(http2) = &mut self.protocol
            && let Some(notices) = http2.take_notices()
        {
            self.write_buffer.push(&notices);
        }
    }

    /// Checks the deadlines of HTTP/2 when there is nothing to read.
    fn poll_overdue(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let (Protocol::Http2(http2), Some(stream)) = (&mut self.protocol, &self.stream) else {
            return Poll::Pending;
        };
        let ack_progress = || tcp_ack_progress(stream.id());
        let overdue = ready!(http2.poll_timeout(cx, &self.client_limits, &mut self.timer, ack_progress));
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

    fn write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        self.buffer_notices();
        // `None`: an error response was already sent.
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(Self::aborted())) };
        let result = match &mut self.protocol {
            Protocol::Http1(http1) => {
                let result = self.write_buffer.poll_write(stream, cx, bufs);
                if matches!(result, Poll::Ready(Ok(1..))) {
                    http1.track_written(first_non_empty(bufs));
                }
                result
            }
            Protocol::Http2(http2) => {
                let limited = http2.write_limit().map(|limit| {
                    let first = first_non_empty(bufs);
                    [IoSlice::new(first.get(..limit).unwrap_or(first))]
                });
                let bufs = limited.as_ref().map_or(bufs, |first| &first[..]);
                let result = match bufs {
                    _ if !self.write_buffer.is_empty() => self.write_buffer.poll_write(stream, cx, bufs),
                    [one] => Pin::new(stream).poll_write(cx, one),
                    _ => Pin::new(stream).poll_write_vectored(cx, bufs),
                };
                if let Poll::Ready(Ok(written @ 1..)) = &result {
                    self.frames_written(cx, bufs, *written);
                }
                result
            }
        };
        self.enforce_min_rate(cx, result, |bytes| *bytes)
    }

    fn aborted() -> Error {
        Error::from(ErrorKind::ConnectionAborted)
    }
}

fn first_non_empty<'b>(bufs: &'b [IoSlice<'_>]) -> &'b [u8] {
    bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf)
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
                    Err(ReadEnd::Refused(refusal, can_respond)) => {
                        Poll::Ready(Err(this.reject(refusal, can_respond)))
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
        self.get_mut().write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.get_mut().write(cx, bufs)
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

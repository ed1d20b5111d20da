//! A client's session for one plain request, in place of Pingora's HTTP/1 session: the same bytes for the client, with a
//! head that is not parsed again.
//!
//! It is separate from [`super::client_stream`], which serves every protocol. The connection is left in the [`RawRequest`]
//! at the end, because Pingora drops sessions that are not its own.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::http::HttpTask;
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Shutdown, Ssl};
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::client_stream::ClientStream;
use super::plain_response::{self, BodyProgress, ChunkSizeLine};
use super::raw_request::{RawRequest, ResponseFraming};
use crate::util::reused_buffer;

#[derive(Debug)]
pub struct PlainSession<S: IO + 'static> {
    /// `None` after the response's end.
    pub(super) stream: Option<Box<ClientStream<S>>>,
    pub(super) raw: Arc<RawRequest>,
    pub(super) request: RequestHeader,
    /// The last head that was written, or waits in `head`.
    pub(super) response: Option<Box<ResponseHeader>>,
    /// The bytes of the final head until they are written with the first bytes of the body.
    head: Vec<u8>,
    body: BodyProgress,
    is_flushed: bool,
    pub(super) body_bytes_sent: usize,
    pub(super) client_has_left: bool,
    pub(super) digest: Digest,
    pub(super) timeouts: Timeouts,
}

/// What Pingora may set and ask for. The stream has its own deadlines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timeouts {
    pub(super) read: Option<Duration>,
    pub(super) write: Option<Duration>,
    pub(super) drain: Option<Duration>,
}

impl<S: IO + 'static> PlainSession<S> {
    /// `request` is that of [`ClientStream::take_plain_head`].
    pub fn new(stream: Box<ClientStream<S>>, raw: Arc<RawRequest>, request: RequestHeader) -> Self {
        let digest = Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        };
        Self {
            stream: Some(stream),
            raw,
            request,
            response: None,
            head: Vec::new(),
            body: BodyProgress::default(),
            is_flushed: true,
            body_bytes_sent: 0,
            client_has_left: false,
            digest,
            timeouts: Timeouts::default(),
        }
    }

    /// Writes an interim head at once. A final head waits for the first bytes of the body.
    pub(super) async fn write_head(&mut self, mut head: Box<ResponseHeader>) -> Result<()> {
        if self.response.as_ref().is_some_and(|written| !written.status.is_informational()) {
            log::warn!(target: "icm::proxy", "a second head of a response is not sent");
            return Ok(());
        }
        if head.status.is_informational() && head.status != 101 {
            let bytes = plain_response::interim_head(&head)?;
            self.write(&bytes).await.or_err(ErrorType::WriteError, "writing response header")?;
            self.flush_now().await.or_err(ErrorType::WriteError, "flushing response header")?;
            self.response = Some(head);
            return Ok(());
        }
        let serialized = self.raw.take_response_head();
        let of_head = match &serialized {
            Some(serialized) => serialized.framing,
            None => plain_response::framing_of(&head.headers),
        };
        let framing = plain_response::framing(head.status, &self.request.method, of_head);
        if framing == ResponseFraming::UntilClose || head.status == 101 {
            self.raw.close_after_response();
        }
        self.head = match serialized {
            Some(serialized) => plain_response::complete_serialized(serialized, self.raw.closes()),
            None => plain_response::final_head(&mut head, self.raw.closes())?,
        };
        self.body = BodyProgress::begin(framing);
        self.response = Some(head);
        if self.body.is_finished() {
            self.write(&[]).await.or_err(ErrorType::WriteError, "writing response header")?;
            self.flush().await.or_err(ErrorType::WriteError, "flushing response header")?;
        }
        Ok(())
    }

    /// Writes the next bytes of the body. The last ones of a response may be sent later than their flush.
    pub(super) async fn write_data(&mut self, data: &[u8], is_last: bool) -> Result<()> {
        if self.body.is_finished() {
            return Ok(());
        }
        let mut line = ChunkSizeLine::default();
        let pieces = self.body.next(data, is_last, &mut line);
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Ok(());
        }
        let [_, content, _] = pieces;
        self.write_pieces(pieces).await.or_err(ErrorType::WriteError, "while writing body")?;
        self.body_bytes_sent += content.len();
        let flushed = match self.body {
            _ if self.body.is_finished() => self.flush().await,
            BodyProgress::Chunked | BodyProgress::UntilClose => self.flush_now().await,
            _ => Ok(()),
        };
        flushed.or_err(ErrorType::WriteError, "flushing body")
    }

    /// Ends the body and sends everything.
    pub(super) async fn finish_body(&mut self) -> Result<()> {
        self.write_data(&[], true).await?;
        self.body.end()?;
        if !self.is_flushed || !self.head.is_empty() {
            self.write(&[]).await.or_err(ErrorType::WriteError, "while writing body")?;
            self.flush().await.or_err(ErrorType::WriteError, "flushing body")?;
        }
        Ok(())
    }

    /// The end of the request: the connection closes or waits for the next one.
    pub(super) async fn release(&mut self) {
        if self.body != BodyProgress::Complete {
            return;
        }
        if self.raw.closes() {
            if let Some(stream) = &mut self.stream {
                Shutdown::shutdown(&mut **stream).await;
            }
        } else if let Some(stream) = self.stream.take() {
            self.raw.return_stream(stream);
        }
    }

    /// Writes tasks of Pingora's loop, the pieces of the body as one. True at the end of the response.
    pub(super) async fn write_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let (mut data, mut end) = (TaskData::default(), false);
        for task in tasks {
            end = match task {
                HttpTask::Header(head, end) => {
                    self.write_head(head).await.map_err(Error::into_down)?;
                    end
                }
                HttpTask::Body(piece, end) | HttpTask::UpgradedBody(piece, end) => {
                    data.push(piece.unwrap_or_default());
                    end
                }
                HttpTask::Trailer(_) | HttpTask::Done => true,
                HttpTask::Failed(error) => {
                    self.write_data(data.bytes(), false).await.map_err(Error::into_down)?;
                    self.write(&[]).await.or_err(ErrorType::WriteError, "writing response")?;
                    self.flush_now().await.or_err(ErrorType::WriteError, "flushing response")?;
                    return Err(error);
                }
            }
        }
        self.write_data(data.bytes(), end).await.map_err(Error::into_down)?;
        if end {
            self.finish_body().await.map_err(Error::into_down)?;
        }
        Ok(end || self.body.is_finished())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_pieces([bytes, &[], &[]]).await
    }

    /// Writes the waiting head and these pieces at once.
    async fn write_pieces(&mut self, [a, b, c]: [&[u8]; 3]) -> io::Result<()> {
        let head = std::mem::take(&mut self.head);
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let mut rest = [&head[..], a, b, c];
        self.is_flushed = false;
        poll_fn(|cx| {
            while rest.iter().any(|piece| !piece.is_empty()) {
                let slices = rest.map(IoSlice::new);
                let mut written = ready!(Pin::new(&mut **stream).poll_write_vectored(cx, &slices))?;
                if written == 0 {
                    return Poll::Ready(Err(io::Error::from(ErrorKind::WriteZero)));
                }
                for piece in &mut rest {
                    let part = written.min(piece.len());
                    *piece = piece.get(part..).unwrap_or_default();
                    written -= part;
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        reused_buffer::give_back(head);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        AsyncWriteExt::flush(stream).await?;
        self.is_flushed = true;
        Ok(())
    }

    async fn flush_now(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        poll_fn(|cx| stream.poll_flush_now(cx)).await?;
        self.is_flushed = true;
        Ok(())
    }

    pub(super) fn left(&self) -> Box<Error> {
        let when = match self.response {
            None => "Prematurely before response header is sent",
            Some(_) => "Prematurely before response body is complete",
        };
        Error::explain(ErrorType::ConnectionClosed, when)
    }

    /// Hands the waiting head to the stream, which writes it with the next flush or read.
    pub(super) fn buffer_head(&mut self) {
        if let Some(stream) = self.stream.as_mut().filter(|_| !self.head.is_empty()) {
            stream.buffer(&std::mem::take(&mut self.head));
            self.is_flushed = false;
        }
    }
}

impl<S: IO + 'static> Drop for PlainSession<S> {
    fn drop(&mut self) {
        // The stream tries to send it while it closes.
        self.buffer_head();
    }
}

/// The body pieces of several tasks as one; a single piece is not copied.
#[derive(Default)]
struct TaskData {
    first: Bytes,
    joined: Vec<u8>,
}

impl TaskData {
    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = piece;
        } else {
            if self.joined.is_empty() {
                self.joined.extend_from_slice(&self.first);
            }
            self.joined.extend_from_slice(&piece);
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { &self.first } else { &self.joined }
    }
}

#[cfg(test)]
#[path = "plain_session_tests.rs"]
mod tests;

//! An open connection to a server, as the fast path uses it: one write for a request, reads into a buffer that lives only
//! as long as there are bytes in it.
//!
//! Pingora's client session holds buffers for head and body as long as its connection. Its streams to servers themselves
//! have no buffer and no delay (`TCP_NODELAY`), so a write here is a system call, and an idle connection holds no bytes.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use pingora::protocols::Stream;
use pingora::{BError, Error, ErrorType, Result};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};

use crate::util::socket_fd::SocketFd;

/// The most that [`UpstreamConnection::poll_fill`] adds: a head with a body of 16 KiB, or a TLS record. A read that fills the
/// space costs another one, because tokio then expects more.
pub const MAX_FILL: usize = 20 * 1024;
/// The space for a read of [`UpstreamConnection::poll_fill_body`].
const BODY_SPACE: usize = 64 * 1024;
/// Below this, the space that is left of [`BODY_SPACE`] is not worth a system call.
const MIN_BODY_SPACE: usize = 16 * 1024;

/// An open connection to a server, with the bytes that were received and not consumed.
#[derive(Debug)]
pub struct UpstreamConnection {
    stream: Stream,
    pub received: BytesMut,
    descriptor: Option<SocketFd>,
    tls: bool,
}

impl UpstreamConnection {
    /// Takes a stream that was just opened by Pingora's `TransportConnector`.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        let descriptor = descriptor(&stream);
        let tls = stream.get_ssl().is_some();
        Self { stream, received: BytesMut::new(), descriptor, tls }
    }

    /// Identifies the TCP connection to the tables of this layer; `None` if it is not TCP.
    #[must_use]
    pub fn descriptor(&self) -> Option<SocketFd> {
        self.descriptor
    }

    /// Reads once and appends what came to `received`. Returns the number of bytes, 0 at the end of the connection.
    ///
    /// # Errors
    /// The error of the socket or of TLS; see [`read_error`].
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [MaybeUninit::uninit(); MAX_FILL];
        let mut scratch = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scratch))?;
        let came = scratch.filled();
        if self.received.is_empty() && self.received.capacity() < came.len() {
            // `extend_from_slice` would allocate as much as the buffer once had, which may be `BODY_SPACE`.
            self.received = BytesMut::with_capacity(came.len());
        }
        self.received.extend_from_slice(came);
        Poll::Ready(Ok(came.len()))
    }

    /// As [`Self::poll_fill`] for large bodies: reads up to 64 KiB without copying. While nothing comes, it holds no buffer.
    ///
    /// # Errors
    /// The error of the socket or of TLS; see [`read_error`].
    pub fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.received.capacity() - self.received.len() < MIN_BODY_SPACE {
            self.received.reserve(BODY_SPACE);
        }
        let filled = {
            let mut space = (&mut self.received).limit(BODY_SPACE);
            pin!(self.stream.read_buf(&mut space)).poll(cx)
        };
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        filled
    }

    /// Writes a request, head and body with one system call if the socket takes them. The timer starts only if it does not.
    ///
    /// # Errors
    /// [`ErrorType::WriteTimedout`] after `timeout`, otherwise [`ErrorType::WriteError`]; both from the upstream, as from
    /// Pingora's client session.
    pub async fn write_all(&mut self, head: &[u8], body: &[u8], timeout: Option<Duration>) -> Result<()> {
        let mut slices = [IoSlice::new(head), IoSlice::new(body)];
        let mut rest = slices.as_mut_slice();
        // An empty slice makes a plain write of what would be a vectored one.
        if body.is_empty() {
            rest = rest.get_mut(..1).unwrap_or_default();
        }
        let first = std::future::poll_fn(|cx| Poll::Ready(self.poll_write(cx, &mut rest))).await;
        let written = match (first, timeout) {
            (Poll::Ready(written), _) => written,
            (Poll::Pending, None) => std::future::poll_fn(|cx| self.poll_write(cx, &mut rest)).await,
            (Poll::Pending, Some(limit)) => {
                let write = std::future::poll_fn(|cx| self.poll_write(cx, &mut rest));
                tokio::time::timeout(limit, write)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        written.map_err(write_error)
    }

    /// Writes as much of `rest` as possible and removes it there. Ready when everything has left the process.
    fn poll_write(&mut self, cx: &mut Context<'_>, rest: &mut &mut [IoSlice<'_>]) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        IoSlice::advance_slices(rest, 0);
        while !rest.is_empty() {
            let written = match &**rest {
                [only] => stream.as_mut().poll_write(cx, only),
                several => stream.as_mut().poll_write_vectored(cx, several),
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => IoSlice::advance_slices(rest, count),
            }
        }
        // TLS takes bytes that the socket does not. Without TLS this does nothing.
        stream.poll_flush(cx)
    }

    /// Whether bytes came that belong to no response, or, with TLS, the end of the connection. Such a connection must not
    /// carry another request: the bytes would be taken for its response.
    ///
    /// A byte may be consumed, so such a connection can only be closed. Without TLS, what waits in the socket is not looked
    /// at; [`super::reuse::check_reusable`] does this with one system call. With TLS that call cannot tell a session ticket
    /// from data, and does not see what was decrypted already.
    #[must_use]
    pub fn has_unread_bytes(&mut self) -> bool {
        !self.received.is_empty() || self.tls && self.read_now().is_ready()
    }

    /// Frees the memory of the buffer, which must be empty.
    pub(super) fn release_buffer(&mut self) {
        self.received = BytesMut::new();
    }

    /// Reads one byte if there is one, or the end.
    fn read_now(&mut self) -> Poll<io::Result<u8>> {
        // Otherwise a task that has read much is told that there is nothing.
        let read = tokio::task::unconstrained(self.stream.read_u8());
        pin!(read).poll(&mut Context::from_waker(Waker::noop()))
    }
}

fn descriptor(stream: &Stream) -> Option<SocketFd> {
    let local_port = stream.get_socket_digest()?.local_addr()?.as_inet()?.port();
    Some(SocketFd { fd: stream.id(), local_port })
}

fn write_error(cause: io::Error) -> BError {
    let kind = match cause.kind() {
        io::ErrorKind::TimedOut => ErrorType::WriteTimedout,
        _ => ErrorType::WriteError,
    };
    Error::because(kind, "while writing the request", cause).into_up()
}

/// The error of a failed read, as Pingora's client session has it.
#[must_use]
pub fn read_error(cause: io::Error, reading: &'static str) -> BError {
    Error::because(ErrorType::ReadError, reading, cause).into_up()
}

/// The error if a connection ended too early, as Pingora's client session has it.
#[must_use]
pub fn closed_error(reading: &'static str) -> BError {
    Error::explain(ErrorType::ConnectionClosed, reading).into_up()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use pingora::{ErrorSource, ImmutStr};
    use tokio::io::AsyncWriteExt as _;

    use super::super::testing::{pair, tls_pair};
    use super::*;
    use crate::util::socket_fd::ReceiveState;

    async fn fill(connection: &mut UpstreamConnection) -> usize {
        poll_fn(|cx| connection.poll_fill(cx)).await.unwrap()
    }

    #[tokio::test]
    async fn the_descriptor_is_that_of_the_socket() {
        let (connection, server) = pair().await;
        let descriptor = connection.descriptor().unwrap();
        assert_eq!(SocketFd::from_fd(descriptor.fd), Some(descriptor));
        assert_eq!(descriptor.local_port, server.peer_addr().unwrap().port());
        assert_eq!(descriptor.receive_state(), ReceiveState::Empty);
    }

    #[tokio::test]
    async fn what_came_is_appended_and_its_buffer_is_no_larger() {
        let (mut connection, mut server) = pair().await;
        server.write_all(b"HTTP/1.1 ").await.unwrap();
        assert_eq!(fill(&mut connection).await, 9);
        assert_eq!(connection.received.capacity(), 9);
        server.write_all(b"200 OK\r\n").await.unwrap();
        assert_eq!(fill(&mut connection).await, 8);
        assert_eq!(connection.received, "HTTP/1.1 200 OK\r\n");
        let head = connection.received.split();
        server.write_all(b"next").await.unwrap();
        assert_eq!(fill(&mut connection).await, 4);
        assert_eq!(connection.received, "next");
        assert_eq!(head, "HTTP/1.1 200 OK\r\n");
        drop(server);
        assert_eq!(fill(&mut connection).await, 0);
    }

    #[tokio::test]
    async fn a_large_body_is_read_whole_and_waiting_for_it_holds_no_buffer() {
        let (mut connection, mut server) = pair().await;
        let body: Vec<u8> = (0..3_000_000_u32).flat_map(|i| i.to_le_bytes()).collect();
        let pending = poll_fn(|cx| Poll::Ready(connection.poll_fill_body(cx).is_pending())).await;
        assert!(pending);
        assert_eq!(connection.received.capacity(), 0);
        let sent = body.clone();
        let sender = tokio::spawn(async move { server.write_all(&sent).await.unwrap() });
        let mut pieces = Vec::new();
        while poll_fn(|cx| connection.poll_fill_body(cx)).await.unwrap() > 0 {
            // The pieces are kept, as by a slow client.
            pieces.push(connection.received.split().freeze());
        }
        sender.await.unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= BODY_SPACE));
        assert!(pieces.concat() == body);
        assert_eq!(connection.received.capacity(), 0);
    }

    #[tokio::test]
    async fn a_request_larger_than_the_socket_takes_at_once_arrives_whole() {
        let (mut connection, mut server) = pair().await;
        let (head, body) = (vec![b'h'; 3 << 20], vec![b'b'; 9 << 20]);
        let (length, expected) = (head.len() + body.len(), [&*head, &*body].concat());
        let reader = tokio::spawn(async move {
            let mut read = vec![0; length];
            server.read_exact(&mut read).await.unwrap();
            read
        });
        connection.write_all(&head, &body, Some(Duration::from_secs(60))).await.unwrap();
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn head_and_body_arrive_with_or_without_the_other() {
        let (mut connection, mut server) = pair().await;
        for (head, body) in [("head", "body"), ("head", ""), ("", "body"), ("", "")] {
            connection.write_all(head.as_bytes(), body.as_bytes(), None).await.unwrap();
        }
        drop(connection);
        let mut read = String::new();
        server.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "headbodyheadbody");
    }

    fn segments(connection: &UpstreamConnection) -> u32 {
        connection.stream.get_socket_digest().unwrap().tcp_info().unwrap().tcpi_data_segs_out
    }

    #[tokio::test]
    async fn head_and_body_leave_in_one_segment_at_once() {
        let (mut connection, _server) = pair().await;
        connection.write_all(b"head", b"body", None).await.unwrap();
        assert_eq!(segments(&connection), 1);
        let (mut connection, _server) = tls_pair().await;
        let handshake = segments(&connection);
        connection.write_all(b"head", b"body", None).await.unwrap();
        assert_eq!(segments(&connection), handshake + 1);
    }

    fn is(error: &Error, kind: &ErrorType) -> bool {
        error.etype() == kind && *error.esource() == ErrorSource::Upstream
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_is_a_timeout() {
        let (mut connection, server) = pair().await;
        let limit = Some(Duration::from_millis(50));
        let error = connection.write_all(b"head", &vec![0; 64 << 20], limit).await.unwrap_err();
        assert!(is(&error, &ErrorType::WriteTimedout), "{error}");
        drop(server);
    }

    #[tokio::test]
    async fn a_server_that_has_gone_is_a_write_error() {
        let (mut connection, server) = pair().await;
        drop(server);
        let error = connection.write_all(b"head", &vec![0; 64 << 20], None).await.unwrap_err();
        assert!(is(&error, &ErrorType::WriteError), "{error}");
    }

    #[test]
    fn errors_of_reading_come_from_the_upstream() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = read_error(reset, "reading the head");
        assert!(is(&error, &ErrorType::ReadError), "{error}");
        assert!(error.root_cause().downcast_ref::<io::Error>().is_some());
        let error = closed_error("reading the head");
        assert!(is(&error, &ErrorType::ConnectionClosed), "{error}");
        assert_eq!(error.context, Some(ImmutStr::Static("reading the head")));
    }
}

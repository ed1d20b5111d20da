//! Connections for WebSocket and other upgrades, which work around a race in Pingora.
//!
//! Pingora passes the end of the request's empty body and the server's response to its upstream task in random order if both
//! are ready. If it reads the 101 first, it takes the end of the body for the end of the tunnel and closes it without an
//! error (<https://github.com/cloudflare/pingora/issues/946>). A fast server is enough for that. So the first read after a
//! write is always pending once and wakes its task at once: by then Pingora has read the end of the body.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::util::socket_fd::SocketFd;

/// Opens the connection of one tunnel.
#[derive(Debug, Default)]
pub struct TunnelConnector(OnceLock<SocketFd>);

impl TunnelConnector {
    /// The connection that was opened, as Pingora does not expose its descriptor.
    #[must_use]
    pub fn descriptor(&self) -> Option<SocketFd> {
        self.0.get().copied()
    }
}

#[async_trait]
impl L4Connect for TunnelConnector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else { return Error::err(ErrorType::ConnectError) };
        let tcp = ext::connect(address, None).await?;
        if let Some(descriptor) = SocketFd::from_fd(tcp.as_raw_fd()) {
            let _ = self.0.set(descriptor);
        }
        Ok(VirtualSocketStream::new(Box::new(YieldBeforeRead { inner: tcp, wrote_since_read: false })).into())
    }
}

/// A connection whose first read after a write is pending once.
#[derive(Debug)]
struct YieldBeforeRead<S> {
    inner: S,
    wrote_since_read: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for YieldBeforeRead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.wrote_since_read) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for YieldBeforeRead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wrote_since_read = true;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl VirtualSocket for YieldBeforeRead<TcpStream> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.inner.set_nodelay(true),
            VirtualSockOpt::KeepAlive(keepalive) => {
                ext::set_tcp_keepalive(&self.inner, &keepalive).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// The result of a single poll.
    fn read_once<S: AsyncRead + Unpin>(connection: &mut S) -> Option<u8> {
        match pin!(connection.read_u8()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(byte) => Some(byte.unwrap()),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn only_the_first_read_after_a_write_is_pending_once() {
        let (ours, mut theirs) = duplex(64);
        let mut connection = YieldBeforeRead { inner: ours, wrote_since_read: false };
        theirs.write_all(b"abc").await.unwrap();
        assert_eq!(read_once(&mut connection), Some(b'a'));
        connection.write_all(b"request").await.unwrap();
        assert_eq!(read_once(&mut connection), None);
        assert_eq!(read_once(&mut connection), Some(b'b'));
        // The read wakes its own task.
        connection.write_all(b"more").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'c');
    }
}

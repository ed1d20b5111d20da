//! A client's TCP connection as Pingora's `IO`, with its connection permit and its login.
//!
//! Pingora's own stream type has a read and a write buffer, which `ClientStream` and TLS have already.

use std::io::{IoSlice, Result};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use pingora::protocols::l4::ext::get_tcp_info;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::connection_limit::ConnectionPermit;
use super::login_connections::{ClientConnection, LoginConnections};
use super::proxy_protocol;
use super::timeouts::AckProgress;

/// Counts the bytes that the kernel has accepted. A TLS stream accepts more, into its own buffer.
#[derive(Clone, Debug, Default)]
pub struct WriteCounter(Arc<AtomicU64>);

impl WriteCounter {
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn count(&self, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.0.fetch_add(*bytes as u64, Relaxed);
        }
        written
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOrigin {
    /// The client's address, which everything behind uses.
    pub client: SocketAddr,
    /// The peer of the TCP connection, if it is a proxy that named the client in a PROXY header.
    pub proxy: Option<SocketAddr>,
}

impl ClientOrigin {
    #[must_use]
    pub fn direct(peer: SocketAddr) -> Self {
        Self { client: peer, proxy: None }
    }

    /// What identifies the connection. Two clients behind different proxies may have the same address and port.
    fn connection(&self, socket: &SocketDigest) -> Option<ClientConnection> {
        let local = *socket.local_addr()?.as_inet()?;
        Some(ClientConnection { peer: self.proxy.unwrap_or(self.client), local })
    }
}

#[derive(Debug)]
pub struct ClientTcp {
    io: TcpStream,
    socket: Arc<SocketDigest>,
    accepted: SystemTime,
    origin: ClientOrigin,
    proxy: Option<Arc<ProxyDigest>>,
    logins: Option<Arc<LoginConnections>>,
    written: WriteCounter,
    _permit: Option<ConnectionPermit>,
}

impl ClientTcp {
    #[must_use]
    pub fn new(
        io: TcpStream,
        origin: ClientOrigin,
        permit: Option<ConnectionPermit>,
        logins: Option<Arc<LoginConnections>>,
    ) -> Self {
        // A small response must not wait until the client acknowledges the previous one.
        let _ = io.set_nodelay(true);
        let socket = SocketDigest::from_raw_fd(io.as_raw_fd());
        let _ = socket.peer_addr.set(Some(origin.client.into()));
        if let Some(logins) = &logins {
            // An earlier connection with the same addresses is over.
            logins.end(|| origin.connection(&socket));
        }
        let (accepted, written) = (SystemTime::now(), WriteCounter::default());
        let proxy = origin.proxy.and_then(proxy_protocol::digest_of);
        Self { io, socket: Arc::new(socket), accepted, origin, proxy, written, logins, _permit: permit }
    }

    #[must_use]
    pub fn write_counter(&self) -> WriteCounter {
        self.written.clone()
    }
}

impl Drop for ClientTcp {
    fn drop(&mut self) {
        if let Some(logins) = &self.logins {
            logins.end(|| self.origin.connection(&self.socket));
        }
    }
}

#[must_use]
pub fn tcp_ack_progress(fd: UniqueIDType) -> Option<AckProgress> {
    let info = get_tcp_info(fd).ok()?;
    let in_transit = u64::from(info.tcpi_unacked) * u64::from(info.tcpi_snd_mss);
    let unacknowledged = in_transit + u64::from(info.tcpi_notsent_bytes);
    Some(AckProgress { bytes: info.tcpi_bytes_acked, unacknowledged })
}

impl AsyncRead for ClientTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written.count(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        // Usually one TLS record: `send` is cheaper than `writev` for a single buffer.
        let written = match bufs {
            [one] => Pin::new(&mut self.io).poll_write(cx, one),
            _ => Pin::new(&mut self.io).poll_write_vectored(cx, bufs),
        };
        self.written.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientTcp {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientTcp {
    fn id(&self) -> UniqueIDType {
        self.io.as_raw_fd()
    }
}

impl Ssl for ClientTcp {}

impl Peek for ClientTcp {}

impl GetTimingDigest for ClientTcp {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.accepted, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for ClientTcp {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.proxy.clone()
    }
}

impl GetSocketDigest for ClientTcp {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

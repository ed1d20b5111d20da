//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>): the header by which
//! a proxy in front tells the address of the client, before anything else.
//!
//! The library parses a whole header; this file finds where it ends, and reads no byte that comes behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pingora::protocols::Digest;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora_http::ResponseHeader;
use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest header of version 1, in the specification.
const MAX_V1_BYTES: usize = 107;
/// The longest header of version 2 here. The addresses take 216 bytes at most; what a proxy adds about TLS and its own
/// network takes a few hundred.
const MAX_V2_BYTES: usize = 4096;
/// Of version 2, up to the length of the rest.
const V2_FIXED_BYTES: usize = 16;
/// Enough for the usual header in one read.
const PEEK_BYTES: usize = 256;

const V1_PREFIX: &[u8] = b"PROXY ";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// Why a connection of a proxy is closed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// It begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// Longer than the specification or this file allows.
    #[error("the PROXY header is too long")]
    TooLong,
    /// The library does not accept it.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(String),
    /// The proxy closed it too early, as health checks do.
    #[error("the connection closed within the PROXY header")]
    Closed,
    /// The socket could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The length of the header that these bytes begin with, which may be more than there are; `None` if it is not known yet.
///
/// # Errors
/// When no more bytes can make it a header.
pub fn header_length(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    let may_become = |prefix: &[u8]| bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected);
    if may_become(v2::PROTOCOL_PREFIX) {
        let Some((_, [high, low])) =
            bytes.first_chunk::<V2_FIXED_BYTES>().and_then(|fixed| fixed.split_last_chunk::<2>())
        else {
            return Ok(None);
        };
        let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        return if length > MAX_V2_BYTES { Err(ProxyHeaderError::TooLong) } else { Ok(Some(length)) };
    }
    if !may_become(V1_PREFIX) {
        return Err(ProxyHeaderError::Missing);
    }
    let line = bytes.get(..MAX_V1_BYTES).unwrap_or(bytes);
    match line.windows(2).position(|end| end == b"\r\n") {
        Some(at) => Ok(Some(at + 2)),
        None if bytes.len() >= MAX_V1_BYTES => Err(ProxyHeaderError::TooLong),
        None => Ok(None),
    }
}

/// The client in a whole header; `None` if the header names none, as in the health checks of a proxy. The connection then
/// counts as the proxy's own.
///
/// # Errors
/// When the header does not follow the specification.
pub fn client_address(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let malformed = |error: String| ProxyHeaderError::Malformed(error);
    if header.starts_with(V1_PREFIX) {
        // The rest of the line does not matter then.
        if header.strip_prefix(V1_UNKNOWN).is_some_and(|rest| rest.starts_with(b" ") || rest == b"\r\n") {
            return Ok(None);
        }
        let parsed = v1::Header::try_from(header).map_err(|e| malformed(e.to_string()))?;
        return Ok(match parsed.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        });
    }
    let parsed = v2::Header::try_from(header).map_err(|e| malformed(e.to_string()))?;
    if parsed.command == v2::Command::Local || parsed.protocol != v2::Protocol::Stream {
        return Ok(None);
    }
    Ok(match parsed.addresses {
        v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    })
}

/// Reads the header and leaves what comes behind it. The caller limits the time.
///
/// # Errors
/// When there is none, it is malformed, or the connection closes.
pub async fn read(socket: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut header = Vec::with_capacity(PEEK_BYTES);
    let mut seen = [0; PEEK_BYTES];
    loop {
        let before = header.len();
        let count = socket.peek(&mut seen).await?;
        if count == 0 {
            return Err(ProxyHeaderError::Closed);
        }
        header.extend_from_slice(seen.get(..count).unwrap_or_default());
        let length = header_length(&header)?;
        // Whatever may still belong to the header is taken off the socket, so that the next look waits for new bytes.
        header.truncate(length.unwrap_or(usize::MAX));
        let taken = header.len() - before;
        socket.read_exact(seen.get_mut(..taken).unwrap_or_default()).await?;
        if length == Some(header.len()) {
            return client_address(&header);
        }
    }
}

/// The address of the proxy, in the digest of a connection that has the client's as its peer address.
pub(super) fn digest_of(proxy: SocketAddr) -> Option<Arc<ProxyDigest>> {
    // Pingora's type is for the answer of a proxy to CONNECT.
    let response = Box::new(ResponseHeader::build(200, None).ok()?);
    Some(Arc::new(ProxyDigest::new(response, Some(Box::new(proxy)))))
}

/// The proxy that opened the connection with a PROXY header.
#[must_use]
pub fn proxy_of(digest: &Digest) -> Option<SocketAddr> {
    digest.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<SocketAddr>().copied()
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;

//! HTTP/1.x on a socket: reads heads and bodies, writes responses. It knows nothing about Domino or faults, and a
//! malformed request is always an error.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::answer::{Answer, Length};

/// A plain or a TLS connection.
pub enum AnyStream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl AnyStream {
    pub fn socket(&self) -> &TcpStream {
        match self {
            AnyStream::Plain(stream) => stream,
            AnyStream::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for AnyStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            AnyStream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            AnyStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for AnyStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        match self.get_mut() {
            AnyStream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            AnyStream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            AnyStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            AnyStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            AnyStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            AnyStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[derive(Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    /// Minor version, 0 or 1.
    pub version: u8,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whether a comma-separated header contains this word.
    pub fn names(&self, header: &str, word: &str) -> bool {
        let mut all = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(header));
        all.any(|(_, v)| v.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)))
    }

    pub fn keep_alive(&self) -> bool {
        match self.version {
            0 => self.names("connection", "keep-alive"),
            _ => !self.names("connection", "close"),
        }
    }

    pub fn framing(&self) -> std::result::Result<Framing, &'static str> {
        let lengths: Vec<&str> = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
            .map(|h| &*h.1)
            .collect();
        match (self.header("transfer-encoding"), lengths.as_slice()) {
            (Some(_), [_, ..]) => Err("both Content-Length and Transfer-Encoding"),
            (Some(te), []) if te.trim().eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (Some(_), []) => Err("unknown Transfer-Encoding"),
            (None, []) => Ok(Framing::Length(0)),
            (None, [one]) if !one.is_empty() && one.bytes().all(|b| b.is_ascii_digit()) => {
                one.parse().map(Framing::Length).map_err(|_| "Content-Length too large")
            }
            _ => Err("bad Content-Length"),
        }
    }
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

/// What the next read gave.
pub enum Received {
    /// The peer closed between requests.
    Closed,
    Head(Head),
    /// `GET /fast` without a body, on a connection to be kept.
    Fast,
}

/// A body that was read.
#[derive(Debug, Default)]
pub struct Body {
    pub length: u64,
    pub sha256: String,
    /// The first 64 KiB.
    pub start: Vec<u8>,
}

const MAX_KEPT_BODY_BYTES: usize = 64 * 1024;
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// One connection with its read buffer.
pub struct HttpConnection {
    pub stream: AnyStream,
    buffer: BytesMut,
}

impl HttpConnection {
    pub fn new(stream: AnyStream) -> HttpConnection {
        HttpConnection { stream, buffer: BytesMut::with_capacity(8 * 1024) }
    }

    async fn read_more(&mut self) -> Result<usize> {
        self.buffer.reserve(8 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Reads the next head. Cancelling it loses no bytes. With `fast`, `/fast` is recognised.
    pub async fn head(&mut self, fast: bool) -> Result<Received> {
        loop {
            if !self.buffer.is_empty()
                && let Some((length, got)) = parse(&self.buffer, fast)?
            {
                self.buffer.advance(length);
                return Ok(got);
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(Error::new(ErrorKind::InvalidData, "head too large"));
            }
            if self.read_more().await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(Received::Closed),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Reads a body to its end and reports its length so far to `seen`.
    pub async fn body(&mut self, framing: Framing, seen: impl Fn(u64)) -> Result<Body> {
        let mut body = Body::default();
        let mut hash = Sha256::new();
        match framing {
            Framing::Length(length) => self.read_body_part(length, &mut body, &mut hash, &seen).await?,
            Framing::Chunked => loop {
                let line = self.read_line().await?;
                let size = line.split(';').next().unwrap_or("").trim();
                let size = u64::from_str_radix(size, 16)
                    .map_err(|_| Error::new(ErrorKind::InvalidData, "bad chunk size"))?;
                if size == 0 {
                    while !self.read_line().await?.is_empty() {}
                    break;
                }
                self.read_body_part(size, &mut body, &mut hash, &seen).await?;
                if !self.read_line().await?.is_empty() {
                    return Err(Error::new(ErrorKind::InvalidData, "chunk longer than its size"));
                }
            },
        }
        body.sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(body)
    }

    async fn read_body_part(
        &mut self,
        length: u64,
        body: &mut Body,
        hash: &mut Sha256,
        seen: &impl Fn(u64),
    ) -> Result<()> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() && self.read_more().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let take = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = self.buffer.split_to(take);
            hash.update(&piece);
            let keep = MAX_KEPT_BODY_BYTES.saturating_sub(body.start.len()).min(take);
            body.start.extend_from_slice(&piece[..keep]);
            body.length += take as u64;
            left -= take as u64;
            seen(body.length);
        }
        Ok(())
    }

    async fn read_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let Some(line) = line.strip_suffix(b"\r\n") else {
                    return Err(Error::new(ErrorKind::InvalidData, "line ends without CR"));
                };
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.buffer.len() > 16 * 1024 || self.read_more().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Discards `n` bytes, or everything until the peer closes.
    pub async fn discard(&mut self, n: usize) {
        let mut left = n.saturating_sub(self.buffer.len());
        self.buffer.clear();
        while left > 0 {
            match self.read_more().await {
                Ok(got) if got > 0 => left = left.saturating_sub(got),
                _ => return,
            }
            self.buffer.clear();
        }
    }

    /// Takes the bytes that were read ahead, after the protocol has been switched.
    pub fn take_buffer(&mut self) -> BytesMut {
        self.buffer.split()
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes the response to a request, and returns whether the connection can be reused.
    pub async fn answer(&mut self, answer: &Answer, head: &Head, keep: bool) -> Result<bool> {
        let chunked = answer.chunked && head.version == 1;
        let until_close = answer.until_close || (answer.chunked && head.version == 0);
        let keep = keep && !until_close;
        let mut out = answer.head(
            if chunked {
                Length::Chunked
            } else if until_close {
                Length::Open
            } else {
                Length::Known
            },
            keep,
        );
        if head.method == "HEAD" || answer.status == 304 || answer.status == 204 {
            self.send(&out).await?;
            return Ok(keep);
        }
        let piece = if answer.drip_ms > 0 { 1024 } else { 16 * 1024 };
        let total = answer.body.len();
        let mut at = 0;
        while at < total {
            let end = (at + piece).min(total);
            if chunked {
                out.extend_from_slice(format!("{:x}\r\n", end - at).as_bytes());
            }
            answer.body.copy_to(at, end, &mut out);
            if chunked {
                out.extend_from_slice(b"\r\n");
            }
            at = end;
            if at == total && chunked {
                out.extend_from_slice(b"0\r\n\r\n");
            }
            self.send(&out).await?;
            out.clear();
            if answer.drip_ms > 0 && at < total {
                tokio::time::sleep(Duration::from_millis(answer.drip_ms)).await;
            }
        }
        if total == 0 {
            if chunked {
                out.extend_from_slice(b"0\r\n\r\n");
            }
            self.send(&out).await?;
        }
        Ok(keep)
    }

    /// Sends FIN, then discards input for a short time, because closing with unread bytes would send RST.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_millis(500), self.discard(64 << 20)).await;
    }
}

fn parse(buffer: &[u8], fast: bool) -> Result<Option<(usize, Received)>> {
    let mut headers = [const { std::mem::MaybeUninit::<httparse::Header<'_>>::uninit() }; 128];
    let mut request = httparse::Request::new(&mut []);
    let status = request
        .parse_with_uninit_headers(buffer, &mut headers)
        .map_err(|e| Error::new(ErrorKind::InvalidData, e.to_string()))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    let version = request.version.unwrap_or(1);
    let special = |h: &&httparse::Header<'_>| {
        ["connection", "content-length", "transfer-encoding", "x-request-id"]
            .iter()
            .any(|name| h.name.eq_ignore_ascii_case(name))
            && !h.value.eq_ignore_ascii_case(b"keep-alive")
    };
    if fast
        && target == "/fast"
        && method == "GET"
        && version == 1
        && !request.headers.iter().any(|h| special(&h))
    {
        return Ok(Some((length, Received::Fast)));
    }
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| *b as char).collect(),
    };
    let head = Head {
        method: method.to_owned(),
        target: target.to_owned(),
        version,
        headers: request.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
    };
    Ok(Some((length, Received::Head(head))))
}

//! A small HTTP/1.1 client that keeps connections. It does not decode chunks, because `acme` sends none for these requests.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Answer {
    pub status: u16,
    /// Position of the server, from the header `X-Acme-Server`.
    pub server: Option<usize>,
    /// `name=value` of each `Set-Cookie`.
    pub cookies: Vec<String>,
}

/// One address and the idle connections to it.
pub struct Client {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        Client { address, idle: Mutex::default() }
    }

    /// Sends GET. An idle connection that the peer has closed is replaced, as in browsers.
    pub async fn get(&self, target: &str, cookie: &str) -> Result<Answer> {
        let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: www.acme.example\r\n{cookie}\r\n")).await
    }

    /// Sends JSON to the control port.
    pub async fn put(&self, target: &str, body: &str) -> Result<Answer> {
        let length = body.len();
        self.ask(&format!("PUT {target} HTTP/1.1\r\nHost: acme\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await
    }

    async fn ask(&self, request: &str) -> Result<Answer> {
        let kept = self.idle.lock().unwrap().pop();
        if let Some(mut stream) = kept
            && let Some(answer) = self.exchange(&mut stream, request).await?
        {
            self.idle.lock().unwrap().push(stream);
            return Ok(answer);
        }
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let answer = self.exchange(&mut stream, request).await?;
        self.idle.lock().unwrap().push(stream);
        answer.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// `None` means that the connection was closed before a response.
    async fn exchange(&self, stream: &mut TcpStream, request: &str) -> Result<Option<Answer>> {
        let mut got = Vec::with_capacity(4096);
        if stream.write_all(request.as_bytes()).await.is_err() {
            return Ok(None);
        }
        loop {
            match stream.read_buf(&mut got).await {
                Ok(0) | Err(_) if got.is_empty() => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) => return Err(e),
            }
            if let Some((answer, whole)) = parse(&got)? {
                let mut left = vec![0; whole.saturating_sub(got.len())];
                stream.read_exact(&mut left).await?;
                return Ok(Some(answer));
            }
        }
    }
}

/// The response and its whole length, once its head is complete.
fn parse(got: &[u8]) -> Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(got).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let mut answer = Answer { status: head.code.unwrap_or(0), server: None, cookies: Vec::new() };
    let mut body = 0;
    for header in head.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => body = value.parse().map_err(|e| Error::new(ErrorKind::InvalidData, e))?,
            "x-acme-server" => {
                answer.server = ["Web1", "Web2", "Web3"].iter().position(|n| value.starts_with(n))
            }
            "set-cookie" => answer.cookies.push(value.split(';').next().unwrap_or("").to_owned()),
            _ => {}
        }
    }
    Ok(Some((answer, length + body)))
}

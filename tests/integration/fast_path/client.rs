//! What a client sees of an exchange, read from the wire of HTTP/1, or from an HTTP/2 client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::answers::DATE;
use super::exchange::Exchange;

/// Longer than anything that the proxy waits for.
const MAX_READ: Duration = Duration::from_secs(20);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Complete,
    /// The connection or the stream ended before the body did.
    Cut,
    /// Nothing came, or no complete head.
    NoHead,
    /// The client gave up.
    Timeout,
}

/// An answer as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Status lines of the 1xx answers before it.
    pub informational: Vec<String>,
    pub line: String,
    /// By name; the order of names is not defined, that of values is.
    pub fields: Vec<(String, String)>,
    /// The content, without chunks.
    pub body: Vec<u8>,
    pub end: End,
}

/// The state of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Open,
    Closed,
    /// Bytes came that belong to no answer.
    Surplus,
}

impl Seen {
    fn nothing(end: End) -> Seen {
        Seen { informational: Vec::new(), line: String::new(), fields: Vec::new(), body: Vec::new(), end }
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn has_word(&self, name: &str, word: &str) -> bool {
        self.value(name).is_some_and(|v| v.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)))
    }
}

/// Sorts by name, and replaces the times that the proxy has set itself.
pub fn normalised(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    for (name, value) in &mut fields {
        if name.eq_ignore_ascii_case("date") && value != DATE {
            *value = "<now>".to_owned();
        }
    }
    fields.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    fields
}

/// A connection of HTTP/1 that is opened when it is needed.
pub struct RawClient {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// Why reading stopped.
enum Stop {
    Closed,
    Timeout,
}

impl RawClient {
    pub fn new(address: SocketAddr) -> RawClient {
        RawClient { address, stream: None, buffer: Vec::new() }
    }

    pub fn close(&mut self) {
        self.stream = None;
        self.buffer.clear();
    }

    fn stream(&mut self) -> &mut TcpStream {
        if self.stream.is_none() {
            self.buffer.clear();
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_write_timeout(Some(MAX_READ)).unwrap();
            self.stream = Some(stream);
        }
        self.stream.as_mut().unwrap()
    }

    /// Sends the exchanges one after the other without waiting, and reads as many answers.
    pub fn ask(&mut self, exchanges: &[Exchange]) -> Vec<Seen> {
        for exchange in exchanges {
            self.send(exchange);
        }
        if exchanges.iter().any(|exchange| exchange.leaves) {
            // The proxy has passed it on by then.
            std::thread::sleep(Duration::from_millis(300));
            self.close();
        }
        let mut all: Vec<Seen> = Vec::new();
        for exchange in exchanges {
            let goes_on = all.last().is_none_or(|seen| seen.end == End::Complete);
            all.push(if goes_on { self.read(exchange.method) } else { Seen::nothing(End::NoHead) });
        }
        all
    }

    /// Writing fails if the proxy answers early and closes, but its answer can still be read.
    fn send(&mut self, exchange: &Exchange) {
        let head = exchange.head();
        let (first, rest) = head.split_at(if exchange.is_split { head.len() / 2 } else { head.len() });
        let _ = self.stream().write_all(first);
        if exchange.is_split {
            std::thread::sleep(Duration::from_millis(2));
            let _ = self.stream().write_all(rest);
        }
        if exchange.expects_continue() {
            // Either 100, or a final answer.
            let _ = self.fill(Duration::from_secs(5));
        }
        let body = exchange.framed_body();
        if !body.is_empty() {
            let (first, rest) = body.split_at(body.len() / 2);
            let _ = self.stream().write_all(first).and_then(|()| self.stream().write_all(rest));
        }
    }

    fn fill(&mut self, at_most: Duration) -> Result<(), Stop> {
        let Some(stream) = &mut self.stream else { return Err(Stop::Closed) };
        stream.set_read_timeout(Some(at_most)).unwrap();
        let mut piece = [0; 64 * 1024];
        match stream.read(&mut piece) {
            Ok(0) => Err(Stop::Closed),
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Stop::Timeout),
            Err(_) => Err(Stop::Closed),
        }
    }

    fn read(&mut self, method: &str) -> Seen {
        let mut informational = Vec::new();
        loop {
            let (line, fields) = match self.read_head() {
                Ok(head) => head,
                Err(Stop::Timeout) => return Seen { informational, ..Seen::nothing(End::Timeout) },
                Err(Stop::Closed) => return Seen { informational, ..Seen::nothing(End::NoHead) },
            };
            if line.split(' ').nth(1).is_some_and(|status| status.starts_with('1') && status != "101") {
                informational.push(line);
                continue;
            }
            let mut seen = Seen { line, fields, informational, ..Seen::nothing(End::Complete) };
            seen.end = match self.read_body(method, &mut seen) {
                Ok(()) => End::Complete,
                Err(Stop::Closed) => End::Cut,
                Err(Stop::Timeout) => End::Timeout,
            };
            return seen;
        }
    }

    fn read_head(&mut self) -> Result<(String, Vec<(String, String)>), Stop> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            self.fill(MAX_READ)?;
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text: String = head[..end].iter().map(|byte| char::from(*byte)).collect();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, "<no colon>"));
            (name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned())
        };
        Ok((line, normalised(lines.map(field).collect())))
    }

    fn read_body(&mut self, method: &str, seen: &mut Seen) -> Result<(), Stop> {
        let status = seen.line.split(' ').nth(1).unwrap_or_default().to_owned();
        if method == "HEAD" || matches!(status.as_str(), "101" | "204" | "304") {
            return Ok(());
        }
        if seen.has_word("transfer-encoding", "chunked") {
            return self.read_chunks(&mut seen.body);
        }
        if let Some(length) = seen.value("content-length") {
            let length = length.trim().parse().unwrap_or(usize::MAX);
            return self.read_exactly(length, &mut seen.body);
        }
        loop {
            match self.fill(MAX_READ) {
                Ok(()) => {}
                Err(Stop::Timeout) => return Err(Stop::Timeout),
                Err(Stop::Closed) => {
                    seen.body = std::mem::take(&mut self.buffer);
                    return Ok(());
                }
            }
        }
    }

    fn read_exactly(&mut self, length: usize, into: &mut Vec<u8>) -> Result<(), Stop> {
        let mut missing = length;
        loop {
            let take = missing.min(self.buffer.len());
            into.extend(self.buffer.drain(..take));
            missing -= take;
            if missing == 0 {
                return Ok(());
            }
            self.fill(MAX_READ)?;
        }
    }

    fn read_line(&mut self) -> Result<String, Stop> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill(MAX_READ)?;
        }
    }

    fn read_chunks(&mut self, into: &mut Vec<u8>) -> Result<(), Stop> {
        loop {
            let size = self.read_line()?;
            let Ok(size) = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            else {
                return Err(Stop::Closed);
            };
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(());
            }
            self.read_exactly(size, into)?;
            self.read_line()?;
        }
    }

    /// The state of the connection. `Open` means that nothing happened for this time.
    pub fn after(&mut self, at_most: Duration) -> After {
        let began = Instant::now();
        loop {
            if !self.buffer.is_empty() {
                return After::Surplus;
            }
            let left = at_most.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            match self.fill(left) {
                Ok(()) => {}
                Err(Stop::Closed) => return After::Closed,
                Err(Stop::Timeout) => return After::Open,
            }
        }
    }
}

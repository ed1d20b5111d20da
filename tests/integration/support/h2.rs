//! An HTTP/2 client that sends exactly the frames of a test, valid or not. It sends fields as literals without
//! compression, and reads only `:status` of a response.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// With a response: its status, if it could be decoded, and its body.
    Answer(Option<u16>, Vec<u8>),
    /// With RST_STREAM and this code.
    Reset(u32),
    /// With the end of the connection.
    Closed,
}

impl StreamEnd {
    /// The status of the response, or 0.
    pub fn status(&self) -> u16 {
        match self {
            StreamEnd::Answer(status, _) => status.unwrap_or(0),
            _ => 0,
        }
    }

    /// The JSON body of the response.
    pub fn json(&self) -> serde_json::Value {
        match self {
            StreamEnd::Answer(_, body) => serde_json::from_slice(body)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(body))),
            other => panic!("no answer: {other:?}"),
        }
    }
}

pub enum NextFrame {
    /// Kind, flags, stream, payload.
    Frame(u8, u8, u32, Vec<u8>),
    /// No frame within the time.
    Nothing,
    /// The end of the connection.
    Closed,
}

/// A connection with TLS.
pub struct H2 {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    next: u32,
}

impl H2 {
    /// Connects, and exchanges settings.
    pub fn connect(address: SocketAddr, name: &str, ca_file: &Path) -> H2 {
        H2::connect_after(b"", address, name, ca_file)
    }

    /// [`H2::connect`] with these bytes before TLS.
    pub fn connect_after(preamble: &[u8], address: SocketAddr, name: &str, ca_file: &Path) -> H2 {
        let mut config = super::client::tls_config(ca_file);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let server = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        tcp.write_all(preamble).unwrap();
        let mut h2 = H2 { stream: rustls::StreamOwned::new(connection, tcp), next: 1 };
        h2.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        h2.frame(SETTINGS, 0, 0, &[]);
        h2
    }

    /// Sends one frame as given.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let bytes = frame_of(kind, flags, stream, payload);
        // The next read reports a closed connection.
        let _ = self.stream.write_all(&bytes).and_then(|()| self.stream.flush());
    }

    /// Sends many frames at once. Returns false if the peer has closed or reads no more.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.sock.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Discards frames for this time. Returns false if the peer has ended the connection.
    pub fn goes_on(&mut self, at_most: Duration) -> bool {
        self.stream.sock.set_read_timeout(Some(at_most)).unwrap();
        loop {
            let mut head = [0; 9];
            match self.stream.read_exact(&mut head) {
                Ok(()) => {}
                Err(e) => {
                    return matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                }
            }
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            if self.stream.read_exact(&mut payload).is_err() || head[3] == GOAWAY {
                return false;
            }
        }
    }

    /// Starts a stream with these fields, including pseudo-header fields, and returns its number.
    pub fn headers(&mut self, fields: &[(&str, &str)], end: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        self.section(stream, fields, end);
        stream
    }

    /// Sends another field section of a stream, such as trailers.
    pub fn section(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let block = block_of(fields);
        self.frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block);
    }

    /// Sends a part of a body.
    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        self.frame(DATA, if end { END_STREAM } else { 0 }, stream, bytes);
    }

    /// Waits for the end of a stream.
    pub fn end_of(&mut self, stream: u32) -> StreamEnd {
        let (mut status, mut body) = (None, Vec::new());
        loop {
            let Some((kind, flags, at, payload)) = self.read() else { return StreamEnd::Closed };
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
                GOAWAY if payload.get(4..8) != Some(&[0; 4]) => return StreamEnd::Closed,
                RST_STREAM if at == stream => {
                    return StreamEnd::Reset(u32::from_be_bytes(payload[..4].try_into().unwrap()));
                }
                HEADERS if at == stream => {
                    status = status_of(&payload).filter(|s| *s >= 200).or(status);
                }
                DATA => {
                    let grant = u32::try_from(payload.len()).unwrap().to_be_bytes();
                    if !payload.is_empty() {
                        self.frame(WINDOW_UPDATE, 0, 0, &grant);
                        self.frame(WINDOW_UPDATE, 0, at, &grant);
                    }
                    if at == stream {
                        body.extend_from_slice(&payload);
                    }
                }
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && at == stream && flags & END_STREAM != 0 {
                return StreamEnd::Answer(status, body);
            }
        }
    }

    /// The next frame, if it starts within this time.
    pub fn next_frame(&mut self, at_most: Duration) -> NextFrame {
        self.stream.sock.set_read_timeout(Some(at_most)).unwrap();
        let mut first = [0; 1];
        match self.stream.read(&mut first) {
            Ok(1..) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return NextFrame::Nothing;
            }
            _ => return NextFrame::Closed,
        }
        self.stream.sock.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let Some((kind, flags, stream, payload)) = self.read_behind(&first) else { return NextFrame::Closed };
        NextFrame::Frame(kind, flags, stream, payload)
    }

    fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        self.read_behind(&[])
    }

    /// Reads the rest of a frame that starts with these bytes.
    fn read_behind(&mut self, begin: &[u8]) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        head[..begin.len()].copy_from_slice(begin);
        self.stream.read_exact(&mut head[begin.len()..]).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some((head[3], head[4], stream, payload))
    }
}

/// A `reqwest` client that trusts this cluster's certificates and uses HTTP/2 if the server offers it.
pub fn h2_client(acme: &super::Acme) -> reqwest::Client {
    // An error means that another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(&std::fs::read(&acme.ca_file).unwrap()).unwrap();
    reqwest::Client::builder().use_rustls_tls().add_root_certificate(ca).build().unwrap()
}

pub fn frame_of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes fields as literals without indexing, with new names and without Huffman code (RFC 7541 section 6.2.2).
pub fn block_of(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Appends an integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, mut number: usize) {
    if number < 127 {
        block.push(number as u8);
        return;
    }
    block.push(127);
    number -= 127;
    while number >= 128 {
        block.push((number % 128 + 128) as u8);
        number /= 128;
    }
    block.push(number as u8);
}

/// Decodes `:status`, the first field: an entry of the static table, or a literal with a name from it, possibly in
/// Huffman code (digits have codes of five and six bits).
fn status_of(block: &[u8]) -> Option<u16> {
    // A table size update may precede it.
    let block = if block.first()? & 0xe0 == 0x20 { block.get(1..)? } else { block };
    match *block.first()? {
        indexed @ 0x88..=0x8e => Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        0x08 | 0x18 | 0x48 => {
            let length = block.get(1)?;
            let text = block.get(2..2 + usize::from(length & 0x7f))?;
            if length & 0x80 == 0 { std::str::from_utf8(text).ok()?.parse().ok() } else { digits(text) }
        }
        _ => None,
    }
}

fn digits(huffman: &[u8]) -> Option<u16> {
    let bits = huffman.iter().flat_map(|o| (0..8).rev().map(move |n| u16::from(o >> n & 1)));
    let (mut number, mut code, mut length, mut count) = (0, 0, 0, 0);
    for bit in bits {
        (code, length) = (code << 1 | bit, length + 1);
        // `0` to `2` are 00000 to 00010, `3` to `9` are 011001 to 011111 (RFC 7541 appendix B).
        let digit = match (length, code) {
            (5, 0..=2) => code,
            (6, 0b01_1001..=0b01_1111) => code - 0b01_1001 + 3,
            _ => continue,
        };
        (number, code, length, count) = (number * 10 + digit, 0, 0, count + 1);
        if count == 3 {
            return Some(number);
        }
    }
    None
}

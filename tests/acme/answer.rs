//! A response before it is sent. Bodies are generated in pieces, so that a large one needs no memory.

use crate::clock;

/// A body to send.
pub enum Content {
    Bytes(Vec<u8>),
    /// This many bytes of `0123456789abcdef`, repeated.
    Fill(usize),
    /// This many bytes that compress about as well as a page.
    Text(usize),
}

impl Content {
    pub fn len(&self) -> usize {
        match self {
            Content::Bytes(bytes) => bytes.len(),
            Content::Fill(n) | Content::Text(n) => *n,
        }
    }

    /// Appends the bytes from `at` to `end`.
    pub fn copy_to(&self, at: usize, end: usize, out: &mut Vec<u8>) {
        match self {
            Content::Bytes(bytes) => out.extend_from_slice(&bytes[at..end]),
            Content::Fill(_) => out.extend((at..end).map(|i| b"0123456789abcdef"[i % 16])),
            Content::Text(_) => out.extend((at..end).map(text_at)),
        }
    }
}

/// A byte of lines that are alike but for a number.
fn text_at(at: usize) -> u8 {
    const LINE: &[u8] = b"<tr class=\"entry\"><td>0000000000</td><td>Acme branch</td></tr>\n";
    let (line, column) = (at / LINE.len(), at % LINE.len());
    match LINE[column] {
        b'0' => b'a' + (line.wrapping_mul(0x9E37_79B1) >> (column % 24) & 15) as u8,
        other => other,
    }
}

/// How the length of the body is announced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Known,
    Chunked,
    Open,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Content,
    pub chunked: bool,
    /// No length: the body ends with the connection.
    pub until_close: bool,
    /// Milliseconds before the first byte.
    pub delay_ms: u64,
    /// Milliseconds between pieces of 1 KiB.
    pub drip_ms: u64,
    /// Milliseconds for which the request occupies a worker at normal speed.
    pub work_ms: u64,
    /// Milliseconds by which the clock of the server is ahead.
    pub clock_skew_ms: i64,
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: Content::Bytes(body.into()),
            chunked: false,
            until_close: false,
            delay_ms: 0,
            drip_ms: 0,
            work_ms: 0,
            clock_skew_ms: 0,
        }
    }

    pub fn html(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer::new(status, "text/html; charset=UTF-8", body)
    }

    pub fn json(status: u16, value: &serde_json::Value) -> Answer {
        let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
        text.push(b'\n');
        Answer::new(status, "application/json; charset=UTF-8", text)
    }

    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Status line and headers.
    pub fn head(&self, length: Length, keep: bool) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let date = clock::http_date(clock::skewed_ms(self.clock_skew_ms) / 1000);
        out.push_str(&format!("Server: Lotus-Domino\r\nDate: {date}\r\n"));
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        match length {
            Length::Known if self.status == 204 || self.status == 304 => {}
            Length::Known => out.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Length::Chunked => out.push_str("Transfer-Encoding: chunked\r\n"),
            Length::Open => {}
        }
        if !keep {
            out.push_str("Connection: close\r\n");
        }
        out.push_str("\r\n");
        out.into_bytes()
    }
}

pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Other",
    }
}

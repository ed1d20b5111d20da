//! What a client received: a response, or the reason why there is none.

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers as received, without the empty line.
    pub head: String,
    pub headers: Vec<(String, String)>,
    /// Decoded if it came in chunks.
    pub body: Vec<u8>,
    /// Statuses of 1xx answers before it.
    pub informational: Vec<u16>,
    /// The body ended as its framing said.
    pub complete: bool,
    /// The connection cannot be used again.
    pub closed: bool,
}

impl Answer {
    /// First header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All headers of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, v)| v.as_str()).collect()
    }

    /// The server of the simulation that made it.
    pub fn server(&self) -> &str {
        self.header("x-acme-server").unwrap_or("")
    }

    /// The common name of the server that made it, else the status.
    pub fn served_by(&self) -> String {
        match self.server().split('/').next() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => self.status.to_string(),
        }
    }

    /// The value of a cookie it sets.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.all("set-cookie").into_iter().filter_map(|c| c.split(';').next()?.split_once('='));
        pairs.filter(|(n, _)| *n == name).map(|(_, v)| v).next_back()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.head, self.text()))
    }
}

/// Why there is no answer, or only part of one.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "the fields are for the messages of failing tests")]
pub enum Failure {
    /// Connection refused, or no answer to connecting.
    Connect(String),
    /// TLS.
    Tls(String),
    /// RST before a whole head.
    Reset,
    /// FIN before a whole head; what came so far.
    Closed(Vec<u8>),
    /// Nothing for so long.
    Timeout,
    /// A head, but not the whole body.
    Truncated(Box<Answer>),
    /// Not HTTP.
    Malformed(Vec<u8>),
}

impl Failure {
    /// A name for counting outcomes.
    pub fn name(&self) -> &'static str {
        match self {
            Failure::Connect(_) => "connect",
            Failure::Tls(_) => "tls",
            Failure::Reset => "reset",
            Failure::Closed(_) => "closed",
            Failure::Timeout => "timeout",
            Failure::Truncated(_) => "truncated",
            Failure::Malformed(_) => "malformed",
        }
    }
}

//! What a client received: a response, or the reason why there is none.

#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers as received, without the empty line.
    pub head: String,
    pub headers: Vec<(String, String)>,
    /// Decoded if it was sent in chunks.
    pub body: Vec<u8>,
    /// Statuses of the 1xx responses before it.
    pub informational: Vec<u16>,
    /// The body is complete according to its framing.
    pub complete: bool,
    /// The connection cannot be used again.
    pub closed: bool,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All headers of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, v)| v.as_str()).collect()
    }

    /// The full name of the simulated server that sent it.
    pub fn server(&self) -> &str {
        self.header("x-acme-server").unwrap_or("")
    }

    /// The common name of the simulated server that sent it, else the status.
    pub fn served_by(&self) -> String {
        match self.server().split('/').next() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => self.status.to_string(),
        }
    }

    /// The value of a cookie that it sets.
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

/// Why there is no response, or only a part of one.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "the fields are for the messages of failing tests")]
pub enum Failure {
    /// Connection refused or timed out.
    Connect(String),
    Tls(String),
    /// RST before a whole head.
    Reset,
    /// FIN before a whole head, with the bytes received so far.
    Closed(Vec<u8>),
    /// Nothing received within the timeout.
    Timeout,
    /// A head without the whole body.
    Truncated(Box<Answer>),
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

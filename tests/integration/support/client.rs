//! An HTTP/1.1 client that sends exact bytes, keeps its connection, and reports how a response failed to arrive.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, Failure};

/// A TLS configuration that trusts the authorities in this PEM file.
pub fn tls_config(ca_file: &Path) -> rustls::ClientConfig {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_file_iter(ca_file).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A client of one address.
pub struct Client {
    address: SocketAddr,
    /// `Host` of its requests.
    pub host: String,
    /// Timeout of each read; 20 s by default.
    pub timeout: Duration,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    tls: Option<(Arc<rustls::ClientConfig>, String)>,
    /// Sent first on each connection, before TLS.
    preamble: Vec<u8>,
    stream: Option<Box<dyn Stream>>,
    buffer: Vec<u8>,
}

impl Client {
    /// A client without TLS; it connects when it sends something.
    pub fn to(address: SocketAddr) -> Client {
        Client {
            address,
            host: address.to_string(),
            timeout: Duration::from_secs(20),
            headers: Vec::new(),
            tls: None,
            preamble: Vec::new(),
            stream: None,
            buffer: Vec::new(),
        }
    }

    /// With these bytes at the beginning of each connection, before TLS.
    pub fn begin_with(mut self, preamble: &[u8]) -> Client {
        self.preamble = preamble.to_vec();
        self
    }

    /// A client with TLS that trusts the authorities in this PEM file.
    pub fn tls(address: SocketAddr, name: &str, ca_file: &Path) -> Client {
        let mut client = Client::to(address);
        client.host = name.to_owned();
        client.tls = Some((Arc::new(tls_config(ca_file)), name.to_owned()));
        client
    }

    pub fn host(mut self, host: &str) -> Client {
        self.host = host.to_owned();
        self
    }

    /// With this header in every request.
    pub fn with(mut self, name: &str, value: &str) -> Client {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this limit for every read.
    pub fn timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    /// Connects if there is no connection.
    pub fn connect(&mut self) -> Result<(), Failure> {
        if self.stream.is_some() {
            return Ok(());
        }
        self.buffer.clear();
        let connected = TcpStream::connect_timeout(&self.address, self.timeout);
        let mut stream = connected.map_err(|e| Failure::Connect(e.to_string()))?;
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(self.timeout));
        let _ = stream.set_write_timeout(Some(self.timeout));
        stream.write_all(&self.preamble).map_err(|_| Failure::Reset)?;
        self.stream = Some(match &self.tls {
            None => Box::new(stream),
            Some((config, name)) => {
                let name = rustls::pki_types::ServerName::try_from(name.clone()).unwrap();
                let connection = rustls::ClientConnection::new(config.clone(), name).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                stream.flush().map_err(|e| Failure::Tls(e.to_string()))?;
                Box::new(stream)
            }
        });
        Ok(())
    }

    /// Whether a connection is open, as far as this side knows.
    pub fn connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Closes the connection (FIN).
    pub fn close(&mut self) {
        self.stream = None;
        self.buffer.clear();
    }

    /// Sends exactly these bytes, connecting if needed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.connect()?;
        let Some(stream) = &mut self.stream else { return Err(Failure::Closed(Vec::new())) };
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::TimedOut => {
                Err(Failure::Timeout)
            }
            Err(_) => Err(Failure::Reset),
        }
    }

    /// The head of a request with `Host`, the client's own headers and these.
    pub fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut out = format!("{method} {target} HTTP/1.1\r\n");
        let named = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !named("host") {
            out.push_str(&format!("Host: {}\r\n", self.host));
        }
        let own = self.headers.iter().filter(|(n, _)| !named(n)).map(|(n, v)| (n.as_str(), v.as_str()));
        for (name, value) in own.chain(headers.iter().copied()) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out + "\r\n"
    }

    /// Sends a request and reads the response. A body has a Content-Length unless the headers frame it otherwise.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let length = body.len().to_string();
        let framed =
            |n: &str| n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding");
        let mut all = headers.to_vec();
        if (!body.is_empty() || matches!(method, "POST" | "PUT")) && !headers.iter().any(|(n, _)| framed(n)) {
            all.push(("Content-Length", &length));
        }
        let mut bytes = self.head(method, target, &all).into_bytes();
        bytes.extend_from_slice(body);
        // Writing fails if the peer responds early and closes, but the response can still be read.
        let sent = self.send(&bytes);
        match (self.read(method), sent) {
            (Ok(answer), _) => Ok(answer),
            (Err(failure), Ok(())) => Err(failure),
            (Err(_), Err(failure)) => Err(failure),
        }
    }

    /// Sends GET, which must be answered.
    pub fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"").unwrap_or_else(|e| panic!("GET {target}: {e:?}"))
    }

    /// Sends GET with headers, which must be answered.
    pub fn get_with(&mut self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", target, headers, b"").unwrap_or_else(|e| panic!("GET {target}: {e:?}"))
    }

    /// Sends POST with a form, which must be answered.
    pub fn post(&mut self, target: &str, headers: &[(&str, &str)], form: &str) -> Answer {
        let mut all = vec![("Content-Type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.request("POST", target, &all, form.as_bytes()).unwrap_or_else(|e| panic!("POST {target}: {e:?}"))
    }

    fn fill(&mut self) -> Result<usize, Failure> {
        let Some(stream) = &mut self.stream else { return Err(Failure::Closed(Vec::new())) };
        let mut piece = [0_u8; 16 * 1024];
        match stream.read(&mut piece) {
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                Ok(n)
            }
            Err(e) => Err(match e.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Timeout,
                ErrorKind::InvalidData => Failure::Tls(e.to_string()),
                // rustls reports a FIN without close_notify like this.
                ErrorKind::UnexpectedEof => return Ok(0),
                _ => Failure::Reset,
            }),
        }
    }

    /// Reads until the peer closes.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, Failure> {
        while self.fill()? > 0 {}
        self.stream = None;
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads exactly this many bytes, after the protocol has been switched.
    pub fn read_bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        self.read_exactly(length, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether the peer closes within the timeout without sending anything.
    pub fn peer_closes(&mut self) -> bool {
        matches!(self.fill(), Ok(0) | Err(Failure::Reset))
    }

    /// Reads the response to a request with this method.
    pub fn read(&mut self, method: &str) -> Result<Answer, Failure> {
        let result = self.read_answer(method);
        match &result {
            Ok(answer) if !answer.closed => {}
            _ => self.close(),
        }
        result
    }

    fn read_answer(&mut self, method: &str) -> Result<Answer, Failure> {
        let mut informational = Vec::new();
        let mut answer = loop {
            let answer = self.read_head()?;
            if answer.status >= 200 || answer.status == 101 {
                break answer;
            }
            informational.push(answer.status);
        };
        answer.informational = informational;
        let word = |name, word: &str| {
            answer.header(name).is_some_and(|v| v.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)))
        };
        let (closed, chunked) = (word("connection", "close"), word("transfer-encoding", "chunked"));
        answer.closed = closed;
        let length = answer.header("content-length").map(|v| v.parse::<usize>());
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            answer.complete = true;
            return Ok(answer);
        }
        let result = match (chunked, length) {
            (true, _) => self.read_chunks(&mut answer.body),
            (false, Some(Ok(length))) => self.read_exactly(length, &mut answer.body),
            (false, Some(Err(_))) => return Err(Failure::Malformed(answer.head.into_bytes())),
            (false, None) => {
                answer.closed = true;
                let end = loop {
                    match self.fill() {
                        Ok(0) => break Ok(()),
                        Ok(_) => {}
                        Err(failure) => break Err(failure),
                    }
                };
                answer.body = std::mem::take(&mut self.buffer);
                end
            }
        };
        match result {
            Ok(()) => {
                answer.complete = true;
                Ok(answer)
            }
            Err(Failure::Timeout) => Err(Failure::Timeout),
            Err(_) => Err(Failure::Truncated(Box::new(answer))),
        }
    }

    fn read_head(&mut self) -> Result<Answer, Failure> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if self.fill()? == 0 {
                return Err(Failure::Closed(std::mem::take(&mut self.buffer)));
            }
        };
        let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|l| l.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
        let Some(status) = status else { return Err(Failure::Malformed(bytes)) };
        let headers =
            lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
        Ok(Answer { status, headers: headers.collect(), head, ..Answer::default() })
    }

    fn read_exactly(&mut self, length: usize, into: &mut Vec<u8>) -> Result<(), Failure> {
        let mut left = length;
        loop {
            let take = left.min(self.buffer.len());
            into.extend(self.buffer.drain(..take));
            left -= take;
            if left == 0 {
                return Ok(());
            }
            if self.fill()? == 0 {
                return Err(Failure::Closed(Vec::new()));
            }
        }
    }

    fn read_chunks(&mut self, into: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            let line = self.read_line()?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| Failure::Malformed(line.clone().into_bytes()))?;
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(());
            }
            self.read_exactly(size, into)?;
            self.read_line()?;
        }
    }

    fn read_line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.fill()? == 0 {
                return Err(Failure::Closed(Vec::new()));
            }
        }
    }
}

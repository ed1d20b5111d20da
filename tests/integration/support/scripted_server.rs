//! A server that runs a test's own function for each connection, for behaviour that the simulated cluster does not have.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::listener::Listener;

pub struct ScriptedServer {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _listener: Listener,
}

/// One connection of a client.
pub struct ServerConnection {
    pub stream: TcpStream,
    /// Number of the connection on the server, from 0.
    pub number: usize,
    buffer: Vec<u8>,
}

impl ScriptedServer {
    /// Runs `serve` in a thread for each connection; the connection is closed when it returns.
    pub fn new(serve: impl Fn(&mut ServerConnection) + Send + Sync + 'static) -> ScriptedServer {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let listener = Listener::start(move |stream, number| {
            count.fetch_add(1, Ordering::Relaxed);
            serve(&mut ServerConnection { stream, number, buffer: Vec::new() });
        });
        ScriptedServer { address: listener.address, connections, _listener: listener }
    }

    /// Number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A configuration with this as the only server, and an empty directory.
    pub fn config(&self) -> serde_yaml::Value {
        super::config_for(self.address)
    }

    /// A configuration with these servers as Web1, Web2, ...
    pub fn config_of(servers: &[ScriptedServer]) -> serde_yaml::Value {
        let server = |(n, server): (usize, &ScriptedServer)| {
            format!("{{ name: Web{n}/Acme, hostname: web{n}.acme.example, http: \"{}\" }}", server.address)
        };
        let list: Vec<String> = (1..).zip(servers).map(server).collect();
        let mut config = servers[0].config();
        super::set(&mut config, "clusters.0.servers.list", &format!("[ {} ]", list.join(", ")));
        config
    }
}

impl ServerConnection {
    /// Reads the next request and returns its head, or `None` if the client has closed. It answers probes itself.
    pub fn request(&mut self) -> Option<String> {
        loop {
            let head = self.request_or_probe()?;
            if !head.starts_with("GET / HTTP/1.1\r\n") {
                return Some(head);
            }
            self.say(super::OK);
        }
    }

    /// Like [`Self::request`], but returns probes too.
    pub fn request_or_probe(&mut self) -> Option<String> {
        let head = self.head()?;
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
        self.fill(length.unwrap_or(0))?;
        self.buffer.drain(..length.unwrap_or(0));
        Some(head)
    }

    fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            self.fill(self.buffer.len() + 1)?;
        }
    }

    fn fill(&mut self, wanted: usize) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        while self.buffer.len() < wanted {
            match self.stream.read(&mut piece) {
                Ok(n) if n > 0 => self.buffer.extend_from_slice(&piece[..n]),
                _ => return None,
            }
        }
        Some(())
    }

    /// Sends text. Returns false if the client has closed.
    pub fn say(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).is_ok()
    }

    /// Sends the piece up to `at_most` times with a pause between, until the client closes.
    pub fn drip(&mut self, piece: &str, every_ms: u64, at_most: usize) {
        for _ in 0..at_most {
            if !self.say(piece) {
                return;
            }
            super::pause(every_ms);
        }
    }
}

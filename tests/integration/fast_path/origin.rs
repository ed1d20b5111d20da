//! The server of the exchanges: it recognises each by its header, plays the answer, and records what arrived.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::answers::{AnswerPlan, Ending, Step};
use super::exchange::{Exchange, SEED};
use crate::support::{MAX_WAIT, OK, ScriptedServer};

/// A request as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub line: String,
    /// By name; the order of names is not defined, that of values is.
    pub fields: Vec<(String, String)>,
    /// The content, without chunks.
    pub body: Vec<u8>,
    pub body_is_complete: bool,
}

#[derive(Debug, Default)]
struct Log {
    received: BTreeMap<u64, Vec<Received>>,
    /// Requests that were answered to the end, connection closed if that was planned.
    done: BTreeMap<u64, usize>,
    /// The number of the request on its connection, for each attempt.
    reused: BTreeMap<u64, Vec<bool>>,
}

/// Servers that share their records.
pub struct Origin {
    servers: Vec<ScriptedServer>,
    log: Arc<Mutex<Log>>,
}

trait Stream: Read + Write {
    /// Ends the sending side. With TLS an end without this looks like an attack.
    fn end(&mut self);
}

impl Stream for TcpStream {
    fn end(&mut self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

impl Stream for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
        self.sock.end();
    }
}

impl Origin {
    /// So many servers, with TLS if there is a configuration for it.
    pub fn start(servers: usize, tls: Option<&Arc<rustls::ServerConfig>>) -> Origin {
        let log = Arc::new(Mutex::new(Log::default()));
        let server = |_| {
            let (log, tls) = (log.clone(), tls.cloned());
            ScriptedServer::new(move |connection| {
                let socket = connection.stream.try_clone().unwrap();
                match &tls {
                    None => serve(&mut connection.stream, &socket, &log),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls.clone()).unwrap();
                        let tcp = connection.stream.try_clone().unwrap();
                        let mut stream = rustls::StreamOwned::new(session, tcp);
                        serve(&mut stream, &socket, &log);
                    }
                }
            })
        };
        Origin { servers: (0..servers).map(server).collect(), log }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.servers.iter().map(ScriptedServer::connections).sum()
    }

    /// Waits until every attempt of this exchange has ended, and takes what arrived.
    pub fn take(&self, seed: u64) -> (Vec<Received>, Vec<bool>) {
        let is_over = || {
            let log = self.log.lock().unwrap();
            log.reused.get(&seed).map_or(0, Vec::len) == log.done.get(&seed).copied().unwrap_or(0)
        };
        let began = Instant::now();
        while !is_over() && began.elapsed() < MAX_WAIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut log = self.log.lock().unwrap();
        (log.received.remove(&seed).unwrap_or_default(), log.reused.get(&seed).cloned().unwrap_or_default())
    }
}

/// Serves one connection until an answer ends it.
fn serve(stream: &mut dyn Stream, socket: &TcpStream, log: &Mutex<Log>) {
    let mut buffer = Vec::new();
    let mut count = 0;
    while let Some(head) = head(stream, &mut buffer) {
        let Some((seed, received)) = parse(&head) else {
            // A probe.
            if stream.write_all(OK.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
            continue;
        };
        let is_reused = count > 0;
        count += 1;
        let attempt = {
            let mut log = log.lock().unwrap();
            let reused = log.reused.entry(seed).or_default();
            reused.push(is_reused);
            reused.len() - 1
        };
        let exchange = Exchange::of(seed);
        let plan = match exchange.answer.only_first && attempt > 0 {
            true => AnswerPlan::plain(),
            false => exchange.answer,
        };
        let early = plan.is_early.then(|| play(stream, &plan));
        let received = body(stream, &mut buffer, received);
        let is_whole = received.body_is_complete;
        log.lock().unwrap().received.entry(seed).or_default().push(received);
        let ending = match early {
            Some(ending) => ending,
            None if is_whole => play(stream, &plan),
            None => Ending::Close,
        };
        match ending {
            Ending::Keep => {}
            Ending::Close => stream.end(),
            Ending::Reset => reset(socket),
        }
        *log.lock().unwrap().done.entry(seed).or_default() += 1;
        if ending != Ending::Keep {
            return;
        }
    }
}

/// Sends an answer. If the proxy reads no more, the connection is over.
fn play(stream: &mut dyn Stream, plan: &AnswerPlan) -> Ending {
    for step in &plan.steps {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(bytes).and_then(|()| stream.flush()).is_err() {
                    return Ending::Close;
                }
            }
            Step::Pause(ms) => std::thread::sleep(Duration::from_millis(*ms)),
        }
    }
    plan.ending
}

/// Lets the end of the connection be an RST: it is not delayed until what was sent has arrived.
fn reset(socket: &TcpStream) {
    let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::Linger, &now);
}

fn fill(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(n) if n > 0 => {
            buffer.extend_from_slice(&piece[..n]);
            Some(())
        }
        _ => None,
    }
}

fn head(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            return Some(buffer.drain(..end + 4).collect());
        }
        fill(stream, buffer)?;
    }
}

/// The seed and the head; `None` for a request that is not of the test.
fn parse(head: &[u8]) -> Option<(u64, Received)> {
    // Each byte is one character, so that nothing is lost.
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.trim_end_matches("\r\n\r\n").split("\r\n");
    let line = lines.next()?.to_owned();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned())
    };
    let mut fields: Vec<(String, String)> = lines.map(field).collect();
    // Stable: the values of one name keep their order.
    fields.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    let seed = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(SEED))?.1.parse().ok()?;
    Some((seed, Received { line, fields, ..Received::default() }))
}

/// Reads the body, and answers `Expect: 100-continue` if nothing of it has arrived.
fn body(stream: &mut dyn Stream, buffer: &mut Vec<u8>, mut received: Received) -> Received {
    let value = |name: &str| {
        let found = received.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_ascii_lowercase())
    };
    let (length, coding, expect) = (value("content-length"), value("transfer-encoding"), value("expect"));
    if expect.is_some() && buffer.is_empty() {
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").and_then(|()| stream.flush());
    }
    let result = match (coding, length) {
        (Some(_), _) => chunks(stream, buffer, &mut received.body),
        (None, Some(length)) => {
            exactly(stream, buffer, length.trim().parse().unwrap_or(0), &mut received.body)
        }
        (None, None) => Some(()),
    };
    received.body_is_complete = result.is_some();
    received
}

fn exactly(stream: &mut dyn Stream, buffer: &mut Vec<u8>, length: usize, into: &mut Vec<u8>) -> Option<()> {
    while buffer.len() < length {
        fill(stream, buffer)?;
    }
    into.extend(buffer.drain(..length));
    Some(())
}

fn line(stream: &mut dyn Stream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|w| w == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..end + 2).collect();
            return Some(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        fill(stream, buffer)?;
    }
}

fn chunks(stream: &mut dyn Stream, buffer: &mut Vec<u8>, into: &mut Vec<u8>) -> Option<()> {
    loop {
        let size = line(stream, buffer)?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            while !line(stream, buffer)?.is_empty() {}
            return Some(());
        }
        exactly(stream, buffer, size, into)?;
        line(stream, buffer)?;
    }
}

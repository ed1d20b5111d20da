//! A constant load, with a sample for each request. The load does not slow down with the responses, and the time of a
//! sample counts from the moment when the request was due.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::catalogue::{self, SERVERS};

/// Connections, each with at most one request in flight.
const CONNECTIONS: u64 = 24;
/// Every nth request goes directly to an origin, as a control of the machine.
const CONTROL_EVERY: u64 = 8;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of one request.
#[derive(Clone, Copy)]
pub struct Sample {
    /// When it was due.
    pub at: Instant,
    pub took: Duration,
    /// Sent directly to the origin.
    pub control: bool,
    /// Answered with 200, by a server that holds the database.
    pub good: bool,
}

pub struct Load {
    clients: Vec<JoinHandle<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub fn start(proxy: SocketAddr, origin: SocketAddr, databases: u64, per_second: u64) -> Self {
        let (next, stop, start) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)), Instant::now());
        let clients = (0..CONNECTIONS).map(|_| {
            let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut samples = Vec::new();
                let (mut through, mut straight) = (None, None);
                while !stop.load(SeqCst) {
                    let number = next.fetch_add(1, SeqCst);
                    let at = start + Duration::from_micros(number * 1_000_000 / per_second);
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    let control = number % CONTROL_EVERY == 0;
                    let (to, connection) =
                        if control { (origin, &mut straight) } else { (proxy, &mut through) };
                    let database = catalogue::shuffle(number) % databases;
                    let answer = exchange(to, connection, database);
                    let good = match &answer {
                        Ok(server) => control || holds(server, database),
                        Err(_) => false,
                    };
                    if answer.is_err() {
                        *connection = None;
                    }
                    samples.push(Sample { at, took: at.elapsed(), control, good });
                }
                samples
            })
        });
        Self { clients: clients.collect(), stop }
    }

    /// Stops the load and returns all samples in the order of time.
    pub fn end(self) -> Vec<Sample> {
        self.stop.store(true, SeqCst);
        let mut samples: Vec<Sample> =
            self.clients.into_iter().filter_map(|client| client.join().ok()).flatten().collect();
        samples.sort_by_key(|sample| sample.at);
        samples
    }
}

/// Whether a server, by its common name, has a replica in any edition.
pub fn holds(server: &str, database: u64) -> bool {
    (0..catalogue::REPLICAS_PER_DATABASE).any(|replica| {
        let (holder, _) = catalogue::replica(database, replica, catalogue::UNMOVED_EDITION);
        SERVERS[holder].split('/').next() == Some(server)
    })
}

/// Requests a database at the path of its first replica, and returns the server that answered.
pub fn exchange(
    to: SocketAddr,
    connection: &mut Option<BufReader<TcpStream>>,
    database: u64,
) -> Result<String, Failure> {
    let reader = match connection {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect_timeout(&to, REQUEST_TIMEOUT)?;
            stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
            stream.set_nodelay(true)?;
            connection.insert(BufReader::new(stream))
        }
    };
    let path = match catalogue::moves(database) {
        // Its replica ID is the same in all editions.
        true => format!("__{:016X}.nsf", catalogue::replica_id(database)),
        false => catalogue::replica(database, 0, catalogue::UNMOVED_EDITION).1.replace('\\', "/"),
    };
    let head = format!(
        "GET /{path}/By+Date?OpenView HTTP/1.1\r\nHost: www.acme.example\r\nAccept: text/html\r\n\r\n"
    );
    reader.get_mut().write_all(head.as_bytes())?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(format!("{path}: {line}").into());
    }
    let (mut length, mut server) = (None, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>()?);
        } else if name.eq_ignore_ascii_case("x-served-by") {
            server = value.trim().to_owned();
        }
    }
    let length = length.ok_or("no length")?;
    let got = std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    if got == length { Ok(server) } else { Err("cut short".into()) }
}

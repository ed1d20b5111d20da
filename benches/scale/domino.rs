//! Six minimal Domino servers: a page for every URL that names its server, and the Cluster Database Directory in pages.
//!
//! The pages of the directory are prepared, so that generating them does not affect the measurement. For a million
//! databases they take 1.7 GB of memory.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalogue::{self, REPLICAS_PER_DATABASE, SERVERS};

/// Rows of one page.
const ROWS_PER_PAGE: u64 = 1_000;

/// The state that all servers share.
#[derive(Default)]
pub struct SimulatedDomain {
    /// Pages of the directory; if empty, it answers 503.
    pages: Mutex<Arc<Vec<String>>>,
    /// Number of pages that were read.
    pub read: AtomicU64,
}

impl SimulatedDomain {
    /// Makes the directory readable.
    pub fn publish(&self, pages: Vec<String>) {
        *self.pages.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(pages);
    }

    /// Makes the directory answer 503.
    pub fn withdraw(&self) {
        self.publish(Vec::new());
    }

    fn pages(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.pages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the servers on free ports, for the lifetime of the process.
pub fn start(domain: &Arc<SimulatedDomain>) -> std::io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for name in SERVERS {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        addresses.push(listener.local_addr()?);
        let domain = Arc::clone(domain);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let domain = Arc::clone(&domain);
                std::thread::spawn(move || serve(stream, name, &domain));
            }
        });
    }
    Ok(addresses)
}

fn serve(stream: TcpStream, name: &str, domain: &SimulatedDomain) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    let common = name.split('/').next()?;
    let page = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Served-By: {common}\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    );
    let (mut line, mut target) = (String::new(), String::new());
    loop {
        target.clear();
        if reader.read_line(&mut target).ok()? == 0 {
            return None;
        }
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            if line.trim_end().is_empty() {
                break;
            }
        }
        match target.split("Start=").nth(1) {
            Some(rest) if target.contains("cldbdir.nsf") => {
                let start: u64 = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
                let pages = domain.pages();
                let page = pages.get((start.saturating_sub(1) / ROWS_PER_PAGE) as usize);
                let page = page
                    .map_or("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", String::as_str);
                reader.get_mut().write_all(page.as_bytes()).ok()?;
                domain.read.fetch_add(u64::from(!pages.is_empty()), SeqCst);
            }
            _ => reader.get_mut().write_all(page.as_bytes()).ok()?,
        }
    }
}

/// All pages of a directory.
pub fn directory(databases: u64, edition: u64) -> Vec<String> {
    let rows = databases * REPLICAS_PER_DATABASE;
    (0..rows.div_ceil(ROWS_PER_PAGE))
        .map(|page| directory_page(rows, page * ROWS_PER_PAGE + 1, edition))
        .collect()
}

fn directory_page(rows: u64, start: u64, edition: u64) -> String {
    let mut xml = String::with_capacity(600 << 10);
    let _ =
        write!(xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<viewentries toplevelentries=\"{rows}\">");
    for row in start..rows.min(start + ROWS_PER_PAGE - 1) + 1 {
        let (number, replica) = ((row - 1) / REPLICAS_PER_DATABASE, (row - 1) % REPLICAS_PER_DATABASE);
        let (server, path) = catalogue::replica(number, replica, edition);
        let _ = writeln!(
            xml,
            "<viewentry position=\"{row}\" unid=\"{row:032X}\" noteid=\"{row:X}\" siblings=\"{rows}\">\
             <entrydata columnnumber=\"0\" name=\"$Pathname\"><text>{path}</text></entrydata>\
             <entrydata columnnumber=\"1\" name=\"$Server\"><text>{}</text></entrydata>\
             <entrydata columnnumber=\"2\" name=\"$Title\"><text>{}</text></entrydata>\
             <entrydata columnnumber=\"3\" name=\"$ReplicaID\"><text>{:016X}</text></entrydata></viewentry>",
            SERVERS.get(server).copied().unwrap_or_default(),
            catalogue::title(number),
            catalogue::replica_id(number),
        );
    }
    xml.push_str("</viewentries>\n");
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{xml}", xml.len())
}

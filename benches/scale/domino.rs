//! Six Domino servers as far as this bench needs them: a page for every URL that says who served it, and the Cluster
//! Database Directory, page by page as Domino gives it.
//!
//! In: sockets. Out: answers at once. The directory is written on a thread of lower priority, so that what is
//! measured beside it is not its making.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::catalogue::{self, REPLICAS, SERVERS};

/// What all of the servers know.
#[derive(Default)]
pub struct Domain {
    /// In the directory now; 0 = it answers 503.
    pub databases: AtomicU64,
    /// Which edition of the directory.
    pub edition: AtomicU64,
    /// Pages of the directory that were read.
    pub pages: AtomicU64,
}

/// Starts the servers on free ports; they live as long as the process.
pub fn start(domain: &Arc<Domain>) -> std::io::Result<Vec<SocketAddr>> {
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

fn serve(stream: TcpStream, name: &str, domain: &Domain) -> Option<()> {
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
                give_way();
                let start = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
                reader.get_mut().write_all(directory(domain, start).as_bytes()).ok()?;
            }
            _ => reader.get_mut().write_all(page.as_bytes()).ok()?,
        }
    }
}

/// A page of at most a thousand rows.
fn directory(domain: &Domain, start: u64) -> String {
    let rows = domain.databases.load(SeqCst) * REPLICAS;
    if rows == 0 {
        return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned();
    }
    domain.pages.fetch_add(1, SeqCst);
    let edition = domain.edition.load(SeqCst);
    let mut xml = String::with_capacity(600 << 10);
    let _ =
        write!(xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<viewentries toplevelentries=\"{rows}\">\n");
    for row in start..rows.min(start + 999) + 1 {
        let (number, replica) = ((row - 1) / REPLICAS, (row - 1) % REPLICAS);
        let (server, path) = catalogue::replica(number, replica, edition);
        let _ = write!(
            xml,
            "<viewentry position=\"{row}\" unid=\"{row:032X}\" noteid=\"{row:X}\" siblings=\"{rows}\">\
             <entrydata columnnumber=\"0\" name=\"$Pathname\"><text>{path}</text></entrydata>\
             <entrydata columnnumber=\"1\" name=\"$Server\"><text>{}</text></entrydata>\
             <entrydata columnnumber=\"2\" name=\"$Title\"><text>{}</text></entrydata>\
             <entrydata columnnumber=\"3\" name=\"$ReplicaID\"><text>{:016X}</text></entrydata></viewentry>\n",
            SERVERS[server],
            catalogue::title(number),
            catalogue::replica_id(number),
        );
    }
    xml.push_str("</viewentries>\n");
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{xml}", xml.len())
}

fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
}

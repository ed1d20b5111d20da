//! Opens many connections to a proxy, sends one request on each, leaves them idle, and says how much memory the proxy's
//! process then has. A load generator such as wrk cannot do this, because it keeps its connections busy.
//!
//! Prints one line for `benches/wrk/run.sh`: connections, answers other than 200, connections that the proxy closed, and
//! the resident size of the process in KiB before and after.

#![allow(clippy::disallowed_methods, reason = "there is no runtime that this thread could block")]

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time in which the proxy frees what the last requests needed.
const REST: Duration = Duration::from_millis(1500);

const USAGE: &str = "usage: idle ADDRESS CONNECTIONS PID TARGET [HEADER...]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` runs every bench with this argument; this one needs a script.
    if arguments.iter().any(|a| a == "--bench" || a == "--test") {
        return Ok(());
    }
    let [address, connections, pid, target, headers @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let address: SocketAddr = address.parse()?;
    let request = request(target, headers);
    let before = resident(pid)?;
    let mut open = Vec::new();
    let mut refused = 0;
    // One after another, so that the proxy never needs memory for many requests at once.
    for n in 0..connections.parse::<usize>()? {
        let mut stream = connect(address).map_err(|error| format!("connection {n}: {error}"))?;
        stream.write_all(request.as_bytes())?;
        let status = answer(&mut stream).map_err(|error| format!("connection {n}: {error}"))?;
        refused += u32::from(status != "200");
        open.push(stream);
    }
    std::thread::sleep(REST);
    let after = resident(pid)?;
    let mut closed = 0;
    for stream in &mut open {
        stream.set_nonblocking(true)?;
        let unread = stream.read(&mut [0]);
        closed += u32::from(!matches!(unread, Err(error) if error.kind() == ErrorKind::WouldBlock));
    }
    println!("RESULT {} {refused} {closed} {before} {after}", open.len());
    Ok(())
}

fn request(target: &str, headers: &[String]) -> String {
    let mut request = format!("GET {target} HTTP/1.1\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    Ok(stream)
}

/// Reads one whole response, whose length must be known. Returns its status.
fn answer(stream: &mut TcpStream) -> Result<String, Box<dyn Error>> {
    let mut received = Vec::with_capacity(4096);
    let mut piece = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err("the proxy closed it".into());
        }
        received.extend_from_slice(piece.get(..count).unwrap_or_default());
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.ok_or("an answer without Content-Length")?.1.trim().parse()?;
        if body.len() >= length {
            return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    }
}

/// The resident size of a process in KiB.
fn resident(pid: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.ok_or("no VmRSS")?.trim().trim_end_matches(" kB").parse()?)
}

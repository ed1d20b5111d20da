//! A constant load on a proxy while one of the servers behind it dies or freezes. Prints one line with the failed requests
//! for `benches/wrk/faults.sh`.
//!
//! The load does not slow down with the responses: a request that is due is sent as soon as a client is free, and the
//! delay is reported.

#![allow(clippy::disallowed_methods, reason = "there is no runtime that these threads could block")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Connections, each with at most one request in flight.
const CONNECTIONS: usize = 256;
/// Every nth request is a POST.
const POST_EVERY: u64 = 4;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const USAGE: &str =
    "usage: faults ADDRESS GET-TARGET POST-TARGET PER-SECOND SECONDS SIGNAL PID AFTER-SECONDS";

struct Plan {
    address: SocketAddr,
    get: String,
    post: String,
    per_second: u64,
    length: Duration,
    signal: Signal,
    pid: Pid,
    after: Duration,
}

/// A request without a response, or with a status of 400 or more.
struct Failed {
    post: bool,
    /// Time of the failure after the signal; negative before it.
    at_ms: i64,
    /// The status, or 0 without a response.
    status: u16,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` runs every bench with this argument; this one needs a script.
    if arguments.iter().any(|a| a == "--bench" || a == "--test") {
        return Ok(());
    }
    let [address, get, post, per_second, seconds, signal, pid, after] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let plan = Plan {
        address: address.parse()?,
        get: get.clone(),
        post: post.clone(),
        per_second: per_second.parse::<u64>()?.max(1),
        length: Duration::from_secs(seconds.parse()?),
        signal: Signal::from_str(signal)?,
        pid: Pid::from_raw(pid.parse()?),
        after: Duration::from_secs(after.parse()?),
    };
    report(&run(&plan)?);
    Ok(())
}

#[derive(Default)]
struct Results {
    requests: u64,
    failed: Vec<Failed>,
    /// The longest that a request had to wait for a free client.
    latest: Duration,
    /// The longest that an answer took.
    slowest: Duration,
}

fn run(plan: &Plan) -> Result<Results, Box<dyn Error>> {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| client(plan, start, &next))).collect();
        std::thread::sleep(plan.after.saturating_sub(start.elapsed()));
        kill(plan.pid, plan.signal)?;
        let mut all = Results::default();
        for one in clients {
            let one = one.join().map_err(|_| "a client panicked")?;
            all.requests += one.requests;
            all.failed.extend(one.failed);
            all.latest = all.latest.max(one.latest);
            all.slowest = all.slowest.max(one.slowest);
        }
        Ok(all)
    })
}

/// Sends requests as they become due, until the time is over.
fn client(plan: &Plan, start: Instant, next: &AtomicU64) -> Results {
    let mut seen = Results::default();
    let mut connection = None;
    loop {
        let number = next.fetch_add(1, Relaxed);
        let due = start + Duration::from_micros(number * 1_000_000 / plan.per_second);
        if due > start + plan.length {
            return seen;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        seen.latest = seen.latest.max(due.elapsed());
        let post = number.is_multiple_of(POST_EVERY);
        let sent = Instant::now();
        let status = exchange(plan, &mut connection, post).unwrap_or_else(|_| {
            connection = None;
            0
        });
        seen.requests += 1;
        seen.slowest = seen.slowest.max(sent.elapsed());
        if !(200..400).contains(&status) {
            let at = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
            let fault = i64::try_from(plan.after.as_millis()).unwrap_or(i64::MAX);
            seen.failed.push(Failed { post, at_ms: at - fault, status });
        }
    }
}

/// Sends one request, on the kept connection if there is one, and returns the status of a complete response.
fn exchange(
    plan: &Plan,
    connection: &mut Option<BufReader<TcpStream>>,
    post: bool,
) -> Result<u16, Box<dyn Error>> {
    let reader = match connection {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect_timeout(&plan.address, REQUEST_TIMEOUT)?;
            stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
            stream.set_nodelay(true)?;
            connection.insert(BufReader::new(stream))
        }
    };
    let head = if post {
        format!("POST {} HTTP/1.1\r\nHost: www.acme.example\r\nContent-Length: 9\r\n\r\nSubject=1", plan.post)
    } else {
        format!("GET {} HTTP/1.1\r\nHost: www.acme.example\r\n\r\n", plan.get)
    };
    reader.get_mut().write_all(head.as_bytes())?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).ok_or("no status line")?.parse()?;
    let (mut length, mut close) = (None, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<u64>()?);
        }
        close |= header == "connection: close";
    }
    let body = reader.by_ref().take(length.unwrap_or(u64::MAX));
    let got = std::io::copy(&mut { body }, &mut std::io::sink())?;
    if length.is_some_and(|wanted| wanted != got) {
        return Err("cut short".into());
    }
    if close || length.is_none() {
        *connection = None;
    }
    Ok(status)
}

/// `requests GET-failed POST-failed first-ms last-ms slowest-ms late-ms statuses`
fn report(seen: &Results) {
    let count = |post: bool| seen.failed.iter().filter(|f| f.post == post).count();
    let moments = || seen.failed.iter().map(|f| f.at_ms);
    let mut statuses: Vec<u16> = seen.failed.iter().map(|f| f.status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
    println!(
        "RESULT {} {} {} {} {} {} {} {}",
        seen.requests,
        count(false),
        count(true),
        moments().min().map_or("-".to_owned(), |ms| ms.to_string()),
        moments().max().map_or("-".to_owned(), |ms| ms.to_string()),
        seen.slowest.as_millis(),
        seen.latest.as_millis(),
        if statuses.is_empty() { "-".to_owned() } else { statuses.join(",") },
    );
}

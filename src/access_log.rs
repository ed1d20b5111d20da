//! The access log: one line a request, written off the request path.
//!
//! In: a request that has ended. Out: a line in Apache's combined format with our fields behind it, or a
//! JSON object. The queue is bounded: when the disk cannot keep up, lines are dropped and counted,
//! and no request waits.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header;
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;
use serde_json::json;

use crate::clock;
use crate::config::settings::{self, LogFormat, LogTarget};
use crate::gate::Refusal;
use crate::proxy::ctx::Ctx;
use crate::proxy::failover::elapsed_ms;

/// Lines that may wait for the writer.
const QUEUE: usize = 16_384;
/// How long the writer lets lines gather before it writes them all: far less than would fill the queue.
const GATHER: Duration = Duration::from_millis(20);
/// What is written at once, in octets.
const BUFFER: usize = 64 * 1024;

enum Message {
    Line(String),
    Reopen,
    Target(LogTarget),
    Flush(SyncSender<()>),
}

/// The sender's side; one for all listeners.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    format: Mutex<LogFormat>,
    target: Mutex<LogTarget>,
    /// Lines that found the queue full.
    pub dropped: AtomicU64,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, with its name, or the writer's thread cannot be started.
    pub fn start(settings: &settings::AccessLog) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let sink = open(&settings.target)?;
        let target = settings.target.clone();
        std::thread::Builder::new()
            .name("access log".into())
            .spawn(move || write(&messages, target, sink))?;
        Ok(Self {
            queue,
            format: Mutex::new(settings.format),
            target: Mutex::new(settings.target.clone()),
            dropped: AtomicU64::new(0),
        })
    }

    /// Whether the target can be written to, before a reload goes that way.
    ///
    /// # Errors
    /// When the file cannot be opened, with its name.
    pub fn try_target(settings: &settings::AccessLog) -> std::io::Result<()> {
        open(&settings.target).map(drop)
    }

    /// After a reload.
    pub fn reconfigure(&self, settings: &settings::AccessLog) {
        *self.format.lock().unwrap_or_else(PoisonError::into_inner) = settings.format;
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if *target != settings.target {
            target.clone_from(&settings.target);
            let _ = self.queue.send(Message::Target(settings.target.clone()));
        }
    }

    /// After the file was moved away.
    pub fn reopen(&self) {
        let _ = self.queue.send(Message::Reopen);
    }

    /// Waits until everything written so far is with the system; before the process ends.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(2));
        }
    }

    /// Logs one request.
    pub fn write(&self, session: &Session, error: Option<&Error>, ctx: &Ctx) {
        // Held for the time of a copy; changed only by a reload.
        let format = *self.format.lock().unwrap_or_else(PoisonError::into_inner);
        self.queue(match format {
            LogFormat::Off => return,
            LogFormat::Combined => combined(session, error, ctx),
            LogFormat::Json => as_json(session, error, ctx),
        });
    }

    /// Logs a request that was refused before it was parsed: who sent it, and what the answer was.
    pub fn refused(&self, client: Option<IpAddr>, refusal: &Refusal) {
        let format = *self.format.lock().unwrap_or_else(PoisonError::into_inner);
        let Refusal { status, reason } = refusal;
        let client = client.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
        self.queue(match format {
            LogFormat::Off => return,
            LogFormat::Combined => {
                let mut line = format!("{client} - - [");
                clock::push_log_time(&mut line);
                let _ = writeln!(
                    line,
                    "] \"-\" {status} 0 \"-\" \"-\" cluster=- server=- state=- why=refused ttfb=- total=0ms"
                );
                line
            }
            LogFormat::Json => {
                let time = clock::unix_ms();
                let line = json!({ "time": time, "client": client, "status": status, "why": "refused", "refused": reason });
                format!("{line}\n")
            }
        });
    }

    fn queue(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// The status that the client saw; 499 when it left before there was one.
fn status(session: &Session, error: Option<&Error>) -> u16 {
    match session.response_written() {
        Some(head) => head.status.as_u16(),
        None if error.is_some_and(|e| *e.esource() == ErrorSource::Downstream) => 499,
        None => 0,
    }
}

fn text<'s>(session: &'s Session, name: &header::HeaderName) -> std::borrow::Cow<'s, str> {
    session.req_header().headers.get(name).map_or("".into(), |v| String::from_utf8_lossy(v.as_bytes()))
}

fn server(ctx: &Ctx) -> Option<(&str, &'static str)> {
    let attempt = ctx.attempt.as_ref()?;
    Some((attempt.in_flight.member().name().abbreviated(), attempt.state.word()))
}

/// `Web1/Acme:connect Web2/Acme:timeout`: earlier attempts with their causes.
fn failures(ctx: &Ctx) -> Vec<(String, &'static str)> {
    let Some(routed) = &ctx.routed else { return Vec::new() };
    ctx.failures
        .iter()
        .map(|(member, failure)| {
            let name = routed.view.entry(*member).map_or_else(String::new, |e| e.server.name.to_string());
            (name, failure.word())
        })
        .collect()
}

fn why(ctx: &Ctx) -> &'static str {
    match (&ctx.attempt, &ctx.outcome) {
        (Some(attempt), _) => attempt.why.word(),
        (None, Some(outcome)) => match outcome {
            crate::select::Outcome::Serve(_, why) => why.word(),
            crate::select::Outcome::Full => "full",
            crate::select::Outcome::NoteIdServerGone => "note_id",
            crate::select::Outcome::OutOfService => "out_of_service",
            crate::select::Outcome::NoServer => "no_server",
        },
        (None, None) => "-",
    }
}

fn combined(session: &Session, error: Option<&Error>, ctx: &Ctx) -> String {
    let head = session.req_header();
    let mut line = String::with_capacity(320);
    match ctx.client {
        Some(ip) => {
            let _ = write!(line, "{ip}");
        }
        None => line.push('-'),
    }
    line.push_str(" - - [");
    clock::push_log_time(&mut line);
    line.push_str("] \"");
    line.push_str(head.method.as_str());
    line.push(' ');
    push_escaped(&mut line, &String::from_utf8_lossy(head.raw_path()));
    let _ = write!(line, " {:?}\" {} {} \"", head.version, status(session, error), session.body_bytes_sent());
    push_escaped(&mut line, &text(session, &header::REFERER));
    line.push_str("\" \"");
    push_escaped(&mut line, &text(session, &header::USER_AGENT));
    line.push_str("\" ");
    let cluster = ctx.routed.as_ref().map_or("-", |r| r.cluster.settings.name.as_str());
    let (name, state) = server(ctx).unwrap_or(("-", "-"));
    let _ = write!(line, "cluster={cluster} server={name} state={state} why={}", why(ctx));
    if !ctx.failures.is_empty() {
        line.push_str(" failed=");
        for (i, (name, cause)) in failures(ctx).iter().enumerate() {
            let _ = write!(line, "{}{name}:{cause}", if i > 0 { "," } else { "" });
        }
    }
    match ctx.first_byte_ms {
        Some(ms) => {
            let _ = write!(line, " ttfb={ms}ms");
        }
        None => line.push_str(" ttfb=-"),
    }
    let _ = writeln!(line, " total={}ms", elapsed_ms(ctx.started));
    line
}

fn as_json(session: &Session, error: Option<&Error>, ctx: &Ctx) -> String {
    let head = session.req_header();
    let routed = ctx.routed.as_ref();
    let database = routed.and_then(|r| {
        let found = r.found.as_ref()?;
        let database = r.view.directory.index.database(found.database);
        Some((database.path().to_owned(), database.replica_id().to_string()))
    });
    let (path, replica_id) = database.unzip();
    let attempts: Vec<_> = failures(ctx)
        .into_iter()
        .map(|(server, cause)| json!({ "server": server, "cause": cause }))
        .collect();
    let view = ctx.attempt.as_ref().map(|a| a.in_flight.member().view());
    let line = json!({
        "time": clock::unix_ms(),
        "client": ctx.client.map(|c| c.to_string()),
        "method": head.method.as_str(),
        "host": routed.map(|r| &*r.authority),
        "target": String::from_utf8_lossy(head.raw_path()),
        "protocol": format!("{:?}", head.version),
        "status": status(session, error),
        "bytes": session.body_bytes_sent(),
        "referer": text(session, &header::REFERER),
        "user_agent": text(session, &header::USER_AGENT),
        "cluster": routed.map(|r| r.cluster.settings.name.as_str()),
        "database": path,
        "replica_id": replica_id,
        "server": server(ctx).map(|(name, _)| name),
        "state": server(ctx).map(|(_, state)| state),
        "index": view.and_then(|v| v.index),
        "why": why(ctx),
        "failed": attempts,
        "ttfb_ms": ctx.first_byte_ms,
        "total_ms": elapsed_ms(ctx.started),
    });
    format!("{line}\n")
}

/// Quotes, backslashes and control characters cannot end a field or a line.
fn push_escaped(out: &mut String, text: &str) {
    if text.is_empty() {
        out.push('-');
    }
    // Nearly every text: nothing in it has to be escaped.
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

type Sink = Box<dyn Write + Send>;

fn open(target: &LogTarget) -> std::io::Result<Sink> {
    Ok(match target {
        LogTarget::Stdout => Box::new(std::io::stdout()),
        LogTarget::Stderr => Box::new(std::io::stderr()),
        LogTarget::File(path) => Box::new(open_file(path)?),
    })
}

fn open_file(path: &PathBuf) -> std::io::Result<std::fs::File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| std::io::Error::new(e.kind(), format!("access log {}: {e}", path.display())))
}

fn write(messages: &Receiver<Message>, target: LogTarget, sink: Sink) {
    let mut writer = Writer { out: BufWriter::with_capacity(BUFFER, sink), target };
    // Blocks only while nothing happens. The first line wakes this thread, the next ones wait for it to come
    // back: to wake a thread for each would cost the requests more than all the rest of the log.
    while let Ok(first) = messages.recv() {
        let gather = matches!(first, Message::Line(_));
        writer.take(first);
        if gather {
            #[allow(
                clippy::disallowed_methods,
                reason = "this thread is the writer's own, no runtime waits for it"
            )]
            std::thread::sleep(GATHER);
        }
        while let Ok(next) = messages.try_recv() {
            writer.take(next);
        }
        writer.noted(|w| w.out.flush());
    }
}

struct Writer {
    out: BufWriter<Sink>,
    target: LogTarget,
}

impl Writer {
    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => self.noted(|w| w.out.write_all(line.as_bytes())),
            Message::Flush(done) => {
                self.noted(|w| w.out.flush());
                let _ = done.send(());
            }
            Message::Reopen => self.noted(Self::reopen),
            Message::Target(new) => {
                self.target = new;
                self.noted(Self::reopen);
            }
        }
    }

    /// A log that cannot be written must not end the balancer.
    fn noted(&mut self, work: impl FnOnce(&mut Self) -> std::io::Result<()>) {
        if let Err(error) = work(self) {
            log::warn!(target: "icm::access_log", "{error}");
        }
    }

    /// Opens first, so that the old file stays in use when the new one cannot be had.
    fn reopen(&mut self) -> std::io::Result<()> {
        let sink = open(&self.target)?;
        self.out.flush()?;
        self.out = BufWriter::with_capacity(BUFFER, sink);
        Ok(())
    }
}

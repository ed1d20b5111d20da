//! The access log: one line per request, written by a thread of its own.
//!
//! The queue is bounded: if the disk cannot keep up, lines are dropped and counted, and no request waits. Each thread
//! formats its lines in one buffer, so that a busy log does not allocate.

mod combined;
mod escape;
mod json;
pub mod record;
pub mod recorded;
mod writer;

use parking_lot::Mutex;
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::settings::{AccessLogSettings, LogFormat, LogTarget};
use record::Record;
use recorded::DueStates;
use writer::{LineQueue, WriterCommand};

/// The metrics of the access log.
#[derive(Debug, Default)]
pub struct LineCounters {
    /// Lines that the writer took from the queue.
    pub(crate) lines: AtomicU64,
    /// Lines dropped because the queue was full.
    pub(crate) dropped: AtomicU64,
    /// Failures to write or open the file.
    pub(crate) errors: AtomicU64,
}

/// Formats and queues lines for the writer; shared by all listeners.
#[derive(Debug)]
pub struct AccessLog {
    queue: Arc<LineQueue>,
    writer: std::thread::Thread,
    format: AtomicU8,
    target: Mutex<LogTarget>,
    states: Arc<DueStates>,
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn start(settings: &AccessLogSettings, counters: Arc<LineCounters>) -> std::io::Result<Self> {
        let queue = Arc::new(LineQueue::new(counters));
        let states = Arc::new(DueStates::default());
        let writer = writer::start(&settings.target, Arc::clone(&queue), Arc::clone(&states))?;
        let (format, target) = (AtomicU8::new(settings.format as u8), Mutex::new(settings.target.clone()));
        Ok(Self { queue, writer, format, target, states })
    }

    /// Checks that the target can be opened, before a reload switches to it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn try_target(settings: &AccessLogSettings) -> std::io::Result<()> {
        writer::open(&settings.target).map(drop)
    }

    /// Applies the settings of a reload.
    pub(crate) fn reconfigure(&self, settings: &AccessLogSettings) {
        self.format.store(settings.format as u8, Relaxed);
        let mut target = self.target.lock();
        if *target != settings.target {
            target.clone_from(&settings.target);
            self.send(WriterCommand::Target(settings.target.clone()));
        }
    }

    /// Opens the file again after it was renamed.
    pub(crate) fn reopen(&self) {
        self.send(WriterCommand::Reopen);
    }

    /// Waits until all lines so far are written, but no longer than two seconds.
    pub fn flush(&self) {
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        self.send(WriterCommand::Flush(done));
        let _ = wait.recv_timeout(Duration::from_secs(2));
    }

    fn send(&self, command: WriterCommand) {
        self.queue.send(command);
        self.writer.unpark();
    }

    /// If false, the caller need not build a record.
    pub(crate) fn is_enabled(&self) -> bool {
        self.format.load(Relaxed) != LogFormat::Off as u8
    }

    /// Whether lines have a field for the states of the servers.
    pub(crate) fn records_states(&self) -> bool {
        self.format.load(Relaxed) == LogFormat::Json as u8
    }

    /// Lets the next line carry the states of the servers, given as JSON.
    pub(crate) fn record_states(&self, json: &[u8]) {
        self.states.publish(Arc::from(json));
    }

    /// Logs a request that was refused before it was parsed.
    pub(crate) fn refused(&self, client: Option<IpAddr>, status: u16, reason: &'static str) {
        self.put(&Record { client, status, why: "refused", page: Some(reason), ..Record::default() });
    }

    /// Formats and queues the line of a finished request.
    pub fn put(&self, record: &Record<'_>) {
        let format = self.format.load(Relaxed);
        if format == LogFormat::Off as u8 {
            return;
        }
        LINE.with_borrow_mut(|line| {
            if format == LogFormat::Json as u8 {
                json::push(line, record, self.states.take().as_deref());
            } else {
                combined::push(line, record);
            }
            if self.queue.put(line) {
                self.writer.unpark();
            }
            line.clear();
            // A few long lines must not keep their memory in every thread.
            line.shrink_to(MAX_KEPT_LINE);
        });
    }
}

/// Enough bytes for most lines.
const LINE_CAPACITY: usize = 1024;
/// A larger buffer is not kept.
const MAX_KEPT_LINE: usize = 4 * 1024;

thread_local! {
    /// The line that this thread formats.
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(LINE_CAPACITY));
}

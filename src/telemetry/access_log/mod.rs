//! The access log: one line per request, written by a thread of its own.
//!
//! The queue is bounded: when the disk cannot keep up, lines are dropped and counted, and no request waits. Lines are
//! formatted into buffers that the writer gives back, so that a busy log does not allocate.

mod combined;
mod escape;
mod json;
pub mod record;
mod writer;

use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::settings::{self, LogFormat, LogTarget};
use record::Record;
use writer::{LineQueue, WriterCommand};

/// What became of the lines.
#[derive(Debug, Default)]
pub struct LineCounters {
    /// Lines that the writer has taken.
    pub lines: AtomicU64,
    /// Lines that were dropped because the queue was full.
    pub dropped: AtomicU64,
    /// Failures to write or open the file.
    pub errors: AtomicU64,
}

/// The sending side; one for all listeners.
#[derive(Debug)]
pub struct AccessLog {
    queue: Arc<LineQueue>,
    writer: std::thread::Thread,
    format: AtomicU8,
    target: Mutex<LogTarget>,
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, with its name, or the writer's thread cannot be started.
    pub fn start(
        settings: &settings::AccessLogSettings,
        counters: Arc<LineCounters>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(LineQueue::new(counters));
        let writer = writer::start(&settings.target, Arc::clone(&queue))?;
        let (format, target) = (AtomicU8::new(settings.format as u8), Mutex::new(settings.target.clone()));
        Ok(Self { queue, writer, format, target })
    }

    /// Checks that the target can be opened, before a reload switches to it.
    ///
    /// # Errors
    /// When the file cannot be opened, with its name.
    pub fn try_target(settings: &settings::AccessLogSettings) -> std::io::Result<()> {
        writer::open(&settings.target).map(drop)
    }

    /// Takes the settings of a reload.
    pub fn reconfigure(&self, settings: &settings::AccessLogSettings) {
        self.format.store(settings.format as u8, Relaxed);
        let mut target = self.target.lock();
        if *target != settings.target {
            target.clone_from(&settings.target);
            self.send(WriterCommand::Target(settings.target.clone()));
        }
    }

    /// Opens the file again after it was renamed.
    pub fn reopen(&self) {
        self.send(WriterCommand::Reopen);
    }

    /// Waits until all lines so far are written, two seconds at most.
    pub fn flush(&self) {
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        self.send(WriterCommand::Flush(done));
        let _ = wait.recv_timeout(Duration::from_secs(2));
    }

    fn send(&self, command: WriterCommand) {
        self.queue.commands.lock().push(command);
        self.writer.unpark();
    }

    /// False where lines are not wanted, so that no record need be made.
    pub fn is_enabled(&self) -> bool {
        self.format.load(Relaxed) != LogFormat::Off as u8
    }

    /// Logs a request that was refused before it was parsed.
    pub fn refused(&self, client: Option<IpAddr>, status: u16, reason: &'static str) {
        self.put(&Record { client, status, why: "refused", page: Some(reason), ..Record::default() });
    }

    /// Logs a request.
    pub fn put(&self, record: &Record<'_>) {
        let format = self.format.load(Relaxed);
        if format == LogFormat::Off as u8 {
            return;
        }
        let mut line = self.queue.buffer();
        if format == LogFormat::Json as u8 {
            json::push(&mut line, record);
        } else {
            combined::push(&mut line, record);
        }
        if self.queue.put(line) {
            self.writer.unpark();
        }
    }
}

/// Clears the flag; true for the one caller that found it set.
fn take(flag: &AtomicBool) -> bool {
    flag.load(Relaxed) && flag.swap(false, Relaxed)
}

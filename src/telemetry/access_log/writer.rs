//! The thread that writes the lines, and its queue.
//!
//! It writes many lines at once and never blocks a request. Write errors are counted and logged; the next lines are tried
//! again.

use parking_lot::Mutex;
use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed, fence};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::LineCounters;
use crate::config::settings::LogTarget;

/// Lines that may wait for the writer.
const MAX_LINES: usize = 16_384;
/// Buffers kept for later lines.
const MAX_SPARE_BUFFERS: usize = 2_048;
/// Larger buffers are not kept.
const MAX_SPARE_CAPACITY: usize = 4 * 1024;
/// Enough bytes for most lines.
const LINE_CAPACITY: usize = 512;
/// Lines collect for this time before they are written; a busy log needs far longer to fill the queue.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);
/// A new log file is readable for its group, which log readers are in.
const FILE_MODE: u32 = 0o640;
const WRITE_BUFFER: usize = 64 * 1024;

/// Run after all earlier lines are written.
pub(super) enum WriterCommand {
    Reopen,
    Target(LogTarget),
    Flush(SyncSender<()>),
}

/// The queue between the threads that log and the writer.
pub(super) struct LineQueue {
    lines: ArrayQueue<String>,
    spare: ArrayQueue<String>,
    pub(super) commands: Mutex<Vec<WriterCommand>>,
    /// The writer sleeps, or is about to and checks the queue once more.
    asleep: AtomicBool,
    counters: Arc<LineCounters>,
}

impl std::fmt::Debug for LineQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LineQueue({} lines)", self.lines.len())
    }
}

impl LineQueue {
    pub(super) fn new(counters: Arc<LineCounters>) -> Self {
        Self {
            lines: ArrayQueue::new(MAX_LINES),
            spare: ArrayQueue::new(MAX_SPARE_BUFFERS),
            commands: Mutex::default(),
            asleep: AtomicBool::new(false),
            counters,
        }
    }

    pub(super) fn buffer(&self) -> String {
        self.spare.pop().unwrap_or_else(|| String::with_capacity(LINE_CAPACITY))
    }

    /// Queues a line; `true` = the caller must wake the writer. Waking it for every line would cost more than the rest of
    /// the log.
    pub(super) fn put(&self, line: String) -> bool {
        if let Err(line) = self.lines.push(line) {
            self.counters.dropped.fetch_add(1, Relaxed);
            self.recycle(line);
            return false;
        }
        // Pairs with the fence in `sleep`: either this thread sees the writer asleep, or the writer sees the line.
        fence(Ordering::SeqCst);
        self.asleep.load(Relaxed) && self.asleep.swap(false, Relaxed)
    }

    fn recycle(&self, mut line: String) {
        if line.capacity() <= MAX_SPARE_CAPACITY {
            line.clear();
            let _ = self.spare.push(line);
        }
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.commands.lock().is_empty()
    }

    /// Sleeps until there is a line or a command.
    fn sleep(&self) {
        while self.is_idle() {
            self.asleep.store(true, Relaxed);
            fence(Ordering::SeqCst);
            if self.is_idle() {
                std::thread::park();
            }
            self.asleep.store(false, Relaxed);
        }
    }
}

/// Opens the target and starts the thread.
pub(super) fn start(target: &LogTarget, queue: Arc<LineQueue>) -> std::io::Result<std::thread::Thread> {
    let mut writer =
        Writer { out: BufWriter::with_capacity(WRITE_BUFFER, open(target)?), target: target.clone(), queue };
    let thread = std::thread::Builder::new().name("access log".into()).spawn(move || writer.run())?;
    Ok(thread.thread().clone())
}

type Sink = Box<dyn Write + Send>;

/// Opens a target for appending.
pub(super) fn open(target: &LogTarget) -> std::io::Result<Sink> {
    Ok(match target {
        LogTarget::Stdout => Box::new(std::io::stdout()),
        LogTarget::Stderr => Box::new(std::io::stderr()),
        LogTarget::File(path) => Box::new(open_file(path)?),
    })
}

fn open_file(path: &Path) -> std::io::Result<std::fs::File> {
    let is_new = !path.exists();
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(FILE_MODE)
        .open(path)
        .and_then(|file| {
            // The umask must not change the mode; a file that logrotate created keeps its own.
            let mode = is_new.then(|| Permissions::from_mode(FILE_MODE));
            mode.map_or(Ok(()), |mode| file.set_permissions(mode)).map(|()| file)
        })
        .map_err(|e| std::io::Error::new(e.kind(), format!("access log {}: {e}", path.display())))
}

struct Writer {
    out: BufWriter<Sink>,
    target: LogTarget,
    queue: Arc<LineQueue>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            self.queue.sleep();
            if self.queue.commands.lock().is_empty() {
                // A command interrupts the pause.
                std::thread::park_timeout(WRITE_INTERVAL);
            }
            // Taken before the lines, so that all lines logged before a command are written before it runs.
            let commands = std::mem::take(&mut *self.queue.commands.lock());
            let mut lines = 0;
            // At most one full queue, so that a command does not wait forever on a busy log.
            for _ in 0..MAX_LINES {
                let Some(line) = self.queue.lines.pop() else { break };
                lines += 1;
                self.log_error(|w| w.out.write_all(line.as_bytes()));
                self.queue.recycle(line);
            }
            self.queue.counters.lines.fetch_add(lines, Relaxed);
            self.log_error(|w| w.out.flush());
            for command in commands {
                self.run_command(command);
            }
        }
    }

    fn run_command(&mut self, command: WriterCommand) {
        match command {
            WriterCommand::Flush(done) => drop(done.send(())),
            WriterCommand::Reopen => self.log_error(Self::reopen),
            WriterCommand::Target(new) => {
                self.target = new;
                self.log_error(Self::reopen);
            }
        }
    }

    /// Counts and logs an error; a failing log must not stop the proxy.
    fn log_error(&mut self, work: impl FnOnce(&mut Self) -> std::io::Result<()>) {
        if let Err(error) = work(self) {
            // One line per 1,000 errors.
            if self.queue.counters.errors.fetch_add(1, Relaxed).is_multiple_of(1_000) {
                log::warn!(target: "icm::access_log", "{error}");
            }
        }
    }

    /// Opens the new file first, so that the old one stays in use if that fails.
    fn reopen(&mut self) -> std::io::Result<()> {
        let sink = open(&self.target)?;
        self.out = BufWriter::with_capacity(WRITE_BUFFER, sink);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts_lines_without_blocking() {
        let counters = Arc::new(LineCounters::default());
        let queue = LineQueue::new(Arc::clone(&counters));
        for _ in 0..MAX_LINES + 3 {
            queue.put("x\n".to_owned());
        }
        assert_eq!((queue.lines.len(), counters.dropped.load(Relaxed)), (MAX_LINES, 3));
    }

    #[test]
    fn lines_of_many_threads_are_written_in_order_and_buffers_are_reused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let counters = Arc::new(LineCounters::default());
        let queue = Arc::new(LineQueue::new(Arc::clone(&counters)));
        let writer = start(&LogTarget::File(path.clone()), Arc::clone(&queue)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (queue, writer) = (&queue, &writer);
                scope.spawn(move || {
                    for n in 0..1_000 {
                        let mut line = queue.buffer();
                        line.push_str(&format!("{thread} {n}\n"));
                        if queue.put(line) {
                            writer.unpark();
                        }
                    }
                });
            }
        });
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        queue.commands.lock().push(WriterCommand::Flush(done));
        writer.unpark();
        wait.recv_timeout(Duration::from_secs(30)).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 4_000);
        for thread in 0..4 {
            let own: Vec<_> = text.lines().filter_map(|l| l.strip_prefix(&format!("{thread} "))).collect();
            assert_eq!(own, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>(), "out of order");
        }
        assert_eq!(counters.lines.load(Relaxed), 4_000);
        assert!(!queue.spare.is_empty());
    }
}

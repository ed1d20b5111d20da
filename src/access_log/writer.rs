//! The writer's thread and the queue before it.
//!
//! In: finished lines and orders. Out: octets in a file, many lines at a time. It never blocks those that bring
//! lines, and a target that fails ends nothing: it is counted, said, and tried again with the next lines.

use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed, fence};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::{LineCounters, take};
use crate::config::settings::LogTarget;

/// Lines that may wait for the writer.
const QUEUE: usize = 16_384;
/// Buffers that are kept for later lines.
const SPARE: usize = 2_048;
/// A buffer that has grown beyond this is not kept, in octets.
const LARGEST_SPARE: usize = 4 * 1024;
/// What a line usually needs, in octets.
const USUAL: usize = 512;
/// How long the writer lets lines gather before it writes them all: far less than would fill the queue.
const GATHER: Duration = Duration::from_millis(20);
/// Of a log file that is made here: who reads logs is in the group.
const MODE: u32 = 0o640;
/// What is written at once, in octets.
const BUFFER: usize = 64 * 1024;

/// What the writer does when all lines before it are written.
pub(super) enum WriterCommand {
    Reopen,
    Target(LogTarget),
    Flush(SyncSender<()>),
}

/// Between many that bring lines and the one that writes them.
pub(super) struct LineQueue {
    lines: ArrayQueue<String>,
    spare: ArrayQueue<String>,
    pub(super) orders: Mutex<Vec<WriterCommand>>,
    /// The writer sleeps, or is about to look once more before it does.
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
            lines: ArrayQueue::new(QUEUE),
            spare: ArrayQueue::new(SPARE),
            orders: Mutex::default(),
            asleep: AtomicBool::new(false),
            counters,
        }
    }

    /// An empty buffer.
    pub(super) fn buffer(&self) -> String {
        self.spare.pop().unwrap_or_else(|| String::with_capacity(USUAL))
    }

    /// Hands a line over; `true` = the writer has to be woken. To wake a thread for every line would cost the
    /// requests more than all the rest of the log.
    pub(super) fn put(&self, line: String) -> bool {
        if let Err(line) = self.lines.push(line) {
            self.counters.dropped.fetch_add(1, Relaxed);
            self.give_back(line);
            return false;
        }
        // Pairs with the one in `sleep`: either this sees the writer asleep, or the writer sees the line.
        fence(Ordering::SeqCst);
        take(&self.asleep)
    }

    fn give_back(&self, mut line: String) {
        if line.capacity() <= LARGEST_SPARE {
            line.clear();
            let _ = self.spare.push(line);
        }
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Sleeps until there is something to do.
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
        Writer { out: BufWriter::with_capacity(BUFFER, open(target)?), target: target.clone(), queue };
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
        .mode(MODE)
        .open(path)
        .and_then(|file| {
            // Whatever the umask; the mode of a file that logrotate made stays.
            let mode = is_new.then(|| Permissions::from_mode(MODE));
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
            if self.queue.orders.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                // An order ends this early.
                std::thread::park_timeout(GATHER);
            }
            // Taken first: whatever was logged before an order was given is written before it is obeyed.
            let orders =
                std::mem::take(&mut *self.queue.orders.lock().unwrap_or_else(PoisonError::into_inner));
            let mut lines = 0;
            // No more than were there: an order must not wait for ever on a busy log.
            for _ in 0..QUEUE {
                let Some(line) = self.queue.lines.pop() else { break };
                lines += 1;
                self.noted(|w| w.out.write_all(line.as_bytes()));
                self.queue.give_back(line);
            }
            self.queue.counters.lines.fetch_add(lines, Relaxed);
            self.noted(|w| w.out.flush());
            for order in orders {
                self.obey(order);
            }
        }
    }

    fn obey(&mut self, order: WriterCommand) {
        match order {
            WriterCommand::Flush(done) => drop(done.send(())),
            WriterCommand::Reopen => self.noted(Self::reopen),
            WriterCommand::Target(new) => {
                self.target = new;
                self.noted(Self::reopen);
            }
        }
    }

    /// A log that cannot be written must not end the balancer.
    fn noted(&mut self, work: impl FnOnce(&mut Self) -> std::io::Result<()>) {
        if let Err(error) = work(self) {
            // Said for the first of a row, counted for each.
            if self.queue.counters.errors.fetch_add(1, Relaxed).is_multiple_of(1_000) {
                log::warn!(target: "icm::access_log", "{error}");
            }
        }
    }

    /// Opens first, so that the old file stays in use when the new one cannot be had.
    fn reopen(&mut self) -> std::io::Result<()> {
        let sink = open(&self.target)?;
        self.out = BufWriter::with_capacity(BUFFER, sink);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counters_and_nobody_waits() {
        let counters = Arc::new(LineCounters::default());
        let queue = LineQueue::new(Arc::clone(&counters));
        for _ in 0..QUEUE + 3 {
            queue.put("x\n".to_owned());
        }
        assert_eq!((queue.lines.len(), counters.dropped.load(Relaxed)), (QUEUE, 3));
    }

    #[test]
    fn every_line_of_many_threads_is_written_and_buffers_come_back() {
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
        queue.orders.lock().unwrap().push(WriterCommand::Flush(done));
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

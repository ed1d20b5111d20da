//! The thread that writes the lines, and its queue.
//!
//! It writes many lines at once and never blocks a request. Write errors are counted and logged; the next lines are tried
//! again.
//!
//! The queue is one buffer, which the writer exchanges for an empty one. A lock protects it while a line is copied or the
//! buffers are exchanged, and never during a system call. Lines in buffers of their own took twice as long: these went
//! through two queues to the writer and back, and were no longer in the cache when they returned.

use parking_lot::Mutex;
use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::LineCounters;
use super::recorded::DueStates;
use crate::config::settings::LogTarget;

/// Bytes of lines that may wait for the writer.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// A larger buffer is not kept after it was written.
const MAX_KEPT_CAPACITY: usize = 1 << 20;
/// Lines collect for this time before they are written; a busy log needs far longer to fill the queue.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);
/// A new log file is readable for its group, which log readers are in.
const FILE_MODE: u32 = 0o640;
const WRITE_BUFFER: usize = 64 * 1024;
/// Lines go to the write buffer in parts of at most this size. If the disk is full, the buffer keeps what it has, and the
/// part is lost as a whole: no line is torn.
const MAX_PART: usize = 16 * 1024;

/// Run after all earlier lines are written.
pub(super) enum WriterCommand {
    Reopen,
    Target(LogTarget),
    Flush(SyncSender<()>),
}

/// The queue between the threads that log and the writer.
pub(super) struct LineQueue {
    waiting: Mutex<Waiting>,
    counters: Arc<LineCounters>,
}

/// What waits for the writer.
#[derive(Default)]
struct Waiting {
    /// Whole lines, in the order in which they were queued.
    text: Vec<u8>,
    lines: u64,
    commands: Vec<WriterCommand>,
    /// The writer sleeps, or is about to.
    is_writer_asleep: bool,
}

impl std::fmt::Debug for LineQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LineQueue({} lines)", self.waiting.lock().lines)
    }
}

impl LineQueue {
    pub(super) fn new(counters: Arc<LineCounters>) -> Self {
        Self { waiting: Mutex::default(), counters }
    }

    /// Queues a line; `true` = the caller must wake the writer. Waking it for every line would cost more than the rest of
    /// the log.
    pub(super) fn put(&self, line: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.text.len() + line.len() > MAX_WAITING_BYTES {
            drop(waiting);
            self.counters.dropped.fetch_add(1, Relaxed);
            return false;
        }
        waiting.text.extend_from_slice(line);
        waiting.lines += 1;
        std::mem::take(&mut waiting.is_writer_asleep)
    }

    /// Queues a command; the caller must wake the writer.
    pub(super) fn send(&self, command: WriterCommand) {
        self.waiting.lock().commands.push(command);
    }

    /// Sleeps until there is a line or a command.
    fn sleep(&self) {
        loop {
            let mut waiting = self.waiting.lock();
            waiting.is_writer_asleep = waiting.text.is_empty() && waiting.commands.is_empty();
            if !waiting.is_writer_asleep {
                return;
            }
            drop(waiting);
            // A thread that has queued something since has unparked this one, which then does not park.
            std::thread::park();
        }
    }

    fn has_command(&self) -> bool {
        !self.waiting.lock().commands.is_empty()
    }

    /// Exchanges `text`, which is empty, for the lines. All lines logged before a command are among them.
    fn take(&self, text: &mut Vec<u8>) -> (u64, Vec<WriterCommand>) {
        let mut waiting = self.waiting.lock();
        std::mem::swap(text, &mut waiting.text);
        (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.commands))
    }
}

/// Opens the target and starts the thread.
pub(super) fn start(
    target: &LogTarget,
    queue: Arc<LineQueue>,
    states: Arc<DueStates>,
) -> std::io::Result<std::thread::Thread> {
    let out = BufWriter::with_capacity(WRITE_BUFFER, open(target)?);
    let mut writer = Writer { out, target: target.clone(), queue, states, text: Vec::new() };
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
    states: Arc<DueStates>,
    /// Empty between two rounds.
    text: Vec<u8>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            self.queue.sleep();
            if !self.queue.has_command() {
                // A command interrupts the pause.
                std::thread::park_timeout(WRITE_INTERVAL);
            }
            let (lines, commands) = self.queue.take(&mut self.text);
            let text = std::mem::take(&mut self.text);
            for part in split_lines(&text) {
                self.log_error(|w| w.out.write_all(part));
            }
            self.queue.counters.lines.fetch_add(lines, Relaxed);
            self.log_error(|w| w.out.flush());
            if text.capacity() <= MAX_KEPT_CAPACITY {
                self.text = text;
                self.text.clear();
            }
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
        // Once before, so that no line that is formatted after the file appeared is too early, and once after.
        self.states.repeat();
        let sink = open(&self.target)?;
        self.out = BufWriter::with_capacity(WRITE_BUFFER, sink);
        // Each file can be read without the one before.
        self.states.repeat();
        Ok(())
    }
}

/// Parts of at most [`MAX_PART`] bytes that end with a line; a longer line is a part of its own.
fn split_lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let last_end = |part| memchr::memrchr(b'\n', part).or_else(|| memchr::memchr(b'\n', text));
        let end = text.get(..MAX_PART).and_then(last_end).map_or(text.len(), |at| at + 1);
        let (part, rest) = text.split_at_checked(end)?;
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts_lines_without_blocking() {
        let counters = Arc::new(LineCounters::default());
        let queue = LineQueue::new(Arc::clone(&counters));
        let line = [b'x'; 1024];
        let fitting = MAX_WAITING_BYTES / line.len();
        for _ in 0..fitting + 3 {
            assert!(!queue.put(&line), "nobody sleeps");
        }
        let mut text = Vec::new();
        assert_eq!(queue.take(&mut text).0, fitting as u64);
        assert_eq!((text.len(), counters.dropped.load(Relaxed)), (MAX_WAITING_BYTES, 3));
        assert!(!queue.put(&line));
        assert_eq!(queue.take(&mut Vec::new()).0, 1, "there is room again");
    }

    #[test]
    fn text_is_written_in_parts_of_whole_lines() {
        let lengths = |text: &[u8]| split_lines(text).map(<[u8]>::len).collect::<Vec<_>>();
        let line = |length: usize| [&vec![b'x'; length - 1][..], b"\n"].concat();
        let text = line(1_000).repeat(40);
        assert_eq!(lengths(&text), [16_000, 16_000, 8_000]);
        assert_eq!(split_lines(&text).collect::<Vec<_>>().concat(), text);
        assert_eq!(lengths(&[line(20_000), line(20_000), line(10)].concat()), [20_000, 20_000, 10]);
        assert_eq!(lengths(b""), [0; 0]);
        assert_eq!(lengths(b"a\n"), [2]);
    }

    #[test]
    fn lines_of_many_threads_are_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let counters = Arc::new(LineCounters::default());
        let queue = Arc::new(LineQueue::new(Arc::clone(&counters)));
        let writer = start(&LogTarget::File(path.clone()), Arc::clone(&queue), Arc::default()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (queue, writer) = (&queue, &writer);
                scope.spawn(move || {
                    for n in 0..1_000 {
                        if queue.put(format!("{thread} {n}\n").as_bytes()) {
                            writer.unpark();
                        }
                    }
                });
            }
        });
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        queue.send(WriterCommand::Flush(done));
        writer.unpark();
        wait.recv_timeout(Duration::from_secs(30)).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 4_000);
        for thread in 0..4 {
            let own: Vec<_> = text.lines().filter_map(|l| l.strip_prefix(&format!("{thread} "))).collect();
            assert_eq!(own, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>(), "out of order");
        }
        assert_eq!(counters.lines.load(Relaxed), 4_000);
    }
}

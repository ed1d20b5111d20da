//! Work that takes long and that nobody waits for: reading, indexing and dropping directories, and reloads.
//!
//! In: work. Out: its results, on threads that the system runs when the threads that serve have nothing to do, and
//! which share nothing with their runtimes: neither does a request wait behind a parser, nor behind memory that
//! is given back. A busy balancer reads its directory later, not its requests.

use std::any::Any;
use std::future::Future;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use crate::util::clock;

/// Below the threads that serve by so much (`nice`): they are preferred ten to one, and what is done here never
/// starves.
const NICE: i32 = 10;

/// How much a thread gives way to those that serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// By [`NICE`]. Whoever has just woken keeps the processor for a millisecond or two all the same.
    Below,
    /// At once, always (`SCHED_IDLE`): it gets what is left over, and where nothing is left three thousandths.
    Idle,
}

/// Two runtimes, of one thread each, for all directories.
static BELOW: LazyLock<Option<Handle>> = LazyLock::new(|| reader("directory", Manner::Below));
static IDLE: LazyLock<Option<Handle>> = LazyLock::new(|| reader("directories", Manner::Idle));

fn reader(name: &str, manner: Manner) -> Option<Handle> {
    let (said, heard) = mpsc::channel();
    start(name, manner, move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return log::error!(target: "icm::directory", "no runtime of its own: {error}"),
        };
        let _ = said.send(runtime.handle().clone());
        runtime.block_on(std::future::pending::<()>());
    });
    heard.recv().ok()
}

/// Whatever is large and no longer used.
static DISUSED: LazyLock<mpsc::Sender<Box<dyn Any + Send>>> = LazyLock::new(|| {
    let (give, take) = mpsc::channel();
    start("disused", Manner::Below, move || take.iter().for_each(drop));
    give
});

/// Reads and indexes; that may block its thread, which serves nobody. Ends early when whoever waits for it does. A large
/// directory of which an older reading serves is in no hurry.
///
/// # Errors
/// When the work panicked.
pub async fn read<T: Send + 'static>(
    in_no_hurry: bool,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Lost> {
    let reader = if in_no_hurry { &*IDLE } else { &*BELOW };
    // A set of one: it ends its work when it is dropped.
    let mut set = JoinSet::new();
    match reader {
        Some(reader) => set.spawn_on(work, reader),
        None => set.spawn(work),
    };
    set.join_next().await.and_then(Result::ok).ok_or(Lost)
}

/// Does work that blocks, on a thread of its own. What is in no hurry gives way always, where there is leisure; on a
/// saturated machine it would hardly ever end, and somebody has asked for it.
///
/// # Errors
/// When there is no thread to be had, or the work panicked.
pub async fn run<T: Send + 'static>(
    in_no_hurry: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let manner = if in_no_hurry && has_leisure().await { Manner::Idle } else { Manner::Below };
    let (said, heard) = tokio::sync::oneshot::channel();
    start("reload", manner, move || {
        let _ = said.send(work());
    });
    heard.await.map_err(|_| Lost)
}

/// Whether a thread that always gives way gets a twentieth of a processor at least: found out by trying.
async fn has_leisure() -> bool {
    const WORK: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_millis(400);
    let (said, heard) = tokio::sync::oneshot::channel();
    let began = Instant::now();
    start("leisure", Manner::Idle, move || {
        while clock::of_this_thread() < WORK {
            std::hint::spin_loop();
        }
        let _ = said.send(began.elapsed());
    });
    // Whoever waits may be late itself.
    tokio::time::timeout(PATIENCE, heard).await.is_ok_and(|took| took.is_ok_and(|took| took <= PATIENCE))
}

/// What was to be done ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work in the background ended without a result")]
pub struct Lost;

/// Drops a large value later: whoever happens to be its last user does not spend the time.
pub fn discard(value: impl Any + Send) {
    // Where the thread is gone the value comes back as an error, and is dropped here.
    let _ = DISUSED.send(Box::new(value));
}

fn start(name: &str, manner: Manner, work: impl FnOnce() + Send + 'static) {
    let started = thread::Builder::new().name(format!("icm-{name}")).spawn(move || {
        give_way(manner);
        work();
    });
    if let Err(error) = started {
        log::error!(target: "icm::life", "no thread for `{name}`: {error}");
    }
}

/// On Linux every thread has a priority of its own; elsewhere it is the whole process's, which stays as it is.
#[cfg(target_os = "linux")]
fn give_way(manner: Manner) {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    let result = match manner {
        Manner::Below => rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE)
            .map_err(|error| error.to_string()),
        Manner::Idle => set_thread_priority_and_policy(
            thread_native_id(),
            ThreadPriority::Min,
            ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
        )
        .map_err(|error| error.to_string()),
    };
    if let Err(error) = result {
        log::debug!(target: "icm::life", "a thread keeps its priority: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way(_: Manner) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    /// The name of the thread, its nice value, and whether it runs only when nobody else does.
    #[cfg(target_os = "linux")]
    fn manner() -> (String, i32, bool) {
        let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The 41st field is the policy; 5 is SCHED_IDLE (proc(5), sched(7)).
        let policy = stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap();
        (here(), nice, policy == "5")
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn work_is_done_on_threads_that_give_way() {
        assert_eq!(run(false, manner).await, Ok(("icm-reload".to_owned(), NICE, false)));
        assert_eq!(read(false, async { manner() }).await, Ok(("icm-directory".to_owned(), NICE, false)));
        let (name, _, is_idle) = read(true, async { manner() }).await.unwrap();
        assert_eq!((name.as_str(), is_idle), ("icm-directories", true));
    }

    /// This thread and those that it starts share one processor, which four of them keep busy.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn work_in_no_hurry_is_done_even_where_there_is_no_leisure() {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
        static BUSY: AtomicBool = AtomicBool::new(true);
        let all = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        for _ in 0..4 {
            thread::spawn(|| {
                while BUSY.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let under_load = run(true, manner).await;
        BUSY.store(false, Relaxed);
        assert_eq!(under_load, Ok(("icm-reload".to_owned(), NICE, false)));
    }

    #[tokio::test]
    async fn a_reading_that_nobody_waits_for_ends() {
        struct Tell(mpsc::Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (said, heard) = mpsc::channel();
        let tell = Tell(said);
        let reading = read(false, async move {
            let _tell = tell;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), reading).await.is_err());
        heard.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    #[tokio::test]
    async fn work_that_panics_is_lost_and_said() {
        assert_eq!(run(false, || panic!("on purpose")).await, Err::<(), Lost>(Lost));
        assert_eq!(read(false, async { panic!("on purpose") }).await, Err::<(), Lost>(Lost));
    }

    #[test]
    fn what_is_discarded_is_dropped_elsewhere() {
        struct Tell(mpsc::Sender<String>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.send(here()).unwrap();
            }
        }
        let (said, heard) = mpsc::channel();
        discard(Tell(said));
        assert_eq!(heard.recv_timeout(Duration::from_secs(30)).unwrap(), "icm-disused");
    }
}

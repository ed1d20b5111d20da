//! Long work that no request waits for: reading, indexing and dropping directories, and reloads.
//!
//! It runs on threads of low priority that share no runtime with the threads that serve, so requests wait neither for a
//! parser nor for memory that is freed. Under full load a directory is read later, and requests are not served later.

use std::any::Any;
use std::future::Future;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use crate::util::clock;

/// The `nice` value of a thread of [`Priority::Low`]: the threads that serve get ten times its share of the CPU, and it
/// always makes progress.
const NICE: i32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Priority {
    /// [`NICE`]. After waking up, such a thread still keeps the CPU for a millisecond or two.
    Low,
    /// `SCHED_IDLE`: the thread yields at once, and gets only idle CPU time (0.3 % when there is none).
    Idle,
}

/// Two runtimes of one thread each for all directories.
static LOW: LazyLock<Option<Handle>> = LazyLock::new(|| start_runtime("directory", Priority::Low));
static IDLE: LazyLock<Option<Handle>> = LazyLock::new(|| start_runtime("directories", Priority::Idle));

fn start_runtime(name: &str, priority: Priority) -> Option<Handle> {
    let (sender, receiver) = mpsc::channel();
    start(name, priority, move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return log::error!(target: "icm::directory", "cannot start background runtime: {error}");
            }
        };
        let _ = sender.send(runtime.handle().clone());
        runtime.block_on(std::future::pending::<()>());
    });
    receiver.recv().ok()
}

/// Drops the values that are sent to it.
static DISCARDED: LazyLock<mpsc::Sender<Box<dyn Any + Send>>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel();
    start("disused", Priority::Low, move || receiver.iter().for_each(drop));
    sender
});

/// Runs asynchronous work that may block its thread; dropping the future ends the work. Work that `can_wait`, such as
/// a large directory whose last reading still serves, gets idle CPU time only.
///
/// # Errors
/// When the work panicked.
pub async fn read<T: Send + 'static>(
    can_wait: bool,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Lost> {
    let runtime = if can_wait { &*IDLE } else { &*LOW };
    // The set aborts its one task when it is dropped.
    let mut set = JoinSet::new();
    match runtime {
        Some(runtime) => set.spawn_on(work, runtime),
        None => set.spawn(work),
    };
    set.join_next().await.and_then(Result::ok).ok_or(Lost)
}

/// Runs blocking work on a thread of its own. Work that `can_wait` gets idle CPU time where there is some: without any
/// it would hardly ever end, and an administrator waits for it.
///
/// # Errors
/// When no thread could be started, or the work panicked.
pub async fn run<T: Send + 'static>(
    can_wait: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let priority = if can_wait && has_idle_cpu().await { Priority::Idle } else { Priority::Low };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    start("reload", priority, move || {
        let _ = sender.send(work());
    });
    receiver.await.map_err(|_| Lost)
}

/// Tries whether a thread of idle priority gets at least a twentieth of a CPU.
async fn has_idle_cpu() -> bool {
    const WORK: Duration = Duration::from_millis(20);
    const MAX_WAIT: Duration = Duration::from_millis(400);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let began = Instant::now();
    start("idle-cpu", Priority::Idle, move || {
        while clock::thread_cpu_time() < WORK {
            std::hint::spin_loop();
        }
        let _ = sender.send(began.elapsed());
    });
    // This task may itself be woken too late, so the measured time counts.
    tokio::time::timeout(MAX_WAIT, receiver).await.is_ok_and(|took| took.is_ok_and(|took| took <= MAX_WAIT))
}

/// The work panicked or was never started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("background work ended without a result")]
pub struct Lost;

/// Drops a large value on another thread, so that its last user does not spend the time.
pub fn discard(value: impl Any + Send) {
    // Without the thread the error holds the value, which is dropped here.
    let _ = DISCARDED.send(Box::new(value));
}

fn start(name: &str, priority: Priority, work: impl FnOnce() + Send + 'static) {
    let started = thread::Builder::new().name(format!("icm-{name}")).spawn(move || {
        set_priority(priority);
        work();
    });
    if let Err(error) = started {
        log::error!(target: "icm::lifecycle", "cannot start thread `{name}`: {error}");
    }
}

/// On Linux every thread has its own priority; elsewhere the process has one, which must not change.
#[cfg(target_os = "linux")]
fn set_priority(priority: Priority) {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    let result = match priority {
        Priority::Low => rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE)
            .map_err(|error| error.to_string()),
        Priority::Idle => set_thread_priority_and_policy(
            thread_native_id(),
            ThreadPriority::Min,
            ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
        )
        .map_err(|error| error.to_string()),
    };
    if let Err(error) = result {
        log::debug!(target: "icm::lifecycle", "cannot lower the priority of a thread: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn set_priority(_: Priority) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    /// The name of the thread, its nice value, and whether it gets idle CPU time only.
    #[cfg(target_os = "linux")]
    fn thread_priority() -> (String, i32, bool) {
        let nice = rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The 41st field is the policy; 5 is SCHED_IDLE (proc(5), sched(7)).
        let policy = stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap();
        (here(), nice, policy == "5")
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn work_is_done_on_threads_of_low_priority() {
        assert_eq!(run(false, thread_priority).await, Ok(("icm-reload".to_owned(), NICE, false)));
        assert_eq!(
            read(false, async { thread_priority() }).await,
            Ok(("icm-directory".to_owned(), NICE, false))
        );
        let (name, _, is_idle) = read(true, async { thread_priority() }).await.unwrap();
        assert_eq!((name.as_str(), is_idle), ("icm-directories", true));
    }

    /// This thread and those that it starts share one CPU, which four of them keep busy.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn work_that_can_wait_is_done_even_without_idle_cpu_time() {
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
        let under_load = run(true, thread_priority).await;
        BUSY.store(false, Relaxed);
        assert_eq!(under_load, Ok(("icm-reload".to_owned(), NICE, false)));
    }

    #[tokio::test]
    async fn dropping_the_future_ends_its_work() {
        struct SendOnDrop(mpsc::Sender<()>);
        impl Drop for SendOnDrop {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (sender, receiver) = mpsc::channel();
        let on_drop = SendOnDrop(sender);
        let reading = read(false, async move {
            let _on_drop = on_drop;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), reading).await.is_err());
        receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    #[tokio::test]
    async fn work_that_panics_is_reported_as_lost() {
        assert_eq!(run(false, || panic!("on purpose")).await, Err::<(), Lost>(Lost));
        assert_eq!(read(false, async { panic!("on purpose") }).await, Err::<(), Lost>(Lost));
    }

    #[test]
    fn a_discarded_value_is_dropped_on_another_thread() {
        struct SendOnDrop(mpsc::Sender<String>);
        impl Drop for SendOnDrop {
            fn drop(&mut self) {
                self.0.send(here()).unwrap();
            }
        }
        let (sender, receiver) = mpsc::channel();
        discard(SendOnDrop(sender));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(30)).unwrap(), "icm-disused");
    }
}

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

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

/// Below the threads that serve by so much (`nice`): they are preferred ten to one, and what is done here never
/// starves.
const NICE: i32 = 10;

/// A runtime with one thread for all directories.
static READER: LazyLock<Option<Handle>> = LazyLock::new(|| {
    let (said, heard) = mpsc::channel();
    start("directory", move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return log::error!(target: "icm::directory", "no runtime of its own: {error}"),
        };
        let _ = said.send(runtime.handle().clone());
        runtime.block_on(std::future::pending::<()>());
    });
    heard.recv().ok()
});

/// Whatever is large and no longer used.
static DISUSED: LazyLock<mpsc::Sender<Box<dyn Any + Send>>> = LazyLock::new(|| {
    let (give, take) = mpsc::channel();
    start("disused", move || take.iter().for_each(drop));
    give
});

/// Runs a loop that reads and indexes. It may block its thread, which serves nobody.
pub fn spawn(reading: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    match &*READER {
        Some(reader) => reader.spawn(reading),
        None => tokio::spawn(reading),
    }
}

/// Does work that blocks, on a thread of its own.
///
/// # Errors
/// When there is no thread to be had, or the work panicked.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Lost> {
    let (said, heard) = tokio::sync::oneshot::channel();
    start("reload", move || {
        let _ = said.send(work());
    });
    heard.await.map_err(|_| Lost)
}

/// The thread of [`run`] ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work in the background ended without a result")]
pub struct Lost;

/// Drops a large value later: whoever happens to be its last user does not spend the time.
pub fn discard(value: impl Any + Send) {
    // Where the thread is gone the value comes back as an error, and is dropped here.
    let _ = DISUSED.send(Box::new(value));
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) {
    let started = thread::Builder::new().name(format!("icm-{name}")).spawn(move || {
        give_way();
        work();
    });
    if let Err(error) = started {
        log::error!(target: "icm::life", "no thread for `{name}`: {error}");
    }
}

/// On Linux every thread has a priority of its own; elsewhere it is the whole process's, which stays as it is.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        log::debug!(target: "icm::life", "a thread keeps its priority: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn here() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn work_is_done_on_a_thread_that_gives_way() {
        let work = || (here(), rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap());
        assert_eq!(run(work).await, Ok(("icm-reload".to_owned(), NICE)));
        let (said, heard) = mpsc::channel();
        spawn(async move { said.send(work()).unwrap() }).await.unwrap();
        assert_eq!(heard.recv(), Ok(("icm-directory".to_owned(), NICE)));
    }

    #[tokio::test]
    async fn work_that_panics_is_lost_and_said() {
        assert_eq!(run(|| panic!("on purpose")).await, Err::<(), Lost>(Lost));
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

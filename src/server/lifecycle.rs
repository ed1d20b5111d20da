//! From the first signal to the last request: draining.
//!
//! In: TERM and INT. Out: readiness goes at once, listeners close, requests in flight finish within the
//! grace period, and an idle process leaves at once. A second signal leaves now.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::StartError;
use crate::access_log::AccessLog;
use crate::balancer::Balancer;

/// Handlers that were installed before anything else, so that an early HUP cannot end the process:
/// its default action would.
#[derive(Debug)]
pub struct Signals(());

impl Signals {
    /// Installs the handlers for the life of the process.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            for kind in [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
                // The handler outlives the stream that is dropped here.
                drop(signal(kind)?);
            }
            Ok(Self(()))
        })
    }
}

/// The pid, in a file, as long as the process lives.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(path: &Path) -> Result<Self, StartError> {
        let wrong = |source| StartError::PidFile { path: path.display().to_string(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(wrong)?;
        }
        std::fs::write(path, format!("{}\n", std::process::id())).map_err(wrong)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Tells Pingora when to stop, and ends the process when the last request has.
#[derive(Debug)]
pub struct Shutdown {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    _signals: Signals,
    pid_file: std::sync::Mutex<Option<PidFile>>,
}

impl Shutdown {
    /// Of this balancer.
    #[must_use]
    pub fn new(
        balancer: Arc<Balancer>,
        access_log: Arc<AccessLog>,
        signals: Signals,
        pid_file: Option<PidFile>,
    ) -> Self {
        Self { balancer, access_log, _signals: signals, pid_file: std::sync::Mutex::new(pid_file) }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Shutdown {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            log::error!("signal handlers cannot be installed, stopping");
            return ShutdownSignal::FastShutdown;
        };
        either(&mut term, &mut int).await;
        self.balancer.drain();
        let balancer = Arc::clone(&self.balancer);
        let access_log = Arc::clone(&self.access_log);
        let pid_file = self.pid_file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        log::info!(
            "draining: no new connections, {} requests in flight",
            balancer.statistics.in_flight.load(Relaxed)
        );
        // Pingora sleeps through its whole grace period even when nothing is left to wait for.
        tokio::spawn(async move {
            let idle = async {
                // The listeners close within this; a request that was just accepted is seen by then.
                tokio::time::sleep(Duration::from_millis(150)).await;
                while balancer.statistics.in_flight.load(Relaxed) > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // The last answer is in the kernel's hands when its request is over; give it a moment.
                tokio::time::sleep(Duration::from_millis(30)).await;
            };
            tokio::select! {
                () = idle => log::info!("drained"),
                () = either(&mut term, &mut int) => log::warn!("second signal: leaving now"),
            }
            access_log.flush();
            drop(pid_file);
            std::process::exit(0);
        });
        ShutdownSignal::GracefulTerminate
    }
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

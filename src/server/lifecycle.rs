//! Drains and ends the process, after TERM, INT or a handover. Listeners close, requests in flight finish within the
//! grace period, and the process ends once it is idle; a second signal ends it at once.
//!
//! After a signal the admin listener stays open, so that `/readyz` answers 503 and an administrator sees what is left.
//! After a handover it closes at once, because the new process answers, and idle client connections stay open until
//! their next request, which may already be on its way.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::handover::HandoverParent;
use super::pid_file::PidFile;
use super::systemd;
use crate::edge::lingering_close::LINGER_TIMEOUT;
use crate::state::Balancer;
use crate::telemetry::access_log::AccessLog;

/// Signal handlers, installed before anything else: the default action of an early HUP would end the process. A signal
/// that comes before the balancer serves is handled later.
#[derive(Debug)]
pub struct Signals {
    pub reload: Signal,
    pub reopen: Signal,
    pub upgrade: Signal,
}

impl Signals {
    /// # Errors
    /// When the system refuses.
    pub fn install() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // The handlers belong to the process, so they outlive this runtime.
            Ok(Self {
                reload: signal(SignalKind::hangup())?,
                reopen: signal(SignalKind::user_defined1())?,
                upgrade: signal(SignalKind::user_defined2())?,
            })
        })
    }
}

/// A service that runs during the drain, although Pingora closes all listeners at the first signal. It ends when a new
/// process has taken over.
pub struct RunsUntilExit<S>(pub S, pub Arc<HandoverParent>);

#[async_trait]
impl<S: Service> Service for RunsUntilExit<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, _: ShutdownWatch, listeners_per_fd: usize) {
        // `self.1` must live as long as the service, which takes a closed channel for the signal.
        self.0.start_service(fds, self.1.handed_over(), listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn threads(&self) -> Option<usize> {
        self.0.threads()
    }
}

/// Tells Pingora when to stop, and ends the process after the last request.
#[derive(Debug)]
pub struct ShutdownWatcher {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    pid_file: Option<PidFile>,
    upgrade: Arc<HandoverParent>,
}

impl ShutdownWatcher {
    #[must_use]
    pub fn new(
        balancer: Arc<Balancer>,
        access_log: Arc<AccessLog>,
        pid_file: Option<PidFile>,
        upgrade: Arc<HandoverParent>,
    ) -> Self {
        Self { balancer, access_log, pid_file, upgrade }
    }

    /// Requests in flight, or after a handover the open connections if there are more.
    fn remaining(balancer: &Balancer, handed_over: bool) -> u64 {
        let in_flight = balancer.statistics.in_flight.load(Relaxed);
        // An idle connection may bring another request.
        let open = if handed_over { balancer.statistics.inbound.active(false) } else { 0 };
        in_flight.max(open)
    }
}

#[async_trait]
impl ShutdownSignalWatch for ShutdownWatcher {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            log::error!(target: "icm::lifecycle", "cannot install signal handlers, stopping");
            return ShutdownSignal::FastShutdown;
        };
        let mut handover = self.upgrade.handed_over();
        let handed_over = tokio::select! {
            () = recv_either(&mut term, &mut int) => false,
            Ok(_) = handover.wait_for(|done| *done) => true,
        };
        if !handed_over {
            self.balancer.begin_drain();
            self.upgrade.abort();
            systemd::stopping();
        }
        let balancer = Arc::clone(&self.balancer);
        let access_log = Arc::clone(&self.access_log);
        let pid_file = self.pid_file.clone();
        log::info!(
            target: "icm::lifecycle",
            "draining: no new connections, {} requests in flight",
            balancer.statistics.in_flight.load(Relaxed)
        );
        // Pingora waits for its whole grace period even if nothing is in flight, so this task ends the process.
        tokio::spawn(async move {
            let idle = async {
                // By then the listeners are closed, and a request that was just accepted is counted.
                tokio::time::sleep(Duration::from_millis(150)).await;
                while Self::remaining(&balancer, handed_over) > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // `edge::coalesce` may write the last answer a little after its request ended. After a handover nothing
                // waits for this process, so slow clients get the full linger time.
                tokio::time::sleep(if handed_over { LINGER_TIMEOUT } else { Duration::from_millis(30) })
                    .await;
            };
            tokio::select! {
                () = idle => log::info!(target: "icm::lifecycle", "drained"),
                () = recv_either(&mut term, &mut int) => log::warn!(target: "icm::lifecycle", "second signal: stopping now"),
            }
            access_log.flush();
            if let Some(pid_file) = pid_file {
                pid_file.remove();
            }
            std::process::exit(0);
        });
        ShutdownSignal::GracefulTerminate
    }
}

async fn recv_either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

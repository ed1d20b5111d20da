//! From the first signal to the last request: draining.
//!
//! In: TERM and INT, or a new process that serves in this one's place. Out: readiness goes at once, listeners close, requests in flight finish within the
//! grace period, and an idle process leaves at once. A second signal leaves now. The admin listener
//! stays open to the end: whoever asks `/readyz` hears 503, and an administrator sees what is left.
//! After a hand-over it closes at once, as the new process answers; and connections between two requests stay
//! until their next one, which may be on its way.

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
use crate::edge::lingering_close::LINGER_TIMEOUT as PARTING;
use crate::state::Balancer;
use crate::telemetry::access_log::AccessLog;

/// Handlers that were installed before anything else, so that an early HUP cannot end the process:
/// its default action would. What comes before the balancer serves is kept, not lost.
#[derive(Debug)]
pub struct Signals {
    /// HUP.
    pub reload: Signal,
    /// USR1.
    pub reopen: Signal,
    /// USR2.
    pub upgrade: Signal,
}

impl Signals {
    /// Installs the handlers for the life of the process.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // They outlive this runtime: the handlers are the process's own.
            Ok(Self {
                reload: signal(SignalKind::hangup())?,
                reopen: signal(SignalKind::user_defined1())?,
                upgrade: signal(SignalKind::user_defined2())?,
            })
        })
    }
}

/// A service that goes on while requests in flight finish: Pingora closes every listener at the first
/// signal, the admin listener too. It ends when a new process has taken over.
pub struct RunsUntilExit<S>(pub S, pub Arc<HandoverParent>);

#[async_trait]
impl<S: Service> Service for RunsUntilExit<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, _: ShutdownWatch, listeners_per_fd: usize) {
        // It speaks as long as somebody holds it, which is here: its end would be taken for the word.
        self.0.start_service(fds, self.1.handed_over(), listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn threads(&self) -> Option<usize> {
        self.0.threads()
    }
}

/// Tells Pingora when to stop, and ends the process when the last request has.
#[derive(Debug)]
pub struct ShutdownWatcher {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    pid_file: Option<PidFile>,
    upgrade: Arc<HandoverParent>,
}

impl ShutdownWatcher {
    /// Of this balancer.
    #[must_use]
    pub fn new(
        balancer: Arc<Balancer>,
        access_log: Arc<AccessLog>,
        pid_file: Option<PidFile>,
        upgrade: Arc<HandoverParent>,
    ) -> Self {
        Self { balancer, access_log, pid_file, upgrade }
    }

    /// Requests in flight, and the connections that must be gone before the process may go.
    fn remaining(balancer: &Balancer, handed_over: bool) -> u64 {
        let in_flight = balancer.statistics.in_flight.load(Relaxed);
        // A connection between two requests may bring another one.
        let open = if handed_over { balancer.statistics.inbound.active(false) } else { 0 };
        in_flight.max(open)
    }
}

#[async_trait]
impl ShutdownSignalWatch for ShutdownWatcher {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            log::error!(target: "icm::lifecycle", "signal handlers cannot be installed, stopping");
            return ShutdownSignal::FastShutdown;
        };
        let mut successor = self.upgrade.handed_over();
        let handed_over = tokio::select! {
            () = recv_either(&mut term, &mut int) => false,
            Ok(_) = successor.wait_for(|done| *done) => true,
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
        // Pingora sleeps through its whole grace period even when nothing is left to wait for.
        tokio::spawn(async move {
            let idle = async {
                // The listeners close within this; a request that was just accepted is seen by then.
                tokio::time::sleep(Duration::from_millis(150)).await;
                while Self::remaining(&balancer, handed_over) > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // The last answer is in the kernel's hands when its request is over, or a turn of its worker later
                // (`edge::coalesce`); give it a moment. Nobody waits for a process that another has replaced: there the
                // client may take its time to read.
                tokio::time::sleep(if handed_over { PARTING } else { Duration::from_millis(30) }).await;
            };
            tokio::select! {
                () = idle => log::info!(target: "icm::lifecycle", "drained"),
                () = recv_either(&mut term, &mut int) => log::warn!(target: "icm::lifecycle", "second signal: leaving now"),
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

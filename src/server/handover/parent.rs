//! The old process's end of a hand-over.
//!
//! In: USR2. Out: a new process that has taken over, or none, and why. One upgrade at a time, each in a thread
//! of its own. It changes nothing about the old process before the new one has said that it serves.

use parking_lot::{Mutex, MutexGuard};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::watch;

use super::channel::Channel;
use super::{
    ChildMessage, HELLO_TIMEOUT, HandoverOffer, PARENT_PID_VARIABLE, Proceed, READY_TIMEOUT, STEP_TIMEOUT,
};
use crate::edge::sockets::ListenSocket;
use crate::server::pid_file::PidFile;
use crate::server::systemd;
use crate::state::upgrade::UpgradeState;
use crate::state::{Balancer, restrictions};

/// The program as it was started, found again when its file was replaced.
#[derive(Clone, Debug)]
pub struct CurrentProgram {
    file: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

impl CurrentProgram {
    /// This process's own. A name with a `/` is taken from the directory that the process was started in,
    /// another one from `PATH`; links are followed when the new process is started, not now.
    ///
    /// # Errors
    /// When the process cannot say what it runs.
    pub fn current() -> std::io::Result<Self> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let directory = std::env::current_dir()?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places: Vec<PathBuf> = match name.as_encoded_bytes().contains(&b'/') {
            true => vec![directory],
            false => std::env::split_paths(&path).map(|place| directory.join(place)).collect(),
        };
        let found = places.into_iter().map(|place| place.join(&name)).find(|file| file.is_file());
        let file = found.map_or_else(std::env::current_exe, Ok)?;
        Ok(Self { file, name, arguments: arguments.collect() })
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct HandoverParent {
    balancer: Arc<Balancer>,
    program: CurrentProgram,
    affinity_key: Vec<u8>,
    pid_file: Option<PidFile>,
    /// The same as those that the listeners accept on.
    sockets: Mutex<Vec<ListenSocket>>,
    /// The new process, until it serves.
    child: Mutex<Option<Pid>>,
    running: AtomicBool,
    missed_reload: AtomicBool,
    handed_over: watch::Sender<bool>,
}

impl HandoverParent {
    /// Of the process that listens on these sockets.
    ///
    /// # Errors
    /// When there are no descriptors left, or the process cannot say what it runs.
    pub fn new<'a>(
        balancer: Arc<Balancer>,
        affinity_key: Vec<u8>,
        pid_file: Option<PidFile>,
        sockets: impl IntoIterator<Item = &'a ListenSocket>,
    ) -> std::io::Result<Self> {
        let duplicate = |socket: &ListenSocket| -> std::io::Result<ListenSocket> {
            Ok(ListenSocket { address: socket.address, listener: socket.listener.try_clone()? })
        };
        let sockets = sockets.into_iter().map(duplicate).collect::<std::io::Result<_>>()?;
        Ok(Self {
            balancer,
            program: CurrentProgram::current()?,
            affinity_key,
            pid_file,
            sockets: Mutex::new(sockets),
            child: Mutex::default(),
            running: AtomicBool::new(false),
            missed_reload: AtomicBool::new(false),
            handed_over: watch::Sender::new(false),
        })
    }

    /// True from the moment on when a new process serves.
    #[must_use]
    pub fn handed_over(&self) -> watch::Receiver<bool> {
        self.handed_over.subscribe()
    }

    /// Starts an upgrade, unless one is under way or the process is leaving.
    pub fn start(self: &Arc<Self>) {
        if self.balancer.is_draining() {
            log::warn!(target: "icm::lifecycle", "USR2: this process is leaving, nothing was done");
            return;
        }
        if self.running.swap(true, SeqCst) {
            log::warn!(target: "icm::lifecycle", "USR2: an upgrade is under way, nothing was done");
            return;
        }
        self.missed_reload.store(false, SeqCst);
        self.balancer.upgrade.begin_attempt();
        log::info!(target: "icm::lifecycle", "upgrade: starting {}", self.program.file.display());
        let this = Arc::clone(self);
        let thread = std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || this.run());
        if let Err(error) = thread {
            self.failed(&format!("no thread for it: {error}"));
        }
    }

    /// A reload was done: a new process that is on its way has read the configuration before it.
    pub fn set_reload_missed(&self) {
        self.missed_reload.store(true, SeqCst);
    }

    /// The process leaves: its sockets close, and a new process that does not serve yet ends.
    pub fn abort(&self) {
        self.sockets.lock().clear();
        if let Some(child) = self.child().take() {
            let _ = killpg(child, Signal::SIGKILL);
        }
    }

    fn run(&self) {
        let started = Instant::now();
        let mut child = match self.start_child() {
            Ok(child) => child,
            Err(reason) => return self.failed(&reason),
        };
        let pid = child.id();
        // In this order: whoever sees the state finds everything else done.
        self.sockets.lock().clear();
        systemd::main_process_changed(pid);
        self.balancer.begin_drain();
        let took = humantime::format_duration(Duration::from_millis(crate::util::clock::saturating_millis(
            started.elapsed(),
        )));
        let text = format!("process {pid} has taken over from {} after {took}", std::process::id());
        self.balancer.events.record(log::Level::Info, "upgrade", None, text);
        self.balancer.upgrade.end_attempt(UpgradeState::HandedOver, String::new(), Some(pid));
        self.handed_over.send_replace(true);
        // It is our child for as long as we are there, so nobody else hears of its end.
        if let Ok(status) = child.wait() {
            log::error!(target: "icm::lifecycle", "process {pid}, which has taken over, has ended: {status}");
        }
    }

    fn failed(&self, reason: &str) {
        let text = format!("upgrade failed, process {} serves on: {reason}", std::process::id());
        self.balancer.events.record(log::Level::Error, "upgrade", None, text);
        self.balancer.upgrade.end_attempt(UpgradeState::Failed, reason.to_owned(), None);
        self.running.store(false, SeqCst);
    }

    /// Starts the new process and talks to it until it serves; else it is gone, and this says why.
    fn start_child(&self) -> Result<Child, String> {
        let no_channel = |error: std::io::Error| format!("no channel to a new process: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(no_channel)?;
        let mut channel = Channel::new(ours).map_err(no_channel)?;
        let CurrentProgram { file, name, arguments } = &self.program;
        let mut command = Command::new(file);
        command
            .arg0(name)
            .args(arguments)
            .env(PARENT_PID_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // Of its own, so that whatever it starts ends with it when it fails.
            .process_group(0);
        let mut child = {
            let mut slot = self.child();
            let child =
                command.spawn().map_err(|error| format!("{} cannot be started: {error}", file.display()))?;
            *slot = i32::try_from(child.id()).ok().map(Pid::from_raw);
            child
        };
        // Its end of the channel must be open nowhere else, or its end would not be heard.
        drop(command);
        let talk = self.exchange_messages(&mut channel);
        let mut slot = self.child();
        match (talk, slot.take()) {
            (Ok(()), Some(_)) => Ok(child),
            (Ok(()), None) => Err(self.kill_child(&mut child, "this process was told to stop".to_owned())),
            (Err(ExchangeError::Failed(reason)), _) => Err(self.kill_child(&mut child, reason)),
            (Err(ExchangeError::TimedOut(doing)), _) => {
                Err(self.kill_child(&mut child, format!("the new process did not {doing} in time")))
            }
            (Err(ExchangeError::Closed(doing)), _) => {
                let status =
                    exit_description(&mut child).unwrap_or_else(|| "it closed its channel".to_owned());
                let reason = format!("the new process did not {doing}: {status}; the log has its last words");
                Err(self.kill_child(&mut child, reason))
            }
        }
    }

    fn exchange_messages(&self, channel: &mut Channel) -> Result<(), ExchangeError> {
        let offer = {
            let sockets = self.sockets.lock();
            for socket in &*sockets {
                let listener: &TcpListener = &socket.listener;
                channel.send_socket(listener).map_err(|e| ExchangeError::from_io(e, "take the sockets"))?;
            }
            HandoverOffer {
                sockets: sockets.iter().map(|socket| socket.address).collect(),
                affinity_key: self.affinity_key.clone(),
                parent_is_ready: self.balancer.is_ready(),
            }
        };
        channel.send(&offer).map_err(|e| ExchangeError::from_io(e, "take the sockets"))?;
        match receive_message(channel, HELLO_TIMEOUT, "say that it runs")? {
            ChildMessage::Hello { version } => {
                log::info!(target: "icm::lifecycle", "upgrade: icm {version} runs")
            }
            message => return Err(ExchangeError::unexpected_message(&message)),
        }
        match receive_message(channel, READY_TIMEOUT, "become ready")? {
            ChildMessage::Ready => {}
            message => return Err(ExchangeError::unexpected_message(&message)),
        }
        let proceed = Proceed {
            restrictions: restrictions::local_restrictions(&self.balancer),
            reload: self.missed_reload.load(SeqCst),
        };
        let doing = "open its listeners";
        channel.send(&proceed).map_err(|e| ExchangeError::from_io(e, doing))?;
        match receive_message(channel, STEP_TIMEOUT, doing)? {
            ChildMessage::Serving => Ok(()),
            message => Err(ExchangeError::unexpected_message(&message)),
        }
    }

    /// Makes sure that nothing is left of it. Out: the reason again.
    fn kill_child(&self, child: &mut Child, reason: String) -> String {
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        // It may have been written by the new process already.
        if let Some(Err(error)) = self.pid_file.as_ref().map(PidFile::write) {
            log::error!(target: "icm::lifecycle", "{error}");
        }
        reason
    }

    fn child(&self) -> MutexGuard<'_, Option<Pid>> {
        self.child.lock()
    }
}

/// Why the talk ended, and what the new process was to do.
enum ExchangeError {
    Failed(String),
    TimedOut(&'static str),
    Closed(&'static str),
}

impl ExchangeError {
    fn from_io(error: std::io::Error, doing: &'static str) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut(doing),
            ErrorKind::InvalidData => Self::Failed(format!("the new process is not understood: {error}")),
            _ => Self::Closed(doing),
        }
    }

    fn unexpected_message(message: &ChildMessage) -> Self {
        Self::Failed(format!("the new process is not understood: it said {message:?} out of turn"))
    }
}

fn receive_message(
    channel: &mut Channel,
    within: Duration,
    doing: &'static str,
) -> Result<ChildMessage, ExchangeError> {
    match channel.receive(within) {
        Ok(ChildMessage::Failed { reason }) => Err(ExchangeError::Failed(reason)),
        Ok(message) => Ok(message),
        Err(error) => Err(ExchangeError::from_io(error, doing)),
    }
}

/// How a process ended that has closed its channel; it may take a moment about it.
fn exit_description(child: &mut Child) -> Option<String> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        match child.try_wait() {
            Ok(Some(status)) => return Some(format!("it ended with {status}")),
            Ok(None) => std::thread::park_timeout(Duration::from_millis(20)),
            Err(_) => return None,
        }
    }
    None
}

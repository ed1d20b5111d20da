//! The old process's end of a handover. One upgrade runs at a time, in a thread of its own; the old process does not
//! change before the new one serves.

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
use parking_lot::Mutex;
use tokio::sync::watch;

use super::channel::Channel;
use super::{
    ChildMessage, HELLO_TIMEOUT, HandoverOffer, PARENT_PID_VARIABLE, Proceed, READY_TIMEOUT, STEP_TIMEOUT,
};
use crate::edge::session_tickets::GeneratedTicketKeys;
use crate::edge::sockets::ListenSocket;
use crate::server::pid_file::PidFile;
use crate::server::systemd;
use crate::state::upgrade::UpgradeState;
use crate::state::{Balancer, catch_up, restrictions};

/// The program as it was started. Its path stays valid when the file is replaced.
#[derive(Clone, Debug)]
pub struct CurrentProgram {
    file: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

impl CurrentProgram {
    /// A name with a `/` is relative to the current directory, another one is searched in `PATH`. Symbolic links are
    /// resolved when the new process is started, not now.
    ///
    /// # Errors
    /// When the path of the program is not known.
    pub fn current() -> std::io::Result<Self> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let directory = std::env::current_dir()?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories: Vec<PathBuf> = match name.as_encoded_bytes().contains(&b'/') {
            true => vec![directory],
            false => std::env::split_paths(&path).map(|entry| directory.join(entry)).collect(),
        };
        let found = directories.into_iter().map(|entry| entry.join(&name)).find(|file| file.is_file());
        let file = found.map_or_else(std::env::current_exe, Ok)?;
        Ok(Self { file, name, arguments: arguments.collect() })
    }
}

/// Starts new processes and hands over to them.
#[derive(Debug)]
pub struct HandoverParent {
    balancer: Arc<Balancer>,
    program: CurrentProgram,
    affinity_key: Vec<u8>,
    ticket_keys: Arc<GeneratedTicketKeys>,
    pid_file: Option<PidFile>,
    /// Duplicates of the listening sockets.
    sockets: Mutex<Vec<ListenSocket>>,
    /// The process group of the new process, until it serves.
    child: Mutex<Option<Pid>>,
    running: AtomicBool,
    missed_reload: AtomicBool,
    handed_over: watch::Sender<bool>,
}

impl HandoverParent {
    /// # Errors
    /// When no descriptors are left, or the path of the program is not known.
    pub fn new<'a>(
        balancer: Arc<Balancer>,
        affinity_key: Vec<u8>,
        ticket_keys: Arc<GeneratedTicketKeys>,
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
            ticket_keys,
            pid_file,
            sockets: Mutex::new(sockets),
            child: Mutex::default(),
            running: AtomicBool::new(false),
            missed_reload: AtomicBool::new(false),
            handed_over: watch::Sender::new(false),
        })
    }

    /// Becomes true when a new process serves.
    #[must_use]
    pub fn handed_over(&self) -> watch::Receiver<bool> {
        self.handed_over.subscribe()
    }

    /// Starts an upgrade, unless one is under way or the process is draining.
    pub fn start(self: &Arc<Self>) {
        if self.balancer.is_draining() {
            log::warn!(target: "icm::lifecycle", "USR2 ignored: this process is draining");
            return;
        }
        if self.running.swap(true, SeqCst) {
            log::warn!(target: "icm::lifecycle", "USR2 ignored: an upgrade is under way");
            return;
        }
        self.missed_reload.store(false, SeqCst);
        self.balancer.upgrade.begin_attempt();
        log::info!(target: "icm::lifecycle", "upgrade: starting {}", self.program.file.display());
        let this = Arc::clone(self);
        let thread = std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || this.run());
        if let Err(error) = thread {
            self.failed(&format!("cannot start a thread: {error}"));
        }
    }

    /// A new process that was already started may have read the configuration before this reload.
    pub fn set_reload_missed(&self) {
        self.missed_reload.store(true, SeqCst);
    }

    /// Closes the sockets and kills a new process that does not serve yet, because this process ends.
    pub fn abort(&self) {
        self.sockets.lock().clear();
        if let Some(child) = self.child.lock().take() {
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
        // The order matters: when the state is visible, everything else is done.
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
        // As its parent, only this process sees how the new one ends.
        if let Ok(status) = child.wait() {
            log::error!(target: "icm::lifecycle", "the new process {pid} has ended: {status}");
        }
    }

    fn failed(&self, reason: &str) {
        let text = format!("upgrade failed, process {} keeps serving: {reason}", std::process::id());
        self.balancer.events.record(log::Level::Error, "upgrade", None, text);
        self.balancer.upgrade.end_attempt(UpgradeState::Failed, reason.to_owned(), None);
        self.running.store(false, SeqCst);
    }

    /// Starts the new process and exchanges messages until it serves. After an error the process is gone.
    fn start_child(&self) -> Result<Child, String> {
        let no_channel =
            |error: std::io::Error| format!("cannot create a channel to the new process: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(no_channel)?;
        let mut channel = Channel::new(ours).map_err(no_channel)?;
        let CurrentProgram { file, name, arguments } = &self.program;
        let mut command = Command::new(file);
        command
            .arg0(name)
            .args(arguments)
            .env(PARENT_PID_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // A group of its own, so that its child processes can be killed with it.
            .process_group(0);
        let mut child = {
            // Locked before the start, so that `abort` cannot miss the new process.
            let mut slot = self.child.lock();
            let child =
                command.spawn().map_err(|error| format!("{} cannot be started: {error}", file.display()))?;
            *slot = i32::try_from(child.id()).ok().map(Pid::from_raw);
            child
        };
        // This process must not keep the child's end of the channel open, or it would not see it close.
        drop(command);
        let result = self.exchange_messages(&mut channel);
        let mut slot = self.child.lock();
        match (result, slot.take()) {
            (Ok(()), Some(_)) => Ok(child),
            (Ok(()), None) => {
                Err(self.kill_child(&mut child, "this process received a stop signal".to_owned()))
            }
            (Err(ExchangeError::Failed(reason)), _) => Err(self.kill_child(&mut child, reason)),
            (Err(ExchangeError::TimedOut(doing)), _) => {
                Err(self.kill_child(&mut child, format!("the new process did not {doing} in time")))
            }
            (Err(ExchangeError::Closed(doing)), _) => {
                let status =
                    exit_description(&mut child).unwrap_or_else(|| "it closed its channel".to_owned());
                let reason = format!("the new process did not {doing}: {status}; see its log");
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
                ticket_keys: Some(self.ticket_keys.inheritance()),
                parent_is_ready: self.balancer.is_ready(),
            }
        };
        channel.send(&offer).map_err(|e| ExchangeError::from_io(e, "take the sockets"))?;
        match receive_message(channel, HELLO_TIMEOUT, "report that it runs")? {
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
            catching_up: catch_up::local_records(&self.balancer),
            reload: self.missed_reload.load(SeqCst),
        };
        let doing = "open its listeners";
        channel.send(&proceed).map_err(|e| ExchangeError::from_io(e, doing))?;
        match receive_message(channel, STEP_TIMEOUT, doing)? {
            ChildMessage::Serving => Ok(()),
            message => Err(ExchangeError::unexpected_message(&message)),
        }
    }

    /// Kills the new process and its children, and returns the reason.
    fn kill_child(&self, child: &mut Child, reason: String) -> String {
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        // The new process may already have written its pid.
        if let Some(Err(error)) = self.pid_file.as_ref().map(PidFile::write) {
            log::error!(target: "icm::lifecycle", "{error}");
        }
        reason
    }
}

/// Why the exchange failed; `&str` is what the new process should have done.
enum ExchangeError {
    Failed(String),
    TimedOut(&'static str),
    Closed(&'static str),
}

impl ExchangeError {
    fn from_io(error: std::io::Error, doing: &'static str) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut(doing),
            ErrorKind::InvalidData => Self::Failed(format!("unexpected handover message: {error}")),
            _ => Self::Closed(doing),
        }
    }

    fn unexpected_message(message: &ChildMessage) -> Self {
        Self::Failed(format!("unexpected handover message {message:?}"))
    }
}

fn receive_message(
    channel: &mut Channel,
    timeout: Duration,
    doing: &'static str,
) -> Result<ChildMessage, ExchangeError> {
    match channel.receive(timeout) {
        Ok(ChildMessage::Failed { reason }) => Err(ExchangeError::Failed(reason)),
        Ok(message) => Ok(message),
        Err(error) => Err(ExchangeError::from_io(error, doing)),
    }
}

/// How the process ended. It closes its channel shortly before that.
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

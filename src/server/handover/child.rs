//! The new process's end of a hand-over.
//!
//! In: the environment and standard input of a process that an old one started. Out: its sockets and its key,
//! then the word to go on. Whoever holds this must say in the end that the process serves or why it cannot; if
//! the old process goes away before that, there is nothing to take over.

use parking_lot::{Mutex, MutexGuard};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::channel::Channel;
use super::{ChildMessage, HELLO_TIMEOUT, HandoverOffer, PARENT_PID_VARIABLE, Proceed, READY_TIMEOUT};
use crate::edge::sockets::ListenSocket;

/// See the module's description.
#[derive(Debug)]
pub struct HandoverChild {
    /// The old process.
    pub from: u32,
    /// The old process is ready; so this one has to be before it takes over.
    pub parent_is_ready: bool,
    /// The old process's generated affinity key.
    pub affinity_key: Vec<u8>,
    channel: Mutex<Channel>,
    sockets: Mutex<Vec<ListenSocket>>,
}

impl HandoverChild {
    /// What this process was started for. `None` for a process that nobody hands over to.
    ///
    /// # Errors
    /// When the old process cannot be heard.
    pub fn from_environment() -> std::io::Result<Option<Self>> {
        let named = std::env::var(PARENT_PID_VARIABLE).ok().and_then(|pid| pid.parse().ok());
        // The variable stays in the environment for the life of the process, and of all that it starts.
        let Some(from) = named.filter(|pid| *pid == std::os::unix::process::parent_id()) else {
            return Ok(None);
        };
        let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let mut channel = Channel::new(stream)?;
        channel.send(&ChildMessage::Hello { version: env!("CARGO_PKG_VERSION").to_owned() })?;
        let offer: HandoverOffer = channel.receive(HELLO_TIMEOUT)?;
        let listeners = channel.take_sockets();
        let sockets = offer.sockets.into_iter().zip(listeners);
        let sockets = sockets.map(|(address, listener)| ListenSocket { address, listener }).collect();
        Ok(Some(Self {
            from,
            parent_is_ready: offer.parent_is_ready,
            affinity_key: offer.affinity_key,
            channel: Mutex::new(channel),
            sockets: Mutex::new(sockets),
        }))
    }

    /// The socket of this address, once.
    pub fn take_socket(&self, address: SocketAddr) -> Option<ListenSocket> {
        let mut sockets = self.sockets.lock();
        let at = sockets.iter().position(|socket| socket.address == address)?;
        Some(sockets.swap_remove(at))
    }

    /// Closes the sockets that nobody took. Out: their addresses.
    pub fn close_unused_sockets(&self) -> Vec<SocketAddr> {
        let mut sockets = self.sockets.lock();
        sockets.drain(..).map(|socket| socket.address).collect()
    }

    /// This process cannot take over. It is told as well as can be; the caller ends the process.
    pub fn report_failure(&self, reason: &str) {
        let _ = self.channel().send(&ChildMessage::Failed { reason: reason.to_owned() });
    }

    /// Ready; waits for the old process to let go. Blocks.
    ///
    /// # Errors
    /// When it does not: it ends, or has lost its patience.
    pub fn report_ready(&self) -> std::io::Result<Proceed> {
        let mut channel = self.channel();
        channel.send(&ChildMessage::Ready)?;
        channel.receive(READY_TIMEOUT).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => std::io::Error::other("the old process has called it off"),
            _ => error,
        })
    }

    /// The listeners are open.
    ///
    /// # Errors
    /// When the old process is gone already; nothing is wrong with this one then.
    pub fn report_serving(&self) -> std::io::Result<()> {
        self.channel().send(&ChildMessage::Serving)
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock()
    }
}

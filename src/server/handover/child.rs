//! The new process's end of a handover. Its owner must report either that the process serves or why it cannot; if the old
//! process ends before that, the handover has failed.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::channel::Channel;
use super::{ChildMessage, HELLO_TIMEOUT, HandoverOffer, PARENT_PID_VARIABLE, Proceed, READY_TIMEOUT};
use crate::edge::session_tickets::InheritedTicketKeys;
use crate::edge::sockets::ListenSocket;
use parking_lot::Mutex;

/// The connection to the old process.
#[derive(Debug)]
pub struct HandoverChild {
    /// The pid of the old process.
    pub from: u32,
    /// If the old process is ready, this one must become ready before it takes over.
    pub parent_is_ready: bool,
    /// The generated affinity key of the old process.
    pub affinity_key: Vec<u8>,
    /// The generated keys of session tickets of the old process.
    pub ticket_keys: Option<InheritedTicketKeys>,
    channel: Mutex<Channel>,
    sockets: Mutex<Vec<ListenSocket>>,
}

impl HandoverChild {
    /// Connects to the old process; `None` if this process was started otherwise.
    ///
    /// # Errors
    /// When the old process does not answer.
    pub fn from_environment() -> std::io::Result<Option<Self>> {
        let named = std::env::var(PARENT_PID_VARIABLE).ok().and_then(|pid| pid.parse().ok());
        // Later child processes inherit the variable, so it counts only if it names the parent.
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
            ticket_keys: offer.ticket_keys,
            channel: Mutex::new(channel),
            sockets: Mutex::new(sockets),
        }))
    }

    pub fn take_socket(&self, address: SocketAddr) -> Option<ListenSocket> {
        let mut sockets = self.sockets.lock();
        let at = sockets.iter().position(|socket| socket.address == address)?;
        Some(sockets.swap_remove(at))
    }

    /// Closes the sockets that were not taken, and returns their addresses.
    pub fn close_unused_sockets(&self) -> Vec<SocketAddr> {
        let mut sockets = self.sockets.lock();
        sockets.drain(..).map(|socket| socket.address).collect()
    }

    /// Reports that this process cannot take over; the caller then ends it.
    pub fn report_failure(&self, reason: &str) {
        let _ = self.channel.lock().send(&ChildMessage::Failed { reason: reason.to_owned() });
    }

    /// Reports that this process is ready, and waits for the old one to proceed. Blocks.
    ///
    /// # Errors
    /// When the old process ends, cancels, or does not answer in time.
    pub fn report_ready(&self) -> std::io::Result<Proceed> {
        let mut channel = self.channel.lock();
        channel.send(&ChildMessage::Ready)?;
        channel.receive(READY_TIMEOUT).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => std::io::Error::other("the old process cancelled the handover"),
            _ => error,
        })
    }

    /// Reports that the listeners are open.
    ///
    /// # Errors
    /// When the old process has ended; this one serves nevertheless.
    pub fn report_serving(&self) -> std::io::Result<()> {
        self.channel.lock().send(&ChildMessage::Serving)
    }
}

//! The answer's deadline for requests with a body: counted from the end of the body, not before.
//!
//! In: the upstream connection, and the moment when the last octet of the body was passed on. Out: when
//! no header came in time, the connection is shut down, which the proxy sees as a closed connection
//! and [`Watch::fired`] explains. An upload that pauses is never taken for a server that hangs.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, getsockname, shutdown};

/// A connection by its descriptor and both its ends: where the attempt fails by itself, Pingora closes the
/// descriptor a moment before the watch is disarmed, and its number may already be somebody else's.
#[derive(Debug, PartialEq)]
struct Connection {
    number: RawFd,
    local: SockaddrStorage,
    peer: SockaddrStorage,
}

impl Connection {
    fn of(number: RawFd) -> Option<Self> {
        Some(Self { number, local: getsockname(number).ok()?, peer: getpeername(number).ok()? })
    }

    fn cut(&self) {
        if Self::of(self.number).as_ref() != Some(self) {
            return;
        }
        if let Err(error) = shutdown(self.number, Shutdown::Both) {
            log::debug!(target: "icm::proxy", "shutting down a silent connection: {error}");
        }
    }
}

/// Watches one attempt; dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    timer: Option<tokio::task::AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    /// `None` once the connection may be closed or used by others.
    connection: Mutex<Option<Connection>>,
    fired: AtomicBool,
}

impl Watch {
    /// For the connection of this attempt.
    #[must_use]
    pub fn new(connection: RawFd) -> Self {
        let connection = Connection::of(connection);
        let shared = Shared { connection: Mutex::new(connection), fired: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), timer: None }
    }

    /// The body has ended: an answer is due within `limit`.
    pub fn body_ended(&mut self, limit: Duration) {
        if self.timer.is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            // The lock is held while the socket is shut down: whoever disarms waits for it.
            let mut connection = shared.connection.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(connection) = connection.take() {
                shared.fired.store(true, Relaxed);
                connection.cut();
            }
        });
        self.timer = Some(task.abort_handle());
    }

    /// The answer is there, or the attempt is over.
    pub fn disarm(&self) {
        self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }

    /// The deadline passed.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.shared.fired.load(Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.disarm();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_silent_server_is_cut_after_the_end_of_the_body() {
        let (mut client, _server) = pair().await;
        let mut watch = Watch::new(client.as_raw_fd());
        watch.body_ended(Duration::from_millis(30));
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(watch.fired());
    }

    #[tokio::test]
    async fn a_watch_that_was_disarmed_cuts_nothing() {
        let (client, _server) = pair().await;
        let mut watch = Watch::new(client.as_raw_fd());
        watch.body_ended(Duration::from_millis(10));
        watch.disarm();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!watch.fired());
        assert!(client.writable().await.is_ok());
    }

    #[tokio::test]
    async fn a_number_that_now_belongs_to_another_connection_is_left_alone() {
        let (client, _server) = pair().await;
        let mut watch = Watch::new(client.as_raw_fd());
        watch.body_ended(Duration::from_millis(30));
        drop(client);
        // One of these gets the number.
        let others = [pair().await, pair().await];
        while !watch.fired() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (mut client, mut server) in others {
            tokio::io::AsyncWriteExt::write_all(&mut client, b"x").await.unwrap();
            assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
            tokio::io::AsyncWriteExt::write_all(&mut server, b"y").await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 1);
        }
    }
}

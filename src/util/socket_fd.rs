//! A TCP connection by its file descriptor, to peek at it and to shut it down where Pingora offers no handle.
//!
//! The number belongs to another socket as soon as the connection is closed, and Pingora closes connections at any
//! time. So the local port is kept as well and compared before anything is done: two sockets that use one number after
//! another do not share a port.

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, SockaddrStorage, getsockname, recv, shutdown};

/// A socket of this process, valid for as long as the number belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFd {
    pub fd: RawFd,
    /// Identifies the socket behind the number.
    pub local_port: u16,
}

/// The state of a connection's receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveState {
    /// No data yet, and the connection is open.
    Empty,
    Readable,
    /// The peer has closed or reset the connection.
    Closed,
}

impl SocketFd {
    /// `None` if it is not the descriptor of an open socket.
    #[must_use]
    pub fn from_fd(fd: RawFd) -> Option<Self> {
        Some(Self { fd, local_port: local_port(fd)? })
    }

    /// Peeks at the receive buffer with one system call that does not block.
    #[must_use]
    pub fn receive_state(self) -> ReceiveState {
        match recv(self.fd, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(1..) => ReceiveState::Readable,
            Err(Errno::EAGAIN | Errno::EINTR) => ReceiveState::Empty,
            Ok(0) | Err(_) => ReceiveState::Closed,
        }
    }

    /// Shuts the connection down in both directions if the number still belongs to it; its owner sees it as closed.
    pub fn shut_down(self) {
        if Self::from_fd(self.fd) == Some(self) {
            // This fails if the peer has already closed the connection.
            let _ = shutdown(self.fd, Shutdown::Both);
        }
    }
}

fn local_port(fd: RawFd) -> Option<u16> {
    let address: SockaddrStorage = getsockname(fd).ok()?;
    let v4 = address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::port);
    v4.or_else(|| address.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    async fn becomes(client: &TcpStream, wanted: ReceiveState) -> bool {
        let descriptor = SocketFd::from_fd(client.as_raw_fd()).unwrap();
        for _ in 0..3_000 {
            if descriptor.receive_state() == wanted {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn idle_readable_and_closed_connections_are_distinguished() {
        let (client, mut server) = pair();
        assert!(becomes(&client, ReceiveState::Empty).await);
        server.write_all(b"x").unwrap();
        assert!(becomes(&client, ReceiveState::Readable).await);
        let (client, server) = pair();
        drop(server);
        assert!(becomes(&client, ReceiveState::Closed).await);
        let (mut client, server) = pair();
        client.write_all(b"never read").unwrap();
        server.peek(&mut [0]).unwrap();
        // Closing with unread data resets the connection.
        drop(server);
        assert!(becomes(&client, ReceiveState::Closed).await);
    }

    #[test]
    fn a_descriptor_that_was_reused_is_left_alone() {
        let (client, _server) = pair();
        let old = SocketFd::from_fd(client.as_raw_fd()).unwrap();
        drop(client);
        // One of these reuses the number.
        let others = [pair(), pair()];
        old.shut_down();
        for (mut client, mut server) in others {
            client.write_all(b"x").unwrap();
            assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
        }
    }

    #[test]
    fn a_shut_down_connection_is_closed_for_both_sides() {
        let (mut client, mut server) = pair();
        SocketFd::from_fd(client.as_raw_fd()).unwrap().shut_down();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    }
}

//! One TCP connection by its descriptor, for what Pingora has no handle for: to look at it and to cut it.
//!
//! A descriptor's number belongs to another socket as soon as the connection is closed, and Pingora closes connections
//! when it likes. So the local port is kept beside it and compared before anything is done: two sockets that follow
//! each other on one number do not have the same port.

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, SockaddrStorage, getsockname, recv, shutdown};

/// A socket of this process, as long as it is the one that the number stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFd {
    /// As the system counts the process's descriptors.
    pub fd: RawFd,
    /// Which socket the number stands for.
    pub local_port: u16,
}

/// What is in the receive buffer of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveState {
    /// It is empty, and more may come.
    Empty,
    /// Something can be read.
    Readable,
    /// The peer has closed or reset the connection.
    Closed,
}

impl SocketFd {
    /// Of an open socket.
    #[must_use]
    pub fn from_fd(fd: RawFd) -> Option<Self> {
        Some(Self { fd, local_port: local_port(fd)? })
    }

    /// Looks at the receive buffer without reading from it: one system call that does not wait.
    #[must_use]
    pub fn receive_state(self) -> ReceiveState {
        match recv(self.fd, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(1..) => ReceiveState::Readable,
            Err(Errno::EAGAIN | Errno::EINTR) => ReceiveState::Empty,
            Ok(0) | Err(_) => ReceiveState::Closed,
        }
    }

    /// Ends the connection in both directions, if it is still this one. Its owner sees that it is closed.
    pub fn shut_down(self) {
        if Self::from_fd(self.fd) == Some(self) {
            // It fails where the peer has ended the connection already.
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
    async fn a_quiet_connection_one_with_bytes_and_one_that_was_closed_are_told_apart() {
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
        // With something unread, closing resets.
        drop(server);
        assert!(becomes(&client, ReceiveState::Closed).await);
    }

    #[test]
    fn a_number_that_now_belongs_to_another_connection_is_left_alone() {
        let (client, _server) = pair();
        let old = SocketFd::from_fd(client.as_raw_fd()).unwrap();
        drop(client);
        // One of these gets the number.
        let others = [pair(), pair()];
        old.shut_down();
        for (mut client, mut server) in others {
            client.write_all(b"x").unwrap();
            assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
        }
    }

    #[test]
    fn a_connection_that_was_cut_is_closed_for_both_sides() {
        let (mut client, mut server) = pair();
        SocketFd::from_fd(client.as_raw_fd()).unwrap().shut_down();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    }
}

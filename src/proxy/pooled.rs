//! Is a connection of the pool still open, asked at the last moment before a request goes out on it.
//!
//! In: its descriptor. Out: whether the server has closed it. The pool watches its connections, but hears of a
//! closed one only when the runtime has looked at the sockets again; a request that must not be sent twice cannot
//! wait for that. Nothing is read from the connection.

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

/// The server has closed or reset it. What else there may be to read, such as a new TLS session, says nothing.
#[must_use]
pub fn is_closed(connection: RawFd) -> bool {
    let look = recv(connection, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    !matches!(look, Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    async fn becomes_closed(client: &TcpStream) -> bool {
        for _ in 0..3_000 {
            if is_closed(client.as_raw_fd()) {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        false
    }

    #[test]
    fn a_quiet_connection_and_one_with_something_to_read_are_open() {
        let (client, mut server) = pair();
        assert!(!is_closed(client.as_raw_fd()));
        server.write_all(b"x").unwrap();
        client.peek(&mut [0]).unwrap();
        assert!(!is_closed(client.as_raw_fd()));
    }

    #[tokio::test]
    async fn one_that_the_server_has_closed_or_reset_is_closed() {
        let (client, server) = pair();
        drop(server);
        assert!(becomes_closed(&client).await);
        let (mut client, server) = pair();
        client.write_all(b"never read").unwrap();
        server.peek(&mut [0]).unwrap();
        // With something unread, closing resets.
        drop(server);
        assert!(becomes_closed(&client).await);
    }
}

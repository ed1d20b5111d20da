//! Binds the sockets of the listeners, before the rest of the startup.
//!
//! They listen later, when the process can serve: until then a client's connection is refused and does not wait.

use std::net::{SocketAddr, TcpListener};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind as bind_socket, listen as listen_on,
    setsockopt, socket, sockopt,
};

#[derive(Debug)]
pub struct ListenSocket {
    /// From the configuration; it identifies the socket in a handover.
    pub address: SocketAddr,
    pub listener: TcpListener,
}

/// Binds a socket without listening on it. Connections in TIME_WAIT do not block the address.
///
/// # Errors
/// When the address is in use or not allowed.
pub fn bind(address: SocketAddr) -> std::io::Result<ListenSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind_socket(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    Ok(ListenSocket { address, listener: TcpListener::from(fd) })
}

/// Starts to listen. A socket that listens already is no error.
///
/// # Errors
/// When another process listens on the address.
pub fn listen(listener: &TcpListener) -> std::io::Result<()> {
    Ok(listen_on(listener, Backlog::MAXALLOWABLE)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_bound_socket_refuses_connections_until_it_listens() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.listener.local_addr().unwrap();
        assert!(TcpStream::connect(address).is_err());
        listen(&socket.listener).unwrap();
        listen(&socket.listener).unwrap();
        assert!(TcpStream::connect(address).is_ok());
    }

    #[test]
    fn an_address_in_use_is_an_error_in_both_families() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let taken = TcpListener::bind(any).unwrap();
            let error = bind(taken.local_addr().unwrap()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{any}");
        }
    }
}

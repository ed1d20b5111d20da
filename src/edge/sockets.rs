//! The sockets that the process listens on, taken before anything else can fail.
//!
//! In: addresses. Out: bound sockets, in the order asked for. They do not listen yet: the listeners open when
//! enough is known to serve, and until then a client is refused and not kept waiting. Nobody behind this
//! knows where a socket came from.

use std::net::{SocketAddr, TcpListener};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind as bind_socket, listen as listen_on,
    setsockopt, socket, sockopt,
};

/// One socket and the address it was asked for, which is its name for a hand-over.
#[derive(Debug)]
pub struct ListenSocket {
    /// As the configuration writes it.
    pub address: SocketAddr,
    /// Bound, and not blocking.
    pub listener: TcpListener,
}

/// Binds a socket without listening on it. An address that somebody listens on is an error; one whose old
/// connections still linger is not.
///
/// # Errors
/// The system's own.
pub fn bind(address: SocketAddr) -> std::io::Result<ListenSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind_socket(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    Ok(ListenSocket { address, listener: TcpListener::from(fd) })
}

/// Begins to listen, or goes on.
///
/// # Errors
/// When another process was quicker.
pub fn listen(listener: &TcpListener) -> std::io::Result<()> {
    Ok(listen_on(listener, Backlog::MAXALLOWABLE)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_bound_socket_accepts_nobody_before_it_listens() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.listener.local_addr().unwrap();
        assert!(TcpStream::connect(address).is_err());
        listen(&socket.listener).unwrap();
        listen(&socket.listener).unwrap();
        assert!(TcpStream::connect(address).is_ok());
    }

    #[test]
    fn an_address_that_somebody_listens_on_is_an_error_in_both_families() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let taken = TcpListener::bind(any).unwrap();
            let wrong = bind(taken.local_addr().unwrap()).unwrap_err();
            assert_eq!(wrong.kind(), std::io::ErrorKind::AddrInUse, "{any}");
        }
    }
}

//! How many connections wait in the kernel to be accepted.
//!
//! In: ports, and what Linux says in `/proc/net/tcp`. Out: a sum, or nothing where that cannot be read. Listening
//! sockets come first in these files, so that the reading ends after them however many connections there are.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

/// `TCP_LISTEN`, as the file writes it.
const LISTENS: &str = "0A";

/// Connections that wait at these ports.
#[must_use]
pub fn length(ports: &BTreeSet<u16>) -> Option<u64> {
    let read = |path| std::fs::File::open(path).ok().map(|file| waiting(BufReader::new(file), ports));
    let (v4, v6) = (read("/proc/net/tcp"), read("/proc/net/tcp6"));
    (v4.is_some() || v6.is_some()).then(|| v4.unwrap_or(0) + v6.unwrap_or(0))
}

fn waiting(table: impl BufRead, ports: &BTreeSet<u16>) -> u64 {
    let sockets = table.lines().skip(1).map_while(Result::ok);
    sockets.map_while(|line| listening(&line)).filter(|(port, _)| ports.contains(port)).map(|(_, n)| n).sum()
}

/// Port and queue of a line, if it is about a listening socket.
fn listening(line: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, _remote, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    // For a socket that listens the receive queue is the accept queue.
    let waiting = u64::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
    (state == LISTENS).then_some((port, waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_nobody_accepts_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ports = BTreeSet::from([address.port()]);
        assert_eq!(length(&ports), Some(0));
        let _clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        assert_eq!(length(&ports), Some(3));
        drop(listener.accept().unwrap());
        assert_eq!(length(&ports), Some(2));
    }

    #[test]
    fn a_table_of_another_form_counts_nothing() {
        let ports = BTreeSet::from([80]);
        assert_eq!(waiting(&b"head\n\nnonsense\n 0: :: : 0A\n"[..], &ports), 0);
    }
}

//! Reads from `/proc/net/tcp` how many connections wait in the kernel to be accepted.
//!
//! Listening sockets come first in this file, so the cost does not depend on the number of connections.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

const TCP_LISTEN_STATE: &str = "0A";

/// The waiting connections of every listening port in this network namespace; `None` if the files cannot be read.
#[must_use]
pub fn accept_queue_lengths() -> Option<BTreeMap<u16, u64>> {
    let mut all = None;
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(file) = std::fs::File::open(path) {
            add_listening_sockets(BufReader::new(file), all.get_or_insert_with(BTreeMap::new));
        }
    }
    all
}

fn add_listening_sockets(table: impl BufRead, all: &mut BTreeMap<u16, u64>) {
    let sockets = table.lines().skip(1).map_while(Result::ok);
    for (port, waiting) in sockets.map_while(|line| parse_listening_socket(&line)) {
        *all.entry(port).or_default() += waiting;
    }
}

/// Port and queue length, if the line describes a listening socket.
fn parse_listening_socket(line: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, _remote, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    // The receive queue of a listening socket is its accept queue.
    let waiting = u64::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
    (state == TCP_LISTEN_STATE).then_some((port, waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_not_accepted_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = || accept_queue_lengths().unwrap().get(&address.port()).copied();
        assert_eq!(waiting(), Some(0));
        let _clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        assert_eq!(waiting(), Some(3));
        drop(listener.accept().unwrap());
        assert_eq!(waiting(), Some(2));
        drop(listener);
        assert_eq!(accept_queue_lengths().unwrap().get(&address.port()), None);
    }

    #[test]
    fn a_malformed_table_counts_nothing() {
        let mut all = BTreeMap::new();
        add_listening_sockets(&b"head\n\nnonsense\n 0: :: : 0A\n"[..], &mut all);
        assert!(all.is_empty());
    }
}

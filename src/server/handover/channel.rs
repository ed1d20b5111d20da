//! Lines of JSON between two processes, and sockets beside them.
//!
//! In: one end of a pair of Unix sockets. Out: whole messages within a time, each with the descriptors that
//! came before it. It knows nothing of what is said.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message: there are many restrictions at most.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Writing waits for the other end only when that does not read at all.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One end.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// This end.
    ///
    /// # Errors
    /// When it is no socket.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream, received: Vec::new(), descriptors: Vec::new() })
    }

    /// Sends a socket. It belongs to the next message.
    ///
    /// # Errors
    /// When the other end is gone or does not read.
    pub fn send_socket(&mut self, socket: &TcpListener) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [socket.as_fd()];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Error::other("a socket does not fit beside a message"));
        }
        // An empty line: descriptors need an octet to travel with.
        sendmsg(&self.stream, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the other end is gone or does not read.
    pub fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// The next message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone, `TimedOut`, `InvalidData` for what is not understood.
    pub fn receive<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                return serde_json::from_slice(line).map_err(|e| Error::new(ErrorKind::InvalidData, e));
            }
            self.read_more(deadline)?;
        }
    }

    /// The sockets that came so far.
    pub fn take_sockets(&mut self) -> Vec<TcpListener> {
        self.descriptors.drain(..).map(TcpListener::from).collect()
    }

    fn read_more(&mut self, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let read = match recvmsg(&self.stream, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(bytes.get(..read).unwrap_or_default());
        if self.received.len() > MAX_MESSAGE_BYTES {
            return Err(Error::new(ErrorKind::InvalidData, "the message is too long"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().unwrap();
        (Channel::new(a).unwrap(), Channel::new(b).unwrap())
    }

    #[test]
    fn sockets_come_in_order_and_still_listen() {
        let (mut a, mut b) = pair();
        let sockets: Vec<_> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        for socket in &sockets {
            a.send_socket(socket).unwrap();
        }
        a.send(&"all").unwrap();
        drop(sockets);
        let said: String = b.receive(Duration::from_secs(10)).unwrap();
        let came: Vec<_> = b.take_sockets().iter().map(|s| s.local_addr().unwrap()).collect();
        assert_eq!((said.as_str(), came), ("all", addresses.clone()));
        assert!(std::net::TcpStream::connect(addresses[0]).is_err(), "nobody holds it any more");
    }

    #[test]
    fn an_end_that_is_gone_is_told_from_one_that_is_silent_and_one_that_talks_nonsense() {
        let (mut a, mut b) = pair();
        a.send(&1).unwrap();
        let nothing = |b: &mut Channel| b.receive::<String>(Duration::from_millis(50)).unwrap_err().kind();
        assert_eq!(nothing(&mut b), ErrorKind::InvalidData);
        assert_eq!(nothing(&mut b), ErrorKind::TimedOut);
        drop(a);
        assert_eq!(nothing(&mut b), ErrorKind::UnexpectedEof);
        assert!(b.send(&1).is_err());
    }
}

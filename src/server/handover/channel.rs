//! Exchanges JSON lines and sockets between two processes over a Unix socket. It does not know the messages.

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

/// Far more than any number of restrictions needs.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// A write blocks only if the other end does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One end of the connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// # Errors
    /// When the stream is not a socket.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream, received: Vec::new(), descriptors: Vec::new() })
    }

    /// Sends a socket, which belongs to the next message.
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
        // An empty line: descriptors can only be sent with at least one byte.
        sendmsg(&self.stream, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// # Errors
    /// When the other end is gone or does not read.
    pub fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Receives the next message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone, `TimedOut`, `InvalidData` for an invalid message.
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

    /// Returns the sockets received so far.
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
    fn sockets_arrive_in_order_and_still_listen() {
        let (mut a, mut b) = pair();
        let sockets: Vec<_> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        for socket in &sockets {
            a.send_socket(socket).unwrap();
        }
        a.send(&"all").unwrap();
        drop(sockets);
        let message: String = b.receive(Duration::from_secs(10)).unwrap();
        let received: Vec<_> = b.take_sockets().iter().map(|s| s.local_addr().unwrap()).collect();
        assert_eq!((message.as_str(), received), ("all", addresses.clone()));
        assert!(std::net::TcpStream::connect(addresses[0]).is_err(), "the socket is closed");
    }

    #[test]
    fn a_closed_end_a_timeout_and_an_invalid_message_are_different_errors() {
        let (mut a, mut b) = pair();
        a.send(&1).unwrap();
        let error = |b: &mut Channel| b.receive::<String>(Duration::from_millis(50)).unwrap_err().kind();
        assert_eq!(error(&mut b), ErrorKind::InvalidData);
        assert_eq!(error(&mut b), ErrorKind::TimedOut);
        drop(a);
        assert_eq!(error(&mut b), ErrorKind::UnexpectedEof);
        assert!(b.send(&1).is_err());
    }
}

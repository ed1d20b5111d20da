//! By when a server has to go on: the head of its answer within one deadline, whatever trickles in before, and the body
//! without too long a silence.
//!
//! In: moments at which something is due on a connection. Out: a connection on which it did not come in time is cut,
//! which the proxy sees as closed, and [`has_passed`] explains. Two stores a request: one task looks at all connections
//! ten times a second, so no request has a timer.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::table::{Slot, TABLE};
use crate::util::clock;
use crate::util::descriptor::{Descriptor, Waiting};

/// How often deadlines are looked at: how late one may be kept.
const INTERVAL: Duration = Duration::from_millis(100);
/// A body whose bytes wait for us is looked at again after this, milliseconds.
const BODY_INTERVAL_MS: u64 = 1_000;

/// Nothing is due.
const NONE: u64 = 0;
/// The deadline has passed, and the connection was cut.
const PASSED: u64 = 1;
const BODY: u64 = 1 << 1;
const PORT_SHIFT: u32 = 2;
const TIME_SHIFT: u32 = 18;

fn packed(descriptor: Descriptor, due_ms: u64, body: u64) -> u64 {
    due_ms << TIME_SHIFT | u64::from(descriptor.local_port) << PORT_SHIFT | body
}

/// Something that is due on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    descriptor: Descriptor,
    value: u64,
}

/// The head of the answer is due at this moment.
pub fn head_due(descriptor: Descriptor, due_ms: u64) -> Due {
    let value = packed(descriptor, due_ms, 0);
    set(descriptor, value);
    Due { descriptor, value }
}

/// More of the body is due at this moment, unless the connection was cut meanwhile.
pub fn body_due(descriptor: Descriptor, due_ms: u64) -> Due {
    let value = packed(descriptor, due_ms, BODY);
    if !has_passed(descriptor) {
        set(descriptor, value);
    }
    Due { descriptor, value }
}

/// Nothing is due: the connection is new, and what its number stood for before is over.
pub fn clear(descriptor: Descriptor) {
    set(descriptor, NONE);
}

impl Due {
    /// It is no longer due. The connection may have passed on: what the next request expects stays.
    pub fn clear(self) {
        if let Some(slot) = TABLE.slot(self.descriptor) {
            let _ = slot.deadline.compare_exchange(self.value, NONE, Relaxed, Relaxed);
        }
    }
}

/// Whether the connection was cut because nothing came in time.
#[must_use]
pub fn has_passed(descriptor: Descriptor) -> bool {
    TABLE.slot(descriptor).is_some_and(|slot| slot.deadline.load(Relaxed) == PASSED)
}

fn set(descriptor: Descriptor, value: u64) {
    if let Some(slot) = TABLE.slot(descriptor) {
        slot.deadline.store(value, Relaxed);
    }
}

/// Cuts every connection whose deadline has passed.
fn cut_overdue(now_ms: u64) {
    // Two loops: nearly all slots hold nothing, and looking at one has to cost next to nothing.
    for (first, chunk) in TABLE.chunks() {
        for (at, slot) in chunk.iter().enumerate() {
            let value = slot.deadline.load(Relaxed);
            if value > PASSED && value >> TIME_SHIFT <= now_ms {
                cut(first + at, slot, value, now_ms);
            }
        }
    }
}

fn cut(number: usize, slot: &Slot, value: u64, now_ms: u64) {
    let Ok(number) = i32::try_from(number) else { return };
    let local_port = u16::try_from(value >> PORT_SHIFT & u64::from(u16::MAX)).unwrap_or(0);
    let descriptor = Descriptor { number, local_port };
    let replace = |new| slot.deadline.compare_exchange(value, new, Relaxed, Relaxed).is_ok();
    // Where the client takes its time, bytes wait for us: the server is not silent.
    if value & BODY != 0 && descriptor.waiting() == Waiting::Bytes {
        replace(packed(descriptor, now_ms + BODY_INTERVAL_MS, BODY));
    } else if replace(PASSED) {
        descriptor.cut();
    }
}

/// The task that keeps the deadlines of the process.
#[derive(Debug)]
pub struct Deadlines;

#[async_trait]
impl BackgroundService for Deadlines {
    /// To the end of the process: requests in flight have deadlines, too, while it drains.
    async fn start(&self, _shutdown: ShutdownWatch) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            cut_overdue(clock::now_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn pair() -> (TcpStream, TcpStream, Descriptor) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let descriptor = Descriptor::of(ours.as_raw_fd()).unwrap();
        (ours, listener.accept().unwrap().0, descriptor)
    }

    // One test, as all share the table and the moments.
    #[test]
    fn a_connection_is_cut_when_its_deadline_has_passed_and_not_before() {
        let (mut ours, mut server, descriptor) = pair();
        let _ = head_due(descriptor, 1_000);
        cut_overdue(999);
        server.write_all(b"HTTP/1.1 1").unwrap();
        assert_eq!(ours.read(&mut [0; 64]).unwrap(), 10);
        assert!(!has_passed(descriptor));
        cut_overdue(1_000);
        assert!(has_passed(descriptor));
        assert_eq!(ours.read(&mut [0; 64]).unwrap(), 0);
        clear(descriptor);
        assert!(!has_passed(descriptor));

        // A deadline that was met, and one of a connection that is no more.
        let (mut ours, mut server, descriptor) = pair();
        head_due(descriptor, 1_000).clear();
        cut_overdue(2_000);
        let old = body_due(descriptor, 1_000);
        old.clear();
        cut_overdue(2_000);
        let _ = head_due(Descriptor { local_port: 1, ..descriptor }, 1_000);
        cut_overdue(2_000);
        clear(descriptor);
        server.write_all(b"x").unwrap();
        assert_eq!(ours.read(&mut [0; 8]).unwrap(), 1);

        // A body is not late as long as bytes of it wait for us.
        server.write_all(b"body").unwrap();
        ours.peek(&mut [0; 8]).unwrap();
        let _ = body_due(descriptor, 1_000);
        cut_overdue(2_000);
        assert!(!has_passed(descriptor));
        assert_eq!(ours.read(&mut [0; 8]).unwrap(), 4);
        cut_overdue(2_999);
        assert!(!has_passed(descriptor));
        cut_overdue(3_000);
        assert!(has_passed(descriptor));
        let _ = body_due(descriptor, 9_000);
        assert!(has_passed(descriptor), "it was cut");
        let ended = body_due(descriptor, 9_000);
        let _ = head_due(descriptor, 9_500);
        ended.clear();
        cut_overdue(9_500);
        assert!(has_passed(descriptor), "the next request keeps its deadline");
    }
}

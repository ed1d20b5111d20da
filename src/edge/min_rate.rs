//! How fast a client takes what is written to it: at the minimum rate, or its connection ends.

use std::io::{Error, ErrorKind, Result};
use std::task::{Context, Poll};

use pingora::protocols::IO;
use tokio::time::Instant;

use super::client_stream::ClientStream;
use super::tcp::tcp_ack_progress;

impl<S: IO + 'static> ClientStream<S> {
    /// A write made progress, or waits for the client.
    pub(super) fn enforce_min_rate<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<Result<T>> {
        let moved = match (&mut self.written, &result) {
            (Some((written, seen)), _) => {
                let before = std::mem::replace(seen, written.bytes());
                Some(seen.saturating_sub(before)).filter(|bytes| *bytes > 0)
            }
            (None, Poll::Ready(Ok(done))) => Some(bytes(done) as u64),
            (None, _) => None,
        };
        if let Some(bytes) = moved {
            self.write_budget
                .add_progress(usize::try_from(bytes).unwrap_or(usize::MAX), self.client_limits.min_rate);
            self.acks.stop();
        }
        match &result {
            Poll::Pending if self.client_limits.min_rate > 0 && self.is_too_slow(cx) => {
                self.context.count_too_slow();
                self.stream = None;
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read")));
            }
            _ => {}
        }
        result
    }

    /// A write has waited for too long. The system takes no more as long as much is on its way, which then counts as
    /// it arrives.
    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(stream) = &self.stream else { return false };
        loop {
            let (deadline, look) = (self.write_budget.start_waiting(), self.acks.next_check());
            if self.timer.poll(cx, deadline.min(look)).is_pending() {
                return false;
            }
            match self.acks.check(|| tcp_ack_progress(stream.id())) {
                Some((bytes, unacknowledged)) => {
                    self.write_budget.add_acknowledged(bytes, unacknowledged, self.client_limits.min_rate);
                }
                None if deadline <= Instant::now() => return true,
                None => {}
            }
        }
    }
}

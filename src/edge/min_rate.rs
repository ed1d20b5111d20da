//! Closes a connection whose client reads responses more slowly than the minimum rate.
//!
//! Separate from [`super::client_stream`], so that its reads and writes fit into one file.

use std::io::{Error, ErrorKind, Result};
use std::task::{Context, Poll};

use pingora::protocols::IO;
use tokio::time::Instant;

use super::client_stream::ClientStream;
use super::tcp::tcp_ack_progress;

impl<S: IO + 'static> ClientStream<S> {
    /// Accounts for the result of a write; `bytes` takes the number of bytes from it.
    pub(super) fn enforce_min_rate<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<Result<T>> {
        let moved = match (&mut self.written, &result) {
            (Some((written, counted)), _) => {
                let before = std::mem::replace(counted, written.bytes());
                Some(counted.saturating_sub(before)).filter(|bytes| *bytes > 0)
            }
            (None, Poll::Ready(Ok(done))) => Some(bytes(done) as u64),
            (None, _) => None,
        };
        if let Some(bytes) = moved {
            self.write_budget
                .add_progress(usize::try_from(bytes).unwrap_or(usize::MAX), self.client_limits.min_rate);
            self.acks.stop();
        }
        if result.is_pending() && self.client_limits.min_rate > 0 && self.is_too_slow(cx) {
            self.context.count_too_slow();
            self.stream = None;
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client reads too slowly")));
        }
        result
    }

    /// Whether a write has waited too long. The kernel accepts nothing while its buffer is full, so bytes that the client
    /// acknowledges count too.
    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(stream) = &self.stream else { return false };
        loop {
            let (deadline, next_check) = (self.write_budget.start_waiting(), self.acks.next_check());
            if self.timer.poll(cx, deadline.min(next_check)).is_pending() {
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

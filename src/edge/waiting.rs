//! Which HTTP/2 answers have bytes that wait for their client.
//!
//! In: the chunks of an answer's body, as the proxy hands them to Pingora. Out: how many of a connection's answers have
//! one that has not left. A chunk tells by itself when it has: the last part of it is dropped then. The edge needs to
//! know because a window that is closed says nothing as long as the server is silent. Outside HTTP/2 this does nothing:
//! there a write that is not done says the same.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

use super::interim::Interims;

tokio::task_local! {
    static REQUEST: Request;
}

/// Whose answer a task makes.
struct Request {
    connection: Arc<Waiting>,
    /// `None` where the edge could not tell it.
    stream: Option<u32>,
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub struct Waiting {
    answers: AtomicUsize,
    pub(super) interims: Interims,
}

impl Waiting {
    /// How many of them have bytes that wait.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers.load(Relaxed)
    }

    /// A chunk of an answer of its own.
    #[cfg(test)]
    pub(super) fn chunk(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let connection = Arc::clone(self);
        track(&mut Some(Arc::new(WaitingAnswer { chunks: AtomicUsize::new(0), connection })), bytes)
    }

    /// Runs a request of this connection.
    pub async fn request<F: Future>(self: &Arc<Self>, stream: Option<u32>, request: F) -> F::Output {
        REQUEST.scope(Request { connection: Arc::clone(self), stream }, request).await
    }
}

/// One answer.
#[derive(Debug)]
pub struct WaitingAnswer {
    chunks: AtomicUsize,
    connection: Arc<Waiting>,
}

struct Chunk {
    bytes: Bytes,
    answer: Arc<WaitingAnswer>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.answer.chunks.fetch_sub(1, Relaxed) == 1 {
            self.answer.connection.answers.fetch_sub(1, Relaxed);
        }
    }
}

/// Calls `send` with the stream of the request that this task serves, and the interim answers of its connection.
/// Outside HTTP/2 it does nothing.
pub(super) fn with_stream(send: impl FnOnce(&Interims, u32)) {
    let _ = REQUEST.try_with(|request| {
        if let Some(stream) = request.stream {
            send(&request.connection.interims, stream);
        }
    });
}

/// A chunk of an answer: the same bytes, which are counted as waiting until they have left. `answer` is that of the
/// chunks before it.
#[must_use]
pub fn track(answer: &mut Option<Arc<WaitingAnswer>>, bytes: Bytes) -> Bytes {
    if answer.is_none() {
        let connection = REQUEST.try_with(|request| Arc::clone(&request.connection)).ok();
        *answer =
            connection.map(|connection| Arc::new(WaitingAnswer { chunks: AtomicUsize::new(0), connection }));
    }
    let Some(answer) = answer.as_ref().filter(|_| !bytes.is_empty()) else { return bytes };
    if answer.chunks.fetch_add(1, Relaxed) == 0 {
        answer.connection.answers.fetch_add(1, Relaxed);
    }
    Bytes::from_owner(Chunk { bytes, answer: Arc::clone(answer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_waits_until_the_last_part_of_its_last_chunk_has_left() {
        let waiting = Arc::new(Waiting::default());
        let request = waiting.request(None, async {
            let mut answer = None;
            assert!(track(&mut answer, Bytes::new()).is_empty());
            assert_eq!(waiting.answers(), 0);
            let mut first = track(&mut answer, Bytes::from_static(b"first"));
            let second = track(&mut answer, Bytes::from_static(b"second"));
            assert_eq!(waiting.answers(), 1);
            let part = first.split_to(2);
            drop((first, second));
            assert_eq!((waiting.answers(), &part[..]), (1, &b"fi"[..]));
            let other = track(&mut None, Bytes::from_static(b"other"));
            assert_eq!(waiting.answers(), 2);
            drop(part);
            assert_eq!(waiting.answers(), 1);
            drop(other);
        });
        request.await;
        assert_eq!(waiting.answers(), 0);
    }

    #[test]
    fn outside_http_2_nothing_is_counted() {
        let (bytes, mut answer) = (Bytes::from_static(b"plain"), None);
        let tracked = track(&mut answer, bytes.clone());
        assert!(answer.is_none() && tracked.as_ptr() == bytes.as_ptr());
    }
}

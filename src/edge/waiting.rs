//! Which HTTP/2 answers have bytes that wait for their client, and which requests wait because it takes none.
//!
//! In: the chunks of an answer's body, as the proxy hands them to Pingora. Out: how many of a connection's answers have
//! one that has not left. A chunk tells by itself when it has: the last part of it is dropped then. The edge needs to
//! know because a window that is closed says nothing as long as the server is silent. Outside HTTP/2 this does nothing:
//! there a write that is not done says the same.
//!
//! A client that gives new streams next to no window has few of its requests sent to servers at a time: what they would
//! answer could only be kept here.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use tokio::sync::Notify;

use super::interim::{self, Interims};
use pingora_http::ResponseHeader;

/// Requests of a connection that are in progress while its streams begin with next to no window.
const MAX_WITHOUT_WINDOW: usize = 1;
/// Next to no window: less than one frame of DATA.
const MIN_WINDOW: i64 = 16_384;

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
    /// Requests in progress.
    begun: AtomicUsize,
    /// An answer waits from its request on: nobody tracks its chunks, and no server can be silent.
    is_whole: bool,
    /// Streams begin with next to no window.
    is_closed: AtomicBool,
    /// How often those that wait were refused.
    refusals: AtomicUsize,
    changed: Notify,
}

/// A request in progress.
struct Begun<'w>(&'w Waiting);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.begun.fetch_sub(1, SeqCst);
        if self.0.is_closed.load(SeqCst) {
            self.0.changed.notify_waiters();
        }
    }
}

impl Waiting {
    /// How many of them have bytes that wait.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers.load(Relaxed)
    }

    /// Of a service that answers by itself.
    #[must_use]
    pub fn of_whole_answers() -> Self {
        Self { is_whole: true, ..Self::default() }
    }

    /// A chunk of an answer of its own.
    pub(super) fn chunk(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let connection = Arc::clone(self);
        track(&mut Some(Arc::new(WaitingAnswer { chunks: AtomicUsize::new(0), connection })), bytes)
    }

    /// Runs a request of this connection, when its client has room for an answer. `None` when it has none for too
    /// long.
    pub async fn request<F: Future>(self: &Arc<Self>, stream: Option<u32>, request: F) -> Option<F::Output> {
        let _begun = self.begin().await?;
        let _answer = self.is_whole.then(|| self.chunk(Bytes::from_static(b"whole")));
        Some(REQUEST.scope(Request { connection: Arc::clone(self), stream }, request).await)
    }

    async fn begin(&self) -> Option<Begun<'_>> {
        if let Some(begun) = self.try_begin() {
            return Some(begun);
        }
        let refusals = self.refusals.load(SeqCst);
        loop {
            // Made before the questions, so that no change is missed in between.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.refusals.load(SeqCst) != refusals {
                return None;
            }
            if let Some(begun) = self.try_begin() {
                return Some(begun);
            }
            changed.await;
        }
    }

    fn try_begin(&self) -> Option<Begun<'_>> {
        let may = |begun| (begun < MAX_WITHOUT_WINDOW || !self.is_closed.load(SeqCst)).then_some(begun + 1);
        self.begun.fetch_update(SeqCst, SeqCst, may).ok().map(|_| Begun(self))
    }

    /// Streams begin with this window from now on.
    pub fn initial_window(&self, window: i64) {
        let is_closed = window < MIN_WINDOW;
        if self.is_closed.swap(is_closed, SeqCst) && !is_closed {
            self.changed.notify_waiters();
        }
    }

    /// The client did not take what it was given: what waits behind that is refused.
    pub fn refuse(&self) {
        self.refusals.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
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

/// Sends an interim answer to the request that this task serves, if its client speaks HTTP/2.
pub fn send_interim(head: &ResponseHeader) {
    let _ = REQUEST.try_with(|request| {
        if let Some(stream) = request.stream
            && let Some(frame) = interim::frame_of(stream, head)
        {
            request.connection.interims.push(stream, frame);
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
        assert!(request.await.is_some());
        assert_eq!(waiting.answers(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_window_few_requests_begin_and_the_others_wait_for_one_or_are_refused() {
        let waiting = Arc::new(Waiting::default());
        let ask = |n| {
            let waiting = Arc::clone(&waiting);
            tokio::spawn(async move { waiting.request(None, std::future::pending::<()>()).await.map(|()| n) })
        };
        let begun = async |expected| {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(waiting.begun.load(SeqCst), expected);
        };
        waiting.initial_window(65_535);
        let open: Vec<_> = (0..5).map(ask).collect();
        begun(5).await;
        waiting.initial_window(0);
        let mut closed: Vec<_> = (0..3).map(ask).collect();
        begun(5).await;
        open.iter().for_each(tokio::task::JoinHandle::abort);
        begun(MAX_WITHOUT_WINDOW).await;
        waiting.refuse();
        let refused = closed.pop().unwrap().await.unwrap();
        assert_eq!(refused, None);
        let later = ask(4);
        begun(MAX_WITHOUT_WINDOW).await;
        waiting.initial_window(MIN_WINDOW);
        begun(MAX_WITHOUT_WINDOW + 1).await;
        later.abort();
    }

    #[tokio::test]
    async fn an_answer_that_nobody_tracks_waits_from_its_request_on() {
        let waiting = Arc::new(Waiting::of_whole_answers());
        let request = waiting.request(None, async { waiting.answers() });
        assert_eq!((request.await, waiting.answers()), (Some(1), 0));
    }

    #[test]
    fn outside_http_2_nothing_is_counted() {
        let (bytes, mut answer) = (Bytes::from_static(b"plain"), None);
        let tracked = track(&mut answer, bytes.clone());
        assert!(answer.is_none() && tracked.as_ptr() == bytes.as_ptr());
    }
}

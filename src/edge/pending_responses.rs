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

use super::interim::{self, InterimResponses};
use pingora_http::ResponseHeader;

/// Requests of a connection that are in progress while its streams begin with next to no window.
const MAX_REQUESTS_WITHOUT_WINDOW: usize = 1;
/// Next to no window: less than one frame of DATA.
const MIN_USABLE_WINDOW: i64 = 16_384;

tokio::task_local! {
    static CURRENT_REQUEST: RequestContext;
}

/// Whose answer a task makes.
struct RequestContext {
    connection: Arc<PendingResponses>,
    /// `None` where the edge could not tell it.
    stream: Option<u32>,
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub struct PendingResponses {
    answers: AtomicUsize,
    pub(super) interims: InterimResponses,
    /// Requests in progress.
    in_progress: AtomicUsize,
    /// An answer waits from its request on: nobody tracks its chunks, and no server can be silent.
    is_local: bool,
    /// Streams begin with next to no window.
    has_no_window: AtomicBool,
    /// How often those that wait were refused.
    refusals: AtomicUsize,
    changed: Notify,
}

/// A request in progress.
struct RequestPermit<'w>(&'w PendingResponses);

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, SeqCst);
        if self.0.has_no_window.load(SeqCst) {
            self.0.changed.notify_waiters();
        }
    }
}

impl PendingResponses {
    /// How many of them have bytes that wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.answers.load(Relaxed)
    }

    /// Of a service that answers by itself.
    #[must_use]
    pub fn for_local_responses() -> Self {
        Self { is_local: true, ..Self::default() }
    }

    /// A chunk of an answer of its own.
    pub(super) fn chunk(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let connection = Arc::clone(self);
        track_chunk(&mut Some(Arc::new(PendingResponse { chunks: AtomicUsize::new(0), connection })), bytes)
    }

    /// Runs a request of this connection, when its client has room for an answer. `None` when it has none for too
    /// long.
    pub async fn run_request<F: Future>(
        self: &Arc<Self>,
        stream: Option<u32>,
        request: F,
    ) -> Option<F::Output> {
        let _begun = self.acquire().await?;
        let _answer = self.is_local.then(|| self.chunk(Bytes::from_static(b"whole")));
        Some(CURRENT_REQUEST.scope(RequestContext { connection: Arc::clone(self), stream }, request).await)
    }

    async fn acquire(&self) -> Option<RequestPermit<'_>> {
        if let Some(in_progress) = self.try_acquire() {
            return Some(in_progress);
        }
        let refusals = self.refusals.load(SeqCst);
        loop {
            // Made before the questions, so that no change is missed in between.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.refusals.load(SeqCst) != refusals {
                return None;
            }
            if let Some(in_progress) = self.try_acquire() {
                return Some(in_progress);
            }
            changed.await;
        }
    }

    fn try_acquire(&self) -> Option<RequestPermit<'_>> {
        let may = |in_progress| {
            (in_progress < MAX_REQUESTS_WITHOUT_WINDOW || !self.has_no_window.load(SeqCst))
                .then_some(in_progress + 1)
        };
        self.in_progress.fetch_update(SeqCst, SeqCst, may).ok().map(|_| RequestPermit(self))
    }

    /// Streams begin with this window from now on.
    pub fn set_initial_window(&self, window: i64) {
        let has_no_window = window < MIN_USABLE_WINDOW;
        if self.has_no_window.swap(has_no_window, SeqCst) && !has_no_window {
            self.changed.notify_waiters();
        }
    }

    /// The client did not take what it was given: what waits behind that is refused.
    pub fn refuse_queued(&self) {
        self.refusals.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
    }
}

/// One answer.
#[derive(Debug)]
pub struct PendingResponse {
    chunks: AtomicUsize,
    connection: Arc<PendingResponses>,
}

struct Chunk {
    bytes: Bytes,
    answer: Arc<PendingResponse>,
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
    let _ = CURRENT_REQUEST.try_with(|request| {
        if let Some(stream) = request.stream
            && let Some(frame) = interim::encode_headers_frame(stream, head)
        {
            request.connection.interims.push(stream, frame);
        }
    });
}

/// A chunk of an answer: the same bytes, which are counted as waiting until they have left. `answer` is that of the
/// chunks before it.
#[must_use]
pub fn track_chunk(answer: &mut Option<Arc<PendingResponse>>, bytes: Bytes) -> Bytes {
    if answer.is_none() {
        let connection = CURRENT_REQUEST.try_with(|request| Arc::clone(&request.connection)).ok();
        *answer = connection
            .map(|connection| Arc::new(PendingResponse { chunks: AtomicUsize::new(0), connection }));
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
        let waiting = Arc::new(PendingResponses::default());
        let request = waiting.run_request(None, async {
            let mut answer = None;
            assert!(track_chunk(&mut answer, Bytes::new()).is_empty());
            assert_eq!(waiting.count(), 0);
            let mut first = track_chunk(&mut answer, Bytes::from_static(b"first"));
            let second = track_chunk(&mut answer, Bytes::from_static(b"second"));
            assert_eq!(waiting.count(), 1);
            let part = first.split_to(2);
            drop((first, second));
            assert_eq!((waiting.count(), &part[..]), (1, &b"fi"[..]));
            let other = track_chunk(&mut None, Bytes::from_static(b"other"));
            assert_eq!(waiting.count(), 2);
            drop(part);
            assert_eq!(waiting.count(), 1);
            drop(other);
        });
        assert!(request.await.is_some());
        assert_eq!(waiting.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_window_few_requests_begin_and_the_others_wait_for_one_or_are_refused() {
        let waiting = Arc::new(PendingResponses::default());
        let ask = |n| {
            let waiting = Arc::clone(&waiting);
            tokio::spawn(
                async move { waiting.run_request(None, std::future::pending::<()>()).await.map(|()| n) },
            )
        };
        let in_progress = async |expected| {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(waiting.in_progress.load(SeqCst), expected);
        };
        waiting.set_initial_window(65_535);
        let open: Vec<_> = (0..5).map(ask).collect();
        in_progress(5).await;
        waiting.set_initial_window(0);
        let mut closed: Vec<_> = (0..3).map(ask).collect();
        in_progress(5).await;
        open.iter().for_each(tokio::task::JoinHandle::abort);
        in_progress(MAX_REQUESTS_WITHOUT_WINDOW).await;
        waiting.refuse_queued();
        let refused = closed.pop().unwrap().await.unwrap();
        assert_eq!(refused, None);
        let later = ask(4);
        in_progress(MAX_REQUESTS_WITHOUT_WINDOW).await;
        waiting.set_initial_window(MIN_USABLE_WINDOW);
        in_progress(MAX_REQUESTS_WITHOUT_WINDOW + 1).await;
        later.abort();
    }

    #[tokio::test]
    async fn an_answer_that_nobody_tracks_waits_from_its_request_on() {
        let waiting = Arc::new(PendingResponses::for_local_responses());
        let request = waiting.run_request(None, async { waiting.count() });
        assert_eq!((request.await, waiting.count()), (Some(1), 0));
    }

    #[test]
    fn outside_http_2_nothing_is_counted() {
        let (bytes, mut answer) = (Bytes::from_static(b"plain"), None);
        let tracked = track_chunk(&mut answer, bytes.clone());
        assert!(answer.is_none() && tracked.as_ptr() == bytes.as_ptr());
    }
}

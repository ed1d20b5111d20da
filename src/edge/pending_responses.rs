//! Counts the HTTP/2 responses of a connection that have bytes the client has not read.
//!
//! The proxy wraps the chunks of a body, and a chunk counts until its last part is dropped. The edge needs the count because
//! a closed window alone does not show whether the client or the server is slow. In HTTP/1.1 a pending write shows it.
//!
//! While a client opens streams with almost no window, its requests run one at a time: more responses would only fill
//! memory here.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};

use bytes::Bytes;
use pingora_http::ResponseHeader;
use tokio::sync::Notify;

use super::interim::{self, InterimResponses};

/// Requests in flight while the initial window is below [`MIN_USABLE_WINDOW`].
const MAX_REQUESTS_WITHOUT_WINDOW: usize = 1;
/// The length of one DATA frame.
const MIN_USABLE_WINDOW: i64 = 16_384;

tokio::task_local! {
    static CURRENT_REQUEST: RequestContext;
}

/// The request that a task serves.
struct RequestContext {
    connection: Arc<PendingResponses>,
    /// `None` if the request's head had no room for the number.
    stream: Option<u32>,
}

/// The responses of one connection.
#[derive(Debug, Default)]
pub struct PendingResponses {
    /// Responses with unread bytes.
    count: AtomicUsize,
    pub(super) interims: InterimResponses,
    in_flight: AtomicUsize,
    /// The service generates its responses without a server: a response counts as long as its request runs.
    is_local: bool,
    /// The initial window is below [`MIN_USABLE_WINDOW`].
    has_no_window: AtomicBool,
    /// How often queued requests were refused.
    refusals: AtomicUsize,
    changed: Notify,
}

struct RequestPermit<'w>(&'w PendingResponses);

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
        if self.0.has_no_window.load(SeqCst) {
            self.0.changed.notify_waiters();
        }
    }
}

impl PendingResponses {
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// For a service that generates its responses without a server.
    #[must_use]
    pub fn for_local_responses() -> Self {
        Self { is_local: true, ..Self::default() }
    }

    /// Tracks the only chunk of a response.
    pub(super) fn track_single_chunk(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let connection = Arc::clone(self);
        track_chunk(&mut Some(Arc::new(PendingResponse { chunks: AtomicUsize::new(0), connection })), bytes)
    }

    /// Runs a request, and first waits while the streams of its client have almost no window. `None` if it is refused
    /// meanwhile.
    pub async fn run_request<F: Future>(
        self: &Arc<Self>,
        stream: Option<u32>,
        request: F,
    ) -> Option<F::Output> {
        let _permit = self.acquire().await?;
        let _response = self.is_local.then(|| self.track_single_chunk(Bytes::from_static(b"whole")));
        Some(CURRENT_REQUEST.scope(RequestContext { connection: Arc::clone(self), stream }, request).await)
    }

    async fn acquire(&self) -> Option<RequestPermit<'_>> {
        if let Some(permit) = self.try_acquire() {
            return Some(permit);
        }
        let refusals = self.refusals.load(SeqCst);
        loop {
            // Enabled before the checks, so that no change between them is missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.refusals.load(SeqCst) != refusals {
                return None;
            }
            if let Some(permit) = self.try_acquire() {
                return Some(permit);
            }
            changed.await;
        }
    }

    fn try_acquire(&self) -> Option<RequestPermit<'_>> {
        let increment = |in_flight| {
            (in_flight < MAX_REQUESTS_WITHOUT_WINDOW || !self.has_no_window.load(SeqCst))
                .then_some(in_flight + 1)
        };
        self.in_flight.fetch_update(SeqCst, SeqCst, increment).ok().map(|_| RequestPermit(self))
    }

    pub fn set_initial_window(&self, window: i64) {
        let has_no_window = window < MIN_USABLE_WINDOW;
        if self.has_no_window.swap(has_no_window, SeqCst) && !has_no_window {
            self.changed.notify_waiters();
        }
    }

    /// Refuses the requests that wait for a window.
    pub fn refuse_queued(&self) {
        self.refusals.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
    }
}

#[derive(Debug)]
pub struct PendingResponse {
    chunks: AtomicUsize,
    connection: Arc<PendingResponses>,
}

struct Chunk {
    bytes: Bytes,
    response: Arc<PendingResponse>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.response.chunks.fetch_sub(1, Relaxed) == 1 {
            self.response.connection.count.fetch_sub(1, Relaxed);
        }
    }
}

/// Sends an interim response to the client of the current task's request, if it uses HTTP/2.
pub fn send_interim(head: &ResponseHeader) {
    let _ = CURRENT_REQUEST.try_with(|request| {
        if let Some(stream) = request.stream
            && let Some(frame) = interim::encode_headers_frame(stream, head)
        {
            request.connection.interims.push(stream, frame);
        }
    });
}

/// Returns the same bytes, which count as pending until they are dropped. All chunks of a response share `response`; the
/// first call sets it.
#[must_use]
pub fn track_chunk(response: &mut Option<Arc<PendingResponse>>, bytes: Bytes) -> Bytes {
    if response.is_none() {
        let connection = CURRENT_REQUEST.try_with(|request| Arc::clone(&request.connection)).ok();
        *response = connection
            .map(|connection| Arc::new(PendingResponse { chunks: AtomicUsize::new(0), connection }));
    }
    let Some(response) = response.as_ref().filter(|_| !bytes.is_empty()) else { return bytes };
    if response.chunks.fetch_add(1, Relaxed) == 0 {
        response.connection.count.fetch_add(1, Relaxed);
    }
    Bytes::from_owner(Chunk { bytes, response: Arc::clone(response) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_response_is_pending_until_the_last_part_of_its_last_chunk_is_dropped() {
        let pending = Arc::new(PendingResponses::default());
        let request = pending.run_request(None, async {
            let mut response = None;
            assert!(track_chunk(&mut response, Bytes::new()).is_empty());
            assert_eq!(pending.count(), 0);
            let mut first = track_chunk(&mut response, Bytes::from_static(b"first"));
            let second = track_chunk(&mut response, Bytes::from_static(b"second"));
            assert_eq!(pending.count(), 1);
            let part = first.split_to(2);
            drop((first, second));
            assert_eq!((pending.count(), &part[..]), (1, &b"fi"[..]));
            let other = track_chunk(&mut None, Bytes::from_static(b"other"));
            assert_eq!(pending.count(), 2);
            drop(part);
            assert_eq!(pending.count(), 1);
            drop(other);
        });
        assert!(request.await.is_some());
        assert_eq!(pending.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_window_one_request_runs_and_the_others_wait_or_are_refused() {
        let pending = Arc::new(PendingResponses::default());
        let run = |n| {
            let pending = Arc::clone(&pending);
            tokio::spawn(
                async move { pending.run_request(None, std::future::pending::<()>()).await.map(|()| n) },
            )
        };
        let in_flight = async |expected| {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(pending.in_flight.load(SeqCst), expected);
        };
        pending.set_initial_window(65_535);
        let open: Vec<_> = (0..5).map(run).collect();
        in_flight(5).await;
        pending.set_initial_window(0);
        let mut closed: Vec<_> = (0..3).map(run).collect();
        in_flight(5).await;
        open.iter().for_each(tokio::task::JoinHandle::abort);
        in_flight(MAX_REQUESTS_WITHOUT_WINDOW).await;
        pending.refuse_queued();
        let refused = closed.pop().unwrap().await.unwrap();
        assert_eq!(refused, None);
        let later = run(4);
        in_flight(MAX_REQUESTS_WITHOUT_WINDOW).await;
        pending.set_initial_window(MIN_USABLE_WINDOW);
        in_flight(MAX_REQUESTS_WITHOUT_WINDOW + 1).await;
        later.abort();
    }

    #[tokio::test]
    async fn a_local_response_is_pending_while_its_request_runs() {
        let pending = Arc::new(PendingResponses::for_local_responses());
        let request = pending.run_request(None, async { pending.count() });
        assert_eq!((request.await, pending.count()), (Some(1), 0));
    }

    #[test]
    fn outside_http_2_nothing_is_counted() {
        let (bytes, mut response) = (Bytes::from_static(b"plain"), None);
        let tracked = track_chunk(&mut response, bytes.clone());
        assert!(response.is_none() && tracked.as_ptr() == bytes.as_ptr());
    }
}

//! The service behind every listener: accepts connections and serves each until it closes.
//!
//! It replaces Pingora's service, which has no connection limits and no place for the gate. Each connection has a task of
//! its own, TLS handshake included.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::{ALPN, IO, Ssl};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora_runtime::current_handle;
use tokio::net::{TcpListener, TcpStream};

use super::acme_hello;
use super::admission::{Admission, Arrival};
use super::client_stream::ClientStream;
use super::connection_limit::{ConnectionLimit, ConnectionPermit};
use super::http2::INITIAL_STREAM_WINDOW;
use super::interim;
use super::overload::OverloadResponder;
use super::pending_responses::PendingResponses;
use super::plain_session::PlainSession;
use super::sockets::{ListenSocket, listen};
use super::tcp::{ClientOrigin, ClientTcp, WriteCounter};
use super::tls_endpoint::{TlsEndpoint, TlsHandshake};
use super::{ClientLimits, ListenerContext};
use crate::config::settings::Limits;
use crate::state::Balancer;

/// Backoff after EMFILE, ENFILE, ENOBUFS or ENOMEM.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
const ACCEPT_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// HTTP/2: bytes of one response that the `h2` library buffers. Pingora writes as much at once.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// HTTP/2: the receive window of a connection, for all request bodies together.
const INITIAL_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// HTTP/2: streams that the client reset and the library still remembers or has not accepted yet.
const MAX_RESET_STREAMS: usize = 64;
/// HTTP/2: stream errors of the client before the connection ends.
const MAX_LOCAL_RESET_STREAMS: usize = 256;

pub struct BoundListener {
    pub socket: ListenSocket,
    pub tls: Option<Arc<TlsEndpoint>>,
}

/// A connection within the limits.
struct Accepted {
    socket: TcpStream,
    peer: SocketAddr,
    /// The address of the listener.
    address: SocketAddr,
    permit: ConnectionPermit,
    has_proxy_header: bool,
}

pub struct ListenerService<A> {
    name: &'static str,
    listeners: Vec<BoundListener>,
    threads: Option<usize>,
    unopened: Option<Arc<AtomicUsize>>,
    shared: Arc<ListenerShared<A>>,
}

struct ListenerShared<A> {
    app: Arc<A>,
    balancer: Arc<Balancer>,
    context: Arc<ListenerContext>,
    admission: Admission,
    limit: ConnectionLimit,
    overload: OverloadResponder,
}

impl<A> ListenerService<A> {
    pub fn new(
        name: &'static str,
        app: A,
        listeners: Vec<BoundListener>,
        balancer: Arc<Balancer>,
        context: ListenerContext,
        limit: ConnectionLimit,
    ) -> Self {
        let statistics = Arc::clone(&context.statistics);
        let shared = ListenerShared {
            app: Arc::new(app),
            admission: Admission::new(Arc::clone(&balancer), statistics, limit),
            balancer,
            context: Arc::new(context),
            overload: OverloadResponder::new(limit),
            limit,
        };
        Self { name, listeners, threads: None, unopened: None, shared: Arc::new(shared) }
    }

    /// Gives the service a runtime with this many threads.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Adds its listeners to `unopened`; each is subtracted when it starts to accept.
    #[must_use]
    pub fn count_unopened(self, unopened: &Arc<AtomicUsize>) -> Self {
        unopened.fetch_add(self.listeners.len(), SeqCst);
        Self { unopened: Some(Arc::clone(unopened)), ..self }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> Service for ListenerService<A> {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, tasks: usize) {
        let mut accept_loops = Vec::new();
        for bound in self.listeners.drain(..) {
            let address = bound.socket.address;
            let opened =
                listen(&bound.socket.listener).and_then(|()| TcpListener::from_std(bound.socket.listener));
            let listener = match opened {
                Ok(listener) => Arc::new(listener),
                Err(error) => {
                    // A process that serves only some of its listeners would look healthy.
                    log::error!(target: "icm::lifecycle", "cannot listen on {address} ({}): {error}", self.name);
                    std::process::exit(1);
                }
            };
            for _ in 0..tasks.max(1) {
                let (shared, listener) = (Arc::clone(&self.shared), Arc::clone(&listener));
                let (tls, shutdown) = (bound.tls.clone(), shutdown.clone());
                accept_loops.push(current_handle().spawn(shared.accept(listener, address, tls, shutdown)));
            }
            if let Some(unopened) = &self.unopened {
                unopened.fetch_sub(1, SeqCst);
            }
        }
        for accept_loop in accept_loops {
            let _ = accept_loop.await;
        }
        // Closes idle connections, whose next request may already be in transit. After a handover the new process
        // serves on, so each client gets `Connection: close` with its next response instead and loses no request.
        if !self.shared.balancer.upgrade.has_handed_over() {
            self.shared.app.http_cleanup().await;
        }
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> ListenerShared<A> {
    async fn accept(
        self: Arc<Self>,
        listener: Arc<TcpListener>,
        address: SocketAddr,
        tls: Option<Arc<TlsEndpoint>>,
        shutdown: ShutdownWatch,
    ) {
        let mut stop = shutdown.clone();
        let stop = async move { stop.wait_for(|stop| *stop).await.is_ok() };
        tokio::pin!(stop);
        let mut logged: Option<tokio::time::Instant> = None;
        loop {
            let accepted = tokio::select! {
                _ = &mut stop => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let tls = tls.as_ref().map(|endpoint| endpoint.current());
                    let Arrival { has_proxy_header, permit } = self.admission.arrive(peer, address);
                    let Some(permit) = permit else {
                        self.overload.reject(socket, ClientOrigin::direct(peer), tls, has_proxy_header);
                        continue;
                    };
                    let accepted = Accepted { socket, peer, address, permit, has_proxy_header };
                    let (shared, shutdown) = (Arc::clone(&self), shutdown.clone());
                    current_handle().spawn(async move {
                        let _open = shared.context.sessions.count_connection(tls.is_some());
                        shared.serve(accepted, tls, &shutdown).await;
                    });
                }
                Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM)) => {
                    if logged.is_none_or(|at| at.elapsed() >= ACCEPT_ERROR_LOG_INTERVAL) {
                        logged = Some(tokio::time::Instant::now());
                        log::error!(
                            target: "icm::clients",
                            "{address}: no connection can be accepted: {error}; raise LimitNOFILE or lower limits.connections"
                        );
                    }
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
                // The client closed the connection before it was accepted.
                Err(error) => log::debug!(target: "icm::clients", "{address}: {error}"),
            }
        }
    }

    fn limits(&self) -> Limits {
        self.balancer.snapshot().settings.limits.clone()
    }

    /// The limits of the next request, and whether it has a session of our own if it is plain.
    fn for_next_request(&self) -> (ClientLimits, bool) {
        let snapshot = self.balancer.snapshot();
        let settings = &snapshot.settings;
        // Only the proxy has configured limits, and only it knows this session.
        let has_plain_sessions = settings.fast_path && matches!(self.limit, ConnectionLimit::Configured);
        (ClientLimits::from(&settings.limits), has_plain_sessions)
    }

    async fn serve(&self, accepted: Accepted, tls: Option<Arc<TlsHandshake>>, shutdown: &ShutdownWatch) {
        let Accepted { mut socket, peer, address, mut permit, has_proxy_header } = accepted;
        let mut origin = ClientOrigin::direct(peer);
        if has_proxy_header {
            // Boxed, so that only connections with a header need the memory.
            let header = Box::pin(self.admission.read_proxy_header(&mut socket, peer)).await;
            let Some(client) = header else { return };
            if let Some(client) = client {
                origin = ClientOrigin { client, proxy: Some(peer) };
                if !self.admission.count_client(&mut permit, client, address) {
                    drop(permit);
                    return self.overload.reject(socket, origin, tls, false);
                }
            }
        }
        if tls.is_some()
            && matches!(self.limit, ConnectionLimit::Configured)
            && let Some(leader) = self.balancer.acme.leader()
        {
            let timeout = self.limits().handshake_timeout;
            // Boxed, so that a connection does not keep the buffer.
            let hello = Box::pin(acme_hello::prepare(&self.balancer.acme, &leader, &socket, timeout));
            if !hello.await {
                return self.handshake_failed(origin.client, "timeout");
            }
        }
        let tcp = ClientTcp::new(socket, origin, Some(permit), Some(Arc::clone(&self.context.logins)));
        let written = tcp.write_counter();
        let Some(tls) = tls else { return self.http1(tcp, written, shutdown).await };
        let handshake_timeout = self.limits().handshake_timeout;
        // Boxed, so that a connection does not keep its large state after the handshake.
        let stream = match tokio::time::timeout(handshake_timeout, Box::pin(tls.run(tcp))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handshake_failed(origin.client, &error.to_string()),
            Err(_) => return self.handshake_failed(origin.client, "timeout"),
        };
        match stream.selected_alpn_proto() {
            Some(ALPN::H2) => self.http2(stream, written, shutdown).await,
            // TLS-ALPN-01: the handshake was the answer.
            Some(ALPN::Custom(_)) => {}
            _ => self.http1(stream, written, shutdown).await,
        }
    }

    fn handshake_failed(&self, peer: SocketAddr, cause: &str) {
        self.context.statistics.handshakes_failed.fetch_add(1, Relaxed);
        // Not a warning: port scans and old clients cause it all the time.
        log::debug!(target: "icm::clients", "TLS handshake with {peer} failed: {cause}");
    }

    /// Pingora's own loop over requests, with the gate in it. A session is created only when a head is complete, so an
    /// idle connection needs little memory.
    async fn http1<S: IO + 'static>(&self, stream: S, written: WriteCounter, shutdown: &ShutdownWatch) {
        let (limits, has_plain_sessions) = self.for_next_request();
        let client_stream = ClientStream::http1(stream, limits, Arc::clone(&self.context));
        let mut client_stream = Box::new(client_stream.with_write_counter(written));
        client_stream.record_heads(has_plain_sessions);
        let mut settings: Option<HttpPersistentSettings> = None;
        // One future for all requests: registering and dropping it for each would cost more.
        let stop = self.idle_shutdown(shutdown.clone());
        tokio::pin!(stop);
        loop {
            tokio::select! {
                // A request that has already arrived is served.
                biased;
                has_head = client_stream.wait_for_head() => if !has_head { return },
                () = &mut stop => return,
            }
            if let Some(coalescer) = &self.context.coalescer {
                coalescer.yield_if_crowded().await;
            }
            let returned = match client_stream.take_plain_head() {
                Some((raw, head)) => {
                    if *shutdown.borrow() {
                        raw.close_after_response();
                    }
                    let session = Box::new(PlainSession::new(client_stream, Arc::clone(&raw), head));
                    let _ = self.app.process_new_http(ServerSession::new_custom(session), shutdown).await;
                    raw.take_stream()
                }
                None => {
                    let mut session = ServerSession::new_http1(client_stream);
                    match settings.take() {
                        Some(settings) => settings.apply_to_session(&mut session),
                        // 0: no timeout in Pingora, as `ClientStream` has its own.
                        None => session.set_keepalive((!*shutdown.borrow()).then_some(0)),
                    }
                    let reused = self.app.process_new_http(session, shutdown).await;
                    reused.map(|reused| {
                        let (stream, kept) = reused.consume();
                        settings = kept;
                        stream
                    })
                }
            };
            let Some(stream) = returned else { return };
            let Ok(stream) = stream.into_any().downcast::<ClientStream<S>>() else { return };
            client_stream = stream;
            let (limits, has_plain_sessions) = self.for_next_request();
            client_stream.record_heads(has_plain_sessions);
            if !client_stream.next_request(limits) || !client_stream.flush_deferred().await {
                return;
            }
        }
    }

    /// Ready when idle connections must be closed: at shutdown, but not after a handover (see `start_service`).
    async fn idle_shutdown(&self, mut stop: ShutdownWatch) {
        let _ = stop.wait_for(|stop| *stop).await;
        if self.balancer.upgrade.has_handed_over() {
            std::future::pending::<()>().await;
        }
    }

    async fn http2<S: IO + 'static>(&self, stream: S, written: WriteCounter, shutdown: &ShutdownWatch) {
        let limits = self.limits();
        let pending = Arc::new(match self.limit {
            ConnectionLimit::Configured => PendingResponses::default(),
            ConnectionLimit::Fixed(..) => PendingResponses::for_local_responses(),
        });
        let context = Arc::clone(&self.context);
        let client_stream =
            ClientStream::http2(stream, ClientLimits::from(&limits), context, Arc::clone(&pending))
                .with_write_counter(written);
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.idle_timeout);
        let app = Http2App { app: Arc::clone(&self.app), options, h2_options: h2_options(&limits), pending };
        Arc::new(app).process_new(Box::new(client_stream), shutdown).await;
    }
}

fn h2_options(limits: &Limits) -> H2Options {
    let mut options = H2Options::new();
    options
        .max_concurrent_streams(limits.http2_streams)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(INITIAL_STREAM_WINDOW)
        .initial_connection_window_size(INITIAL_CONNECTION_WINDOW)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESET_STREAMS));
    options
}

/// The application of one connection: Pingora asks the application for the connection's options.
struct Http2App<A> {
    app: Arc<A>,
    options: HttpServerOptions,
    h2_options: H2Options,
    pending: Arc<PendingResponses>,
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Http2App<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let stream = interim::take_stream(session.req_header_mut());
        // The future is large, so it is created only when the request may begin.
        let request = async { self.app.process_new_http(session, shutdown).await };
        self.pending.run_request(stream, request).await.flatten()
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2_options.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

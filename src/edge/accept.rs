//! Accepting connections and serving each to its end: the service behind every listener.
//!
//! In: sockets, an HTTP application of Pingora's kind, and the configuration in force. Out: requests handed to
//! the application. One task a connection does everything about it, handshake included; a failure in one never
//! touches another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::{ALPN, IO, Ssl};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora_runtime::current_handle;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};

use super::crowded::Crowded;
use super::guarded::Guarded;
use super::http2::WINDOW;
use super::interim;
use super::places::{Full, Place, Places};
use super::sockets::{Socket, listen};
use super::tcp::{Tcp, Written};
use super::waiting::Waiting;
use super::{House, Rules};
use crate::config::settings::Limits;
use crate::state::Balancer;

/// How long accepting rests when the process or the system has nothing left to accept with.
const REST: Duration = Duration::from_millis(100);
/// Log lines about that are this far apart.
const SELDOM: Duration = Duration::from_secs(1);

/// HTTP/2: bytes of one answer that the library holds beside what Pingora holds. As much as Pingora writes at once.
const SEND_BUFFER: usize = 64 * 1024;
/// HTTP/2: octets of all requests' bodies of a connection that may be under way to us.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// HTTP/2: streams that the client reset and we have not forgotten, or not even accepted.
const RESET_STREAMS: usize = 64;
/// HTTP/2: streams that we had to reset because of what the client sent, before the connection ends.
const FAULTY_STREAMS: usize = 256;

/// A socket and what is spoken on it.
pub struct Door {
    /// Where clients come in.
    pub socket: Socket,
    /// TLS, where the listener has it.
    pub tls: Option<Arc<ServerConfig>>,
}

/// How many connections a service has at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// What `limits` says now.
    Configured,
    /// So many, and of one client.
    Fixed(usize, usize),
}

/// See the module's description.
pub struct Accept<A> {
    name: &'static str,
    doors: Vec<Door>,
    threads: Option<usize>,
    closed: Option<Arc<AtomicUsize>>,
    shared: Arc<Shared<A>>,
}

struct Shared<A> {
    app: Arc<A>,
    balancer: Arc<Balancer>,
    house: Arc<House>,
    places: Arc<Places>,
    limit: ConnectionLimit,
    crowded: Crowded,
}

impl<A> Accept<A> {
    /// A service in front of `app`, for so many connections.
    pub fn new(
        name: &'static str,
        app: A,
        doors: Vec<Door>,
        balancer: Arc<Balancer>,
        house: House,
        limit: ConnectionLimit,
    ) -> Self {
        let shared = Shared {
            app: Arc::new(app),
            balancer,
            house: Arc::new(house),
            places: Arc::default(),
            crowded: Crowded::new(limit),
            limit,
        };
        Self { name, doors, threads: None, closed: None, shared: Arc::new(shared) }
    }

    /// On so many threads of its own.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Counts its doors in `closed` for as long as nobody accepts on them.
    #[must_use]
    pub fn counted(self, closed: &Arc<AtomicUsize>) -> Self {
        closed.fetch_add(self.doors.len(), SeqCst);
        Self { closed: Some(Arc::clone(closed)), ..self }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> Service for Accept<A> {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, tasks: usize) {
        let mut loops = Vec::new();
        for door in self.doors.drain(..) {
            let address = door.socket.address;
            let opened =
                listen(&door.socket.listener).and_then(|()| TcpListener::from_std(door.socket.listener));
            let listener = match opened {
                Ok(listener) => Arc::new(listener),
                Err(error) => {
                    // A balancer without one of its listeners would be worse than none.
                    log::error!(target: "icm::life", "cannot listen on {address} ({}): {error}", self.name);
                    std::process::exit(1);
                }
            };
            let tls = door.tls.map(|config| Arc::new(Acceptor::from_server_config(config)));
            for _ in 0..tasks.max(1) {
                let (shared, listener) = (Arc::clone(&self.shared), Arc::clone(&listener));
                let (tls, shutdown) = (tls.clone(), shutdown.clone());
                loops.push(current_handle().spawn(shared.accept(listener, address, tls, shutdown)));
            }
            if let Some(closed) = &self.closed {
                closed.fetch_sub(1, SeqCst);
            }
        }
        for accepting in loops {
            let _ = accepting.await;
        }
        // That closes connections between two requests, where the next one may be on its way. It must be when the
        // service ends; where another process goes on with it, each client hears `Connection: close` with its
        // next answer instead, and nobody's request is lost.
        if !self.shared.balancer.upgrade.is_over() {
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

impl<A: HttpServerApp + Send + Sync + 'static> Shared<A> {
    /// Accepts until the process is told to stop.
    async fn accept(
        self: Arc<Self>,
        listener: Arc<TcpListener>,
        address: SocketAddr,
        tls: Option<Arc<Acceptor>>,
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
                    let Some(place) = self.admit(peer, address) else {
                        self.crowded.turn_away(socket, peer, tls.clone());
                        continue;
                    };
                    let (shared, tls, shutdown) = (Arc::clone(&self), tls.clone(), shutdown.clone());
                    current_handle().spawn(async move {
                        let _open = shared.house.sessions.open(tls.is_some());
                        shared.serve(socket, peer, place, tls, &shutdown).await;
                    });
                }
                Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM)) => {
                    if logged.is_none_or(|at| at.elapsed() >= SELDOM) {
                        logged = Some(tokio::time::Instant::now());
                        log::error!(
                            target: "icm::clients",
                            "{address}: no connection can be accepted: {error}; raise LimitNOFILE or lower limits.connections"
                        );
                    }
                    tokio::time::sleep(REST).await;
                }
                // The client was gone before we came.
                Err(error) => log::debug!(target: "icm::clients", "{address}: {error}"),
            }
        }
    }

    /// A place for a new connection; `None` when there is no room.
    fn admit(&self, peer: SocketAddr, address: SocketAddr) -> Option<Place> {
        let ip = peer.ip().to_canonical();
        if let ConnectionLimit::Fixed(all, of_client) = self.limit {
            return self.counted(self.places.take(Some(ip), all, of_client));
        }
        let snapshot = self.balancer.snapshot();
        let limits = &snapshot.settings.limits;
        // What comes through a trusted proxy are many clients.
        let listener = snapshot.settings.listeners.iter().find(|l| l.address == address);
        let proxy = listener.is_some_and(|l| l.trusted_proxies.iter().any(|net| net.contains(&ip)));
        let client = (!proxy && !limits.is_exempt(ip)).then_some(ip);
        self.counted(self.places.take(client, limits.connections, limits.per_client_connections))
    }

    fn counted(&self, taken: Result<Place, Full>) -> Option<Place> {
        match taken {
            Ok(place) => Some(place),
            Err(full) => {
                let statistics = &self.house.statistics;
                match full {
                    Full::All => &statistics.over_limit,
                    Full::Client => &statistics.over_client_limit,
                }
                .fetch_add(1, Relaxed);
                None
            }
        }
    }

    fn limits(&self) -> Limits {
        self.balancer.snapshot().settings.limits.clone()
    }

    fn rules(&self) -> Rules {
        Rules::from(&self.balancer.snapshot().settings.limits)
    }

    /// One connection from its first octet to its last.
    async fn serve(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        place: Place,
        tls: Option<Arc<Acceptor>>,
        shutdown: &ShutdownWatch,
    ) {
        let tcp = Tcp::new(socket, peer, Some(place), Some(Arc::clone(&self.house.logins)));
        let written = tcp.written();
        let Some(tls) = tls else { return self.http1(tcp, written, shutdown).await };
        let patience = self.limits().handshake_timeout;
        // Boxed: it is large, and over when the long part of a connection's life begins.
        let stream = match tokio::time::timeout(patience, Box::pin(tls.tls_handshake(tcp))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.no_handshake(peer, &error.to_string()),
            Err(_) => return self.no_handshake(peer, "it took too long"),
        };
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            self.http2(stream, written, shutdown).await;
        } else {
            self.http1(stream, written, shutdown).await;
        }
    }

    /// Port scans and old clients are the internet's weather.
    fn no_handshake(&self, peer: SocketAddr, why: &str) {
        self.house.statistics.handshakes_failed.fetch_add(1, Relaxed);
        log::debug!(target: "icm::clients", "no TLS handshake with {peer}: {why}");
    }

    /// One request after another, as Pingora's own loop does it, with the gate told where each begins. What a
    /// request needs is made when its head is there: until then a connection costs next to nothing.
    async fn http1<S: IO + 'static>(&self, stream: S, written: Written, shutdown: &ShutdownWatch) {
        let guarded = Guarded::http1(stream, self.rules(), Arc::clone(&self.house));
        let mut guarded = Box::new(guarded.over(written));
        let mut settings: Option<HttpPersistentSettings> = None;
        // One for all requests: to begin and to end this wait with each of them would cost more.
        let stop = self.end_of_idling(shutdown.clone());
        tokio::pin!(stop);
        loop {
            tokio::select! {
                // A request that is there already is served.
                biased;
                there = guarded.head() => if !there { return },
                () = &mut stop => return,
            }
            if let Some(batch) = &self.house.batch {
                batch.make_way().await;
            }
            let mut session = ServerSession::new_http1(guarded);
            match settings {
                Some(settings) => settings.apply_to_session(&mut session),
                // How long a connection may wait is the guard's to say: for Pingora it is for ever.
                None => session.set_keepalive((!*shutdown.borrow()).then_some(0)),
            }
            let Some(reused) = self.app.process_new_http(session, shutdown).await else { return };
            let (stream, kept) = reused.consume();
            let Ok(same) = stream.into_any().downcast::<Guarded<S>>() else { return };
            (guarded, settings) = (same, kept);
            if !guarded.next_request(self.rules()) || !guarded.settled().await {
                return;
            }
        }
    }

    /// When a connection is closed between two requests, where the next one may be on its way: at the end of the
    /// service. Not where another process goes on with it: there each client hears `Connection: close`.
    async fn end_of_idling(&self, mut stop: ShutdownWatch) {
        let _ = stop.wait_for(|stop| *stop).await;
        if self.balancer.upgrade.is_over() {
            std::future::pending::<()>().await;
        }
    }

    /// All requests of an HTTP/2 connection, by Pingora's own loop.
    async fn http2<S: IO + 'static>(&self, stream: S, written: Written, shutdown: &ShutdownWatch) {
        let limits = self.limits();
        let waiting = Arc::new(match self.limit {
            ConnectionLimit::Configured => Waiting::default(),
            ConnectionLimit::Fixed(..) => Waiting::of_whole_answers(),
        });
        let house = Arc::clone(&self.house);
        let guarded = Guarded::http2(stream, Rules::from(&limits), house, Arc::clone(&waiting)).over(written);
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.idle_timeout);
        let app = ForHttp2 { app: Arc::clone(&self.app), options, h2: h2_options(&limits), waiting };
        Arc::new(app).process_new(Box::new(guarded), shutdown).await;
    }
}

fn h2_options(limits: &Limits) -> H2Options {
    let mut options = H2Options::new();
    options
        .max_concurrent_streams(limits.http2_streams)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(Some(FAULTY_STREAMS));
    options
}

/// The application with the options of one connection, which Pingora asks the application for.
struct ForHttp2<A> {
    app: Arc<A>,
    options: HttpServerOptions,
    h2: H2Options,
    waiting: Arc<Waiting>,
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for ForHttp2<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let stream = interim::take_stream(session.req_header_mut());
        // Made when it begins: it is large, and may have to wait.
        let request = async { self.app.process_new_http(session, shutdown).await };
        self.waiting.request(stream, request).await.flatten()
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

//! The listeners of the simulated servers, which open and close as faults change.
//!
//! Every port is held by a bound socket that never listens, so that it stays reserved while the listener is closed:
//! Linux refuses connections to such a port at once. A *black hole* is a listener with a backlog of 0 whose accept
//! queue is full: Linux then drops every SYN, also on loopback, and connecting times out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::cluster::{Cluster, PortKind, SimulatedServer};
use crate::faults::FaultKind;
use crate::http::AnyStream;
use crate::scenario::Scenario;
use crate::{connection, replication, stats, tls};

/// A port that stays bound until the process exits.
pub struct ReservedPort {
    pub position: usize,
    pub kind: PortKind,
    pub port: u16,
    address: SocketAddr,
    _reservation: TcpSocket,
}

fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Reserves every port of the servers that run in this process.
pub fn bind(scenario: &Scenario, only: Option<usize>) -> Result<Vec<ReservedPort>, String> {
    let mut all = Vec::new();
    for (position, server) in scenario.servers.iter().enumerate() {
        if only.is_some_and(|only| only != position) {
            continue;
        }
        let ports = [
            (PortKind::Http, server.http),
            (PortKind::Https, server.https),
            (PortKind::Agent, server.agent),
            (PortKind::Metrics, server.metrics),
        ];
        for (kind, wanted) in ports {
            let Some(port) = wanted.bind_port() else { continue };
            let address = SocketAddr::new(server.address, port);
            let bind = || -> std::io::Result<ReservedPort> {
                let reservation = socket(address)?;
                let address = reservation.local_addr()?;
                // Fails now if another process listens on this port.
                drop(socket(address)?.listen(1)?);
                Ok(ReservedPort { position, kind, port: address.port(), address, _reservation: reservation })
            };
            all.push(bind().map_err(|e| format!("{} {kind:?} {address}: {e}", server.name))?);
        }
    }
    Ok(all)
}

/// Starts all listeners, and returns when they accept connections.
pub async fn start(cluster: &Arc<Cluster>, bound: Vec<ReservedPort>) {
    for bound in bound {
        let server = cluster.servers[bound.position].clone();
        let applied = server.register_listener();
        let mut first = applied.subscribe();
        // Change 1 is the start.
        server.changes.send_if_modified(|n| std::mem::replace(n, 1) == 0);
        tokio::spawn(listen(bound, server, cluster.clone(), applied));
        let _ = first.wait_for(|n| *n >= 1).await;
    }
    for server in cluster.local_servers() {
        tokio::spawn(stats::push_loop(server.clone()));
        tokio::spawn(replication::run(server.clone(), cluster.clone()));
    }
}

enum PortState {
    Open(TcpListener),
    Closed,
    /// A listener that never accepts, and the connections that fill its queue.
    BlackHole {
        _listener: TcpListener,
        _held: Vec<TcpStream>,
    },
}

async fn open(address: SocketAddr, backlog: u32) -> TcpListener {
    loop {
        match socket(address).and_then(|s| s.listen(backlog)) {
            Ok(listener) => return listener,
            Err(e) => {
                eprintln!("acme: {address}: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Fills the accept queue until connecting times out.
async fn fill_accept_queue(address: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..16 {
        match tokio::time::timeout(Duration::from_millis(80), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => held.push(stream),
            _ => break,
        }
    }
    held
}

async fn listen(
    bound: ReservedPort,
    server: Arc<SimulatedServer>,
    cluster: Arc<Cluster>,
    applied: tokio::sync::watch::Sender<u64>,
) {
    let mut changes = server.changes.subscribe();
    let mut state = PortState::Closed;
    loop {
        let change = *changes.borrow_and_update();
        let fault = server.port_fault(bound.kind).map(|f| f.kind);
        state = match (fault, state) {
            (None, PortState::Open(listener)) => PortState::Open(listener),
            (None, old) => {
                drop(old);
                PortState::Open(open(bound.address, 4096).await)
            }
            (Some(FaultKind::Blackhole), hole @ PortState::BlackHole { .. }) => hole,
            (Some(FaultKind::Blackhole), old) => {
                drop(old);
                let _listener = open(bound.address, 0).await;
                let _held = fill_accept_queue(bound.address).await;
                PortState::BlackHole { _listener, _held }
            }
            (Some(_), old) => {
                drop(old);
                PortState::Closed
            }
        };
        applied.send_replace(change);
        loop {
            let accepted = match &state {
                PortState::Open(listener) => tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = changes.changed() => break,
                },
                _ => {
                    let _ = changes.changed().await;
                    break;
                }
            };
            match accepted {
                Ok((stream, remote)) => {
                    tokio::spawn(serve(stream, remote, bound.kind, server.clone(), cluster.clone()));
                }
                // Most likely out of file descriptors: wait until other connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    kind: PortKind,
    server: Arc<SimulatedServer>,
    cluster: Arc<Cluster>,
) {
    let _ = stream.set_nodelay(true);
    match kind {
        PortKind::Agent => tokio::select! {
            () = stats::agent_check(stream, &server) => {}
            () = server.killed(kind) => {}
        },
        PortKind::Metrics => tokio::select! {
            () = stats::metrics(stream, &server) => {}
            () = server.killed(kind) => {}
        },
        PortKind::Http => connection::run(AnyStream::Plain(stream), remote, kind, server, cluster).await,
        PortKind::Https => {
            if let Some(stream) = handshake(stream, &server).await {
                connection::run(AnyStream::Tls(Box::new(stream)), remote, kind, server, cluster).await;
            }
        }
    }
}

async fn handshake(
    mut stream: TcpStream,
    server: &SimulatedServer,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let certificates = server.tls.as_ref()?;
    let config = match server.tls_fault() {
        Some(FaultKind::TlsHandshake) => {
            let mut hello = [0_u8; 4096];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(&tls::HANDSHAKE_FAILURE).await;
            return None;
        }
        Some(FaultKind::TlsExpired) => &certificates.expired,
        Some(FaultKind::TlsWrongName) => &certificates.wrong_name,
        _ => &certificates.valid,
    };
    let accept = TlsAcceptor::from(config.clone()).accept(stream);
    tokio::time::timeout(Duration::from_secs(10), accept).await.ok()?.ok()
}

//! A server on the loopback interface that responds as a test requires.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::tls::{ServerConfig, TlsAcceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{DominoClient, DominoRequest};
use crate::config::settings::UpstreamTls;

/// A request as the server received it.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) target: String,
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
    /// The number of the request on its connection, from 0.
    pub(crate) nth: usize,
}

impl ReceivedRequest {
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        query.split('&').find_map(pair)
    }

    pub(crate) fn number(&self, name: &str) -> usize {
        self.query(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("{name} in {}", self.target))
    }
}

/// How to respond to a request.
pub(crate) enum TestReply {
    /// A response with Content-Length; the connection stays open.
    Page(u16, &'static str, Vec<u8>),
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Closes the connection at once.
    Close,
    /// Sends nothing and keeps the connection open.
    Hang,
}

impl TestReply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Page(200, "", body.into())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Page(status, "", b"<html>no</html>".to_vec())
    }
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    pub(crate) async fn start(
        handler: impl Fn(&ReceivedRequest) -> TestReply + Send + Sync + 'static,
    ) -> Self {
        Self::with(None, handler).await
    }

    pub(crate) async fn with(
        tls: Option<ServerConfig>,
        handler: impl Fn(&ReceivedRequest) -> TestReply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (log, count, handler) = (asked.clone(), connections.clone(), Arc::new(handler));
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (log, handler, acceptor) = (log.clone(), handler.clone(), acceptor.clone());
                open.spawn(async move {
                    match acceptor {
                        None => serve_connection(stream, &log, &*handler).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve_connection(stream, &log, &*handler).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { address, asked, connections, task }
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.asked.lock().clone()
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        self.requests().into_iter().map(|asked| asked.target).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn get(&self, target: &str) -> DominoRequest {
        DominoRequest::get(self.address, false, "web1.acme.example", target)
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    log: &Mutex<Vec<ReceivedRequest>>,
    handler: &(impl Fn(&ReceivedRequest) -> TestReply + ?Sized),
) -> Option<()> {
    let mut buffer = Vec::new();
    for nth in 0.. {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        let all = end + length.unwrap_or(0);
        while buffer.len() < all {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        let body = String::from_utf8(buffer[end..all].to_vec()).unwrap();
        buffer.drain(..all);
        let target = head.split(' ').nth(1)?.to_owned();
        let asked = ReceivedRequest { target, head, body, nth };
        let reply = handler(&asked);
        log.lock().push(asked);
        match reply {
            TestReply::Page(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
                stream.write_all(head.as_bytes()).await.ok()?;
                stream.write_all(&body).await.ok()?;
                stream.flush().await.ok()?;
            }
            TestReply::Raw(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
            TestReply::Close => return None,
            TestReply::Hang => std::future::pending().await,
        }
    }
    None
}

/// A client that trusts the platform's authorities.
pub(crate) fn client() -> DominoClient {
    DominoClient::new(&UpstreamTls { ca_file: None, ca: None, verify: true }, Duration::from_secs(5))
}

/// Creates an authority and a server certificate for `names` that it signed.
pub(crate) fn certificate(names: &[&str]) -> (UpstreamTls, ServerConfig) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    pingora::tls::install_default_crypto_provider();
    let private = pingora::tls::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let ca = Some(Arc::new(vec![authority.der().to_vec()]));
    (UpstreamTls { ca_file: None, ca, verify: true }, config)
}

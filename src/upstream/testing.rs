//! Connections to a server on the loopback interface, opened as the proxy opens them, with the server's side of each.

use std::sync::Arc;

use pingora::tls::{TlsAcceptor, TlsStream};
use pingora::upstreams::peer::HttpPeer;
use tokio::net::{TcpListener, TcpStream};

use super::connection::UpstreamConnection;
use crate::config::settings::UpstreamTls;
use crate::discovery::domino::{testing, tls};

pub(super) async fn pair() -> (UpstreamConnection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = HttpPeer::new(listener.local_addr().unwrap(), false, String::new());
    let connector = tls::connector(&UpstreamTls { ca_file: None, ca: None, verify: true });
    let stream = connector.new_stream(&peer).await.unwrap();
    (UpstreamConnection::new(stream), listener.accept().await.unwrap().0)
}

pub(super) async fn tls_pair() -> (UpstreamConnection, TlsStream<TcpStream>) {
    let (trusted, config) = testing::certificate(&["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = HttpPeer::new(listener.local_addr().unwrap(), true, "localhost".to_owned());
    peer.options.ca = tls::ca_certificates(&trusted);
    let connector = tls::connector(&trusted);
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(tcp).await.unwrap()
    };
    let (stream, server) = tokio::join!(connector.new_stream(&peer), accept);
    (UpstreamConnection::new(stream.unwrap()), TlsStream::Server(server))
}

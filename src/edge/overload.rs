//! Rejects connections above the limit with a 429, or a GOAWAY in HTTP/2.
//!
//! Only a few are rejected this way at a time; the others are closed without a response, because responses cost
//! descriptors too.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::{ALPN, Ssl};
use pingora_runtime::current_handle;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::connection_limit::ConnectionLimit;
use super::lingering_close::close_gracefully;
use super::proxy_protocol;
use super::tcp::{ClientOrigin, ClientTcp};
use super::tls_endpoint::TlsHandshake;
use crate::edge::gate::Refusal;

const MAX_CONCURRENT_REJECTIONS: usize = 128;
/// For services with a fixed limit, which is low.
const MAX_CONCURRENT_REJECTIONS_FIXED: usize = 8;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

const REFUSAL: Refusal = Refusal { status: 429, reason: "There are too many connections." };
/// An empty SETTINGS, then GOAWAY with last stream 0 and ENHANCE_YOUR_CALM.
const GOAWAY: [u8; 26] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];

#[derive(Debug)]
pub struct OverloadResponder(Arc<Semaphore>);

impl OverloadResponder {
    #[must_use]
    pub fn new(limit: ConnectionLimit) -> Self {
        Self(Arc::new(Semaphore::new(match limit {
            ConnectionLimit::Configured => MAX_CONCURRENT_REJECTIONS,
            ConnectionLimit::Fixed(..) => MAX_CONCURRENT_REJECTIONS_FIXED,
        })))
    }

    /// `begins_with_proxy_header`: what comes first is the header of a proxy, not TLS.
    pub fn reject(
        &self,
        mut socket: TcpStream,
        origin: ClientOrigin,
        tls: Option<Arc<TlsHandshake>>,
        begins_with_proxy_header: bool,
    ) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else { return };
        current_handle().spawn(async move {
            let _permit = permit;
            if begins_with_proxy_header {
                let header = Box::pin(proxy_protocol::read(&mut socket));
                let Ok(Ok(_)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, header).await else { return };
            }
            let tcp = ClientTcp::new(socket, origin, None, None);
            let Some(tls) = tls else { return close_gracefully(tcp, REFUSAL.response()).await };
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, Box::pin(tls.run(tcp))).await else {
                return;
            };
            let is_h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
            close_gracefully(stream, if is_h2 { GOAWAY.to_vec() } else { REFUSAL.response() }).await;
        });
    }
}

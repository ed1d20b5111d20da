//! The trait through which Pingora uses the session of a plain request, so that the file of the session has only what it
//! does itself.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use http::header::HOST;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::{Digest, IO, Shutdown};
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::io::AsyncReadExt;

use super::plain_session::PlainSession;

#[async_trait]
impl<S: IO + 'static> Session for PlainSession<S> {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.write_head(head).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        self.write_head(Box::new(head.clone())).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write_data(&data, end).await?;
        if end { self.finish_body().await } else { Ok(()) }
    }

    async fn write_trailers(&mut self, _trailers: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.write_tasks(tasks).await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts.read = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.timeouts.read
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts.write = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.timeouts.write
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts.drain = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.timeouts.drain
    }

    fn request_summary(&self) -> String {
        let (method, target) = (&self.request.method, String::from_utf8_lossy(self.request.raw_path()));
        let host = self.request.headers.get(HOST).map(|host| host.as_bytes()).unwrap_or_default();
        format!("{method} {target}, Host: {}", String::from_utf8_lossy(host))
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.response.as_deref()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        if let Some(stream) = &mut self.stream {
            Shutdown::shutdown(&mut **stream).await;
        }
    }

    /// Without the end of TLS, so that a client does not take the response for complete.
    async fn abandon(&mut self, _context: &str) {
        self.buffer_head();
        self.stream = None;
    }

    fn is_body_done(&mut self) -> bool {
        true
    }

    /// Pingora calls it for the end of the body and again for the end of the request; nothing happens between the two.
    async fn finish(&mut self) -> Result<()> {
        self.finish_body().await?;
        self.release().await;
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        true
    }

    /// Waits until the client leaves. Pipelined requests stay in the stream.
    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        self.buffer_head();
        if !self.client_has_left
            && let Some(stream) = &mut self.stream
        {
            let mut probe = [0];
            let read = stream.read(&mut probe).await;
            if read.or_err(ErrorType::ReadError, "during HTTP body-or-idle state")? > 0 {
                return Error::e_explain(ErrorType::ConnectError, "Sent data after end of body");
            }
            self.client_has_left = true;
            self.raw.close_after_response();
        }
        Err(self.left())
    }

    fn body_bytes_sent(&self) -> usize {
        self.body_bytes_sent
    }

    fn body_bytes_read(&self) -> usize {
        0
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.raw.head().clone()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}

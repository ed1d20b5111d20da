//! The compressed body of a response: each piece goes in as the server sends it, and comes out as the client gets it.
//!
//! It is separate from what is decided at the head, because the state of a request holds it.

mod encoder;

use std::io;

use bytes::Bytes;
use parking_lot::Mutex;
use pingora::{ErrorType, OrErr, Result};

use crate::domain::compression::ContentCoding;
use crate::telemetry::statistics::RequestCounters;
use encoder::Encoder;

/// The compressed body of one response.
pub struct BodyCompression {
    coding: ContentCoding,
    /// Encoders are `Send` only; the lock is never taken. `None` after the end.
    encoder: Mutex<Option<Encoder>>,
    /// Whether something was written since the last flush.
    is_pending: bool,
    bytes_in: u64,
    bytes_out: u64,
}

impl std::fmt::Debug for BodyCompression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyCompression({}, {} bytes)", self.coding.name(), self.bytes_in)
    }
}

impl BodyCompression {
    /// `length` is that of the whole body, if it is known.
    ///
    /// # Errors
    /// There is no memory for an encoder.
    pub fn new(coding: ContentCoding, length: Option<u64>) -> io::Result<Self> {
        let encoder = Mutex::new(Some(Encoder::new(coding, length)?));
        Ok(Self { coding, encoder, is_pending: false, bytes_in: 0, bytes_out: 0 })
    }

    /// Puts the compressed bytes in place of a piece. With `flushes` all bytes so far come out.
    ///
    /// # Errors
    /// The encoder failed. The body cannot be continued.
    pub fn pass(&mut self, body: &mut Option<Bytes>, end: bool, flushes: bool) -> Result<()> {
        let encoded = self.encode(body.as_deref().unwrap_or_default(), end, flushes);
        let encoded = encoded.or_err(ErrorType::InternalError, "while compressing a response")?;
        self.bytes_out += encoded.len() as u64;
        *body = (!encoded.is_empty()).then(|| Bytes::from(encoded));
        Ok(())
    }

    /// What was written and has not come out yet; `None` if there is nothing.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub fn flush(&mut self) -> Result<Option<Bytes>> {
        let mut piece = None;
        if self.is_pending {
            self.pass(&mut piece, false, true)?;
        }
        Ok(piece)
    }

    fn encode(&mut self, data: &[u8], end: bool, flushes: bool) -> io::Result<Vec<u8>> {
        let Some(encoder) = self.encoder.get_mut() else { return Ok(Vec::new()) };
        if !data.is_empty() {
            encoder.write(data)?;
            self.bytes_in += data.len() as u64;
            self.is_pending = true;
        }
        if end {
            self.is_pending = false;
            return self.encoder.get_mut().take().map_or(Ok(Vec::new()), Encoder::finish);
        }
        if flushes && std::mem::take(&mut self.is_pending) {
            encoder.flush()?;
        }
        Ok(encoder.take())
    }

    /// Counts the response, when it has ended.
    pub fn count(&self, counters: &RequestCounters) {
        counters.compression.of(self.coding).add(self.bytes_in, self.bytes_out);
    }
}

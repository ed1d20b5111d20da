//! Closes a connection whose client may still be sending.
//!
//! Closing a socket with unread bytes resets the connection, and the client may then lose the last response. So this sends
//! the response, closes our side, and reads and discards input for a short time.

use std::time::Duration;

use pingora::protocols::IO;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// For the response and the discarded input together.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

pub fn close_in_background<S: IO + 'static>(stream: S, response: Vec<u8>) {
    // There is no runtime only when the process exits.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(close_gracefully(stream, response));
}

pub async fn close_gracefully<S: IO + 'static>(mut stream: S, response: Vec<u8>) {
    let close = async {
        stream.write_all(&response).await?;
        AsyncWriteExt::shutdown(&mut stream).await?;
        let mut discarded = [0_u8; 4096];
        while stream.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER_TIMEOUT, close).await;
}

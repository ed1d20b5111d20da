//! The end of a connection whose client may still be sending.
//!
//! In: the connection, and a last answer. Out: nothing. Closing a socket with unread octets resets it, and a
//! reset can overtake the answer; so the answer goes, our side closes, and what still comes is read and
//! dropped for a moment. It happens in a task of its own: nobody waits for it.

use std::time::Duration;

use pingora::protocols::IO;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// All of it: a client that takes longer is cut.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Says the last word and closes.
pub fn close_in_background<S: IO + 'static>(stream: S, answer: Vec<u8>) {
    // Dropped outside a runtime only when the process ends.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(close_gracefully(stream, answer));
}

/// The same, for who has a task of its own.
pub async fn close_gracefully<S: IO + 'static>(mut stream: S, answer: Vec<u8>) {
    let last = async {
        stream.write_all(&answer).await?;
        AsyncWriteExt::shutdown(&mut stream).await?;
        let mut dropped = [0_u8; 4096];
        while stream.read(&mut dropped).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER_TIMEOUT, last).await;
}

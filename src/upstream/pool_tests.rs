//! The pool with real sockets: what it hands out, and what it closes.

use std::future::poll_fn;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::testing::{pair, tls_pair};
use super::*;

const LONG: Duration = Duration::from_secs(60);

fn pool(max_idle: usize) -> ConnectionPool {
    ConnectionPool::new(max_idle, Arc::default())
}

/// Waits until the kernel has what the server sent.
async fn becomes(connection: &UpstreamConnection, wanted: ReceiveState) {
    let descriptor = connection.descriptor().unwrap();
    for _ in 0..3_000 {
        if descriptor.receive_state() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{descriptor:?} is not {wanted:?}");
}

#[tokio::test]
async fn the_connection_used_last_is_taken_first_and_still_works() {
    let pool = pool(8);
    let (first, _first_server) = pair().await;
    let (second, mut second_server) = pair().await;
    let descriptor = second.descriptor();
    pool.put(1, first, LONG, 1);
    pool.put(1, second, LONG, 2);
    assert!(pool.take(2, 3).is_none());
    let mut taken = pool.take(1, 3).unwrap();
    assert_eq!(taken.descriptor(), descriptor);
    taken.write_all(b"GET", b"", None).await.unwrap();
    assert_eq!(second_server.read(&mut [0; 8]).await.unwrap(), 3);
    assert_eq!(pool.idle(), 1);
}

#[tokio::test]
async fn the_oldest_connection_of_all_servers_is_closed_when_there_are_too_many() {
    let pool = pool(2);
    let (first, mut first_server) = pair().await;
    pool.put(1, first, LONG, 1);
    for (key, now_ms) in [(2, 2), (3, 3)] {
        pool.put(key, pair().await.0, LONG, now_ms);
    }
    assert_eq!(first_server.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(pool.idle(), 2);
}

#[tokio::test]
async fn a_connection_with_bytes_after_its_response_is_not_kept() {
    let pool = pool(8);
    let (mut connection, mut server) = pair().await;
    server.write_all(b"more").await.unwrap();
    poll_fn(|cx| connection.poll_fill(cx)).await.unwrap();
    pool.put(1, connection, LONG, 1);
    assert_eq!(pool.idle(), 0);
    // Closing a connection whose bytes were read ends it without a reset.
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let pool = pool(8);
    let (mut connection, mut server) = pair().await;
    server.write_all(&[0; 9_000]).await.unwrap();
    while connection.received.len() < 9_000 {
        poll_fn(|cx| connection.poll_fill(cx)).await.unwrap();
    }
    connection.received.clear();
    pool.put(1, connection, LONG, 1);
    assert_eq!(pool.take(1, 2).unwrap().received.capacity(), 0);
}

#[tokio::test]
async fn expired_and_closed_connections_and_those_with_bytes_are_closed() {
    let pool = pool(8);
    let (good, _good_server) = pair().await;
    let (expired, mut expired_server) = pair().await;
    let (closed, closed_server) = pair().await;
    let (talking, mut talking_server) = pair().await;
    drop(closed_server);
    becomes(&closed, ReceiveState::Closed).await;
    talking_server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    becomes(&talking, ReceiveState::Readable).await;
    let descriptor = good.descriptor();
    pool.put(1, good, LONG, 1_000);
    pool.put(2, expired, Duration::from_millis(500), 1_000);
    pool.put(3, closed, LONG, 1_000);
    pool.put(4, talking, LONG, 1_000);
    assert_eq!(pool.idle(), 4, "only TLS is looked at when a connection is put");
    pool.close_idle(1_500);
    assert_eq!(pool.idle(), 1);
    assert_eq!(pool.take(1, 1_500).unwrap().descriptor(), descriptor);
    assert_eq!(expired_server.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_closed_pool_keeps_nothing() {
    let pool = pool(8);
    let (idle, mut idle_server) = pair().await;
    let (late, mut late_server) = pair().await;
    pool.put(1, idle, LONG, 1);
    pool.close();
    pool.put(1, late, LONG, 1);
    assert_eq!(idle_server.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(late_server.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(pool.take(1, 1).is_none());
}

#[tokio::test]
async fn a_connection_without_idle_time_is_closed() {
    let pool = pool(8);
    let (connection, mut server) = pair().await;
    pool.put(1, connection, Duration::ZERO, 1);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
}

/// Reads a response of `length` bytes, as the fast path does.
async fn read_response(connection: &mut UpstreamConnection, length: usize) {
    while connection.received.len() < length {
        assert!(poll_fn(|cx| connection.poll_fill(cx)).await.unwrap() > 0);
    }
    let _ = connection.received.split_to(length);
}

#[tokio::test]
async fn a_tls_connection_is_kept_after_its_session_tickets() {
    let pool = pool(8);
    let (mut connection, mut server) = tls_pair().await;
    connection.write_all(b"head", b"body", None).await.unwrap();
    server.read_exact(&mut [0; 8]).await.unwrap();
    server.write_all(b"response").await.unwrap();
    server.flush().await.unwrap();
    read_response(&mut connection, 8).await;
    pool.put(1, connection, LONG, 1);
    pool.close_idle(2);
    let mut connection = pool.take(1, 2).unwrap();
    connection.write_all(b"again", b"", None).await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
}

#[tokio::test]
async fn a_tls_connection_with_bytes_that_were_decrypted_already_is_not_kept() {
    let pool = pool(8);
    let (mut connection, mut server) = tls_pair().await;
    // Two records that arrive together; reading gives one of them.
    server.write_all(b"response").await.unwrap();
    server.write_all(b"unexpected").await.unwrap();
    server.flush().await.unwrap();
    becomes(&connection, ReceiveState::Readable).await;
    read_response(&mut connection, 8).await;
    for _ in 0..3_000 {
        if connection.descriptor().unwrap().receive_state() == ReceiveState::Empty {
            break;
        }
        // The second record came later, so what is tested is another case, with the same result.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if connection.has_unread_bytes() {
            break;
        }
    }
    pool.put(1, connection, LONG, 1);
    assert_eq!(pool.idle(), 0);
}

#[tokio::test]
async fn a_tls_connection_that_the_server_ended_is_neither_kept_nor_taken() {
    let pool = pool(8);
    let (mut connection, mut server) = tls_pair().await;
    server.write_all(b"response").await.unwrap();
    read_response(&mut connection, 8).await;
    pool.put(1, connection, LONG, 1);
    assert_eq!(pool.idle(), 1);
    server.shutdown().await.unwrap();
    // Its farewell takes a moment, and is a few bytes to the socket.
    for _ in 0..3_000 {
        pool.close_idle(2);
        if pool.idle() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection is still kept");
}

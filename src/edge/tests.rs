//! Client streams over a pipe. The paused clock advances only while all tasks wait.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::client_stream::ClientStream;
use super::coalesce::Coalescer;
use super::{ClientLimits, ListenerContext};
use crate::config::settings::Limits;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn client_limits() -> ClientLimits {
    ClientLimits::from(&Limits { min_rate: 100, ..Limits::default() })
}

/// The client's end and the server's.
fn connection() -> (DuplexStream, ClientStream<DuplexStream>) {
    let (client, server) = duplex(1024);
    (client, ClientStream::http1(server, client_limits(), Arc::new(ListenerContext::default())))
}

/// One read; `None` if it has to wait.
async fn read(client_stream: &mut ClientStream<DuplexStream>, room: usize) -> Option<Vec<u8>> {
    let mut buf = vec![0; room];
    let read = tokio::time::timeout(Duration::from_millis(1), client_stream.read(&mut buf)).await.ok()?;
    buf.truncate(read.unwrap());
    Some(buf)
}

async fn until_error(client_stream: &mut ClientStream<DuplexStream>) -> (Duration, bool) {
    let begin = Instant::now();
    let mut buf = [0; 512];
    loop {
        match client_stream.read(&mut buf).await {
            Ok(0) => return (begin.elapsed(), false),
            Ok(_) => {}
            Err(_) => return (begin.elapsed(), true),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_passes_when_it_is_complete_into_a_buffer_of_any_size() {
    let (mut client, mut client_stream) = connection();
    let (first, last) = GET.split_at(GET.len() - 1);
    client.write_all(first).await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await, None);
    client.write_all(last).await.unwrap();
    let mut whole = Vec::new();
    while whole.len() < GET.len() {
        whole.extend(read(&mut client_stream, 5).await.unwrap());
    }
    assert_eq!(whole, GET);
}

#[tokio::test(start_paused = true)]
async fn a_pipelined_request_waits_for_the_response_before_it() {
    let (mut client, mut client_stream) = connection();
    client.write_all(&[GET, GET, GET].concat()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(GET));
        assert_eq!(read(&mut client_stream, 1).await, None);
        client_stream.write_all(RESPONSE).await.unwrap();
        assert!(client_stream.next_request(client_limits()));
    }
    assert_eq!(read(&mut client_stream, 512).await, None);
    drop(client);
    assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(&b""[..]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_closed_its_side_gets_responses_that_come_at_once() {
    let (mut client, mut client_stream) = connection();
    client.write_all(&[GET, GET].concat()).await.unwrap();
    client.shutdown().await.unwrap();
    for _ in 0..2 {
        assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(GET));
        assert_eq!(read(&mut client_stream, 1).await, None, "the client may still read");
        client_stream.write_all(RESPONSE).await.unwrap();
        client_stream.next_request(client_limits());
    }
    assert!(!client_stream.next_request(client_limits()));
    let (mut client, mut client_stream) = connection();
    client.write_all(GET).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(GET));
    let (waited, failed) = until_error(&mut client_stream).await;
    assert!(waited.as_secs() == 2 && !failed, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sequence_of_small_bodies_is_not_one_slow_body() {
    let (mut client, mut client_stream) = connection();
    for _ in 0..100 {
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await.unwrap();
        assert!(read(&mut client_stream, 512).await.is_some());
        assert_eq!(read(&mut client_stream, 512).await, None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.write_all(b"ab").await.unwrap();
        assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(&b"ab"[..]));
        client_stream.write_all(RESPONSE).await.unwrap();
        client_stream.flush().await.unwrap();
        client.read_exact(&mut [0; RESPONSE.len()]).await.unwrap();
        assert!(client_stream.next_request(client_limits()));
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_follows_one_that_was_not_read_to_its_end() {
    let (mut client, mut client_stream) = connection();
    client.write_all(&[POST, GET].concat()).await.unwrap();
    assert!(!client_stream.next_request(client_limits()));
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(RESPONSE).await.unwrap();
    assert!(!client_stream.next_request(client_limits()));
}

#[tokio::test(start_paused = true)]
async fn the_client_gets_a_refusal_and_no_other_response() {
    let (mut client, mut client_stream) = connection();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n").await.unwrap();
    assert!(until_error(&mut client_stream).await.1);
    assert!(client_stream.write_all(RESPONSE).await.is_err());
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 ") && response.matches("HTTP/1.1").count() == 1, "{response}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_sent_after_a_response_has_begun() {
    let (mut client, mut client_stream) = connection();
    client.write_all(POST).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    client_stream.write_all(RESPONSE).await.unwrap();
    assert!(until_error(&mut client_stream).await.1);
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("Content-Length: 0\r\n\r\n") && !response.contains("408"), "{response}");
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_own_deadline() {
    let near = |took: Duration, seconds: u64| took.as_secs() == seconds || took.as_secs() == seconds + 1;
    // No byte on a new connection: closed after the header timeout, without a response.
    let (_client, mut client_stream) = connection();
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 10) && !refused, "{took:?}");
    // An incomplete head: refused after the header timeout, from its first byte.
    let (mut client, mut client_stream) = connection();
    client.write_all(b"GET").await.unwrap();
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 10) && refused, "{took:?}");
    // Between requests: closed after the idle timeout, without a response.
    let (mut client, mut client_stream) = connection();
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(RESPONSE).await.unwrap();
    assert!(client_stream.next_request(client_limits()));
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 60) && !refused, "{took:?}");
    // During a response: no deadline.
    let (mut client, mut client_stream) = connection();
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    let day = Duration::from_secs(86_400);
    assert!(tokio::time::timeout(day, until_error(&mut client_stream)).await.is_err());
    // In a body: a 408 after the rate window.
    let (mut client, mut client_stream) = connection();
    client.write_all(POST).await.unwrap();
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 30) && refused, "{took:?}");
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_disconnected_and_a_slow_one_is_not() {
    let (mut client, mut client_stream) = connection();
    let begin = Instant::now();
    assert!(client_stream.write_all(&[0; 5000]).await.is_err());
    assert!((29..=32).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    drop(client_stream);
    let mut taken = Vec::new();
    client.read_to_end(&mut taken).await.unwrap();
    let (mut client, mut client_stream) = connection();
    let taking = tokio::spawn(async move {
        let mut piece = [0; 120];
        while client.read_exact(&mut piece).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    client_stream.write_all(&[0; 50_000]).await.unwrap();
    drop(client_stream);
    taking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_101_opens_a_tunnel_only_after_an_upgrade_request() {
    const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let (mut client, mut client_stream) = connection();
    client.write_all(request).await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await.unwrap(), request);
    client.write_all(b"\0early").await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await, None);
    client_stream.write_all(SWITCH).await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await.unwrap(), b"\0early");
    client.write_all(b"\0late").await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await.unwrap(), b"\0late");

    let (mut client, mut client_stream) = connection();
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(SWITCH).await.unwrap();
    client.write_all(b"\0no").await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await, None);
}

/// As [`connection`], with so many requests in flight that flushes are deferred.
fn connection_under_load() -> (DuplexStream, ClientStream<DuplexStream>) {
    let (client, server) = duplex(1024);
    let coalescer = Coalescer::new(&Arc::new(AtomicU64::new(1000)), 1);
    let context = ListenerContext { coalescer: Some(Arc::new(coalescer)), ..ListenerContext::default() };
    (client, ClientStream::http1(server, client_limits(), Arc::new(context)))
}

/// Responds to a request and flushes. Returns what the client has received.
async fn respond(
    client: &mut DuplexStream,
    client_stream: &mut ClientStream<DuplexStream>,
    request: &[u8],
) -> Vec<u8> {
    client.write_all(request).await.unwrap();
    read(client_stream, 512).await.unwrap();
    client_stream.write_all(RESPONSE).await.unwrap();
    client_stream.flush().await.unwrap();
    received(client).await
}

async fn received(client: &mut DuplexStream) -> Vec<u8> {
    let mut buf = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_millis(1), client.read(&mut buf)).await;
    buf.truncate(read.map_or(0, Result::unwrap));
    buf
}

#[tokio::test(start_paused = true)]
async fn a_deferred_response_is_sent_with_the_next_read() {
    let (mut client, mut client_stream) = connection_under_load();
    assert_eq!(respond(&mut client, &mut client_stream, GET).await, b"");
    assert_eq!(read(&mut client_stream, 1).await, None);
    assert_eq!(received(&mut client).await, RESPONSE);
    assert!(client_stream.next_request(client_limits()) && client_stream.flush_deferred().await);
    assert_eq!(received(&mut client).await, b"", "it was sent once");
}

#[tokio::test(start_paused = true)]
async fn a_deferred_response_is_sent_before_the_next_request_and_at_the_end_of_the_connection() {
    let (mut client, mut client_stream) = connection_under_load();
    assert_eq!(respond(&mut client, &mut client_stream, GET).await, b"");
    assert!(client_stream.next_request(client_limits()) && client_stream.flush_deferred().await);
    assert_eq!(received(&mut client).await, RESPONSE);

    assert_eq!(respond(&mut client, &mut client_stream, GET).await, b"");
    client_stream.shutdown().await.unwrap();
    assert_eq!(received(&mut client).await, RESPONSE);

    let (mut client, mut client_stream) = connection_under_load();
    assert_eq!(respond(&mut client, &mut client_stream, GET).await, b"");
    drop(client_stream);
    assert_eq!(received(&mut client).await, RESPONSE);
}

#[tokio::test(start_paused = true)]
async fn a_deferred_response_reaches_a_client_that_has_not_read_the_one_before() {
    let (mut client, mut client_stream) = connection_under_load();
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    // Leaves a few bytes of room in the pipe.
    client_stream.write_all(&[b'x'; 1000]).await.unwrap();
    assert!(client_stream.next_request(client_limits()) && client_stream.flush_deferred().await);
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(RESPONSE).await.unwrap();
    client_stream.flush().await.unwrap();
    drop(client_stream);
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert!(all.len() == 1000 + RESPONSE.len() && all.ends_with(RESPONSE), "{}", all.len());
}

#[tokio::test(start_paused = true)]
async fn a_response_is_not_deferred_while_its_client_may_still_be_sending() {
    let (mut client, mut client_stream) = connection_under_load();
    assert_eq!(respond(&mut client, &mut client_stream, POST).await, RESPONSE);
    // After a request in two pieces Pingora may not read again.
    let (mut client, mut client_stream) = connection_under_load();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    assert_eq!(respond(&mut client, &mut client_stream, b"ab").await, RESPONSE);
}

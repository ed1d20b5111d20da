//! A guarded connection over a pipe, on a clock that stands still until nobody has anything to do.

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
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn client_limits() -> ClientLimits {
    ClientLimits::from(&Limits { min_rate: 100, ..Limits::default() })
}

/// The client's end, and ours.
fn connection() -> (DuplexStream, ClientStream<DuplexStream>) {
    let (client, server) = duplex(1024);
    (client, ClientStream::http1(server, client_limits(), Arc::new(ListenerContext::default())))
}

/// One read, or nothing if it has to wait.
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
async fn a_head_passes_when_it_is_whole_and_in_any_room() {
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
async fn what_is_sent_ahead_waits_for_its_turn() {
    let (mut client, mut client_stream) = connection();
    client.write_all(&[GET, GET, GET].concat()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(GET));
        assert_eq!(read(&mut client_stream, 1).await, None);
        client_stream.write_all(ANSWER).await.unwrap();
        assert!(client_stream.next_request(client_limits()));
    }
    assert_eq!(read(&mut client_stream, 512).await, None);
    drop(client);
    assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(&b""[..]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_closed_its_side_gets_answers_that_come_at_once() {
    let (mut client, mut client_stream) = connection();
    client.write_all(&[GET, GET].concat()).await.unwrap();
    client.shutdown().await.unwrap();
    for _ in 0..2 {
        assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(GET));
        assert_eq!(read(&mut client_stream, 1).await, None, "it may still be there");
        client_stream.write_all(ANSWER).await.unwrap();
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
async fn small_bodies_behind_their_heads_are_not_one_slow_body() {
    let (mut client, mut client_stream) = connection();
    for _ in 0..100 {
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await.unwrap();
        assert!(read(&mut client_stream, 512).await.is_some());
        assert_eq!(read(&mut client_stream, 512).await, None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.write_all(b"ab").await.unwrap();
        assert_eq!(read(&mut client_stream, 512).await.as_deref(), Some(&b"ab"[..]));
        client_stream.write_all(ANSWER).await.unwrap();
        client_stream.flush().await.unwrap();
        client.read_exact(&mut [0; ANSWER.len()]).await.unwrap();
        assert!(client_stream.next_request(client_limits()));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_request_that_was_not_read_to_its_end() {
    let (mut client, mut client_stream) = connection();
    client.write_all(&[POST, GET].concat()).await.unwrap();
    assert!(!client_stream.next_request(client_limits()));
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(ANSWER).await.unwrap();
    assert!(!client_stream.next_request(client_limits()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_reaches_the_client_and_nobody_else() {
    let (mut client, mut client_stream) = connection();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n").await.unwrap();
    assert!(until_error(&mut client_stream).await.1);
    assert!(client_stream.write_all(ANSWER).await.is_err());
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_never_follows_an_answer_that_has_begun() {
    let (mut client, mut client_stream) = connection();
    client.write_all(POST).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    client_stream.write_all(ANSWER).await.unwrap();
    assert!(until_error(&mut client_stream).await.1);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("Content-Length: 0\r\n\r\n") && !answer.contains("408"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn the_deadlines_are_those_of_the_phase() {
    let near = |took: Duration, seconds: u64| took.as_secs() == seconds || took.as_secs() == seconds + 1;
    // Nothing on a new connection: the head's, without a word.
    let (_client, mut client_stream) = connection();
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 10) && !refused, "{took:?}");
    // A part of a head: the head's, from its first octet.
    let (mut client, mut client_stream) = connection();
    client.write_all(b"GET").await.unwrap();
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 10) && refused, "{took:?}");
    // Between requests: the idle one's, without a word.
    let (mut client, mut client_stream) = connection();
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(ANSWER).await.unwrap();
    assert!(client_stream.next_request(client_limits()));
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 60) && !refused, "{took:?}");
    // While an answer is awaited: none.
    let (mut client, mut client_stream) = connection();
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    let day = Duration::from_secs(86_400);
    assert!(tokio::time::timeout(day, until_error(&mut client_stream)).await.is_err());
    // In a body: half a minute, and 408.
    let (mut client, mut client_stream) = connection();
    client.write_all(POST).await.unwrap();
    let (took, refused) = until_error(&mut client_stream).await;
    assert!(near(took, 30) && refused, "{took:?}");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_ended_and_one_that_takes_slowly_is_not() {
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
async fn a_switch_of_protocols_opens_the_way_only_for_who_asked() {
    const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let (mut client, mut client_stream) = connection();
    client.write_all(asked).await.unwrap();
    assert_eq!(read(&mut client_stream, 512).await.unwrap(), asked);
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

/// As [`connection`], in a house where so many requests are in progress that answers leave together.
fn one_of_many() -> (DuplexStream, ClientStream<DuplexStream>) {
    let (client, server) = duplex(1024);
    let coalescer = Coalescer::new(&Arc::new(AtomicU64::new(1000)), 1);
    let context = ListenerContext { coalescer: Some(Arc::new(coalescer)), ..ListenerContext::default() };
    (client, ClientStream::http1(server, client_limits(), Arc::new(context)))
}

/// Answers a request of its own, as far as flushing goes. Out: what the client has by then.
async fn answered(
    client: &mut DuplexStream,
    client_stream: &mut ClientStream<DuplexStream>,
    request: &[u8],
) -> Vec<u8> {
    client.write_all(request).await.unwrap();
    read(client_stream, 512).await.unwrap();
    client_stream.write_all(ANSWER).await.unwrap();
    client_stream.flush().await.unwrap();
    arrived(client).await
}

async fn arrived(client: &mut DuplexStream) -> Vec<u8> {
    let mut buf = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_millis(1), client.read(&mut buf)).await;
    buf.truncate(read.map_or(0, Result::unwrap));
    buf
}

#[tokio::test(start_paused = true)]
async fn of_many_clients_an_answer_leaves_when_somebody_asks_whether_its_client_is_still_there() {
    let (mut client, mut client_stream) = one_of_many();
    assert_eq!(answered(&mut client, &mut client_stream, GET).await, b"");
    assert_eq!(read(&mut client_stream, 1).await, None);
    assert_eq!(arrived(&mut client).await, ANSWER);
    assert!(client_stream.next_request(client_limits()) && client_stream.flush_deferred().await);
    assert_eq!(arrived(&mut client).await, b"", "it left once");
}

#[tokio::test(start_paused = true)]
async fn of_many_clients_an_answer_leaves_before_the_next_request_and_at_the_end_of_the_connection() {
    let (mut client, mut client_stream) = one_of_many();
    assert_eq!(answered(&mut client, &mut client_stream, GET).await, b"");
    assert!(client_stream.next_request(client_limits()) && client_stream.flush_deferred().await);
    assert_eq!(arrived(&mut client).await, ANSWER);

    assert_eq!(answered(&mut client, &mut client_stream, GET).await, b"");
    client_stream.shutdown().await.unwrap();
    assert_eq!(arrived(&mut client).await, ANSWER);

    let (mut client, mut client_stream) = one_of_many();
    assert_eq!(answered(&mut client, &mut client_stream, GET).await, b"");
    drop(client_stream);
    assert_eq!(arrived(&mut client).await, ANSWER);
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_reaches_a_client_that_has_not_read_what_came_before() {
    let (mut client, mut client_stream) = one_of_many();
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    // All but a few octets of the pipe.
    client_stream.write_all(&[b'x'; 1000]).await.unwrap();
    assert!(client_stream.next_request(client_limits()) && client_stream.flush_deferred().await);
    client.write_all(GET).await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    client_stream.write_all(ANSWER).await.unwrap();
    client_stream.flush().await.unwrap();
    drop(client_stream);
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert!(all.len() == 1000 + ANSWER.len() && all.ends_with(ANSWER), "{}", all.len());
}

#[tokio::test(start_paused = true)]
async fn of_many_clients_one_that_still_sends_hears_at_once() {
    let (mut client, mut client_stream) = one_of_many();
    assert_eq!(answered(&mut client, &mut client_stream, POST).await, ANSWER);
    // The whole of a request in two pieces: nobody is sure to come back and read.
    let (mut client, mut client_stream) = one_of_many();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    read(&mut client_stream, 512).await.unwrap();
    assert_eq!(answered(&mut client, &mut client_stream, b"ab").await, ANSWER);
}

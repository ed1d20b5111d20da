//! The session of plain requests against Pingora's own: clients must get the same bytes.

use std::time::Duration;

use pingora::protocols::http::ServerSession;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::config::settings::Limits;
use crate::edge::raw_request::SerializedHead;
use crate::edge::{ClientLimits, ListenerContext};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What the proxy does with a session. A head is a status and field lines.
#[derive(Clone, Copy, Debug)]
enum Step {
    Head(u16, &'static [(&'static str, &'static str)]),
    Data(&'static str, bool),
    Tasks(&'static [Task]),
    Close,
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Head(u16, &'static [(&'static str, &'static str)], bool),
    Body(Option<&'static str>, bool),
    Done,
    Failed,
}

const FIVE: &[(&str, &str)] = &[("X-First", "1"), ("Content-Length", "5"), ("x-last", "2"), ("X-First", "3")];
const CHUNKED: &[(&str, &str)] = &[("Transfer-Encoding", "chunked")];

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Box<ResponseHeader> {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    Box::new(head)
}

fn task(task: Task) -> HttpTask {
    match task {
        Task::Head(status, fields, end) => HttpTask::Header(head(status, fields), end),
        Task::Body(data, end) => HttpTask::Body(data.map(Bytes::from), end),
        Task::Done => HttpTask::Done,
        Task::Failed => HttpTask::Failed(Error::new(ErrorType::ConnectionClosed).into_up()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// What the client gets before the connection may be dropped, and all that it gets. Without the value of `Date`.
    before_drop: String,
    all: String,
    /// Type and source of the first error.
    error: Option<String>,
    is_kept: bool,
    sent: usize,
    status: Option<u16>,
}

fn client_limits() -> ClientLimits {
    ClientLimits::from(&Limits { min_rate: 100, ..Limits::default() })
}

async fn connection(request: &str) -> (DuplexStream, Box<ClientStream<DuplexStream>>) {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(request.as_bytes()).await.unwrap();
    let context = Arc::new(ListenerContext::default());
    let mut stream = Box::new(ClientStream::http1(server, client_limits(), context));
    stream.record_heads(true);
    assert!(stream.wait_for_head().await);
    (client, stream)
}

fn plain_session(mut stream: Box<ClientStream<DuplexStream>>) -> (Arc<RawRequest>, ServerSession) {
    let (raw, head) = stream.take_plain_head().unwrap();
    let session = PlainSession::new(stream, Arc::clone(&raw), head);
    (raw, ServerSession::new_custom(Box::new(session)))
}

/// What has arrived until now.
async fn arrived(client: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_millis(1), client.read_to_end(&mut bytes)).await;
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.split_inclusive("\r\n");
    lines.map(|line| if line.starts_with("Date: ") { "Date\r\n" } else { line }).collect()
}

async fn step(session: &mut ServerSession, raw: Option<&Arc<RawRequest>>, step: Step) -> Result<()> {
    match step {
        Step::Head(status, fields) => session.write_response_header(head(status, fields)).await,
        Step::Data(data, end) => session.write_response_body(Bytes::from(data), end).await,
        Step::Tasks(tasks) => {
            session.response_duplex_vec(tasks.iter().map(|one| task(*one)).collect()).await.map(|_| ())
        }
        Step::Close => {
            session.set_keepalive(None);
            if let Some(raw) = raw {
                raw.close_after_response();
            }
            Ok(())
        }
    }
}

async fn outcome(is_plain: bool, request: &str, steps: &[Step]) -> Outcome {
    let (mut client, stream) = connection(request).await;
    let (raw, mut session) = if is_plain {
        let (raw, session) = plain_session(stream);
        (Some(raw), session)
    } else {
        let mut session = ServerSession::new_http1(stream);
        assert!(session.read_request().await.unwrap());
        session.set_keepalive(Some(0));
        (None, session)
    };
    let mut error = None;
    for each in steps {
        if let Err(e) = step(&mut session, raw.as_ref(), *each).await {
            error = Some(format!("{:?} {:?}", e.etype(), e.esource()));
            break;
        }
    }
    let (sent, status) =
        (session.body_bytes_sent(), session.response_written().map(|head| head.status.as_u16()));
    let kept = if error.is_none() {
        let reused = session.finish().await;
        error = reused.as_ref().err().map(|e| format!("{:?} {:?}", e.etype(), e.esource()));
        match &raw {
            Some(raw) => raw.take_stream(),
            None => reused.ok().flatten().map(|reused| reused.into_parts().0),
        }
    } else {
        drop(session);
        None
    };
    let before_drop = arrived(&mut client).await;
    let is_kept = kept.is_some();
    drop(kept);
    let all = before_drop.clone() + &arrived(&mut client).await;
    Outcome { before_drop, all, error, is_kept, sent, status }
}

#[tokio::test(start_paused = true)]
async fn clients_get_the_same_bytes_as_from_pingoras_session() {
    use Step::{Close, Data, Head, Tasks};
    let cases: &[(&str, &[Step])] = &[
        (GET, &[Head(200, FIVE), Data("abcde", true)]),
        (GET, &[Head(200, FIVE), Data("ab", false), Data("cde", false)]),
        (GET, &[Head(200, FIVE), Data("ab", false), Data("cde", true), Data("f", true)]),
        (GET, &[Head(200, FIVE), Data("abcdefgh", true)]),
        (GET, &[Head(200, FIVE), Data("abc", true)]),
        (GET, &[Head(200, FIVE), Data("abc", false)]),
        (GET, &[Head(200, FIVE)]),
        (GET, &[Head(200, &[("Content-Length", "0")])]),
        (GET, &[Head(503, &[("Date", "never"), ("Connection", "x"), ("content-length", "0")])]),
        (HEAD, &[Head(200, FIVE)]),
        (HEAD, &[Head(200, CHUNKED), Data("abc", true)]),
        (GET, &[Head(304, FIVE), Data("abc", true)]),
        (GET, &[Head(204, &[])]),
        (GET, &[Head(200, CHUNKED), Data("abcdefghijklmnopq", false), Data("", false), Data("r", true)]),
        (GET, &[Head(200, CHUNKED), Data("abc", false), Data("", true)]),
        (GET, &[Head(200, CHUNKED), Data("", true)]),
        (GET, &[Head(200, CHUNKED)]),
        (GET, &[Head(103, &[("Link", "</a.css>")]), Head(103, &[]), Head(200, FIVE), Data("abcde", true)]),
        (GET, &[Head(200, FIVE), Head(500, &[]), Data("abcde", true)]),
        (CLOSE, &[Head(200, FIVE), Data("abcde", true)]),
        (GET, &[Close, Head(200, FIVE), Data("abcde", true)]),
        (GET, &[Head(200, FIVE), Close, Data("abcde", true)]),
        (GET, &[Tasks(&[Task::Head(200, FIVE, false), Task::Body(Some("abcde"), true)])]),
        (
            GET,
            &[Tasks(&[Task::Head(200, FIVE, false)]), Tasks(&[Task::Body(Some("abcde"), false), Task::Done])],
        ),
        (GET, &[Tasks(&[Task::Head(204, &[], true)])]),
        (GET, &[Tasks(&[Task::Head(200, FIVE, false), Task::Body(Some("abc"), false), Task::Done])]),
        (GET, &[Tasks(&[Task::Head(200, FIVE, false), Task::Body(Some("abc"), false), Task::Failed])]),
        (GET, &[Tasks(&[Task::Head(200, FIVE, false)]), Tasks(&[Task::Failed])]),
        (
            GET,
            &[
                Tasks(&[Task::Head(200, CHUNKED, false)]),
                Tasks(&[Task::Body(Some("a"), false), Task::Failed]),
            ],
        ),
        (GET, &[Tasks(&[Task::Failed])]),
        (
            GET,
            &[Tasks(&[
                Task::Head(103, &[], false),
                Task::Head(200, FIVE, false),
                Task::Body(Some("abcde"), true),
            ])],
        ),
        (HEAD, &[Tasks(&[Task::Head(200, FIVE, true)])]),
    ];
    for (request, steps) in cases {
        let (ours, pingoras) = (outcome(true, request, steps).await, outcome(false, request, steps).await);
        assert_eq!(ours, pingoras, "{request} {steps:?}");
        assert_eq!(ours.all.contains("Date\r\nConnection: "), ours.status.is_some(), "{steps:?}");
    }
}

/// Pingora makes one chunk of the pieces of one batch.
#[tokio::test(start_paused = true)]
async fn pieces_of_one_batch_are_one_chunk() {
    const BATCH: &[Task] = &[
        Task::Head(200, CHUNKED, false),
        Task::Body(Some("abc"), false),
        Task::Body(None, false),
        Task::Body(Some("defghijklmnop"), false),
        Task::Body(Some("q"), true),
    ];
    let steps = [Step::Tasks(BATCH)];
    let ours = outcome(true, GET, &steps).await;
    assert_eq!(ours, outcome(false, GET, &steps).await);
    assert!(
        ours.all.ends_with("\r\n\r\n11\r\nabcdefghijklmnopq\r\n0\r\n\r\n") && ours.is_kept && ours.sent == 17
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_with_the_connection_closes_it() {
    let ours = outcome(true, GET, &[Step::Head(200, &[]), Step::Data("abc", true)]).await;
    assert!(ours.all.contains("Connection: close\r\n") && ours.all.ends_with("\r\n\r\nabc"), "{ours:?}");
    assert!(!ours.is_kept && ours.error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_head_waits_for_the_first_bytes_of_the_body_or_until_the_client_is_watched() {
    let (mut client, stream) = connection(GET).await;
    let (_, mut session) = plain_session(stream);
    session.write_response_header(head(200, CHUNKED)).await.unwrap();
    assert_eq!(arrived(&mut client).await, "");
    session.write_response_body(Bytes::from("abc"), false).await.unwrap();
    assert!(arrived(&mut client).await.ends_with("\r\n\r\n3\r\nabc\r\n"));
    let (mut client, stream) = connection(GET).await;
    let (_, mut session) = plain_session(stream);
    session.write_response_header(head(200, CHUNKED)).await.unwrap();
    let watched = tokio::time::timeout(Duration::from_millis(1), session.read_body_or_idle(true)).await;
    assert!(watched.is_err(), "the client is there");
    assert!(arrived(&mut client).await.ends_with("\r\n\r\n"));
    session.write_response_body(Bytes::from("abc"), true).await.unwrap();
    assert_eq!(arrived(&mut client).await, "3\r\nabc\r\n0\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_noticed_as_by_pingoras_session() {
    for writes_head in [false, true] {
        let mut errors = Vec::new();
        for is_plain in [true, false] {
            let (client, stream) = connection(GET).await;
            let mut session = if is_plain {
                plain_session(stream).1
            } else {
                let mut session = ServerSession::new_http1(stream);
                assert!(session.read_request().await.unwrap());
                session
            };
            assert!(session.is_body_done() && session.is_body_empty());
            assert!(session.read_request_body().await.unwrap().is_none());
            if writes_head {
                session.write_response_header(head(200, FIVE)).await.unwrap();
            }
            drop(client);
            for _ in 0..2 {
                let e = session.read_body_or_idle(true).await.unwrap_err();
                errors.push(format!("{:?} {:?} {:?}", e.etype(), e.esource(), e.context));
            }
        }
        let (ours, pingoras) = errors.split_at(2);
        assert_eq!(ours, pingoras);
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_served_one_after_the_other() {
    let (mut client, mut stream) = connection(&[GET, HEAD, CLOSE].concat()).await;
    for is_last in [false, false, true] {
        let (raw, mut session) = plain_session(stream);
        let idle = tokio::time::timeout(Duration::from_millis(1), session.read_body_or_idle(true)).await;
        assert!(idle.is_err(), "the next request is no body of this one");
        session.write_response_header(head(200, &[("Content-Length", "0")])).await.unwrap();
        session.finish_body().await.unwrap();
        assert!(session.finish().await.unwrap().is_none());
        assert!(arrived(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let returned = raw.take_stream();
        assert_eq!(returned.is_none(), is_last);
        let Some(returned) = returned else { return };
        stream = returned.into_any().downcast::<ClientStream<DuplexStream>>().unwrap();
        assert!(stream.next_request(client_limits()) && stream.wait_for_head().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_bytes_already_is_sent_as_it_is() {
    for (has_date, closes, fields) in
        [(true, false, "Connection: keep-alive"), (false, true, "Date\r\nConnection: close")]
    {
        let (mut client, stream) = connection(GET).await;
        let (raw, mut session) = plain_session(stream);
        if closes {
            raw.close_after_response();
        }
        let head = ResponseHeader::build_no_case(404, Some(0)).unwrap();
        let bytes = b"HTTP/1.1 404 Nothing\r\nx: Y\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        raw.set_response_head(SerializedHead { bytes, framing: ResponseFraming::Chunked, has_date });
        session.write_response_header(Box::new(head)).await.unwrap();
        session.write_response_body(Bytes::from("abc"), true).await.unwrap();
        session.finish().await.unwrap();
        let wanted = format!(
            "HTTP/1.1 404 Nothing\r\nx: Y\r\nTransfer-Encoding: chunked\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        assert_eq!(arrived(&mut client).await, wanted);
        assert_eq!(raw.take_stream().is_none(), closes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_response_is_incomplete_is_not_returned() {
    let (mut client, stream) = connection(GET).await;
    let (raw, mut session) = plain_session(stream);
    session.write_response_header(head(200, FIVE)).await.unwrap();
    session.write_response_body(Bytes::from("abc"), false).await.unwrap();
    assert!(session.finish_body().await.is_err());
    assert!(session.finish().await.is_err());
    assert!(raw.take_stream().is_none());
    assert!(arrived(&mut client).await.ends_with("\r\n\r\nabc"));
    let (mut client, stream) = connection(GET).await;
    let (raw, mut session) = plain_session(stream);
    session.write_response_header(head(200, CHUNKED)).await.unwrap();
    session.shutdown().await;
    drop(session);
    assert!(raw.take_stream().is_none());
    assert!(
        arrived(&mut client)
            .await
            .ends_with("Transfer-Encoding: chunked\r\nDate\r\nConnection: keep-alive\r\n\r\n")
    );
}

#[test]
fn the_state_of_an_idle_connection_stays_in_its_size_class_of_the_allocator() {
    assert!(size_of::<ClientStream<crate::edge::tcp::ClientTcp>>() <= 640);
}

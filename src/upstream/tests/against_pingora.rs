//! The same bytes, read by this reader and by Pingora's client: same heads, same content, same ends.

use bytes::BytesMut;
use http::Method;
use pingora::protocols::http::v1::client::HttpSession;
use pingora_http::RequestHeader;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::nearly_responses;
use super::raw_response_head::RawResponseHead;
use super::response_body::{BodyDecoder, BodyFraming, BodyPiece};

/// What a client made of the first response: its head as text, its content, and whether the body is complete.
#[derive(Debug, PartialEq)]
struct Seen {
    head: Option<String>,
    body: Vec<u8>,
    complete: bool,
}

const NO_HEAD: Seen = Seen { head: None, body: Vec::new(), complete: false };

/// Lines by name: a header map changes their order when one is removed.
fn text(head: &pingora_http::ResponseHeader) -> String {
    let mut lines: Vec<String> = head
        .case_header_iter()
        .map(|(name, value)| {
            format!("{}: {}\r\n", name.as_slice().escape_ascii(), value.as_bytes().escape_ascii())
        })
        .collect();
    lines.sort_by_key(|line| line.split(':').next().map(str::to_ascii_lowercase));
    let (version, status, reason) = (head.version, head.status.as_u16(), head.get_reason_phrase());
    format!("{version:?} {status} {reason:?}\r\n{}", lines.concat())
}

/// Pingora's client, which gets the bytes at once and then the end of the connection.
async fn by_pingora(bytes: &[u8], method: Method) -> Seen {
    let (client, mut server) = tokio::io::duplex(64 * 1024);
    let mut session = HttpSession::new(Box::new(client));
    let request = RequestHeader::build(method, b"/", None).unwrap();
    let written = session.write_request_header(Box::new(request)).await.unwrap();
    server.read_exact(&mut vec![0; written]).await.unwrap();
    server.write_all(bytes).await.unwrap();
    drop(server);
    if session.read_response().await.is_err() {
        return NO_HEAD;
    }
    let head = Some(text(session.resp_header().unwrap()));
    if session.resp_header().unwrap().status.is_informational() {
        return Seen { head, body: Vec::new(), complete: true };
    }
    let mut body = Vec::new();
    loop {
        match session.read_body_bytes().await {
            Ok(Some(data)) => body.extend_from_slice(&data),
            Ok(None) => return Seen { head, body, complete: true },
            Err(_) => return Seen { head, body, complete: false },
        }
    }
}

fn by_this_reader(bytes: &[u8], method: &Method) -> Seen {
    let mut received = BytesMut::from(bytes);
    let Ok(Some(head)) = RawResponseHead::parse(&mut received) else { return NO_HEAD };
    let mut decoder = BodyDecoder::new(BodyFraming::of(&head, *method == Method::HEAD));
    let head = Some(text(&head.to_pingora().unwrap()));
    let mut body = Vec::new();
    let complete = loop {
        match decoder.next(&mut received) {
            Ok(BodyPiece::Data(data)) => body.extend_from_slice(&data),
            Ok(BodyPiece::End) => break true,
            Ok(BodyPiece::NeedMore) => break decoder.end_of_connection().is_ok(),
            Err(_) => break false,
        }
    };
    Seen { head, body, complete }
}

/// A size line without a number is the last chunk for Pingora, and malformed here.
fn has_no_size(body: &[u8]) -> bool {
    !body.first().is_some_and(u8::is_ascii_hexdigit)
        || body.windows(3).any(|at| at[..2] == *b"\r\n" && !at[2].is_ascii_hexdigit())
}

proptest! {
    #[test]
    fn both_clients_see_the_same_response(bytes in nearly_responses(), is_head: bool) {
        let method = if is_head { Method::HEAD } else { Method::GET };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pingora = runtime.block_on(by_pingora(&bytes, method.clone()));
        let ours = by_this_reader(&bytes, &method);
        if ours.complete || !pingora.complete || !has_no_size(&bytes) {
            prop_assert_eq!(&ours.head, &pingora.head);
            prop_assert_eq!(ours.complete, pingora.complete);
            if ours.complete {
                prop_assert_eq!(ours.body, pingora.body);
            }
        }
    }
}

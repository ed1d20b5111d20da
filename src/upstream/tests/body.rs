//! Bodies of responses: where they end, and that pieces do not matter.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::raw_response_head::RawResponseHead;
use super::response_body::{
    BodyDecoder, BodyFraming, BodyPiece, MalformedBody, TruncatedBody, keeps_connection,
};
use super::responses::{BodyEnd, BodyError, read};

fn head(text: &str) -> RawResponseHead {
    let mut received = BytesMut::from(format!("{text}\r\n\r\n").as_bytes());
    RawResponseHead::parse(&mut received).unwrap().unwrap()
}

fn framing(lines: &str) -> BodyFraming {
    BodyFraming::of(&head(&format!("HTTP/1.1 200 OK{lines}")), false)
}

/// The content of chunks, and what follows them.
fn chunks(text: &str) -> Result<(String, String), BodyError> {
    let mut all = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    all.extend_from_slice(text.as_bytes());
    let mut out = read(&all, false, || usize::MAX);
    assert_eq!(out, read(&all, false, || 1));
    let response = out.responses.swap_remove(0);
    let rest = String::from_utf8(out.rest).unwrap();
    response.end.map(|_| (String::from_utf8(response.body).unwrap(), rest))
}

#[test]
fn the_framing_follows_from_the_head_and_the_method() {
    assert_eq!(framing("\r\nContent-Length: 5"), BodyFraming::Length(5));
    assert_eq!(framing("\r\nContent-Length: 5, 5\r\nContent-Length: 5"), BodyFraming::Length(5));
    assert_eq!(framing("\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"), BodyFraming::Chunked);
    assert_eq!(framing("\r\nTransfer-Encoding: x, Chunked "), BodyFraming::Chunked);
    assert_eq!(framing("\r\nTransfer-Encoding: chunked,"), BodyFraming::UntilClose);
    assert_eq!(framing("\r\nTransfer-Encoding: gzip"), BodyFraming::UntilClose);
    assert_eq!(framing(""), BodyFraming::UntilClose);
    for status in ["100 Continue", "103 Early Hints", "204 No Content", "304 Not Modified"] {
        let head = head(&format!("HTTP/1.1 {status}\r\nContent-Length: 5"));
        assert_eq!(BodyFraming::of(&head, false), BodyFraming::None, "{status}");
    }
    let head = head("HTTP/1.1 200 OK\r\nContent-Length: 5");
    assert_eq!(BodyFraming::of(&head, true), BodyFraming::None);
    for ended in [BodyFraming::None, BodyFraming::Length(0)] {
        let mut body = BodyDecoder::new(ended);
        assert!(body.is_at_end());
        let mut next = BytesMut::from("HTTP/1.1");
        assert_eq!(body.next(&mut next), Ok(BodyPiece::End));
        assert_eq!(next, "HTTP/1.1");
    }
}

#[test]
fn a_connection_is_kept_as_the_version_and_the_head_say() {
    for (text, kept) in [
        ("HTTP/1.1 200 OK", true),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive", true),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close", false),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close", false),
        ("HTTP/1.1 101 Switching Protocols", false),
        ("HTTP/1.0 200 OK", false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive", true),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nTransfer-Encoding: chunked", false),
    ] {
        assert_eq!(keeps_connection(&head(text)), kept, "{text}");
    }
}

#[test]
fn chunks_end_exactly_after_their_trailers() {
    let content = |body: &str, rest: &str| Ok((body.to_owned(), rest.to_owned()));
    assert_eq!(chunks("0\r\n\r\n"), content("", ""));
    assert_eq!(chunks("5\r\nabcde\r\n0\r\n\r\nHTT"), content("abcde", "HTT"));
    assert_eq!(
        chunks("A;x=\"\n\"\r\n0123456789\r\n00001 \r\n\n\r\n0;last\r\n\r\n"),
        content("0123456789\n", "")
    );
    assert_eq!(chunks("1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\nH"), content("a", "H"));
    let truncated = Err(BodyError::Truncated(TruncatedBody));
    for text in
        ["", "5", "5\r\n", "5\r\nabcde", "5\r\nabcde\r\n", "1\r\na\r\n0\r\n", "0\r\n\r", "0\r\nA: b\r\n"]
    {
        assert_eq!(chunks(text), truncated, "{text}");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let malformed = |cause| Err(BodyError::Malformed(cause));
    for text in [
        "\r\n",
        "\n",
        " 5\r\n",
        ";\r\n",
        "x\r\n",
        "5\n",
        "5\rabcde",
        "5 5\r\n",
        "-5\r\n",
        "0x5\r\n",
        "5_\r\n",
        "ffffffffffffffff\r\n",
        "8000000000000000\r\n",
        "00000000000000000\r\n",
    ] {
        assert_eq!(chunks(text), malformed(MalformedBody::ChunkSize), "{text}");
    }
    for text in ["5\r\nabcdef", "5\r\nabcde\n", "5\r\nabcde\r0", "1\r\na0\r\n\r\n"] {
        assert_eq!(chunks(text), malformed(MalformedBody::ChunkEnd), "{text}");
    }
    for text in ["0\r\n\n", "0\r\n\rx", "0\r\nA: b\n\r\n", "0\r\nA: b\rc\r\n\r\n", "0\r\nA: b\r\n\n"] {
        assert_eq!(chunks(text), malformed(MalformedBody::Trailers), "{text}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let extended = |n: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(n));
    assert!(chunks(&extended(8 * 1024 - 4)).is_ok());
    let refused = Err(BodyError::Malformed(MalformedBody::ChunkSize));
    assert_eq!(chunks(&extended(8 * 1024 - 3)), refused);
    assert_eq!(chunks(&format!("1{}", " ".repeat(8 * 1024))), refused);
    let trailers = |n: usize| format!("0\r\n{}: b\r\n\r\n", "x".repeat(n));
    assert!(chunks(&trailers(64 * 1024 - 3)).is_ok());
    assert_eq!(chunks(&trailers(64 * 1024)), Err(BodyError::Malformed(MalformedBody::Trailers)));
    let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(11_000));
    assert_eq!(chunks(&many), Err(BodyError::Malformed(MalformedBody::Trailers)));
}

#[test]
fn content_is_not_copied_and_the_end_is_known_with_the_last_of_it() {
    let mut received = BytesMut::from("5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\nHTTP");
    let content = received.as_ptr().addr() + 3;
    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    let Ok(BodyPiece::Data(data)) = body.next(&mut received) else { panic!("no content") };
    assert_eq!((&data[..], data.as_ptr().addr()), (&b"abcde"[..], content));
    assert!(!body.is_at_end());
    assert_eq!(body.next(&mut received), Ok(BodyPiece::Data("fgh".into())));
    assert!(body.is_at_end());
    assert_eq!(received, "HTTP");
    assert_eq!(body.next(&mut received), Ok(BodyPiece::End));
    assert_eq!(body.end_of_connection(), Ok(()));
}

#[test]
fn content_before_a_malformed_chunk_is_returned_first() {
    let mut received = BytesMut::from("1\r\nax");
    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    assert_eq!(body.next(&mut received), Ok(BodyPiece::Data("a".into())));
    assert_eq!(body.next(&mut received), Err(MalformedBody::ChunkEnd));
    assert_eq!(body.end_of_connection(), Err(TruncatedBody));
}

#[test]
fn only_a_body_without_a_length_may_end_with_the_connection() {
    let out = read(b"HTTP/1.0 200 OK\r\n\r\nabc", false, || 1);
    assert_eq!((&out.responses[0].body[..], &out.responses[0].end), (&b"abc"[..], &Ok(BodyEnd::Connection)));
    let out = read(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nabc", false, || 1);
    assert_eq!(out.responses[0].end, Err(BodyError::Truncated(TruncatedBody)));
}

/// Bytes that often resemble responses.
pub(super) fn nearly_responses() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 \r\n", "HTTP/1.1 103 Early Hints\r\n", "HTTP/1.1 304 Not Modified\r\n",
            "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Server: a\r\n", "X: y \r\n", "Link:\r\n b\r\n", "\r\n",
            "\r\n\r\n", "\r", "\n", " ", ":", ";", "5", "0\r\n\r\n", "0\r\n", "5\r\nabcde\r\n", "5;a=\"b\"\r\nfghij\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "\0",
            ",", "abcdefgh", "A: b\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// A response with chunks that is complete.
fn chunked_response() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let extension = prop::sample::select(vec!["", " ", ";a", ";a=\"b\n\""]);
    let chunk = (vec(any::<u8>(), 1..40), extension, "0{0,3}");
    let trailers = vec("[A-Z][a-z]{5}: [ -~]{0,10}\r\n", 0..3);
    (vec(chunk, 0..4), trailers).prop_map(|(chunks, trailers)| {
        let mut all = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut content = Vec::new();
        for (data, extension, zeros) in chunks {
            all.extend_from_slice(format!("{zeros}{:X}{extension}\r\n", data.len()).as_bytes());
            all.extend_from_slice(&data);
            all.extend_from_slice(b"\r\n");
            content.extend_from_slice(&data);
        }
        all.extend_from_slice(format!("0\r\n{}\r\n", trailers.concat()).as_bytes());
        (all, content)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_alike_in_any_pieces(
        bytes in prop_oneof![nearly_responses(), vec(any::<u8>(), 0..100)],
        is_head: bool,
        sizes in vec(1usize..20, 1..20),
    ) {
        let whole = read(&bytes, is_head, || usize::MAX);
        let mut sizes = sizes.iter().cycle();
        let pieces = read(&bytes, is_head, || *sizes.next().unwrap());
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn every_valid_chunked_body_is_read_to_its_end((all, content) in chunked_response(), cut: prop::sample::Index) {
        let mut out = read(&all, false, || 7);
        prop_assert!(out.rest.is_empty() && out.malformed_head.is_none());
        let response = out.responses.swap_remove(0);
        prop_assert_eq!(response.body, content);
        prop_assert_eq!(response.end, Ok(BodyEnd::Framing));
        // No beginning of it is complete.
        let out = read(&all[..cut.index(all.len())], false, || usize::MAX);
        prop_assert!(out.responses.iter().all(|response| response.end.is_err()));
    }
}

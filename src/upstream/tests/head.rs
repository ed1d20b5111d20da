//! Heads of responses as they come: what is refused, and that changes reach the client.

use bytes::BytesMut;
use http::{HeaderName, StatusCode, Version};

use super::raw_response_head::{MalformedHead, RawResponseHead};
use super::response_head::{ResponseField as Field, ResponseHead};

const DOMINO: &str = "HTTP/1.1 200 OK\r\nServer: Lotus-Domino\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Connection: close\r\nContent-Type: text/html; charset=UTF-8\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\
    X-Custom: x\r\nContent-Length: 5\r\n\r\n";

fn parsed(text: &str) -> RawResponseHead {
    let mut received = BytesMut::from(format!("{text}rest").as_bytes());
    let head = RawResponseHead::parse(&mut received).unwrap().unwrap();
    assert_eq!(received, "rest");
    head
}

fn refused(text: &str) -> MalformedHead {
    RawResponseHead::parse(&mut BytesMut::from(text.as_bytes())).unwrap_err()
}

fn written(head: &RawResponseHead) -> String {
    let text = super::responses::written(head);
    String::from_utf8(text).unwrap()
}

fn values(head: &RawResponseHead, field: Field) -> Vec<String> {
    head.all(field).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

#[test]
fn an_unchanged_head_is_written_as_it_came() {
    let head = parsed(DOMINO);
    assert_eq!(written(&head), DOMINO);
    assert_eq!((head.status(), head.version()), (StatusCode::OK, Version::HTTP_11));
    assert_eq!(values(&head, Field::SetCookie), ["a=1", "b=2"]);
    assert_eq!(head.first(Field::SetCookie), Some(&b"a=1"[..]));
    assert_eq!(head.first(Field::Location), None);
    assert!(head.has(Field::Server) && !head.has(Field::Link));
}

#[test]
fn the_names_keep_their_case_for_pingora_too() {
    let mut head = parsed("HTTP/1.1 404 Nicht da\r\nx-CUSTOM: 1\r\nETag: \"a\"\r\n\r\n");
    head.append(Field::SetCookie, "c=3").unwrap();
    let pingora = head.to_pingora().unwrap();
    assert_eq!(pingora.get_reason_phrase(), Some("Nicht da"));
    let mut names: Vec<_> = pingora.case_header_iter().map(|(name, _)| name.as_slice().to_vec()).collect();
    names.sort();
    assert_eq!(names, [&b"ETag"[..], b"Set-Cookie", b"x-CUSTOM"]);
    assert_eq!(pingora.headers["set-cookie"], "c=3");
}

#[test]
fn changes_replace_lines_where_they_stood_and_additions_follow() {
    let mut head = parsed(DOMINO);
    head.remove(Field::Server);
    head.remove(Field::Link);
    head.remove_named(&HeaderName::from_static("x-custom"));
    head.remove_named(&HeaderName::from_static("connection"));
    head.set(Field::Date, "today").unwrap();
    head.set(Field::Location, String::from("/x")).unwrap();
    head.append(Field::SetCookie, b"c=3".to_vec()).unwrap();
    head.replace_each(Field::SetCookie, [None, Some(b"B=2".to_vec())]).unwrap();
    head.set_version(Version::HTTP_10);
    assert_eq!(
        written(&head),
        "HTTP/1.0 200 OK\r\nDate: today\r\nContent-Type: text/html; charset=UTF-8\r\nSet-Cookie: a=1\r\n\
         set-cookie: B=2\r\nContent-Length: 5\r\nLocation: /x\r\nSet-Cookie: c=3\r\n\r\n"
    );
    head.set(Field::SetCookie, "only").unwrap();
    assert_eq!(values(&head, Field::SetCookie), ["only"]);
    assert!(written(&head).contains("\r\nSet-Cookie: only\r\n"));
    head.set(Field::Location, "").unwrap();
    assert_eq!(head.first(Field::Location), Some(&b""[..]));
    assert!(written(&head).contains("\r\nLocation: \r\n"));
}

#[test]
fn an_invalid_value_changes_nothing() {
    let mut head = parsed(DOMINO);
    for value in [&b"a\r\nb: c"[..], b"a\nb", b"\0", b"\x7f"] {
        assert!(head.set(Field::Date, value).is_err());
        assert!(head.append(Field::Link, value).is_err());
        head.replace_each(Field::SetCookie, [Some(value.to_vec())]).unwrap();
    }
    assert_eq!(written(&head), DOMINO);
    head.set(Field::Link, "</caf\u{e9}>;\trel=preload").unwrap();
    assert!(written(&head).contains("caf\u{e9}"));
}

#[test]
fn unusual_lines_are_read_as_pingora_reads_them() {
    let head = parsed("\r\nHTTP/1.0 200\nServer : a \t\r\nLink:\r\n b,\r\n\t c\r\nRefresh:\r\nX:y\n\r\n");
    assert_eq!(head.version(), Version::HTTP_10);
    assert_eq!(written(&head), "HTTP/1.0 200 \r\nServer: a\r\nLink: b, c\r\nRefresh: \r\nX: y\r\n\r\n");
    let head = parsed("HTTP/1.1 200 Gr\u{fc}n\r\nA: b\r\n\r\n");
    assert_eq!(written(&head), "HTTP/1.1 200 \r\nA: b\r\n\r\n");
    assert_eq!(written(&parsed("HTTP/1.1 204 No Content\r\n\r\n")), "HTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn malformed_heads_are_refused() {
    for text in
        ["HTTP/2 200 OK\r\n\r\n", "<html>", "HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n"]
    {
        assert!(matches!(refused(text), MalformedHead::Syntax(_)), "{text}");
    }
    for text in ["A: b\rc\r\n", " A: b\r\n", "A: \0\r\n", ": b\r\n", "A\r\n", "\u{e9}: b\r\n"] {
        let text = format!("HTTP/1.1 200 OK\r\n{text}\r\n");
        assert!(matches!(refused(&text), MalformedHead::Syntax(_)), "{text}");
    }
    assert_eq!(refused("HTTP/1.1 099 OK\r\n\r\n"), MalformedHead::StatusCode);
    let many = |n: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(n));
    assert_eq!(parsed(&many(256)).lines().count(), 256);
    assert_eq!(refused(&many(257)), MalformedHead::Syntax(httparse::Error::TooManyHeaders));
    let named = |n: usize| format!("HTTP/1.1 200 OK\r\n{}: b\r\n\r\n", "a".repeat(n));
    assert_eq!(parsed(&named(65_535)).lines().count(), 1);
    assert_eq!(refused(&named(65_536)), MalformedHead::FieldName);
}

#[test]
fn an_incomplete_head_is_bounded() {
    let unfinished =
        |n: usize| BytesMut::from(format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(n - 20)).as_bytes());
    assert!(RawResponseHead::parse(&mut unfinished(1_048_575)).unwrap().is_none());
    let too_large = RawResponseHead::parse(&mut unfinished(1_048_576)).unwrap_err();
    assert_eq!(too_large, MalformedHead::TooLarge);
}

#[test]
fn lengths_must_agree_unless_a_coding_overrides_them() {
    let with = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    let same = parsed(&with("Content-Length: 5, 5\r\nContent-Length: 05\r\n"));
    assert_eq!(values(&same, Field::ContentLength), ["5, 5", "05"]);
    for lines in ["5\r\nContent-Length: 6", "5,", "", "+5", "-1", "x", "18446744073709551616"] {
        let text = with(&format!("Content-Length: {lines}\r\n"));
        assert_eq!(refused(&text), MalformedHead::ContentLength, "{lines}");
        let head = parsed(&text.replace("\r\n\r\n", "\r\nTransfer-Encoding: x\r\n\r\n"));
        assert!(!head.has(Field::ContentLength), "{lines}");
    }
}

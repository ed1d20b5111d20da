//! Reads the responses of a connection from pieces, as the fast path does. The fuzz target includes this file.

use super::raw_response_head::{MalformedHead, RawResponseHead};
use super::response_body::{BodyDecoder, BodyFraming, BodyPiece, MalformedBody, TruncatedBody};
use super::response_head::ResponseHead;
use bytes::BytesMut;

/// What the bytes of a connection were read as.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReadResponses {
    pub responses: Vec<ReadResponse>,
    pub malformed_head: Option<MalformedHead>,
    /// Bytes of a head that is not complete.
    pub rest: Vec<u8>,
}

/// One response, up to its end or to that of the connection.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadResponse {
    /// As it is written.
    pub head: Vec<u8>,
    pub framing: BodyFraming,
    pub body: Vec<u8>,
    pub end: Result<BodyEnd, BodyError>,
}

/// Where a body ended.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyEnd {
    Framing,
    Connection,
}

/// Why a body has no end.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyError {
    Malformed(MalformedBody),
    Truncated(TruncatedBody),
}

/// Reads all responses from pieces of the sizes that `size` returns (at least 1), and then the end of the connection.
pub fn read(bytes: &[u8], request_is_head: bool, mut size: impl FnMut() -> usize) -> ReadResponses {
    let mut out = ReadResponses::default();
    let mut received = BytesMut::new();
    let mut rest = bytes;
    let mut open: Option<(ReadResponse, BodyDecoder)> = None;
    loop {
        while take_one(&mut out, &mut open, &mut received, request_is_head) {}
        let is_broken = open.is_none() && out.responses.last().is_some_and(|response| response.end.is_err());
        if rest.is_empty() || is_broken || out.malformed_head.is_some() {
            break;
        }
        let (piece, later) = rest.split_at(size().clamp(1, rest.len()));
        received.extend_from_slice(piece);
        rest = later;
    }
    if let Some((mut response, mut body)) = open {
        assert!(received.is_empty() || !matches!(response.framing, BodyFraming::UntilClose));
        response.end = body.end_of_connection().map(|()| BodyEnd::Connection).map_err(BodyError::Truncated);
        assert_eq!(body.is_at_end(), response.end.is_ok());
        out.responses.push(response);
    } else if out.malformed_head.is_none() && out.responses.last().is_none_or(|response| response.end.is_ok())
    {
        out.rest = received.to_vec();
    }
    out
}

/// Takes one head or one piece of a body. False if there is nothing to take.
fn take_one(
    out: &mut ReadResponses,
    open: &mut Option<(ReadResponse, BodyDecoder)>,
    received: &mut BytesMut,
    request_is_head: bool,
) -> bool {
    let Some((response, body)) = open else {
        let available = received.len();
        return match RawResponseHead::parse(received) {
            _ if out.responses.last().is_some_and(|response| response.end.is_err()) => false,
            Ok(None) => {
                assert_eq!(received.len(), available);
                false
            }
            Err(malformed) => {
                out.malformed_head = Some(malformed);
                false
            }
            Ok(Some(head)) => {
                assert!(received.len() < available);
                let framing = BodyFraming::of(&head, request_is_head);
                let (head, body) = (written(&head), Vec::new());
                let response = ReadResponse { head, framing, body, end: Ok(BodyEnd::Framing) };
                *open = Some((response, BodyDecoder::new(framing)));
                true
            }
        };
    };
    let was_at_end = body.is_at_end();
    match body.next(received) {
        Ok(BodyPiece::Data(data)) => {
            assert!(!data.is_empty() && !was_at_end);
            response.body.extend_from_slice(&data);
            match response.framing {
                BodyFraming::None => panic!("content without a body"),
                BodyFraming::Length(length) => assert!(response.body.len() as u64 <= length),
                BodyFraming::Chunked | BodyFraming::UntilClose => {}
            }
            true
        }
        Ok(BodyPiece::NeedMore) => {
            assert!(!body.is_at_end());
            false
        }
        Ok(BodyPiece::End) => {
            assert!(body.is_at_end());
            if let BodyFraming::Length(length) = response.framing {
                assert_eq!(response.body.len() as u64, length);
            }
            out.responses.extend(open.take().map(|(response, _)| response));
            true
        }
        Err(malformed) => {
            assert_eq!(body.next(received), Err(malformed), "the error is final");
            response.end = Err(BodyError::Malformed(malformed));
            out.responses.extend(open.take().map(|(response, _)| response));
            false
        }
    }
}

/// Writes a head, and asserts that it is read as the same head: as bytes and in Pingora's header map.
pub fn written(head: &RawResponseHead) -> Vec<u8> {
    let mut text = Vec::new();
    head.write_to(&mut text);
    let mut received = BytesMut::from(&text[..]);
    let again = RawResponseHead::parse(&mut received).expect("a written head").expect("a complete head");
    assert!(received.is_empty());
    let lines = |head: &RawResponseHead| -> Vec<(Vec<u8>, Vec<u8>)> {
        head.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    assert_eq!(lines(head), lines(&again));
    assert_eq!((head.status(), head.version()), (again.status(), again.version()));
    assert_eq!(head.fields(), again.fields());
    let mut text_again = Vec::new();
    again.write_to(&mut text_again);
    assert_eq!(text, text_again);
    let pingora = head.to_pingora().expect("Pingora takes the head");
    assert_eq!((pingora.status, pingora.version), (head.status(), head.version()));
    assert_eq!(pingora.headers.len(), head.lines().count());
    assert_eq!(pingora.fields(), head.fields());
    for (name, value) in head.lines() {
        let name = std::str::from_utf8(name).expect("a name is ASCII");
        assert!(pingora.headers.get_all(name).iter().any(|other| other.as_bytes() == value), "{name}");
    }
    text
}

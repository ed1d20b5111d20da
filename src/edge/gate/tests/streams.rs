//! Feeds bytes to a gate in pieces, as a connection does, and parses what passed in another way: `httparse` for heads, a
//! simple loop for chunks. The fuzz target includes this file.

use std::ops::Range;

use super::{Gate, GateStage, GateVerdict, HeadLimits, Refusal, rewrite_head};

/// The result for all bytes of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StreamOutcome {
    pub passed: Vec<u8>,
    /// The positions of heads in `passed`.
    pub heads: Vec<Range<usize>>,
    /// The ends of messages in `passed`.
    pub ends: Vec<usize>,
    pub refusal: Option<Refusal>,
    /// Bytes that neither passed nor were refused at the end.
    pub held: Vec<u8>,
}

/// Feeds `bytes` in pieces of the sizes that `size` returns (at least 1).
pub fn feed(bytes: &[u8], limits: &HeadLimits, mut size: impl FnMut() -> usize) -> StreamOutcome {
    let mut gate = Gate::new();
    let mut out = StreamOutcome::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(size().clamp(1, rest.len()));
        rest = later;
        out.held.extend_from_slice(piece);
        while !out.held.is_empty() {
            let in_head = matches!(gate.stage(), GateStage::Idle | GateStage::Head);
            match gate.inspect(&out.held, limits) {
                GateVerdict::Pass(n) => {
                    assert!(n >= 1 && n <= out.held.len());
                    let at = out.passed.len();
                    if in_head {
                        out.heads.push(at..at + n);
                    }
                    out.passed.extend(out.held.drain(..n));
                    if gate.stage() == GateStage::Idle {
                        out.ends.push(at + n);
                    }
                }
                GateVerdict::Rewrite(n) => {
                    assert!(in_head && n >= 1 && n <= out.held.len());
                    let (at, head) = (out.passed.len(), rewrite_head(&out.held[..n]));
                    out.heads.push(at..at + head.len());
                    out.passed.extend_from_slice(&head);
                    out.held.drain(..n);
                    if gate.stage() == GateStage::Idle {
                        out.ends.push(out.passed.len());
                    }
                }
                GateVerdict::Skip(n) => {
                    assert!(gate.stage() == GateStage::Idle && in_head);
                    assert_eq!(out.held.drain(..n).as_slice(), b"\r\n");
                }
                GateVerdict::NeedMore => break,
                GateVerdict::Refuse(refusal) => {
                    assert_eq!(gate.stage(), GateStage::Refused);
                    assert_eq!(gate.inspect(b"GET / HTTP/1.1\r\n", limits), GateVerdict::Refuse(refusal));
                    out.refusal = Some(refusal);
                    // How many refused bytes have come depends on the pieces.
                    out.held.clear();
                    return out;
                }
            }
        }
    }
    out
}

/// Asserts that other parsers find the same messages in what passed.
pub fn assert_unambiguous(outcome: &StreamOutcome) {
    let mut start = 0;
    let mut ends = outcome.ends.iter();
    for head in &outcome.heads {
        assert_eq!(head.start, start, "a head follows the message before it");
        let bytes = outcome.passed.get(head.clone()).unwrap();
        let body = outcome.passed.get(head.end..).unwrap();
        let length = match framing(bytes) {
            BodyFraming::Length(length) => (length <= body.len() as u64).then_some(length as usize),
            BodyFraming::Chunked => chunked_length(body),
        };
        match length {
            Some(length) => {
                assert_eq!(ends.next(), Some(&(head.end + length)), "the message ends where it says");
                start = head.end + length;
            }
            None => {
                assert_eq!(ends.next(), None, "the message has not ended");
                start = usize::MAX;
            }
        }
    }
    assert_eq!(ends.next(), None);
    assert!(start == usize::MAX || start == outcome.passed.len(), "nothing passes between messages");
}

enum BodyFraming {
    Length(u64),
    Chunked,
}

/// Parses a head with `httparse` and by splitting it, and asserts that both agree.
fn framing(head: &[u8]) -> BodyFraming {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "{:?}", String::from_utf8_lossy(head));
    let mut lines = head.split(|o| *o == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = [request.method.unwrap(), " ", request.path.unwrap(), " HTTP/1."].concat();
    let version = request.version.unwrap();
    assert_eq!(lines.next(), Some([line.as_bytes(), &[b'0' + version]].concat().as_slice()));
    let mut framing = BodyFraming::Length(0);
    let mut hosts = 0;
    for field in request.headers.iter() {
        let plain = lines.next().unwrap();
        let colon = plain.iter().position(|o| *o == b':').unwrap();
        assert_eq!(field.name.as_bytes(), plain.get(..colon).unwrap());
        assert_eq!(field.value.trim_ascii(), plain.get(colon + 1..).unwrap().trim_ascii());
        match field.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let text = std::str::from_utf8(field.value).unwrap();
                framing = BodyFraming::Length(text.parse().unwrap());
            }
            "transfer-encoding" => framing = BodyFraming::Chunked,
            "host" => hosts += 1,
            _ => {}
        }
    }
    assert!(hosts == 1 || (hosts == 0 && version == 0));
    assert_eq!((lines.next(), lines.next(), lines.next()), (Some(&b""[..]), Some(&b""[..]), None));
    framing
}

/// The length of a chunked body; `None` if it is incomplete.
fn chunked_length(body: &[u8]) -> Option<usize> {
    let line = |from: usize| {
        let rest = body.get(from..)?;
        let length = rest.windows(2).position(|two| two == b"\r\n")?;
        Some((rest.get(..length)?, from + length + 2))
    };
    let mut at = 0;
    loop {
        let (text, data) = line(at)?;
        let digits = text.split(|o| *o == b';').next().unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        if size == 0 {
            at = data;
            break;
        }
        at = data.checked_add(size)?.checked_add(2)?;
        if at > body.len() {
            return None;
        }
        assert_eq!(body.get(at - 2..at), Some(&b"\r\n"[..]));
    }
    loop {
        let (text, next) = line(at)?;
        at = next;
        if text.is_empty() {
            return Some(at);
        }
    }
}

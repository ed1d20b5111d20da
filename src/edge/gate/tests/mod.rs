//! What passes and what is refused, with a table for each part of the grammar.

use super::*;

mod body;
mod head;
mod properties;
mod streams;

use streams::{StreamOutcome, assert_unambiguous, feed};

const LIMITS: HeadLimits = HeadLimits { header_count: 20, header_bytes: 2_000, uri_bytes: 200 };

/// The outcome of bytes that come at once, which must be the same when they come one by one.
fn outcome(bytes: impl AsRef<[u8]>) -> StreamOutcome {
    let bytes = bytes.as_ref();
    let whole = feed(bytes, &LIMITS, || usize::MAX);
    let trickle = feed(bytes, &LIMITS, || 1);
    assert_eq!(whole, trickle, "{}", String::from_utf8_lossy(bytes));
    assert_unambiguous(&whole);
    whole
}

/// Asserts that these bytes are complete messages and pass.
#[track_caller]
fn passes(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let outcome = outcome(bytes);
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(outcome.refusal, None, "{text}");
    assert_eq!(outcome.passed, bytes, "{text}");
    assert_eq!(outcome.ends.last(), Some(&bytes.len()), "{text}");
}

/// Asserts that this head is refused with this status and nothing of it passes.
#[track_caller]
fn refused(status: u16, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let outcome = outcome(bytes);
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(outcome.refusal.map(|r| r.status), Some(status), "{text}");
    assert_eq!(outcome.passed, b"", "{text}");
}

/// A request with these field lines, including their line ends.
fn with(fields: &str) -> String {
    format!("POST /a.nsf HTTP/1.1\r\nHost: www.acme.example\r\n{fields}\r\n")
}

#[test]
fn the_stage_is_known_between_messages_and_within_them() {
    let mut gate = Gate::new();
    assert_eq!((gate.stage(), gate.inspect(b"", &LIMITS)), (GateStage::Idle, GateVerdict::NeedMore));
    assert_eq!(gate.stage(), GateStage::Idle);
    assert_eq!((gate.inspect(b"P", &LIMITS), gate.stage()), (GateVerdict::NeedMore, GateStage::Head));
    let head = with("Content-Length: 3\r\n");
    let request = format!("{head}abcGET");
    assert_eq!(gate.inspect(request.as_bytes(), &LIMITS), GateVerdict::Pass(head.len()));
    assert_eq!((gate.stage(), gate.inspect(b"ab", &LIMITS)), (GateStage::Body, GateVerdict::Pass(2)));
    assert_eq!((gate.stage(), gate.inspect(b"cGET", &LIMITS)), (GateStage::Body, GateVerdict::Pass(1)));
    assert_eq!((gate.stage(), gate.inspect(b"GET", &LIMITS)), (GateStage::Idle, GateVerdict::NeedMore));
}

#[test]
fn after_an_upgrade_everything_passes() {
    let mut gate = Gate::new();
    let head = with("Upgrade: websocket\r\nConnection: Upgrade\r\n");
    assert_eq!(gate.inspect(head.as_bytes(), &LIMITS), GateVerdict::Pass(head.len()));
    gate.tunnel();
    assert_eq!(
        (gate.inspect(b"\x81\x05\n\r\0", &LIMITS), gate.stage()),
        (GateVerdict::Pass(5), GateStage::Tunnel)
    );
}

#[test]
fn a_refusal_is_final() {
    let mut gate = Gate::new();
    let GateVerdict::Refuse(refusal) = gate.inspect(b"\x16\x03\x01", &LIMITS) else {
        panic!("TLS is no HTTP")
    };
    gate.tunnel();
    assert_eq!(gate.inspect(b"GET / HTTP/1.1\r\n\r\n", &LIMITS), GateVerdict::Refuse(refusal));
    assert_eq!(
        (gate.inspect(b"", &LIMITS), gate.stage()),
        (GateVerdict::Refuse(refusal), GateStage::Refused)
    );
}

#[test]
fn the_response_to_a_refusal_is_complete_and_closes_the_connection() {
    for status in [400, 405, 408, 414, 431, 501, 505] {
        let response = String::from_utf8(Refusal { status, reason: "Because." }.response()).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert!(lines.contains(&"Connection: close") && lines.contains(&"Server: domino-icm"), "{head}");
        assert!(lines.contains(&"Content-Type: text/html; charset=utf-8"), "{head}");
        assert!(lines.contains(&format!("Content-Length: {}", body.len()).as_str()), "{head}");
        assert_eq!(head.contains("\r\nAllow: "), status == 405);
        assert!(body.contains("Because.") && body.ends_with("</html>\n"), "{body}");
    }
}

//! Properties of arbitrary bytes, and of arbitrary messages of the grammar.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that often resemble a request.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /a HTTP/1.1\r\n", "Host: a\r\n", "\r\n", "\r", "\n", " ", ":", ";", "5", "0\r\n\r\n",
            "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n", "5;a=\"b\"\r\n", "X: y\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n", "\0", ",", "HTTP/1.0", "chunked", "abcdefgh",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let data = || vec(any::<u8>(), 1..40);
    let extension = prop::sample::select(vec!["", ";a", ";a=b", ";a=\"b;\\\"c\""]);
    let chunk = (data(), extension, "0{0,3}", any::<bool>()).prop_map(|(data, extension, zeros, upper)| {
        let size = if upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
        [format!("{zeros}{size}{extension}\r\n").as_bytes(), &data, b"\r\n"].concat()
    });
    let trailers = vec("[A-Z][a-z]{5}: [ -~]{0,10}\r\n", 0..3);
    prop_oneof![
        Just((String::new(), Vec::new())),
        data().prop_map(|data| (format!("Content-Length: {}\r\n", data.len()), data)),
        (vec(chunk, 0..4), trailers).prop_map(|(chunks, trailers)| {
            let body = [&chunks.concat(), &b"0\r\n"[..], trailers.concat().as_bytes(), b"\r\n"].concat();
            ("Transfer-Encoding: chunked\r\n".to_owned(), body)
        }),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let line =
        ("[A-Z]{1,10}[a-z]", "/[!$-;=?-_a-~]{0,40}").prop_map(|(m, t)| format!("{m} {t} HTTP/1.1\r\n"));
    // Names of six characters, so that none is a known field.
    let fields =
        || vec("[A-Za-z!#$%&'*+.^_`|~0-9-]{6}:[ \t]?[!-~\u{e9}]{0,20}([ \t][!-~]{1,5})?[ \t]{0,2}\r\n", 0..5);
    (line, fields(), body(), fields()).prop_map(|(line, before, (framing, body), after)| {
        let (before, after) = (before.concat(), after.concat());
        [format!("{line}{before}Host: a\r\n{framing}{after}\r\n").as_bytes(), &body].concat()
    })
}

proptest! {
    #[test]
    fn any_bytes_have_the_same_outcome_in_any_pieces(
        bytes in prop_oneof![nearly_http(), vec(any::<u8>(), 0..100)],
        sizes in vec(1usize..20, 1..20),
    ) {
        let limits = HeadLimits { header_count: 3, header_bytes: 80, uri_bytes: 20 };
        let whole = feed(&bytes, &limits, || usize::MAX);
        let mut sizes = sizes.iter().cycle();
        let pieces = feed(&bytes, &limits, || *sizes.next().unwrap());
        prop_assert_eq!(&whole, &pieces);
        assert_unambiguous(&whole);
    }

    #[test]
    fn messages_of_the_grammar_pass_and_end_where_they_should(
        messages in vec(message(), 1..5),
        sizes in vec(1usize..60, 1..20),
    ) {
        let stream = messages.concat();
        let mut sizes = sizes.iter().cycle();
        let outcome = feed(&stream, &LIMITS, || *sizes.next().unwrap());
        prop_assert_eq!(outcome.refusal, None);
        prop_assert_eq!(&outcome.passed, &stream);
        let ends: Vec<usize> = messages
            .iter()
            .scan(0, |end, message| {
                *end += message.len();
                Some(*end)
            })
            .collect();
        prop_assert_eq!(&outcome.ends, &ends);
        assert_unambiguous(&outcome);
    }

    #[test]
    fn a_changed_byte_never_makes_a_message_ambiguous(
        messages in vec(message(), 1..3),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"\r\n\0 \t:;,".to_vec())],
    ) {
        let mut stream = messages.concat();
        let at = at.index(stream.len());
        stream[at] = byte;
        let whole = feed(&stream, &LIMITS, || usize::MAX);
        prop_assert_eq!(&whole, &feed(&stream, &LIMITS, || 1));
        assert_unambiguous(&whole);
    }

    #[test]
    fn a_gate_does_not_panic_when_bytes_change_between_calls(pieces in vec(nearly_http(), 1..6)) {
        let mut gate = Gate::new();
        for piece in &pieces {
            if let GateVerdict::Pass(n) | GateVerdict::Rewrite(n) | GateVerdict::Skip(n) = gate.inspect(piece, &LIMITS) {
                prop_assert!(n >= 1 && n <= piece.len());
            }
        }
    }

    #[test]
    fn the_record_of_a_head_has_what_another_parser_finds(
        messages in vec(message(), 1..4),
        sizes in vec(1usize..60, 1..20),
    ) {
        let (stream, mut gate, mut held) = (messages.concat(), Gate::new(), Vec::new());
        gate.record_heads(true);
        let (mut rest, mut sizes) = (&stream[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = later;
            held.extend_from_slice(piece);
            loop {
                let in_head = matches!(gate.stage(), GateStage::Idle | GateStage::Head);
                let GateVerdict::Pass(length) = gate.inspect(&held, &LIMITS) else { break };
                let passed: Vec<u8> = held.drain(..length).collect();
                let record = gate.take_record();
                if in_head {
                    assert_record(&passed, record.as_deref());
                } else {
                    assert_eq!(record, None);
                }
            }
        }
    }
}

/// A head without a body has a record of all lines; one with a body has none.
fn assert_record(head: &[u8], record: Option<&HeadRecord>) {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    assert!(request.parse(head).unwrap().is_complete());
    let is_framing = |name: &str| name == "Content-Length" || name == "Transfer-Encoding";
    let has_body = request.headers.iter().any(|field| is_framing(field.name));
    let Some(record) = record else { return assert!(has_body) };
    assert!(!has_body);
    assert_eq!(record.method(head), request.method.unwrap().as_bytes());
    assert_eq!(record.target(head), request.path.unwrap().as_bytes());
    let lines: Vec<_> = record.lines.iter().map(|line| (line.name(head), line.value(head))).collect();
    let wanted: Vec<_> = request.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(lines, wanted);
}

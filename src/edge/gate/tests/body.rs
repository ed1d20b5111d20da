//! Content-Length, Transfer-Encoding, chunks and trailers.

use super::*;

#[test]
fn a_length_is_one_number() {
    for value in [
        "",
        "5, 5",
        "1000,1000",
        "5,",
        ",5",
        "005",
        "0200",
        "00",
        "+5",
        "5 5",
        "-1",
        "-0",
        "0x5",
        "5x",
        "5.0",
        "1e3",
        "5;",
        "\"5\"",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "\u{665}",
    ] {
        refused(400, with(&format!("Content-Length: {value}\r\n")));
    }
    refused(400, with("Content-Length: 5\r\nContent-Length: 5\r\n"));
    refused(400, with("Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n"));
    refused(400, with("Content-Length: 0\r\nContent-Length: 0\r\n"));
    passes(with("Content-Length: 0\r\n"));
    passes(with("Content-Length:\t 5 \t\r\n") + "abcde");
    passes("GET / HTTP/1.0\r\ncontent-length: 11\r\n\r\n\0\r\n\r\nGET / ");
}

#[test]
fn the_largest_length_is_accepted() {
    let head = with("Content-Length: 9223372036854775807\r\n");
    let outcome = outcome(format!("{head}abc"));
    assert_eq!((outcome.passed.len(), outcome.refusal, outcome.ends), (head.len() + 3, None, vec![]));
}

#[test]
fn the_only_transfer_coding_is_chunked_and_excludes_a_length() {
    for value in [
        "",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked, gzip",
        "gzip",
        "identity",
        "chunked chunked",
        "\"chunked\"",
        "chunked\u{e9}",
        "gzip, chunked, chunked",
        "x, chunked",
        ", ,",
        "gzip chunked",
        "chunked, identity",
    ] {
        refused(400, with(&format!("Transfer-Encoding: {value}\r\n")));
    }
    for value in ["gzip, chunked", "identity,chunked", "DEFLATE , Chunked", "gzip, compress, x-gzip, chunked"]
    {
        refused(501, with(&format!("Transfer-Encoding: {value}\r\n")));
    }
    refused(400, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"));
    refused(400, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"));
    refused(400, with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"));
    refused(400, with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"));
    refused(400, with("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n"));
    refused(400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    passes(with("transfer-encoding: \t ChunKed \t\r\n") + "0\r\n\r\n");
}

/// Asserts that this chunked body passes, and so does a request after it.
#[track_caller]
fn chunks_pass(body: &str) {
    let request = with("Transfer-Encoding: chunked\r\n") + body;
    passes(&request);
    passes(request.repeat(2) + "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

/// Asserts that this chunked body is refused after its first `clean` bytes, at the beginning and after another chunk.
#[track_caller]
fn chunks_refused(clean: usize, body: impl AsRef<[u8]>) {
    for before in ["", "3\r\nabc\r\n"] {
        let head = with("Transfer-Encoding: chunked\r\n") + before;
        let outcome = outcome([head.as_bytes(), body.as_ref()].concat());
        let text = String::from_utf8_lossy(body.as_ref());
        assert_eq!(outcome.refusal.map(|r| r.status), Some(400), "{text:?}");
        assert_eq!(outcome.passed.len(), head.len() + clean, "{text:?}");
    }
}

#[test]
fn chunks_pass_unchanged() {
    chunks_pass("0\r\n\r\n");
    chunks_pass("5\r\nabcde\r\n0\r\n\r\n");
    chunks_pass("a\r\n0\r\n\r\nGET /\r\n0B\r\n01234567890\r\n0000000000000000\r\n\r\n");
    chunks_pass("1;a\r\nx\r\n1;a=b;c=\"d \\\" ; \\\\ \t\u{e9}\";e\r\nx\r\n0;f=1\r\n\r\n");
    chunks_pass("0\r\nX-Sum: 1\r\nY:\r\n\r\n");
}

#[test]
fn data_passes_before_its_chunk_is_complete() {
    let mut gate = Gate::new();
    let head = with("Transfer-Encoding: chunked\r\n");
    assert_eq!(gate.inspect(head.as_bytes(), &LIMITS), GateVerdict::Pass(head.len()));
    assert_eq!(gate.inspect(b"7fffffffffffffff", &LIMITS), GateVerdict::NeedMore);
    assert_eq!(gate.inspect(b"7fffffffffffffff\r\nab", &LIMITS), GateVerdict::Pass(20));
    assert_eq!(gate.inspect(&[b'x'; 1000], &LIMITS), GateVerdict::Pass(1000));
    assert_eq!(gate.stage(), GateStage::Body);
}

#[test]
fn the_last_chunk_passes_together_with_its_trailers() {
    let mut gate = Gate::new();
    let head = with("Transfer-Encoding: chunked\r\n");
    assert_eq!(gate.inspect(head.as_bytes(), &LIMITS), GateVerdict::Pass(head.len()));
    assert_eq!(gate.inspect(b"1\r\na\r\n0\r\nX: ", &LIMITS), GateVerdict::Pass(6));
    assert_eq!(gate.inspect(b"0\r\nX: ", &LIMITS), GateVerdict::NeedMore);
    assert_eq!(gate.inspect(b"0\r\nX: y\r\n\r", &LIMITS), GateVerdict::NeedMore);
    assert_eq!(gate.inspect(b"0\r\nX: y\r\n\r\nGET", &LIMITS), GateVerdict::Pass(11));
    assert_eq!(gate.stage(), GateStage::Idle);
}

#[test]
fn a_size_is_a_hexadecimal_number_of_at_most_63_bits() {
    for size in [
        "",
        " 5",
        "5 ",
        "5\t",
        "+5",
        "-1",
        "0x5",
        "0X10",
        "g",
        "5g",
        "5,5",
        "5.0",
        "\u{661}",
        "00000000000000005",
        "8000000000000000",
        "ffffffffffffffff",
        "10000000000000000",
        "fffffffffffffffffffff",
        "5\u{b}",
        "5\0",
    ] {
        chunks_refused(0, format!("{size}\r\nabcde\r\n0\r\n\r\n"));
    }
    for nothing in ["\r\n\r\n", ";a\r\n\r\n", ";\r\n\r\n"] {
        chunks_refused(0, nothing);
    }
    for line in ["5\n", "5\r", "5;\n", "5;a\n", "5\r\r\n", "\n5\r\n", "\r\n5\r\n"] {
        chunks_refused(0, format!("{line}abcde\r\n0\r\n\r\n"));
    }
}

#[test]
fn an_extension_is_a_token_with_or_without_a_value() {
    for extension in [
        ";",
        ";;",
        ";bad[=x",
        ";a=",
        ";a=;b",
        ";a;",
        "; a",
        " ;a",
        ";a =b",
        ";a= b",
        ";=b",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=b\"",
        ";a=\"\\",
        ";a\0",
        ";a=\u{1}",
        ";a=\"\0\"",
        ";a=\"\\\u{7f}\"",
        ";\u{e9}",
        ";a=b=c",
        ";a,b",
    ] {
        chunks_refused(0, format!("5{extension}\r\nabcde\r\n0\r\n\r\n"));
        chunks_refused(0, format!("0{extension}\r\n\r\n"));
    }
}

#[test]
fn a_size_line_is_bounded_even_when_incomplete() {
    let line = |length: usize| format!("1;{}", "a".repeat(length - 2));
    chunks_pass(&format!("{}\r\nx\r\n0\r\n\r\n", line(256)));
    for length in [257, 258, 5_000] {
        chunks_refused(0, format!("{}\r\nx\r\n0\r\n\r\n", line(length)));
        chunks_refused(0, line(length));
    }
}

#[test]
fn a_chunk_ends_with_cr_lf_where_its_size_says() {
    chunks_refused(4, "1\r\nab\r\n0\r\n\r\n");
    chunks_refused(5, "2\r\nab\n0\r\n\r\n");
    chunks_refused(5, "2\r\nab\r0\r\n\r\n");
    chunks_refused(5, "2\r\nab0\r\n\r\n");
}

#[test]
fn trailers_do_not_contain_fields_for_framing_or_routing() {
    for field in [
        "Content-Length: 5",
        "transfer-encoding: chunked",
        "Host: a",
        "Connection: close",
        "Upgrade: x",
        "TE: trailers",
        "Trailer: X",
        "Expect: 100-continue",
        "X : y",
        " X: y",
        "X",
        ": y",
        "X: a\u{1}",
        "X: a\0",
        ":path: /",
    ] {
        chunks_refused(0, format!("0\r\n{field}\r\n\r\n"));
        chunks_refused(0, format!("0\r\nA: b\r\n{field}\r\n\r\n"));
    }
    for end in ["\n", "X: y\n\r\n", "X: y\r\n\n", "X: y\rZ: 1\r\n\r\n", "\r\r\n", "\rX"] {
        chunks_refused(0, format!("0\r\n{end}"));
    }
}

#[test]
fn trailers_have_the_limits_of_heads_even_when_incomplete() {
    let refused = |trailers: String| {
        let head = with("Transfer-Encoding: chunked\r\n");
        let outcome = outcome(format!("{head}0\r\n{trailers}"));
        assert_eq!(outcome.refusal.map(|r| r.status), Some(431));
        assert_eq!(outcome.passed, head.as_bytes());
    };
    chunks_pass(&format!("0\r\n{}\r\n", "X: y\r\n".repeat(20)));
    refused("X: y\r\n".repeat(21));
    chunks_pass(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(1_995)));
    refused(format!("X: {}\r\n\r\n", "y".repeat(1_996)));
    refused(format!("X: {}", "y".repeat(3_000)));
}

#[test]
fn a_pipelined_request_is_checked_separately() {
    let first = with("Content-Length: 4\r\n") + "GET ";
    let outcome = outcome(format!("{first}GET * HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(outcome.refusal.map(|r| r.status), Some(400));
    assert_eq!(outcome.passed, first.as_bytes());
}

//! Request lines and fields.

use super::*;

#[test]
fn valid_requests_pass() {
    passes("GET / HTTP/1.1\r\nHost: www.acme.example\r\n\r\n");
    passes("GET /a.nsf/b%20c?OpenView&x={1}|2 HTTP/1.1\r\nhost:www.acme.example\r\n\r\n");
    passes("GET / HTTP/1.0\r\n\r\n");
    passes("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    passes("GET http://www.acme.example:80/a.nsf HTTP/1.1\r\nHost: www.acme.example:80\r\n\r\n");
    passes("GET HTTPS://www.acme.example?OpenServer HTTP/1.1\r\nHost: www.acme.example\r\n\r\n");
    passes("GET http://www.acme.example/ HTTP/1.0\r\n\r\n");
    passes("M-SEARCH_12345678901234567890123 / HTTP/1.1\r\nHost: a\r\n\r\n");
    passes(with("X:\r\nY: \t \r\nZ: a\tb\u{e9}~\r\nTransfer_Encoding: gzip\r\n!#$%&'*+-.^_`|~1aZ: 1\r\n"));
    passes(with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"));
    passes(with("Connection: close\r\n").repeat(3));
}

#[test]
fn a_request_line_is_method_target_and_version_with_one_space_between_them() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET /",
        "GET",
        "GET ",
        "GET / ",
        "GET  HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.",
        "GET / HTTP/1.10",
        "GET / HTTP/11",
        "GET / HTTP/1,1",
        "GET / XTTP/1.1",
        "HTTP/1.1 200 OK",
        "SSH-2.0-OpenSSH_9.2",
        "G\u{e9}T / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "GET / HTTP/1.1\0",
    ] {
        refused(400, format!("{line}\r\nHost: a\r\n\r\n"));
    }
    for version in ["2.0", "1.2", "0.9", "3.0", "9.9"] {
        refused(505, format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
    }
    refused(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn a_method_has_at_most_32_bytes_and_is_neither_connect_nor_trace() {
    for length in [33, 500, 9_000] {
        refused(501, format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(length)));
    }
    refused(501, "M".repeat(500));
    refused(405, "CONNECT www.acme.example:443 HTTP/1.1\r\nHost: www.acme.example:443\r\n\r\n");
    refused(405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_target_is_visible_ascii_in_a_form_that_the_method_allows() {
    for byte in (0..=b' ').chain([b'#', 0x7F, 0x80, 0xC3, 0xFF]) {
        refused(400, [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    }
    for target in [
        "*",
        "a.nsf",
        "?a",
        "www.acme.example:80",
        "//",
        "http://",
        "http:///a",
        "http://a b/",
        "http://u@a/",
        "http://a,b/",
        "http://a:x/",
        "http://a\\b/",
        "http:/a",
        "ftp://a/",
        "javascript:1",
        "https://a:99999/",
        "http://[::1/",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        if target == "//" { passes(request) } else { refused(400, request) }
    }
    refused(400, "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n");
}

/// Asserts that the head `bytes` passes as `other`.
#[track_caller]
fn becomes(bytes: &str, other: &str) {
    let outcome = outcome(bytes);
    assert_eq!((outcome.refusal, outcome.held.as_slice()), (None, &b""[..]), "{bytes}");
    assert_eq!(String::from_utf8_lossy(&outcome.passed), other, "{bytes}");
}

#[test]
fn an_unencoded_target_is_percent_encoded() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nX: \"<`>\"\r\nHost: a\r\n\r\n");
    for (sent, passed) in [
        ("/v?SearchView&Query=\"exact+phrase\"", "/v?SearchView&Query=%22exact+phrase%22"),
        ("/<b>`\"?<b>`\"", "/%3Cb%3E%60%22?%3Cb%3E`%22"),
        ("http://a/\"", "http://a/%22"),
        ("http://A?\"", "http://a?%22"),
        ("/%22\"", "/%22%22"),
    ] {
        becomes(&get(sent), &get(passed));
    }
    passes(get("/a^|{}\\?^|{}\\'()[]"));
    // Each request is checked separately.
    let outcome = outcome(get("/\"").repeat(3));
    assert_eq!(outcome.passed, get("/%22").repeat(3).as_bytes());
    let long = format!("/{}", "\"".repeat(67));
    refused(414, get(&long));
    refused(414, get(&"/".repeat(201)));
}

#[test]
fn a_target_gets_the_spelling_of_host_when_they_differ_in_case() {
    becomes(
        "GET HTTP://WWW.acme.example:80/a.nsf HTTP/1.1\r\nX: y\r\nhoST: \twww.Acme.example:80 \r\n\r\n",
        "GET HTTP://www.Acme.example:80/a.nsf HTTP/1.1\r\nX: y\r\nhoST: \twww.Acme.example:80 \r\n\r\n",
    );
}

#[test]
fn a_target_over_the_limit_is_414_even_when_incomplete() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1));
    passes(target(200));
    for length in [201, 240, 260, 5_000] {
        refused(414, target(length));
    }
    refused(414, format!("GET /{}", "a".repeat(300)));
}

#[test]
fn lines_end_with_cr_lf_and_nothing_else() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    for (at, _) in good.match_indices("\r\n") {
        for end in ["\n", "\r", "\r\r\n", "\n\r\n", "\r \n"] {
            let (before, rest) = good.split_at(at);
            let after = rest.strip_prefix("\r\n").unwrap();
            // An LF may still follow a CR at the very end.
            if !(end == "\r" && after.is_empty()) {
                refused(400, format!("{before}{end}{after}"));
            }
        }
    }
}

#[test]
fn one_empty_line_before_a_request_is_dropped() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let outcome = outcome(format!("\r\n{request}\r\n{request}\r\n"));
    assert_eq!(outcome.refusal, None);
    assert_eq!(outcome.passed, request.repeat(2).as_bytes());
    refused(400, format!("\r\n\r\n{request}"));
    refused(400, format!("\n{request}"));
    refused(400, format!("\r{request}"));
    refused(400, format!(" \r\n{request}"));
}

#[test]
fn bytes_that_are_not_http_are_refused_at_the_first_one() {
    for byte in (0..=b' ').filter(|o| *o != b'\r').chain([b'(', b'"', 0x7F, 0x80, 0xFF]) {
        refused(400, [byte]);
    }
}

#[test]
fn a_field_is_a_token_a_colon_and_a_value_without_control_characters() {
    for field in [
        "X : y",
        "X\t: y",
        " X: y",
        "\tX: y",
        ": y",
        "X",
        "X y: z",
        "Ho st: a",
        "X\u{e9}: y",
        "(X): y",
        "X/: y",
        "\"X\": y",
        "Transfer-Encoding\u{b}: chunked",
        "Transfer-Encoding : chunked",
        "Content-Length : 3",
        "Content-Length\0: 3",
        "X\r: y",
        "[X]: y",
        "@: y",
    ] {
        refused(400, with(&format!("{field}\r\n")));
        refused(400, with(&format!("Y: 1\r\n{field}\r\nZ: 1\r\n")));
    }
    for byte in (0..b' ').filter(|o| *o != b'\t').chain([0x7F]) {
        let request = [b"GET / HTTP/1.1\r\nHost: a\r\nX: a", &[byte][..], b"b\r\n\r\n"].concat();
        refused(400, request);
    }
    passes([&b"GET / HTTP/1.1\r\nHost: a\r\nX: \t\x80\xFF \r\n\r\n"[..]].concat());
}

#[test]
fn folded_fields_are_refused() {
    for fields in ["X: a\r\n b\r\n", "X: a\r\n\tb\r\n", "X: a\r\n \r\n", "Transfer-Encoding:\r\n chunked\r\n"]
    {
        refused(400, with(fields));
    }
    refused(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n");
}

#[test]
fn a_request_has_exactly_one_host_and_it_matches_the_target() {
    refused(400, "GET / HTTP/1.1\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost:\r\n\r\n");
    refused(400, "GET / HTTP/1.0\r\nHost: \r\n\r\n");
    refused(400, "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n");
    refused(400, "GET http://a/ HTTP/1.1\r\n\r\n");
    refused(400, "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n");
    refused(400, "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n");
    refused(400, "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n");
    refused(400, "GET http://a/ HTTP/1.0\r\nHost: b\r\n\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
    refused(400, "GET / HTTP/1.0\r\nHost: a\r\nhOST: b\r\n\r\n");
    refused(400, "GET http://a/ HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n");
}

#[test]
fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
    for host in [
        "a/path",
        "a, b",
        "a,b",
        "a b",
        "u@a",
        "u:p@a",
        "a:",
        "a:x",
        "a:80x",
        "a:-1",
        "a:+80",
        "a:65536",
        "a:123456",
        "a: 80",
        ":80",
        "a:80:80",
        "[::1",
        "::1",
        "[]",
        "[::1]x",
        "[::1]:",
        "[::1]:x",
        "[g::1]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "a#b",
        "a?b",
        "a\\b",
        "a%2eb",
        "a;b",
        "http://a",
        "a\tb",
        "a\u{e9}",
        "<a>",
        "a\"",
        "a'b",
        "$a",
        "*",
    ] {
        refused(400, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        refused(400, format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"));
        refused(400, format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for host in [
        "a",
        "a.",
        "www.acme.example",
        "WWW.ACME.EXAMPLE:8080",
        "my_host",
        "a-b~c",
        "192.0.2.1",
        "192.0.2.1:65535",
        "[::1]",
        "[2001:db8::1]:443",
        "[::ffff:192.0.2.1]",
        " a \t",
        "xn--bcher-kva.example",
    ] {
        passes(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

#[test]
fn connection_does_not_name_fields_for_framing_or_routing() {
    for option in
        ["Content-Length", "close, content-length", "transfer-encoding", "Host,close", "a,\tHOST\t,b"]
    {
        refused(400, with(&format!("Connection: {option}\r\n")));
    }
    passes(with("Connection: TE, Trailer, close, X-Host\r\n"));
}

#[test]
fn fields_over_the_limits_are_431_even_when_incomplete() {
    let fields = |count: usize| "X: y\r\n".repeat(count - 1);
    passes(with(&fields(20)));
    refused(431, with(&fields(21)));
    // Each line counts with its end; Host has 24 bytes.
    let size = |bytes: usize| with(&format!("X: {}\r\n", "y".repeat(bytes - 24 - 5)));
    passes(size(2_000));
    for bytes in [2_001, 2_002, 2_003, 10_000] {
        refused(431, size(bytes));
    }
    refused(431, format!("GET / HTTP/1.1\r\n{}", "x".repeat(2_001)));
    refused(431, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(2_001)));
}

#[test]
fn an_invalid_head_is_refused_before_it_is_complete() {
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n");
    refused(400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\n");
    refused(405, "TRACE / HTTP/1.1\r\n");
}

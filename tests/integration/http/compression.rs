//! Bodies that are compressed for the client decode to the bytes of the server, and everything else stays as it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::*;

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// What a page of some length is.
fn page() -> String {
    (0..400).map(|n| format!("<tr><td>Lead {n}</td><td>Acme branch {}</td></tr>\n", n % 7)).collect()
}

fn with_length(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn chunked(fields: &str, pieces: &[&str]) -> String {
    let chunks: String = pieces.iter().map(|p| format!("{:x}\r\n{p}\r\n", p.len())).collect();
    format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

const HTML: &str = "Content-Type: text/html; charset=UTF-8\r\n";

/// The answer of the server for a request.
fn answer(head: &str) -> String {
    let page = page();
    let target = head.split(' ').nth(1).unwrap_or("/");
    let ok = |fields: &str| with_length("200 OK", fields, &page);
    let html = |fields: &str| ok(&format!("{HTML}{fields}"));
    match target {
        "/page" if head.contains("If-None-Match: \"v1\"\r\n") => {
            "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_owned()
        }
        "/page" => html(
            "ETag: \"v1\"\r\nAccept-Ranges: bytes\r\nVary: Cookie\r\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n",
        ),
        "/weak" => html("ETag: W/\"v2\"\r\n"),
        "/chunked" => chunked(HTML, &[&page[..10], &page[10..7000], &page[7000..]]),
        "/close" => format!("HTTP/1.1 200 OK\r\n{HTML}Connection: close\r\n\r\n{page}"),
        "/small" => with_length("200 OK", HTML, &page[..1000]),
        "/json" => ok("Content-Type: application/json\r\n"),
        "/missing" => with_length("404 Not Found", HTML, &page),
        "/image" => ok("Content-Type: image/png\r\n"),
        "/events" => ok("Content-Type: text/event-stream\r\n"),
        "/encoded" => html("Content-Encoding: gzip\r\n"),
        "/identity" => html("Content-Encoding: identity\r\n"),
        "/fixed" => html("Cache-Control: max-age=60, no-transform\r\n"),
        "/login" => html("Set-Cookie: DomAuthSessId=1234; path=/\r\n"),
        "/sso" => html("Set-Cookie: LtpaToken2=1234; path=/\r\n"),
        "/logout" => html("Set-Cookie: DomAuthSessId=; expires=Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        "/cookie" => html("Set-Cookie: colour=blue\r\n"),
        "/part" => with_length(
            "206 Partial Content",
            &format!("{HTML}Content-Range: bytes 0-4999/9000\r\n"),
            &page[..5000],
        ),
        "/nothing" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        _ => OK.to_owned(),
    }
}

/// A server with [`answer`], whose requests are kept.
fn server() -> (ScriptedServer, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = ScriptedServer::new(move |connection| {
        while let Some(head) = connection.request() {
            let answer = answer(&head);
            let is_head = head.starts_with("HEAD ");
            seen.lock().unwrap().push(head);
            let end = answer.find("\r\n\r\n").unwrap() + 4;
            if !connection.say(if is_head { &answer[..end] } else { &answer }) || answer.contains("close\r\n")
            {
                return;
            }
        }
    });
    (server, heads)
}

fn decoded(coding: Option<&str>, body: &[u8]) -> String {
    let mut text = Vec::new();
    match coding {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut text).unwrap(),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_end(&mut text).unwrap(),
        Some("zstd") => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut text).unwrap(),
        Some(other) => panic!("{other}"),
        None => body.to_vec().as_slice().read_to_end(&mut text).unwrap(),
    };
    String::from_utf8(text).unwrap()
}

#[test]
fn compressed_bodies_decode_to_the_bytes_of_the_server() {
    let (server, heads) = server();
    let mut config = server.config();
    set(&mut config, "clusters.0.compression", "on");
    set(&mut config, "access_log", "{ path: stdout, format: json }");
    let icm = Icm::start(config);
    let mut client = icm.client();

    for coding in CODINGS {
        for target in
            ["/page", "/chunked", "/close", "/json", "/missing", "/identity", "/cookie", "/logout", "/weak"]
        {
            let answer = client.get_with(target, &[("Accept-Encoding", coding)]);
            assert_eq!(answer.all("content-encoding"), [coding], "{target}\n{}", answer.head);
            assert_eq!(decoded(Some(coding), &answer.body), page(), "{target} {coding}");
            assert!(answer.body.len() * 4 < page().len(), "{target} {coding}: {}", answer.body.len());
            assert_eq!(answer.header("content-length"), None, "{target}");
            assert!(answer.all("vary").concat().contains("Accept-Encoding"), "{target}\n{}", answer.head);
        }
    }
    let answer = client.get_with("/page", &[("Accept-Encoding", "gzip, deflate, br;q=0.9")]);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.all("vary"), ["Cookie, Accept-Encoding"]);
    assert_eq!(answer.all("etag"), ["W/\"v1-icm\""]);
    assert_eq!((answer.header("accept-ranges"), answer.header("content-md5")), (None, None));
    assert_eq!(
        client.get_with("/weak", &[("Accept-Encoding", "br")]).all("etag"),
        ["W/\"v2\""],
        "a weak tag stays"
    );

    // The server gets its own tag back, and so does the client with a 304.
    for tags in ["W/\"v1-icm\"", "\"v1\""] {
        let fields = [("Accept-Encoding", "gzip"), ("If-None-Match", tags)];
        let answer = client.get_with("/page", &fields);
        assert_eq!((answer.status, answer.all("etag")), (304, vec![tags]), "{}", answer.head);
        assert_eq!(answer.body.len(), 0);
    }
    let last = heads.lock().unwrap().iter().rfind(|head| head.starts_with("GET /page ")).cloned().unwrap();
    assert!(last.contains("\r\nAccept-Encoding: gzip\r\n"), "{last}");

    // What stays as it is, with the reason in its name.
    for (target, varies) in [
        ("/small", false),
        ("/image", false),
        ("/events", false),
        ("/encoded", false),
        ("/fixed", false),
        ("/login", false),
        ("/sso", false),
        ("/part", false),
    ] {
        let answer = client.get_with(target, &[("Accept-Encoding", "gzip, br, zstd")]);
        assert_eq!(
            answer.body.len(),
            answer.header("content-length").unwrap().parse::<usize>().unwrap(),
            "{target}"
        );
        assert_eq!(answer.header("vary").is_some(), varies, "{target}\n{}", answer.head);
    }
    for fields in [
        &[][..],
        &[("Accept-Encoding", "gzip;q=0, identity")],
        &[("Accept-Encoding", "gzip"), ("Range", "bytes=0-10")],
    ] {
        let answer = client.get_with("/page", fields);
        assert_eq!(answer.body, page().as_bytes(), "{fields:?}");
        assert_eq!(answer.all("vary"), ["Cookie, Accept-Encoding"]);
        assert_eq!(answer.all("etag"), ["\"v1\""], "{fields:?}");
    }
    let answer = client.request("HEAD", "/page", &[("Accept-Encoding", "gzip")], b"").unwrap();
    assert_eq!(answer.header("content-length"), Some(page().len().to_string().as_str()));
    assert_eq!(
        (answer.header("content-encoding"), answer.all("vary")),
        (None, vec!["Cookie, Accept-Encoding"])
    );
    assert_eq!(client.get_with("/nothing", &[("Accept-Encoding", "gzip")]).status, 204);

    let metrics = exposition::read(&icm.admin("/metrics").text()).unwrap();
    for coding in CODINGS {
        let label = ("algorithm", coding);
        let bytes = |direction| {
            exposition::value(&metrics, "icm_compression_bytes_total", &[label, ("direction", direction)])
        };
        assert!(exposition::value(&metrics, "icm_compressed_responses_total", &[label]) >= 9.0);
        assert!(bytes("out") > 0.0 && bytes("in") > 4.0 * bytes("out"), "{coding}");
    }
}

#[test]
fn types_and_algorithms_are_those_of_the_configuration_and_off_changes_nothing() {
    let (server, _) = server();
    let mut config = server.config();
    set(
        &mut config,
        "clusters.0.compression",
        "{ types: [\"image/*\", text/html], algorithms: [gzip], min_size: 0, with_session_cookies: true }",
    );
    let icm = Icm::start(config.clone());
    let all = [("Accept-Encoding", "zstd, br, gzip")];
    for (target, coding) in
        [("/image", Some("gzip")), ("/small", Some("gzip")), ("/login", Some("gzip")), ("/json", None)]
    {
        let answer = icm.client().get_with(target, &all);
        assert_eq!(answer.header("content-encoding"), coding, "{target}\n{}", answer.head);
        let text = decoded(coding, &answer.body);
        assert!(page().starts_with(&text) && text.len() >= 1000, "{target}");
    }
    set(&mut config, "clusters.0.compression", "off");
    icm.reload(&config);
    let off = || icm.client().get_with("/page", &all).header("content-encoding").is_none();
    assert!(eventually(MAX_WAIT, off));
    let answer = icm.client().get_with("/page", &all);
    assert_eq!((answer.all("vary"), answer.all("etag")), (vec!["Cookie"], vec!["\"v1\""]));
}

#[test]
fn a_client_of_http_2_gets_compressed_bodies_too() {
    let acme = Acme::built_in();
    let (server, _) = server();
    let mut config = server.config();
    set(&mut config, "clusters.0.compression", "on");
    let secure = add_tls(&mut config, &acme);
    let _icm = Icm::start(config);
    wait_for(secure);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = h2_client(&acme);
        for coding in CODINGS {
            for target in ["page", "chunked", "close"] {
                let url = format!("https://localhost:{}/{target}", secure.port());
                let answer = client.get(url).header("accept-encoding", coding).send().await.unwrap();
                assert_eq!(answer.version(), reqwest::Version::HTTP_2);
                assert_eq!(answer.headers()["content-encoding"], coding, "{target}");
                assert!(!answer.headers().contains_key("content-length"));
                let body = answer.bytes().await.unwrap();
                assert_eq!(decoded(Some(coding), &body), page(), "{target} {coding}");
            }
        }
    });
}

/// The content of the chunks in what was received so far, which may end anywhere.
fn content(received: &[u8]) -> Vec<u8> {
    let Some(head) = received.windows(4).position(|w| w == b"\r\n\r\n") else { return Vec::new() };
    let (mut rest, mut out) = (&received[head + 4..], Vec::new());
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let chunk = &rest[end + 2..];
        out.extend_from_slice(&chunk[..size.min(chunk.len())]);
        if chunk.len() < size + 2 || size == 0 {
            break;
        }
        rest = &chunk[size + 2..];
    }
    out
}

/// As much as can be decoded of a body that has not ended.
fn beginning(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut text),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut text),
        _ => zstd::stream::read::Decoder::new(body).and_then(|mut d| d.read_to_end(&mut text)),
    };
    text
}

#[test]
fn what_a_slow_agent_has_written_arrives_before_its_end_and_a_broken_body_has_no_end() {
    const FIRST: &str = "<p>Reading the first thousand documents...</p>\n";
    let go_on: Arc<[AtomicBool; 2]> = Arc::default();
    let flags = go_on.clone();
    let server = ScriptedServer::new(move |connection| {
        while let Some(head) = connection.request() {
            let breaks = head.starts_with("GET /breaks ");
            let part = format!("{:x}\r\n{FIRST}\r\n", FIRST.len());
            let begins = format!("HTTP/1.1 200 OK\r\n{HTML}Transfer-Encoding: chunked\r\n\r\n{part}");
            connection.say(&begins);
            // Bounded, so that a failing test does not leave a thread behind.
            eventually(MAX_WAIT, || flags[usize::from(breaks)].swap(false, Ordering::SeqCst));
            if breaks || !connection.say(&format!("{part}0\r\n\r\n")) {
                return;
            }
        }
    });
    let mut config = server.config();
    set(&mut config, "clusters.0.compression", "{ min_size: 0 }");
    let icm = Icm::start(config);
    for coding in CODINGS {
        for breaks in [false, true] {
            let (stream, mut received) = (open(icm.address, breaks, coding), Vec::new());
            read_until(&stream, &mut received, |received| {
                beginning(coding, &content(received)) == FIRST.as_bytes()
            });
            go_on[usize::from(breaks)].store(true, Ordering::SeqCst);
            if breaks {
                (&stream).read_to_end(&mut received).ok();
                assert!(!received.ends_with(b"0\r\n\r\n"), "{coding}: no end of a broken body");
            } else {
                read_until(&stream, &mut received, |received| received.ends_with(b"\r\n0\r\n\r\n"));
                assert_eq!(decoded(Some(coding), &content(&received)), [FIRST, FIRST].concat());
            }
        }
    }
}

fn open(address: SocketAddr, breaks: bool, coding: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    let target = if breaks { "/breaks" } else { "/slow" };
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n").unwrap();
    stream
}

fn read_until(mut stream: &TcpStream, received: &mut Vec<u8>, is_there: impl Fn(&[u8]) -> bool) {
    let mut piece = [0; 4096];
    while !is_there(received) {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(received));
        received.extend_from_slice(&piece[..n]);
    }
}

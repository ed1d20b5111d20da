//! The heads of plain requests against Pingora's own parser, and the names of fields against the sources of the proxy.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pingora::protocols::http::ServerSession;
use tokio::io::{AsyncWriteExt, duplex};

use super::*;
use crate::config::settings::Limits;
use crate::edge::client_stream::ClientStream;
use crate::edge::{ClientLimits, ListenerContext};

const BROWSER: &[u8] = b"GET /sales/leads.nsf?OpenDatabase HTTP/1.1\r\nHost: www.acme.example\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\"\r\nUser-Agent: Mozilla/5.0\r\nACCEPT: text/html\r\nSec-Fetch-Site: none\r\n\
    Accept-Encoding: gzip\r\naccept-language:de\r\nIf-None-Match:\t\"a\", \"b\" \r\nCookie: a=1\r\nCOOKIE: b=2\r\n\
    X-Forwarded-For: 1.1.1.1\r\nX_Forwarded_For: 2.2.2.2\r\n$WSRU: admin\r\nPragma:\r\nX-Own: \xe9\r\nConnection: Keep-Alive\r\n\r\n";

/// A connection with these bytes, whose first head has passed.
async fn connection(bytes: &[u8], records: bool) -> Box<ClientStream<tokio::io::DuplexStream>> {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(bytes).await.unwrap();
    let limits = ClientLimits::from(&Limits::default());
    let mut stream = Box::new(ClientStream::http1(server, limits, Arc::new(ListenerContext::default())));
    stream.record_heads(records);
    assert!(stream.wait_for_head().await);
    stream
}

async fn plain(bytes: &[u8]) -> Option<(Arc<RawRequest>, RequestHeader)> {
    connection(bytes, true).await.take_plain_head()
}

fn lines(head: &RequestHeader) -> String {
    let mut bytes = Vec::new();
    head.header_to_h1_wire(&mut bytes);
    bytes.escape_ascii().to_string()
}

async fn pingoras(bytes: &[u8]) -> RequestHeader {
    let mut session = ServerSession::new_http1(connection(bytes, true).await);
    assert!(session.read_request().await.unwrap());
    session.req_header().clone()
}

#[tokio::test]
async fn a_completed_head_is_the_one_that_pingora_parses() {
    let repeated =
        b"GET /a?b HTTP/1.1\r\ndnt: 1\r\nHost: a\r\nX: 1\r\nDNT: 2\r\nx: 2\r\nY: 3\r\nX: 4\r\n\r\n";
    for bytes in [BROWSER, repeated, b"DELETE / HTTP/1.1\r\nContent-Length: 0\r\nhost:  a:80\t\r\n\r\n"] {
        let (raw, mut head) = plain(bytes).await.unwrap();
        let wanted = pingoras(bytes).await;
        complete_head(&mut head).unwrap();
        assert_eq!(lines(&head), lines(&wanted));
        assert_eq!((&head.method, head.version, &head.uri), (&wanted.method, wanted.version, &wanted.uri));
        assert_eq!(head.raw_path(), wanted.raw_path());
        assert!(Arc::ptr_eq(RawRequest::of(&head).unwrap(), &raw));
        complete_head(&mut head).unwrap();
        assert_eq!(lines(&head), lines(&wanted), "the second time it is complete already");
        assert_eq!(raw.head(), bytes);
    }
}

#[tokio::test]
async fn the_lines_that_are_passed_on_are_not_in_the_header_map() {
    let (raw, head) = plain(BROWSER).await.unwrap();
    let passed_on: Vec<_> =
        raw.lines().filter(|(_, _, is_read)| !is_read).map(|(name, value, _)| (name, value)).collect();
    let wanted: [(&[u8], &[u8]); 5] = [
        (b"sec-ch-ua", b"\"Chromium\";v=\"140\""),
        (b"Accept-Encoding", b"gzip"),
        (b"accept-language", b"de"),
        (b"If-None-Match", b"\"a\", \"b\""),
        (b"Pragma", b""),
    ];
    assert_eq!(passed_on, wanted);
    assert_eq!(raw.lines().count(), head.headers.len() + wanted.len());
    assert!(raw.lines().all(|(name, _, kept)| kept != is_passed_on_unread(name)));
    assert_eq!(head.headers.get_all("cookie").iter().count(), 2);
    assert!(!raw.closes());
}

#[tokio::test]
async fn fields_that_the_proxy_has_changed_or_added_are_in_the_completed_head() {
    let (_, mut head) = plain(BROWSER).await.unwrap();
    head.insert_header("Cookie", "c=3").unwrap();
    head.remove_header("$wsru");
    head.insert_header("Via", "1.1 icm").unwrap();
    complete_head(&mut head).unwrap();
    let lines = lines(&head);
    assert!(lines.contains("Cookie: c=3") && !lines.contains("b=2"), "{lines}");
    assert!(!lines.contains("WSRU") && lines.ends_with("via: 1.1 icm\\r\\n"), "{lines}");
}

#[tokio::test]
async fn a_field_is_found_whether_or_not_it_is_in_the_header_map() {
    let (_, mut head) = plain(BROWSER).await.unwrap();
    let values = |head: &RequestHeader, name: &str| -> Vec<String> {
        field_values(head, name).map(|value| value.escape_ascii().to_string()).collect()
    };
    for _ in 0..2 {
        assert_eq!(values(&head, "accept-encoding"), ["gzip"]);
        assert_eq!(values(&head, "Cookie"), ["a=1", "b=2"]);
        assert_eq!(values(&head, "pragma"), [""]);
        assert!(values(&head, "range").is_empty());
        complete_head(&mut head).unwrap();
    }
}

#[tokio::test]
async fn only_plain_requests_are_recorded() {
    let with = |line: &str, fields: &str| format!("{line}\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let get = |fields| with("GET / HTTP/1.1", fields);
    for (bytes, closes) in [
        (get(""), false),
        (get("Content-Length: 0\r\n"), false),
        (get("Connection: close\r\n"), true),
        (get("Connection: keep-alive, , CLOSE\r\n"), true),
        (get("Connection: Keep-Alive\r\nConnection:\r\n"), false),
        (with("POST /names.nsf?Logout HTTP/1.1", ""), false),
    ] {
        let (raw, _) = plain(&bytes).await.unwrap();
        assert_eq!(raw.closes(), closes, "{}", bytes.escape_ascii());
        raw.close_after_response();
        assert!(raw.closes());
    }
    for bytes in [
        get("Content-Length: 3\r\n"),
        get("Transfer-Encoding: chunked\r\n"),
        get("Upgrade: h2c\r\n"),
        get("EXPECT: 100-continue\r\n"),
        get("te: trailers\r\n"),
        get("Trailer: X\r\n"),
        get("HTTP2-Settings: A\r\n"),
        get("Connection: close, X\r\n"),
        with("GET / HTTP/1.0", ""),
        with("GET /a\"b HTTP/1.1", ""),
        with("GET http://a/ HTTP/1.1", ""),
        with("OPTIONS / HTTP/1.1", ""),
        with("OPTIONS * HTTP/1.1", ""),
    ] {
        assert!(plain(&bytes).await.is_none(), "{}", bytes.escape_ascii());
    }
    assert!(connection(BROWSER, false).await.take_plain_head().is_none(), "switched off");
}

#[tokio::test]
async fn a_pipelined_request_stays_in_the_stream() {
    let mut stream = connection(&[BROWSER, BROWSER].concat(), true).await;
    for _ in 0..2 {
        let (raw, _) = stream.take_plain_head().unwrap();
        assert_eq!(raw.head(), BROWSER);
        assert!(stream.take_plain_head().is_none());
        if stream.next_request(ClientLimits::from(&Limits::default())) {
            assert!(
                tokio::time::timeout(std::time::Duration::from_secs(5), stream.wait_for_head()).await.is_ok()
            );
        }
    }
}

const UNREAD: [&str; 27] = [
    "DNT",
    "Pragma",
    "Sec-GPC",
    "Priority",
    "If-Match",
    "If-Range",
    "Sec-CH-UA",
    "Save-Data",
    "Content-Type",
    "Cache-Control",
    "If-None-Match",
    "Sec-Fetch-User",
    "Sec-CH-UA-Arch",
    "Accept-Charset",
    "Accept-Encoding",
    "Accept-Language",
    "Sec-CH-UA-Model",
    "Sec-CH-UA-Mobile",
    "Sec-CH-UA-WoW64",
    "If-Modified-Since",
    "Sec-CH-UA-Bitness",
    "Sec-CH-UA-Platform",
    "If-Unmodified-Since",
    "Sec-CH-UA-Form-Factors",
    "Upgrade-Insecure-Requests",
    "Sec-CH-UA-Platform-Version",
    "Sec-CH-UA-Full-Version-List",
];

/// Names that sources mention for another reason than to read, change or drop a field of a plain request.
const MENTIONED: [(&str, &str); 17] = [
    // Fields of responses.
    ("local_reply.rs", "cache-control"),
    ("local_reply.rs", "content-type"),
    ("response_head.rs", "cache-control"),
    ("response_head.rs", "content-type"),
    ("response_headers.rs", "content-type"),
    ("response.rs", "cache-control"),
    ("response.rs", "content-type"),
    ("response.rs", "pragma"),
    // Read by `field_values`, where compression or cache is on, or after the head was completed; tags are restored in every
    // line that goes to a server.
    ("compression.rs", "accept-encoding"),
    ("compression.rs", "if-match"),
    ("compression.rs", "if-none-match"),
    ("request.rs", "accept-encoding"),
    ("request.rs", "cache-control"),
    ("request.rs", "pragma"),
    // What `Connection` must not name; that of a plain request names no field.
    ("http_validation.rs", "cache-control"),
    ("http_validation.rs", "pragma"),
    // The whole name, not the first letters of others.
    ("request_headers.rs", "upgrade"),
];

/// The constants and string literals of a source, as names of fields in lower case.
fn mentioned(source: &str) -> BTreeSet<String> {
    let words =
        source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-' && c != '$' && c != '"');
    let constant =
        |word: &str| word.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit());
    words
        .filter_map(|word| match word.strip_prefix('"') {
            Some(literal) => Some(literal.trim_end_matches('"').to_ascii_lowercase()),
            None => constant(word).then(|| word.to_ascii_lowercase().replace('_', "-")),
        })
        .filter(|name| name.len() > 1)
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains("test") || name.starts_with("raw_request") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else {
            let source = fs::read_to_string(&path).unwrap();
            found.push((name, source.split("#[cfg(test)]").next().unwrap().to_owned()));
        }
    }
}

#[test]
fn no_field_that_the_proxy_reads_changes_or_drops_is_left_out_of_the_header_map() {
    assert!(UNREAD.iter().all(|name| is_passed_on_unread(name.as_bytes())));
    let mut files = Vec::new();
    for folder in ["proxy", "domain", "edge", "upstream", "util"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
        sources(&root, &mut files);
    }
    let mut all = BTreeSet::new();
    for (file, source) in &files {
        let is_prefix = ["request_headers.rs", "header_names.rs"].contains(&file.as_str());
        for name in mentioned(source) {
            // Names are also given by their first letters.
            let hides = |unread: &&str| {
                let unread = unread.to_ascii_lowercase();
                unread == name || (is_prefix && unread.starts_with(&name))
            };
            let hidden = UNREAD.iter().any(hides);
            let is_known = MENTIONED.iter().any(|known| *known == (file, name.as_str()));
            assert!(!hidden || is_known, "{file} mentions {name}: it must be an entry of the header map");
            all.insert(name);
        }
    }
    for name in ["host", "cookie", "sec-fetch-site", "user-agent", "x-forwarded-for", "$ws", "max-forwards"] {
        assert!(all.contains(name) && !is_passed_on_unread(name.as_bytes()), "{name}");
    }
}

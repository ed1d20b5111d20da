//! One JSON object per line, in UTF-8. Every field is always present; an unknown value is `null`.

use std::io::Write as _;

use http::Version;

use super::escape::{push_json, push_number};
use super::record::Record;
use crate::util::clock;
use crate::util::ip_text::IpText;

/// Appends the record as one line. `states` is the JSON of the field `servers`.
pub fn push(line: &mut Vec<u8>, record: &Record<'_>, states: Option<&[u8]>) {
    line.extend_from_slice(b"{\"time\":\"");
    clock::push_rfc3339_time(line);
    line.extend_from_slice(b"\",\"client\":");
    match record.client {
        Some(ip) => {
            line.push(b'"');
            line.extend_from_slice(IpText::new(ip).as_bytes());
            line.push(b'"');
        }
        None => line.extend_from_slice(b"null"),
    }
    if let Some(subject) = record.client_subject {
        text(line, br#","client_subject":"#, subject.as_bytes());
    }
    text(line, br#","method":"#, record.method.as_bytes());
    text(line, br#","host":"#, record.host);
    text(line, br#","target":"#, record.target);
    text(line, br#","protocol":"#, protocol(record.protocol).as_bytes());
    number(line, br#","status":"#, Some(u64::from(record.status)));
    number(line, br#","bytes":"#, Some(record.sent));
    number(line, br#","bytes_received":"#, Some(record.received));
    text(line, br#","referer":"#, record.referer);
    text(line, br#","user_agent":"#, record.user_agent);
    text(line, br#","cluster":"#, record.cluster.unwrap_or_default().as_bytes());
    text(line, br#","route":"#, record.route.unwrap_or_default().as_bytes());
    text(line, br#","database":"#, record.database.map_or("", |(path, _)| path).as_bytes());
    line.extend_from_slice(br#","replica_id":"#);
    match record.database {
        Some((_, id)) => {
            line.push(b'"');
            line.extend_from_slice(&id.to_hex());
            line.push(b'"');
        }
        None => line.extend_from_slice(b"null"),
    }
    text(line, br#","server":"#, record.server.map_or("", |server| server.name).as_bytes());
    text(line, br#","state":"#, record.server.map_or("", |server| server.state).as_bytes());
    line.extend_from_slice(br#","index":"#);
    match record.server.and_then(|server| server.index) {
        Some(index) => {
            let _ = write!(line, "{index:.1}");
        }
        None => line.extend_from_slice(b"null"),
    }
    text(line, br#","why":"#, record.why.as_bytes());
    line.extend_from_slice(br#","attempts":"#);
    let mut before = b'[';
    for (name, cause) in &record.attempts {
        line.push(before);
        line.extend_from_slice(b"{\"server\":");
        push_json(line, name.as_bytes());
        text(line, br#","cause":"#, cause.unwrap_or_default().as_bytes());
        line.push(b'}');
        before = b',';
    }
    line.extend_from_slice(if before == b'[' { b"[]".as_slice() } else { b"]" });
    text(line, br#","page":"#, record.page.unwrap_or_default().as_bytes());
    text(line, br#","request_id":"#, record.request_id);
    text(line, br#","access_rule":"#, record.access_rule.unwrap_or_default().as_bytes());
    number(line, br#","ttfb_ms":"#, record.first_byte_ms);
    number(line, br#","total_ms":"#, Some(record.total_ms));
    line.extend_from_slice(br#","servers":"#);
    line.extend_from_slice(states.unwrap_or(b"null"));
    if record.is_rehearsed {
        line.extend_from_slice(br#","rehearsal":true"#);
    }
    line.extend_from_slice(b"}\n");
}

/// Empty text becomes `null`.
fn text(line: &mut Vec<u8>, key: &[u8], bytes: &[u8]) {
    line.extend_from_slice(key);
    if bytes.is_empty() {
        line.extend_from_slice(b"null");
    } else {
        push_json(line, bytes);
    }
}

fn number(line: &mut Vec<u8>, key: &[u8], number: Option<u64>) {
    line.extend_from_slice(key);
    match number {
        Some(number) => push_number(line, number),
        None => line.extend_from_slice(b"null"),
    }
}

/// The protocol as written in a request line.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directory::ReplicaId;
    use crate::telemetry::access_log::record::LoggedServer;

    #[test]
    fn both_formats_write_one_valid_line_whatever_a_client_sends() {
        let record = Record {
            client: "10.0.0.7".parse().ok(),
            method: "GET",
            host: b"www\".example",
            target: b"/a\"\r\n\xff?x",
            status: 503,
            referer: b"\\\"",
            cluster: Some("Acme Web"),
            route: Some("a \"b\""),
            database: Some(("a b.nsf", ReplicaId(7))),
            server: Some(LoggedServer { name: "W\"1\\/\u{fc}", state: "BUSY", index: Some(20.4) }),
            attempts: [("Web1", Some("connect")), ("W\"1\\/\u{fc}", None)].into_iter().collect(),
            why: "entry",
            request_id: b"a-7",
            first_byte_ms: Some(3),
            total_ms: 4,
            ..Record::default()
        };
        let mut line = Vec::new();
        push(&mut line, &record, None);
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(read["target"], "/a\"\r\n\u{fffd}?x");
        assert_eq!(read["server"], "W\"1\\/\u{fc}");
        assert_eq!(read["route"], "a \"b\"");
        assert_eq!(read["attempts"][0]["cause"], "connect");
        assert_eq!(read["attempts"][1]["cause"], serde_json::Value::Null);
        assert_eq!(read["request_id"], "a-7");
        assert_eq!(read.get("servers"), Some(&serde_json::Value::Null));
        assert_eq!((&read["index"], &read["replica_id"]), (&20.4.into(), &ReplicaId(7).to_string().into()));
        let mut line = Vec::new();
        push(&mut line, &record, Some(br#"{"list":[]}"#));
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(read["servers"]["list"], serde_json::json!([]));
        let mut line = Vec::new();
        super::super::combined::push(&mut line, &record);
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(
            line.contains(r#""GET /a\"\x0d\x0a\xff?x HTTP/1.1" 503 0 "\\\"" "-" cluster=Acme\x20Web "#),
            "{line}"
        );
        let end = " index=20 why=entry failed=Web1:connect ttfb=3ms total=4ms request_id=a-7\n";
        assert!(line.ends_with(end), "{line}");
        let mut line = Vec::new();
        super::super::combined::push(&mut line, &Record { request_id: b"", ..record });
        assert!(line.ends_with(b" ttfb=3ms total=4ms\n"), "no field where there are no IDs");
    }
}

//! Apache's combined format, followed by the fields of the proxy as `name=value`.
//! <https://httpd.apache.org/docs/2.4/logs.html#combined>

use super::escape::{push_number, push_quoted, push_word};
use super::record::Record;
use crate::util::clock;
use crate::util::ip_text::IpText;

/// Appends the record as one line.
pub fn push(line: &mut Vec<u8>, record: &Record<'_>) {
    match record.client {
        Some(ip) => line.extend_from_slice(IpText::new(ip).as_bytes()),
        None => line.push(b'-'),
    }
    line.extend_from_slice(b" - - [");
    clock::push_clf_time(line);
    line.extend_from_slice(b"] \"");
    push_quoted(line, record.method.as_bytes());
    line.push(b' ');
    push_or_dash(line, record.target);
    line.push(b' ');
    line.extend_from_slice(super::json::protocol(record.protocol).as_bytes());
    line.extend_from_slice(b"\" ");
    push_number(line, u64::from(record.status));
    line.push(b' ');
    push_number(line, record.sent);
    line.extend_from_slice(b" \"");
    push_or_dash(line, record.referer);
    line.extend_from_slice(b"\" \"");
    push_or_dash(line, record.user_agent);
    line.extend_from_slice(b"\" cluster=");
    push_own_fields(line, record);
}

/// Appends the fields that Apache does not have, from the value of `cluster` to the end of the line.
fn push_own_fields(line: &mut Vec<u8>, record: &Record<'_>) {
    push_word(line, record.cluster.unwrap_or("-"));
    if let Some(route) = record.route {
        line.extend_from_slice(b" route=");
        push_word(line, route);
    }
    line.extend_from_slice(b" db=");
    match record.database {
        Some((path, replica_id)) => {
            push_word(line, path);
            line.extend_from_slice(b" replica=");
            line.extend_from_slice(&replica_id.to_hex());
        }
        None => line.extend_from_slice(b"- replica=-"),
    }
    line.extend_from_slice(b" server=");
    push_word(line, record.server.map_or("-", |server| server.name));
    line.extend_from_slice(b" state=");
    line.extend_from_slice(record.server.map_or("-", |server| server.state).as_bytes());
    line.extend_from_slice(b" index=");
    match record.server.and_then(|server| server.index) {
        Some(index) => push_number(line, index.round() as u64),
        None => line.push(b'-'),
    }
    line.extend_from_slice(b" why=");
    line.extend_from_slice(record.why.as_bytes());
    let mut before: &[u8] = b" failed=";
    for (name, cause) in &record.attempts {
        if let Some(cause) = cause {
            line.extend_from_slice(before);
            push_word(line, name);
            line.push(b':');
            // A space would end the field.
            line.extend(cause.bytes().map(|b| if b == b' ' { b'_' } else { b }));
            before = b",";
        }
    }
    if let Some(page) = record.page {
        line.extend_from_slice(b" page=");
        line.extend_from_slice(page.as_bytes());
    }
    if let Some(rule) = record.access_rule {
        line.extend_from_slice(b" rule=");
        push_word(line, rule);
    }
    match record.first_byte_ms {
        Some(ms) => {
            line.extend_from_slice(b" ttfb=");
            push_number(line, ms);
            line.extend_from_slice(b"ms");
        }
        None => line.extend_from_slice(b" ttfb=-"),
    }
    line.extend_from_slice(b" total=");
    push_number(line, record.total_ms);
    line.extend_from_slice(b"ms");
    // At the end, because readers of the line know the fields before by their place.
    if !record.request_id.is_empty() {
        line.extend_from_slice(b" request_id=");
        push_quoted(line, record.request_id);
    }
    if record.is_rehearsed {
        line.extend_from_slice(b" rehearsal=moved");
    }
    line.push(b'\n');
}

fn push_or_dash(line: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        line.push(b'-');
    } else {
        push_quoted(line, bytes);
    }
}

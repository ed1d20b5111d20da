//! Apache's combined format, followed by the fields of the proxy as `name=value`.
//! <https://httpd.apache.org/docs/2.4/logs.html#combined>

use std::fmt::Write as _;

use super::escape::{push_number, push_quoted, push_word};
use super::record::Record;
use crate::util::clock;
use crate::util::ip_text::IpText;

/// Appends the record as one line.
pub fn push(line: &mut String, record: &Record<'_>) {
    match record.client {
        Some(ip) => line.push_str(&IpText::new(ip)),
        None => line.push('-'),
    }
    line.push_str(" - - [");
    clock::push_clf_time(line);
    line.push_str("] \"");
    push_quoted(line, record.method.as_bytes());
    line.push(' ');
    push_or_dash(line, record.target);
    line.push(' ');
    line.push_str(super::json::protocol(record.protocol));
    line.push_str("\" ");
    push_number(line, u64::from(record.status));
    line.push(' ');
    push_number(line, record.sent);
    line.push_str(" \"");
    push_or_dash(line, record.referer);
    line.push_str("\" \"");
    push_or_dash(line, record.user_agent);
    line.push_str("\" cluster=");
    push_own_fields(line, record);
}

/// Appends the fields that Apache does not have, from the value of `cluster` to the end of the line.
fn push_own_fields(line: &mut String, record: &Record<'_>) {
    push_word(line, record.cluster.unwrap_or("-"));
    line.push_str(" db=");
    match record.database {
        Some((path, replica_id)) => {
            push_word(line, path);
            let _ = write!(line, " replica={replica_id}");
        }
        None => line.push_str("- replica=-"),
    }
    line.push_str(" server=");
    push_word(line, record.server.map_or("-", |server| server.name));
    line.push_str(" state=");
    line.push_str(record.server.map_or("-", |server| server.state));
    line.push_str(" index=");
    match record.server.and_then(|server| server.index) {
        Some(index) => push_number(line, index.round() as u64),
        None => line.push('-'),
    }
    line.push_str(" why=");
    line.push_str(record.why);
    let mut before = " failed=";
    for (name, cause) in &record.attempts {
        if let Some(cause) = cause {
            line.push_str(before);
            push_word(line, name);
            line.push(':');
            // A space would end the field.
            line.extend(cause.chars().map(|c| if c == ' ' { '_' } else { c }));
            before = ",";
        }
    }
    if let Some(page) = record.page {
        line.push_str(" page=");
        line.push_str(page);
    }
    match record.first_byte_ms {
        Some(ms) => {
            line.push_str(" ttfb=");
            push_number(line, ms);
            line.push_str("ms");
        }
        None => line.push_str(" ttfb=-"),
    }
    line.push_str(" total=");
    push_number(line, record.total_ms);
    line.push_str("ms\n");
}

fn push_or_dash(line: &mut String, bytes: &[u8]) {
    if bytes.is_empty() {
        line.push('-');
    } else {
        push_quoted(line, bytes);
    }
}

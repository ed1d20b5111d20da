//! Writes the head of a request for a server as bytes, without a header map of its own. Pingora's loop has the same fields
//! in the copy of the client's head that `request_headers` prepares.

use http::HeaderValue;
use http::header::MAX_FORWARDS;
use pingora::Result;
use pingora_http::{HeaderNameVariant, RequestHeader};

use crate::edge::raw_request::RawRequest;
use crate::proxy::attempt::Attempt;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::header_edits::FieldEdits;
use crate::proxy::routed::Routed;
use crate::proxy::{compression, request_cookies, request_headers};
use crate::util::reused_buffer;

/// The head of this attempt, in the buffer of this thread.
pub(super) fn write(
    request: &RequestHeader,
    routed: &Routed,
    attempt: &Attempt,
    client: ClientInfo,
    edits: &FieldEdits<'_>,
) -> Result<Vec<u8>> {
    let mut head = Head(reused_buffer::take());
    let target = request_headers::target_for_server(request, routed, attempt);
    let target = target.as_deref().unwrap_or_else(|| request.raw_path());
    head.push(&[request.method.as_str().as_bytes(), b" ", target, b" HTTP/1.1\r\n"]);
    let host = request_headers::host_of_server(routed, attempt);
    client_fields(&mut head, request, routed, host.as_deref().unwrap_or(&routed.authority), edits)?;
    if routed.rewrites_cookies {
        let line = request_cookies::line_for_server(request, routed, attempt);
        if !line.is_empty() {
            head.field("Cookie", &line);
        }
    }
    let mut set = |name: &'static str, value: &[u8]| {
        head.field(name, value);
        Ok(())
    };
    request_headers::forwarding_fields(routed, client, &mut set)?;
    request_headers::connector_fields(routed, attempt, client, &mut set)?;
    if let Some(via) = request_headers::via(routed, request.version) {
        head.field("Via", via.as_bytes());
    }
    for (field, value) in edits.added() {
        head.push(&[&field.spelling, b": ", value.as_bytes(), b"\r\n"]);
    }
    head.push(&[b"\r\n"]);
    Ok(head.0)
}

/// The client's own fields, in the client's spelling and order.
fn client_fields(
    head: &mut Head,
    request: &RequestHeader,
    routed: &Routed,
    host: &str,
    edits: &FieldEdits<'_>,
) -> Result<()> {
    head.field("Host", host.as_bytes());
    let compresses = routed.cluster.settings.compression.is_some();
    let has_edits = !edits.is_empty();
    let mut pass = |name: &str, value: &[u8]| {
        let is_written_apart = match name.len() {
            4 => name.eq_ignore_ascii_case("host"),
            6 => routed.rewrites_cookies && name.eq_ignore_ascii_case("cookie"),
            _ => false,
        };
        let is_edited = has_edits && !edits.passes(name);
        if is_written_apart || is_edited || !request_headers::passes_to_server(name) {
            return;
        }
        let restored = compresses.then(|| compression::value_for_server(name, value)).flatten();
        head.field(name, restored.as_deref().unwrap_or(value));
    };
    let Some(raw) = RawRequest::of(request) else {
        return request.map(|name, value| {
            match &name {
                HeaderNameVariant::Case(name) => {
                    pass(std::str::from_utf8(name.as_slice()).unwrap_or_default(), value.as_bytes());
                }
                HeaderNameVariant::Titled(name) => pass(name, value.as_bytes()),
            }
            Ok(())
        });
    };
    for (name, value, is_read) in raw.lines() {
        let name = std::str::from_utf8(name).unwrap_or_default();
        // The only field that a check changes.
        let changed = Some(MAX_FORWARDS).filter(|field| is_read && name.eq_ignore_ascii_case(field.as_str()));
        let changed = changed.and_then(|field| request.headers.get(field));
        pass(name, changed.map_or(value, HeaderValue::as_bytes));
    }
    Ok(())
}

struct Head(Vec<u8>);

impl Head {
    fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.0.extend_from_slice(part);
        }
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        self.push(&[name.as_bytes(), b": ", value, b"\r\n"]);
    }
}

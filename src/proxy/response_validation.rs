//! The framing of a response: repairs what has only one meaning, refuses the rest (RFC 9110 sections 8.6 and 15, RFC 9112
//! sections 2.3, 6.1 and 6.3).
//!
//! Pingora reads the body by its own rules (`init_body_reader` in `pingora-core`), and clients by the head that they get:
//! both must find the same end.

use http::{Method, Version};
use pingora::Result;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use crate::upstream::response_head::{ResponseField, ResponseHead};

/// Why a head cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MalformedResponse {
    #[error("Content-Length is not one number")]
    ContentLength,
    /// A coding that Pingora does not decode, or whose end it does not see.
    #[error("Transfer-Encoding is not chunked alone")]
    TransferEncoding,
    /// Its framing is faulty by definition (RFC 9112 section 6.1).
    #[error("HTTP/1.0 with Transfer-Encoding")]
    TransferEncodingInHttp10,
    #[error("101 without a request for another protocol")]
    SwitchingProtocols,
}

/// Makes the framing of a head unambiguous, or calls `malformed` with the reason.
///
/// # Errors
/// 502: the server has processed the request, so it is not sent again, and the connection is not reused.
pub(super) fn check<H: ResponseHead>(
    head: &mut H,
    session: &mut Session,
    malformed: impl FnOnce(MalformedResponse),
) -> Result<()> {
    let unasked = head.status().as_u16() == 101
        && (head.version() != Version::HTTP_11 || !session.as_mut().is_upgrade_req());
    let checked = if unasked {
        Err(MalformedResponse::SwitchingProtocols)
    } else {
        normalize(head, &session.req_header().method)
    };
    checked.map_err(|cause| {
        malformed(cause);
        let mut e = Error::explain(ErrorType::HTTPStatus(502), cause.to_string());
        e.as_up();
        e.set_retry(false);
        e
    })
}

fn normalize<H: ResponseHead>(head: &mut H, method: &Method) -> std::result::Result<(), MalformedResponse> {
    let status = head.status().as_u16();
    // These have no length, not even 0 (RFC 9110 section 8.6).
    let has_no_length = status < 200 || status == 204;
    if head.has(ResponseField::TransferEncoding) {
        if has_no_length || status == 304 {
            head.remove(ResponseField::TransferEncoding);
        } else {
            repair_transfer_encoding(head, *method == Method::HEAD)?;
        }
    }
    if has_no_length {
        head.remove(ResponseField::ContentLength);
    } else {
        repair_content_length(head)?;
    }
    if head.version() != Version::HTTP_11 {
        // A proxy sends its own version (RFC 9110 section 2.5), and the body may go out in chunks.
        head.set_version(Version::HTTP_11);
    }
    Ok(())
}

/// Leaves one line with one number.
fn repair_content_length<H: ResponseHead>(head: &mut H) -> std::result::Result<(), MalformedResponse> {
    let mut lines = head.all(ResponseField::ContentLength);
    let Some(first) = lines.next() else { return Ok(()) };
    if lines.next().is_none() && is_plain_number(first) {
        return Ok(());
    }
    drop(lines);
    let length = single_length(head).ok_or(MalformedResponse::ContentLength)?;
    let mut digits = itoa::Buffer::new();
    head.set(ResponseField::ContentLength, digits.format(length))
        .map_err(|_| MalformedResponse::ContentLength)
}

/// Whether all parsers read a length alike: digits without a leading zero that fit into an `i64`.
pub(super) fn is_plain_number(text: &[u8]) -> bool {
    match text {
        b"0" => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 18 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The number that all elements of all lines agree on.
fn single_length<H: ResponseHead>(head: &H) -> Option<u64> {
    let mut length = None;
    for element in elements(head, ResponseField::ContentLength) {
        if element.is_empty() || !element.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = std::str::from_utf8(element).ok()?.parse::<u64>().ok()?;
        if i64::try_from(number).is_err() || length.is_some_and(|other| other != number) {
            return None;
        }
        length = Some(number);
    }
    length
}

/// Leaves `chunked` in one line, or no coding.
fn repair_transfer_encoding<H: ResponseHead>(
    head: &mut H,
    is_head: bool,
) -> std::result::Result<(), MalformedResponse> {
    if head.version() != Version::HTTP_11 {
        return Err(MalformedResponse::TransferEncodingInHttp10);
    }
    let mut lines = head.all(ResponseField::TransferEncoding);
    if lines.next().is_some_and(|first| first == b"chunked") && lines.next().is_none() {
        // Pingora has removed a Content-Length.
        return Ok(());
    }
    drop(lines);
    let refused = MalformedResponse::TransferEncoding;
    match codings(head) {
        TransferCodings::Chunked => {
            return head.set(ResponseField::TransferEncoding, "chunked").map_err(|_| refused);
        }
        // There is no body.
        _ if is_head => {}
        // Pingora reads to the end of the connection, so the body must end there.
        TransferCodings::None if closes(head) => {}
        _ => return Err(refused),
    }
    head.remove(ResponseField::TransferEncoding);
    Ok(())
}

enum TransferCodings {
    /// `chunked` alone, and Pingora reads it so.
    Chunked,
    /// None, or `identity`, which once meant that.
    None,
    Other,
}

fn codings<H: ResponseHead>(head: &H) -> TransferCodings {
    let is = |element: &[u8], coding: &str| element.eq_ignore_ascii_case(coding.as_bytes());
    // Empty elements of a list are ignored (RFC 9110 section 5.6.1.2), but Pingora looks only at the last element, even
    // an empty one.
    let all = || elements(head, ResponseField::TransferEncoding);
    let mut named = all().filter(|element| !element.is_empty());
    match (named.next(), named.next()) {
        (None, _) => TransferCodings::None,
        (Some(coding), None) if is(coding, "identity") => TransferCodings::None,
        (Some(coding), None) if is(coding, "chunked") && all().last().is_some_and(|e| is(e, "chunked")) => {
            TransferCodings::Chunked
        }
        _ => TransferCodings::Other,
    }
}

/// Whether the server closes the connection after this response.
fn closes<H: ResponseHead>(head: &H) -> bool {
    elements(head, ResponseField::Connection).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// The elements of a list in any number of lines, trimmed.
fn elements<H: ResponseHead>(head: &H, field: ResponseField) -> impl Iterator<Item = &[u8]> {
    head.all(field).flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::raw_response_head::{MalformedHead, RawResponseHead};
    use pingora_http::ResponseHeader;

    fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            head.append_header((*name).to_owned(), *value).unwrap();
        }
        head
    }

    /// The values of Content-Length and Transfer-Encoding after the repair.
    type Framing = (Vec<String>, Vec<String>);

    /// Repairs the same head in Pingora's header map and as it comes from the server.
    fn repaired(
        status: u16,
        method: Method,
        fields: &[(&str, &str)],
    ) -> std::result::Result<Framing, MalformedResponse> {
        let mut map = head(status, fields);
        let map = normalize(&mut map, &method).map(|()| framing_of(&map));
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut received = format!("HTTP/1.1 {status} x\r\n{lines}\r\n").as_bytes().into();
        let raw = match RawResponseHead::parse(&mut received) {
            Ok(raw) => {
                let mut raw = raw.unwrap();
                normalize(&mut raw, &method).map(|()| framing_of(&raw))
            }
            Err(MalformedHead::ContentLength) => Err(MalformedResponse::ContentLength),
            Err(other) => panic!("{other}"),
        };
        // Both clients remove a length beside a coding as soon as they read a head.
        if fields.len() == 1 || fields[0].0 == fields[1].0 {
            assert_eq!(map, raw, "{status} {method} {fields:?}");
        }
        map
    }

    fn framing_of<H: ResponseHead>(head: &H) -> Framing {
        let all = |field| head.all(field).map(|v| String::from_utf8(v.to_vec()).unwrap()).collect();
        (all(ResponseField::ContentLength), all(ResponseField::TransferEncoding))
    }

    fn framing(length: &[&str], coding: &[&str]) -> Framing {
        let owned = |all: &[&str]| all.iter().map(|v| (*v).to_owned()).collect();
        (owned(length), owned(coding))
    }

    #[test]
    fn equal_lengths_become_one_and_others_are_refused() {
        for values in [&["5"][..], &["5", "5"], &["5, 5"], &["5,5", " 5 "], &["005"], &["05", "5"]] {
            let fields: Vec<_> = values.iter().map(|v| ("Content-Length", *v)).collect();
            assert_eq!(repaired(200, Method::GET, &fields), Ok(framing(&["5"], &[])), "{values:?}");
            assert_eq!(repaired(200, Method::HEAD, &fields), Ok(framing(&["5"], &[])), "{values:?}");
            assert_eq!(repaired(304, Method::GET, &fields), Ok(framing(&["5"], &[])), "{values:?}");
        }
        let largest = ["9223372036854775807"];
        let fields = [("Content-Length", largest[0])];
        assert_eq!(repaired(200, Method::GET, &fields), Ok(framing(&largest, &[])));
        for values in [
            &["5", "6"][..],
            &["5, 6"],
            &["5,"],
            &[""],
            &["+5"],
            &["-5"],
            &["5;"],
            &["5 5"],
            &["0x5"],
            &["5.0"],
            &["9223372036854775808"],
            &["99999999999999999999999"],
        ] {
            let fields: Vec<_> = values.iter().map(|v| ("Content-Length", *v)).collect();
            let refused = Err(MalformedResponse::ContentLength);
            assert_eq!(repaired(200, Method::GET, &fields), refused, "{values:?}");
        }
    }

    #[test]
    fn a_response_without_a_body_has_no_coding_and_only_some_have_a_length() {
        let both = [("Content-Length", "0"), ("Transfer-Encoding", "gzip")];
        for status in [100, 101, 103, 204] {
            assert_eq!(repaired(status, Method::GET, &both), Ok(framing(&[], &[])), "{status}");
        }
        assert_eq!(repaired(304, Method::GET, &both), Ok(framing(&["0"], &[])));
        for coding in ["gzip", "identity", "", "chunked, chunked"] {
            let fields = [("Transfer-Encoding", coding)];
            assert_eq!(repaired(200, Method::HEAD, &fields), Ok(framing(&[], &[])), "{coding}");
        }
        let fields = [("Transfer-Encoding", "Chunked")];
        assert_eq!(repaired(200, Method::HEAD, &fields), Ok(framing(&[], &["chunked"])));
    }

    #[test]
    fn a_coding_is_chunked_alone_or_none_at_the_end_of_a_connection() {
        for values in [&["chunked"][..], &["CHUNKED"], &[", chunked"], &["", "chunked"], &[" chunked "]] {
            let fields: Vec<_> = values.iter().map(|v| ("Transfer-Encoding", *v)).collect();
            assert_eq!(repaired(200, Method::GET, &fields), Ok(framing(&[], &["chunked"])), "{values:?}");
        }
        for values in [
            &["gzip, chunked"][..],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["chunked, gzip"],
            &["gzip"],
            &["x"],
            &["chunked,"],
            &["chunked", ""],
            &["chunked;x=y"],
            &["chunked;x=\"y, chunked\""],
            &["identity, chunked"],
        ] {
            let mut fields: Vec<_> = values.iter().map(|v| ("Transfer-Encoding", *v)).collect();
            let refused = Err(MalformedResponse::TransferEncoding);
            assert_eq!(repaired(200, Method::GET, &fields), refused, "{values:?}");
            fields.push(("Connection", "close"));
            assert_eq!(repaired(200, Method::GET, &fields), refused, "{values:?}");
        }
        for coding in ["identity", "", ", "] {
            let open = [("Transfer-Encoding", coding)];
            assert_eq!(repaired(200, Method::GET, &open), Err(MalformedResponse::TransferEncoding));
            let closed = [open[0], ("Connection", "x, Close")];
            assert_eq!(repaired(200, Method::GET, &closed), Ok(framing(&[], &[])), "{coding}");
        }
    }

    #[test]
    fn a_response_in_http_1_0_becomes_one_in_1_1_unless_it_has_a_coding() {
        let mut old = head(200, &[("Content-Length", "5")]);
        old.set_version(Version::HTTP_10);
        assert_eq!(normalize(&mut old, &Method::GET), Ok(()));
        assert_eq!(old.version, Version::HTTP_11);
        let mut old = head(200, &[("Transfer-Encoding", "chunked")]);
        old.set_version(Version::HTTP_10);
        let refused = Err(MalformedResponse::TransferEncodingInHttp10);
        assert_eq!(normalize(&mut old, &Method::GET), refused);
    }
}

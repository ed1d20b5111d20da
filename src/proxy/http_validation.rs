//! Validates requests by the rules of HTTP for proxies: methods, targets, hops and hop-by-hop fields (RFC 9110 sections
//! 7.6 to 7.8, 9.3.8 and 10.1.1).

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Version};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::response_validation::is_plain_number;
use crate::config::settings::Limits;
use crate::domain::url;
use crate::edge::gate::refusal;
use crate::pages::Problem;

/// The registered methods have at most 17 bytes.
const MAX_METHOD_BYTES: usize = 32;
/// Options of `Connection` fields; clients send two or three.
const MAX_CONNECTION_OPTIONS: usize = 8;

/// Validates a head and removes what is not for a server. True if this proxy is the last hop of an OPTIONS.
pub(super) fn validate(head: &mut RequestHeader) -> Result<bool, Problem> {
    if head.method.as_str().len() > MAX_METHOD_BYTES {
        return Err(Problem::NotImplemented);
    }
    // TRACE would show scripts the HttpOnly cookies; CONNECT is for forward proxies.
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        return Err(Problem::MethodNotAllowed);
    }
    check_target(head)?;
    check_expect(head)?;
    if head.version == Version::HTTP_2 {
        join_cookies(head)?;
    } else {
        check_connection(head)?;
        check_upgrade(head);
    }
    is_last_hop(head)
}

/// HTTP/2 may split the cookies into several lines; HTTP/1 allows only one (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> Result<(), Problem> {
    let mut lines = head.headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return Ok(()) };
    let mut all = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        all.extend_from_slice(b"; ");
        all.extend_from_slice(line.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&all);
    let joined = joined.ok().and_then(|joined| head.insert_header(header::COOKIE, joined).ok());
    joined.ok_or(Problem::BadRequest("The request's cookies are not valid."))
}

/// Refuses fragments and bytes that must be percent-encoded.
fn check_target(head: &RequestHeader) -> Result<(), Problem> {
    if head.raw_path().iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return Err(Problem::BadRequest(
            "The request's target contains a `#`, or a character that must be percent-encoded.",
        ));
    }
    let known = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if head.uri.scheme_str().is_some_and(|scheme| !known(scheme)) {
        return Err(Problem::BadRequest("The request's scheme is neither http nor https."));
    }
    Ok(())
}

/// HTTP/1.0 has no 1xx, so its `Expect` is removed. Otherwise only `100-continue` is defined.
fn check_expect(head: &mut RequestHeader) -> Result<(), Problem> {
    if !head.headers.contains_key(header::EXPECT) {
        return Ok(());
    }
    if head.version == Version::HTTP_10 {
        head.remove_header(&header::EXPECT);
        return Ok(());
    }
    let known = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"100-continue");
    if head.headers.get_all(header::EXPECT).iter().all(known) {
        return Ok(());
    }
    Err(Problem::ExpectationFailed)
}

/// Whether the client's connection may carry another request. In HTTP/1.0 the end of the connection may be the end of the
/// response.
pub(super) fn keeps_connection(head: &RequestHeader) -> bool {
    head.version != Version::HTTP_10
        && !connection_options(&head.headers).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// The options of all `Connection` fields.
pub(super) fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// Removes options of `Connection` that name end-to-end fields or those that the proxy sets (RFC 9110 section 7.6.1).
fn check_connection(head: &mut RequestHeader) -> Result<(), Problem> {
    if !head.headers.contains_key(header::CONNECTION) {
        return Ok(());
    }
    let mut kept: SmallVec<[&[u8]; MAX_CONNECTION_OPTIONS]> = SmallVec::new();
    let (mut seen, mut dropped) = (0, false);
    for option in connection_options(&head.headers) {
        seen += 1;
        let Ok(name) = HeaderName::from_bytes(option) else {
            return Err(Problem::BadRequest("A Connection option of the request is not a field name."));
        };
        if is_end_to_end(name.as_str()) {
            dropped = true;
        } else {
            kept.push(option);
        }
    }
    if seen > MAX_CONNECTION_OPTIONS {
        return Err(Problem::BadRequest("The request has too many Connection options."));
    }
    if !dropped {
        return Ok(());
    }
    let rest = HeaderValue::from_bytes(&kept.join(&b", "[..]));
    drop(kept);
    head.remove_header(&header::CONNECTION);
    match rest {
        Ok(rest) if !rest.is_empty() => head
            .insert_header(header::CONNECTION, rest)
            .map_err(|_| Problem::BadRequest("The request's Connection field is not valid.")),
        _ => Ok(()),
    }
}

/// The name is in lower case.
fn is_end_to_end(name: &str) -> bool {
    crate::util::header_names::is_reserved(name)
        || name.starts_with("content-")
        || name.starts_with("accept")
        || name.starts_with("if-")
        || name.starts_with("sec-")
        || name.starts_with("access-control-")
        || matches!(
            name,
            "authorization"
                | "cache-control"
                | "cookie"
                | "date"
                | "expect"
                | "from"
                | "host"
                | "max-forwards"
                | "origin"
                | "pragma"
                | "range"
                | "referer"
                | "transfer-encoding"
                | "user-agent"
                | "via"
        )
}

/// Removes `Upgrade` except from a valid WebSocket handshake. Pingora would add the missing `Connection` option.
fn check_upgrade(head: &mut RequestHeader) {
    let headers = &head.headers;
    if !headers.contains_key(header::UPGRADE) {
        return;
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let websocket =
        headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let asked = connection_options(headers).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    if !(websocket && asked && !has_body && head.method == Method::GET && head.version == Version::HTTP_11) {
        head.remove_header(&header::UPGRADE);
    }
}

/// Decrements `Max-Forwards` of an OPTIONS. True if it was 0.
fn is_last_hop(head: &mut RequestHeader) -> Result<bool, Problem> {
    if head.method != Method::OPTIONS {
        return Ok(false);
    }
    const NOT_A_NUMBER: Problem = Problem::BadRequest("The request's Max-Forwards is not a number.");
    let mut all = head.headers.get_all(header::MAX_FORWARDS).iter();
    let left = match (all.next(), all.next()) {
        (None, _) => return Ok(false),
        (Some(value), None) if value.as_bytes().iter().all(u8::is_ascii_digit) => {
            // A larger number of hops has the same meaning.
            value.to_str().ok().filter(|v| !v.is_empty()).map(|v| v.parse().unwrap_or(u32::MAX))
        }
        _ => None,
    };
    match left.ok_or(NOT_A_NUMBER)?.checked_sub(1) {
        None => Ok(true),
        Some(left) => {
            head.insert_header(header::MAX_FORWARDS, left).map(|()| false).map_err(|_| NOT_A_NUMBER)
        }
    }
}

/// Checks the size and the syntax of an HTTP/2 head. The gate has checked those of HTTP/1.
pub(super) fn check_http2(head: &RequestHeader, limits: &Limits) -> Result<(), Problem> {
    let headers = &head.headers;
    if head.raw_path().len() as u64 > limits.uri_bytes {
        return Err(Problem::UriTooLong);
    }
    let (mut bytes, mut padded) = (0, false);
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        padded |= matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    }
    if headers.len() > limits.header_count || bytes as u64 > limits.header_bytes {
        return Err(Problem::HeadersTooLarge);
    }
    // HTTP/1.1 allows spaces around a value, HTTP/2 does not (RFC 9113 section 8.2.1).
    if padded {
        return Err(Problem::BadRequest("The value of a header field begins or ends with a space or tab."));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || !is_plain_number(length.as_bytes()))
    {
        return Err(Problem::BadRequest(refusal::LENGTH.reason));
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::BadRequest(refusal::DUPLICATE_HOST.reason));
    }
    Ok(())
}

/// Turns an absolute target into the origin form. Its authority overrides the Host field (RFC 9112 section 3.2.2).
///
/// # Errors
/// The error page for any other form except `OPTIONS *`.
pub(super) fn to_origin_form(head: &mut RequestHeader) -> Result<(), Problem> {
    let raw = head.raw_path();
    if raw.first() == Some(&b'/') || (raw == b"*" && head.method == Method::OPTIONS) {
        return Ok(());
    }
    const NOT_A_TARGET: Problem = Problem::BadRequest(refusal::TARGET_FORM.reason);
    let (host, target) = url::split_absolute_url(raw).ok_or(NOT_A_TARGET)?;
    let target = match target.first() {
        Some(b'/') => target.to_vec(),
        // `http://www.acme.example?OpenServer` has an empty path, which means the root.
        Some(b'?') => [b"/", target].concat(),
        _ => return Err(NOT_A_TARGET),
    };
    let host = HeaderValue::from_bytes(host).map_err(|_| NOT_A_TARGET)?;
    head.set_raw_path(&target).map_err(|_| NOT_A_TARGET)?;
    head.insert_header(header::HOST, host).map_err(|_| NOT_A_TARGET)
}

/// The declared length of the body.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            head.append_header((*name).to_owned(), *value).unwrap();
        }
        head
    }

    fn validated(method: &str, fields: &[(&str, &str)]) -> Result<(bool, HeaderMap), u16> {
        let mut head = head(method, "/", fields);
        validate(&mut head).map(|last| (last, head.headers.clone())).map_err(|problem| problem.status())
    }

    #[test]
    fn methods_that_no_server_should_see_are_refused() {
        assert_eq!(validated("TRACE", &[]).err(), Some(405));
        assert_eq!(validated("CONNECT", &[]).err(), Some(405));
        assert_eq!(validated(&"M".repeat(33), &[]).err(), Some(501));
        for method in [&*"M".repeat(32), "GET", "PROPFIND", "VERSION-CONTROL"] {
            assert!(validated(method, &[]).is_ok(), "{method}");
        }
    }

    #[test]
    fn a_target_with_a_byte_that_must_be_encoded_is_refused() {
        for (target, good) in [("/gr\u{f6}\u{df}e", false), ("/a^|{}", true), ("/?\\", true)] {
            assert_eq!(validate(&mut head("GET", target, &[])).is_ok(), good, "{target}");
        }
    }

    #[test]
    fn expect_is_removed_in_http_1_0_and_refused_if_unknown() {
        let mut old = head("POST", "/", &[("Expect", "100-continue")]);
        old.set_version(Version::HTTP_10);
        validate(&mut old).unwrap();
        assert!(!old.headers.contains_key("expect"));
        assert!(validated("POST", &[("Expect", "100-Continue")]).unwrap().1.contains_key("expect"));
        assert_eq!(validated("POST", &[("Expect", "200-ok")]).err(), Some(417));
        assert_eq!(validated("POST", &[("Expect", "100-continue"), ("Expect", "x")]).err(), Some(417));
    }

    #[test]
    fn connection_keeps_only_options_for_this_hop() {
        for (given, left) in [
            ("close", Some("close")),
            ("keep-alive, X-Own", Some("keep-alive, X-Own")),
            ("close, X-Forwarded-For, Cookie, $WSRA, X-Own", Some("close, X-Own")),
            ("Authorization,Host , content-length, X_Forwarded_For", None),
            (",, ,", Some(",, ,")),
        ] {
            let fields = validated("GET", &[("Connection", given)]).unwrap().1;
            assert_eq!(fields.get("connection").map(|v| v.to_str().unwrap()), left, "{given}");
        }
        assert_eq!(validated("GET", &[("Connection", "close, \"cookie\"")]).err(), Some(400));
        assert_eq!(validated("GET", &[("Connection", ":authority")]).err(), Some(400));
        assert_eq!(
            validated("GET", &[("Connection", "a,b,c,d"), ("Connection", "e,f,g,h,i")]).err(),
            Some(400)
        );
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_no_body() {
        let kept = |fields: &[(&str, &str)]| validated("GET", fields).unwrap().1.contains_key("upgrade");
        let both = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")];
        assert!(kept(&both));
        assert!(!kept(&both[1..]));
        assert!(!kept(&[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c")]));
        assert!(!kept(&[both[0], both[1], ("Content-Length", "5")]));
        assert!(!kept(&[both[0], both[1], ("Transfer-Encoding", "chunked")]));
        assert!(!validated("POST", &both).unwrap().1.contains_key("upgrade"));
    }

    #[test]
    fn cookie_lines_of_http_2_are_joined() {
        let mut pieces = head("GET", "/", &[("Cookie", "a=1"), ("Cookie", "b=2; c=3"), ("Cookie", "d=4")]);
        pieces.set_version(Version::HTTP_2);
        validate(&mut pieces).unwrap();
        let all: Vec<_> = pieces.headers.get_all("cookie").iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn max_forwards_is_decremented_for_options_only() {
        let hops = |method, value| {
            validated(method, &[("Max-Forwards", value)])
                .map(|(last, fields)| (last, fields["max-forwards"].to_str().unwrap().to_owned()))
        };
        assert_eq!(hops("OPTIONS", "0"), Ok((true, "0".into())));
        assert_eq!(hops("OPTIONS", "000"), Ok((true, "000".into())));
        assert_eq!(hops("OPTIONS", "5"), Ok((false, "4".into())));
        assert_eq!(hops("OPTIONS", "99999999999999999999"), Ok((false, (u32::MAX - 1).to_string())));
        assert_eq!(hops("GET", "0"), Ok((false, "0".into())));
        for bad in ["", "-1", "1, 2", "x"] {
            assert_eq!(hops("OPTIONS", bad), Err(400), "{bad}");
        }
    }
}

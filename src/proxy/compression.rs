//! Begins the compression of a response for the client: collects what [`crate::domain::compression`] decides by, and changes
//! the heads of the response and of the request.
//!
//! It is separate, because both ways of a request use it: the fast path and Pingora's loop.

use http::header::{ACCEPT_RANGES, HeaderName, RANGE};
use http::{HeaderMap, Method, Version, header};
use pingora::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;

use super::body_compression::BodyCompression;
use super::ctx::Ctx;
use super::routed::Routed;
use crate::domain::compression::{self, CompressionDecision, CompressionPolicy, ResponseFacts, entity_tag};
use crate::edge::raw_request;
use crate::upstream::response_head::{ResponseField, ResponseHead, single_length};

/// Fields about the bytes that the server sent.
const ABOUT_BYTES: [HeaderName; 5] = [
    ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];
/// A browser's cookie for LTPA: a session even if `affinity.session_cookies` does not name it.
const LTPA: &[u8] = b"ltpatoken";

/// Decides about the response with this final head, and changes the head accordingly. True if the body is compressed:
/// then it has no length and is chunked.
///
/// # Errors
/// The head is full, or the encoder has no memory.
pub(super) fn begin<H: ResponseHead>(request: &RequestHeader, head: &mut H, ctx: &mut Ctx) -> Result<bool> {
    let Some(routed) = &ctx.routed else { return Ok(false) };
    let Some(policy) = &routed.cluster.settings.compression else { return Ok(false) };
    if head.status() == 304 {
        mark_revalidated(request, head)?;
        return Ok(false);
    }
    let length = single_length(head);
    let decision = decide(policy, request, head, length, routed);
    if decision == CompressionDecision::NotCompressible {
        return Ok(false);
    }
    if let Some(vary) = compression::vary_on_encoding(head.all(ResponseField::Vary)) {
        head.set(ResponseField::Vary, vary)?;
    }
    let CompressionDecision::Compress(coding) = decision else { return Ok(false) };
    let compression = BodyCompression::new(coding, length);
    ctx.compression = Some(Box::new(compression.or_err(ErrorType::InternalError, "starting an encoder")?));
    head.set(ResponseField::ContentEncoding, coding.name())?;
    head.remove(ResponseField::ContentLength);
    head.set(ResponseField::TransferEncoding, "chunked")?;
    weaken(head)?;
    for name in &ABOUT_BYTES {
        head.remove_named(name);
    }
    Ok(true)
}

fn decide<H: ResponseHead>(
    policy: &CompressionPolicy,
    request: &RequestHeader,
    head: &H,
    length: Option<u64>,
    routed: &Routed,
) -> CompressionDecision {
    let facts = ResponseFacts {
        status: head.status().as_u16(),
        content_type: head.first(ResponseField::ContentType),
        length,
        is_encoded: head.all(ResponseField::ContentEncoding).any(compression::is_coded),
        is_partial: head.has(ResponseField::ContentRange),
        forbids_transformation: head
            .all(ResponseField::CacheControl)
            .any(compression::forbids_transformation),
        sets_session: head.all(ResponseField::SetCookie).any(|cookie| sets_session(cookie, routed)),
        takes_other_body: request.method != Method::HEAD
            && request.version != Version::HTTP_10
            && !request.headers.contains_key(RANGE),
    };
    policy.decide(&facts, raw_request::field_values(request, header::ACCEPT_ENCODING.as_str()))
}

fn sets_session(cookie: &[u8], routed: &Routed) -> bool {
    let is_ltpa =
        cookie.trim_ascii_start().get(..LTPA.len()).is_some_and(|name| name.eq_ignore_ascii_case(LTPA));
    // With `affinity.mode: off` the classifier knows no names.
    let mut named = routed.cluster.settings.affinity.session_cookies.iter();
    is_ltpa
        || routed.cluster.cookies.sets_session(cookie)
        || named.any(|name| {
            cookie.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
                && cookie.get(name.len()) == Some(&b'=')
        })
}

/// A client that has the compressed form finds its tag in a 304, too.
fn mark_revalidated<H: ResponseHead>(request: &RequestHeader, head: &mut H) -> Result<()> {
    let mut tags = raw_request::field_values(request, header::IF_NONE_MATCH.as_str());
    if !tags.any(|value| entity_tag::restore(value).is_some()) {
        return Ok(());
    }
    if let Some(vary) = compression::vary_on_encoding(head.all(ResponseField::Vary)) {
        head.set(ResponseField::Vary, vary)?;
    }
    weaken(head)
}

fn weaken<H: ResponseHead>(head: &mut H) -> Result<()> {
    let Some(tag) = head.first(ResponseField::ETag) else { return Ok(()) };
    match entity_tag::of_compressed(tag) {
        Some(weak) => head.set(ResponseField::ETag, weak),
        None => {
            head.remove(ResponseField::ETag);
            Ok(())
        }
    }
}

/// The value of a client's field for the server: with the server's own entity tags in place of ours. `None` if it has none
/// of ours, which is so for all other fields.
pub(super) fn value_for_server(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let has_tags = match name.len() {
        8 => name.eq_ignore_ascii_case("if-match"),
        13 => name.eq_ignore_ascii_case("if-none-match"),
        _ => false,
    };
    has_tags.then(|| entity_tag::restore(value)).flatten()
}

/// Puts the server's own entity tags into the head of a request.
///
/// # Errors
/// The head is full.
pub(super) fn restore_tags(request: &mut RequestHeader) -> Result<()> {
    for (name, written) in [(header::IF_NONE_MATCH, "If-None-Match"), (header::IF_MATCH, "If-Match")] {
        let Some(lines) = restored_lines(&request.headers, &name) else { continue };
        request.remove_header(&name);
        for line in lines {
            request.append_header(written, line)?;
        }
    }
    Ok(())
}

/// All lines of the field; `None` if none of them has a tag of ours.
fn restored_lines(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<Vec<u8>>> {
    let lines = || headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    lines()
        .any(|line| entity_tag::restore(line).is_some())
        .then(|| lines().map(|line| entity_tag::restore(line).unwrap_or_else(|| line.to_vec())).collect())
}

//! The request line: one space between method, target and version, and a target of a form that the proxy serves.
//!
//! Nothing is decoded. Only the facts that later checks need are kept.

use super::HeadLimits;
use super::grammar::{TargetCheck, check_target_bytes, token_length, with_encoding_flags};
use super::refusal::{self, Refusal};
use crate::util::host;

/// The longest registered method has 17 bytes (<https://www.iana.org/assignments/http-methods>).
const MAX_METHOD_LEN: usize = 32;

/// What the checks of the fields need.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine {
    /// HTTP/1.0 needs no Host and has no transfer codings.
    pub is_1_0: bool,
    /// The position of the authority in the line, if the target is a URL.
    pub authority: Option<(usize, usize)>,
    /// The target contains characters that must be percent-encoded.
    pub unencoded: bool,
}

/// Also for an incomplete line.
pub(super) fn check_length(line: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    let max = limits.uri_bytes.saturating_add(MAX_METHOD_LEN + " ".len() + " HTTP/1.1".len());
    if line.len() <= max {
        return Ok(());
    }
    let method = line.iter().take(MAX_METHOD_LEN + 1).take_while(|o| **o != b' ').count();
    Err(if method > MAX_METHOD_LEN { refusal::METHOD } else { refusal::TARGET_TOO_LONG })
}

/// Parses a complete line without its end.
pub(super) fn parse(line: &[u8], limits: &HeadLimits) -> Result<RequestLine, Refusal> {
    let Some((method, [b' ', rest @ ..])) = line.split_at_checked(token_length(line)) else {
        return Err(refusal::REQUEST_LINE);
    };
    if method.is_empty() {
        return Err(refusal::REQUEST_LINE);
    }
    if method.len() > MAX_METHOD_LEN {
        return Err(refusal::METHOD);
    }
    let Some((target, [b' ', version @ ..])) =
        memchr::memchr(b' ', rest).and_then(|at| rest.split_at_checked(at))
    else {
        return Err(refusal::REQUEST_LINE);
    };
    if target.len() > limits.uri_bytes {
        return Err(refusal::TARGET_TOO_LONG);
    }
    let is_1_0 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(refusal::VERSION),
        _ => return Err(refusal::REQUEST_LINE),
    };
    let unencoded = match check_target_bytes(target) {
        TargetCheck::Clean => false,
        TargetCheck::Unencoded => {
            // The limit applies to the encoded target, in which each of these has three bytes.
            let unencoded_count = with_encoding_flags(target).filter(|(_, must_encode)| *must_encode).count();
            if target.len().saturating_add(unencoded_count.saturating_mul(2)) > limits.uri_bytes {
                return Err(refusal::TARGET_TOO_LONG);
            }
            unencoded_count > 0
        }
        TargetCheck::Bad => return Err(refusal::TARGET),
    };
    // CONNECT is for forward proxies; TRACE would show scripts the HttpOnly cookies.
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(refusal::METHOD_NOT_ALLOWED);
    }
    let start = method.len() + 1;
    let authority = parse_authority(method, target)?.map(|(from, to)| (start + from, start + to));
    Ok(RequestLine { is_1_0, authority, unencoded })
}

/// Checks the form of the target (RFC 9112 section 3.2): a path, a URL with a valid authority, or the `*` of OPTIONS.
/// Returns the position of the authority.
pub(super) fn parse_authority(method: &[u8], target: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
    if target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let after = |scheme: &[u8]| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after(b"http://").or_else(|| after(b"https://")).ok_or(refusal::TARGET_FORM)?;
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    let start = target.len() - rest.len();
    if host::is_authority(authority) { Ok(Some((start, start + end))) } else { Err(refusal::TARGET_FORM) }
}

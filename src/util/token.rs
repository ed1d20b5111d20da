//! The bearer token of the admin listener and of statpub. Tokens are compared in constant time, and an empty one
//! matches nothing.

use http::header;
use pingora_http::RequestHeader;
use subtle::ConstantTimeEq;

/// True if the request carries `Authorization: Bearer` with this token.
#[must_use]
pub fn has_bearer_token(head: &RequestHeader, token: &[u8]) -> bool {
    bearer_token(head).is_some_and(|given| !token.is_empty() && bool::from(given.ct_eq(token)))
}

/// The token in `Authorization: Bearer`, valid or not. Other schemes are ignored: they may be meant for a proxy in
/// between.
#[must_use]
pub fn bearer_token(head: &RequestHeader) -> Option<&[u8]> {
    let given = head.headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = given.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

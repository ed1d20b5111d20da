//! The bearer token of the admin listener and of statpub.
//!
//! In: a request's head and the token that was read from a file. Out: whether they agree, compared in constant
//! time. An empty token agrees with nothing.

use http::header;
use pingora_http::RequestHeader;
use subtle::ConstantTimeEq;

/// The request carries `Authorization: Bearer` with this token.
#[must_use]
pub fn is_carried(head: &RequestHeader, token: &[u8]) -> bool {
    let given = head.headers.get(header::AUTHORIZATION).map(|v| v.as_bytes()).unwrap_or_default();
    let bearer = given.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    bearer && !token.is_empty() && bool::from(given.get(7..).unwrap_or_default().trim_ascii().ct_eq(token))
}

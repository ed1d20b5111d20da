//! Request IDs: the client's own if it is harmless, else a new one. It is separate because logs, pages and servers get the
//! same ID, whichever way a request takes.

use bytes::Bytes;
use http::HeaderValue;
use pingora_http::RequestHeader;

use crate::config::settings::FieldName;
use crate::edge::raw_request;

/// A longer ID of a client is replaced.
const MAX_BYTES: usize = 128;

/// The ID of a request.
pub(super) fn of_request(head: &RequestHeader, field: &FieldName) -> HeaderValue {
    let mut given = raw_request::field_values(head, field.name.as_str());
    let given = given.next().filter(|_| given.next().is_none()).filter(|id| is_valid(id));
    given.and_then(|id| HeaderValue::from_bytes(id).ok()).unwrap_or_else(new)
}

/// Characters that need no quotes in a log, a page, a shell or a URL's path.
fn is_valid(id: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:/+=@-".contains(byte);
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(is_allowed)
}

/// 128 random bits in hexadecimal. It is no secret, so the generator need not be a cryptographic one.
fn new() -> HeaderValue {
    let id = Bytes::from(format!("{:032x}", fastrand::u128(..)));
    HeaderValue::from_maybe_shared(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn id_of(given: &[&[u8]]) -> String {
        let name = HeaderName::from_static("x-request-id");
        let field = FieldName { name, spelling: Bytes::from_static(b"X-Request-ID") };
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for value in given {
            head.append_header("X-Request-ID", HeaderValue::from_bytes(value).unwrap()).unwrap();
        }
        of_request(&head, &field).to_str().unwrap().to_owned()
    }

    #[test]
    fn one_harmless_id_is_kept_and_any_other_is_replaced() {
        for kept in
            ["a", "0123-4567", "Root=1-67891233-abcdef012345678912345678", "a.b_c:d/e+f@g", &"x".repeat(128)]
        {
            assert_eq!(id_of(&[kept.as_bytes()]), kept);
        }
        let long = "x".repeat(129);
        let bad: [&[&[u8]]; 8] =
            [&[], &[b""], &[b"a b"], &[b"a\"b"], &[b"<b>"], &[b"\xff"], &[b"a", b"a"], &[long.as_bytes()]];
        for given in bad {
            let id = id_of(given);
            assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{given:?}: {id}");
            assert_ne!(id, id_of(given));
        }
    }
}

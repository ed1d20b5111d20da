//! Why the gate refuses a request, and the complete response, which repeats nothing of the request.
//!
//! The proxy uses some of the same reasons for HTTP/2.

use crate::pages::{ALLOWED_METHODS, SERVER_NAME};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 405, 414, 431, 501 or 505; the edge also uses 408 for deadlines and 429 for limits.
    pub status: u16,
    /// A sentence for the user.
    pub reason: &'static str,
}

const fn refusal(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

pub(super) const LINE_END: Refusal = refusal(400, "A line does not end with CR LF.");
pub(super) const EMPTY_LINES: Refusal = refusal(400, "There is more than one empty line before the request.");
pub(super) const NO_REQUEST: Refusal = refusal(400, "This is not an HTTP request.");
pub(super) const REQUEST_LINE: Refusal =
    refusal(400, "The request line is not a method, a target and a version with one space between them.");
pub(super) const METHOD: Refusal = refusal(501, "The method is longer than any known one.");
pub(super) const METHOD_NOT_ALLOWED: Refusal = refusal(405, "The method of this request is not served here.");
pub(super) const VERSION: Refusal = refusal(505, "The version is neither HTTP/1.1 nor HTTP/1.0.");
pub(super) const TARGET: Refusal = refusal(
    400,
    "The address contains a space, a control character, a `#` or a character outside ASCII that is not \
     percent-encoded.",
);
pub(crate) const TARGET_FORM: Refusal = refusal(400, "The request's target is neither a path nor a URL.");
pub(super) const TARGET_TOO_LONG: Refusal =
    refusal(414, "The address of this request is longer than this site accepts.");
pub(super) const FIELDS_TOO_LARGE: Refusal = refusal(
    431,
    "The header of this request is larger than this site accepts. Deleting this site's cookies may help.",
);
pub(super) const FOLDED_FIELD: Refusal = refusal(400, "A header field continues on the next line.");
pub(super) const FIELD_NAME: Refusal =
    refusal(400, "A header field has no name, no colon, or an invalid character in its name.");
pub(super) const FIELD_VALUE: Refusal = refusal(400, "A header field contains a control character.");
pub(crate) const HOST_MISSING: Refusal = refusal(400, "The request names no host.");
pub(crate) const DUPLICATE_HOST: Refusal = refusal(400, "The request names more than one host.");
pub(super) const HOST: Refusal =
    refusal(400, "The request's Host field is not a host name with or without a port.");
pub(super) const HOST_MISMATCH: Refusal =
    refusal(400, "The request's target and its Host field name different hosts.");
pub(crate) const LENGTH: Refusal = refusal(400, "Content-Length is not one number.");
pub(super) const DUPLICATE_LENGTH: Refusal = refusal(400, "There is more than one Content-Length.");
pub(super) const LENGTH_AND_CODING: Refusal =
    refusal(400, "The request has both Content-Length and Transfer-Encoding.");
pub(super) const CODING: Refusal = refusal(400, "Transfer-Encoding is not exactly chunked.");
pub(super) const CODING_UNKNOWN: Refusal = refusal(501, "Only the transfer coding chunked is supported.");
pub(super) const CODING_IN_1_0: Refusal = refusal(400, "HTTP/1.0 has no Transfer-Encoding.");
pub(super) const CONNECTION: Refusal =
    refusal(400, "Connection names a field that must not be removed from the request.");
pub(super) const CHUNK_SIZE: Refusal = refusal(400, "The size of a chunk is missing or not a valid number.");
pub(super) const CHUNK_LINE: Refusal = refusal(400, "The line with the size of a chunk is too long.");
pub(super) const CHUNK_EXTENSION: Refusal = refusal(400, "A chunk has an invalid extension.");
pub(super) const CHUNK_END: Refusal = refusal(400, "A chunk is longer than its size.");
pub(super) const TRAILER: Refusal =
    refusal(400, "A trailer contains a field that is allowed only in the header.");

impl Refusal {
    /// The complete response, after which the connection must be closed.
    #[must_use]
    pub fn response(&self) -> Vec<u8> {
        let (phrase, title) = match self.status {
            405 => ("Method Not Allowed", "This method is not allowed"),
            408 => ("Request Timeout", "The request took too long"),
            414 => ("URI Too Long", "The address is too long"),
            429 => ("Too Many Requests", "Too many requests"),
            431 => ("Request Header Fields Too Large", "The request's header is too large"),
            501 => ("Not Implemented", "This is not supported"),
            505 => ("HTTP Version Not Supported", "This version of HTTP is not supported"),
            _ => ("Bad Request", "This request cannot be understood"),
        };
        let extra_field = match self.status {
            429 => "Retry-After: 1\r\n".to_owned(),
            // Required in a 405 (RFC 9110 section 15.5.6).
            405 => format!("Allow: {ALLOWED_METHODS}\r\n"),
            _ => String::new(),
        };
        let Self { status, reason } = self;
        let body = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title></head>\
             <body><h1>{title}</h1><p>{reason}</p><p>{status}</p></body></html>\n"
        );
        let length = body.len();
        format!(
            "HTTP/1.1 {status} {phrase}\r\nServer: {SERVER_NAME}\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {length}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             X-Frame-Options: SAMEORIGIN\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'self'\r\n\
             {extra_field}Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

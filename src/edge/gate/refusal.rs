//! Why octets were refused, and the answer to it.
//!
//! In: nothing but the reason. Out: a whole HTTP/1.1 answer. It never repeats an octet of the request.

use crate::pages::SERVER_NAME;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status: 400, 405, 414, 431, 501 or 505; the caller's own deadlines use 408, its limits 429.
    pub status: u16,
    /// A whole sentence for the person who looks at the answer.
    pub reason: &'static str,
}

const fn refusal(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

pub(super) const LINE_END: Refusal = refusal(400, "A line does not end with CR LF.");
pub(super) const EMPTY_LINES: Refusal = refusal(400, "There is more than one empty line before the request.");
pub(super) const NO_REQUEST: Refusal = refusal(400, "This is no HTTP request.");
pub(super) const REQUEST_LINE: Refusal =
    refusal(400, "The request line is not a method, a target and a version with one blank between them.");
pub(super) const METHOD: Refusal = refusal(501, "The method is longer than any known one.");
pub(super) const METHOD_NOT_ALLOWED: Refusal = refusal(405, "The method of this request is not served here.");
pub(super) const VERSION: Refusal = refusal(505, "The version is neither HTTP/1.1 nor HTTP/1.0.");
pub(super) const TARGET: Refusal = refusal(
    400,
    "The address holds a blank, a control character, a number sign or a character beyond ASCII that is not \
     percent-encoded.",
);
pub(super) const TARGET_FORM: Refusal = refusal(400, "The request's target is neither a path nor a URL.");
pub(super) const TARGET_TOO_LONG: Refusal =
    refusal(414, "The address of this request is longer than this site accepts.");
pub(super) const FIELDS_TOO_LARGE: Refusal = refusal(
    431,
    "The header of this request is larger than this site accepts. Deleting this site's cookies may help.",
);
pub(super) const FOLDED_FIELD: Refusal = refusal(400, "A header field is continued on a line of its own.");
pub(super) const FIELD_NAME: Refusal =
    refusal(400, "A header field has no name, no colon, or a character in its name that must not be there.");
pub(super) const FIELD_VALUE: Refusal = refusal(400, "A header field holds a control character.");
pub(super) const HOST_MISSING: Refusal = refusal(400, "The request names no host.");
pub(super) const DUPLICATE_HOST: Refusal = refusal(400, "The request names more than one host.");
pub(super) const HOST: Refusal = refusal(400, "The request's host is no host name with or without a port.");
pub(super) const HOST_MISMATCH: Refusal =
    refusal(400, "The request's target names another host than its Host field.");
pub(super) const LENGTH: Refusal = refusal(400, "Content-Length is not one number.");
pub(super) const DUPLICATE_LENGTH: Refusal = refusal(400, "There is more than one Content-Length.");
pub(super) const LENGTH_AND_CODING: Refusal =
    refusal(400, "Content-Length and Transfer-Encoding exclude each other.");
pub(super) const CODING: Refusal = refusal(400, "Transfer-Encoding is anything but chunked, once.");
pub(super) const CODING_UNKNOWN: Refusal = refusal(501, "No transfer coding but chunked is supported.");
pub(super) const CODING_IN_1_0: Refusal = refusal(400, "HTTP/1.0 has no Transfer-Encoding.");
pub(super) const CONNECTION: Refusal =
    refusal(400, "Connection names a field without which the request has another meaning.");
pub(super) const CHUNK_SIZE: Refusal = refusal(400, "A chunk has no size, or one that is no number.");
pub(super) const CHUNK_LINE: Refusal = refusal(400, "The line with a chunk's size is too long.");
pub(super) const CHUNK_EXTENSION: Refusal = refusal(400, "A chunk has an extension that is none.");
pub(super) const CHUNK_END: Refusal = refusal(400, "A chunk is longer than the size it gave.");
pub(super) const TRAILER: Refusal = refusal(400, "A trailer holds a field that belongs into the header.");

impl Refusal {
    /// The whole answer; the connection must be closed after it.
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
        // RFC 9110 section 15.5.6: a 405 says what is allowed; a 429 may say when to come again.
        let more = match self.status {
            429 => "Retry-After: 1\r\n",
            405 => "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n",
            _ => "",
        };
        let status = self.status;
        let reason = self.reason;
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
             {more}Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

//! Why octets were refused, and the answer to it.
//!
//! In: nothing but the reason. Out: a whole HTTP/1.1 answer. It never repeats an octet of the request.

use crate::pages::SERVER;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status: 400, 405, 414, 431, 501 or 505; the caller's own deadlines use 408.
    pub status: u16,
    /// A whole sentence for the person who looks at the answer.
    pub reason: &'static str,
}

impl Refusal {
    /// The whole answer; the connection must be closed after it.
    #[must_use]
    pub fn response(&self) -> Vec<u8> {
        let (phrase, title) = match self.status {
            405 => ("Method Not Allowed", "This method is not allowed"),
            408 => ("Request Timeout", "The request took too long"),
            414 => ("URI Too Long", "The address is too long"),
            431 => ("Request Header Fields Too Large", "The request's header is too large"),
            501 => ("Not Implemented", "This is not supported"),
            505 => ("HTTP Version Not Supported", "This version of HTTP is not supported"),
            _ => ("Bad Request", "This request cannot be understood"),
        };
        // RFC 9110 section 15.5.6: a 405 says what is allowed.
        let allow = match self.status {
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
            "HTTP/1.1 {status} {phrase}\r\nServer: {SERVER}\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {length}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             {allow}Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

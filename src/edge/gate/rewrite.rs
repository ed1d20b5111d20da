//! Rewrites a target that clients send but some parsers refuse into a form that all parsers accept.
//!
//! It is separate from the checks because it copies; most heads pass unchanged. Characters that are not allowed in a URL
//! (RFC 3986 section 2) are percent-encoded, and a URL's host gets the spelling of the Host field.

use super::grammar::{trim_ows, with_encoding_flags};
use super::request_line;

const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Returns the head that passes in place of this one after [`GateVerdict::Rewrite`](super::GateVerdict::Rewrite).
#[must_use]
pub fn rewrite_head(head: &[u8]) -> Vec<u8> {
    let Some((line, fields)) = memchr::memchr(b'\r', head).and_then(|end| head.split_at_checked(end)) else {
        return head.to_vec();
    };
    let spaces = (memchr::memchr(b' ', line), memchr::memrchr(b' ', line));
    let (Some(first), Some(last)) = spaces else { return head.to_vec() };
    let method = line.get(..first).unwrap_or_default();
    let target = line.get(first + 1..last).unwrap_or_default();
    let mut out = Vec::with_capacity(head.len() + 64);
    out.extend_from_slice(method);
    out.push(b' ');
    let mut rest = target;
    if let (Ok(Some((start, end))), Some(host)) =
        (request_line::parse_authority(method, target), find_host(fields))
    {
        out.extend_from_slice(target.get(..start).unwrap_or_default());
        out.extend_from_slice(host);
        rest = target.get(end..).unwrap_or_default();
    }
    for (byte, must_encode) in with_encoding_flags(rest) {
        if must_encode {
            let digit = |number: u8| HEX_DIGITS.get(usize::from(number)).copied().unwrap_or_default();
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xF)]);
        } else {
            out.push(byte);
        }
    }
    out.extend_from_slice(line.get(last..).unwrap_or_default());
    out.extend_from_slice(fields);
    out
}

/// The value of the Host field.
fn find_host(fields: &[u8]) -> Option<&[u8]> {
    fields.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(b"Host:".len())?;
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        name.eq_ignore_ascii_case(b"Host:").then(|| trim_ows(value))
    })
}

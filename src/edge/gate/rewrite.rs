//! A clean head whose target other parsers refuse although clients send it, in a form that all of them take.
//!
//! It is separate from the judgement because it copies: only such a head is written anew, all others pass as they
//! are. Characters that a URL does not have (RFC 3986 section 2) are percent-encoded, and the host in a target
//! that is a URL is spelled as in Host.

use super::grammar::{trim_ows, with_encoding_flags};
use super::request_line;

const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// The head to be passed on in place of this one, for which the verdict was [`Rewrite`](super::Verdict::Rewrite).
#[must_use]
pub fn rewrite_head(head: &[u8]) -> Vec<u8> {
    let Some((line, fields)) = memchr::memchr(b'\r', head).and_then(|end| head.split_at_checked(end)) else {
        return head.to_vec();
    };
    let blanks = (memchr::memchr(b' ', line), memchr::memrchr(b' ', line));
    let (Some(first), Some(last)) = blanks else { return head.to_vec() };
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

/// The value of Host, of which there is one at most.
fn find_host(fields: &[u8]) -> Option<&[u8]> {
    fields.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(b"Host:".len())?;
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        name.eq_ignore_ascii_case(b"Host:").then(|| trim_ows(value))
    })
}

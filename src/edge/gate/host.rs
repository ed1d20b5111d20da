//! The value of Host, and the authority of a URL.
//!
//! In: octets. Out: whether every parser finds the same host name in them. It resolves and compares nothing.

use std::net::Ipv6Addr;

/// `name`, `name:port`, `192.0.2.1`, `[2001:db8::1]:port`. Narrower than RFC 3986: no percent-encoding, no
/// sub-delimiters, no zone, and a colon has a port behind it, since all of these are read in several ways.
pub(super) fn is_valid(text: &[u8]) -> bool {
    let (is_host, port) = match text {
        [b'[', rest @ ..] => {
            let Some((address, [b']', port @ ..])) =
                memchr::memchr(b']', rest).and_then(|at| rest.split_at_checked(at))
            else {
                return false;
            };
            (is_ipv6(address), port)
        }
        _ => {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            let Some((name, port)) = text.split_at_checked(end) else { return false };
            (is_name(name), port)
        }
    };
    is_host && is_port(port)
}

fn is_name(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'.' | b'_' | b'~'))
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and a number that a port can be.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            let number = digits.iter().try_fold(0u32, |sum, o| {
                o.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(u32::from(o - b'0')))
            });
            (1..=5).contains(&digits.len()) && number.is_some_and(|n| n <= u32::from(u16::MAX))
        }
        _ => false,
    }
}

//! What counts as a host, for requests, configuration and Server documents alike.
//!
//! A request may name any host that all parsers read alike ([`is_authority`]). A name to be resolved must also be one
//! that DNS can hold ([`is_dns_name`]). What the Server documents name is only expected to resolve ([`is_resolvable`]).

use std::net::{IpAddr, Ipv6Addr};

/// The limits of RFC 1035 section 2.3.4, for text without the trailing dot.
const MAX_NAME_LENGTH: usize = 253;
const MAX_LABEL_LENGTH: usize = 63;

/// Accepts `name`, `name:port`, `192.0.2.1`, `[2001:db8::1]:port`. Narrower than RFC 3986: no percent-encoding, no
/// sub-delimiters, no zone and no empty port, because parsers disagree on all of these.
#[must_use]
pub fn is_authority(text: &[u8]) -> bool {
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

/// The bytes of a name. A table, because every request has one.
#[allow(clippy::indexing_slicing)] // only at compile time
const NAME_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        bytes[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    bytes
};

fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| NAME_BYTES.get(usize::from(*b)) == Some(&true))
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Empty, or a colon and a number from 0 to 65535.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            let number = digits.iter().try_fold(0u32, |sum, b| {
                b.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(u32::from(b - b'0')))
            });
            (1..=5).contains(&digits.len()) && number.is_some_and(|n| n <= u32::from(u16::MAX))
        }
        _ => false,
    }
}

/// An address literal without brackets, or a name that a resolver may know. Wider than [`is_dns_name`]: Domino resolves
/// the same name, so a server is not left out for its spelling.
#[must_use]
pub fn is_resolvable(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || has_valid_labels(text.trim_end_matches('.'))
}

#[must_use]
pub fn is_dns_name(name: &str) -> bool {
    has_valid_labels(name) && !name.split('.').any(|label| label.ends_with('-')) && !ends_in_number(name)
}

/// Labels of letters, digits, `-` and `_`. Underscores are not in RFC 1123, but Windows domains have them.
fn has_valid_labels(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_LENGTH).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
    };
    name.len() <= MAX_NAME_LENGTH && name.split('.').all(is_label)
}

/// No top-level domain is a number: `10.0.0.300` is a mistyped address, not a name.
#[must_use]
pub fn ends_in_number(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
}

/// `localhost`, a name below it, or an address literal of the loopback network.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().map_or(host == "localhost" || host.ends_with(".localhost"), |ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_name_has_valid_labels_and_does_not_end_in_a_number() {
        let (long, too_long) = ("a".repeat(63), "a".repeat(64));
        for good in ["a", "web1.acme.example", "10.example", "_a-b.c", long.as_str()] {
            assert!(is_dns_name(good), "{good}");
        }
        for bad in
            ["", ".", "a.", "a..b", "-a", "a-.b", "a b", "ä", "10.0.0.300", "7", "a:80", too_long.as_str()]
        {
            assert!(!is_dns_name(bad), "{bad}");
        }
        let longest = ["a"; 127].join(".");
        assert!(is_dns_name(&longest) && !is_dns_name(&format!("{longest}a")));
    }

    #[test]
    fn a_server_document_may_name_what_only_its_resolver_knows() {
        for good in ["web1.acme.example.", "4711", "web.1", "web-.acme", "10.0.0.300", "2001:db8::1"] {
            assert!(is_resolvable(good), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a b", "a:80", "ä", "[::1]"] {
            assert!(!is_resolvable(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_is_a_host_without_brackets_and_port() {
        assert!(is_resolvable("192.0.2.1") && is_resolvable("2001:db8::1"));
        assert!(!is_resolvable("[2001:db8::1]") && !is_resolvable("192.0.2.1:80"));
    }

    #[test]
    fn loopback_covers_names_and_addresses() {
        for local in ["127.0.0.1", "127.9.9.9", "::1", "localhost", "a.localhost"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in ["10.0.0.1", "localhost.example", "::"] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}

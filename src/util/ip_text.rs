//! Formats an IP address without allocating. Every request needs one for headers and log lines, and the standard
//! library takes longer for it than the rest of a line takes.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::ops::Deref;

/// Length of the longest address, `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const MAX_LEN: usize = 45;

/// An IP address as text on the stack.
#[derive(Clone, Copy, Debug)]
pub struct IpText {
    text: [u8; MAX_LEN],
    length: usize,
}

impl IpText {
    #[must_use]
    pub fn new(ip: IpAddr) -> Self {
        let mut text = Self { text: [0; MAX_LEN], length: 0 };
        // Every address fits, so no write fails.
        let _ = match ip {
            IpAddr::V4(ip) => ip.octets().into_iter().enumerate().try_for_each(|(position, number)| {
                text.write_str(if position == 0 { "" } else { "." })?;
                text.write_str(itoa::Buffer::new().format(number))
            }),
            IpAddr::V6(ip) => write!(text, "{ip}"),
        };
        text
    }
}

impl fmt::Write for IpText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.length + part.len();
        self.text.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl Deref for IpText {
    type Target = str;

    fn deref(&self) -> &str {
        self.text.get(..self.length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_address_is_formatted_as_by_the_standard_library(ip in any::<IpAddr>()) {
            prop_assert_eq!(&*IpText::new(ip), ip.to_string());
        }
    }

    #[test]
    fn the_longest_and_the_shortest_address_fit() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::ffff:255.255.255.255",
            "1111:2222:3333:4444:5555:6666:7777:8888",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(&*IpText::new(ip), text);
        }
    }
}

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
        match ip {
            IpAddr::V4(ip) => {
                let [first, rest @ ..] = ip.octets();
                text.push_number(first);
                for number in rest {
                    text.push(b'.');
                    text.push_number(number);
                }
            }
            // Every address fits, so the write does not fail.
            IpAddr::V6(ip) => drop(write!(text, "{ip}")),
        }
        text
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.text.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }

    fn push_number(&mut self, number: u8) {
        if number >= 100 {
            self.push(b'0' + number / 100);
        }
        if number >= 10 {
            self.push(b'0' + number / 10 % 10);
        }
        self.push(b'0' + number % 10);
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

//! An IP address as text, for headers and log lines: every request needs one, and the standard library's way to it
//! costs more than the rest of a line.
//!
//! In: an address. Out: its text, without an allocation. It parses nothing.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::ops::Deref;

/// The longest is `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const MAX_LEN: usize = 45;

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct IpText {
    text: [u8; MAX_LEN],
    length: usize,
}

impl IpText {
    /// The text of this address.
    #[must_use]
    pub fn new(ip: IpAddr) -> Self {
        let mut text = Self { text: [0; MAX_LEN], length: 0 };
        // Nothing is longer than the longest, so nothing of this fails.
        let _ = match ip {
            IpAddr::V4(ip) => ip.octets().into_iter().enumerate().try_for_each(|(place, number)| {
                text.write_str(if place == 0 { "" } else { "." })?;
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
        fn every_address_reads_as_the_standard_library_writes_it(ip in any::<IpAddr>()) {
            prop_assert_eq!(&*IpText::new(ip), ip.to_string());
        }
    }

    #[test]
    fn the_longest_and_the_shortest_fit() {
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

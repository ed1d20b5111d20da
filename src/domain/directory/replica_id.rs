//! The replica ID: 64 bits shared by all replicas of a database. It is spelled `C1257A000041D2E0`, `C1257A00:0041D2E0`
//! in logs and `__C1257A000041D2E0` in URLs, in any case.

use std::fmt;

/// A replica ID, displayed as sixteen upper-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// A text that is not a replica ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a replica ID, which has 16 hex digits, with or without a colon in the middle")]
pub struct ReplicaIdError(pub String);

impl ReplicaId {
    /// Parses sixteen hex digits, with or without a colon in the middle and the prefix `__`.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn parse(text: &str) -> Result<Self, ReplicaIdError> {
        Self::from_bytes(text.trim().as_bytes())
            .ok_or_else(|| ReplicaIdError(text.chars().take(64).collect()))
    }

    /// Like [`ReplicaId::parse`], for bytes and without trimming.
    #[must_use]
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(b"__").unwrap_or(text);
        let colon = match digits.len() {
            16 => false,
            17 if digits.get(8) == Some(&b':') => true,
            _ => return None,
        };
        let mut id = 0_u64;
        for (i, byte) in digits.iter().enumerate() {
            if colon && i == 8 {
                continue;
            }
            let nibble = (*byte as char).to_digit(16)?;
            id = (id << 4) | u64::from(nibble);
        }
        Some(Self(id))
    }

    /// The sixteen upper-case hex digits, for a log line: formatting takes six times as long.
    #[must_use]
    pub fn to_hex(self) -> [u8; 16] {
        let mut digits = [0; 16];
        for (digit, shift) in digits.iter_mut().rev().zip((0_u32..64).step_by(4)) {
            let number = (self.0 >> shift & 0xf) as u8;
            *digit = if number < 10 { b'0' + number } else { b'A' - 10 + number };
        }
        digits
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}
impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colon_prefix_and_case_make_no_difference() {
        let id = ReplicaId(0xC125_7A00_0041_D2E0);
        for text in ["C1257A000041D2E0", "c1257a00:0041d2e0", "__C1257A000041D2E0", "__c1257A00:0041d2e0"] {
            assert_eq!(ReplicaId::parse(text).unwrap(), id, "{text}");
        }
        assert_eq!(id.to_string(), "C1257A000041D2E0");
    }

    proptest! {
        #[test]
        fn the_digits_are_those_that_are_displayed(id in any::<u64>()) {
            prop_assert_eq!(ReplicaId(id).to_hex().to_vec(), ReplicaId(id).to_string().into_bytes());
        }
    }

    #[test]
    fn anything_but_sixteen_hex_digits_is_refused() {
        for bad in [
            "",
            "C1257A000041D2E",
            "C1257A000041D2E00",
            "G1257A000041D2E0",
            "C1257A0:00041D2E0",
            "_C1257A000041D2E0",
            "C1257A00:0041D2E",
        ] {
            assert!(ReplicaId::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_displayed_id_parses_back(id: u64) {
            prop_assert_eq!(ReplicaId::parse(&ReplicaId(id).to_string()).unwrap(), ReplicaId(id));
        }
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = ReplicaId::from_bytes(&bytes);
        }
    }
}

//! The universal ID of a document, which is the same in all replicas. It is a type of its own, so that nothing else gets
//! into a question to a server.

use std::fmt;

/// 32 hex digits; displayed in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unid(pub [u8; 16]);

impl Unid {
    /// Parses 32 hex digits of any case, and nothing else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 32 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Unid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_two_hex_digits_of_any_case_are_a_unid_and_nothing_else_is() {
        let text = "E86886A81087A25805258E4F00502001";
        assert_eq!(Unid::parse(text.as_bytes()).unwrap().to_string(), text);
        assert_eq!(Unid::parse(text.to_lowercase().as_bytes()).unwrap().to_string(), text);
        for wrong in [
            "",
            "8FA",
            text.trim_start_matches('E'),
            &format!("{text}0"),
            &text.replace('E', "G"),
            &text.replace('E', "+"),
        ] {
            assert_eq!(Unid::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

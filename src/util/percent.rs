//! Percent-decoding as an iterator, for code that must read a URL as Domino does. It decodes once only, as a server
//! does (`%252F` is `%2F`, never a slash), and leaves broken escapes (`%zz`, a final `%`) as they are.

/// One byte of a decoded URL and its position in the raw text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecodedByte {
    pub value: u8,
    /// Offset of its first byte in the raw text.
    pub at: usize,
    /// Whether it was spelled `%xx`.
    pub encoded: bool,
}

impl DecodedByte {
    /// Domino accepts either slash between path segments.
    pub(crate) fn is_separator(self) -> bool {
        matches!(self.value, b'/' | b'\\')
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PercentDecoder<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> PercentDecoder<'a> {
    pub(crate) fn new(raw: &'a [u8]) -> Self {
        Self { raw, at: 0 }
    }

    pub(crate) fn values(self) -> impl Iterator<Item = u8> + Clone + use<'a> {
        self.map(|byte| byte.value)
    }
}

impl Iterator for PercentDecoder<'_> {
    type Item = DecodedByte;

    #[inline]
    fn next(&mut self) -> Option<DecodedByte> {
        let at = self.at;
        let value = *self.raw.get(at)?;
        if value == b'%'
            && let Some(decoded) = decode_escape(self.raw, at)
        {
            self.at = at + 3;
            return Some(DecodedByte { value: decoded, at, encoded: true });
        }
        self.at = at + 1;
        Some(DecodedByte { value, at, encoded: false })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.raw.len().saturating_sub(self.at);
        (left / 3, Some(left))
    }
}

/// The byte that the escape at `at` encodes.
fn decode_escape(raw: &[u8], at: usize) -> Option<u8> {
    let high = hex_digit(*raw.get(at + 1)?)?;
    let low = hex_digit(*raw.get(at + 2)?)?;
    Some(high << 4 | low)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// True if the decoded text equals `word` in any ASCII case.
pub(crate) fn decodes_to(raw: &[u8], word: &[u8]) -> bool {
    // Nearly every word comes without escapes.
    if memchr::memchr(b'%', raw).is_none() {
        return raw.eq_ignore_ascii_case(word);
    }
    let lower = PercentDecoder::new(raw).values().map(|b| b.to_ascii_lowercase());
    lower.eq(word.iter().map(u8::to_ascii_lowercase))
}

/// Decodes into `buffer` if there is something to decode; `None` if the result does not fit.
pub(crate) fn decode_into<'b>(raw: &'b [u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    if memchr::memchr(b'%', raw).is_none() {
        return (raw.len() <= buffer.len()).then_some(raw);
    }
    let mut length = 0;
    for value in PercentDecoder::new(raw).values() {
        *buffer.get_mut(length)? = value;
        length += 1;
    }
    buffer.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(raw: &[u8]) -> Vec<u8> {
        PercentDecoder::new(raw).values().collect()
    }

    #[test]
    fn escapes_are_decoded_once_and_broken_ones_stay() {
        assert_eq!(decode(b"a%20b%2f%5C"), b"a b/\\");
        assert_eq!(decode(b"%252F"), b"%2F");
        assert_eq!(decode(b"100%"), b"100%");
        assert_eq!(decode(b"%zz%2"), b"%zz%2");
        assert_eq!(decode(b"%%41"), b"%A");
    }

    #[test]
    fn every_byte_has_its_position_in_the_raw_text() {
        let positions: Vec<_> = PercentDecoder::new(b"a%2Fb").map(|b| (b.at, b.encoded)).collect();
        assert_eq!(positions, [(0, false), (1, true), (4, false)]);
    }

    #[test]
    fn words_compare_decoded_and_in_any_case() {
        assert!(decodes_to(b"%4fpenview", b"openview"));
        assert!(!decodes_to(b"OpenVie", b"openview"));
        assert!(!decodes_to(b"OpenViews", b"openview"));
        assert!(!decodes_to(b"%4fpenview", b"%4fpenview"));
    }

    proptest! {
        #[test]
        fn fully_encoded_bytes_decode_to_themselves(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let encoded: String = bytes.iter().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(decode(encoded.as_bytes()), bytes);
        }
        #[test]
        fn it_agrees_with_the_percent_encoding_crate(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let theirs: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
            prop_assert_eq!(decode(&bytes), theirs);
        }
    }
}

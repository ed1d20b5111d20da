//! Escapes text from clients, as Apache and nginx or as JSON do, so that it cannot end a field or a line. Most text needs
//! no escaping and is copied as a whole.

use std::io::Write as _;

use crate::util::control_chars;

/// Appends bytes for a field in double quotes: all but printable ASCII becomes `\xhh`.
pub fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain::<b' '>(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for b in bytes {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *b]),
            b' '..=b'~' => out.push(*b),
            _ => push_hex(out, *b),
        }
    }
}

/// Appends a name to a field that ends at a space; letters of any script stay unchanged.
pub fn push_word(out: &mut Vec<u8>, text: &str) {
    if is_plain::<b'!'>(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).as_bytes();
        if c.is_alphanumeric() || (c.is_ascii_graphic() && c != '"' && c != '\\') {
            out.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|b| push_hex(out, *b));
        }
    }
}

/// Appends a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
pub fn push_json(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if is_plain::<b' '>(bytes) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => out.extend_from_slice(br#"\""#),
                    '\\' => out.extend_from_slice(br"\\"),
                    // JSON allows some of these, but they confuse terminals and line readers.
                    c if control_chars::is_control(c) => {
                        let _ = write!(out, "\\u{:04x}", u32::from(c));
                    }
                    c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Whether all bytes are ASCII from `LOWEST` to `~`, without `"` and `\`. Looks at eight bytes at a time, because this
/// is most of the work on a line.
fn is_plain<const LOWEST: u8>(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    if !words.iter().all(is_plain_word::<LOWEST>) {
        return false;
    }
    match bytes.last_chunk::<8>() {
        // Looks at some bytes again.
        Some(last) => rest.is_empty() || is_plain_word::<LOWEST>(last),
        None => rest.iter().all(|b| (LOWEST..=b'~').contains(b) && !matches!(b, b'"' | b'\\')),
    }
}

/// As [`is_plain`], for eight bytes (<https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord>).
fn is_plain_word<const LOWEST: u8>(bytes: &[u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH_BITS: u64 = ONES * 0x80;
    let each = |byte: u8| ONES * u64::from(byte);
    let word = u64::from_ne_bytes(*bytes);
    // In each of these the highest bit of the lowest byte that is not plain is set. A carry or a borrow reaches only the
    // bytes above it.
    let is_below = word.wrapping_sub(each(LOWEST));
    let is_above = word.wrapping_add(each(0x7f - b'~')) | word;
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let found = is_below | is_above | is_zero(word ^ each(b'"')) | is_zero(word ^ each(b'\\'));
    found & HIGH_BITS == 0
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(push: fn(&mut Vec<u8>, &[u8]), bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotes_line_ends_and_terminal_sequences_are_escaped() {
        let hostile = b"a\"b\\c\r\nd\x1b[2J\x7f\xff\xc3\xa4";
        assert_eq!(of(push_quoted, hostile), r#"a\"b\\c\x0d\x0ad\x1b[2J\x7f\xff\xc3\xa4"#);
        assert_eq!(of(push_json, hostile), "\"a\\\"b\\\\c\\u000d\\u000ad\\u001b[2J\\u007f\u{fffd}ä\"");
        let mut word = Vec::new();
        push_word(&mut word, "Müller 1/\u{202e}\n\"x");
        assert_eq!(String::from_utf8(word).unwrap(), r"Müller\x201/\xe2\x80\xae\x0a\x22x");
    }

    #[test]
    fn one_byte_that_is_not_plain_is_found_wherever_it_is() {
        for length in 1..20 {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                for byte in 0..=255 {
                    bytes[at] = byte;
                    let plain = matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain::<b'!'>(&bytes), plain, "{byte} at {at} of {length}");
                    assert_eq!(is_plain::<b' '>(&bytes), plain || byte == b' ', "{byte} at {at} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_plain_if_each_of_them_is(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let is_plain_byte = |b: &u8| matches!(b, b' '..=b'~') && *b != b'"' && *b != b'\\';
            prop_assert_eq!(is_plain::<b' '>(&bytes), bytes.iter().all(is_plain_byte));
        }

        #[test]
        fn any_bytes_become_one_line_of_valid_json(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = of(push_json, &bytes);
            prop_assert!(!text.contains('\n'));
            let read: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_bytes_stay_within_a_quoted_field(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = of(push_quoted, &bytes);
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            // Every quote follows an odd number of backslashes.
            let mut escaped = false;
            for b in text.bytes() {
                prop_assert!(escaped || b != b'"', "{}", text);
                escaped = !escaped && b == b'\\';
            }
            prop_assert!(!escaped);
        }
    }
}

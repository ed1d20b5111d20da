//! Escapes text from clients, as Apache and nginx or as JSON do, so that it cannot end a field or a line. Most text needs
//! no escaping and is copied as a whole.

use std::fmt::Write as _;

use crate::util::control_chars;

/// Appends bytes for a field in double quotes: all but printable ASCII becomes `\xhh`.
pub fn push_quoted(out: &mut String, bytes: &[u8]) {
    if let Some(plain) = plain(bytes, |b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        out.push_str(plain);
        return;
    }
    for b in bytes {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*b));
            }
            b' '..=b'~' => out.push(char::from(*b)),
            _ => push_hex(out, *b),
        }
    }
}

/// Appends a name to a field that ends at a space; letters of any script stay unchanged.
pub fn push_word(out: &mut String, text: &str) {
    if let Some(plain) = plain(text.as_bytes(), |b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
        out.push_str(plain);
        return;
    }
    for c in text.chars() {
        if c.is_alphanumeric() || (c.is_ascii_graphic() && c != '"' && c != '\\') {
            out.push(c);
        } else {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| push_hex(out, b));
        }
    }
}

/// Appends a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
pub fn push_json(out: &mut String, bytes: &[u8]) {
    out.push('"');
    if let Some(plain) = plain(bytes, |b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        out.push_str(plain);
    } else {
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => {
                        out.push('\\');
                        out.push(c);
                    }
                    // JSON allows some of these, but they confuse terminals and line readers.
                    c if control_chars::is_control(c) => {
                        let _ = write!(out, "\\u{:04x}", u32::from(c));
                    }
                    c => out.push(c),
                }
            }
            if !chunk.invalid().is_empty() {
                out.push('\u{fffd}');
            }
        }
    }
    out.push('"');
}

pub fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

fn plain(bytes: &[u8], is_plain: impl Fn(u8) -> bool) -> Option<&str> {
    bytes.iter().all(|b| is_plain(*b)).then(|| std::str::from_utf8(bytes).ok()).flatten()
}

fn push_hex(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(push: fn(&mut String, &[u8]), bytes: &[u8]) -> String {
        let mut out = String::new();
        push(&mut out, bytes);
        out
    }

    #[test]
    fn quotes_line_ends_and_terminal_sequences_are_escaped() {
        let hostile = b"a\"b\\c\r\nd\x1b[2J\x7f\xff\xc3\xa4";
        assert_eq!(of(push_quoted, hostile), r#"a\"b\\c\x0d\x0ad\x1b[2J\x7f\xff\xc3\xa4"#);
        assert_eq!(of(push_json, hostile), "\"a\\\"b\\\\c\\u000d\\u000ad\\u001b[2J\\u007f\u{fffd}ä\"");
        let mut word = String::new();
        push_word(&mut word, "Müller 1/\u{202e}\n\"x");
        assert_eq!(word, r"Müller\x201/\xe2\x80\xae\x0a\x22x");
    }

    proptest! {
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

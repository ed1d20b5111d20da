//! Makes Domino's JSON valid for a strict parser.
//!
//! In strings, it removes invalid escapes (`\>`, `\<`, `\!`), escapes raw control characters, and replaces unpaired
//! surrogates. It changes nothing outside strings and nothing in valid JSON.

use std::borrow::Cow;

/// Borrows the text if it needs no repair.
pub(super) fn repair(body: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    if !needs_repair(&text) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars();
    let mut in_string = false;
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            '\\' if in_string => repair_escape(&mut rest, &mut out),
            c if in_string && u32::from(c) < 0x20 => push_unicode(&mut out, u32::from(c)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn needs_repair(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut in_string = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            0..=0x1f if in_string => return true,
            b'\\' if in_string => match bytes.next() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                _ => return true,
            },
            _ => {}
        }
    }
    false
}

/// Repairs the escape whose backslash was just consumed.
fn repair_escape(rest: &mut std::str::Chars<'_>, out: &mut String) {
    let before = rest.clone();
    match rest.next() {
        Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => {
            out.push('\\');
            out.push(c);
        }
        Some('u') => match four_hex(rest) {
            Some(code @ 0xD800..=0xDBFF) => {
                let mut ahead = rest.clone();
                let low = if ahead.next() == Some('\\') && ahead.next() == Some('u') {
                    four_hex(&mut ahead).filter(|low| (0xDC00..=0xDFFF).contains(low))
                } else {
                    None
                };
                match low {
                    Some(low) => {
                        push_unicode(out, code);
                        push_unicode(out, low);
                        *rest = ahead;
                    }
                    None => out.push(char::REPLACEMENT_CHARACTER),
                }
            }
            Some(0xDC00..=0xDFFF) => out.push(char::REPLACEMENT_CHARACTER),
            Some(code) => push_unicode(out, code),
            None => {
                out.push('u');
                *rest = before;
                let _ = rest.next();
            }
        },
        // The character itself may need repair, so the caller reads it again.
        Some(_) => *rest = before,
        None => {}
    }
}

fn four_hex(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    let mut code = 0;
    for _ in 0..4 {
        code = code * 16 + rest.next()?.to_digit(16)?;
    }
    Some(code)
}

fn push_unicode(out: &mut String, code: u32) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        out.push(char::from_digit((code >> shift) & 0xF, 16).unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        serde_json::from_str(&repair(text.as_bytes())).unwrap()
    }

    #[test]
    fn an_invalid_escape_loses_its_backslash() {
        assert_eq!(read(r#""Questions \<internal\> \!important""#), "Questions <internal> !important");
        assert_eq!(read(r#""mail\\jdoe.nsf \"x\" \/ \u0041 \q \u12""#), "mail\\jdoe.nsf \"x\" / A q u12");
    }

    #[test]
    fn raw_control_characters_in_strings_become_escapes() {
        assert_eq!(read("\"a\tb\r\n\u{1}c\\\nd\""), "a\tb\r\n\u{1}c\nd");
    }

    #[test]
    fn unpaired_surrogates_become_the_replacement_character() {
        assert_eq!(
            read(r#""\ud83d\ude00 \ud83d x \ude00 \ud83d\u0041""#),
            "😀 \u{fffd} x \u{fffd} \u{fffd}A"
        );
    }

    proptest! {
        #[test]
        fn valid_json_keeps_its_meaning(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(read(&json), text);
        }

        #[test]
        fn every_closed_string_becomes_valid(text in "[^\"\\\\]{0,30}(\\\\[^\"\\\\][^\"\\\\]{0,10}){0,5}") {
            let json = format!("\"{text}\"");
            prop_assert!(serde_json::from_str::<String>(&repair(json.as_bytes())).is_ok(), "{}", json);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = repair(&bytes);
        }
    }
}

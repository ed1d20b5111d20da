//! Escapes control characters on output, so that text from servers and clients can neither command a terminal nor forge
//! log lines. Escapes have JSON's form, so escaped JSON still means the same.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes every control character except newline and tab.
#[must_use]
pub fn escape_except_newlines(text: &str) -> Cow<'_, str> {
    escape_where(text, |c| is_control(c) && c != '\n' && c != '\t')
}

/// Escapes every control character, so that the text stays on one line.
#[must_use]
pub fn escape_all(text: &str) -> Cow<'_, str> {
    escape_where(text, is_control)
}

/// C0, DEL and C1, line separators, and characters that change the direction of text, which make a line read
/// differently from what it contains.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

fn escape_where(text: &str, must_escape: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&must_escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if must_escape(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_all_others_stay() {
        let hostile = "a\u{1b}[2J\u{7f}\u{9b}\u{202e}\r\0b";
        assert_eq!(escape_except_newlines(hostile), "a\\u001b[2J\\u007f\\u009b\\u202e\\u000d\\u0000b");
        assert_eq!(escape_except_newlines("one\n\ttwo"), "one\n\ttwo");
        assert_eq!(escape_all("one\n\ttwo"), "one\\u000a\\u0009two");
        for plain in ["", "Größe – 東京 \\u001b", "a b"] {
            assert!(
                matches!(escape_except_newlines(plain), Cow::Borrowed(_))
                    && matches!(escape_all(plain), Cow::Borrowed(_))
            );
        }
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let text = serde_json::to_string("\u{1b}[2J\u{9b}\u{202e}\u{7f}").unwrap();
        let back: String = serde_json::from_str(&escape_except_newlines(&text)).unwrap();
        assert_eq!(back, "\u{1b}[2J\u{9b}\u{202e}\u{7f}");
    }
}

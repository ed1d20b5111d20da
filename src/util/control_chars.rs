//! Makes control characters visible: text from servers and clients must not command a terminal or forge lines of a log.
//!
//! It is applied where text leaves, to a terminal or a log. An escape is written as JSON has it, so that JSON stays what
//! it was.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every control character escaped but the end of a line and the tabulator.
#[must_use]
pub fn escape_except_newlines(text: &str) -> Cow<'_, str> {
    escape_where(text, |c| is_control(c) && c != '\n' && c != '\t')
}

/// The text with every control character escaped: it stays on its line.
#[must_use]
pub fn escape_all(text: &str) -> Cow<'_, str> {
    escape_where(text, is_control)
}

/// C0, DEL and C1; line separators; and what turns the direction of writing, as a line then says something else than it
/// seems to.
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
    fn control_characters_are_shown_and_all_others_stay() {
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

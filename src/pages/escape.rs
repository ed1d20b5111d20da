//! Text and links made harmless for HTML.
//!
//! In: text that anybody may have written (titles, paths). Out: characters that mean only
//! themselves in element content and in quoted attribute values, and links that stay on this site.
//! It never drops a character silently: what HTML forbids becomes U+FFFD.

/// Appends `text` to `out`, harmless in element content and in quoted attributes.
pub fn push_text(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_forbidden(c) => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
}

/// As [`push_text`], into a string of its own.
#[must_use]
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    push_text(&mut out, text);
    out
}

/// A reference that a browser resolves on this very site, whatever `link` holds.
///
/// A second slash, a backslash (which browsers read as a slash) or a control character (which they
/// remove) after the first slash would lead to a foreign host, and a scheme such as `javascript:` to
/// worse. Characters that stand for themselves stay byte for byte. The result still needs
/// [`text`] before it goes into an attribute.
#[must_use]
pub fn local_link(link: &str) -> String {
    let mut out = String::with_capacity(link.len() + 1);
    out.push('/');
    for c in link.trim_start_matches(['/', '\\']).chars() {
        match c {
            '\\' | ' ' | '"' | '<' | '>' | '`' => push_percent(&mut out, c),
            c if is_forbidden(c) || c.is_ascii_control() => push_percent(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

fn push_percent(out: &mut String, c: char) {
    let mut buffer = [0; 4];
    for octet in c.encode_utf8(&mut buffer).bytes() {
        out.push_str(&format!("%{octet:02X}"));
    }
}

/// What may not stand in an HTML document (<https://html.spec.whatwg.org/#preprocessing-the-input-stream>).
fn is_forbidden(c: char) -> bool {
    let n = c as u32;
    (c.is_control() && !matches!(c, '\t' | '\n')) || (0xFDD0..=0xFDEF).contains(&n) || n & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_characters_and_the_forbidden_ones_are_replaced() {
        assert_eq!(
            text("<a href=\"x\" id='y'>&amp;"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;amp;"
        );
        assert_eq!(text("a\u{0}b\u{85}c\u{FFFE}d\r"), "a\u{FFFD}b\u{FFFD}c\u{FFFD}d\u{FFFD}");
        assert_eq!(text("Käufe\t1"), "Käufe\t1");
    }

    #[test]
    fn a_link_never_leaves_the_site() {
        for (given, expected) in [
            ("/__C1257A000041D2E0.nsf/v?OpenView&a=1", "/__C1257A000041D2E0.nsf/v?OpenView&a=1"),
            ("//evil.example/x", "/evil.example/x"),
            ("/\\evil.example", "/evil.example"),
            ("\\/\\/evil.example", "/evil.example"),
            ("/\t/evil.example", "/%09/evil.example"),
            ("javascript:alert(1)", "/javascript:alert(1)"),
            ("/a b\r\nX: y", "/a%20b%0D%0AX:%20y"),
            ("", "/"),
        ] {
            assert_eq!(local_link(given), expected, "{given:?}");
        }
    }
}

//! Escapes untrusted text and links (titles, paths) for HTML. Characters that HTML forbids become U+FFFD, so that none
//! disappears silently.

/// Appends text escaped for element content and quoted attributes.
pub fn push_escaped(out: &mut String, text: &str) {
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

/// [`push_escaped`] into a new string.
#[must_use]
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    push_escaped(&mut out, text);
    out
}

/// A reference that every browser resolves on this site, whatever `link` contains.
///
/// After the first slash, a second one, a backslash (which browsers take for a slash) or a control character (which
/// they remove) would lead to another host, and a scheme such as `javascript:` would run code. All other characters stay
/// unchanged. An attribute still needs [`escape_html`].
#[must_use]
pub fn same_site_link(link: &str) -> String {
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
    for byte in c.encode_utf8(&mut buffer).bytes() {
        out.push_str(&format!("%{byte:02X}"));
    }
}

/// A character that HTML forbids (<https://html.spec.whatwg.org/#preprocessing-the-input-stream>).
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
            escape_html("<a href=\"x\" id='y'>&amp;"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;amp;"
        );
        assert_eq!(escape_html("a\u{0}b\u{85}c\u{FFFE}d\r"), "a\u{FFFD}b\u{FFFD}c\u{FFFD}d\u{FFFD}");
        assert_eq!(escape_html("Käufe\t1"), "Käufe\t1");
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
            assert_eq!(same_site_link(given), expected, "{given:?}");
        }
    }
}

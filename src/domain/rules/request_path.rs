//! Parts of the path of a URL, divided as conditions divide it: at slashes of either kind, plain or encoded, of which
//! repeated ones count as one.

use std::path::PathBuf;

use crate::util::percent::{DecodedByte, PercentDecoder};

/// The raw path behind its first `count` segments, with the slash before the next one.
#[must_use]
pub fn after_segments(path: &[u8], count: usize) -> &[u8] {
    let mut left = count;
    let mut is_inside = false;
    for byte in PercentDecoder::new(path) {
        if byte.is_separator() {
            if is_inside && left == 0 {
                return path.get(byte.at..).unwrap_or_default();
            }
            is_inside = false;
        } else if !is_inside {
            if left == 0 {
                return path;
            }
            is_inside = true;
            left -= 1;
        }
    }
    if count == 0 { path } else { b"" }
}

/// The path of a file for a URL, relative to the folder that stands for the first `skip` segments. `None` if the URL
/// names no file that may be sent: a hidden one, one outside the folder, or one whose name is not UTF-8. The names of
/// `.well-known` are public (<https://www.rfc-editor.org/rfc/rfc8615>).
#[must_use]
pub fn file_path(path: &[u8], skip: usize) -> Option<PathBuf> {
    let mut file = PathBuf::new();
    let bytes: Vec<DecodedByte> = PercentDecoder::new(path).collect();
    let segments = bytes.split(|byte| byte.is_separator()).filter(|segment| !segment.is_empty());
    for segment in segments.skip(skip) {
        let name = String::from_utf8(segment.iter().map(|byte| byte.value).collect()).ok()?;
        let is_hidden = name.starts_with('.') && !name.eq_ignore_ascii_case(".well-known");
        if is_hidden || name.chars().any(char::is_control) {
            return None;
        }
        file.push(name);
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    fn after(path: &str, count: usize) -> &str {
        std::str::from_utf8(after_segments(path.as_bytes(), count)).unwrap()
    }

    #[test]
    fn segments_are_skipped_in_every_spelling() {
        for path in ["/shop/a/b", "//shop//a/b", "\\shop\\a/b", "/sh%6Fp%2Fa/b", "shop/a/b"] {
            let rest = after(path, 1).replace("%2F", "/").replace('\\', "/").replace("//", "/");
            assert_eq!(rest, "/a/b", "{path}");
        }
        assert_eq!((after("/shop/a/", 2), after("/shop", 1), after("/", 1), after("", 1)), ("/", "", "", ""));
        assert_eq!((after("/shop", 0), after("//", 0), after("/a", 5)), ("/shop", "//", ""));
    }

    #[test]
    fn hidden_and_strange_names_are_no_files() {
        let file = |path: &str, skip| file_path(path.as_bytes(), skip);
        assert_eq!(file("/a/b%20c.txt", 0).as_deref(), Some(Path::new("a/b c.txt")));
        assert_eq!(file("/docs/A/B.html", 1).as_deref(), Some(Path::new("A/B.html")));
        assert_eq!(
            file("/.well-known/acme-challenge/x-_1", 0).as_deref(),
            Some(Path::new(".well-known/acme-challenge/x-_1"))
        );
        assert_eq!(file("/docs/", 1).as_deref(), Some(Path::new("")));
        for path in [
            "/.git/config",
            "/a/.htpasswd",
            "/a/%2Ehtpasswd",
            "/../x",
            "/%2e%2e/x",
            "/a\\..\\x",
            "/a%5C..%2Fx",
            "/.",
            "/%FF",
            "/a%00b",
        ] {
            assert_eq!(file(path, 0), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_folder(path in r"[/\\.%25a2fFeEcC]{0,30}", skip in 0_usize..3) {
            if let Some(file) = file_path(path.as_bytes(), skip) {
                prop_assert!(file.components().all(|c| matches!(c, Component::Normal(_))), "{file:?}");
                let text = file.to_str().unwrap();
                prop_assert!(!text.contains('\\') && !text.split('/').any(|name| name.starts_with('.')));
            }
        }

        #[test]
        fn what_is_skipped_and_what_is_left_are_the_whole(path in r"(/|\\|%2[fF]|%5[cC]|a|%61){0,12}", count in 0_usize..4) {
            let all = file_path(path.as_bytes(), 0).unwrap();
            let rest = file_path(after_segments(path.as_bytes(), count), 0).unwrap();
            prop_assert_eq!(rest, all.components().skip(count).collect::<PathBuf>());
        }
    }
}

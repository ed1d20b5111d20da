//! The entity tag of a compressed response. The bytes are others than the server's, so the tag is weak, and it has a mark,
//! so that a later request can give the server its own tag back.
//!
//! Domino compares tags byte by byte. Without the mark a tag that we made weak could not be told from one that was weak.

/// Stands at the end of a tag that we made weak, within the quotes.
const MARK: &[u8] = b"-icm";

/// The tag of the compressed form of a response. `None` for what is no entity tag. A weak tag stays as it is: it promises
/// no equal bytes.
#[must_use]
pub fn of_compressed(tag: &[u8]) -> Option<Vec<u8>> {
    let tag = tag.trim_ascii();
    if let Some(rest) = tag.strip_prefix(b"W/") {
        return inner(rest).map(|_| tag.to_vec());
    }
    let text = inner(tag)?;
    Some([b"W/\"", text, MARK, b"\""].concat())
}

/// The value of `If-None-Match` or `If-Match` with the server's own tags in place of ours. `None` if there is none of ours.
#[must_use]
pub fn restore(value: &[u8]) -> Option<Vec<u8>> {
    const OURS: &[u8] = b"-icm\"";
    memchr::memmem::find(value, OURS)?;
    let mut restored = Vec::with_capacity(value.len());
    let mut changed = false;
    let mut rest = value;
    while let Some((weak, text, after)) = next_tag(rest) {
        let before = rest.len() - after.len() - text.len() - 2;
        let start = before.checked_sub(if weak { 2 } else { 0 })?;
        restored.extend_from_slice(rest.get(..start)?);
        match text.strip_suffix(MARK).filter(|_| weak) {
            Some(own) => {
                restored.extend_from_slice(&[b"\"", own, b"\""].concat());
                changed = true;
            }
            None => restored.extend_from_slice(rest.get(start..rest.len() - after.len())?),
        }
        rest = after;
    }
    restored.extend_from_slice(rest);
    changed.then_some(restored)
}

/// The first quoted text of a list: whether `W/` stands before it, the text, and what follows the quote.
fn next_tag(list: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let open = memchr::memchr(b'"', list)?;
    let weak = list.get(..open)?.ends_with(b"W/");
    let inside = list.get(open + 1..)?;
    let close = memchr::memchr(b'"', inside)?;
    Some((weak, inside.get(..close)?, inside.get(close + 1..)?))
}

/// The text between the quotes.
fn inner(tag: &[u8]) -> Option<&[u8]> {
    let text = tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let is_valid = text.iter().all(|byte| *byte != b'"' && *byte > b' ' && *byte != 0x7f);
    is_valid.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn restored(value: &str) -> Option<String> {
        restore(value.as_bytes()).map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn a_strong_tag_becomes_weak_and_the_server_gets_its_own_back() {
        assert_eq!(of_compressed(b"\"abc\"").unwrap(), b"W/\"abc-icm\"");
        assert_eq!(of_compressed(b"W/\"abc\"").unwrap(), b"W/\"abc\"");
        for no_tag in ["abc", "\"abc", "\"a\"b\"", "W/abc", "\"a b\"", ""] {
            assert_eq!(of_compressed(no_tag.as_bytes()), None, "{no_tag}");
        }
        assert_eq!(restored("W/\"abc-icm\"").as_deref(), Some("\"abc\""));
        assert_eq!(
            restored("W/\"a-icm\" , W/\"b\",\"c\", W/\"-icm\"").as_deref(),
            Some("\"a\" , W/\"b\",\"c\", \"\"")
        );
    }

    #[test]
    fn tags_that_are_not_ours_stay_as_they_are() {
        for value in ["*", "\"abc\"", "W/\"abc\"", "\"abc-icm\"", "W/\"abc-icm", "-icm\"", ""] {
            assert_eq!(restored(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_tag_comes_back(tags in proptest::collection::vec("[!#-~]{0,12}", 1..4)) {
            let strong: Vec<String> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
            let ours: Vec<Vec<u8>> = strong.iter().map(|tag| of_compressed(tag.as_bytes()).unwrap()).collect();
            prop_assert_eq!(restore(&ours.join(&b", "[..])).unwrap(), strong.join(", ").into_bytes());
        }

        #[test]
        fn any_bytes_can_be_read(mut value in proptest::collection::vec(any::<u8>(), 0..40), at in 0_usize..40) {
            let at = at.min(value.len());
            value.splice(at..at, b"-icm\"".iter().copied());
            prop_assert!(restore(&value).is_none_or(|restored| restored.len() < value.len()));
            prop_assert!(of_compressed(&value).is_none_or(|tag| tag.starts_with(b"W/")));
        }
    }
}

//! Database paths: one comparable form for the many spellings in URLs and directories, and the form for a URL.
//!
//! Folding turns `\` into `/`, drops leading and repeated slashes, and makes letters lower case. Domino on Windows
//! stores backslashes and ignores case; whether it does on Linux is not documented. So matching folds, and forwarding
//! keeps the spelling. Only paths longer than 256 bytes allocate.

use crate::util::percent::PercentDecoder;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use smallvec::SmallVec;
use std::borrow::Cow;

/// A reusable buffer for a folded path.
#[derive(Clone, Debug, Default)]
pub struct FoldBuffer {
    bytes: SmallVec<[u8; 256]>,
    /// For characters beyond ASCII, whose lower case may have a different length.
    lower: SmallVec<[u8; 256]>,
}

/// Folds the database part of a URL, percent-decoded as on the server.
pub fn fold_url_path<'b>(raw: &[u8], buffer: &'b mut FoldBuffer) -> &'b [u8] {
    if needs_lower_case_only(raw) {
        let folded = &mut buffer.bytes;
        folded.clear();
        folded.extend_from_slice(raw);
        folded.make_ascii_lowercase();
        return folded;
    }
    fold_bytes(PercentDecoder::new(raw).values(), buffer)
}

/// True of nearly every path in a URL: nothing is encoded, and there are no separators to drop or to replace.
fn needs_lower_case_only(raw: &[u8]) -> bool {
    let mut slashes = memchr::memchr_iter(b'/', raw);
    memchr::memchr2(b'%', b'\\', raw).is_none()
        && raw.is_ascii()
        && raw.first() != Some(&b'/')
        && !slashes.any(|at| raw.get(at + 1) == Some(&b'/'))
}

/// Folds a plain path of a directory, in which `%` has no special meaning.
pub fn fold_plain_path<'b>(plain: &[u8], buffer: &'b mut FoldBuffer) -> &'b [u8] {
    fold_bytes(plain.iter().copied(), buffer)
}

/// A plain path as it is shown and forwarded: `/` for `\`, no leading or repeated slashes, the case of the directory.
#[must_use]
pub fn normalize_separators(plain: &str) -> Cow<'_, str> {
    if !plain.starts_with('/') && !plain.contains('\\') && !plain.contains("//") {
        return Cow::Borrowed(plain);
    }
    let mut path = String::with_capacity(plain.len());
    for part in plain.split(['/', '\\']).filter(|part| !part.is_empty()) {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    if plain.ends_with(['/', '\\']) && !path.is_empty() {
        path.push('/');
    }
    Cow::Owned(path)
}

/// Whether the database part of a URL and a plain path are the same text, apart from percent-encoding: same case and
/// same separators.
#[must_use]
pub fn is_same_spelling(raw_from_url: &[u8], plain: &str) -> bool {
    PercentDecoder::new(raw_from_url).values().eq(plain.bytes())
}

/// A plain path in the form for a URL: `\` becomes `/`. Characters with a meaning in URLs (`%`, `?`, `#`, `!`, and `+`,
/// which Domino reads as a space), spaces, control bytes and the UTF-8 of other characters are percent-encoded.
#[must_use]
pub fn percent_encode_path(plain: &str) -> Cow<'_, str> {
    if plain.contains('\\') {
        let slashes = plain.replace('\\', "/");
        return Cow::Owned(percent_encode(slashes.as_bytes(), PATH_ENCODE_SET).to_string());
    }
    percent_encode(plain.as_bytes(), PATH_ENCODE_SET).into()
}

/// Everything but `/` and the `pchar` of RFC 3986, and also `!` and `+`.
const PATH_ENCODE_SET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'!')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'+')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn fold_bytes(bytes: impl Iterator<Item = u8>, buffer: &mut FoldBuffer) -> &[u8] {
    let FoldBuffer { bytes: folded, lower } = buffer;
    folded.clear();
    let mut ascii = true;
    for byte in bytes {
        match byte {
            b'/' | b'\\' if folded.last().is_none_or(|last| *last == b'/') => {}
            b'\\' => folded.push(b'/'),
            _ => {
                ascii &= byte.is_ascii();
                folded.push(byte.to_ascii_lowercase());
            }
        }
    }
    if ascii {
        return folded;
    }
    lower.clear();
    for chunk in folded.utf8_chunks() {
        for character in chunk.valid().chars().flat_map(char::to_lowercase) {
            lower.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        // Perhaps Latin-1: without a known case it matches only itself.
        lower.extend_from_slice(chunk.invalid());
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folded(raw: &[u8]) -> Vec<u8> {
        fold_url_path(raw, &mut FoldBuffer::default()).to_vec()
    }

    fn folded_plain(plain: &str) -> String {
        String::from_utf8(fold_plain_path(plain.as_bytes(), &mut FoldBuffer::default()).to_vec()).unwrap()
    }

    #[test]
    fn case_separators_and_percent_encoding_make_no_difference_in_a_url() {
        for raw in [
            "Sales/Leads.NSF",
            "/sales//leads.nsf",
            "sales%5CLEADS.nsf",
            "\\\\sales\\leads%2Ensf",
            "%2Fsales%2F/leads.nsf",
        ] {
            assert_eq!(folded(raw.as_bytes()), b"sales/leads.nsf", "{raw}");
        }
    }

    #[test]
    fn a_percent_sign_in_the_directory_is_taken_literally() {
        assert_eq!(folded_plain("Apps\\100%25.nsf"), "apps/100%25.nsf");
        assert_eq!(folded(b"apps/100%2525.nsf"), b"apps/100%25.nsf");
    }

    #[test]
    fn letters_beyond_ascii_fold_and_invalid_utf8_is_kept() {
        assert_eq!(folded("MÜLLER.nsf".as_bytes()), "müller.nsf".as_bytes());
        assert_eq!(folded(b"M%C3%9Cller.nsf"), "müller.nsf".as_bytes());
        assert_eq!(folded_plain("ПОЧТА.nsf"), "почта.nsf");
        assert_eq!(folded(b"M%DCLLER.nsf"), b"m\xDCller.nsf");
    }

    #[test]
    fn a_path_longer_than_the_buffer_is_kept_whole() {
        let long = format!("{}/{}.nsf", "A".repeat(300), "Ü".repeat(300));
        assert_eq!(folded_plain(&long), long.to_lowercase());
    }

    #[test]
    fn a_buffer_can_be_reused() {
        let mut buffer = FoldBuffer::default();
        assert_eq!(fold_url_path("ÄÖÜ.nsf".as_bytes(), &mut buffer), "äöü.nsf".as_bytes());
        assert_eq!(fold_url_path(b"A.nsf", &mut buffer), b"a.nsf");
        assert_eq!(fold_url_path(b"", &mut buffer), b"");
    }

    #[test]
    fn characters_with_a_meaning_in_urls_are_encoded() {
        assert_eq!(percent_encode_path("sales/leads.nsf"), "sales/leads.nsf");
        assert!(matches!(percent_encode_path("sales/leads.nsf"), Cow::Borrowed(_)));
        assert_eq!(percent_encode_path("apps\\Hot News!.nsf"), "apps/Hot%20News%21.nsf");
        assert_eq!(percent_encode_path("100%#?+.nsf"), "100%25%23%3F%2B.nsf");
        assert_eq!(percent_encode_path("Müller.nsf"), "M%C3%BCller.nsf");
        assert_eq!(percent_encode_path("a\r\nb.nsf"), "a%0D%0Ab.nsf");
    }

    #[test]
    fn a_spelling_differs_by_case_and_separators_and_not_by_encoding() {
        for (raw, plain, same) in [
            ("Sales/Leads.nsf", "Sales/Leads.nsf", true),
            ("Sales%2FLe%61ds.nsf", "Sales/Leads.nsf", true),
            ("b%c3%bcro/alt%20%26%20neu%2B.nsf", "büro/alt & neu+.nsf", true),
            ("100%25.nsf", "100%.nsf", true),
            ("sales/leads.nsf", "Sales/Leads.nsf", false),
            ("Sales%5CLeads.nsf", "Sales/Leads.nsf", false),
            ("Sales//Leads.nsf", "Sales/Leads.nsf", false),
            ("B%C3%9CRO/a.nsf", "büro/a.nsf", false),
            ("Sales/Leads.nsf2", "Sales/Leads.nsf", false),
        ] {
            assert_eq!(is_same_spelling(raw.as_bytes(), plain), same, "{raw}");
        }
    }

    #[test]
    fn the_shown_spelling_keeps_case_and_has_slashes() {
        assert_eq!(normalize_separators("Sales\\Leads.nsf"), "Sales/Leads.nsf");
        assert_eq!(normalize_separators("\\\\a//b\\"), "a/b/");
        assert!(matches!(normalize_separators("a/b.nsf"), Cow::Borrowed("a/b.nsf")));
        assert_eq!(normalize_separators("\\"), "");
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(plain in "[/\\\\a-zA-ZÄÖÜßİΣ% .]{0,40}") {
            let once = folded_plain(&plain);
            prop_assert_eq!(folded_plain(&once), once);
        }
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..400)) {
            let path = folded(&raw);
            prop_assert!(path.first() != Some(&b'/') && !path.contains(&b'\\'));
            prop_assert!(!path.windows(2).any(|pair| pair == b"//"));
        }
        #[test]
        fn a_usual_path_folds_as_if_it_were_read_byte_by_byte(raw in "[/\\\\a-zA-ZÄ%25F.]{0,40}") {
            let careful = fold_bytes(PercentDecoder::new(raw.as_bytes()).values(), &mut FoldBuffer::default()).to_vec();
            prop_assert_eq!(folded(raw.as_bytes()), careful);
        }
        #[test]
        fn an_encoded_path_folds_like_the_plain_one(plain in "\\PC{0,40}") {
            let encoded = percent_encode_path(&plain);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && !b"?#!\\ ".contains(&b)));
            prop_assert_eq!(folded(encoded.as_bytes()), folded_plain(&plain).into_bytes());
        }
        #[test]
        fn an_encoded_path_has_the_spelling_of_the_plain_one(plain in "[^\\\\]{0,40}") {
            prop_assert!(is_same_spelling(percent_encode_path(&plain).as_bytes(), &plain));
        }
        #[test]
        fn the_shown_spelling_folds_like_the_plain_one(plain in "[/\\\\a-zA-ZÄ%]{0,20}") {
            prop_assert_eq!(folded_plain(&normalize_separators(&plain)), folded_plain(&plain));
        }
    }
}

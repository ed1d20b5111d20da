//! The arguments of a Domino URL or of a posted form: `&Name=value`. Values are decoded and never interpreted.

use crate::util::percent::{PercentDecoder, decodes_to};
use std::borrow::Cow;

/// The decoded value of the first argument `name` in any case: empty for an argument without `=`, `None` without such
/// an argument. `+` and `%20` are both a space
/// (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/side1.html>).
///
/// `text` is a form body, or a query without its command, which could be mistaken for an argument
/// ([`super::Target::argument`]).
#[must_use]
pub fn find_argument<'a>(text: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    argument_pairs(text).find(|(raw, _)| decodes_to(raw, name)).map(|(_, value)| decode_value(value))
}

/// Whether an argument `name` has a decoded value that passes `test`; one of several is enough.
#[must_use]
pub fn any_argument(text: &[u8], name: &[u8], mut test: impl FnMut(&[u8]) -> bool) -> bool {
    argument_pairs(text).filter(|(raw, _)| decodes_to(raw, name)).any(|(_, value)| test(&decode_value(value)))
}

/// The raw name and value of every argument, split at the first `=`.
pub(super) fn argument_pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b'&').filter(|token| !token.is_empty()).map(|token| {
        match memchr::memchr(b'=', token) {
            Some(at) => (token.get(..at).unwrap_or_default(), token.get(at + 1..).unwrap_or_default()),
            None => (token, &[][..]),
        }
    })
}

fn decode_value(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'+', b'%', value).is_none() {
        return Cow::Borrowed(value);
    }
    let decoded = PercentDecoder::new(value);
    Cow::Owned(decoded.map(|b| if b.value == b'+' && !b.encoded { b' ' } else { b.value }).collect())
}

/// The text before the first `&`: the place of the command.
pub(super) fn first_token(query: &[u8]) -> &[u8] {
    query.split(|byte| *byte == b'&').next().unwrap_or_default()
}

/// True if the first token is a command and not an argument.
pub(super) fn is_command(token: &[u8]) -> bool {
    !token.is_empty() && !token.contains(&b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_match_in_any_case_and_values_are_decoded() {
        let form = b"Username=Jane+Doe&redirectto=%2Fsales%2Fleads.nsf%3FOpenDatabase&%4Cogin";
        assert_eq!(find_argument(form, b"USERNAME").as_deref(), Some(&b"Jane Doe"[..]));
        assert_eq!(
            find_argument(form, b"RedirectTo").as_deref(),
            Some(&b"/sales/leads.nsf?OpenDatabase"[..])
        );
        assert_eq!(find_argument(form, b"Login").as_deref(), Some(&b""[..]));
        assert_eq!(find_argument(form, b"Password"), None);
    }

    #[test]
    fn an_encoded_plus_stays_a_plus() {
        assert_eq!(find_argument(b"Name=a%2Bb+c", b"name").as_deref(), Some(&b"a+b c"[..]));
    }

    #[test]
    fn a_plain_value_is_borrowed() {
        assert!(matches!(find_argument(b"To=/db.nsf", b"To"), Some(Cow::Borrowed(b"/db.nsf"))));
    }

    #[test]
    fn name_and_value_are_split_at_the_first_equals_sign() {
        assert_eq!(find_argument(b"To=a=b", b"to").as_deref(), Some(&b"a=b"[..]));
    }

    proptest! {
        #[test]
        fn any_encoded_value_decodes_to_itself(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let encoded: String = value.iter().map(|b| format!("%{b:02X}")).collect();
            let text = format!("a=1&Value={encoded}&z");
            prop_assert_eq!(find_argument(text.as_bytes(), b"value").unwrap().into_owned(), value);
        }
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..60), name in proptest::collection::vec(any::<u8>(), 0..6)) {
            let _ = find_argument(&text, &name);
        }
    }
}

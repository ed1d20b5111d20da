//! Finds the path of a database at the beginning of a URL's path, in any spelling. Case, backslashes and
//! percent-encoding make no difference, as in the directory.

use percent_encoding::percent_decode;

/// Length in raw bytes of `database` at the beginning of `path`, if the path names the database or something in it.
/// `path` has neither query nor fragment; both begin with `/`.
pub(super) fn prefix_len(path: &[u8], database: &str) -> Option<usize> {
    let wanted = normalize(database.as_bytes());
    let segments = wanted.iter().filter(|b| **b == b'/').count();
    if segments == 0 {
        return None;
    }
    let end = nth_separator(path, segments + 1);
    let candidate = path.get(..end)?;
    // `!` may replace `?`: /leads.nsf!OpenDatabase
    // (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/side1.html>)
    let marks = candidate.iter().enumerate().filter(|(_, b)| **b == b'!').map(|(i, _)| i);
    std::iter::once(end)
        .chain(marks)
        .find(|end| candidate.get(..*end).is_some_and(|raw| normalize(raw) == wanted))
}

/// Start of the `n`th separator, counted from 1, or the end of the path.
fn nth_separator(path: &[u8], n: usize) -> usize {
    let mut seen = 0;
    let mut rest = path;
    while let Some(byte) = rest.first() {
        let encoded = |digits: [&[u8]; 2]| {
            rest.get(1..3).is_some_and(|d| digits.iter().any(|x| d.eq_ignore_ascii_case(x)))
        };
        let is_separator = matches!(byte, b'/' | b'\\') || (*byte == b'%' && encoded([b"2f", b"5c"]));
        if is_separator {
            seen += 1;
            if seen == n {
                return path.len() - rest.len();
            }
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    path.len()
}

/// Decoded, lower case, with `/` for `\`.
fn normalize(raw: &[u8]) -> Vec<u8> {
    let mut decoded: Vec<u8> = percent_decode(raw).collect();
    for byte in &mut decoded {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    match String::from_utf8(decoded) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(invalid) => invalid.into_bytes().to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_backslash_and_encoding_make_no_difference() {
        for (path, prefix) in [
            ("/apps/leads.nsf", Some("/apps/leads.nsf")),
            ("/apps/leads.nsf/0/abc", Some("/apps/leads.nsf")),
            ("/Apps/Leads.NSF/0", Some("/Apps/Leads.NSF")),
            ("/apps%2Fleads.nsf/0", Some("/apps%2Fleads.nsf")),
            ("/apps%5cleads%2ensf", Some("/apps%5cleads%2ensf")),
            ("/apps\\leads.nsf\\0", Some("/apps\\leads.nsf")),
            ("/apps/leads.nsf!OpenDatabase", Some("/apps/leads.nsf")),
            ("/apps/leads.nsfx", None),
            ("/apps/leads", None),
            ("/apps/", None),
            ("/x/apps/leads.nsf", None),
            ("", None),
        ] {
            let length = prefix_len(path.as_bytes(), "/apps/leads.nsf");
            assert_eq!(length, prefix.map(str::len), "{path}");
        }
    }

    #[test]
    fn letters_beyond_ascii_and_exclamation_marks_in_file_names_are_matched() {
        assert_eq!(prefix_len(b"/K%C3%84UFE.nsf/v", "/k%c3%a4ufe.nsf"), Some(15));
        assert_eq!(prefix_len(b"/hey!.nsf!Open", "/hey!.nsf"), Some(9));
    }

    proptest! {
        #[test]
        fn a_path_below_the_database_is_always_found(database in "(/[a-z%.]{1,8}){1,4}", rest in "(/[a-zA-Z0-9%!]{0,9}){0,4}") {
            let path = format!("{database}{rest}");
            prop_assert_eq!(prefix_len(path.as_bytes(), &database), Some(database.len()));
        }
        #[test]
        fn no_bytes_make_it_panic(path in proptest::collection::vec(any::<u8>(), 0..60), database in ".{0,20}") {
            if let Some(length) = prefix_len(&path, &database) {
                prop_assert!(length <= path.len());
            }
        }
    }
}

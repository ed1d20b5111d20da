//! Patterns with `*` for any run of bytes, compared without regard to case. They are apart from what they are compared with:
//! paths, hosts, arguments and fields all use them.

use std::ops::Range;

use smallvec::SmallVec;

/// A pattern: literal text, and `*` for any run of bytes, also an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// The text between the stars, in lower case; one more than there are stars.
    parts: SmallVec<[Box<[u8]>; 2]>,
}

impl Glob {
    /// Reads a pattern. Every text is one.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        Self { parts: pattern.to_ascii_lowercase().split(|byte| *byte == b'*').map(Box::from).collect() }
    }

    /// Whether the whole of a text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some((first, rest)) = self.parts.split_first() else { return text.is_empty() };
        let Some((last, middle)) = rest.split_last() else { return text.eq_ignore_ascii_case(first) };
        let Some(mut text) = strip_prefix(text, first) else { return false };
        // The earliest place of each part leaves most for the next ones.
        for part in middle {
            let found = (0..=text.len()).find_map(|at| strip_prefix(text.get(at..)?, part));
            let Some(after) = found else { return false };
            text = after;
        }
        text.len()
            .checked_sub(last.len())
            .and_then(|at| text.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(last))
    }

    /// What each star stands for in a text that matches, found from the left as in [`Glob::matches`].
    #[must_use]
    pub fn captures(&self, text: &[u8]) -> Option<SmallVec<[Range<usize>; 2]>> {
        let (first, rest) = self.parts.split_first()?;
        let after = strip_prefix(text, first)?;
        let mut captured = SmallVec::new();
        let Some((last, middle)) = rest.split_last() else { return after.is_empty().then_some(captured) };
        let mut at = first.len();
        for part in middle {
            let is_here =
                |from: &usize| text.get(*from..).and_then(|rest| strip_prefix(rest, part)).is_some();
            let start = (at..=text.len()).find(is_here)?;
            captured.push(at..start);
            at = start + part.len();
        }
        let end = text.len().checked_sub(last.len()).filter(|end| *end >= at)?;
        captured.push(at..end);
        text.get(end..)?.eq_ignore_ascii_case(last).then_some(captured)
    }

    /// How many stars the pattern has.
    #[must_use]
    pub fn stars(&self) -> usize {
        self.parts.len().saturating_sub(1)
    }

    /// The segments before the first one with a star: every path that matches is this one, or below it.
    #[must_use]
    pub fn whole_segments(&self) -> &[u8] {
        let Some((first, rest)) = self.parts.split_first() else { return b"" };
        if rest.is_empty() {
            return first;
        }
        let end = memchr::memrchr(b'/', first).unwrap_or(0);
        first.get(..end).unwrap_or_default()
    }

    /// The pattern as text, for messages.
    #[must_use]
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.parts.join(&b'*')).into_owned()
    }
}

fn strip_prefix<'t>(text: &'t [u8], prefix: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes()).matches(text.as_bytes())
    }

    /// The definition, by recursion over every split.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            Some((byte, rest)) => text
                .split_first()
                .is_some_and(|(first, text)| first.eq_ignore_ascii_case(byte) && naive(rest, text)),
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_text() {
        assert!(matches("api", "API") && !matches("api", "api/") && !matches("api", "xapi"));
        assert!(matches("api/*", "api/") && matches("api/*", "api/v1") && !matches("api/*", "api"));
        assert!(matches("*.nsf", "mail/a.NSF") && matches("mail/*.nsf", "mail/a.nsf"));
        assert!(matches("*", "") && matches("**", "x") && matches("", "") && !matches("", "x"));
        assert!(!matches("ab*b", "ab"), "both ends need bytes of their own");
    }

    #[test]
    fn a_segment_with_a_star_is_not_whole() {
        for (pattern, whole) in
            [("a/b", "a/b"), ("a/b*", "a"), ("a/*", "a"), ("*", ""), ("a*/b", ""), ("", "")]
        {
            assert_eq!(Glob::new(pattern.as_bytes()).whole_segments(), whole.as_bytes(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_the_definition(pattern in "[aB*]{0,6}", text in "[Ab]{0,8}") {
            prop_assert_eq!(matches(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn what_the_stars_stand_for_makes_the_text_again(pattern in "[aB*]{0,6}", text in "[Ab]{0,8}") {
            let captured = Glob::new(pattern.as_bytes()).captures(text.as_bytes());
            prop_assert_eq!(captured.is_some(), matches(&pattern, &text));
            if let Some(captured) = captured {
                prop_assert_eq!(captured.len(), pattern.matches('*').count());
                let mut parts = captured.iter();
                let again: String = pattern
                    .chars()
                    .map(|c| if c == '*' { text.get(parts.next().unwrap().clone()).unwrap().to_owned() } else { c.to_string() })
                    .collect();
                prop_assert!(again.eq_ignore_ascii_case(&text), "{} of {}", again, text);
            }
        }

        #[test]
        fn many_stars_cost_no_more_than_pattern_times_text(text in "a{0,3000}") {
            prop_assert!(!matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", &text));
        }
    }
}

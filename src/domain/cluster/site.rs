//! The name of a site: a place with servers and ICMs of its own.
//!
//! It is separate because the configuration, the Server documents and selection compare sites by the same rule.

use std::fmt;

/// A site as an administrator spells it. Upper and lower case are the same.
#[derive(Clone, Debug)]
pub struct SiteName {
    spelling: Box<str>,
    folded: Box<str>,
}

impl SiteName {
    /// `None` for a text of spaces, which is how a view shows an empty item.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self { spelling: text.into(), folded: text.to_lowercase().into() })
    }

    /// The spelling of the configuration or the Server document.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.spelling
    }

    /// Whether a request between the two leaves a site. Without the site of one of them nothing is known.
    #[must_use]
    pub fn differ(one: Option<&Self>, other: Option<&Self>) -> bool {
        one.zip(other).is_some_and(|(one, other)| one != other)
    }
}

impl PartialEq for SiteName {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for SiteName {}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_differ_only_if_both_are_known_and_not_the_same_but_for_case() {
        let site = SiteName::new;
        let differ = |one: &str, other: &str| SiteName::differ(site(one).as_ref(), site(other).as_ref());
        assert!(differ("Vienna", "Graz"));
        assert!(!differ("Vienna", " VIENNA "));
        assert!(!differ("Zürich", "ZÜRICH"));
        assert!(!differ("", "Graz") && !differ("Vienna", " ") && !differ("", ""));
        assert_eq!(site(" Vienna ").unwrap().as_str(), "Vienna");
    }
}

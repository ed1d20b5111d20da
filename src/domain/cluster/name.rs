//! The hierarchical name of a Domino server in all its spellings: `CN=Web1/O=Acme`, `Web1/Acme`, `web1/acme`. It is
//! *not* a DNS name and is never resolved.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A Domino server name, compared in abbreviated form and without case (`LookupProvider`,
/// <https://github.com/OpenNTF/XPagesExtensionLibrary>).
#[derive(Clone, Debug)]
pub struct ServerName {
    /// The abbreviated form, with its original case: `Web1/Acme`.
    abbreviated: Box<str>,
    /// The abbreviated form in lower case, for comparison.
    folded: Box<str>,
}

/// Why a text is not a server name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerNameError {
    /// The text is empty or blank.
    #[error("a server name may not be empty")]
    Empty,
    /// A component is empty or contains a control character, or the text is too long.
    #[error("`{0}` is not a Domino server name, write it like `Web1/Acme` or `CN=Web1/O=Acme`")]
    Malformed(String),
}

impl ServerName {
    /// Parses a canonical (`CN=Web1/O=Acme`) or abbreviated (`Web1/Acme`) name.
    ///
    /// # Errors
    /// See [`ServerNameError`].
    pub fn parse(text: &str) -> Result<Self, ServerNameError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ServerNameError::Empty);
        }
        if text.len() > 256 || text.chars().any(char::is_control) {
            return Err(ServerNameError::Malformed(text.chars().take(256).collect()));
        }
        let mut abbreviated = String::with_capacity(text.len());
        for (i, part) in text.split('/').enumerate() {
            let part = part.trim();
            let value = match part.split_once('=') {
                Some((label, value)) if is_label(label.trim()) => value.trim(),
                _ => part,
            };
            if value.is_empty() {
                return Err(ServerNameError::Malformed(text.to_owned()));
            }
            if i > 0 {
                abbreviated.push('/');
            }
            abbreviated.push_str(value);
        }
        let folded = abbreviated.to_lowercase().into_boxed_str();
        Ok(Self { abbreviated: abbreviated.into_boxed_str(), folded })
    }

    /// The abbreviated form with its original case: `Web1/Acme`.
    #[must_use]
    pub fn abbreviated(&self) -> &str {
        &self.abbreviated
    }

    /// The form that Domino stores and signs: `CN=Web1/OU=East/O=Acme`. A last component of two letters after an
    /// organisation is the country.
    #[must_use]
    pub fn canonical(&self) -> String {
        let parts: Vec<&str> = self.abbreviated.split('/').collect();
        let last = parts.len().saturating_sub(1);
        let country = last >= 2 && parts.last().is_some_and(|p| p.len() == 2);
        let organisation = if country { last.saturating_sub(1) } else { last };
        let mut out = String::with_capacity(self.abbreviated.len() + 4 * parts.len());
        for (i, part) in parts.iter().enumerate() {
            let label = match i {
                0 => "CN=",
                i if i == organisation => "/O=",
                i if i > organisation => "/C=",
                _ => "/OU=",
            };
            out.push_str(label);
            out.push_str(part);
        }
        out
    }

    /// The first component: `Web1`.
    #[must_use]
    pub fn common(&self) -> &str {
        self.abbreviated.split('/').next().unwrap_or(&self.abbreviated)
    }

    /// The form for comparison: abbreviated, in lower case.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// True if `text` is the common name or the full name of this server, in either form and any case.
    #[must_use]
    pub fn answers_to(&self, text: &str) -> bool {
        if text.contains('/') || text.contains('=') {
            Self::parse(text).is_ok_and(|other| {
                other == *self || (!other.folded.contains('/') && *other.folded == *self.common_folded())
            })
        } else {
            *text.trim().to_lowercase() == *self.common_folded()
        }
    }

    fn common_folded(&self) -> &str {
        self.folded.split('/').next().unwrap_or(&self.folded)
    }
}

/// The labels that occur in Notes names.
fn is_label(text: &str) -> bool {
    ["cn", "ou", "ou1", "ou2", "ou3", "ou4", "o", "c", "g", "i", "s", "q", "p", "a"]
        .iter()
        .any(|l| text.eq_ignore_ascii_case(l))
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.abbreviated)
    }
}

impl PartialEq for ServerName {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}
impl Eq for ServerName {}
impl Hash for ServerName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded.hash(state);
    }
}
impl PartialOrd for ServerName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ServerName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded.cmp(&other.folded)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_and_abbreviated_forms_are_equal_in_any_case() {
        let a = ServerName::parse("CN=Web1/O=Acme").unwrap();
        let b = ServerName::parse("web1/ACME").unwrap();
        assert_eq!(a, b);
        assert_eq!(a.abbreviated(), "Web1/Acme");
        assert_eq!(a.canonical(), "CN=Web1/O=Acme");
        assert_eq!(b.common(), "web1");
    }

    #[test]
    fn organisational_units_and_countries_are_labelled_when_canonical() {
        let name = ServerName::parse("Web1/East/Acme").unwrap();
        assert_eq!(name.canonical(), "CN=Web1/OU=East/O=Acme");
        let name = ServerName::parse("Web1/Acme/DE").unwrap();
        assert_eq!(name.canonical(), "CN=Web1/O=Acme/C=DE");
    }

    #[test]
    fn a_server_answers_to_its_common_and_its_full_name() {
        let name = ServerName::parse("Web1/Acme").unwrap();
        for text in ["web1", "WEB1/acme", "cn=web1/o=acme", "CN=Web1"] {
            assert!(name.answers_to(text), "{text}");
        }
        for text in ["web", "web1/other", "", "web1/acme/de"] {
            assert!(!name.answers_to(text), "{text}");
        }
    }

    #[test]
    fn empty_and_broken_names_are_refused() {
        for bad in ["", "  ", "/", "Web1/", "/Acme", "CN=/O=Acme", "We\u{0}b"] {
            assert!(ServerName::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_canonical_form_parses_back(text in ".{0,60}") {
            if let Ok(name) = ServerName::parse(&text) {
                let again = ServerName::parse(&name.canonical());
                prop_assume!(!name.abbreviated().contains('='));
                prop_assert_eq!(again.unwrap(), name);
            }
        }
    }
}

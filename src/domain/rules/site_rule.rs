//! Rules of a Web Site document of Domino, as far as they say which database a URL opens: the reading of one document, and
//! the substitution in a URL. What Domino does with them stays its own business, the URL is never changed by us.

use std::cmp::Reverse;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::glob::Glob;
use super::request_match::RequestMatch;
use crate::domain::directory::db_path::{self, FoldBuffer};
use crate::domain::url;

/// Bytes of a decoded path that would mean something else in a URL. `+` and `!` stay, because Domino may read them as a
/// space and as the start of a command.
const NOT_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');
/// Bytes that no URL has as they are.
const NOT_IN_URL: &AsciiSet = &CONTROLS.add(b' ');
/// Stars that Domino adds to the patterns of a substitution without any.
/// <https://help.hcl-software.com/domino/10.0.1/conf_websiterulesandglobalwebsettings_c.html>
const ADDED_BY_DOMINO: &str = "/*";
const MAX_PATTERN_BYTES: usize = 1024;

/// The types of rules that may lead to a database, in the order in which Domino applies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SiteRuleKind {
    /// The URL is replaced before anything else is done with it.
    Substitution,
    /// The URL is replaced, and the browser is not told, if the new one begins with a slash.
    Redirection,
}

/// A rule that makes another URL of one that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRule {
    kind: SiteRuleKind,
    /// As the document has it, with what Domino adds.
    incoming: Box<str>,
    pattern: Glob,
    /// The text between the stars.
    replacement: Vec<Box<[u8]>>,
    hosts: Vec<Box<str>>,
}

/// Why a rule cannot choose a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SiteRuleError {
    #[error("the type `{0}` is not known")]
    UnknownType(String),
    #[error("the pattern `{0}` does not begin with `/`")]
    Incoming(String),
    #[error("the pattern has no replacement")]
    NoReplacement,
    #[error("it leads to a full URL, for which Domino sends a redirect from any server")]
    FullUrl,
    #[error("the replacement `{0}` does not begin with `/`")]
    Replacement(String),
    #[error("the replacement has more stars than the pattern")]
    Stars,
    #[error("a pattern is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    #[error("`{0}` is not a host name")]
    Host(String),
}

impl SiteRule {
    /// Reads a document. `None` for a type that says nothing about databases: directories, headers, protection.
    ///
    /// # Errors
    /// Why the rule cannot choose a server.
    pub fn parse(
        kind: &str,
        incoming: &str,
        replacement: &str,
        hosts: &[String],
    ) -> Result<Option<Self>, SiteRuleError> {
        let Some(kind) = read_kind(kind)? else { return Ok(None) };
        let (mut incoming, mut replacement) = (incoming.trim().to_owned(), replacement.trim().to_owned());
        if incoming.len().max(replacement.len()) > MAX_PATTERN_BYTES {
            return Err(SiteRuleError::TooLong);
        }
        if !incoming.starts_with('/') {
            return Err(SiteRuleError::Incoming(incoming));
        }
        if replacement.is_empty() {
            return Err(SiteRuleError::NoReplacement);
        }
        if replacement.starts_with("//") || replacement.contains("://") {
            return Err(SiteRuleError::FullUrl);
        }
        if !replacement.starts_with('/') {
            return Err(SiteRuleError::Replacement(replacement));
        }
        if kind == SiteRuleKind::Substitution {
            for pattern in [&mut incoming, &mut replacement] {
                if !pattern.contains('*') {
                    pattern.truncate(pattern.trim_end_matches('/').len());
                    pattern.push_str(ADDED_BY_DOMINO);
                }
            }
        }
        let mut buffer = FoldBuffer::default();
        let pattern = Glob::new(db_path::fold_plain_path(incoming.as_bytes(), &mut buffer));
        let encoded =
            |text: &str| percent_encode(text.as_bytes(), NOT_IN_URL).to_string().into_bytes().into();
        let replacement: Vec<Box<[u8]>> = replacement.split('*').map(encoded).collect();
        if replacement.len().saturating_sub(1) > pattern.stars() {
            return Err(SiteRuleError::Stars);
        }
        let hosts = hosts.iter().map(|host| host.trim()).filter(|host| !host.is_empty());
        let hosts = hosts.map(read_host).collect::<Result<_, _>>()?;
        Ok(Some(Self { kind, incoming: incoming.into(), pattern, replacement, hosts }))
    }

    /// The pattern, as messages show it.
    #[must_use]
    pub fn incoming(&self) -> &str {
        &self.incoming
    }

    /// Which requests Domino applies the rule to.
    #[must_use]
    pub fn condition(&self) -> RequestMatch {
        let mut condition = RequestMatch::default();
        condition.add_path(&self.incoming);
        self.hosts.iter().for_each(|host| condition.add_host(host));
        condition
    }

    /// The replacement up to its first star.
    #[must_use]
    pub fn fixed_start(&self) -> &[u8] {
        self.replacement.first().map_or(b"", |text| text)
    }

    /// Whether parts of the URL are in the new one.
    #[must_use]
    pub fn has_stars(&self) -> bool {
        self.replacement.len() > 1
    }

    /// The target that Domino makes of this one; `None` if the pattern does not match. The path is in lower case, in which
    /// Domino does not distinguish.
    #[must_use]
    pub fn substituted(&self, target: &[u8]) -> Option<Vec<u8>> {
        let path = url::parse(target).path;
        let mut buffer = FoldBuffer::default();
        let folded = db_path::fold_url_path(path, &mut buffer);
        let mut captured = self.pattern.captures(folded)?.into_iter();
        let (first, rest) = self.replacement.split_first()?;
        let mut named = first.to_vec();
        for text in rest {
            let part = folded.get(captured.next()?)?;
            percent_encode(part, NOT_IN_PATH).for_each(|piece| named.extend_from_slice(piece.as_bytes()));
            named.extend_from_slice(text);
        }
        let mut query = target.get(path.len()..).unwrap_or_default();
        if named.contains(&b'?')
            && let Some((_, arguments)) = query.split_first()
        {
            named.push(b'&');
            query = arguments;
        }
        named.extend_from_slice(query);
        Some(named)
    }
}

/// How a document names its type is not known, so the words of HCL's form are looked for.
fn read_kind(text: &str) -> Result<Option<SiteRuleKind>, SiteRuleError> {
    let lower = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match () {
        () if has(&["substitution"]) => Ok(Some(SiteRuleKind::Substitution)),
        () if has(&["redirect"]) => Ok(Some(SiteRuleKind::Redirection)),
        () if has(&["directory", "header", "protection", "authentication"]) => Ok(None),
        () => Err(SiteRuleError::UnknownType(text.trim().escape_default().to_string())),
    }
}

fn read_host(text: &str) -> Result<Box<str>, SiteRuleError> {
    let host = text.trim_end_matches('.').to_ascii_lowercase();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*:[]".contains(&byte);
    match !host.is_empty() && host.bytes().all(is_host) {
        true => Ok(host.into()),
        false => Err(SiteRuleError::Host(text.escape_default().to_string())),
    }
}

/// The rules of one reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteRules {
    rules: Vec<SiteRule>,
    /// Each pattern with the reason why it cannot be used.
    pub unused: Vec<String>,
    /// Documents of types that say nothing about databases.
    pub ignored: usize,
}

impl SiteRules {
    /// Puts the rules into the order in which they are tried: as Domino does, substitutions before redirections. That a
    /// longer pattern comes before a shorter one is what HCL's advice about patterns suggests:
    /// <https://www.ibm.com/docs/en/domino/10.0.1?topic=settings-creating-web-site-rule-document>
    #[must_use]
    pub fn new(mut rules: Vec<SiteRule>, unused: Vec<String>, ignored: usize) -> Self {
        rules.sort_by_key(|rule| (rule.kind, Reverse(rule.incoming.len()), rule.hosts.is_empty()));
        Self { rules, unused, ignored }
    }

    /// The host names of the Web Site documents of all rules, each once.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> =
            self.rules.iter().flat_map(|rule| &rule.hosts).map(AsRef::as_ref).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// In the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> &[SiteRule] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(kind: &str, incoming: &str, replacement: &str) -> SiteRule {
        SiteRule::parse(kind, incoming, replacement, &[]).unwrap().unwrap()
    }

    fn made(rule: &SiteRule, target: &str) -> Option<String> {
        rule.substituted(target.as_bytes()).map(|named| String::from_utf8(named).unwrap())
    }

    #[test]
    fn a_substitution_puts_what_the_stars_stand_for_into_the_replacement() {
        let shop = rule("Substitution", "/shop*", "/web/a shop.nsf*");
        for (target, named) in [
            ("/shop/x?OpenView&a=1", Some("/web/a%20shop.nsf/x?OpenView&a=1")),
            ("/SHOP", Some("/web/a%20shop.nsf")),
            ("//sh%6Fp\\Cart%3F/+x", Some("/web/a%20shop.nsf/cart%3F/+x")),
            ("/shop!OpenView", Some("/web/a%20shop.nsf!openview")),
            ("/sho", None),
            ("/a/shop", None),
        ] {
            assert_eq!(made(&shop, target).as_deref(), named, "{target}");
        }
        let added = rule("substitution", "/old/", "/web/new.nsf");
        assert_eq!(added.incoming(), "/old/*");
        assert_eq!(made(&added, "/old/a/b").as_deref(), Some("/web/new.nsf/a/b"));
        let exact = rule("Redirection", "/start", "/web/new.nsf/main?OpenForm");
        assert_eq!(made(&exact, "/start").as_deref(), Some("/web/new.nsf/main?OpenForm"));
        assert_eq!(made(&exact, "/start?x=1").as_deref(), Some("/web/new.nsf/main?OpenForm&x=1"));
        assert_eq!(made(&exact, "/start/x"), None);
        let two = rule("Substitution", "/*/of/*", "/web/*.nsf/*");
        assert_eq!(made(&two, "/list/of/all").as_deref(), Some("/web/list.nsf/all"));
        assert_eq!((two.fixed_start(), two.has_stars()), (b"/web/".as_slice(), true));
    }

    #[test]
    fn a_rule_that_cannot_choose_a_server_says_why() {
        let error = |kind, incoming, replacement, host: &str| {
            SiteRule::parse(kind, incoming, replacement, &[host.to_owned()]).unwrap_err().to_string()
        };
        for (text, part) in [
            (error("3", "/a", "/b.nsf", ""), "type `3`"),
            (error("Substitution", "a", "/b.nsf", ""), "begin with `/`"),
            (error("Substitution", "/a", "", ""), "no replacement"),
            (error("Redirection", "/a", "https://other.example/b.nsf", ""), "full URL"),
            (error("Redirection", "/a", "//other.example/b.nsf", ""), "full URL"),
            (error("Redirection", "/a", "b.nsf", ""), "begin with `/`"),
            (error("Redirection", "/a", "/*/b.nsf", ""), "more stars"),
            (error("Redirection", "/a", &"/b".repeat(600), ""), "longer than 1024"),
            (error("Redirection", "/a", "/b.nsf", "www acme"), "not a host name"),
        ] {
            assert!(text.contains(part), "{text} {part}");
        }
        for kind in
            ["Directory", "HTTP response header", "File protection", "Override session authentication"]
        {
            assert_eq!(SiteRule::parse(kind, "", "", &[]), Ok(None), "{kind}");
        }
    }

    #[test]
    fn substitutions_come_first_then_longer_patterns() {
        let rules = [("Redirection", "/aaaa/*"), ("Substitution", "/a*"), ("Substitution", "/aa*")];
        let rules = rules.map(|(kind, incoming)| rule(kind, incoming, "/b.nsf/*")).to_vec();
        let rules = SiteRules::new(rules, Vec::new(), 0);
        let order: Vec<&str> = rules.rules().iter().map(SiteRule::incoming).collect();
        assert_eq!(order, ["/aa*", "/a*", "/aaaa/*"]);
    }

    proptest! {
        #[test]
        fn a_prefix_is_replaced_by_a_prefix(rest in "(/[a-z0-9._+-]{1,6}){0,4}", query in "(\\?[a-zA-Z=&]{0,8})?") {
            let target = format!("/shop{rest}{query}");
            let named = made(&rule("Substitution", "/shop*", "/web/shop.nsf*"), &target);
            prop_assert_eq!(named, Some(format!("/web/shop.nsf{rest}{query}")));
        }

        #[test]
        fn no_bytes_make_it_fail(incoming in ".{0,12}", replacement in ".{0,12}", target: Vec<u8>) {
            for kind in ["Substitution", "Redirection"] {
                let texts = (format!("/{incoming}"), format!("/{replacement}"));
                if let Ok(Some(rule)) = SiteRule::parse(kind, &texts.0, &texts.1, &[]) {
                    let mut buffer = FoldBuffer::default();
                    let folded = db_path::fold_url_path(url::parse(&target).path, &mut buffer);
                    prop_assert_eq!(rule.substituted(&target).is_some(), rule.pattern.matches(folded));
                }
            }
        }
    }
}

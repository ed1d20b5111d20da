//! Access rules: whether a request may reach a server at all. The first rule that matches decides, and it is apart from
//! routing, because a rule that denies must hold for every spelling that some server would open.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use super::baseline::{self, BaselineReason};
use super::opened_databases::OpenedDatabases;
use super::request_match::{RequestFacts, RequestMatch, UrlReading};

/// The rules of a cluster in their order; without any, everything is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessRules {
    rules: Vec<AccessRule>,
    needs_databases: bool,
}

/// One rule of the key `access`.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRule {
    /// How explain, log and metrics call it.
    pub name: Box<str>,
    /// Which requests it decides about.
    pub test: AccessTest,
    /// What it decides about them.
    pub effect: AccessEffect,
}

/// Which requests a rule decides about.
#[derive(Clone, Debug, PartialEq)]
pub enum AccessTest {
    /// What nobody outside needs, see `baseline.rs`.
    DominoBaseline,
    /// The requests that a condition describes.
    Condition(Box<RequestMatch>),
}

/// What a rule decides about the requests that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessEffect {
    /// The request goes on, and no later rule is asked.
    Allow,
    /// The request ends with this status: 403, or 404 if it should not show that there is something.
    Deny {
        /// The status of the page.
        status: u16,
    },
}

/// The result of the rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccessDecision<'r> {
    /// No rule matches, so the request is allowed.
    NoRule,
    /// This rule allows the request.
    Allowed(&'r AccessRule),
    /// This rule denies the request.
    Denied {
        /// The rule that decided.
        rule: &'r AccessRule,
        /// Its position in the list.
        number: usize,
        /// The status of the page.
        status: u16,
        /// What the preset found; `None` for a rule with a condition.
        reason: Option<BaselineReason>,
    },
}

impl AccessRules {
    /// Rules in the order of the configuration.
    #[must_use]
    pub fn new(rules: Vec<AccessRule>) -> Self {
        let needs_databases = rules.iter().any(|rule| match &rule.test {
            AccessTest::DominoBaseline => true,
            AccessTest::Condition(condition) => condition.names_databases(),
        });
        Self { rules, needs_databases }
    }

    /// Whether everything is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule asks which database the URL opens.
    #[must_use]
    pub fn needs_databases(&self) -> bool {
        self.needs_databases
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[AccessRule] {
        &self.rules
    }

    /// Asks the rules. `facts` come without databases.
    #[must_use]
    pub fn decide(&self, facts: &RequestFacts<'_>, opened: &OpenedDatabases<'_>) -> AccessDecision<'_> {
        for (number, rule) in self.rules.iter().enumerate() {
            let reason = match &rule.test {
                AccessTest::DominoBaseline => match baseline::denies(facts.target, facts.path, opened) {
                    Some(reason) => Some(reason),
                    None => continue,
                },
                AccessTest::Condition(condition) => {
                    if !matches(condition, rule.effect, facts, opened) {
                        continue;
                    }
                    None
                }
            };
            return match rule.effect {
                AccessEffect::Allow => AccessDecision::Allowed(rule),
                AccessEffect::Deny { status } => AccessDecision::Denied { rule, number, status, reason },
            };
        }
        AccessDecision::NoRule
    }
}

/// Of an ambiguous path, a rule that denies needs one database that it means; a rule that allows needs all.
fn matches(
    condition: &RequestMatch,
    effect: AccessEffect,
    facts: &RequestFacts<'_>,
    opened: &OpenedDatabases<'_>,
) -> bool {
    let reading = if effect == AccessEffect::Allow { UrlReading::Certain } else { UrlReading::Possible };
    let is_meant = |databases: &[Cow<'_, [u8]>]| {
        let is_unknown_replica = opened.is_unknown_replica;
        condition.matches(&RequestFacts { databases, is_unknown_replica, reading, ..*facts })
    };
    let mut candidates = opened.candidates.iter().map(SmallVec::as_slice);
    match (opened.candidates.is_empty(), effect) {
        (true, _) => is_meant(&[]),
        (false, AccessEffect::Allow) => candidates.all(is_meant),
        (false, AccessEffect::Deny { .. }) => candidates.any(is_meant),
    }
}

impl<'r> AccessDecision<'r> {
    /// The rule that decided; `None` if none matches.
    #[must_use]
    pub fn rule(&self) -> Option<&'r AccessRule> {
        match self {
            Self::NoRule => None,
            Self::Allowed(rule) | Self::Denied { rule, .. } => Some(rule),
        }
    }

    /// Whether the request ends here.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

impl fmt::Display for AccessDecision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("allowed: no rule matches"),
            Self::Allowed(rule) => write!(f, "allowed by `{}`", rule.name),
            Self::Denied { rule, reason: Some(reason), .. } => {
                write!(f, "denied by `{}`: {}", rule.name, reason.explanation())
            }
            Self::Denied { rule, .. } => write!(f, "denied by `{}`", rule.name),
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

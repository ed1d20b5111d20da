//! `access` of a cluster: rules that let requests pass or end them, and the preset `domino_baseline`. They are apart from
//! routes, because they lead nowhere.

use std::collections::HashMap;

use super::keys;
use super::reader::Item;
use super::request_match::{self, MatchOf};
use super::value_error::ValueError;
use super::values;
use crate::domain::rules::{AccessEffect, AccessRule, AccessRules, AccessTest};

/// The name of the preset.
const BASELINE: &str = "domino_baseline";
const DENIED: AccessEffect = AccessEffect::Deny { status: 403 };

/// Reads the rules in their order; a single one needs no list.
pub(super) fn access(item: &Item<'_>) -> AccessRules {
    let mut rules: Vec<AccessRule> = Vec::new();
    // Logs and counters know a rule by its name only.
    let mut names: HashMap<Box<str>, String> = HashMap::new();
    let mut decides_all: Option<String> = None;
    for (number, item) in item.one_or_more().iter().enumerate() {
        if let Some(before) = &decides_all {
            item.warn(format!("is never asked: {before} decides about every request"));
        }
        let Some(rule) = rule(item, number) else { continue };
        if let Some(first) = names.get(&rule.name) {
            refuse_second(item, &rule, first);
        }
        names.entry(rule.name.clone()).or_insert_with(|| item.key());
        if rule.test == AccessTest::Condition(Box::default()) {
            decides_all.get_or_insert_with(|| item.key());
        }
        rules.push(rule);
    }
    AccessRules::new(rules)
}

fn refuse_second(item: &Item<'_>, rule: &AccessRule, first: &str) {
    let name = item.is_map().then(|| item.map_quietly(keys::ACCESS_RULE).get("name"));
    match name {
        Some(name) => name.error(ValueError::new(format!("`{}` is also the name of {first}", rule.name))),
        None => {
            item.error(ValueError::new(format!("the preset is already {first}")).hint("remove one of them"))
        }
    }
}

fn rule(item: &Item<'_>, number: usize) -> Option<AccessRule> {
    if !item.is_map() {
        item.parsed("a rule", preset)?;
        return Some(AccessRule { name: BASELINE.into(), test: AccessTest::DominoBaseline, effect: DENIED });
    }
    let map = item.map(keys::ACCESS_RULE);
    let (allow, deny) = (map.get("allow"), map.get("deny"));
    let (condition, effect) = match (allow.value.is_some(), deny.value.is_some()) {
        (true, true) => {
            allow.error_at_key(ValueError::new("is beside `deny`").hint("write two rules, in their order"));
            return None;
        }
        (false, false) => {
            // A misspelt key has an error of its own, which suggests the right one.
            if item.entries().iter().any(|(key, _)| !keys::ACCESS_RULE.has(key)) {
                return None;
            }
            item.error(ValueError::new("decides nothing").hint("write `allow:` or `deny:` with a condition"));
            return None;
        }
        (true, false) => {
            map.no_effect(&["status"], "`allow`");
            let parts = allow.map_quietly(keys::ACCESS_MATCH);
            if parts.has("header") && !parts.has("client") {
                let text =
                    "any client can write such a field, so the rule keeps nobody out: name `client` too";
                parts.get("header").warn(text);
            }
            (allow, AccessEffect::Allow)
        }
        (false, true) => {
            let status = map.get("status").choice(&[("403", 403), ("404", 404)]).unwrap_or(403);
            (deny, AccessEffect::Deny { status })
        }
    };
    if !condition.is_present() {
        let problem = ValueError::new("has no condition").hint("write `all` for every request");
        condition.error_at_key(problem);
        return None;
    }
    let test = AccessTest::Condition(Box::new(request_match::read(&condition, MatchOf::AccessRule)));
    let name = map.get("name").text().unwrap_or_else(|| format!("access[{number}]"));
    Some(AccessRule { name: name.into(), test, effect })
}

fn preset(text: &str) -> Result<(), ValueError> {
    let text = text.trim();
    if text == BASELINE {
        return Ok(());
    }
    let hint = values::similar(text, [BASELINE]).map_or_else(
        || format!("write `{BASELINE}`, or a rule such as `{{ deny: {{ database: names.nsf }} }}`"),
        |known| format!("did you mean `{known}`?"),
    );
    Err(ValueError::new(format!("`{text}` is no rule")).hint(hint))
}

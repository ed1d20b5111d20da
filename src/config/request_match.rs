//! Conditions on requests: `match` of a route, `allow` and `deny` of an access rule. Both have the same keys, so that one
//! description serves for both.

use super::keys;
use super::reader::Item;
use super::values::{self, ValueError};
use crate::domain::rules::RequestMatch;

/// What a condition belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchOf {
    /// Routes are chosen before the database is looked up.
    Route,
    AccessRule,
}

/// Reads a condition. `all`, and an absent one, mean every request.
pub(super) fn read(item: &Item<'_>, of: MatchOf) -> RequestMatch {
    let mut condition = RequestMatch::default();
    if item.text_is("all") {
        return condition;
    }
    if item.value.is_some() && !item.is_present() {
        item.error_at_key(ValueError::new("has no condition").hint("write `all` for every request"));
    }
    let section = match of {
        MatchOf::Route => keys::MATCH,
        MatchOf::AccessRule => keys::ACCESS_MATCH,
    };
    let map = item.map(section);
    if item.is_map() && item.entries().is_empty() {
        item.error(ValueError::new("has no condition").hint("write `all` for every request"));
    }
    if item.is_map() {
        item.entries().iter().filter(|(key, _)| section.has(key)).for_each(|(_, part)| refuse_nothing(part));
    }
    for path in map.get("path").one_or_more() {
        path.parsed("a path", path_pattern).into_iter().for_each(|path| condition.add_path(&path));
    }
    for prefix in map.get("path_prefix").one_or_more() {
        prefix.parsed("a path", path_prefix).into_iter().for_each(|path| condition.add_path_prefix(&path));
    }
    for host in map.get("host").one_or_more() {
        host.parsed("a host name", host_pattern).into_iter().for_each(|host| condition.add_host(&host));
    }
    for method in map.get("method").one_or_more() {
        method.parsed("a method", method_name).into_iter().for_each(|name| condition.add_method(&name));
    }
    for command in map.get("command").one_or_more() {
        command.parsed("a command", command_name).into_iter().for_each(|name| condition.add_command(&name));
    }
    for client in map.get("client").one_or_more() {
        client.parsed("a network", values::network).into_iter().for_each(|net| condition.add_client(net));
    }
    for (name, value) in map.get("query").entries() {
        value.text().into_iter().for_each(|pattern| condition.add_argument(name, &pattern));
    }
    for (name, value) in map.get("header").entries() {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            value.error_at_key(ValueError::new(format!("`{name}` is not the name of a header field")));
        }
        value.text().into_iter().for_each(|pattern| condition.add_field(name, &pattern));
    }
    if of == MatchOf::AccessRule {
        for database in map.get("database").one_or_more() {
            database.text().into_iter().for_each(|pattern| condition.add_database(&pattern));
        }
    }
    condition
}

/// A key without any value would mean every request, which nobody expects.
fn refuse_nothing(part: &Item<'_>) {
    let hint = "remove the key, or name what must match";
    if !part.is_present() {
        part.error_at_key(ValueError::new("has no value").hint(hint));
    } else if part.is_list() && part.list().is_empty() {
        part.error(ValueError::new("the list is empty").hint(hint));
    } else if part.is_map() && part.entries().is_empty() {
        part.error(ValueError::new("the map is empty").hint(hint));
    }
}

pub(super) fn path_pattern(text: &str) -> Result<String, ValueError> {
    match text.trim() {
        t if !(t.starts_with('/') || t.starts_with('*')) => {
            Err(ValueError::new(format!("`{t}` is not a path")).hint(format!("write `/{t}`")))
        }
        t if t.contains(['?', '#']) => Err(ValueError::new("a path has no query")
            .hint("write `command` or `query` beside it for what follows `?`")),
        t if t.contains('%') => Err(ValueError::new("the path is percent-encoded")
            .hint("write it decoded: URLs are decoded before they are compared")),
        t => Ok(t.to_owned()),
    }
}

fn path_prefix(text: &str) -> Result<String, ValueError> {
    let prefix = path_pattern(text)?;
    if prefix.contains('*') {
        return Err(ValueError::new("`*` has no meaning in a prefix")
            .hint("leave it out: a prefix matches everything below it; or write `path`"));
    }
    Ok(prefix)
}

fn host_pattern(text: &str) -> Result<String, ValueError> {
    let host = text.trim().to_ascii_lowercase();
    let host_only = host.rsplit_once(':').filter(|(name, _)| !name.is_empty() && !name.contains(':'));
    match host_only {
        Some((name, _)) => {
            Err(ValueError::new(format!("`{host}` has a port")).hint(format!("write `{name}`")))
        }
        None if host.is_empty() || host.contains(['/', ' ']) => {
            Err(ValueError::new(format!("`{host}` is not a host name")).hint("such as `www.acme.example`"))
        }
        None => Ok(host),
    }
}

fn method_name(text: &str) -> Result<String, ValueError> {
    let upper = text.trim().to_ascii_uppercase();
    if http::Method::from_bytes(upper.as_bytes()).is_err() {
        return Err(ValueError::new(format!("`{text}` is not an HTTP method")).hint("such as `GET`"));
    }
    Ok(upper)
}

fn command_name(text: &str) -> Result<String, ValueError> {
    let name = text.trim().trim_start_matches(['?', '!']);
    if name.contains(['=', '&', '/']) {
        return Err(ValueError::new(format!("`{text}` is not a Domino command"))
            .hint("such as `OpenView`; arguments are written below `query`"));
    }
    Ok(name.to_owned())
}

//! A condition on a request. It is pure: the caller collects what a request is made of in [`RequestFacts`].

use std::net::IpAddr;

use ipnet::IpNet;

use super::glob::Glob;
use crate::domain::directory::db_path::{self, FoldBuffer};
use crate::domain::url::Target;

/// The header fields of a request.
pub trait RequestFields {
    /// Whether a field with this name has a value that passes `test`.
    fn any_value(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool;
}

/// What conditions are about.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The name of the host in lower case, without port.
    pub host: &'a str,
    /// The URL as it was parsed.
    pub target: &'a Target<'a>,
    /// The path of the URL, folded by [`db_path::fold_url_path`].
    pub path: &'a [u8],
    /// The fields of the head.
    pub fields: &'a dyn RequestFields,
    /// The address of the client, if it is known.
    pub client: Option<IpAddr>,
    /// Every folded path of the database that the URL opens, and its replica ID. Routes have none.
    pub databases: &'a [&'a [u8]],
}

/// A condition on a request. Each part that is not empty must hold; of a part's values, any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestMatch {
    paths: Vec<Glob>,
    /// Without the slashes at both ends; an empty one means every path.
    prefixes: Vec<Box<[u8]>>,
    hosts: Vec<Glob>,
    methods: Vec<Box<str>>,
    commands: Vec<Glob>,
    arguments: Vec<(Box<[u8]>, Glob)>,
    fields: Vec<(Box<str>, Glob)>,
    clients: Vec<IpNet>,
    databases: Vec<Glob>,
}

/// A folded path in which `*` stays: patterns are written as users see paths, so `%` has no meaning.
fn folded(pattern: &str) -> Vec<u8> {
    let mut buffer = FoldBuffer::default();
    db_path::fold_plain_path(pattern.as_bytes(), &mut buffer).to_vec()
}

impl RequestMatch {
    /// Adds a pattern for the whole path, such as `/api/*`.
    pub fn add_path(&mut self, pattern: &str) {
        self.paths.push(Glob::new(&folded(pattern)));
    }

    /// Adds a path that matches itself and everything below it.
    pub fn add_path_prefix(&mut self, prefix: &str) {
        let folded = folded(prefix);
        self.prefixes.push(folded.strip_suffix(b"/").unwrap_or(&folded).into());
    }

    /// Adds a host name, in which `*` stands for any text.
    pub fn add_host(&mut self, pattern: &str) {
        self.hosts.push(Glob::new(pattern.as_bytes()));
    }

    /// Adds a method in upper case.
    pub fn add_method(&mut self, method: &str) {
        self.methods.push(method.into());
    }

    /// Adds a Domino command without `?`; an empty pattern means that there is none.
    pub fn add_command(&mut self, pattern: &str) {
        self.commands.push(Glob::new(pattern.as_bytes()));
    }

    /// Adds an argument of the query, which must be there and whose decoded value must match.
    pub fn add_argument(&mut self, name: &str, value: &str) {
        self.arguments.push((name.as_bytes().into(), Glob::new(value.as_bytes())));
    }

    /// Adds a header field, which must be there with a value that matches.
    pub fn add_field(&mut self, name: &str, value: &str) {
        self.fields.push((name.into(), Glob::new(value.as_bytes())));
    }

    /// Adds a network of clients.
    pub fn add_client(&mut self, network: IpNet) {
        self.clients.push(network);
    }

    /// Adds a pattern for the path of a database.
    pub fn add_database(&mut self, pattern: &str) {
        self.databases.push(Glob::new(&folded(pattern)));
    }

    /// Whether databases are a part of the condition, which then needs the directory.
    #[must_use]
    pub fn names_databases(&self) -> bool {
        !self.databases.is_empty()
    }

    /// Whether the request is meant.
    #[must_use]
    pub fn matches(&self, facts: &RequestFacts<'_>) -> bool {
        self.matches_path(facts.path)
            && any_or_empty(&self.hosts, |host| host.matches(facts.host.as_bytes()))
            && any_or_empty(&self.methods, |method| **method == *facts.method)
            && any_or_empty(&self.commands, |command| command.matches(command_name(facts.target)))
            && any_or_empty(&self.clients, |network| {
                facts.client.is_some_and(|client| network.contains(&client))
            })
            && any_or_empty(&self.databases, |pattern| {
                facts.databases.iter().any(|database| pattern.matches(database))
            })
            && self.arguments.iter().all(|(name, pattern)| {
                facts.target.argument(name).is_some_and(|value| pattern.matches(&value))
            })
            && self
                .fields
                .iter()
                .all(|(name, pattern)| facts.fields.any_value(name, &|value| pattern.matches(value)))
    }

    fn matches_path(&self, path: &[u8]) -> bool {
        if self.paths.is_empty() && self.prefixes.is_empty() {
            return true;
        }
        let is_below = |prefix: &[u8]| {
            prefix.is_empty()
                || path.strip_prefix(prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        self.prefixes.iter().any(|prefix| is_below(prefix))
            || self.paths.iter().any(|glob| glob.matches(path))
    }
}

/// The name of the command; its raw text if it is none that Domino could know.
fn command_name<'t>(target: &'t Target<'_>) -> &'t [u8] {
    let name = target.command.name_bytes();
    if name.is_empty() { target.command.raw() } else { name }
}

fn any_or_empty<T>(values: &[T], test: impl FnMut(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(test)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::url;

    struct Fields(&'static [(&'static str, &'static str)]);

    impl RequestFields for Fields {
        fn any_value(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
            self.0.iter().any(|(field, value)| field.eq_ignore_ascii_case(name) && test(value.as_bytes()))
        }
    }

    fn matches(condition: &RequestMatch, target: &str) -> bool {
        let parsed = url::parse(target.as_bytes());
        let mut buffer = FoldBuffer::default();
        let fields = Fields(&[("Accept", "text/html"), ("X-Team", "Sales")]);
        condition.matches(&RequestFacts {
            method: "GET",
            host: "www.acme.example",
            target: &parsed,
            path: db_path::fold_url_path(parsed.path, &mut buffer),
            fields: &fields,
            client: Some([10, 1, 2, 3].into()),
            databases: &[b"names.nsf"],
        })
    }

    fn of(add: impl FnOnce(&mut RequestMatch)) -> RequestMatch {
        let mut condition = RequestMatch::default();
        add(&mut condition);
        condition
    }

    #[test]
    fn a_prefix_ends_at_a_slash_and_a_path_is_whole() {
        let api = of(|m| m.add_path_prefix("/api"));
        for target in ["/api", "/API/", "/api/v1?x", "/%61pi/v1", "//api//v1", "\\api\\v1"] {
            assert!(matches(&api, target), "{target}");
        }
        for target in ["/apix", "/", "/x/api", "/api%3F"] {
            assert!(!matches(&api, target), "{target}");
        }
        let home = of(|m| m.add_path("/"));
        assert!(matches(&home, "/") && matches(&home, "/?Open") && !matches(&home, "/a"));
        let resources = of(|m| m.add_path("/*/resources/*"));
        assert!(matches(&resources, "/a/b/resources/c") && !matches(&resources, "/resources/c"));
        let all = of(|m| m.add_path_prefix("/"));
        assert!(matches(&all, "/") && matches(&all, "/a"));
    }

    #[test]
    fn every_part_must_hold_and_one_of_its_values() {
        let mut condition = of(|m| {
            m.add_command("OpenView");
            m.add_command("ReadViewEntries");
        });
        assert!(matches(&condition, "/names.nsf/x?openview&Count=5"));
        assert!(matches(&condition, "/names.nsf/x!READVIEWENTRIES"));
        assert!(!matches(&condition, "/names.nsf/x?OpenForm") && !matches(&condition, "/names.nsf"));
        condition.add_argument("count", "5*");
        assert!(matches(&condition, "/names.nsf/x?OpenView&Count=50"));
        assert!(!matches(&condition, "/names.nsf/x?OpenView&Count=6"));
        condition.add_method("POST");
        assert!(!matches(&condition, "/names.nsf/x?OpenView&Count=50"));
    }

    #[test]
    fn hosts_fields_clients_and_databases_are_compared_without_regard_to_case() {
        assert!(matches(&of(|m| m.add_host("*.ACME.example")), "/"));
        assert!(!matches(&of(|m| m.add_host("*.acme.test")), "/"));
        assert!(matches(&of(|m| m.add_field("x-team", "SALES")), "/"));
        assert!(matches(&of(|m| m.add_field("accept", "*")), "/"));
        assert!(!matches(&of(|m| m.add_field("x-none", "*")), "/"));
        assert!(matches(&of(|m| m.add_client("10.0.0.0/8".parse().unwrap())), "/"));
        assert!(!matches(&of(|m| m.add_client("192.0.2.0/24".parse().unwrap())), "/"));
        assert!(matches(&of(|m| m.add_database("/Names.nsf")), "/"));
        assert!(!matches(&of(|m| m.add_database("mail/*")), "/"));
        assert!(matches(&RequestMatch::default(), "/anything?x"));
    }
}

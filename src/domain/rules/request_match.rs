//! A condition on a request. It is pure: the caller collects what a request is made of in [`RequestFacts`].

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::glob::Glob;
use crate::domain::directory::ReplicaId;
use crate::domain::directory::db_path::{self, FoldBuffer};
use crate::domain::url::Target;

/// The header fields of a request.
pub trait RequestFields {
    /// Whether a field with this name has a value that passes `test`.
    fn any_value(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool;
}

/// How a condition reads a URL that leaves something to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlReading {
    /// As it is written: for routes.
    #[default]
    Written,
    /// All that any server may open: for rules that deny.
    Possible,
    /// Only what every server opens: for rules that allow.
    Certain,
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
    /// Every folded path of the database that the URL opens, and its replica ID as 16 digits. Routes have none.
    pub databases: &'a [Cow<'a, [u8]>],
    /// The URL names a database by a replica ID that the directory does not have, so it may be any.
    pub is_unknown_replica: bool,
    /// What counts if servers may read the URL differently.
    pub reading: UrlReading,
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

    /// Adds a pattern for the path of a database, or its replica ID.
    pub fn add_database(&mut self, pattern: &str) {
        let bare = pattern.strip_suffix(".nsf").unwrap_or(pattern).trim_start_matches('/');
        let pattern = match ReplicaId::parse(bare) {
            Ok(id) => id.to_hex().to_ascii_lowercase(),
            Err(_) => folded(pattern),
        };
        self.databases.push(Glob::new(&pattern));
    }

    /// Whether databases are a part of the condition, which then needs the directory.
    #[must_use]
    pub fn names_databases(&self) -> bool {
        !self.databases.is_empty()
    }

    /// Whether the request is meant.
    #[must_use]
    pub fn matches(&self, facts: &RequestFacts<'_>) -> bool {
        self.matches_path(facts)
            && any_or_empty(&self.hosts, |host| host.matches(facts.host.as_bytes()))
            && any_or_empty(&self.methods, |method| **method == *facts.method)
            && self.matches_command(facts)
            && any_or_empty(&self.clients, |network| {
                facts.client.is_some_and(|client| network.contains(&client))
            })
            && self.matches_database(facts)
            && self.matches_arguments(facts)
            && self
                .fields
                .iter()
                .all(|(name, pattern)| facts.fields.any_value(name, &|value| pattern.matches(value)))
    }

    /// How many segments the longest prefix has that covers a folded path; 0 without one.
    #[must_use]
    pub fn prefix_segments(&self, path: &[u8]) -> usize {
        let covering = self.prefixes.iter().filter(|prefix| is_below(prefix, path));
        let segments = |prefix: &[u8]| prefix.split(|byte| *byte == b'/').filter(|s| !s.is_empty()).count();
        covering.map(|prefix| segments(prefix)).max().unwrap_or(0)
    }

    /// Whether every request that `later` means is surely meant by this condition, too. False if that is not obvious.
    #[must_use]
    pub fn covers(&self, later: &Self) -> bool {
        self.covers_paths_of(later)
            && (self.hosts.is_empty() || self.hosts == later.hosts)
            && (self.methods.is_empty() || self.methods == later.methods)
            && (self.commands.is_empty() || self.commands == later.commands)
            && (self.clients.is_empty() || self.clients == later.clients)
            && (self.databases.is_empty() || self.databases == later.databases)
            && self.arguments.iter().all(|argument| later.arguments.contains(argument))
            && self.fields.iter().all(|field| later.fields.contains(field))
    }

    fn covers_paths_of(&self, later: &Self) -> bool {
        let below = |path: &[u8]| self.prefixes.iter().any(|prefix| is_below(prefix, path));
        let all_below = self.prefixes.is_empty()
            || some_and_all(&later.prefixes, |prefix| below(prefix))
            || some_and_all(&later.paths, |glob| below(glob.whole_segments()));
        all_below && (self.paths.is_empty() || some_and_all(&later.paths, |glob| self.paths.contains(glob)))
    }

    fn matches_path(&self, facts: &RequestFacts<'_>) -> bool {
        if self.paths.is_empty() && self.prefixes.is_empty() {
            return true;
        }
        let is_meant = |path: &[u8]| {
            any_or_empty(&self.prefixes, |prefix| is_below(prefix, path))
                && any_or_empty(&self.paths, |glob| glob.matches(path))
        };
        if facts.reading == UrlReading::Written || !facts.path.contains(&b'+') {
            return is_meant(facts.path);
        }
        // Domino reads `+` as a space, other servers do not.
        let spaced: SmallVec<[u8; 256]> =
            facts.path.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        match facts.reading {
            UrlReading::Certain => is_meant(facts.path) && is_meant(&spaced),
            _ => is_meant(facts.path) || is_meant(&spaced),
        }
    }

    fn matches_command(&self, facts: &RequestFacts<'_>) -> bool {
        let RequestFacts { target, reading, .. } = *facts;
        let is_meant = |name: &[u8]| self.commands.iter().any(|command| command.matches(name));
        self.commands.is_empty()
            || match reading {
                UrlReading::Written => is_meant(command_name(target)),
                UrlReading::Possible => target.may_be_command(is_meant),
                UrlReading::Certain => {
                    is_meant(target.certain_command())
                        || !target.has_hidden_commands() && is_meant(command_name(target))
                }
            }
    }

    fn matches_database(&self, facts: &RequestFacts<'_>) -> bool {
        let may_be_any = facts.is_unknown_replica && facts.reading == UrlReading::Possible;
        may_be_any
            || any_or_empty(&self.databases, |pattern| {
                facts.databases.iter().any(|database| pattern.matches(database))
            })
    }

    fn matches_arguments(&self, facts: &RequestFacts<'_>) -> bool {
        let target = facts.target;
        self.arguments.iter().all(|(name, pattern)| match facts.reading {
            // Which one of several a server takes is not known.
            UrlReading::Possible => target.any_argument(name, |value| pattern.matches(value)),
            _ => {
                target.argument(name).is_some_and(|value| pattern.matches(&value))
                    && (facts.reading == UrlReading::Written
                        || !target.any_argument(name, |value| !pattern.matches(value)))
            }
        })
    }
}

/// Whether a folded path is a prefix or below it.
fn is_below(prefix: &[u8], path: &[u8]) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// The name of the command; its raw text if it is none that Domino could know.
fn command_name<'t>(target: &'t Target<'_>) -> &'t [u8] {
    let name = target.command.name_bytes();
    if name.is_empty() { target.command.raw() } else { name }
}

fn any_or_empty<T>(values: &[T], test: impl FnMut(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(test)
}

fn some_and_all<T>(values: &[T], test: impl FnMut(&T) -> bool) -> bool {
    !values.is_empty() && values.iter().all(test)
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
        matches_as(UrlReading::Written, condition, target)
    }

    fn matches_as(reading: UrlReading, condition: &RequestMatch, target: &str) -> bool {
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
            databases: &[b"names.nsf".as_slice().into(), b"c1256a2f00310001".as_slice().into()],
            is_unknown_replica: false,
            reading,
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
    fn a_condition_covers_a_later_one_if_it_is_no_narrower() {
        let all = RequestMatch::default();
        let api = of(|m| m.add_path_prefix("/api"));
        let api_v1 = of(|m| m.add_path_prefix("/api/v1"));
        let files = of(|m| m.add_path("/api/files/*"));
        let exact = of(|m| m.add_path("/API"));
        let posts = of(|m| {
            m.add_path_prefix("/api");
            m.add_method("POST");
        });
        for (earlier, later) in
            [(&all, &api), (&api, &api), (&api, &api_v1), (&api, &files), (&api, &exact), (&api, &posts)]
        {
            assert!(earlier.covers(later), "{earlier:?} {later:?}");
        }
        let wide = of(|m| m.add_path("/api*"));
        let both = of(|m| {
            m.add_path_prefix("/api");
            m.add_path("*.css");
        });
        assert!(api.covers(&both) && both.covers(&both));
        let others = [(&files, &api), (&posts, &api), (&api, &wide), (&exact, &api), (&both, &api)];
        for (earlier, later) in [(&api, &all), (&api_v1, &api)].into_iter().chain(others) {
            assert!(!earlier.covers(later), "{earlier:?} {later:?}");
        }
    }

    #[test]
    fn the_longest_prefix_that_covers_a_path_counts() {
        let shop = of(|m| {
            m.add_path_prefix("/shop");
            m.add_path_prefix("/shop/books");
            m.add_path_prefix("/");
        });
        for (path, segments) in [("shop/books/1", 2), ("shop/bookshelf", 1), ("other", 0), ("", 0)] {
            assert_eq!(shop.prefix_segments(path.as_bytes()), segments, "{path}");
        }
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
        let styles = of(|m| {
            m.add_path_prefix("/static");
            m.add_path("*.css");
        });
        assert!(
            matches(&styles, "/static/a.css") && matches_as(UrlReading::Certain, &styles, "/static/a+b.css")
        );
        assert!(!matches(&styles, "/static/a.nsf") && !matches(&styles, "/names.nsf/a.css"));
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
        for id in ["C1256A2F00310001", "__c1256a2f00310001.nsf", "C1256A2F:00310001"] {
            assert!(matches(&of(|m| m.add_database(id)), "/"), "{id}");
        }
        assert!(matches(&RequestMatch::default(), "/anything?x"));
    }

    #[test]
    fn what_servers_read_differently_is_denied_and_not_allowed() {
        use UrlReading::{Certain, Possible, Written};
        let view = of(|m| m.add_command("OpenView"));
        for (target, written, possible, certain) in [
            ("/a.nsf/v?OpenView", true, true, true),
            ("/a.nsf/v", false, true, false),
            ("/a.nsf/v%3FOpenView", false, true, false),
            ("/a.nsf/v%3FOpenAgent?OpenView", true, true, false),
            ("/a.nsf?OpenForm", false, false, false),
        ] {
            let of = |reading| matches_as(reading, &view, target);
            assert_eq!((of(Written), of(Possible), of(Certain)), (written, possible, certain), "{target}");
        }
        let spaced = of(|m| m.add_path("/a b/*"));
        assert!(matches_as(Possible, &spaced, "/a+b/c") && !matches_as(Certain, &spaced, "/a+b/c"));
        let count = of(|m| m.add_argument("Count", "5"));
        assert!(matches_as(Possible, &count, "/a?x&Count=1&count=5"));
        assert!(!matches_as(Certain, &count, "/a?x&Count=5&count=1"));
        assert!(matches_as(Certain, &of(|m| m.add_command("OpenDatabase")), "/a.nsf"));
    }
}

//! Finds the clusters for a Host name: exact names first, then wildcards, else the clusters without `hostnames`. An
//! empty result is answered with 421.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::config::settings::HostPattern;

/// Indexes of clusters in order of precedence.
pub type MatchingClusters = SmallVec<[usize; 4]>;

#[derive(Debug, Default)]
pub struct HostTable {
    exact: AHashMap<Box<str>, MatchingClusters>,
    /// Suffixes like `.acme.example`, the longest first.
    wildcards: Vec<(Box<str>, usize)>,
    catch_all: MatchingClusters,
}

impl HostTable {
    /// Takes the patterns of each cluster in order; a cluster without patterns gets all other names.
    #[must_use]
    pub fn new<'a>(clusters: impl IntoIterator<Item = &'a [HostPattern]>) -> Self {
        let mut hosts = Self::default();
        for (number, patterns) in clusters.into_iter().enumerate() {
            if patterns.is_empty() {
                hosts.catch_all.push(number);
            }
            for pattern in patterns {
                match pattern {
                    HostPattern::Exact(name) => {
                        hosts.exact.entry(canonical_host(name).into()).or_default().push(number);
                    }
                    HostPattern::Wildcard(suffix) => hosts.wildcards.push((suffix.as_str().into(), number)),
                }
            }
        }
        hosts.wildcards.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        hosts
    }

    /// Looks up the value of a Host header, with or without a port, in any case.
    #[must_use]
    pub fn lookup(&self, host: &str) -> MatchingClusters {
        let name = strip_port(host);
        let mut lower: SmallVec<[u8; 64]> = SmallVec::from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        let Ok(name) = std::str::from_utf8(&lower) else { return SmallVec::from_slice(&self.catch_all) };
        let name = canonical_host(name.strip_suffix('.').unwrap_or(name));
        let name = name.as_ref();
        // `clone` copies one number at a time.
        let mut found: MatchingClusters =
            self.exact.get(name).map_or_else(SmallVec::new, |found| SmallVec::from_slice(found));
        for (suffix, number) in &self.wildcards {
            // `*.acme.example` matches one label or more, but not `acme.example` itself.
            if name.len() > suffix.len() && name.ends_with(suffix.as_ref()) && !found.contains(number) {
                found.push(*number);
            }
        }
        if found.is_empty() { SmallVec::from_slice(&self.catch_all) } else { found }
    }
}

/// Removes the brackets of an IPv6 address and gives it its canonical spelling; a name stays as it is.
fn canonical_host(name: &str) -> Cow<'_, str> {
    // Hardly any name is an address.
    if memchr::memchr(b':', name.as_bytes()).is_none() {
        return Cow::Borrowed(name);
    }
    let unbracketed = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    match unbracketed.parse::<Ipv6Addr>() {
        Ok(address) => Cow::Owned(address.to_string()),
        Err(_) => Cow::Borrowed(name),
    }
}

/// Removes the port from a Host value; an IPv6 literal keeps its brackets.
#[must_use]
pub fn strip_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    host.split(':').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(name: &str) -> HostPattern {
        HostPattern::Exact(name.into())
    }

    #[test]
    fn exact_names_precede_wildcards_and_a_cluster_without_names_gets_the_rest() {
        let wild = [HostPattern::Wildcard(".acme.example".into())];
        let named = [exact("www.acme.example")];
        let hosts = HostTable::new([&[][..], &wild[..], &named[..]]);
        assert_eq!(hosts.lookup("WWW.Acme.Example:8080").as_slice(), [2, 1]);
        assert_eq!(hosts.lookup("mail.acme.example.").as_slice(), [1]);
        assert_eq!(hosts.lookup("acme.example").as_slice(), [0]);
        assert_eq!(hosts.lookup("[::1]:80").as_slice(), [0]);
    }

    #[test]
    fn an_ipv6_address_matches_in_every_spelling() {
        let named = [exact("2001:db8::1")];
        let hosts = HostTable::new([&named[..]]);
        for host in ["[2001:db8::1]", "[2001:DB8:0:0::1]:8080", "[2001:db8::1]:443"] {
            assert_eq!(hosts.lookup(host).as_slice(), [0], "{host}");
        }
        assert!(hosts.lookup("[2001:db8::2]").is_empty());
    }

    #[test]
    fn an_unknown_name_matches_nothing_if_every_cluster_has_names() {
        let named = [exact("www.acme.example")];
        assert!(HostTable::new([&named[..]]).lookup("other.example").is_empty());
    }
}

//! What an audit may find: every kind in one table, and how findings are collected.
//!
//! In: a kind and an example, many times. Out: one finding a kind, with its count and the first examples.
//! An example beyond the limit is counted and never written.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody is not served now, or what is known cannot be trusted.
    Error,
    /// The next failure, or a mistake, will be felt.
    Warning,
    /// Worth knowing.
    Note,
}

/// One kind of finding in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// One word for scripts: `single_replica`.
    pub kind: String,
    /// How many.
    pub count: usize,
    /// What it is, in words.
    pub text: String,
    /// What to do.
    pub advice: String,
    /// The first ones.
    pub examples: Vec<String>,
}

/// A kind of finding.
#[derive(Debug)]
pub(super) struct FindingKind {
    severity: Severity,
    code: &'static str,
    /// After the number.
    text: &'static str,
    advice: &'static str,
}

/// The kinds, in the order in which they are shown within a severity.
macro_rules! kinds {
    ($($name:ident $severity:ident $code:literal $text:literal $advice:literal)*) => {
        $(pub(super) const $name: FindingKind = FindingKind {
            severity: Severity::$severity, code: $code, text: $text, advice: $advice,
        };)*
        const ORDER: &[&str] = &[$($code),*];
    };
}

kinds! {
    NO_DIRECTORY Error "no_directory" "directory could not be read, not even from a cache"
        "`icm check --probe` says why; until then every member is a candidate for every database"
    DIRECTORY_UNREADABLE Error "directory_trouble" "trouble with reading the directory"
        "the last good directory serves; `icm check --probe` says what is missing"
    SERVER_LIST_UNREADABLE Error "members_trouble" "trouble with reading the Server documents"
        "the last good list of members serves; `icm check --probe` says what is missing"
    NOBODY_SERVES Error "nobody_serves" "databases that no new user can open: their servers are RESTRICTED or UNREACHABLE"
        "bring one of the servers back, or make a replica elsewhere"
    ONLY_ON_UNKNOWN_SERVERS Error "only_on_strangers" "databases only on servers that are no members"
        "add the server to the list, or take its entries out of the directory"
    UNREACHABLE Error "server_unreachable" "servers UNREACHABLE"
        "see `icm show cluster` for the reason"
    NO_ADDRESS Error "no_address" "ports whose host name does not resolve"
        "correct the name, or write the address into the configuration"
    SINGLE_REPLICA Warning "single_replica" "databases with a single replica"
        "nobody can take over when that server fails: make a second replica"
    SINGLE_IN_SERVICE Warning "single_in_service" "databases with several replicas, of which a single one is in service"
        "put another back into service"
    ALL_MARKED Warning "all_marked" "databases out of service or pending delete everywhere"
        "intended? users get a page that says so"
    ONLY_SET_ASIDE Warning "only_set_aside" "databases whose usable servers are all BUSY or MAXUSERS"
        "they serve all the same; more replicas would share the load"
    AMBIGUOUS_PATH Warning "ambiguous_path" "paths that mean different databases on different servers"
        "users are asked which one they mean: give them different paths, or link by replica ID"
    DUPLICATES Warning "duplicates" "entries of the directory that name the same server and path twice"
        "left behind by a recreated cldbdir.nsf: the last one counts, delete the others"
    UNKNOWN_SERVERS Warning "unknown_servers" "servers in the directory that are no members"
        "their replicas are not used: add them to the list, or clean the directory up"
    OLD_DIRECTORY Warning "old_directory" "directory older than three times its refresh interval"
        "see the events: `icm show events`"
    FROM_CACHE Warning "from_cache" "directory from the cache: no member has answered yet"
        "see the events: `icm show events`"
    READING_WARNING Warning "directory_warning" "warnings of the last reading of the directory"
        "see each"
    NO_REPLICA_BY_SCHEME Warning "no_replica_by_scheme" "databases without a server that has the port in use"
        "enable the port in one holder's Server document, or choose another upstream_scheme"
    PORT_DISABLED Warning "port_disabled" "servers without a port that this cluster uses"
        "clients by that scheme are never sent there: enable the port, and say so in the configuration"
    PORT_DOWN Warning "port_silent" "enabled ports that do not answer"
        "see `icm show cluster` and `icm check --probe`"
    RESTRICTED Warning "server_restricted" "servers RESTRICTED: no new users"
        "`icm release` takes an administrator's restriction back"
    SET_ASIDE Warning "server_set_aside" "servers BUSY or MAXUSERS"
        "they serve when nobody else can"
    RESTRICTION_STALE Warning "restriction_stale" "servers RESTRICTED by the word of a source that has fallen silent"
        "the word stays until the source speaks again: see whether it still holds"
    NOT_REPORTED Note "not_read" "facts that no source reports"
        "docs/directory.md says how to read marks, docs/availability.md RESTRICTED"
    NO_HTTPS Note "no_https" "servers without HTTPS"
        "fine for upstream_scheme: http; `same` and redirects of https clients would need it"
    NO_HTTP Note "no_http" "servers without HTTP"
        "fine for upstream_scheme: https"
    NO_REPLICAS Note "no_replicas" "members without any replica in the directory"
        "they serve only URLs without a database"
    OUT_OF_SERVICE Note "out_of_service" "replicas out of service"
        "they take no new users"
    PENDING_DELETE Note "pending_delete" "replicas pending delete"
        "they take no new users, and go when the last one leaves"
    DIFFERENT_PATHS Note "different_paths" "databases whose replicas lie at different paths"
        "the path is translated; links inside pages by path are not"
    SEVERAL_COPIES Note "several_copies" "servers with several copies of one database"
        "selective replicas? a URL by replica ID may mean either"
}

/// Collects findings.
#[derive(Debug)]
pub(super) struct FindingCollector {
    limit: usize,
    all: Vec<Finding>,
}

impl FindingCollector {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, all: Vec::new() }
    }

    /// One more.
    pub(super) fn add(&mut self, kind: &FindingKind, example: impl FnOnce() -> String) {
        self.add_many(kind, 1, example);
    }

    /// So many, with one example.
    pub(super) fn add_many(&mut self, kind: &FindingKind, count: usize, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        let limit = self.limit;
        let at = match self.all.iter().position(|f| f.kind == kind.code) {
            Some(at) => at,
            None => {
                self.all.push(Finding {
                    severity: kind.severity,
                    kind: kind.code.to_owned(),
                    count: 0,
                    text: kind.text.to_owned(),
                    advice: kind.advice.to_owned(),
                    examples: Vec::new(),
                });
                self.all.len() - 1
            }
        };
        if let Some(finding) = self.all.get_mut(at) {
            finding.count += count;
            if finding.examples.len() < limit {
                finding.examples.push(example());
            }
        }
    }

    /// Worst first, then in the table's order.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        let place = |finding: &Finding| ORDER.iter().position(|code| *code == finding.kind);
        self.all.sort_by_key(|finding| (finding.severity, place(finding)));
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_end_at_the_limit_and_the_count_does_not() {
        let mut findings = FindingCollector::new(2);
        for n in 0..5 {
            findings.add(&OUT_OF_SERVICE, || n.to_string());
        }
        findings.add(&NOBODY_SERVES, || "first of all".to_owned());
        let found = findings.finish();
        assert_eq!(found.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Error, Severity::Note]);
        assert_eq!((found[1].count, found[1].examples.len()), (5, 2));
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let mut words = ORDER.to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ORDER.len());
    }
}

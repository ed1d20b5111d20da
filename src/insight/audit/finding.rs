//! The table of all kinds of findings, and the collector that counts each kind and keeps its first examples.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Some users are not served now, or the data cannot be trusted.
    Error,
    /// The next failure will affect users, or something looks like a mistake.
    Warning,
    Note,
}

/// One kind of finding in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// A stable code for scripts: `single_replica`.
    pub kind: String,
    pub count: usize,
    /// The description that follows the count.
    pub text: String,
    pub advice: String,
    pub examples: Vec<String>,
}

#[derive(Debug)]
pub(super) struct FindingKind {
    severity: Severity,
    code: &'static str,
    text: &'static str,
    advice: &'static str,
}

// The order of the kinds is the order in which they are shown within a severity.
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
        "`icm check --probe` shows the cause; until then every server is a candidate for every database"
    DIRECTORY_UNREADABLE Error "directory_unreadable" "failure to read the directory"
        "the last good directory stays in use; `icm check --probe` shows what is missing"
    SERVER_LIST_UNREADABLE Error "server_documents_unreadable" "failure to read the Server documents"
        "the last good list of servers stays in use; `icm check --probe` shows what is missing"
    UNSERVED Error "nobody_serves" "databases that no new user can open: their servers are RESTRICTED or UNREACHABLE"
        "bring one of the servers back, or create a replica on another one"
    ONLY_ON_UNKNOWN_SERVERS Error "only_on_unknown_servers" "databases only on servers that the cluster does not have"
        "add the server to the list, or delete its entries in the directory"
    UNREACHABLE Error "server_unreachable" "servers UNREACHABLE"
        "`icm show cluster` shows the reason"
    NO_ADDRESS Error "no_address" "ports whose host name does not resolve"
        "correct the name, or use the address in the configuration"
    READABLE_BY_ANYONE Warning "readable_by_anyone" "views of system databases that anyone can read"
        "give Anonymous no access in their ACL, and set `access: domino_baseline` (docs/close.md)"
    SINGLE_REPLICA Warning "single_replica" "databases with a single replica"
        "no other server can take over if that server fails: create a second replica"
    SINGLE_IN_SERVICE Warning "single_in_service" "databases with several replicas, but only one in service"
        "put another one back in service"
    ALL_MARKED Warning "all_marked" "databases out of service or pending delete everywhere"
        "users get an error page; check that this is intended"
    ONLY_SET_ASIDE Warning "only_set_aside" "databases whose usable servers are all BUSY, MAXUSERS or CATCHING UP"
        "these servers are still used; more replicas would share the load"
    AMBIGUOUS_PATH Warning "ambiguous_path" "paths that mean different databases on different servers"
        "users must choose a database: use different paths, or links by replica ID"
    DUPLICATES Warning "duplicates" "duplicate entries in the directory with the same server and path"
        "a recreated cldbdir.nsf leaves them behind: the last one counts, delete the others"
    UNKNOWN_SERVERS Warning "unknown_servers" "servers in the directory that the cluster does not have"
        "their replicas are not used: add the servers to the list, or delete their entries"
    OLD_DIRECTORY Warning "old_directory" "directory older than three times its refresh interval"
        "see the events: `icm show events`"
    FROM_CACHE Warning "from_cache" "directory from the cache: no server has answered yet"
        "see the events: `icm show events`"
    READING_WARNING Warning "directory_warning" "warnings of the last directory reading"
        "see the examples"
    NO_REPLICA_BY_SCHEME Warning "no_replica_by_scheme" "databases without a server that has a port for this scheme"
        "enable the port in the Server document of one of their servers, or change upstream_scheme"
    PORT_DISABLED Warning "port_disabled" "servers without a port that the cluster uses"
        "clients with this scheme never get there: enable the port in Domino and in the configuration"
    PORT_DOWN Warning "port_down" "enabled ports that do not answer"
        "see `icm show cluster` and `icm check --probe`"
    RESTRICTED Warning "server_restricted" "servers RESTRICTED: no new users"
        "`icm release` undoes the restriction of an administrator"
    SET_ASIDE Warning "server_set_aside" "servers BUSY or MAXUSERS"
        "they are used only if no other server can serve"
    CATCHING_UP Warning "server_catching_up" "servers CATCHING UP after an outage"
        "they are used only if no other server can serve; `icm show cluster` says what they wait for, and \
         `icm release SERVER --now` ends it"
    BEHIND Warning "replica_behind" "replicas that lack changes of another replica"
        "new users are sent to other replicas: replicate the database, or look for the cause on that server"
    NO_EVIDENCE Warning "no_evidence" "clusters in which nothing can show that a returned server has caught up"
        "such a server gets users at once: read Replica.Cluster statistics or modification times (docs/freshness.md)"
    RESTRICTION_STALE Warning "restriction_stale" "servers RESTRICTED by a source that no longer reports"
        "they stay RESTRICTED until the source reports again: check the source"
    EXPOSED Note "gets_certificates" "servers that get certificates of clients"
        "whoever else can reach their web ports can be any user: close the ports to all but the ICMs (docs/sessions.md)"
    NOT_REPORTED Note "not_reported" "facts that no source reports"
        "the rules about them have no effect: each example names the remedy, and docs/companion.md one for most of them"
    NO_HTTPS Note "no_https" "servers without HTTPS"
        "fine with upstream_scheme: http; `same` and redirects of https clients need it"
    NO_HTTP Note "no_http" "servers without HTTP"
        "fine with upstream_scheme: https"
    NO_REPLICAS Note "no_replicas" "servers without a replica in the directory"
        "they get only URLs without a database"
    OUT_OF_SERVICE Note "out_of_service" "replicas out of service"
        "they get no new users"
    PENDING_DELETE Note "pending_delete" "replicas pending delete"
        "they get no new users, and are deleted when the last user has left"
    DIFFERENT_PATHS Note "different_paths" "databases with replicas at different paths"
        "icm translates the path of a request, but not links in pages"
    SEVERAL_COPIES Note "several_copies" "servers with several copies of one database"
        "a URL with the replica ID can mean any of them; check for selective replicas"
}

#[derive(Debug)]
pub(super) struct FindingCollector {
    limit: usize,
    all: Vec<Finding>,
}

impl FindingCollector {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, all: Vec::new() }
    }

    pub(super) fn add(&mut self, kind: &FindingKind, example: impl FnOnce() -> String) {
        self.add_many(kind, 1, example);
    }

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

    /// Sorts by severity, then in the order of the table.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        let position = |finding: &Finding| ORDER.iter().position(|code| *code == finding.kind);
        self.all.sort_by_key(|finding| (finding.severity, position(finding)));
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_applies_to_examples_and_not_to_the_count() {
        let mut findings = FindingCollector::new(2);
        for n in 0..5 {
            findings.add(&OUT_OF_SERVICE, || n.to_string());
        }
        findings.add(&UNSERVED, || "an error".to_owned());
        let found = findings.finish();
        assert_eq!(found.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Error, Severity::Note]);
        assert_eq!((found[1].count, found[1].examples.len()), (5, 2));
    }

    #[test]
    fn every_kind_has_its_own_code() {
        let mut codes = ORDER.to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ORDER.len());
    }
}

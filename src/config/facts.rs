//! Which source reports which fact of a cluster, as far as the configuration says. `check`, `audit` and the status page
//! show it, because a rule about a fact that no source reports has no effect.

use serde::Serialize;

use super::settings::{AvailabilitySource, ClusterSettings, Directory, FreshnessSource, Server, Servers};

/// A fact of the servers or replicas of a cluster, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FactSources {
    /// The name of the fact, such as `RESTRICTED`.
    pub fact: &'static str,
    /// The kinds of sources that report it, without repetition.
    pub sources: Vec<&'static str>,
    /// Servers that have no such source, if others do.
    pub without: Vec<String>,
    /// Why it matters and how to have it reported; empty if every server has a source.
    pub hint: &'static str,
}

impl FactSources {
    /// `RESTRICTED of Web1/Acme not read: ...`; `None` if every server has a source.
    #[must_use]
    pub fn unread(&self) -> Option<String> {
        let of = match (self.sources.is_empty(), self.without.is_empty()) {
            (false, true) => return None,
            (_, true) => String::new(),
            (_, false) => format!(" of {}", self.without.join(", ")),
        };
        let why = if self.fact == MARKS {
            "no column for out_of_service or pending_delete is named, and there is no companion"
        } else if self.fact == FRESHNESS {
            "freshness.source is off"
        } else {
            "no source reports it"
        };
        Some(format!("{}{of} not read: {why}", self.fact))
    }
}

impl std::fmt::Display for FactSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.unread() {
            Some(unread) => f.write_str(&unread),
            None => write!(f, "{} from {}", self.fact, self.sources.join(", ")),
        }
    }
}

const MARKS: &str = "marks";
const FRESHNESS: &str = "freshness";

/// A fact of the servers, the kinds of sources that can report it, and the advice.
struct ServerFact {
    name: &'static str,
    reported_by: fn(&AvailabilitySource) -> bool,
    hint: &'static str,
}

const SERVER_FACTS: [ServerFact; 5] = [
    ServerFact {
        name: "availability index",
        reported_by: |source| !matches!(source, AvailabilitySource::Observed),
        hint: "the observed response times take its place; statpub has the server's own (docs/availability.md, \
               statpub: Domino sends)",
    },
    ServerFact {
        name: "BUSY",
        reported_by: |source| {
            !matches!(source, AvailabilitySource::Observed | AvailabilitySource::AgentCheck { .. })
        },
        hint: "read the index and the threshold from statpub, prometheus, a console agent or the companion \
               (docs/availability.md, statpub: Domino sends)",
    },
    ServerFact {
        name: "RESTRICTED",
        reported_by: |source| !matches!(source, AvailabilitySource::Observed | AvailabilitySource::Statpub),
        hint: "use the companion (docs/companion.md), prometheus or agent_check, or let an agent print \
               Server_Restricted and read it with source: console (docs/availability.md, console: an agent that prints)",
    },
    ServerFact {
        name: "MAXUSERS",
        reported_by: |source| {
            !matches!(source, AvailabilitySource::Observed | AvailabilitySource::AgentCheck { .. })
        },
        hint: "read Server.Users from statpub, prometheus, a console agent or the companion beside server_max_users \
               (docs/availability.md, statpub: Domino sends)",
    },
    ServerFact {
        name: "replication",
        reported_by: |source| {
            !matches!(source, AvailabilitySource::Observed | AvailabilitySource::AgentCheck { .. })
        },
        hint: "without Replica.Cluster statistics from statpub, prometheus, a console agent or the companion nothing \
               shows when a server that returns has caught up (docs/freshness.md)",
    },
];

/// All facts on which the rules of selection rest, with their sources.
#[must_use]
pub fn facts(cluster: &ClusterSettings) -> Vec<FactSources> {
    // The rules about them are Domino's, and the servers of a pool are others.
    if cluster.is_pool() {
        return Vec::new();
    }
    let mut facts: Vec<FactSources> =
        SERVER_FACTS.iter().filter_map(|fact| server_fact(cluster, fact)).collect();
    facts.push(marks(cluster));
    facts.push(freshness(cluster));
    facts
}

/// The facts that no source reports, as sentences. Empty if everything is reported.
#[must_use]
pub fn unread(cluster: &ClusterSettings) -> Vec<String> {
    facts(cluster).iter().filter_map(FactSources::unread).collect()
}

/// `None` for MAXUSERS where no server can have a limit.
fn server_fact(cluster: &ClusterSettings, fact: &ServerFact) -> Option<FactSources> {
    let servers: &[Server] = match &cluster.servers {
        Servers::Static(servers) => servers,
        Servers::Names(_) => &[],
    };
    let concerned: Vec<&Server> =
        servers.iter().filter(|server| fact.name != "MAXUSERS" || server.max_users > 0).collect();
    let sources_of = |server: Option<&&Server>| -> Vec<&'static str> {
        let own = server.map(|server| &server.availability).filter(|list| !list.is_empty());
        let reporting = own.unwrap_or(&cluster.availability).iter();
        reporting.filter(|a| (fact.reported_by)(&a.source)).map(|a| a.source.kind()).collect()
    };
    let (mut sources, mut without) = (Vec::new(), Vec::new());
    if servers.is_empty() {
        sources = sources_of(None);
    } else if concerned.is_empty() {
        return None;
    }
    for server in &concerned {
        match sources_of(Some(server)) {
            none if none.is_empty() => without.push(server.name.abbreviated().to_owned()),
            some => sources.extend(some),
        }
    }
    sources.sort_unstable();
    sources.dedup();
    if sources.is_empty() {
        // All servers are the same in this: no need to list them.
        without.retain(|_| concerned.len() < servers.len());
    }
    let hint = if sources.is_empty() || !without.is_empty() { fact.hint } else { "" };
    Some(FactSources { fact: fact.name, sources, without, hint })
}

/// *Out of service* and *pending delete*.
fn marks(cluster: &ClusterSettings) -> FactSources {
    let mut sources = match &cluster.directory {
        Directory::Static(_) => vec!["configuration"],
        Directory::File { .. } => vec!["file"],
        Directory::Cldbdir(view) => {
            let columns = &view.columns;
            let named = columns.out_of_service.is_some() || columns.pending_delete.is_some();
            if named { vec!["cldbdir"] } else { Vec::new() }
        }
    };
    if cluster.has_companion() {
        sources.push("companion");
    }
    let hint = match sources.is_empty() {
        true => {
            "use the companion (docs/companion.md), or add two columns with the marks to a copy of the view, and set \
             out_of_service and pending_delete in directory.columns (docs/directory.md, View and columns)"
        }
        false => "",
    };
    FactSources { fact: MARKS, sources, without: Vec::new(), hint }
}

/// Which replicas are behind.
fn freshness(cluster: &ClusterSettings) -> FactSources {
    let source = cluster.freshness.source;
    let sources = if source == FreshnessSource::Off { Vec::new() } else { vec![source.as_str()] };
    let hint = match sources.is_empty() {
        true => {
            "set freshness.source, so that new users are not sent to a replica that is behind (docs/freshness.md)"
        }
        false => "",
    };
    FactSources { fact: FRESHNESS, sources, without: Vec::new(), hint }
}

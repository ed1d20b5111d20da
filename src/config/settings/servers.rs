//! Which servers a cluster has and which server holds which database, or where in Domino to read both.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Auth;
use super::policy::Availability;
use crate::domain::cluster::{HostPort, ServerName, SiteName};
use crate::domain::directory::{DirectoryBuilder, ReplicaId};

/// `servers`: listed in the file, or read from Domino.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one for each cluster, so a box would save nothing
pub enum Servers {
    /// Listed in the file. At least one; their names are unique.
    Static(Vec<Server>),
    /// Read from a view over the Server documents.
    Names(NamesView),
}

/// A server of the cluster, from the configuration or from its Server document.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The hierarchical Domino name.
    pub name: ServerName,
    /// The DNS name for redirects, SNI and certificate checks.
    pub hostname: String,
    /// `None` if HTTP is disabled. A server has at least one of the two ports.
    pub http: Option<HostPort>,
    /// `None` if HTTPS is disabled.
    pub https: Option<HostPort>,
    /// From 1 to 1000: its share of new users relative to the other servers.
    pub weight: u32,
    /// From 0 to 100. `None`: what the server publishes, else 0.
    pub threshold: Option<u8>,
    /// Whether `server_restricted` is other than 0.
    pub restricted: bool,
    /// The server is MAXUSERS from this number of users on; 0: never.
    pub max_users: u32,
    /// Where it is; `None`: at no particular place, so that no request to it leaves a site.
    pub site: Option<SiteName>,
    /// Which `$WS*` headers it gets.
    pub connector_headers: ConnectorHeaders,
    /// The sources of this server alone; empty: those of the cluster.
    pub availability: Vec<Availability>,
}

impl Server {
    /// What an administrator must see to where this server gets certificates of clients; `None` if it gets none.
    #[must_use]
    pub fn exposure(&self) -> Option<String> {
        let ports: Vec<String> =
            [&self.http, &self.https].into_iter().flatten().map(ToString::to_string).collect();
        (self.connector_headers == ConnectorHeaders::ClientCertificate).then(|| {
            format!(
                "Domino believes a certificate in `$WSCC` from anyone who reaches its web ports ({}): only the ICMs may \
                 reach them",
                ports.join(", ")
            )
        })
    }
}

/// Which of Domino's connector headers (`$WS*`) a server gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectorHeaders {
    /// The server gets none of them.
    #[default]
    Off,
    /// Those that grant no rights: the client's address and what it asked for.
    Safe,
    /// Those of `Safe`, and over TLS also the certificate by which Domino logs the client in.
    ClientCertificate,
}

impl ConnectorHeaders {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Safe => "safe",
            Self::ClientCertificate => "client_certificate",
        }
    }
}

/// The parts of an `http://` or `https://` URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// Whether the scheme is `https`.
    pub https: bool,
    /// Where to connect; also the Host header.
    pub at: HostPort,
    /// Begins with `/`, ends with `/` only if it is the root, and includes the query.
    pub path: String,
}

impl BaseUrl {
    /// Scheme, host and port, for messages.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.at)
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

/// `servers: { source: names }`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamesView {
    /// Asked in order until one answers; at least one.
    pub from: Vec<BaseUrl>,
    /// The path of the database, usually `names.nsf`, without a leading slash.
    pub database: String,
    /// The name of the view, usually `ICM Servers`.
    pub view: String,
    /// Which column holds which item.
    pub columns: NamesColumns,
    /// How Domino is to write the view: XML or JSON.
    pub format: ViewFormat,
    /// How to log in to Domino.
    pub auth: Auth,
    /// How often the view is read.
    pub refresh: Duration,
    /// Where the last good reading is kept for the next start.
    pub cache: Option<PathBuf>,
    /// The view over the Web Site Rule documents, if they are to be read.
    pub site_rules: Option<SiteRulesView>,
}

/// `site_rules`: a view in the same database as the Server documents, read together with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRulesView {
    /// The name of the view, usually `ICM Web Rules`.
    pub view: String,
    /// Which column holds which part of a rule.
    pub columns: SiteRuleColumns,
}

/// Columns of the view of Web Site Rule documents.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SiteRuleColumns {
    /// `Substitution`, `Redirection`, or another type.
    pub kind: Column,
    pub incoming: Column,
    pub replacement: Column,
    /// The host names of the Web Site document; without any, the rule is for all hosts.
    pub host: Column,
}

/// A column of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// Its number, from 0.
    Number(u32),
    /// Its programmatic name; upper and lower case are the same.
    Name(String),
}

/// Columns of the view of Server documents. A port is enabled if its status is `1` or `Enabled`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NamesColumns {
    pub name: Column,
    pub hostname: Column,
    pub address: Column,
    /// The names of the Notes ports, in the order of the addresses.
    pub ports: Column,
    pub cluster: Column,
    pub http_port: Column,
    pub http_status: Column,
    pub https_port: Column,
    pub https_status: Column,
    pub site: Column,
}

impl Default for NamesColumns {
    /// The programmatic names of the recipe in the guide.
    fn default() -> Self {
        let name = |name: &str| Column::Name(name.to_owned());
        Self {
            name: name("ServerName"),
            hostname: name("HostName"),
            address: name("NetAddress"),
            ports: name("Ports"),
            cluster: name("ClusterName"),
            http_port: name("HTTPPort"),
            http_status: name("HTTPStatus"),
            https_port: name("HTTPSPort"),
            https_status: name("HTTPSStatus"),
            site: name("Site"),
        }
    }
}

/// The format in which a view is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewFormat {
    /// XML, read by `?ReadViewEntries`.
    Xml,
    /// JSON, read by `?ReadViewEntries&OutputFormat=JSON`.
    Json,
}

/// The replicas of a static or file directory until they are indexed. Taken out then, because a million replicas
/// should not be in memory twice.
#[derive(Clone, Debug, Default)]
pub struct Entries(Arc<Mutex<DirectoryBuilder>>);

impl Entries {
    /// Wraps what was read.
    #[must_use]
    pub fn new(draft: DirectoryBuilder) -> Self {
        Self(Arc::new(Mutex::new(draft)))
    }

    /// How many databases have this path, if they were not taken out.
    #[must_use]
    pub fn databases_at(&self, path: &str) -> usize {
        self.0.lock().databases_at(path)
    }

    /// Whether a database has this replica ID, if they were not taken out.
    #[must_use]
    pub fn has_replica_id(&self, id: ReplicaId) -> bool {
        self.0.lock().has_replica_id(id)
    }

    /// Takes the replicas out; later calls return none.
    #[must_use]
    pub fn take(&self) -> DirectoryBuilder {
        std::mem::take(&mut *self.0.lock())
    }
}

/// `directory`: where the replicas are listed.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one for each cluster, so a box would save nothing
pub enum Directory {
    /// In the configuration file itself.
    Static(Entries),
    /// In a CSV or JSON file, which is read at start and at reload.
    File {
        /// The file to read.
        path: PathBuf,
        /// Its content when the configuration was loaded.
        entries: Entries,
    },
    /// In the Cluster Database Directory of any server that answers.
    Cldbdir(Cldbdir),
}

impl Directory {
    /// The account with which it is read from Domino.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        match self {
            Self::Cldbdir(view) => &view.auth,
            Self::Static(_) | Self::File { .. } => &Auth::None,
        }
    }
}

/// How the Cluster Database Directory is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Cldbdir {
    /// The path of the database, usually `cldbdir.nsf`.
    pub database: String,
    /// The name of the view. [`LOOKUP_VIEW`] means one of [`VISIBLE_VIEWS`] if it cannot be read.
    pub view: String,
    /// How Domino is to write the view: XML or JSON.
    pub format: ViewFormat,
    /// Which column holds which item.
    pub columns: DirectoryColumns,
    /// How to log in to Domino.
    pub auth: Auth,
    /// How often the view is read.
    pub refresh: Duration,
    /// Where the last good reading is kept for the next start.
    pub cache: Option<PathBuf>,
}

/// The hidden view that HCL's own code reads, the default.
pub const LOOKUP_VIEW: &str = "($Pathname)";

/// The visible views of every Cluster Database Directory that show path, server and replica ID, the better one first.
/// The template's own description lists their columns, in words only: path, server, replica ID; and replica ID, server,
/// path, title
/// (<https://discmaster.textfiles.com/view/30781/APC443.iso/features/grpware/notes/50lbwis.exe/DATA1.CAB/DominoServerProgramFilesClustersdata/cldbdir4.ntf>).
pub const VISIBLE_VIEWS: [&str; 2] = ["Databases by Pathname", "Databases by Replica ID"];

/// Columns of the view of the Cluster Database Directory. Without a column, path, server and replica ID are recognised by
/// the names and the content of the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DirectoryColumns {
    pub path: Option<Column>,
    pub server: Option<Column>,
    pub replica_id: Option<Column>,
    pub title: Option<Column>,
    pub out_of_service: Option<Column>,
    pub pending_delete: Option<Column>,
}

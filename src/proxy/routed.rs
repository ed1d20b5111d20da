//! What a request names and where its user belongs: the result of routing, which does not change with attempts.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::affinity::{AffinityEntries, AffinityEntry};
use crate::domain::cluster::Port;
use crate::domain::cluster::availability::RequestClass;
use crate::domain::directory::{DatabaseMatch, ServerReplica};
use crate::domain::select::{Hint, ServerId};
use crate::domain::url::RequestSafety;
use crate::state::cluster_view::ConnectionKind;
use crate::state::{Cluster, ClusterView, Snapshot};

/// What a request names and where its user belongs.
#[derive(Debug)]
pub struct Routed {
    /// One snapshot for the whole request.
    pub snapshot: Arc<Snapshot>,
    /// The cluster that serves the host.
    pub cluster: Arc<Cluster>,
    /// One view for the whole request.
    pub view: Arc<ClusterView>,
    /// The Host as the client wrote it.
    pub authority: Box<str>,
    /// The client uses TLS, as seen here or as a trusted proxy says.
    pub tls: bool,
    /// The port by which servers are reached.
    pub port: Port,
    /// Whether the connection will switch protocols.
    pub exchange: ConnectionKind,
    /// The database of the URL.
    pub database: RoutedDatabase,
    /// Where the user's earlier requests went.
    pub affinity: UserAffinity,
    /// What the request does to data.
    pub class: RequestSafety,
    /// Which other requests take a comparable time.
    pub request_class: RequestClass,
    /// The URL ends the user's session.
    pub is_logout: bool,
    /// The server must not get the `Cookie` lines as they are: they hold cookies that are not for it, or are several.
    pub rewrites_cookies: bool,
    /// The head has hop-by-hop fields other than `Connection` and `Upgrade`.
    pub has_hop_by_hop_fields: bool,
}

/// The database of a URL.
#[derive(Clone, Debug, Default)]
pub struct RoutedDatabase {
    /// `None` where the URL names none, or one that the directory does not know.
    pub found: Option<DatabaseMatch>,
    /// Its tag in the affinity cookie, also where the directory does not know it.
    pub tag: Option<u32>,
    /// Its position in the target.
    pub range: Range<usize>,
    /// The URL names a document by NoteID, which is another document in every replica.
    pub note_id: bool,
}

/// The servers that a request's user belongs to.
#[derive(Debug)]
pub struct UserAffinity {
    /// The user's entries, as the cookies say.
    pub entries: AffinityEntries,
    /// The request has an affinity cookie.
    pub has_affinity_cookie: bool,
    /// The request has a login cookie, whose entry belongs in the affinity cookie now.
    pub has_login_cookie: bool,
    /// The entry of that cookie, if its server can take the user.
    pub login: Option<AffinityEntry>,
    /// The server of the entry for this database.
    pub entry: Option<ServerId>,
    /// The server of the entry for a related page.
    pub hint: Option<(ServerId, Hint)>,
    /// The database of that page.
    pub hinted_database: Option<DatabaseMatch>,
    /// The server of the most recent entry.
    pub recent: Option<ServerId>,
    /// Servers with a session of the user, other than `recent`.
    pub sessions: SmallVec<[ServerId; 4]>,
}

impl Routed {
    /// What a server holds of the database that the URL names.
    #[must_use]
    pub fn replica_on(&self, member: ServerId) -> Option<ServerReplica<'_>> {
        self.view.replica_on(self.database.found.as_ref()?, member)
    }

    /// Whether the server needs its own path in the URL. A replica ID stays where the server has several copies: it
    /// chooses among them itself.
    #[must_use]
    pub fn replaces_path(&self, holder: &ServerReplica<'_>) -> bool {
        if self.database.found.is_some_and(|found| found.path.is_some()) {
            !holder.same_path
        } else {
            holder.replica_count == 1
        }
    }

    /// The path of the database as the client wrote it, with a leading slash.
    #[must_use]
    pub fn public_path(&self, target: &[u8]) -> String {
        let path = target.get(self.database.range.clone()).unwrap_or_default();
        format!("/{}", String::from_utf8_lossy(path))
    }
}

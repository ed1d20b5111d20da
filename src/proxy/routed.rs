//! The result of routing: what a request names, and where its user belongs. Attempts do not change it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::rehearsal_user::RehearsalUser;
use crate::config::settings::{ForwardedPath, HeaderRules, Route};
use crate::domain::affinity::{AffinityEntries, AffinityEntry, WriteStamps};
use crate::domain::cluster::Port;
use crate::domain::cluster::availability::RequestClass;
use crate::domain::directory::{DatabaseMatch, ServerReplica, db_path};
use crate::domain::select::{Hint, ServerId};
use crate::domain::url::RequestSafety;
use crate::edge::client_certificate::ClientCertificate;
use crate::state::cluster_view::ConnectionKind;
use crate::state::{Cluster, ClusterView, Snapshot};

/// A route and the cluster that has it, whose servers need not be those that the route leads to.
#[derive(Clone, Debug)]
pub struct TakenRoute {
    /// The route as it is configured.
    pub route: Arc<Route>,
    /// The cluster of the host.
    pub cluster: Arc<Cluster>,
}

/// The result of routing.
#[derive(Debug)]
pub struct Routed {
    /// One snapshot for the whole request.
    pub snapshot: Arc<Snapshot>,
    /// The cluster that serves the host.
    pub cluster: Arc<Cluster>,
    /// One view for the whole request.
    pub view: Arc<ClusterView>,
    /// The route that the request took; `None` means the database directory alone.
    pub route: Option<Arc<Route>>,
    /// The host and port as the client wrote them.
    pub authority: Box<str>,
    /// Whether the client uses TLS to this proxy or to a trusted one.
    pub tls: bool,
    /// The verified certificate of the client's connection to this proxy, set after routing.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Whether servers are reached by HTTP or HTTPS.
    pub port: Port,
    /// Whether the connection will switch protocols.
    pub exchange: ConnectionKind,
    /// The database of the URL.
    pub database: RoutedDatabase,
    /// Where the earlier requests of the user went.
    pub affinity: UserAffinity,
    /// The user's part in the rehearsal of the cluster, while one runs.
    pub rehearsal: Option<Box<RehearsalUser>>,
    /// What the request does to data.
    pub class: RequestSafety,
    /// The requests with comparable response times.
    pub request_class: RequestClass,
    /// Whether the URL ends the session of the user.
    pub is_logout: bool,
    /// Whether the `Cookie` lines must be changed for the server.
    pub rewrites_cookies: bool,
    /// Whether the head has hop-by-hop fields other than `Connection` and `Upgrade`.
    pub has_hop_by_hop_fields: bool,
}

/// The database of a URL.
#[derive(Clone, Debug, Default)]
pub struct RoutedDatabase {
    /// `None` if the URL names no database, or one that is not in the directory.
    pub found: Option<DatabaseMatch>,
    /// Its tag in the affinity cookie, even if it is not in the directory.
    pub tag: Option<u32>,
    /// Its position in the target; empty if a route names it.
    pub range: Range<usize>,
    /// Whether a route names it in place of the URL, which then stays as it is.
    pub is_named_by_route: bool,
    /// Whether the URL names a document by NoteID, which means another document in each replica.
    pub note_id: bool,
}

/// The servers that a request's user belongs to.
#[derive(Debug)]
pub struct UserAffinity {
    /// The entries of the affinity cookie and of a login cookie.
    pub entries: AffinityEntries,
    /// Whether the request has a valid affinity cookie.
    pub has_affinity_cookie: bool,
    /// Whether the request has a login cookie, to be merged into the affinity cookie.
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
    /// The user's last writes to databases of this cluster.
    pub write_stamps: WriteStamps,
    /// The last write to this database.
    pub last_write: Option<LastWrite>,
    /// Whether the request leads the user back to a server that has this write by now, although another one took it.
    pub moves_last_write: bool,
    /// Whether the request posts a login form.
    pub posts_login_form: bool,
}

/// The user's last write to the database of the URL.
#[derive(Clone, Copy, Debug)]
pub struct LastWrite {
    /// The server that took it.
    pub server: ServerId,
    /// When, in milliseconds since 1970 on our clock.
    pub unix_ms: u64,
    /// Whether the user was told that another replica may lack it.
    pub told: bool,
    /// Whether the request may lead the user back to that server.
    pub may_move: bool,
}

impl Routed {
    /// The server that counts as UNREACHABLE for this user.
    #[must_use]
    pub fn rehearsed_server(&self) -> Option<ServerId> {
        self.rehearsal.as_ref().and_then(|user| user.unreachable())
    }

    /// Whether the route lets a server have the request.
    #[must_use]
    pub fn allows(&self, server: ServerId) -> bool {
        self.route
            .as_ref()
            .is_none_or(|route| route.servers.is_empty() || self.view.is_among(server, &route.servers))
    }

    /// The time from the end of the request to the head of the response: that of the route, else of the cluster.
    #[must_use]
    pub fn response_timeout(&self) -> Duration {
        let of_route = self.route.as_ref().and_then(|route| route.response_timeout);
        of_route.unwrap_or(self.cluster.settings.failover.response_timeout)
    }

    /// The longest pause within the body of the response; `None` means no limit.
    #[must_use]
    pub fn body_timeout(&self) -> Option<Duration> {
        let of_route = self.route.as_ref().and_then(|route| route.body_timeout);
        of_route.unwrap_or(self.cluster.settings.failover.body_timeout)
    }

    /// The changes of header fields, each after the one before.
    pub(super) fn header_rules(&self) -> impl Iterator<Item = &HeaderRules> {
        let of_route = self.route.iter().map(|route| &route.headers);
        std::iter::once(&self.cluster.settings.headers.rules).chain(of_route)
    }

    /// The replica of the requested database on a server.
    #[must_use]
    pub fn replica_on(&self, server: ServerId) -> Option<ServerReplica<'_>> {
        self.view.replica_on(self.database.found.as_ref()?, server)
    }

    /// Whether the URL needs the path that the database has on this server, because it is another one, or spelled otherwise
    /// where `forwarded_path` asks for that. A replica ID stays if the server has several copies: it chooses among them
    /// itself.
    #[must_use]
    pub fn replaces_path(&self, holder: &ServerReplica<'_>, target: &[u8]) -> bool {
        if self.database.is_named_by_route {
            return false;
        }
        if self.database.found.is_none_or(|found| found.path.is_none()) {
            return holder.replica_count == 1;
        }
        let raw = || target.get(self.database.range.clone()).unwrap_or_default();
        !holder.same_path
            || (self.cluster.settings.forwarded_path == ForwardedPath::Directory
                && !db_path::is_same_spelling(raw(), holder.path()))
    }

    /// The target with the path that the database has on this server.
    #[must_use]
    pub fn target_for(&self, holder: &ServerReplica<'_>, target: &[u8]) -> Option<Vec<u8>> {
        let path = db_path::percent_encode_path(holder.path());
        let range = &self.database.range;
        Some([target.get(..range.start)?, path.as_bytes(), target.get(range.end..)?].concat())
    }

    /// The path of the database as the client wrote it, with a leading slash; the path of the URL if a route names the
    /// database.
    #[must_use]
    pub fn public_path(&self, target: &[u8]) -> String {
        if self.database.is_named_by_route {
            let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
            return String::from_utf8_lossy(path).into_owned();
        }
        let path = target.get(self.database.range.clone()).unwrap_or_default();
        format!("/{}", String::from_utf8_lossy(path))
    }
}

//! Routes of a cluster: what happens to requests that are not led by the database of their URL alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::headers::HeaderRules;
use crate::domain::cluster::ServerName;
use crate::domain::directory::ReplicaId;
use crate::domain::rules::{RedirectTarget, RequestMatch, SiteRule};

/// A rule of `routes`; the first whose condition holds decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its place in `routes`, from 0.
    pub number: usize,
    /// How explain, log and metrics call it.
    pub name: Box<str>,
    /// Which requests it takes.
    pub condition: RequestMatch,
    /// What happens to them.
    pub action: RouteAction,
    /// The members that may get them; empty: all.
    pub servers: Vec<ServerName>,
    /// In place of `failover.response_timeout`.
    pub response_timeout: Option<Duration>,
    /// In place of `failover.body_timeout`; `Some(None)` means no limit.
    pub body_timeout: Option<Option<Duration>>,
    /// Applied after those of the cluster.
    pub headers: HeaderRules,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// The database of the URL decides, as without a route.
    Directory,
    /// As if the URL named this database.
    Database(RouteDatabase),
    /// As if the URL came that Domino makes of it by a Web Site Rule document. Not a key: such routes are read.
    SiteRule(Arc<SiteRule>),
    /// A pool of the cluster serves it, by its position among the pools.
    Pool(usize),
    /// The companion of a server is asked where the mail file of the user is, and the browser is led there.
    HomeMail(Arc<HomeMail>),
    /// Sends the browser to another URL.
    Redirect(Arc<RouteRedirect>),
    /// Answers with a fixed response.
    Respond(Arc<FixedResponse>),
    /// Answers with a file of a folder.
    Files(Arc<StaticFiles>),
    /// Refuses the request with status 403.
    Deny,
}

impl RouteAction {
    /// The key of the action.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Database(_) => "database",
            Self::SiteRule(_) => "site_rule",
            Self::Pool(_) => "pool",
            Self::HomeMail(_) => "home_mail",
            Self::Redirect(_) => "redirect",
            Self::Respond(_) => "respond",
            Self::Files(_) => "files",
            Self::Deny => "deny",
        }
    }
}

/// `home_mail`: where the agent is that knows the user's mail file. Both are targets on the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeMail {
    /// The agent that says who asks.
    pub agent: Box<str>,
    /// Where users without a login go; it gets the way back as `RedirectTo`.
    pub login: Box<str>,
}

/// The database that a route names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteDatabase {
    /// Its path below the data directory, with `/`.
    Path(Box<str>),
    /// Shared by all its replicas.
    ReplicaId(ReplicaId),
}

/// `redirect`: where a browser is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRedirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The URL with its placeholders.
    pub to: RedirectTarget,
}

/// `respond`: a response that is the same for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// From 200 to 599, no redirect.
    pub status: u16,
    /// Media type and charset.
    pub content_type: HeaderValue,
    /// The text, or the content of the file at the last reload.
    pub body: Bytes,
    /// Changes with the body.
    pub etag: HeaderValue,
    /// Seconds, for status 503 and 429.
    pub retry_after: Option<u32>,
    /// Further fields; they replace those that the proxy sets itself.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// `files`: a folder whose files are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticFiles {
    /// Where the files are.
    pub folder: PathBuf,
    /// The file that stands for a folder; `None`: folders are not found.
    pub index: Option<Box<str>>,
    /// Media types by extension in lower case, before the built-in ones.
    pub content_types: Vec<(Box<str>, HeaderValue)>,
}

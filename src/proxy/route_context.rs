//! The input of every step of routing: the head, its URL, and the cluster that serves it.

use std::sync::Arc;

use http::header;
use pingora_http::RequestHeader;

use crate::config::settings::{Route, RouteAction};
use crate::domain::affinity::same_site;
use crate::domain::cluster::Port;
use crate::domain::select::ServerId;
use crate::domain::url::{self, Target};
use crate::state::{Cluster, ClusterView};

/// The URL of a request as the client addressed it.
#[derive(Clone, Copy, Debug)]
pub struct TargetUri<'a> {
    /// The Host header, or the authority of an absolute target.
    pub authority: &'a str,
    /// The path and the query.
    pub target: &'a [u8],
    /// Whether the scheme is `https`.
    pub tls: bool,
}

#[derive(Clone, Copy)]
pub(super) struct RouteContext<'a> {
    pub cluster: &'a Arc<Cluster>,
    pub view: &'a Arc<ClusterView>,
    pub head: &'a RequestHeader,
    pub uri: TargetUri<'a>,
    /// As if the URL named the database of the route, if that names one.
    pub target: &'a Target<'a>,
    pub port: Port,
    pub route: Option<&'a Route>,
    /// The server that counts as UNREACHABLE for this user.
    pub rehearsed_server: Option<ServerId>,
}

impl RouteContext<'_> {
    /// Whether the route names the database in place of the URL.
    pub fn database_of_route(&self) -> bool {
        self.route
            .is_some_and(|route| matches!(route.action, RouteAction::Database(_) | RouteAction::SiteRule(_)))
    }

    /// Whether the route lets a server have the request.
    pub fn allows(&self, server: ServerId) -> bool {
        self.route.is_none_or(|route| route.servers.is_empty() || self.view.is_among(server, &route.servers))
    }
}

/// Path and query of a target that may be in absolute form, and its authority.
#[must_use]
pub fn origin_form(raw: &[u8]) -> (Option<&str>, &[u8]) {
    if raw.first() == Some(&b'/') {
        return (None, raw);
    }
    match url::split_absolute_url(raw) {
        Some((host, target)) => {
            let target = if target.is_empty() { b"/".as_slice() } else { target };
            (std::str::from_utf8(host).ok(), target)
        }
        None => (None, raw),
    }
}

/// The target of a Referer with the same host and scheme.
pub(super) fn referer<'h>(head: &'h RequestHeader, uri: TargetUri<'_>) -> Option<Target<'h>> {
    let value = head.headers.get(header::REFERER)?.as_bytes();
    let (_, target) = url::split_absolute_url(value)?;
    same_site::is_same_origin(value, uri.authority, uri.tls).then(|| url::parse(target))
}

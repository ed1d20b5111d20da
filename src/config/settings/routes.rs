//! Routes of a cluster: what happens to requests that are not led by the database of their URL alone.

use crate::domain::rules::RequestMatch;

/// A rule of `routes`; the first whose condition holds decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// How explain, log and metrics call it.
    pub name: Box<str>,
    /// Which requests it takes.
    pub condition: RequestMatch,
    /// What happens to them.
    pub action: RouteAction,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// The database of the URL decides, as without a route.
    Directory,
    /// A pool of the cluster serves it, by its position among the pools.
    Pool(usize),
    /// The companion of a server is asked where the mail file of the user is, and the browser is led there.
    HomeMail(HomeMail),
}

/// `home_mail` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeMail {
    /// The target of the agent on each server.
    pub agent: Box<str>,
    /// Where users without a login go; it gets the way back as `RedirectTo`.
    pub login: Box<str>,
}

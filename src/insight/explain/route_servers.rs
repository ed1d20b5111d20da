//! What an explanation says about the servers of a route: the members that it leaves out, and names that are no members.

use super::{ExplainedCandidate, Explanation};
use crate::domain::cluster::ServerName;
use crate::domain::select::ServerId;
use crate::proxy::routed::Routed;

impl Explanation {
    /// The holders that the route does not name.
    pub(super) fn add_left_out(&mut self, routed: &Routed) {
        for (server, entry) in routed.view.entries.iter().enumerate() {
            let Ok(server) = ServerId::try_from(server) else { continue };
            let mark = routed.database.found.as_ref().map(|found| routed.view.mark_on(found, server));
            if routed.allows(server) || mark.is_some_and(|mark| mark.is_none()) {
                continue;
            }
            self.candidates.push(ExplainedCandidate {
                server: entry.config.name.to_string(),
                site: entry.config.site.as_ref().map(ToString::to_string),
                state: entry.server.state().as_str().to_owned(),
                index: entry.server.index(),
                path: None,
                target: None,
                mark: mark.flatten().map_or("in_service", |mark| mark.as_str()).to_owned(),
                verdict: "dropped: not in the route's servers".to_owned(),
                chosen: false,
                own_write: None,
            });
        }
    }

    /// With `servers: { source: names }` the configuration cannot be checked.
    pub(super) fn add_unknown_servers(&mut self, routed: &Routed) {
        let Some(route) = &routed.route else { return };
        let is_member =
            |name: &ServerName| routed.view.entries.iter().any(|entry| entry.config.name == *name);
        for name in route.servers.iter().filter(|name| !is_member(name)) {
            self.notes.push(format!("{name} of the route's servers is not in the cluster"));
        }
    }
}

//! The part of a request's user in a rehearsed failover. It is apart from what the rehearsal does to the request, because
//! routing decides it.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::rehearsal::{RehearsalCookie, UserDraw};
use crate::domain::select::ServerId;
use crate::state::rehearsal::{RehearsalPart, RunningRehearsal};
use crate::state::{Cluster, ClusterView};
use crate::util::clock;

/// The part of a user in the rehearsal of the cluster.
#[derive(Debug)]
pub struct RehearsalUser {
    pub(super) rehearsal: Arc<RunningRehearsal>,
    /// The server that counts as UNREACHABLE for the share.
    pub(super) server: ServerId,
    pub(super) draw: UserDraw,
    pub(super) is_in_share: bool,
    /// What the browser knows by now; `None` = no cookie of this rehearsal.
    pub(super) cookie: Option<RehearsalCookie>,
    /// Where the user is logged in, by the cookies.
    pub(super) sessions: SmallVec<[ServerId; 4]>,
    /// `None` until a server is chosen.
    pub(super) part: Option<RehearsalPart>,
}

/// The rehearsal that runs in a cluster.
pub(crate) fn running(cluster: &Cluster) -> Option<Arc<RunningRehearsal>> {
    cluster.persistent_state.rehearsal.running(clock::now_ms)
}

impl RehearsalUser {
    /// The user of a request: by the rehearsal cookie, else by what its other cookies draw. `None` if the browser has not shown
    /// that it keeps cookies.
    pub(super) fn new(
        rehearsal: Arc<RunningRehearsal>,
        view: &ClusterView,
        cookie: Option<RehearsalCookie>,
        draw: Option<UserDraw>,
        sessions: SmallVec<[ServerId; 4]>,
    ) -> Option<Box<Self>> {
        let server = view.server_by_tag(rehearsal.server_tag)?;
        let cookie = cookie.filter(|cookie| cookie.rehearsal == rehearsal.id);
        let draw = cookie.map(|cookie| cookie.user).or(draw)?;
        let is_in_share = rehearsal.share.contains(draw);
        Some(Box::new(Self { server, draw, is_in_share, cookie, sessions, part: None, rehearsal }))
    }

    /// The server that does not answer this user.
    #[must_use]
    pub fn unreachable(&self) -> Option<ServerId> {
        (self.is_in_share && self.rehearsal.is_running()).then_some(self.server)
    }

    /// The rehearsal, and whether the user belongs to its share.
    pub(crate) fn share(&self) -> (&Arc<RunningRehearsal>, bool) {
        (&self.rehearsal, self.is_in_share)
    }

    pub(super) fn is_moved(&self) -> bool {
        matches!(self.part, Some(RehearsalPart::Moved { .. }))
    }
}

//! One rehearsal: what was ordered, what its requests did, and how it ended. Requests share it by reference.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::counts::GroupCounts;
pub(crate) use super::counts::RequestResult;
use super::report::OnlyReplicas;
use crate::domain::cluster::ServerName;
use crate::domain::rehearsal::{GroupErrors, RehearsalEnd, UserDraw, UserShare, have_errors_risen};
use crate::util::clock;

/// A rehearsal that runs, or has run.
#[derive(Debug)]
pub(crate) struct RunningRehearsal {
    /// In the cookies of its users; other ICMs may run the same one.
    pub(crate) id: u32,
    pub(crate) cluster: String,
    pub(crate) server: ServerName,
    /// [`crate::state::cluster_view::UpstreamServer::tag`] of the server.
    pub(crate) server_tag: u32,
    pub(crate) share: UserShare,
    pub(crate) started_unix_ms: u64,
    pub(crate) ends_unix_ms: u64,
    /// The end on the monotonic clock.
    pub(crate) ends_ms: u64,
    /// The databases that no other server can serve, as they were at the start.
    pub(super) only_replicas: OnlyReplicas,
    /// False as soon as it has ended.
    running: AtomicBool,
    end: OnceLock<EndOfRehearsal>,
    pub(super) moved_users: GroupCounts,
    pub(super) stayed_users: GroupCounts,
    pub(super) moved: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) older_pages: AtomicU64,
    pub(super) logins_lost: AtomicU64,
}

#[derive(Clone, Debug)]
pub(super) struct EndOfRehearsal {
    pub(super) why: RehearsalEnd,
    pub(super) detail: String,
    pub(super) at_unix_ms: u64,
}

/// What a rehearsal did to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RehearsalPart {
    /// Of a moved user, or the one that moves the user.
    Moved {
        /// Without the rehearsal the server would have got it.
        by_this_request: bool,
        /// Another server failed, and the rehearsed one served after all.
        rescued: bool,
    },
    /// Of a user of the share, but only the rehearsed server could take it.
    Kept,
    /// Of a user outside the share whom the server has served during the rehearsal.
    Stayed,
    /// The rehearsal changes nothing for it, and it says nothing about the rehearsal.
    Unaffected,
}

impl RunningRehearsal {
    pub(in crate::state) fn new(
        id: u32,
        (cluster, server, server_tag): (String, ServerName, u32),
        share: UserShare,
        duration: Duration,
        only_replicas: OnlyReplicas,
    ) -> Self {
        let (now, millis) = (clock::unix_ms(), clock::saturating_millis(duration));
        Self {
            id,
            cluster,
            server,
            server_tag,
            share,
            started_unix_ms: now,
            ends_unix_ms: now.saturating_add(millis),
            ends_ms: clock::now_ms().saturating_add(millis),
            only_replicas,
            running: AtomicBool::new(true),
            end: OnceLock::new(),
            moved_users: GroupCounts::default(),
            stayed_users: GroupCounts::default(),
            moved: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            older_pages: AtomicU64::new(0),
            logins_lost: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    pub(super) fn ended(&self) -> Option<&EndOfRehearsal> {
        self.end.get()
    }

    /// False if it has ended already.
    pub(in crate::state) fn set_end(&self, why: RehearsalEnd, detail: String) -> bool {
        let is_first = self.end.set(EndOfRehearsal { why, detail, at_unix_ms: clock::unix_ms() }).is_ok();
        self.running.store(false, Relaxed);
        is_first
    }

    /// Counts a request that has ended. Returns true after an error of a moved user.
    pub(crate) fn record(
        &self,
        part: RehearsalPart,
        user: UserDraw,
        result: RequestResult,
        first_byte: Option<Duration>,
    ) -> bool {
        match part {
            RehearsalPart::Moved { by_this_request, rescued } => {
                let result = if rescued { RequestResult::Failed } else { result };
                self.moved_users.record(user, result, first_byte);
                self.moved.fetch_add(u64::from(by_this_request), Relaxed);
                result != RequestResult::Good
            }
            RehearsalPart::Stayed => {
                self.stayed_users.record(user, result, first_byte);
                false
            }
            RehearsalPart::Kept => {
                self.kept.fetch_add(1, Relaxed);
                false
            }
            RehearsalPart::Unaffected => false,
        }
    }

    /// Counts a page that told a moved user that the replica is older than the user's own last write.
    pub(crate) fn count_older_page(&self) {
        self.older_pages.fetch_add(1, Relaxed);
    }

    /// Counts a request that moved a user with a session on the server, and none on the one that took over.
    pub(crate) fn count_lost_login(&self) {
        self.logins_lost.fetch_add(1, Relaxed);
    }

    /// Why it must end because of errors.
    pub(crate) fn risen_errors(&self) -> Option<String> {
        let (moved, stayed) = (errors_of(&self.moved_users), errors_of(&self.stayed_users));
        have_errors_risen(&moved, &stayed).then(|| {
            format!(
                "{} of {} requests of moved users failed, were not found or denied, and {} of {} of those who stayed",
                moved.errors, moved.requests, stayed.errors, stayed.requests
            )
        })
    }
}

fn errors_of(counts: &GroupCounts) -> GroupErrors {
    GroupErrors {
        // The errors first: a request that ends meanwhile must not look like an error too many.
        errors: counts.failed.load(Relaxed) + counts.not_found.load(Relaxed) + counts.denied.load(Relaxed),
        users_with_errors: counts.users_with_errors.len(),
        requests: counts.requests.load(Relaxed),
        users: counts.users.len(),
    }
}

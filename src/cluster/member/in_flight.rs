//! One request in flight.
//!
//! In: a member that has begun it. Out: counted for as long as this lives, on whichever path it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Member;

/// One request in flight on a member, ended by being dropped.
#[derive(Debug)]
pub struct InFlight {
    pub(super) member: Arc<Member>,
    pub(super) tunnel: bool,
}

impl InFlight {
    /// Where it is.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// This one is a tunnel.
    pub fn is_tunnel(&mut self) {
        if !std::mem::replace(&mut self.tunnel, true) {
            self.member.tunnels.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.member.in_flight.fetch_sub(1, Relaxed);
        if self.tunnel {
            self.member.tunnels.fetch_sub(1, Relaxed);
        }
    }
}

//! One request in flight, from its beginning to its end.
//!
//! In: a member, and how many it takes. Out: one more counted for as long as this lives, on whichever path it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Member;

/// One request in flight on a member, ended by being dropped.
#[derive(Debug)]
pub struct InFlight {
    member: Arc<Member>,
    tunnel: bool,
}

impl Member {
    /// Begins a request if fewer than `cap` are in flight (0 = no cap); dropping the guard ends it on
    /// every path. Selection looked at a moment that may have passed: only this counts.
    #[must_use]
    pub fn begin(self: &Arc<Self>, cap: u32) -> Option<InFlight> {
        if cap == 0 {
            self.in_flight.fetch_add(1, Relaxed);
        } else {
            self.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < cap).then_some(n + 1)).ok()?;
        }
        Some(InFlight { member: Arc::clone(self), tunnel: false })
    }
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

//! What the rehearsal cookie of a browser says. It is signed like the affinity cookie; only the meaning is here.

use super::UserDraw;

/// The values in a rehearsal cookie with a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RehearsalCookie {
    /// The rehearsal in which it was set.
    pub rehearsal: u32,
    /// What the user drew there.
    pub user: UserDraw,
    /// Whether a page of another server moved the user's entries.
    pub moved: bool,
}

impl RehearsalCookie {
    /// Whether its user was moved by a rehearsal other than the running one, and may return to the former servers.
    #[must_use]
    pub fn returns(&self, running: Option<u32>) -> bool {
        self.moved && running != Some(self.rehearsal)
    }
}

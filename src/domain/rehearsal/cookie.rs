//! What the rehearsal cookie of a browser says. It is signed like the affinity cookie; only the meaning is here.

use super::UserDraw;

/// The users whose requests are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserGroup {
    /// Of the share, and a page of another server moved the entries.
    Moved,
    /// Not of the share, and the server gave them a page during the rehearsal.
    Stayed,
}

/// The values in a rehearsal cookie with a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RehearsalCookie {
    /// The rehearsal in which it was set.
    pub rehearsal: u32,
    /// What the user drew there.
    pub user: UserDraw,
    /// `None` until a page shows to which group the user belongs.
    pub group: Option<UserGroup>,
}

impl RehearsalCookie {
    /// Whether its user was moved by a rehearsal other than the running one, and may return to the former servers.
    #[must_use]
    pub fn returns(&self, running: Option<u32>) -> bool {
        self.group == Some(UserGroup::Moved) && running != Some(self.rehearsal)
    }
}

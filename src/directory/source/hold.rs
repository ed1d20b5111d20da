//! Whether a reading of the cluster directory may replace the one that serves.
//!
//! In: digests of readings, from whom they are. Out: a [`Verdict`]. A reading that is empty or has
//! lost over a fifth of its entries is held until another member agrees, or three readings in a row say
//! the same and no other member that answers disagrees; till then the old one serves. A damaged
//! replica of cldbdir.nsf must not send every user to an error page. Pure: no clock, no socket.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::cluster::ServerName;
use crate::directory::Entry;

/// Readings in a row that are believed without a second member.
const IN_A_ROW: u32 = 3;

/// What must be known of a reading to compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingDigest {
    /// Who gave it.
    pub from: ServerName,
    /// Entries in it.
    pub len: usize,
    /// Equal for the same entries in any order.
    pub fingerprint: u64,
}

/// What to do with a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may serve.
    Accept,
    /// The old one serves on.
    Hold {
        /// For log and status page.
        reason: String,
    },
    /// Read the directory from a member that was not asked yet, and offer that reading; if no other
    /// member answers, call [`Holder::nobody_else_answers`].
    AskAnother,
}

/// Remembers the readings that are held.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    /// The last suspicious reading of each member.
    claims: Vec<Claim>,
    /// Who was heard since the last verdict.
    round: Vec<ServerName>,
    reason: String,
}

#[derive(Clone, Debug)]
struct Claim {
    from: ServerName,
    fingerprint: u64,
    /// How often in a row this member has said so, with nobody disagreeing.
    streak: u32,
}

impl ReadingDigest {
    /// Of entries as they were read. Titles do not count.
    #[must_use]
    pub fn of(from: ServerName, entries: &[Entry]) -> Self {
        let fingerprint = entries.iter().fold(0_u64, |sum, entry| {
            let mut hasher = DefaultHasher::new();
            for part in entry.path.split(['/', '\\']).filter(|part| !part.is_empty()) {
                part.to_lowercase().hash(&mut hasher);
            }
            entry.server.hash(&mut hasher);
            entry.replica_id.hash(&mut hasher);
            entry.mark.hash(&mut hasher);
            sum.wrapping_add(hasher.finish())
        });
        Self { from, len: entries.len(), fingerprint }
    }
}

impl Holder {
    /// Nothing is held.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True while a reading is held.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Judges a reading against the one that serves, if any does.
    pub fn offer(&mut self, serving: Option<&ReadingDigest>, reading: ReadingDigest) -> Verdict {
        let Some(reason) = suspicion(serving, &reading) else {
            return self.accept();
        };
        let agreed = |claim: &Claim| claim.from != reading.from && claim.fingerprint == reading.fingerprint;
        if self.claims.iter().any(agreed) {
            return self.accept();
        }
        // A member that is heard again begins a new round.
        if self.round.contains(&reading.from) {
            self.round.clear();
        }
        // Whoever says otherwise interrupts what the others said in a row.
        for claim in self.claims.iter_mut().filter(|claim| claim.from != reading.from) {
            claim.streak = 0;
        }
        self.round.push(reading.from.clone());
        self.reason = reason;
        match self.claims.iter_mut().find(|claim| claim.from == reading.from) {
            Some(claim) if claim.fingerprint == reading.fingerprint => claim.streak += 1,
            Some(claim) => {
                claim.fingerprint = reading.fingerprint;
                claim.streak = 1;
            }
            None => {
                self.claims.push(Claim { from: reading.from, fingerprint: reading.fingerprint, streak: 1 })
            }
        }
        Verdict::AskAnother
    }

    /// The verdict on the last offered reading when every other member was asked or is silent.
    pub fn nobody_else_answers(&mut self) -> Verdict {
        let round = std::mem::take(&mut self.round);
        if round.len() > 1 {
            for claim in &mut self.claims {
                claim.streak = 0;
            }
            return Verdict::Hold { reason: format!("{}, and the members disagree", self.reason) };
        }
        let streak = self
            .claims
            .iter()
            .find(|claim| round.first() == Some(&claim.from))
            .map_or(0, |claim| claim.streak);
        if streak >= IN_A_ROW {
            return self.accept();
        }
        Verdict::Hold { reason: format!("{}, reading {streak} of {IN_A_ROW} that says so", self.reason) }
    }

    fn accept(&mut self) -> Verdict {
        self.claims.clear();
        self.round.clear();
        self.reason.clear();
        Verdict::Accept
    }
}

/// Why a reading is not believed at once.
fn suspicion(serving: Option<&ReadingDigest>, reading: &ReadingDigest) -> Option<String> {
    if serving.is_some_and(|old| old.fingerprint == reading.fingerprint && old.len == reading.len) {
        return None;
    }
    if reading.len == 0 {
        return Some(format!("the directory of {} is empty", reading.from));
    }
    let old = serving?.len;
    let lost = old.saturating_sub(reading.len);
    (lost.saturating_mul(5) > old)
        .then(|| format!("the directory of {} has lost {lost} of {old} entries", reading.from))
}

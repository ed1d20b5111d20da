//! Whether a reading of the cluster directory may replace the one that serves.
//!
//! In: digests of readings, from whom they are. Out: a [`Verdict`]. A reading that is empty or has
//! lost over a fifth of its entries is held until another member agrees, or three readings in a row say
//! the same and no other member that answers disagrees; till then the old one serves. A damaged
//! replica of cldbdir.nsf must not send every user to an error page. A reading that says itself that it is incomplete is
//! held whatever it has lost, and that another one is incomplete in the same way proves nothing. Pure: no clock, no
//! socket.

use crate::domain::cluster::ServerName;
use crate::domain::directory::index::Draft;

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
    /// The last reading takes nothing away: nothing serves, or the same.
    takes_nothing: bool,
}

#[derive(Clone, Debug)]
struct Claim {
    from: ServerName,
    fingerprint: u64,
    /// How often in a row this member has said so, with nobody disagreeing.
    streak: u32,
}

impl ReadingDigest {
    /// Of a directory as it was read. Titles do not count.
    #[must_use]
    pub fn of(from: ServerName, draft: &Draft) -> Self {
        Self { from, len: draft.len(), fingerprint: draft.fingerprint() }
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

    /// Judges a reading against the one that serves, if any does. `truncated`: why the reading itself says that it is
    /// incomplete.
    pub fn offer(
        &mut self,
        serving: Option<&ReadingDigest>,
        reading: ReadingDigest,
        truncated: Option<&str>,
    ) -> Verdict {
        let is_same =
            serving.is_some_and(|old| old.fingerprint == reading.fingerprint && old.len == reading.len);
        let Some(reason) = suspicion(serving.filter(|_| !is_same), &reading, truncated) else {
            return self.accept();
        };
        let agreed = |claim: &Claim| claim.from != reading.from && claim.fingerprint == reading.fingerprint;
        if truncated.is_none() && (is_same || self.claims.iter().any(agreed)) {
            return self.accept();
        }
        self.takes_nothing = truncated.is_some() && (is_same || (serving.is_none() && reading.len > 0));
        // A member that is heard again begins a new round.
        if self.round.contains(&reading.from) {
            self.round.clear();
        }
        // Whoever says otherwise interrupts what the others said in a row.
        let differs =
            |claim: &&mut Claim| claim.from != reading.from && claim.fingerprint != reading.fingerprint;
        for claim in self.claims.iter_mut().filter(differs) {
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
        if self.takes_nothing {
            return self.accept();
        }
        let said = || self.claims.iter().filter(|claim| round.contains(&claim.from));
        if said().any(|claim| said().any(|other| other.fingerprint != claim.fingerprint)) {
            for claim in &mut self.claims {
                claim.streak = 0;
            }
            return Verdict::Hold { reason: format!("{}, and the members disagree", self.reason) };
        }
        let streak = said().map(|claim| claim.streak).max().unwrap_or(0);
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
fn suspicion(
    serving: Option<&ReadingDigest>,
    reading: &ReadingDigest,
    truncated: Option<&str>,
) -> Option<String> {
    if let Some(why) = truncated {
        return Some(format!("the directory of {} is incomplete: {why}", reading.from));
    }
    if reading.len == 0 {
        return Some(format!("the directory of {} is empty", reading.from));
    }
    let old = serving?.len;
    let lost = old.saturating_sub(reading.len);
    (lost.saturating_mul(5) > old)
        .then(|| format!("the directory of {} has lost {lost} of {old} entries", reading.from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::directory::{Entry, Mark, ReplicaId};
    use proptest::prelude::*;

    fn digest(from: &str, len: usize, fingerprint: u64) -> ReadingDigest {
        ReadingDigest { from: ServerName::parse(from).unwrap(), len, fingerprint }
    }

    fn is_hold(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Hold { .. })
    }

    #[test]
    fn a_first_reading_serves_at_once_unless_it_is_empty() {
        let mut holder = Holder::new();
        assert_eq!(holder.offer(None, digest("Web1/Acme", 1, 1), None), Verdict::Accept);
        assert_eq!(holder.offer(None, digest("Web1/Acme", 0, 0), None), Verdict::AskAnother);
        assert!(is_hold(&holder.nobody_else_answers()));
    }

    #[test]
    fn a_fifth_may_be_lost_and_not_one_entry_more() {
        let serving = digest("Web1/Acme", 100, 1);
        assert_eq!(Holder::new().offer(Some(&serving), digest("Web1/Acme", 80, 2), None), Verdict::Accept);
        assert_eq!(
            Holder::new().offer(Some(&serving), digest("Web1/Acme", 79, 2), None),
            Verdict::AskAnother
        );
        assert_eq!(Holder::new().offer(Some(&serving), digest("Web1/Acme", 500, 2), None), Verdict::Accept);
        let small = digest("Web1/Acme", 4, 1);
        assert_eq!(Holder::new().offer(Some(&small), digest("Web1/Acme", 3, 2), None), Verdict::AskAnother);
    }

    #[test]
    fn an_empty_directory_that_serves_may_be_read_again() {
        let serving = digest("Web1/Acme", 0, 0);
        assert_eq!(Holder::new().offer(Some(&serving), digest("Web2/Acme", 0, 0), None), Verdict::Accept);
    }

    #[test]
    fn another_member_that_agrees_makes_it_believed() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        assert_eq!(holder.offer(Some(&serving), digest("Web1/Acme", 10, 2), None), Verdict::AskAnother);
        assert_eq!(holder.offer(Some(&serving), digest("Web2/Acme", 10, 2), None), Verdict::Accept);
        assert!(!holder.is_holding());
    }

    #[test]
    fn the_same_member_twice_is_no_agreement() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        for _ in 0..2 {
            assert_eq!(holder.offer(Some(&serving), digest("Web1/Acme", 10, 2), None), Verdict::AskAnother);
        }
        assert!(is_hold(&holder.nobody_else_answers()));
    }

    #[test]
    fn three_readings_in_a_row_are_believed_when_nobody_else_answers() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        for round in 1..=3 {
            assert_eq!(holder.offer(Some(&serving), digest("Web1/Acme", 0, 2), None), Verdict::AskAnother);
            let verdict = holder.nobody_else_answers();
            assert_eq!(verdict == Verdict::Accept, round == 3, "{round}: {verdict:?}");
            assert_eq!(holder.is_holding(), round < 3);
        }
    }

    #[test]
    fn a_reading_that_says_something_else_interrupts_the_row() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        for fingerprint in [2, 2, 3, 3] {
            let _ = holder.offer(Some(&serving), digest("Web1/Acme", 10, fingerprint), None);
            assert!(is_hold(&holder.nobody_else_answers()));
        }
        let _ = holder.offer(Some(&serving), digest("Web1/Acme", 10, 3), None);
        assert_eq!(holder.nobody_else_answers(), Verdict::Accept);
    }

    #[test]
    fn another_member_that_answers_and_disagrees_keeps_the_old_one_serving() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        for _ in 0..5 {
            assert_eq!(holder.offer(Some(&serving), digest("Web1/Acme", 10, 2), None), Verdict::AskAnother);
            assert_eq!(holder.offer(Some(&serving), digest("Web2/Acme", 20, 3), None), Verdict::AskAnother);
            assert!(is_hold(&holder.nobody_else_answers()));
        }
    }

    #[test]
    fn another_member_with_a_whole_directory_serves_and_the_row_begins_anew() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        for _ in 0..2 {
            let _ = holder.offer(Some(&serving), digest("Web1/Acme", 10, 2), None);
            assert!(is_hold(&holder.nobody_else_answers()));
        }
        let _ = holder.offer(Some(&serving), digest("Web1/Acme", 10, 2), None);
        assert_eq!(holder.offer(Some(&serving), digest("Web2/Acme", 99, 4), None), Verdict::Accept);
        let _ = holder.offer(Some(&serving), digest("Web1/Acme", 10, 2), None);
        assert!(is_hold(&holder.nobody_else_answers()));
    }

    #[test]
    fn a_third_member_may_agree_with_the_first() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        assert_eq!(holder.offer(Some(&serving), digest("Web1/Acme", 10, 2), None), Verdict::AskAnother);
        assert_eq!(holder.offer(Some(&serving), digest("Web2/Acme", 0, 0), None), Verdict::AskAnother);
        assert_eq!(holder.offer(Some(&serving), digest("Web3/Acme", 10, 2), None), Verdict::Accept);
    }

    const MORE: Option<&str> = Some("80 of 100 top level entries came");

    #[test]
    fn a_reading_that_says_itself_that_it_is_incomplete_is_held_also_within_the_fifth() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut holder = Holder::new();
        for round in 1..=3 {
            // Both are incomplete in the same way: neither confirms the other, and they do not disagree.
            for from in ["Web1/Acme", "Web2/Acme"] {
                assert_eq!(holder.offer(Some(&serving), digest(from, 90, 2), MORE), Verdict::AskAnother);
            }
            let verdict = holder.nobody_else_answers();
            assert_eq!(verdict == Verdict::Accept, round == 3, "{round}: {verdict:?}");
        }
    }

    #[test]
    fn a_complete_reading_serves_beside_an_incomplete_one() {
        let serving = digest("Web1/Acme", 100, 1);
        for (len, fingerprint) in [(100, 1), (90, 2), (99, 3)] {
            let mut holder = Holder::new();
            assert_eq!(holder.offer(Some(&serving), digest("Web1/Acme", 90, 2), MORE), Verdict::AskAnother);
            let whole = digest("Web2/Acme", len, fingerprint);
            assert_eq!(holder.offer(Some(&serving), whole, None), Verdict::Accept);
            assert!(!holder.is_holding());
        }
    }

    #[test]
    fn an_incomplete_reading_that_takes_nothing_away_serves_when_nobody_has_a_complete_one() {
        let serving = digest("Web1/Acme", 90, 2);
        for serving in [None, Some(&serving)] {
            let mut holder = Holder::new();
            assert_eq!(holder.offer(serving, digest("Web1/Acme", 90, 2), MORE), Verdict::AskAnother);
            assert_eq!(holder.nobody_else_answers(), Verdict::Accept);
        }
    }

    fn entries() -> Vec<Entry> {
        let entry = |path: &str, server: &str| Entry {
            path: path.to_owned(),
            server: ServerName::parse(server).unwrap(),
            replica_id: ReplicaId(7),
            title: String::new(),
            mark: Mark::InService,
        };
        vec![entry("mail\\jdoe.nsf", "Web1/Acme"), entry("a.nsf", "Web2/Acme"), entry("b.nsf", "Web2/Acme")]
    }

    #[test]
    fn order_case_and_separators_leave_the_fingerprint_alone_and_a_mark_does_not() {
        let of = |entries: &[Entry]| {
            let mut draft = Draft::default();
            entries.iter().for_each(|entry| draft.add(entry));
            ReadingDigest::of(ServerName::parse("Web1/Acme").unwrap(), &draft)
        };
        let mut other = entries();
        other.rotate_left(1);
        if let Some(entry) = other.last_mut() {
            entry.path = "Mail/JDoe.nsf".to_owned();
        }
        assert_eq!(of(&other), of(&entries()));
        if let Some(entry) = other.first_mut() {
            entry.mark = Mark::OutOfService;
        }
        assert_ne!(of(&other), of(&entries()));
    }

    proptest! {
        #[test]
        fn nothing_suspicious_is_ever_accepted_from_fewer_than_two_members_or_three_readings(
            readings in proptest::collection::vec((0_u8..3, 0_usize..70, any::<bool>()), 1..12)
        ) {
            let serving = digest("Web1/Acme", 100, 999);
            let mut holder = Holder::new();
            let mut told: Vec<(String, usize)> = Vec::new();
            for (member, len, alone) in readings {
                let from = format!("Web{member}/Acme");
                told.push((from.clone(), len));
                let mut verdict = holder.offer(Some(&serving), digest(&from, len, len as u64), None);
                if verdict == Verdict::AskAnother && alone {
                    verdict = holder.nobody_else_answers();
                }
                if verdict == Verdict::Accept {
                    let same: Vec<&String> =
                        told.iter().filter(|(_, other)| *other == len).map(|(from, _)| from).collect();
                    prop_assert!(same.len() >= 3 || same.iter().any(|other| **other != from));
                    told.clear();
                }
            }
        }
    }
}

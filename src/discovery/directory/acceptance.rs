//! Whether a reading of the cluster directory may replace the one that serves.
//!
//! In: digests of readings, from whom they are. Out: a [`ReadingVerdict`]. A reading that is empty or has
//! lost over a fifth of its entries is held until another member agrees, or three readings in a row say
//! the same and no other member that answers disagrees; till then the old one serves. A damaged
//! replica of cldbdir.nsf must not send every user to an error page. A reading that says itself that it is incomplete is
//! held whatever it has lost, and that another one is incomplete in the same way proves nothing. Pure: no clock, no
//! socket.

use crate::domain::cluster::ServerName;
use crate::domain::directory::index::DirectoryBuilder;

/// Readings in a row that are believed without a second member.
const MIN_CONSECUTIVE_READINGS: u32 = 3;

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
pub enum ReadingVerdict {
    /// It may serve.
    Accept,
    /// The old one serves on.
    Hold {
        /// For log and status page.
        reason: String,
    },
    /// Read the directory from a member that was not asked yet, and offer that reading; if no other
    /// member answers, call [`ReadingValidator::no_more_servers`].
    AskAnotherServer,
}

/// Remembers the readings that are held.
#[derive(Clone, Debug, Default)]
pub struct ReadingValidator {
    /// The last suspicious reading of each member.
    held_readings: Vec<HeldReading>,
    /// Who was heard since the last verdict.
    asked_servers: Vec<ServerName>,
    reason: String,
    /// The last reading takes nothing away: nothing serves, or the same.
    loses_nothing: bool,
}

#[derive(Clone, Debug)]
struct HeldReading {
    from: ServerName,
    fingerprint: u64,
    /// How often in a row this member has said so, with nobody disagreeing.
    streak: u32,
}

impl ReadingDigest {
    /// Of a directory as it was read. Titles do not count.
    #[must_use]
    pub fn of(from: ServerName, builder: &DirectoryBuilder) -> Self {
        Self { from, len: builder.len(), fingerprint: builder.fingerprint() }
    }
}

impl ReadingValidator {
    /// Nothing is held.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True while a reading is held.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held_readings.is_empty()
    }

    /// Judges a reading against the one that serves, if any does. `truncated`: why the reading itself says that it is
    /// incomplete.
    pub fn evaluate(
        &mut self,
        serving: Option<&ReadingDigest>,
        reading: ReadingDigest,
        truncated: Option<&str>,
    ) -> ReadingVerdict {
        let is_same =
            serving.is_some_and(|old| old.fingerprint == reading.fingerprint && old.len == reading.len);
        let Some(reason) = suspicion_reason(serving.filter(|_| !is_same), &reading, truncated) else {
            return self.accept();
        };
        let agreed = |held_reading: &HeldReading| {
            held_reading.from != reading.from && held_reading.fingerprint == reading.fingerprint
        };
        if truncated.is_none() && (is_same || self.held_readings.iter().any(agreed)) {
            return self.accept();
        }
        self.loses_nothing = truncated.is_some() && (is_same || (serving.is_none() && reading.len > 0));
        // A member that is heard again begins a new round.
        if self.asked_servers.contains(&reading.from) {
            self.asked_servers.clear();
        }
        // Whoever says otherwise interrupts what the others said in a row.
        let differs = |held_reading: &&mut HeldReading| {
            held_reading.from != reading.from && held_reading.fingerprint != reading.fingerprint
        };
        for held_reading in self.held_readings.iter_mut().filter(differs) {
            held_reading.streak = 0;
        }
        self.asked_servers.push(reading.from.clone());
        self.reason = reason;
        match self.held_readings.iter_mut().find(|held_reading| held_reading.from == reading.from) {
            Some(held_reading) if held_reading.fingerprint == reading.fingerprint => held_reading.streak += 1,
            Some(held_reading) => {
                held_reading.fingerprint = reading.fingerprint;
                held_reading.streak = 1;
            }
            None => self.held_readings.push(HeldReading {
                from: reading.from,
                fingerprint: reading.fingerprint,
                streak: 1,
            }),
        }
        ReadingVerdict::AskAnotherServer
    }

    /// The verdict on the last offered reading when every other member was asked or is silent.
    pub fn no_more_servers(&mut self) -> ReadingVerdict {
        let asked_servers = std::mem::take(&mut self.asked_servers);
        if self.loses_nothing {
            return self.accept();
        }
        let said =
            || self.held_readings.iter().filter(|held_reading| asked_servers.contains(&held_reading.from));
        if said().any(|held_reading| said().any(|other| other.fingerprint != held_reading.fingerprint)) {
            for held_reading in &mut self.held_readings {
                held_reading.streak = 0;
            }
            return ReadingVerdict::Hold { reason: format!("{}, and the members disagree", self.reason) };
        }
        let streak = said().map(|held_reading| held_reading.streak).max().unwrap_or(0);
        if streak >= MIN_CONSECUTIVE_READINGS {
            return self.accept();
        }
        ReadingVerdict::Hold {
            reason: format!("{}, reading {streak} of {MIN_CONSECUTIVE_READINGS} that says so", self.reason),
        }
    }

    fn accept(&mut self) -> ReadingVerdict {
        self.held_readings.clear();
        self.asked_servers.clear();
        self.reason.clear();
        ReadingVerdict::Accept
    }
}

/// Why a reading is not believed at once.
fn suspicion_reason(
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
    use crate::domain::directory::{DirectoryEntry, ReplicaId, ReplicaStatus};
    use proptest::prelude::*;

    fn digest(from: &str, len: usize, fingerprint: u64) -> ReadingDigest {
        ReadingDigest { from: ServerName::parse(from).unwrap(), len, fingerprint }
    }

    fn is_hold(verdict: &ReadingVerdict) -> bool {
        matches!(verdict, ReadingVerdict::Hold { .. })
    }

    #[test]
    fn a_first_reading_serves_at_once_unless_it_is_empty() {
        let mut validator = ReadingValidator::new();
        assert_eq!(validator.evaluate(None, digest("Web1/Acme", 1, 1), None), ReadingVerdict::Accept);
        assert_eq!(
            validator.evaluate(None, digest("Web1/Acme", 0, 0), None),
            ReadingVerdict::AskAnotherServer
        );
        assert!(is_hold(&validator.no_more_servers()));
    }

    #[test]
    fn a_fifth_may_be_lost_and_not_one_entry_more() {
        let serving = digest("Web1/Acme", 100, 1);
        assert_eq!(
            ReadingValidator::new().evaluate(Some(&serving), digest("Web1/Acme", 80, 2), None),
            ReadingVerdict::Accept
        );
        assert_eq!(
            ReadingValidator::new().evaluate(Some(&serving), digest("Web1/Acme", 79, 2), None),
            ReadingVerdict::AskAnotherServer
        );
        assert_eq!(
            ReadingValidator::new().evaluate(Some(&serving), digest("Web1/Acme", 500, 2), None),
            ReadingVerdict::Accept
        );
        let small = digest("Web1/Acme", 4, 1);
        assert_eq!(
            ReadingValidator::new().evaluate(Some(&small), digest("Web1/Acme", 3, 2), None),
            ReadingVerdict::AskAnotherServer
        );
    }

    #[test]
    fn an_empty_directory_that_serves_may_be_read_again() {
        let serving = digest("Web1/Acme", 0, 0);
        assert_eq!(
            ReadingValidator::new().evaluate(Some(&serving), digest("Web2/Acme", 0, 0), None),
            ReadingVerdict::Accept
        );
    }

    #[test]
    fn another_member_that_agrees_makes_it_believed() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        assert_eq!(
            validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 2), None),
            ReadingVerdict::AskAnotherServer
        );
        assert_eq!(
            validator.evaluate(Some(&serving), digest("Web2/Acme", 10, 2), None),
            ReadingVerdict::Accept
        );
        assert!(!validator.is_holding());
    }

    #[test]
    fn the_same_member_twice_is_no_agreement() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        for _ in 0..2 {
            assert_eq!(
                validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 2), None),
                ReadingVerdict::AskAnotherServer
            );
        }
        assert!(is_hold(&validator.no_more_servers()));
    }

    #[test]
    fn three_readings_in_a_row_are_believed_when_nobody_else_answers() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        for asked_servers in 1..=3 {
            assert_eq!(
                validator.evaluate(Some(&serving), digest("Web1/Acme", 0, 2), None),
                ReadingVerdict::AskAnotherServer
            );
            let verdict = validator.no_more_servers();
            assert_eq!(verdict == ReadingVerdict::Accept, asked_servers == 3, "{asked_servers}: {verdict:?}");
            assert_eq!(validator.is_holding(), asked_servers < 3);
        }
    }

    #[test]
    fn a_reading_that_says_something_else_interrupts_the_row() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        for fingerprint in [2, 2, 3, 3] {
            let _ = validator.evaluate(Some(&serving), digest("Web1/Acme", 10, fingerprint), None);
            assert!(is_hold(&validator.no_more_servers()));
        }
        let _ = validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 3), None);
        assert_eq!(validator.no_more_servers(), ReadingVerdict::Accept);
    }

    #[test]
    fn another_member_that_answers_and_disagrees_keeps_the_old_one_serving() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        for _ in 0..5 {
            assert_eq!(
                validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 2), None),
                ReadingVerdict::AskAnotherServer
            );
            assert_eq!(
                validator.evaluate(Some(&serving), digest("Web2/Acme", 20, 3), None),
                ReadingVerdict::AskAnotherServer
            );
            assert!(is_hold(&validator.no_more_servers()));
        }
    }

    #[test]
    fn another_member_with_a_whole_directory_serves_and_the_row_begins_anew() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        for _ in 0..2 {
            let _ = validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 2), None);
            assert!(is_hold(&validator.no_more_servers()));
        }
        let _ = validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 2), None);
        assert_eq!(
            validator.evaluate(Some(&serving), digest("Web2/Acme", 99, 4), None),
            ReadingVerdict::Accept
        );
        let _ = validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 2), None);
        assert!(is_hold(&validator.no_more_servers()));
    }

    #[test]
    fn a_third_member_may_agree_with_the_first() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        assert_eq!(
            validator.evaluate(Some(&serving), digest("Web1/Acme", 10, 2), None),
            ReadingVerdict::AskAnotherServer
        );
        assert_eq!(
            validator.evaluate(Some(&serving), digest("Web2/Acme", 0, 0), None),
            ReadingVerdict::AskAnotherServer
        );
        assert_eq!(
            validator.evaluate(Some(&serving), digest("Web3/Acme", 10, 2), None),
            ReadingVerdict::Accept
        );
    }

    const MORE: Option<&str> = Some("80 of 100 top level entries came");

    #[test]
    fn a_reading_that_says_itself_that_it_is_incomplete_is_held_also_within_the_fifth() {
        let serving = digest("Web1/Acme", 100, 1);
        let mut validator = ReadingValidator::new();
        for asked_servers in 1..=3 {
            // Both are incomplete in the same way: neither confirms the other, and they do not disagree.
            for from in ["Web1/Acme", "Web2/Acme"] {
                assert_eq!(
                    validator.evaluate(Some(&serving), digest(from, 90, 2), MORE),
                    ReadingVerdict::AskAnotherServer
                );
            }
            let verdict = validator.no_more_servers();
            assert_eq!(verdict == ReadingVerdict::Accept, asked_servers == 3, "{asked_servers}: {verdict:?}");
        }
    }

    #[test]
    fn a_complete_reading_serves_beside_an_incomplete_one() {
        let serving = digest("Web1/Acme", 100, 1);
        for (len, fingerprint) in [(100, 1), (90, 2), (99, 3)] {
            let mut validator = ReadingValidator::new();
            assert_eq!(
                validator.evaluate(Some(&serving), digest("Web1/Acme", 90, 2), MORE),
                ReadingVerdict::AskAnotherServer
            );
            let whole = digest("Web2/Acme", len, fingerprint);
            assert_eq!(validator.evaluate(Some(&serving), whole, None), ReadingVerdict::Accept);
            assert!(!validator.is_holding());
        }
    }

    #[test]
    fn an_incomplete_reading_that_takes_nothing_away_serves_when_nobody_has_a_complete_one() {
        let serving = digest("Web1/Acme", 90, 2);
        for serving in [None, Some(&serving)] {
            let mut validator = ReadingValidator::new();
            assert_eq!(
                validator.evaluate(serving, digest("Web1/Acme", 90, 2), MORE),
                ReadingVerdict::AskAnotherServer
            );
            assert_eq!(validator.no_more_servers(), ReadingVerdict::Accept);
        }
    }

    fn entries() -> Vec<DirectoryEntry> {
        let entry = |path: &str, server: &str| DirectoryEntry {
            path: path.to_owned(),
            server: ServerName::parse(server).unwrap(),
            replica_id: ReplicaId(7),
            title: String::new(),
            status: ReplicaStatus::InService,
        };
        vec![entry("mail\\jdoe.nsf", "Web1/Acme"), entry("a.nsf", "Web2/Acme"), entry("b.nsf", "Web2/Acme")]
    }

    #[test]
    fn order_case_and_separators_leave_the_fingerprint_alone_and_a_mark_does_not() {
        let of = |entries: &[DirectoryEntry]| {
            let mut builder = DirectoryBuilder::default();
            entries.iter().for_each(|entry| builder.add(entry));
            ReadingDigest::of(ServerName::parse("Web1/Acme").unwrap(), &builder)
        };
        let mut other = entries();
        other.rotate_left(1);
        if let Some(entry) = other.last_mut() {
            entry.path = "Mail/JDoe.nsf".to_owned();
        }
        assert_eq!(of(&other), of(&entries()));
        if let Some(entry) = other.first_mut() {
            entry.status = ReplicaStatus::OutOfService;
        }
        assert_ne!(of(&other), of(&entries()));
    }

    proptest! {
        #[test]
        fn nothing_suspicious_is_ever_accepted_from_fewer_than_two_members_or_three_readings(
            readings in proptest::collection::vec((0_u8..3, 0_usize..70, any::<bool>()), 1..12)
        ) {
            let serving = digest("Web1/Acme", 100, 999);
            let mut validator = ReadingValidator::new();
            let mut told: Vec<(String, usize)> = Vec::new();
            for (member, len, alone) in readings {
                let from = format!("Web{member}/Acme");
                told.push((from.clone(), len));
                let mut verdict = validator.evaluate(Some(&serving), digest(&from, len, len as u64), None);
                if verdict == ReadingVerdict::AskAnotherServer && alone {
                    verdict = validator.no_more_servers();
                }
                if verdict == ReadingVerdict::Accept {
                    let same: Vec<&String> =
                        told.iter().filter(|(_, other)| *other == len).map(|(from, _)| from).collect();
                    prop_assert!(same.len() >= 3 || same.iter().any(|other| **other != from));
                    told.clear();
                }
            }
        }
    }
}

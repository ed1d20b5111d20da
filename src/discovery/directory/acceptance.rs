//! Decides whether a reading of the cluster directory may replace the directory in use, so that a damaged replica of
//! cldbdir.nsf does not send every user to an error page.
//!
//! A reading that is empty or lost more than a fifth of the entries is held until another server confirms it, or until
//! three readings in a row are equal and no other server disagrees. A reading that is known to be incomplete is always
//! held, and another incomplete reading does not confirm it.

use crate::domain::cluster::ServerName;
use crate::domain::directory::index::DirectoryBuilder;

/// Equal readings in a row that are accepted without confirmation by another server.
const MIN_CONSECUTIVE_READINGS: u32 = 3;

/// What is needed to compare two readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingDigest {
    pub from: ServerName,
    /// The number of entries.
    pub len: usize,
    /// Equal for the same entries in any order; titles do not count.
    pub fingerprint: u64,
}

/// What to do with a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadingVerdict {
    Accept,
    /// The current directory stays in use.
    Hold {
        reason: String,
    },
    /// Evaluate the reading of a server that was not asked yet. If none answers, call
    /// [`ReadingValidator::no_more_servers`].
    AskAnotherServer,
}

/// The readings that are held.
#[derive(Clone, Debug, Default)]
pub struct ReadingValidator {
    /// The last suspicious reading of each server.
    held_readings: Vec<HeldReading>,
    /// The servers that answered since the last verdict.
    asked_servers: Vec<ServerName>,
    /// Why the last reading is held.
    reason: String,
    /// The last reading removes no entry from the directory in use.
    loses_nothing: bool,
}

#[derive(Clone, Debug)]
struct HeldReading {
    from: ServerName,
    fingerprint: u64,
    /// How often in a row this server gave the same reading, while no other server disagreed.
    streak: u32,
}

impl ReadingDigest {
    #[must_use]
    pub fn of(from: ServerName, builder: &DirectoryBuilder) -> Self {
        Self { from, len: builder.len(), fingerprint: builder.fingerprint() }
    }
}

impl ReadingValidator {
    /// Compares a reading with the directory in use. `truncated` = why the reading is incomplete.
    pub fn evaluate(
        &mut self,
        current: Option<&ReadingDigest>,
        reading: ReadingDigest,
        truncated: Option<&str>,
    ) -> ReadingVerdict {
        let is_same =
            current.is_some_and(|old| old.fingerprint == reading.fingerprint && old.len == reading.len);
        let Some(reason) = suspicion_reason(current.filter(|_| !is_same), &reading, truncated) else {
            return self.accept();
        };
        let confirms =
            |held: &HeldReading| held.from != reading.from && held.fingerprint == reading.fingerprint;
        if truncated.is_none() && (is_same || self.held_readings.iter().any(confirms)) {
            return self.accept();
        }
        self.loses_nothing = truncated.is_some() && (is_same || (current.is_none() && reading.len > 0));
        // A server that answers again begins a new round.
        if self.asked_servers.contains(&reading.from) {
            self.asked_servers.clear();
        }
        for held in &mut self.held_readings {
            if held.from != reading.from && held.fingerprint != reading.fingerprint {
                held.streak = 0;
            }
        }
        self.asked_servers.push(reading.from.clone());
        self.reason = reason;
        let fingerprint = reading.fingerprint;
        match self.held_readings.iter_mut().find(|held| held.from == reading.from) {
            Some(held) if held.fingerprint == fingerprint => held.streak += 1,
            Some(held) => (held.fingerprint, held.streak) = (fingerprint, 1),
            None => self.held_readings.push(HeldReading { from: reading.from, fingerprint, streak: 1 }),
        }
        ReadingVerdict::AskAnotherServer
    }

    /// The verdict on the last reading, after all other servers were asked.
    pub fn no_more_servers(&mut self) -> ReadingVerdict {
        let asked_servers = std::mem::take(&mut self.asked_servers);
        if self.loses_nothing {
            return self.accept();
        }
        let answers = || self.held_readings.iter().filter(|held| asked_servers.contains(&held.from));
        if answers().any(|held| answers().any(|other| other.fingerprint != held.fingerprint)) {
            for held in &mut self.held_readings {
                held.streak = 0;
            }
            return ReadingVerdict::Hold { reason: format!("{}, and the servers disagree", self.reason) };
        }
        let streak = answers().map(|held| held.streak).max().unwrap_or(0);
        if streak >= MIN_CONSECUTIVE_READINGS {
            return self.accept();
        }
        ReadingVerdict::Hold {
            reason: format!(
                "{}, reading {streak} of {MIN_CONSECUTIVE_READINGS} with this result",
                self.reason
            ),
        }
    }

    fn accept(&mut self) -> ReadingVerdict {
        self.held_readings.clear();
        self.asked_servers.clear();
        self.reason.clear();
        ReadingVerdict::Accept
    }
}

/// Why a reading is not accepted at once.
fn suspicion_reason(
    current: Option<&ReadingDigest>,
    reading: &ReadingDigest,
    truncated: Option<&str>,
) -> Option<String> {
    if let Some(why) = truncated {
        return Some(format!("the directory of {} is incomplete: {why}", reading.from));
    }
    if reading.len == 0 {
        return Some(format!("the directory of {} is empty", reading.from));
    }
    let old = current?.len;
    let lost = old.saturating_sub(reading.len);
    (lost.saturating_mul(5) > old)
        .then(|| format!("the directory of {} lost {lost} of {old} entries", reading.from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::ReadingVerdict::{Accept, AskAnotherServer, Hold};
    use super::*;
    use crate::domain::directory::{DirectoryEntry, ReplicaId, ReplicaStatus};
    use proptest::prelude::*;

    fn digest(from: &str, len: usize, fingerprint: u64) -> ReadingDigest {
        let from = ServerName::parse(&format!("{from}/Acme")).unwrap();
        ReadingDigest { from, len, fingerprint }
    }

    fn is_hold(verdict: &ReadingVerdict) -> bool {
        matches!(verdict, Hold { .. })
    }

    #[test]
    fn the_first_reading_is_accepted_unless_it_is_empty() {
        let mut validator = ReadingValidator::default();
        assert_eq!(validator.evaluate(None, digest("Web1", 1, 1), None), Accept);
        assert_eq!(validator.evaluate(None, digest("Web1", 0, 0), None), AskAnotherServer);
        assert!(is_hold(&validator.no_more_servers()));
    }

    #[test]
    fn a_reading_may_lose_a_fifth_of_the_entries_but_not_more() {
        for (old, new, verdict) in
            [(100, 80, Accept), (100, 79, AskAnotherServer), (100, 500, Accept), (4, 3, AskAnotherServer)]
        {
            let (current, reading) = (digest("Web1", old, 1), digest("Web1", new, 2));
            assert_eq!(ReadingValidator::default().evaluate(Some(&current), reading, None), verdict, "{new}");
        }
    }

    #[test]
    fn an_empty_directory_may_be_replaced_by_an_empty_one() {
        let current = digest("Web1", 0, 0);
        assert_eq!(ReadingValidator::default().evaluate(Some(&current), digest("Web2", 0, 0), None), Accept);
    }

    #[test]
    fn a_suspicious_reading_is_accepted_when_another_server_confirms_it() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        assert_eq!(validator.evaluate(Some(&current), digest("Web1", 10, 2), None), AskAnotherServer);
        assert_eq!(validator.evaluate(Some(&current), digest("Web2", 10, 2), None), Accept);
        assert!(validator.held_readings.is_empty());
    }

    #[test]
    fn the_same_server_cannot_confirm_its_own_reading() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        for _ in 0..2 {
            assert_eq!(validator.evaluate(Some(&current), digest("Web1", 10, 2), None), AskAnotherServer);
        }
        assert!(is_hold(&validator.no_more_servers()));
    }

    #[test]
    fn three_equal_readings_are_accepted_when_no_other_server_answers() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        for round in 1..=3 {
            assert_eq!(validator.evaluate(Some(&current), digest("Web1", 0, 2), None), AskAnotherServer);
            let verdict = validator.no_more_servers();
            assert_eq!(verdict == Accept, round == 3, "{round}: {verdict:?}");
            assert_eq!(validator.held_readings.is_empty(), round == 3);
        }
    }

    #[test]
    fn a_different_reading_restarts_the_count() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        for fingerprint in [2, 2, 3, 3] {
            let _ = validator.evaluate(Some(&current), digest("Web1", 10, fingerprint), None);
            assert!(is_hold(&validator.no_more_servers()));
        }
        let _ = validator.evaluate(Some(&current), digest("Web1", 10, 3), None);
        assert_eq!(validator.no_more_servers(), Accept);
    }

    #[test]
    fn a_reading_is_held_while_another_server_disagrees() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        for _ in 0..5 {
            assert_eq!(validator.evaluate(Some(&current), digest("Web1", 10, 2), None), AskAnotherServer);
            assert_eq!(validator.evaluate(Some(&current), digest("Web2", 20, 3), None), AskAnotherServer);
            assert!(is_hold(&validator.no_more_servers()));
        }
    }

    #[test]
    fn a_complete_reading_of_another_server_is_accepted_and_restarts_the_count() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        for _ in 0..2 {
            let _ = validator.evaluate(Some(&current), digest("Web1", 10, 2), None);
            assert!(is_hold(&validator.no_more_servers()));
        }
        let _ = validator.evaluate(Some(&current), digest("Web1", 10, 2), None);
        assert_eq!(validator.evaluate(Some(&current), digest("Web2", 99, 4), None), Accept);
        let _ = validator.evaluate(Some(&current), digest("Web1", 10, 2), None);
        assert!(is_hold(&validator.no_more_servers()));
    }

    #[test]
    fn a_third_server_may_confirm_the_first() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        assert_eq!(validator.evaluate(Some(&current), digest("Web1", 10, 2), None), AskAnotherServer);
        assert_eq!(validator.evaluate(Some(&current), digest("Web2", 0, 0), None), AskAnotherServer);
        assert_eq!(validator.evaluate(Some(&current), digest("Web3", 10, 2), None), Accept);
    }

    const INCOMPLETE: Option<&str> = Some("only 80 of 100 top-level entries were received");

    #[test]
    fn an_incomplete_reading_is_held_even_if_it_lost_less_than_a_fifth() {
        let current = digest("Web1", 100, 1);
        let mut validator = ReadingValidator::default();
        for round in 1..=3 {
            // Two equal incomplete readings neither confirm each other nor disagree.
            for from in ["Web1", "Web2"] {
                assert_eq!(
                    validator.evaluate(Some(&current), digest(from, 90, 2), INCOMPLETE),
                    AskAnotherServer
                );
            }
            let verdict = validator.no_more_servers();
            assert_eq!(verdict == Accept, round == 3, "{round}: {verdict:?}");
        }
    }

    #[test]
    fn a_complete_reading_is_accepted_after_an_incomplete_one() {
        let current = digest("Web1", 100, 1);
        for (len, fingerprint) in [(100, 1), (90, 2), (99, 3)] {
            let mut validator = ReadingValidator::default();
            assert_eq!(
                validator.evaluate(Some(&current), digest("Web1", 90, 2), INCOMPLETE),
                AskAnotherServer
            );
            let whole = digest("Web2", len, fingerprint);
            assert_eq!(validator.evaluate(Some(&current), whole, None), Accept);
            assert!(validator.held_readings.is_empty());
        }
    }

    #[test]
    fn an_incomplete_reading_that_loses_nothing_is_accepted_when_no_server_has_a_complete_one() {
        let current = digest("Web1", 90, 2);
        for current in [None, Some(&current)] {
            let mut validator = ReadingValidator::default();
            assert_eq!(validator.evaluate(current, digest("Web1", 90, 2), INCOMPLETE), AskAnotherServer);
            assert_eq!(validator.no_more_servers(), Accept);
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
    fn the_fingerprint_ignores_order_case_and_separators_but_not_marks() {
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
        fn a_suspicious_reading_needs_two_servers_or_three_readings(
            readings in proptest::collection::vec((0_u8..3, 0_usize..70, any::<bool>()), 1..12)
        ) {
            let current = digest("Web1", 100, 999);
            let mut validator = ReadingValidator::default();
            let mut readings_so_far: Vec<(String, usize)> = Vec::new();
            for (server, len, alone) in readings {
                let from = format!("Web{server}");
                readings_so_far.push((from.clone(), len));
                let mut verdict = validator.evaluate(Some(&current), digest(&from, len, len as u64), None);
                if verdict == AskAnotherServer && alone {
                    verdict = validator.no_more_servers();
                }
                if verdict == Accept {
                    let same: Vec<&String> =
                        readings_so_far.iter().filter(|(_, other)| *other == len).map(|(from, _)| from).collect();
                    prop_assert!(same.len() >= 3 || same.iter().any(|other| **other != from));
                    readings_so_far.clear();
                }
            }
        }
    }
}

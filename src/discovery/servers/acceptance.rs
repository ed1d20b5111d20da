//! Whether a reading of the Server documents may replace the current servers.
//!
//! An incomplete reading must not remove servers, so it is held until three in a row agree, like a reading of the cluster
//! directory. A complete one is applied at once: servers leave one at a time, and each is a large part of the cluster.

use super::ServersReading;
use crate::config::settings::Server;

/// Equal readings in a row that are applied.
const IN_A_ROW: u32 = 3;

/// The reading that is held, and how often it came.
#[derive(Debug, Default)]
pub struct ServersHold {
    servers: Vec<Server>,
    streak: u32,
}

impl ServersHold {
    /// Why this reading must not replace the `known` servers; `None` = it may.
    pub fn judge(&mut self, known: &[Server], reading: &ServersReading) -> Option<String> {
        let why = match &reading.truncated {
            Some(why) if !known.is_empty() && known != reading.servers => why,
            _ => {
                *self = Self::default();
                return None;
            }
        };
        self.streak = match reading.disputed {
            true => 0,
            false if self.servers == reading.servers => self.streak + 1,
            false => 1,
        };
        if self.streak >= IN_A_ROW {
            *self = Self::default();
            return None;
        }
        self.servers.clone_from(&reading.servers);
        let held = format!("the view of {} is incomplete: {why}", reading.from);
        Some(if reading.disputed {
            format!("{held}, and the others are incomplete in other ways")
        } else {
            format!("{held}, reading {} of {IN_A_ROW} that says so", self.streak)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::discovery::servers::member;
    use crate::domain::cluster::ServerName;

    fn servers(count: usize) -> Vec<Server> {
        let named = |n| ServerName::parse(&format!("Web{n}/Acme")).unwrap();
        (0..count).map(|n| member(named(n), format!("web{n}.example"), None, None)).collect()
    }

    fn reading(count: usize, truncated: bool) -> ServersReading {
        ServersReading {
            servers: servers(count),
            from: "10.0.0.11:80".to_owned(),
            warnings: Vec::new(),
            truncated: truncated.then(|| "2 of 4 top level entries came".to_owned()),
            disputed: false,
        }
    }

    #[test]
    fn an_incomplete_view_takes_no_member_away_before_three_readings_in_a_row_say_the_same() {
        let (known, mut hold) = (servers(4), ServersHold::default());
        for count in [2, 2, 3, 3] {
            assert!(hold.judge(&known, &reading(count, true)).unwrap().contains("2 of 4"), "{count}");
        }
        assert_eq!(hold.judge(&known, &reading(3, true)), None);
        assert!(hold.judge(&known, &reading(3, true)).is_some(), "then it begins anew");
    }

    #[test]
    fn a_complete_view_serves_at_once_and_ends_the_row() {
        let (known, mut hold) = (servers(4), ServersHold::default());
        assert!(hold.judge(&known, &reading(2, true)).is_some());
        assert!(hold.judge(&known, &reading(2, true)).is_some());
        assert_eq!(hold.judge(&known, &reading(3, false)), None);
        assert!(hold.judge(&known, &reading(2, true)).unwrap().contains("reading 1 of 3"));
    }

    #[test]
    fn incomplete_views_that_differ_are_held_for_as_long_as_they_do() {
        let (known, mut hold) = (servers(4), ServersHold::default());
        let disputed = ServersReading { disputed: true, ..reading(2, true) };
        for _ in 0..5 {
            assert!(hold.judge(&known, &disputed).unwrap().contains("other ways"));
        }
    }

    #[test]
    fn what_takes_nothing_away_serves() {
        let mut hold = ServersHold::default();
        assert_eq!(hold.judge(&[], &reading(2, true)), None, "nothing was known");
        assert_eq!(hold.judge(&servers(2), &reading(2, true)), None, "it says the same");
    }
}

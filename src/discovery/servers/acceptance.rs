//! Decides whether a reading of the Server documents may replace the current servers.
//!
//! An incomplete reading must not remove servers, so it is held until three in a row are equal. A complete one is
//! applied at once, unlike a directory that shrank: each server is a large part of a cluster.

use super::ServersReading;
use crate::config::settings::Server;

/// Equal incomplete readings in a row that are applied.
const MIN_CONSECUTIVE_READINGS: u32 = 3;

/// The reading that is held, and how often in a row it came.
#[derive(Debug, Default)]
pub struct ServersHold {
    servers: Vec<Server>,
    streak: u32,
}

impl ServersHold {
    /// Returns why this reading must not replace the `known` servers; `None` = apply it.
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
        if self.streak >= MIN_CONSECUTIVE_READINGS {
            *self = Self::default();
            return None;
        }
        self.servers.clone_from(&reading.servers);
        let held = format!("the view of {} is incomplete: {why}", reading.from);
        Some(if reading.disputed {
            format!("{held}, and other servers gave different incomplete views")
        } else {
            format!("{held}, reading {} of {MIN_CONSECUTIVE_READINGS} with this result", self.streak)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::discovery::servers::server_with_defaults;
    use crate::domain::cluster::ServerName;

    fn servers(count: usize) -> Vec<Server> {
        let name = |n| ServerName::parse(&format!("Web{n}/Acme")).unwrap();
        (0..count).map(|n| server_with_defaults(name(n), format!("web{n}.example"), None, None)).collect()
    }

    fn reading(count: usize, truncated: bool) -> ServersReading {
        ServersReading {
            servers: servers(count),
            from: "10.0.0.11:80".to_owned(),
            warnings: Vec::new(),
            truncated: truncated.then(|| "only 2 of 4 top-level entries were received".to_owned()),
            disputed: false,
        }
    }

    #[test]
    fn an_incomplete_view_removes_servers_only_after_three_equal_readings() {
        let (known, mut hold) = (servers(4), ServersHold::default());
        for count in [2, 2, 3, 3] {
            assert!(hold.judge(&known, &reading(count, true)).unwrap().contains("2 of 4"), "{count}");
        }
        assert_eq!(hold.judge(&known, &reading(3, true)), None);
        assert!(hold.judge(&known, &reading(3, true)).is_some(), "the count starts again");
    }

    #[test]
    fn a_complete_view_is_applied_at_once_and_restarts_the_count() {
        let (known, mut hold) = (servers(4), ServersHold::default());
        assert!(hold.judge(&known, &reading(2, true)).is_some());
        assert!(hold.judge(&known, &reading(2, true)).is_some());
        assert_eq!(hold.judge(&known, &reading(3, false)), None);
        assert!(hold.judge(&known, &reading(2, true)).unwrap().contains("reading 1 of 3"));
    }

    #[test]
    fn incomplete_views_that_differ_are_held() {
        let (known, mut hold) = (servers(4), ServersHold::default());
        let disputed = ServersReading { disputed: true, ..reading(2, true) };
        for _ in 0..5 {
            assert!(hold.judge(&known, &disputed).unwrap().contains("different incomplete"));
        }
    }

    #[test]
    fn a_view_that_removes_nothing_is_applied() {
        let mut hold = ServersHold::default();
        assert_eq!(hold.judge(&[], &reading(2, true)), None, "no server is known");
        assert_eq!(hold.judge(&servers(2), &reading(2, true)), None, "the servers are the same");
    }
}

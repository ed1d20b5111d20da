//! The user's own last writes: which server took a change to which database, and when. They are apart from the affinity
//! entries, because a write stays on its server when the user moves.

/// Maximum of stamps in a cookie; the oldest are dropped.
pub const MAX_STAMPS: usize = 8;

/// A server answered a request of the browser that may have changed a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteStamp {
    /// Tag of the server within its cluster.
    pub server: u32,
    /// Tag of the database within its cluster.
    pub database: u32,
    /// Unix time in seconds on the clock of the server.
    pub time: u32,
    /// The user was told that another replica may lack this change.
    pub told: bool,
}

/// All stamps of a browser, newest first, one for each database: only the last server is sure to have what the user saw
/// last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteStamps(Vec<WriteStamp>);

impl WriteStamps {
    /// Takes the stamps of a decoded cookie. Those of `limit_secs` ago are dropped, and so are those that are as far in
    /// the future: a wrong clock must not keep them forever.
    #[must_use]
    pub fn new(stamps: impl Iterator<Item = WriteStamp>, now: u32, limit_secs: u32) -> Self {
        let mut all = Self::default();
        for stamp in stamps.take(MAX_STAMPS).filter(|stamp| now.abs_diff(stamp.time) < limit_secs) {
            if all.for_database(stamp.database).is_none() {
                all.0.push(stamp);
            }
        }
        all
    }

    /// The last write to this database.
    #[must_use]
    pub fn for_database(&self, database: u32) -> Option<WriteStamp> {
        self.0.iter().copied().find(|stamp| stamp.database == database)
    }

    /// Records a write. True if the cookie must be sent.
    pub fn record(&mut self, stamp: WriteStamp) -> bool {
        if self.0.first() == Some(&stamp) {
            return false;
        }
        self.0.retain(|old| old.database != stamp.database);
        self.0.truncate(MAX_STAMPS - 1);
        self.0.insert(0, stamp);
        true
    }

    /// Notes that the user was told about the last write to this database.
    pub fn mark_told(&mut self, database: u32) {
        for stamp in self.0.iter_mut().filter(|stamp| stamp.database == database) {
            stamp.told = true;
        }
    }

    /// Notes that another server has the last write to this database, at `time` on its clock.
    pub fn move_to(&mut self, database: u32, server: u32, time: u32) {
        for stamp in self.0.iter_mut().filter(|stamp| stamp.database == database) {
            (stamp.server, stamp.time) = (server, time);
        }
    }

    /// At most [`MAX_STAMPS`], newest first.
    pub fn iter(&self) -> impl Iterator<Item = WriteStamp> + '_ {
        self.0.iter().copied()
    }

    /// True if there are no stamps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(server: u32, database: u32, time: u32) -> WriteStamp {
        WriteStamp { server, database, time, told: false }
    }

    #[test]
    fn the_last_write_to_a_database_replaces_the_one_on_another_server() {
        let mut stamps = WriteStamps::default();
        assert!(stamps.record(stamp(1, 10, 1_000)));
        assert!(stamps.record(stamp(1, 20, 1_001)));
        assert!(stamps.record(stamp(2, 10, 1_002)));
        assert!(!stamps.record(stamp(2, 10, 1_002)), "nothing changes within a second");
        assert_eq!(stamps.iter().collect::<Vec<_>>(), [stamp(2, 10, 1_002), stamp(1, 20, 1_001)]);
        assert_eq!(stamps.for_database(10).unwrap().server, 2);
        assert_eq!(stamps.for_database(30), None);
    }

    #[test]
    fn at_most_eight_stamps_are_kept_and_the_oldest_goes() {
        let mut stamps = WriteStamps::default();
        for database in 0..20 {
            stamps.record(stamp(1, database, 1_000 + database));
        }
        let databases: Vec<_> = stamps.iter().map(|s| s.database).collect();
        assert_eq!(databases, [19, 18, 17, 16, 15, 14, 13, 12]);
    }

    #[test]
    fn a_new_write_is_one_that_the_user_was_not_told_about() {
        let mut stamps = WriteStamps::default();
        stamps.record(stamp(1, 10, 1_000));
        stamps.record(stamp(1, 20, 1_000));
        stamps.mark_told(10);
        assert!(stamps.for_database(10).unwrap().told);
        assert!(!stamps.for_database(20).unwrap().told);
        stamps.record(stamp(1, 10, 1_001));
        assert!(!stamps.for_database(10).unwrap().told);
    }

    #[test]
    fn a_write_that_another_server_has_by_now_keeps_its_place() {
        let mut stamps = WriteStamps::default();
        stamps.record(stamp(1, 10, 1_000));
        stamps.record(stamp(1, 20, 1_001));
        stamps.move_to(10, 2, 990);
        assert_eq!(stamps.iter().collect::<Vec<_>>(), [stamp(1, 20, 1_001), stamp(2, 10, 990)]);
    }

    #[test]
    fn old_stamps_and_those_of_a_wrong_clock_are_dropped() {
        let all = [stamp(1, 1, 9_000), stamp(1, 2, 2_801), stamp(1, 3, 2_800), stamp(1, 4, 17_200)];
        let stamps = WriteStamps::new(all.into_iter(), 10_000, 7_200);
        assert_eq!(stamps.iter().map(|s| s.database).collect::<Vec<_>>(), [1, 2]);
        assert!(WriteStamps::new(all.into_iter(), 10_000, 0).is_empty());
    }
}

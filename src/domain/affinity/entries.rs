//! The affinity entries of one browser: which server served it which database, and when. Most recent first, and at most
//! [`MAX_ENTRIES`]. The caller passes the time in.
//!
//! If users return to their former server, a second entry for the same database names it. Such entries come last and
//! are dropped first.

use smallvec::SmallVec;

/// Maximum of entries in a cookie; the oldest are dropped.
pub const MAX_ENTRIES: usize = 16;

/// The database of a login without a known page: the login counts for the next database that the user requests.
pub const ANY_DATABASE: u32 = u32::MAX;

/// The browser last used `database` on `server` at `time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinityEntry {
    /// Tag of the server within its cluster.
    pub server: u32,
    /// Tag of the database within its cluster.
    pub database: u32,
    /// Unix time in seconds.
    pub time: u32,
}

/// All entries of a browser, most recent first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AffinityEntries {
    list: SmallVec<[AffinityEntry; 4]>,
    /// Database and former server, for databases that were moved.
    former_servers: SmallVec<[(u32, u32); 2]>,
}

impl AffinityEntries {
    /// Takes the entries of a decoded cookie. Entries not used for `idle_secs` are dropped, and a time in the future
    /// becomes `now`.
    #[must_use]
    pub fn new(entries: impl Iterator<Item = AffinityEntry>, now: u32, idle_secs: u32) -> Self {
        let mut all = Self::default();
        for entry in entries.take(MAX_ENTRIES).map(|e| AffinityEntry { time: e.time.min(now), ..e }) {
            if now.saturating_sub(entry.time) >= idle_secs {
                continue;
            }
            match all.for_database(entry.database) {
                Some(current) if current.server != entry.server => {
                    all.remember_former(entry.database, entry.server)
                }
                Some(_) => {}
                None => all.list.push(entry),
            }
        }
        all
    }

    /// The current entry for this database.
    #[must_use]
    pub fn for_database(&self, database: u32) -> Option<AffinityEntry> {
        self.list.iter().copied().find(|e| e.database == database)
    }

    /// The server from which this database was moved.
    #[must_use]
    pub fn former_server(&self, database: u32) -> Option<u32> {
        self.former_servers.iter().find(|(of, _)| *of == database).map(|(_, server)| *server)
    }

    /// The most recent entry of all.
    #[must_use]
    pub fn most_recent(&self) -> Option<AffinityEntry> {
        self.list.first().copied()
    }

    /// The most recent entry with a database that `matches` accepts.
    pub fn most_recent_where(&self, matches: impl Fn(u32) -> bool) -> Option<AffinityEntry> {
        self.list.iter().copied().find(|e| matches(e.database))
    }

    /// When the browser last used this server.
    #[must_use]
    pub fn last_use_of_server(&self, server: u32) -> Option<u32> {
        self.list.iter().filter(|e| e.server == server).map(|e| e.time).max()
    }

    /// At most [`MAX_ENTRIES`], the former servers last, each with the time of the current entry.
    pub fn iter(&self) -> impl Iterator<Item = AffinityEntry> + '_ {
        let former = |(database, server): &(u32, u32)| {
            self.for_database(*database).map(|current| AffinityEntry { server: *server, ..current })
        };
        self.list.iter().copied().chain(self.former_servers.iter().filter_map(former)).take(MAX_ENTRIES)
    }

    /// True if there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Records a response. True if the cookie must be sent: the entry is new, has moved, changes the order, or is older
    /// than a tenth of the idle timeout. A user who is back on the former server no longer has one.
    pub fn record_response(&mut self, server: u32, database: u32, now: u32, idle_secs: u32) -> bool {
        let fresh = AffinityEntry { server, database, time: now };
        let changed = match self.list.iter().position(|e| e.database == database) {
            Some(0) => {
                let Some(first) = self.list.first_mut() else { return false };
                let moved = first.server != server;
                let old = now.saturating_sub(first.time) > idle_secs / 10;
                if moved || old {
                    *first = fresh;
                }
                moved || old
            }
            Some(at) => {
                self.list.remove(at);
                self.list.insert(0, fresh);
                true
            }
            None => {
                self.list.truncate(MAX_ENTRIES - 1);
                self.list.insert(0, fresh);
                true
            }
        };
        if changed {
            self.former_servers.retain(|(of, former)| !(*of == database && *former == server));
        }
        changed
    }

    /// Inserts the entry of another cookie by its time; a newer entry for the same database stays.
    pub fn merge(&mut self, entry: AffinityEntry) {
        if self.for_database(entry.database).is_some_and(|newer| newer.time > entry.time) {
            return;
        }
        self.list.retain(|old| old.database != entry.database);
        let at = self.list.iter().position(|old| old.time <= entry.time).unwrap_or(self.list.len());
        self.list.insert(at, entry);
        self.list.truncate(MAX_ENTRIES);
        self.forget_former(entry.database);
    }

    /// The server of a login that is not yet used by a page, unless this database was used since.
    #[must_use]
    pub fn pending_login(&self, database: u32) -> Option<u32> {
        let login = self.for_database(ANY_DATABASE)?;
        self.for_database(database).is_none_or(|entry| entry.time <= login.time).then_some(login.server)
    }

    /// Removes the login on this server, after its first page. True if there was one.
    pub fn clear_login(&mut self, server: u32) -> bool {
        let before = self.list.len();
        self.list.retain(|entry| entry.database != ANY_DATABASE || entry.server != server);
        self.list.len() < before
    }

    /// Remembers the server from which a database is moved. After several moves the first server counts.
    pub fn remember_former(&mut self, database: u32, server: u32) {
        if self.former_server(database).is_none() {
            self.former_servers.push((database, server));
        }
    }

    /// Remembers this server as the former one of all its databases.
    pub fn remember_former_of_server(&mut self, server: u32) {
        let databases: SmallVec<[u32; 4]> = self
            .list
            .iter()
            .filter(|e| e.server == server)
            .map(|e| e.database)
            .filter(|d| *d != ANY_DATABASE)
            .collect();
        for database in databases {
            self.remember_former(database, server);
        }
    }

    /// Forgets the former server, because the user was moved on purpose.
    pub fn forget_former(&mut self, database: u32) {
        self.former_servers.retain(|(of, _)| *of != database);
    }

    /// Moves all entries from a dead server to a new one and drops a login there. True if there was any.
    pub fn replace_server(&mut self, dead: u32, new: u32) -> bool {
        let mut changed = self.clear_login(dead);
        for entry in &mut self.list {
            if entry.server == dead {
                entry.server = new;
                changed = true;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cookie_is_sent_for_an_entry_that_is_new_moved_reordered_or_a_tenth_old() {
        let mut entries = AffinityEntries::default();
        assert!(entries.record_response(1, 10, 1_000, 1_800));
        assert!(!entries.record_response(1, 10, 1_100, 1_800), "nothing changes within a tenth");
        assert!(entries.record_response(1, 10, 1_181, 1_800));
        assert!(entries.record_response(1, 20, 1_182, 1_800), "another database");
        assert!(entries.record_response(1, 10, 1_183, 1_800), "order changes");
        assert!(entries.record_response(2, 10, 1_184, 1_800), "moved");
        assert_eq!(entries.most_recent(), Some(AffinityEntry { server: 2, database: 10, time: 1_184 }));
    }

    #[test]
    fn idle_entries_are_dropped_and_a_future_time_becomes_now() {
        let all = [
            AffinityEntry { server: 1, database: 1, time: 5_000 },
            AffinityEntry { server: 1, database: 2, time: 100 },
        ];
        let entries = AffinityEntries::new(all.into_iter(), 2_000, 1_800);
        assert_eq!(entries.most_recent().unwrap().time, 2_000);
        assert_eq!(entries.for_database(2), None);
    }

    #[test]
    fn all_entries_of_a_dead_server_are_moved() {
        let mut entries = AffinityEntries::default();
        entries.record_response(1, 10, 1, 100);
        entries.record_response(2, 20, 2, 100);
        entries.record_response(1, 30, 3, 100);
        assert!(entries.replace_server(1, 9));
        assert!(entries.iter().all(|e| e.server != 1));
        assert_eq!(entries.for_database(20).unwrap().server, 2);
        assert!(!entries.replace_server(1, 9));
        assert_eq!((entries.last_use_of_server(9), entries.last_use_of_server(1)), (Some(3), None));
    }

    #[test]
    fn a_login_comes_before_older_entries_and_after_newer_ones() {
        let mut entries = AffinityEntries::default();
        entries.record_response(1, 10, 1_000, 1_800);
        entries.record_response(1, 20, 1_200, 1_800);
        entries.merge(AffinityEntry { server: 2, database: 10, time: 1_100 });
        let all: Vec<_> = entries.iter().map(|e| (e.server, e.database)).collect();
        assert_eq!(all, [(1, 20), (2, 10)]);
        entries.merge(AffinityEntry { server: 3, database: 20, time: 1_100 });
        assert_eq!(entries.for_database(20).unwrap().server, 1, "used since");
        for database in 100..120 {
            entries.merge(AffinityEntry { server: 3, database, time: 1_300 });
        }
        assert_eq!(entries.iter().count(), MAX_ENTRIES);
    }

    #[test]
    fn a_login_without_a_database_counts_for_the_next_one_and_is_lost_with_its_server() {
        let mut entries = AffinityEntries::default();
        entries.record_response(1, 10, 1_000, 1_800);
        entries.merge(AffinityEntry { server: 2, database: ANY_DATABASE, time: 1_100 });
        assert_eq!((entries.pending_login(10), entries.pending_login(30)), (Some(2), Some(2)));
        entries.record_response(1, 20, 1_200, 1_800);
        assert_eq!(entries.pending_login(20), None);
        assert!(!entries.clone().clear_login(1) && entries.clone().clear_login(2));
        entries.remember_former_of_server(2);
        assert!(entries.replace_server(2, 1));
        assert_eq!((entries.pending_login(10), entries.former_server(ANY_DATABASE)), (None, None));
    }

    #[test]
    fn the_former_server_is_remembered_until_the_user_is_back() {
        let mut entries = AffinityEntries::default();
        entries.record_response(1, 10, 1_000, 1_800);
        entries.record_response(1, 20, 1_001, 1_800);
        entries.remember_former_of_server(1);
        assert!(entries.replace_server(1, 2));
        // After a second move the first server still counts.
        entries.remember_former_of_server(2);
        assert!(entries.replace_server(2, 3));
        assert_eq!((entries.former_server(10), entries.former_server(20)), (Some(1), Some(1)));
        let read = AffinityEntries::new(entries.iter(), 1_002, 1_800);
        assert_eq!(read, entries);
        assert!(entries.record_response(1, 10, 1_003, 1_800));
        assert_eq!((entries.former_server(10), entries.former_server(20)), (None, Some(1)));
        entries.forget_former(20);
        assert_eq!(entries.iter().count(), 2);
    }

    #[test]
    fn former_servers_are_dropped_first() {
        let mut entries = AffinityEntries::default();
        for database in 0..16 {
            entries.record_response(1, database, 1_000, 1_800);
        }
        entries.remember_former_of_server(1);
        entries.replace_server(1, 2);
        assert_eq!(entries.iter().count(), MAX_ENTRIES);
        assert!(entries.iter().all(|e| e.server == 2));
    }

    proptest! {
        #[test]
        fn there_are_at_most_sixteen_entries_and_one_for_each_database(steps in proptest::collection::vec((0u32..4, 0u32..40), 0..100)) {
            let mut entries = AffinityEntries::default();
            for (i, (server, database)) in steps.iter().enumerate() {
                entries.record_response(*server, *database, i as u32, 1_000);
                prop_assert_eq!(entries.most_recent().unwrap().database, *database);
            }
            let mut seen: Vec<_> = entries.iter().map(|e| e.database).collect();
            prop_assert!(seen.len() <= MAX_ENTRIES);
            seen.sort_unstable();
            let len = seen.len();
            seen.dedup();
            prop_assert_eq!(seen.len(), len);
        }
    }
}

//! Users of the log: where those are whom a change has moved, and how many different ones there are. Both need memory for
//! each user, and bound it.

use ahash::{AHashMap, AHashSet};

use crate::domain::directory::ReplicaId;
use crate::domain::select::ServerId;

/// The users of a client who are on one server in the log, and the database that they use there; `None` = any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct UserKey {
    pub user: u64,
    pub cluster: u16,
    pub server: ServerId,
    pub database: Option<ReplicaId>,
}

/// Above this the users who moved longest ago are forgotten: 2 generations of about 40 MB.
const MAX_MOVED: usize = if cfg!(test) { 500 } else { 500_000 };

/// The servers of users whom a change has moved.
#[derive(Debug, Default)]
pub(super) struct MovedUsers {
    young: AHashMap<UserKey, ServerId>,
    old: AHashMap<UserKey, ServerId>,
    pub forgotten: bool,
}

impl MovedUsers {
    pub fn get(&self, key: UserKey) -> Option<ServerId> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    pub fn insert(&mut self, key: UserKey, server: ServerId) {
        if self.young.len() >= MAX_MOVED {
            self.forgotten |= !self.old.is_empty();
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, server);
    }

    /// The user is on the server of the log again.
    pub fn remove(&mut self, key: UserKey) {
        if !self.young.is_empty() || !self.old.is_empty() {
            self.young.remove(&key);
            self.old.remove(&key);
        }
    }
}

/// More users than this are estimated.
const MAX_EXACT_USERS: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };

/// Counts different users: exactly up to a million, then from a sample by hash.
#[derive(Debug, Default)]
pub(super) struct DistinctUsers {
    /// Hashes whose last `halvings` bits are 0.
    sample: AHashSet<u64>,
    halvings: u32,
}

impl DistinctUsers {
    pub fn add(&mut self, user: u64) {
        if !self.is_sampled(user) {
            return;
        }
        self.sample.insert(user);
        while self.sample.len() > MAX_EXACT_USERS {
            self.halvings += 1;
            let mask = (1_u64 << self.halvings) - 1;
            self.sample.retain(|user| user & mask == 0);
        }
    }

    fn is_sampled(&self, user: u64) -> bool {
        user & ((1_u64 << self.halvings) - 1) == 0
    }

    pub fn count(&self) -> u64 {
        (self.sample.len() as u64) << self.halvings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_exactly_up_to_a_limit_and_estimated_above() {
        let mut users = DistinctUsers::default();
        let mut random = fastrand::Rng::with_seed(1);
        let hashes: Vec<u64> = (0..1_000).map(|_| random.u64(..)).collect();
        hashes.iter().chain(&hashes).for_each(|user| users.add(*user));
        assert_eq!(users.count(), 1_000);
        for _ in 0..30_000 {
            users.add(random.u64(..));
        }
        assert!(users.sample.len() <= MAX_EXACT_USERS);
        assert!(users.count().abs_diff(31_000) < 2_000, "{}", users.count());
    }

    #[test]
    fn a_moved_user_is_found_until_many_others_have_moved() {
        let key = |user| UserKey { user, cluster: 0, server: 1, database: None };
        let mut moved = MovedUsers::default();
        moved.insert(key(1), 2);
        assert_eq!((moved.get(key(1)), moved.get(key(2))), (Some(2), None));
        for user in 0..MAX_MOVED as u64 {
            moved.insert(key(10 + user), 3);
        }
        assert_eq!((moved.get(key(1)), moved.forgotten), (Some(2), false));
        for user in 0..MAX_MOVED as u64 {
            moved.insert(key(10_000_000 + user), 3);
        }
        assert_eq!((moved.get(key(1)), moved.forgotten), (None, true));
        moved.remove(key(10_000_000));
        assert_eq!(moved.get(key(10_000_000)), None);
    }
}

//! Counts attempts to log in, for an address or a user name, in memory of fixed size. Time is passed in, and the keys are
//! hashes, so no name is kept.
//!
//! The count is that of a sliding window, estimated from two fixed ones: all of the current one, and of the one before
//! the share that still overlaps. Only attempts that pass are counted, so an attacker who goes on cannot keep a
//! user out for longer than a window.

/// Keys that compete for the same places. The hash decides which ones, and its seed is secret.
const WAYS: usize = 8;

/// One key and its attempts. A key of zero marks a free place.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    key: u64,
    /// When the current window began, in milliseconds.
    start: u64,
    current: u32,
    before: u32,
    /// Whether a refusal was reported in this window.
    is_reported: bool,
}

/// An attempt beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAttempts {
    /// Milliseconds until the next attempt may pass; at least 1.
    pub wait_ms: u64,
    /// Whether this is the first refusal of this key in its window.
    pub is_first: bool,
}

/// The limit of one kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimit {
    /// Attempts in a window.
    pub max: u32,
    /// Length of the window in milliseconds.
    pub window_ms: u64,
}

/// The attempts of many keys. If a place is needed, the key with the fewest attempts loses its own: to make the table
/// forget a key, an attacker needs several others with as many attempts each.
#[derive(Debug)]
pub struct AttemptTable {
    sets: Box<[[Attempts; WAYS]]>,
}

impl Attempts {
    /// Moves the window on to `now`.
    fn advance(&mut self, now: u64, window_ms: u64) {
        let elapsed = now.saturating_sub(self.start);
        if elapsed < window_ms {
            return;
        }
        self.is_reported = false;
        if elapsed < window_ms.saturating_mul(2) {
            self.before = self.current;
            self.start = self.start.saturating_add(window_ms);
        } else {
            self.before = 0;
            self.start = now;
        }
        self.current = 0;
    }

    /// The attempts in the window that ends now, rounded up.
    fn estimate(&self, now: u64, window_ms: u64) -> u64 {
        let left = window_ms.saturating_sub(now.saturating_sub(self.start));
        let overlap = u64::from(self.before).saturating_mul(left).div_ceil(window_ms.max(1));
        u64::from(self.current).saturating_add(overlap)
    }

    /// Milliseconds until the estimate is below the limit, if nothing else happens.
    fn wait_ms(&self, now: u64, limit: AttemptLimit) -> u64 {
        let window = limit.window_ms;
        let rest_of_window = window.saturating_sub(now.saturating_sub(self.start));
        let max = u64::from(limit.max);
        // An overlap of `allowed` attempts leaves room for one more.
        let shrinks_to =
            |attempts: u32, allowed: u64| allowed.saturating_mul(window) / u64::from(attempts.max(1));
        let wait = if u64::from(self.current) < max {
            let allowed = max.saturating_sub(1).saturating_sub(u64::from(self.current));
            rest_of_window.saturating_sub(shrinks_to(self.before, allowed))
        } else {
            // Not before the next window, in which the current one is the one before.
            let allowed = max.saturating_sub(1);
            rest_of_window.saturating_add(window.saturating_sub(shrinks_to(self.current, allowed)))
        };
        wait.max(1)
    }
}

impl AttemptTable {
    /// A table for this many keys, rounded up to a whole number of sets.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self { sets: vec![[Attempts::default(); WAYS]; keys.div_ceil(WAYS).max(1)].into() }
    }

    /// Counts an attempt of a key.
    ///
    /// # Errors
    /// The key has reached its limit; this attempt is not counted.
    pub fn attempt(&mut self, key: u64, limit: AttemptLimit, now: u64) -> Result<(), TooManyAttempts> {
        // An attempt is never forgotten in favour of the mark of a free place.
        let key = key.max(1);
        let Some(place) = self.place_of(key, limit.window_ms, now) else { return Ok(()) };
        place.advance(now, limit.window_ms);
        if place.estimate(now, limit.window_ms) >= u64::from(limit.max) {
            let is_first = !std::mem::replace(&mut place.is_reported, true);
            return Err(TooManyAttempts { wait_ms: place.wait_ms(now, limit), is_first });
        }
        place.current = place.current.saturating_add(1);
        Ok(())
    }

    /// Forgets the attempts of a key, after one that succeeded.
    pub fn forget(&mut self, key: u64) {
        let key = key.max(1);
        if let Some(place) = self.set_of(key).and_then(|set| set.iter_mut().find(|place| place.key == key)) {
            *place = Attempts::default();
        }
    }

    fn set_of(&mut self, key: u64) -> Option<&mut [Attempts; WAYS]> {
        let count = u64::try_from(self.sets.len()).unwrap_or(1).max(1);
        // The upper half: the caller may use the lower one to choose a table.
        let at = usize::try_from((key >> 32) % count).ok()?;
        self.sets.get_mut(at)
    }

    /// The place of a key; a new key takes a free one, an expired one, or that of the key with the fewest attempts.
    fn place_of(&mut self, key: u64, window_ms: u64, now: u64) -> Option<&mut Attempts> {
        let set = self.set_of(key)?;
        if let Some(at) = set.iter().position(|place| place.key == key) {
            return set.get_mut(at);
        }
        let weight = |place: &Attempts| {
            if place.key == 0 || now.saturating_sub(place.start) >= window_ms.saturating_mul(2) {
                return (0, 0);
            }
            let mut place = *place;
            place.advance(now, window_ms);
            (place.estimate(now, window_ms).max(1), place.start)
        };
        let place = set.iter_mut().min_by_key(|place| weight(place))?;
        *place = Attempts { key, start: now, ..Attempts::default() };
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: AttemptLimit = AttemptLimit { max: 10, window_ms: 300_000 };

    #[test]
    fn attempts_beyond_the_limit_wait_until_the_window_has_room() {
        let mut table = AttemptTable::new(64);
        for _ in 0..10 {
            assert_eq!(table.attempt(7, LIMIT, 1_000), Ok(()));
        }
        let refused = table.attempt(7, LIMIT, 1_000).unwrap_err();
        assert!(refused.is_first && refused.wait_ms > 300_000, "{refused:?}");
        assert!(!table.attempt(7, LIMIT, 2_000).unwrap_err().is_first);
        assert_eq!(table.attempt(8, LIMIT, 1_000), Ok(()), "another key");
        let at = 1_000 + refused.wait_ms;
        assert!(table.attempt(7, LIMIT, at - 1).unwrap_err().is_first, "a new window");
        assert_eq!(table.attempt(7, LIMIT, at), Ok(()));
        assert!(!table.attempt(7, LIMIT, at).unwrap_err().is_first);
    }

    #[test]
    fn a_key_that_succeeded_begins_anew() {
        let mut table = AttemptTable::new(64);
        (0..10).for_each(|_| table.attempt(7, LIMIT, 0).unwrap());
        table.forget(7);
        assert_eq!(table.attempt(7, LIMIT, 0), Ok(()));
        table.forget(99);
    }

    #[test]
    fn many_other_keys_do_not_push_out_one_with_several_attempts() {
        let mut table = AttemptTable::new(64);
        (0..10).for_each(|_| table.attempt(7 << 32, LIMIT, 0).unwrap());
        for other in 100..50_000_u64 {
            let _ = table.attempt(other << 32, LIMIT, other / 1_000);
        }
        assert!(table.attempt(7 << 32, LIMIT, 100).is_err());
    }

    proptest! {
        #[test]
        fn a_window_never_passes_more_than_twice_the_limit_and_the_wait_is_exact(
            steps in proptest::collection::vec(0_u64..60_000, 1..400),
        ) {
            let limit = AttemptLimit { max: 5, window_ms: 100_000 };
            let mut table = AttemptTable::new(8);
            let (mut now, mut passed) = (5, Vec::new());
            for step in steps {
                now += step;
                match table.attempt(1, limit, now) {
                    Ok(()) => passed.push(now),
                    Err(refused) => {
                        let mut later = AttemptTable { sets: table.sets.clone() };
                        prop_assert!(later.attempt(1, limit, now + refused.wait_ms).is_ok());
                        let mut before = AttemptTable { sets: table.sets.clone() };
                        prop_assert!(
                            refused.wait_ms == 1 || before.attempt(1, limit, now + refused.wait_ms - 1).is_err()
                        );
                    }
                }
            }
            for (at, first) in passed.iter().enumerate() {
                let in_window = passed[at..].iter().take_while(|later| **later - first < limit.window_ms).count();
                prop_assert!(in_window < 2 * limit.max as usize, "{in_window}");
            }
        }
    }
}

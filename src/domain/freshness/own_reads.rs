//! Recognises databases that our own reading modifies. A HEAD may run a WebQueryOpen agent that writes; a time that
//! moves with each HEAD says nothing about users.

use smallvec::SmallVec;

/// A time this long after our last request was probably moved by it.
const AGENT_MS: u64 = 2_000;
/// Between readings that follow each other faster, nothing can be told: users modify a busy database within seconds.
const MIN_INTERVAL_MS: u64 = 5_000;
/// Once may be chance.
const SUSPICIOUS: u8 = 2;

/// The last reading of one holder.
#[derive(Clone, Copy, Debug)]
struct LastRead {
    server: u32,
    modified: u64,
    sent: u64,
    received: u64,
    /// When its time was last seen to have moved.
    moved_at: Option<u64>,
    /// Readings in a row that found it moved right after the reading before.
    moved_with_us: u8,
}

/// The last readings of all holders of one database.
#[derive(Clone, Debug, Default)]
pub struct OwnReads {
    holders: SmallVec<[LastRead; 3]>,
}

impl OwnReads {
    /// Takes a reading, all times on our clock. True if twice in a row this holder was modified right after we read it,
    /// and no other holder was modified meanwhile.
    pub fn is_moved_by_us(&mut self, server: u32, modified: u64, sent: u64, received: u64) -> bool {
        let others_moved_at =
            self.holders.iter().filter(|h| h.server != server).filter_map(|h| h.moved_at).max();
        let Some(last) = self.holders.iter_mut().find(|holder| holder.server == server) else {
            let first = LastRead { server, modified, sent, received, moved_at: None, moved_with_us: 0 };
            self.holders.push(first);
            return false;
        };
        // The conversion of two readings may differ by a second.
        let moved = modified > last.modified.saturating_add(1_000);
        let after_us = modified.saturating_add(1_000) >= last.sent
            && modified <= last.received.saturating_add(AGENT_MS)
            && sent.saturating_sub(last.sent) >= MIN_INTERVAL_MS;
        let alone = others_moved_at.is_none_or(|at| at < last.sent);
        let count = if moved && after_us && alone { last.moved_with_us.saturating_add(1) } else { 0 };
        let moved_at = if moved { Some(received) } else { last.moved_at };
        *last = LastRead { server, modified, sent, received, moved_at, moved_with_us: count };
        count >= SUSPICIOUS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reads: &mut OwnReads, server: u32, modified: u64, at: u64) -> bool {
        reads.is_moved_by_us(server, modified, at, at + 20)
    }

    #[test]
    fn a_time_that_moves_with_each_reading_twice_in_a_row_is_our_own_doing() {
        let mut reads = OwnReads::default();
        assert!(!read(&mut reads, 1, 5_000, 100_000));
        assert!(!read(&mut reads, 1, 100_000, 130_000), "once may be chance");
        assert!(read(&mut reads, 1, 130_500, 160_000));
    }

    #[test]
    fn users_who_modify_it_at_other_times_are_not_mistaken_for_us() {
        let mut reads = OwnReads::default();
        for pass in 0..20 {
            let at = 100_000 + pass * 30_000;
            assert!(!read(&mut reads, 1, at - 3_000, at), "modified 3 s before each reading");
        }
    }

    #[test]
    fn if_the_other_holders_move_too_it_replicates() {
        let mut reads = OwnReads::default();
        for pass in 0..20 {
            let at = 100_000 + pass * 30_000;
            read(&mut reads, 2, at - 29_000, at - 10);
            assert!(!read(&mut reads, 1, at - 30_000, at));
        }
    }

    #[test]
    fn readings_that_follow_each_other_fast_tell_nothing() {
        let mut reads = OwnReads::default();
        for pass in 0..20 {
            let at = 100_000 + pass * 1_000;
            assert!(!read(&mut reads, 1, at - 900, at));
        }
    }
}

//! Whether a replica has the user's own last write. It reads two replicas only, so it needs neither the tracker nor its
//! history.

use super::table::{ModifiedReading, ReplicaFreshness};
use crate::domain::select::OwnWrite;

/// The times of writes and of readings are known to a second, and so is the difference of two clocks.
const RESOLUTION_MS: u64 = 2_000;

/// Compares the replica on the server `of` with a write that the server `writer` took at `write_unix_ms`.
///
/// A replica has the write if a reading taken after it shows no older time. If the replica of the writer was read after
/// the write too, its time counts instead: it covers what followed the write, and it is older if the request has changed
/// nothing. Differences up to `slack_ms` do not count.
#[must_use]
pub fn own_write(
    replicas: &[ReplicaFreshness],
    writer: u32,
    of: u32,
    write_unix_ms: u64,
    slack_ms: u64,
) -> OwnWrite {
    let after_write = |server: u32| -> Option<ModifiedReading> {
        let replica = replicas.iter().find(|replica| replica.server == server)?;
        replica.reading.filter(|reading| reading.taken_unix_ms >= write_unix_ms + RESOLUTION_MS)
    };
    let Some(reading) = after_write(of) else { return OwnWrite::Unknown };
    let needed = after_write(writer).map_or(write_unix_ms, |reading| reading.modified_unix_ms);
    if reading.modified_unix_ms.saturating_add(slack_ms) >= needed {
        OwnWrite::Included
    } else {
        OwnWrite::Missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: u32 = 1;
    const OTHER: u32 = 2;
    const WRITE: u64 = 100_000;
    const SLACK: u64 = 5_000;

    fn replica(server: u32, modified_unix_ms: u64, taken_unix_ms: u64) -> ReplicaFreshness {
        ReplicaFreshness {
            server,
            reading: Some(ModifiedReading { modified_unix_ms, taken_unix_ms }),
            behind_since_unix_ms: None,
            is_newest: false,
            mark: None,
        }
    }

    fn compared(replicas: &[ReplicaFreshness]) -> OwnWrite {
        own_write(replicas, WRITER, OTHER, WRITE, SLACK)
    }

    #[test]
    fn a_replica_modified_since_the_write_has_it() {
        assert_eq!(compared(&[replica(OTHER, 100_500, 130_000)]), OwnWrite::Included);
        assert_eq!(compared(&[replica(OTHER, 95_000, 130_000)]), OwnWrite::Included, "within the slack");
        assert_eq!(compared(&[replica(OTHER, 94_999, 130_000)]), OwnWrite::Missing);
    }

    #[test]
    fn a_reading_from_before_the_write_says_nothing() {
        assert_eq!(compared(&[]), OwnWrite::Unknown);
        assert_eq!(compared(&[replica(WRITER, 100_000, 130_000)]), OwnWrite::Unknown);
        assert_eq!(compared(&[replica(OTHER, 90_000, 99_000)]), OwnWrite::Unknown);
        assert_eq!(compared(&[replica(OTHER, 90_000, 101_999)]), OwnWrite::Unknown, "both are rounded");
        let unread = ReplicaFreshness { reading: None, ..replica(OTHER, 0, 0) };
        assert_eq!(compared(&[unread]), OwnWrite::Unknown);
    }

    #[test]
    fn a_later_change_on_the_writing_server_counts_too() {
        let writer = replica(WRITER, 120_000, 130_000);
        assert_eq!(compared(&[writer, replica(OTHER, 101_000, 130_000)]), OwnWrite::Missing);
        assert_eq!(compared(&[writer, replica(OTHER, 115_000, 130_000)]), OwnWrite::Included);
        let stale = replica(WRITER, 90_000, 99_000);
        assert_eq!(compared(&[stale, replica(OTHER, 101_000, 130_000)]), OwnWrite::Included);
    }

    #[test]
    fn a_request_that_changed_nothing_is_missing_nowhere() {
        let writer = replica(WRITER, 50_000, 130_000);
        assert_eq!(compared(&[writer, replica(OTHER, 50_500, 130_000)]), OwnWrite::Included);
        assert_eq!(compared(&[writer, replica(OTHER, 40_000, 130_000)]), OwnWrite::Missing);
    }
}

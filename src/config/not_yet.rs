//! Keys that are accepted and have no effect, yet or ever: nobody may believe that they do something.
//!
//! In: the file. Out: a warning for every such key whose value is not the default. A
//! line goes from here when the key begins to work.

use super::reader::Map;

/// Pingora's own hand-over, which this program does not use.
const NOT_NEEDED: &str = "has no effect: `icm upgrade` hands its sockets over without a file";

/// Warns, at the place of each key.
pub(super) fn warn(top: &Map<'_>) {
    for (key, item) in top.get("pingora").entries() {
        if matches!(key.as_str(), "upgrade_sock" | "upgrade_sock_connect_accept_max_retries") {
            item.warn(NOT_NEEDED);
        }
    }
}

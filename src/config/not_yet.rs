//! Keys that are accepted and have no effect yet: nobody may believe that they protect.
//!
//! In: the file. Out: a warning for every such key whose value is not the default. A
//! line goes from here when the key begins to work.

use super::reader::Map;

const NOTHING: &str = "has no effect in this version";

/// Warns, at the place of each key.
pub(super) fn warn(top: &Map<'_>) {
    for (key, item) in top.get("pingora").entries() {
        if matches!(key.as_str(), "upgrade_sock" | "upgrade_sock_connect_accept_max_retries") {
            item.warn(NOTHING);
        }
    }
}

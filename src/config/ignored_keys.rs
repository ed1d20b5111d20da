//! Keys that are accepted but have no effect. Each gets a warning, so that no administrator relies on it.

use super::reader::Map;

const HANDOVER: &str = "has no effect: `icm upgrade` hands its sockets over without it";

pub(super) fn warn(top: &Map<'_>) {
    for (key, item) in top.get("pingora").entries() {
        if matches!(key, "upgrade_sock" | "upgrade_sock_connect_accept_max_retries") {
            item.warn(HANDOVER);
        }
    }
}

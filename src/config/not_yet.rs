//! Keys that are accepted and have no effect yet: nobody may believe that they protect.
//!
//! In: the file and its settings. Out: a warning for every such key whose value is not the default. A
//! line goes from here when the key begins to work.

use super::keys;
use super::reader::{Item, Map};
use super::settings::{Limits, Settings};

const NOTHING: &str = "has no effect in this version";

/// Warns, at the place of each key.
pub(super) fn warn(top: &Map<'_>, settings: &Settings) {
    let follow = top.get("get_configuration_from");
    if follow.is_present() {
        follow.warn("is not available in this version: icm refuses to start with it");
    }
    for (key, item) in top.get("pingora").entries() {
        if matches!(key.as_str(), "upgrade_sock" | "upgrade_sock_connect_accept_max_retries") {
            item.warn(NOTHING);
        }
    }
    limits(&top.get("limits"), &settings.limits);
}

fn limits(item: &Item<'_>, limits: &Limits) {
    let map = item.map_quietly(keys::LIMITS);
    let default = Limits::default();
    for (key, differs) in [
        ("header_timeout", limits.header_timeout != default.header_timeout),
        ("handshake_timeout", limits.handshake_timeout != default.handshake_timeout),
        ("connections", limits.connections != default.connections),
    ] {
        if differs {
            map.get(key).warn(NOTHING);
        }
    }
    if limits.min_rate != default.min_rate && limits.min_rate > 0 {
        map.get("min_rate").warn("is not a mean in this version: a client is ended that stalls for 30 s");
    }
    if limits.per_client_connections != default.per_client_connections {
        map.get("per_client").map_quietly(keys::PER_CLIENT).get("connections").warn(NOTHING);
    }
}

//! Keys that are accepted and have no effect yet: nobody may believe that they protect.
//!
//! In: the file and its settings. Out: a warning for every such key whose value is not the default. A
//! line goes from here when the key begins to work.

use super::keys;
use super::policy;
use super::reader::Map;
use super::settings::Settings;

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
    for (cluster, item) in settings.clusters.iter().zip(top.get("clusters").list()) {
        let affinity = item.map_quietly(keys::CLUSTER).get("affinity").map_quietly(keys::AFFINITY);
        if cluster.affinity.fail_back.is_some() {
            affinity.get("fail_back").warn(format!("{NOTHING}: users stay where they are"));
        }
        if cluster.affinity.session_cookies != policy::SESSION_COOKIES {
            affinity.get("session_cookies").warn(format!("{NOTHING}: session cookies are passed on"));
        }
    }
}

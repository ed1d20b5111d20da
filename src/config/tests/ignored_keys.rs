//! Keys without effect get a warning with their line; all others get none.

use super::super::load_with;
use super::support::{FULL_FILES, cluster, load, top};

/// Line and text of the warnings about keys without effect.
fn ignored_keys(text: &str) -> Vec<(usize, String)> {
    let warnings = load(text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).warnings;
    let all = warnings
        .into_iter()
        .filter(|w| w.text.contains("in this version") || w.text.contains("has no effect: `"));
    all.map(|w| (w.location.line, w.text)).collect()
}

#[test]
fn every_key_without_effect_warns_in_its_line() {
    let text = top("pingora:\n  upgrade_sock: /run/icm/upgrade.sock\n");
    let line = text.lines().position(|l| l.trim_start().starts_with("upgrade_sock")).unwrap() + 1;
    let warned = ignored_keys(&text);
    assert!(matches!(&warned[..], [(l, t)] if *l == line && t.contains("upgrade_sock")), "{warned:?}");
}

#[test]
fn defaults_and_working_keys_give_no_warning() {
    let text = top(
        "limits: { header_timeout: 3s, handshake_timeout: 3s, min_rate: 1KiB, connections: 0, per_client: { connections: 3 } }\n",
    );
    assert_eq!(ignored_keys(&text), []);
    let text = cluster("    affinity: { fail_back: 5m, session_cookies: [Mine] }\n");
    assert_eq!(ignored_keys(&text), []);
    let full = std::path::Path::new("/etc/icm/icm.yaml");
    let loaded =
        load_with(full, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml")), &*FULL_FILES)
            .unwrap();
    let silent: Vec<_> = loaded.warnings.iter().filter(|w| w.text.contains("in this version")).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

//! The files under `conf/` load, and `full.yaml` names every key.

use std::path::Path;

use super::super::{keys, load_with, pingora};
use super::support::{FULL_FILES, load};

const FULL: &str = include_str!("../../../conf/full.yaml");

#[test]
fn every_file_under_conf_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml" && e != "yml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // Files that are not made up for `full.yaml` may be beside the configuration.
        let files_at_hand = super::support::VirtualThenDisk(&FULL_FILES);
        load_with(&path, &text, &files_at_hand).unwrap_or_else(|errors| panic!("{errors}"));
        files += 1;
    }
    assert!(files >= 2);
}

#[test]
fn the_full_file_names_every_key() {
    for section in keys::ALL {
        for key in section.keys {
            let named = FULL.lines().any(|line| {
                line.match_indices(&format!("{key}:"))
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
            });
            assert!(named, "conf/full.yaml does not name `{key}` of `{}`", section.name);
        }
    }
}

#[test]
fn what_is_commented_out_in_the_full_file_is_good_too() {
    let follow: String = FULL
        .lines()
        .skip_while(|l| !l.starts_with("# get_configuration_from:"))
        .take_while(|l| l.starts_with('#'))
        .map(|l| format!("{}\n", l.trim_start_matches("# ").trim_start_matches('#')))
        .collect();
    // Children lost their indentation with the comment sign: `#   url` became `  url`.
    let follow = follow.replace("\nurl", "\n  url");
    let text = format!("listeners: [{{ address: 127.0.0.1:80 }}]\n{}", indent_children(&follow));
    let settings = load(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).settings;
    let follow = settings.follow.unwrap();
    assert_eq!(follow.url.path, "/config");
    assert_eq!((follow.allow_files_under.len(), follow.ca.unwrap().len()), (2, 1));

    for key in ["client_ca_file", "tls", "title", "out_of_service", "pending_delete", "connector_secret_file"]
    {
        let commented = format!("# {key}:");
        assert_eq!(FULL.matches(&commented).count(), 1, "{key}");
        let text = FULL.replace(&commented, &format!("{key}:"));
        if let Err(errors) = load(&text) {
            panic!("{key}: {errors:?}");
        }
    }
}

fn indent_children(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    lines.fold(first.to_owned(), |all, line| format!("{all}\n  {}", line.trim_start()))
}

#[test]
fn pingora_lists_its_own_keys() {
    let known = pingora::known();
    for key in ["threads", "grace_period_seconds", "upgrade_sock", "max_retries", "daemon", "ca_file"] {
        assert!(known.iter().any(|k| k == key), "{key}");
    }
}

//! The files under `conf/` load, and `full.yaml` names every key.

use std::path::Path;

use super::super::{keys, load_with, pingora};
use super::support::{FULL_FILES, Virtual, load, load_from};

const FULL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"));

#[test]
fn every_file_under_conf_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut files = 0;
    let entries = |folder: &Path| std::fs::read_dir(folder).unwrap();
    for entry in entries(&folder).chain(entries(&folder.join("examples"))) {
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
                line.match_indices(&format!("{key}:")).any(|(at, _)| {
                    !line.split_at(at).0.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                })
            });
            assert!(named, "conf/full.yaml does not name `{key}` of `{}`", section.name);
        }
    }
}

#[test]
fn commented_keys_in_the_full_file_are_valid_too() {
    let follow: String = FULL
        .lines()
        .skip_while(|l| !l.starts_with("# get_configuration_from:"))
        .take_while(|l| l.starts_with('#'))
        .map(|l| format!("{}\n", l.strip_prefix("# ").unwrap_or(l)))
        .collect();
    let text = format!("listeners: [{{ address: 127.0.0.1:80 }}]\n{follow}");
    let settings = load(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).settings;
    let follow = settings.follow.unwrap();
    assert_eq!(follow.url.path, "/config");
    assert_eq!((follow.files.read_under.len(), follow.ca.unwrap().len()), (2, 1));

    for key in [
        "client_certificates",
        "ciphers",
        "curves",
        "ticket_key_file",
        "proxy_protocol",
        "tls",
        "title",
        "out_of_service",
        "pending_delete",
        "connector_secret_file",
    ] {
        let commented = format!("# {key}:");
        assert_eq!(FULL.matches(&commented).count(), 1, "{key}");
        let text = FULL.replace(&commented, &format!("{key}:"));
        if let Err(errors) = load(&text) {
            panic!("{key}: {errors:?}");
        }
    }
}

#[test]
fn the_full_file_names_every_key_of_pingora() {
    let known = pingora::known();
    assert!(known.len() > 20, "{known:?}");
    for key in known {
        assert!(FULL.contains(&key), "conf/full.yaml does not name `{key}` of `pingora`");
    }
}

#[test]
fn the_files_of_the_full_example_are_all_needed() {
    assert!(load_from(FULL, &Virtual::default()).unwrap_err().len() >= 8);
    assert!(load_from(FULL, &*FULL_FILES).is_ok());
}

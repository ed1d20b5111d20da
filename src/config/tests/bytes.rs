//! What `compression` means, and its errors.

use super::super::settings::ClusterSettings;
use super::support::{cluster, load};
use crate::domain::compression::{CompressionPolicy, ContentCoding};

fn loaded(line: &str) -> ClusterSettings {
    let text = cluster(&format!("    {line}\n"));
    let clusters = load(&text).unwrap_or_else(|errors| panic!("{line}: {errors:?}")).settings.clusters;
    ClusterSettings::clone(&clusters[0])
}

/// The errors of one line of a cluster, line 8 of the file: column and text.
fn errors(line: &str) -> Vec<(usize, String)> {
    let Err(errors) = load(&cluster(&format!("    {line}\n"))) else { panic!("accepted: {line}") };
    assert!(errors.iter().all(|error| error.line == 8), "{errors:?}");
    errors.iter().map(|error| (error.column, error.to_string())).collect()
}

#[track_caller]
fn wrong(line: &str, column: usize, parts: &[&str]) {
    let errors = errors(line);
    assert_eq!(errors.iter().map(|(column, _)| *column).collect::<Vec<_>>(), [column], "{errors:?}");
    for part in parts {
        assert!(errors[0].1.contains(part), "`{part}` is not in {}", errors[0].1);
    }
}

#[test]
fn compression_is_off_unless_it_is_switched_on() {
    let on = Some(CompressionPolicy::default());
    assert_eq!(loaded("mode: proxy").compression, None);
    for (line, expected) in [
        ("compression: off", &None),
        ("compression: false", &None),
        ("compression: on", &on),
        ("compression: true", &on),
        ("compression: {}", &on),
        ("compression: { min_size: 1KiB, algorithms: [zstd, br, gzip], with_session_cookies: false }", &on),
    ] {
        assert_eq!(loaded(line).compression, *expected, "{line}");
    }
    let own = loaded("compression: { types: [Text/*, image/svg+xml], min_size: 0, algorithms: br }");
    let own = own.compression.unwrap();
    assert_eq!((own.types, own.min_size), (vec!["text/".to_owned(), "image/svg+xml".to_owned()], 0));
    assert_eq!((own.algorithms, own.with_session_cookies), (vec![ContentCoding::Brotli], false));
}

#[test]
fn the_full_file_lists_the_types_that_are_the_default() {
    let full = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"));
    let at = full.find("    #   types: [").unwrap();
    let list = &full[at + 16..at + full[at..].find(']').unwrap()];
    let named: Vec<&str> = list.split([',', '\n', '#', ' ']).filter(|word| !word.is_empty()).collect();
    assert_eq!(named, CompressionPolicy::DEFAULT_TYPES);
}

#[test]
fn a_wrong_value_of_compression_is_an_error_with_a_suggestion() {
    wrong(
        "compression: maybe",
        18,
        &["compression: `maybe` is not possible here", "write on, off, or a map"],
    );
    wrong("compression: [gzip]", 18, &["is a list", "off, on, or a map"]);
    wrong("compression: { type: [text/html] }", 20, &["unknown key", "`types`"]);
    wrong("compression: { types: [html] }", 28, &["`html` is not a media type", "write `text/html`"]);
    wrong("compression: { types: [] }", 27, &["the list is empty", "compression: off"]);
    wrong("compression: { algorithms: [gzp] }", 33, &["did you mean `gzip`? write zstd | br | gzip"]);
    wrong("compression: { algorithms: [] }", 32, &["the list is empty"]);
    wrong("compression: { min_size: 1024 }", 30, &["no unit", "write `1024B`"]);
    wrong("compression: { with_session_cookies: maybe }", 42, &["neither true nor false"]);
}

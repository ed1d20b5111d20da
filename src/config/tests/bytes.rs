//! What `compression` and `cache` mean, and their errors.

use std::time::Duration;

use super::super::settings::{CacheSettings, ClusterSettings};
use super::support::{cluster, load, top};
use crate::domain::cached_paths::CachedPaths;
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
    let list = full.split("    #   types: [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
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

/// The cache of a file with this first line.
fn cache(line: &str) -> Option<CacheSettings> {
    load(&top(line)).unwrap_or_else(|errors| panic!("{line}: {errors:?}")).settings.cache
}

#[track_caller]
fn wrong_on_top(line: &str, column: usize, parts: &[&str]) {
    let Err(errors) = load(&top(line)) else { panic!("accepted: {line}") };
    let at: Vec<_> = errors.iter().map(|error| (error.line, error.column)).collect();
    assert_eq!(at, [(1, column)], "{errors:?}");
    for part in parts {
        assert!(errors[0].to_string().contains(part), "`{part}` is not in {}", errors[0]);
    }
}

#[test]
fn the_cache_is_off_unless_it_is_switched_on() {
    assert_eq!(
        (cache("pages_dir: /etc/icm/pages"), cache("cache: off"), cache("cache: false")),
        (None, None, None)
    );
    let default = CacheSettings {
        size: 256 << 20,
        max_object: 4 << 20,
        stale: Duration::from_secs(3600),
        paths: CachedPaths::default(),
    };
    assert_eq!(cache("cache: {}"), Some(default.clone()));
    assert_eq!(
        cache("cache: { size: 256MiB, max_object: 4MiB, stale: 1h, paths: [] }"),
        Some(default.clone())
    );
    let own = cache("cache: { size: 2MiB, paths: /web/*.css, stale: off }").unwrap();
    assert_eq!((own.size, own.max_object, own.stale), (2 << 20, 2 << 20, Duration::ZERO));
    assert!(own.paths.find(b"/Web/a.CSS").is_some() && own.paths.find(b"/icons/a").is_some());
    let full = load(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"))).unwrap();
    assert_eq!(full.settings.cache, Some(default));
    let all = load(&top("cache: { paths: /* }")).unwrap();
    assert!(all.warnings[0].to_string().contains("all paths may be cached"), "{:?}", all.warnings);
}

#[test]
fn a_wrong_value_of_the_cache_is_an_error_with_a_suggestion() {
    wrong_on_top("cache: on", 8, &["a map, or off, is expected", "write `cache: { size: 256MiB }`"]);
    wrong_on_top("cache: { sise: 1MiB }", 10, &["unknown key", "did you mean `size`?"]);
    wrong_on_top("cache: { size: 256 }", 16, &["no unit", "write `256B`"]);
    wrong_on_top("cache: { size: 1KiB }", 16, &["must be at least 1MiB"]);
    wrong_on_top(
        "cache: { size: 1MiB, max_object: 2MiB }",
        34,
        &["larger than the whole cache", "write at most `1MiB`, or raise `size`"],
    );
    wrong_on_top("cache: { paths: [web/*] }", 18, &["`web/*` is not a path", "write `/web/*`"]);
    wrong_on_top("cache: { paths: [/a?b] }", 18, &["a path has no query", "end it before `?`"]);
    wrong_on_top("cache: { stale: 5 }", 17, &["the duration `5` has no unit"]);
}

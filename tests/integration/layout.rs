//! Rules of the source tree that the compiler does not check: dependencies between modules, and the size of files.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(under: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                out.push((path, text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(under);
    let mut out = Vec::new();
    if root.is_dir() {
        walk(&root, &mut out);
    } else {
        let text = fs::read_to_string(&root).unwrap();
        out.push((root, text));
    }
    assert!(!out.is_empty(), "{under} has no sources");
    out
}

/// The code without its comments and without its test module.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]").next().unwrap();
    product.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_decides_knows_neither_pingora_nor_tokio_nor_a_log() {
    let pure = [
        "src/edge/gate",
        "src/select",
        "src/domain/url",
        "src/affinity",
        "src/rewrite",
        "src/pages",
        "src/directory/index",
        "src/directory/db_path.rs",
        "src/directory/entry.rs",
        "src/directory/replica_id.rs",
        "src/cluster/availability.rs",
        "src/cluster/report.rs",
        "src/cluster/health.rs",
        "src/cluster/server.rs",
        "src/cluster/name.rs",
        "src/cluster/state.rs",
    ];
    let mut violations = Vec::new();
    for place in pure {
        for (path, text) in sources(place) {
            if path.ends_with("tests.rs") || path.to_string_lossy().contains("_tests") {
                continue;
            }
            for word in ["pingora", "tokio", "log::", "Instant::now", "SystemTime::now", "crate::util::clock"]
            {
                for line in code(&text).lines().filter(|l| l.contains(word)) {
                    violations.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn only_one_place_reads_the_clock_for_the_balancer() {
    let mut violations = Vec::new();
    for (path, text) in sources("src") {
        if path.ends_with("clock.rs") {
            continue;
        }
        for line in code(&text).lines().filter(|l| l.contains("UNIX_EPOCH)") && l.contains("SystemTime::now"))
        {
            violations.push(format!("{}: {}", path.display(), line.trim()));
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn every_source_file_says_what_it_is_and_stays_short() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not open with //!", path.display()));
        }
        let lines = code(&text).lines().count();
        if lines > 600 {
            wrong.push(format!("{}: {lines} lines, is there a second idea in it?", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn main_declares_every_test_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration");
    let main = include_str!("main.rs");
    let mut missing = Vec::new();
    for (path, _) in sources("tests/integration") {
        let file = path.strip_prefix(&root).unwrap().with_extension("");
        let names: Vec<_> = file.iter().map(|part| part.to_str().unwrap()).collect();
        let declared = match names[..] {
            ["main"] | ["support", ..] => true,
            [name] => main.contains(&format!("\nmod {name};\n")),
            [folder, name] => main
                .split_once(&format!("\nmod {folder} {{\n"))
                .and_then(|(_, rest)| rest.split_once('}'))
                .is_some_and(|(modules, _)| modules.contains(&format!("    mod {name};\n"))),
            _ => false,
        };
        if !declared {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "main.rs does not declare {missing:#?}");
}

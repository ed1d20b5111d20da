//! References in the documentation are valid: links between pages, and files and types of the source tree. These tests
//! read files only; `guide.rs` has those that run `icm`.

use std::path::{Path, PathBuf};

/// Folders whose Markdown files are tested.
const FOLDERS: [&str; 7] = ["", "docs", "benches", "benches/results", "tests", "tests/acme", "tests/fuzz"];

/// Folders whose files the pages name by their path from the root.
const TREES: [&str; 4] = ["src/", "tests/", "benches/", "conf/"];

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn files_below(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// The pages of some folders with their text.
pub(super) fn pages(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|e| e == "md");
    let files = folders.iter().flat_map(|folder| entries(&root().join(folder))).filter(is_page);
    files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The text outside fenced blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

fn code_spans(prose: &str) -> impl Iterator<Item = &str> {
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Paths below [`TREES`] in a text. A path in a link is relative to its page, and `NAME` stands for a new file.
fn tree_paths(text: &str) -> Vec<&str> {
    let in_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let paths = text.split(|c| !in_path(c)).map(|word| word.trim_end_matches(['.', '-']));
    paths.filter(|p| TREES.iter().any(|tree| p.starts_with(tree)) && !p.contains("NAME")).collect()
}

#[test]
fn every_path_of_the_source_tree_in_the_pages_exists() {
    let mut count = 0;
    for (page, text) in pages(&["", "docs"]) {
        // The changelog may name files of earlier versions.
        if page.ends_with("CHANGELOG.md") {
            continue;
        }
        for path in tree_paths(&text) {
            assert!(root().join(path).exists(), "{}: {path} does not exist", page.display());
            count += 1;
        }
    }
    assert!(count > 50, "only {count} paths were found");
}

#[test]
fn every_source_file_and_type_in_the_maintainers_pages_exists() {
    let sources: Vec<PathBuf> = ["src", "tests", "benches"].into_iter().flat_map(files_below).collect();
    let is_rust =
        |path: &&PathBuf| path.starts_with(root().join("src")) && path.extension().is_some_and(|e| e == "rs");
    let code: String =
        sources.iter().filter(is_rust).map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    words.sort_unstable();
    words.dedup();
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "tests/README.md"] {
        let text = prose(&std::fs::read_to_string(root().join(page)).unwrap());
        for span in code_spans(&text) {
            if span.ends_with(".rs") && !span.contains(' ') && !span.contains("NAME") {
                assert!(sources.iter().any(|path| path.ends_with(span)), "{page}: no file {span}");
            }
            let name = span.split("::").last().unwrap();
            let is_type = name.chars().all(char::is_alphanumeric)
                && name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.chars().filter(char::is_ascii_uppercase).count() > 1
                && name.chars().any(|c| c.is_ascii_lowercase());
            if is_type || (span.contains("::") && !span.contains(' ') && page == "ARCHITECTURE.md") {
                assert!(words.binary_search(&name).is_ok(), "{page}: no {name} in src");
            }
        }
    }
}

#[test]
fn every_test_module_in_the_threat_model_exists() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let modules: Vec<&str> = code_spans(&text).filter(|span| span.contains("::")).collect();
    assert!(modules.len() > 20, "{modules:?}");
    for module in modules {
        let file = format!("tests/integration/{}.rs", module.replace("::", "/"));
        assert!(root().join(&file).exists(), "SECURITY.md: {module}: no {file}");
    }
}

#[test]
fn every_page_that_the_source_names_exists() {
    let mut count = 0;
    for path in ["src", "conf"].into_iter().flat_map(files_below) {
        let text = std::fs::read_to_string(&path).unwrap();
        for rest in text.split("docs/").skip(1) {
            let end =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.').unwrap_or(rest.len());
            let page = rest[..end].trim_end_matches('.');
            if page.ends_with(".md") {
                assert!(root().join("docs").join(page).exists(), "{}: docs/{page}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 5, "only {count} pages were found");
}

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || *c == '-' || *c == '_' || *c == ' ';
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[test]
fn every_link_resolves() {
    for (page, text) in pages(&FOLDERS) {
        for link in prose(&text).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} does not exist", page.display());
            if !fragment.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let exists = text.lines().filter(|l| l.starts_with('#')).any(|l| anchor(l) == fragment);
                assert!(exists, "{}: {link}: no such heading", page.display());
            }
        }
    }
}

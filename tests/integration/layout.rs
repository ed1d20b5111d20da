//! Rules of the source tree that the compiler does not check: which layer may use which, no dependency cycles, distinct
//! names. Everything is derived from the folders and from the order of the modules in `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of a crate by path, with their code: no comments, no tests.
struct Tree(BTreeMap<Vec<String>, String>);

impl Tree {
    fn of_this_crate() -> Self {
        let root = manifest_dir().join("src");
        let files = sources("src").into_iter().filter_map(|(path, text)| {
            let path = path.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Vec<String> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if module.last().is_some_and(|name| name == "mod" || name == "lib") {
                module.pop();
            }
            let is_test = module.iter().any(|name| name.contains("test"));
            (!is_test && module != ["main"]).then(|| (module, product_code(&text)))
        });
        Self(files.collect())
    }

    fn of(files: &[(&str, &str)]) -> Self {
        let module =
            |path: &str| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Self(files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect())
    }

    /// The layers in their order: the modules that the crate's root declares.
    fn layers(&self) -> Vec<String> {
        let declared = self.0[&Vec::new()].lines().filter_map(|line| {
            line.trim_start_matches("pub").trim_start_matches("(crate)").trim().strip_prefix("mod ")
        });
        declared.map(|name| name.trim_end_matches(';').to_owned()).collect()
    }

    /// The modules that a module names, each as deep as there is a file.
    fn uses(&self, module: &[String]) -> BTreeSet<Vec<String>> {
        let mut used = BTreeSet::new();
        for mut path in named_paths(&self.0[module], module) {
            while !self.0.contains_key(&path) {
                path.pop();
            }
            if path != module {
                used.insert(path);
            }
        }
        used
    }

    /// Uses of a layer that comes later in the list.
    fn backward_uses(&self) -> Vec<String> {
        let layers = self.layers();
        let rank = |module: &[String]| layers.iter().position(|layer| module.first() == Some(layer));
        let mut wrong = Vec::new();
        for module in self.0.keys() {
            for used in self.uses(module) {
                if rank(&used) > rank(module) {
                    wrong.push(format!("{} uses {}", module.join("::"), used.join("::")));
                }
            }
        }
        wrong
    }

    /// Children of one folder that depend on each other, over however many steps.
    fn cycles(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let folders: BTreeSet<&[String]> =
            self.0.keys().filter_map(|m| m.split_last().map(|(_, f)| f)).collect();
        for folder in folders {
            let depth = folder.len();
            let mut edges: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for module in self.0.keys().filter(|m| m.len() > depth && m.starts_with(folder)) {
                let targets = self.uses(module);
                let targets = targets.iter().filter(|t| t.len() > depth && t.starts_with(folder));
                let siblings = targets.map(|t| t[depth].clone()).filter(|name| *name != module[depth]);
                edges.entry(&module[depth]).or_default().extend(siblings);
            }
            for child in edges.keys() {
                if reachable(&edges, child).contains(*child) {
                    wrong.push(format!("{}::{child} depends on itself", folder.join("::")));
                }
            }
        }
        wrong
    }
}

fn reachable(edges: &BTreeMap<&str, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(next) = open.pop() {
        for target in edges.get(&*next).into_iter().flatten() {
            if found.insert(target.clone()) {
                open.push(target.clone());
            }
        }
    }
    found
}

/// The absolute paths behind every `crate::` and `super::`, with braces taken apart.
fn named_paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let mut rest = &code[at..];
        let mut base = if rest.starts_with("crate::") { Vec::new() } else { module.to_vec() };
        while let Some(next) = rest.strip_prefix("super::") {
            base.pop();
            rest = next;
        }
        expand(rest.strip_prefix("crate::").unwrap_or(rest), &base, &mut found);
    }
    found
}

/// Adds every path of a use tree that begins here, and returns what follows the tree.
fn expand<'a>(text: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = base.to_vec();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                inside = expand(inside, &path, found).trim_start();
                match inside.strip_prefix(',') {
                    Some(next) if !next.trim_start().starts_with('}') => inside = next,
                    next => break inside = next.unwrap_or(inside),
                }
            }
            return inside.trim_start().strip_prefix('}').unwrap_or(inside);
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        path.push(rest[..length].to_owned());
        match rest[length..].strip_prefix("::") {
            Some(next) => rest = next,
            None => break,
        }
        rest = rest.trim_start();
    }
    found.push(path);
    let end = rest.find([',', '}', ';']).unwrap_or(rest.len());
    &rest[end..]
}

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

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
    let mut out = Vec::new();
    walk(&manifest_dir().join(under), &mut out);
    assert!(!out.is_empty(), "{under} has no sources");
    out
}

/// The code without comments and test modules.
fn product_code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//")).peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            while lines.next_if(|line| line.starts_with("#[")).is_some() {}
            if lines.next().is_some_and(|item| item.ends_with('{')) {
                while lines.next_if(|line| *line != "}").is_some() {}
            }
            continue;
        }
        code.push_str(line);
        code.push('\n');
    }
    code
}

#[test]
fn a_layer_uses_only_the_layers_above_it_in_lib_rs() {
    let tree = Tree::of_this_crate();
    let layers = tree.layers();
    let folders: BTreeSet<&String> = tree.0.keys().filter_map(|module| module.first()).collect();
    assert_eq!(folders, layers.iter().collect(), "lib.rs declares every module, and nothing else");
    let wrong = tree.backward_uses();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_two_modules_of_a_folder_depend_on_each_other() {
    let wrong = Tree::of_this_crate().cycles();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_backward_use_and_a_cycle_that_are_put_back_are_found() {
    let tree = Tree::of(&[
        ("", "pub mod util;\npub(crate) mod domain;\npub mod proxy;\n"),
        ("util", ""),
        ("util::clock", "fn now() { crate::proxy::route::x() }"),
        ("domain", "pub mod a;\npub mod b;\nmod c;\n"),
        ("domain::a", "use super::{c::Three, b::{Two, Four}};"),
        ("domain::b", "use crate::util::clock;"),
        ("domain::c", "use crate::{util::clock, domain::a::One};"),
        ("proxy", "use crate::domain::a;"),
        ("proxy::route", "use crate::util::clock::{self, now};"),
    ]);
    assert_eq!(tree.layers(), ["util", "domain", "proxy"]);
    assert_eq!(tree.backward_uses(), ["util::clock uses proxy::route"]);
    let cycles = tree.cycles();
    for child in ["::util", "::proxy", "domain::a", "domain::c"] {
        assert!(cycles.contains(&format!("{child} depends on itself")), "{child}: {cycles:?}");
    }
    assert!(!cycles.contains(&"domain::b depends on itself".to_owned()), "{cycles:?}");
}

#[test]
fn what_decides_is_pure() {
    const PURE: [&[&str]; 3] = [&["domain"], &["edge", "gate"], &["pages"]];
    let tree = Tree::of_this_crate();
    let is_below = |module: &[String], folder: &&[&str]| {
        module.len() >= folder.len() && module.iter().zip(folder.iter()).all(|(name, part)| name == part)
    };
    let is_pure = |module: &[String]| PURE.iter().any(|folder| is_below(module, folder));
    let pure: Vec<_> = tree.0.keys().filter(|module| is_pure(module)).collect();
    let helpers = pure.iter().flat_map(|module| tree.uses(module)).filter(|used| !is_pure(used));
    let mut wrong = Vec::new();
    for module in pure.iter().map(|module| (*module).clone()).chain(helpers).collect::<BTreeSet<_>>() {
        // Only pages are read from files.
        let files = module.first().is_none_or(|layer| layer != "pages").then_some("std::fs");
        let words = ["pingora", "tokio", "log::", "Instant::now", "SystemTime::now", "std::net::Tcp"];
        for word in words.into_iter().chain(files) {
            let lines = tree.0[&module].lines().filter(|line| line.contains(word));
            wrong.extend(lines.map(|line| format!("{}: {}", module.join("::"), line.trim())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_two_public_types_have_the_same_name() {
    let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let tree = Tree::of_this_crate();
    for (module, code) in &tree.0 {
        for line in code.lines() {
            let Some(item) = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")) else {
                continue;
            };
            let kinds = ["struct ", "enum ", "trait ", "type "];
            let Some(name) = kinds.iter().find_map(|kind| item.strip_prefix(kind)) else { continue };
            let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
            by_name.entry(&name[..end]).or_default().push(module.join("::"));
        }
    }
    by_name.retain(|_, modules| modules.len() > 1);
    assert!(by_name.is_empty(), "{by_name:#?}");
}

#[test]
fn every_source_file_says_what_it_is_and_stays_short() {
    let root = manifest_dir().join("src");
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not open with //!", path.display()));
        }
        let is_test = path.strip_prefix(&root).unwrap().to_string_lossy().contains("tests");
        let limit = if is_test { 600 } else { 400 };
        let lines = product_code(&text).lines().count();
        if lines > limit {
            wrong.push(format!("{}: {lines} lines, is there a second idea in it?", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_doc_comment_has_more_than_three_words() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let (mut words, mut in_heading) = (0, false);
        for (number, line) in text.lines().enumerate() {
            match line.trim_start().strip_prefix("///") {
                Some(doc) => {
                    in_heading |= doc.starts_with(" # ");
                    words += if in_heading { 0 } else { doc.split_whitespace().count() };
                }
                None => {
                    if (1..=3).contains(&words) {
                        wrong.push(format!("{}:{number}", path.display()));
                    }
                    (words, in_heading) = (0, false);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_one_place_reads_the_wall_clock() {
    let mut violations = Vec::new();
    for (path, text) in sources("src").into_iter().filter(|(path, _)| !path.ends_with("clock.rs")) {
        for line in product_code(&text).lines() {
            if line.contains("UNIX_EPOCH)") && line.contains("SystemTime::now") {
                violations.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn main_declares_every_test_file() {
    let root = manifest_dir().join("tests/integration");
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

//! Positions are right, and no text makes the loader panic.

use std::path::Path;

use proptest::prelude::*;

use super::super::load_with;
use super::super::tree::{Content, Node, Position, read};
use super::support::{FULL_FILES, cluster, load};

fn element(node: &Node, index: usize) -> &Node {
    let Content::List(nodes) = &node.content else { panic!("{node:?}") };
    &nodes[index]
}

#[test]
fn keys_and_values_have_their_positions() {
    let (root, _) = read("# ä\na:\n  - b: 1\n    'ü': { c: x }\n").unwrap();
    let list = root.get("a").unwrap();
    assert_eq!(list.at, Position { line: 2, column: 1 });
    let flow = element(&list.value, 0).get("ü").unwrap();
    assert_eq!(flow.at, Position { line: 4, column: 5 });
    let entry = flow.value.get("c").unwrap();
    assert_eq!(entry.at, Position { line: 4, column: 12 });
    assert_eq!(entry.value.at, Position { line: 4, column: 15 });
}

#[test]
fn json_has_positions_too() {
    let (root, _) = read("{\n\t\"a\": [ 1, \"x\\\"]\", { \"b\\u0041\": null } ]\n}").unwrap();
    let list = root.get("a").unwrap();
    assert_eq!(list.at, Position { line: 2, column: 2 });
    assert_eq!(element(&list.value, 2).get("bA").unwrap().at, Position { line: 2, column: 22 });
}

#[test]
fn aliases_that_grow_a_short_file_large_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let alias = format!("*a{}, ", i - 1).repeat(10);
        text.push_str(&format!("a{i}: &a{i} [{alias}]\n"));
    }
    let errors = load(&text).unwrap_err();
    assert!(errors[0].message.contains("more than"), "{}", errors[0]);
}

#[test]
fn aliases_that_nest_a_short_file_deep_are_refused() {
    let (open, close) = ("[".repeat(60), "]".repeat(60));
    let mut text = format!("a0: &a0 {open}x{close}\n");
    for i in 1..100 {
        text.push_str(&format!("a{i}: &a{i} {open}*a{}{close}\n", i - 1));
    }
    let errors = load(&text).unwrap_err();
    let message = &errors[0].message;
    assert!(errors.len() == 1 && message.contains("nested deeper than 64 levels"), "{message}");
    assert_eq!(errors[0].line, 2);
}

#[test]
fn aliases_keep_the_depth_of_what_is_around_them() {
    let text = "a: &a [[x]]\nb: &b { c: *a, d: [*a, 1], e: x }\nf: [*b, { g: *b }]\n";
    assert!(read(text).is_ok());
    let deep = format!("a: &a [[x]]\nb: {}*a{}\n", "[".repeat(61), "]".repeat(61));
    assert!(read(&deep).is_ok(), "63 levels below the root");
    assert!(read(&deep.replace("[[x]]", "[[[x]]]")).is_err(), "one more");
}

#[test]
fn a_duplicate_key_is_found_in_every_map() {
    let text = "a: [1, { b: 1, b: 2 }]\nd: &d { x: 1, x: 2 }\ne: { <<: *d, <<: *d }\nf: *d\na: 3\n";
    let (_, duplicates) = read(text).unwrap();
    let found: Vec<_> = duplicates.iter().map(|d| (d.path.as_str(), d.at.line, d.first)).collect();
    assert_eq!(found, [("a[1].b", 1, 1), ("d.x", 2, 2), ("e.<<", 3, 3), ("a", 5, 1)]);
}

#[test]
fn characters_that_yaml_forbids_are_refused_wherever_they_are() {
    for c in ['\0', '\u{7F}', '\u{80}', '\u{FEFF}', '\u{FFFE}', '\u{FFFF}'] {
        let (at, _) = read(&format!("a: 1\nb: \"x{c}\"\n")).unwrap_err();
        assert_eq!(at, Position { line: 2, column: 6 }, "{c:?}");
    }
    assert!(read("a: \"\u{85}\u{A0}\u{E000}ä\"\n").is_ok());
}

#[test]
fn deep_nesting_does_not_panic() {
    for text in ["[".repeat(100_000), "{a: ".repeat(50_000), "- ".repeat(50_000)] {
        assert!(!load(&text).unwrap_err().is_empty());
    }
}

fn no_panic(text: &str) {
    if let Err(errors) = load_with(Path::new("x.yaml"), text, &*FULL_FILES) {
        assert!(!errors.0.is_empty());
        for error in &errors.0 {
            assert!(!error.to_string().is_empty());
        }
    }
}

const FULL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/full.yaml"));

proptest! {
    #[test]
    fn any_text_loads_or_is_refused(text in "\\PC{0,200}") {
        no_panic(&text);
    }

    #[test]
    fn any_yaml_like_text_loads_or_is_refused(text in "[a-c:\\-\\[\\]{}&*!|>'\"%#?, \\n\\t0-9<~.@`]{0,120}") {
        no_panic(&text);
    }

    #[test]
    fn a_damaged_file_loads_or_is_refused(at in 0..FULL.len(), cut in 0_usize..40, put in "\\PC{0,6}") {
        let chars: Vec<char> = FULL.chars().collect();
        let at = at.min(chars.len());
        let end = (at + cut).min(chars.len());
        let text: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        no_panic(&text);
    }

    #[test]
    fn any_value_is_taken_or_refused(value in "[a-z0-9:/.%*\\[\\]{}\\- ]{0,30}", key in 0_usize..8) {
        let key = ["hostnames", "probe", "availability", "failover", "affinity", "limits", "headers", "mode"][key];
        no_panic(&cluster(&format!("    {key}: {value}\n")));
        no_panic(&cluster(&format!("    probe: {{ interval: {value} }}\n    headers: {{ via: {value} }}\n")));
    }
}

//! The agent of `conf/domino/`, its JSON Schema, the samples and the DXL agree. Nothing here can run LotusScript, so these
//! tests compare texts.

use std::collections::BTreeSet;

use super::references::root;
use crate::support::schema;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Value, json};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn agent() -> String {
    read("conf/domino/companion.lss")
}

fn companion_schema() -> Value {
    serde_json::from_str(&read("docs/companion.schema.json")).unwrap()
}

fn faults(document: &Value) -> Vec<String> {
    let schema = companion_schema();
    schema::faults(&schema, &schema, document)
}

/// The names of all properties, also of nested objects.
fn property_names(schema: &Value, names: &mut BTreeSet<String>) {
    for (name, nested) in schema["properties"].as_object().into_iter().flatten() {
        names.insert(name.clone());
        property_names(nested, names);
    }
    if schema["items"].is_object() {
        property_names(&schema["items"], names);
    }
}

#[test]
fn the_sample_documents_fit_the_schema() {
    for file in
        ["companion.json", "companion-minimal.json", "companion-replicate.json", "companion-modified.json"]
    {
        let document: Value = serde_json::from_str(&read(&format!("tests/fixtures/{file}"))).unwrap();
        assert_eq!(faults(&document), [""; 0], "{file}");
    }
    let page = read("docs/companion.md");
    let sample = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let document: Value = serde_json::from_str(sample).unwrap();
    assert_eq!(faults(&document), [""; 0], "docs/companion.md");
    let complete: Value = serde_json::from_str(&read("tests/fixtures/companion.json")).unwrap();
    let items = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(items(&document), items(&complete), "the page shows every item");
}

#[test]
fn the_schema_refuses_what_is_not_the_companion() {
    for wrong in [
        json!({ "server": "CN=Web1/O=Acme" }),
        json!({ "icm_companion": 1, "availability_index": 101 }),
        json!({ "icm_companion": 1, "replicas": [{ "replica_id": "C1257A000041D2E" }] }),
        json!({ "icm_companion": 1, "replication": { "retry_waiting": -1 } }),
    ] {
        assert_eq!(faults(&wrong).len(), 1, "{wrong}");
    }
    assert_eq!(faults(&json!({ "icm_companion": "1", "users": "96", "cluster": null })), [""; 0]);
}

#[test]
fn the_agent_prints_exactly_the_items_of_the_schema() {
    let agent = agent();
    let mut printed: BTreeSet<String> = ["PrintItem(\"", "AddMember(o, \""]
        .iter()
        .flat_map(|call| agent.split(call).skip(1))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    // Two items are written literally.
    for literal in ["Print |\"icm_companion\": 1|", "Print |, \"replicas\": [|"] {
        assert!(agent.contains(literal), "{literal}");
        printed.insert(literal.split('"').nth(1).unwrap().to_owned());
    }
    let mut described = BTreeSet::new();
    property_names(&companion_schema(), &mut described);
    assert_eq!(printed, described, "left: conf/domino/companion.lss, right: docs/companion.schema.json");
}

/// The code of a line, without comments and strings.
fn code(line: &str) -> String {
    let (mut code, mut end) = (String::new(), None);
    for c in line.chars() {
        match (end, c) {
            (None, '\'') => break,
            (None, '"' | '|') => end = Some(c),
            (None, _) => code.push(c),
            (Some(quote), _) if quote == c => end = None,
            _ => {}
        }
    }
    assert_eq!(end, None, "a string is not closed: {line}");
    code.trim().to_owned()
}

#[test]
fn every_block_of_the_agent_is_closed_and_every_procedure_that_it_calls_exists() {
    let agent = agent();
    assert!(agent.is_ascii(), "Domino reads the file in the character set of the workstation");
    let lines: Vec<String> = agent.lines().map(code).collect();
    let mut open: Vec<String> = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let opened = match words[..] {
            ["Sub" | "Function" | "ForAll", ..] => words[0],
            ["If", .., "Then"] => "If",
            ["Do", ..] => "Loop",
            ["For", ..] => "Next",
            ["End", what] => {
                assert_eq!(open.pop().as_deref(), Some(what), "line {}: {line}", n + 1);
                continue;
            }
            ["Loop" | "Next"] => {
                assert_eq!(open.pop().as_deref(), Some(words[0]), "line {}: {line}", n + 1);
                continue;
            }
            _ => continue,
        };
        open.push(opened.to_owned());
    }
    assert_eq!(open, [""; 0], "not closed");
    let defined: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("Sub ").or(line.strip_prefix("Function ")))
        .map(|rest| rest.split(['(', ' ']).next().unwrap())
        .collect();
    assert!(defined.len() > 20, "{defined:?}");
    let called = lines.iter().flat_map(|line| line.split("Call ").skip(1));
    for name in called.map(|rest| rest.split(['(', ' ']).next().unwrap()).filter(|name| !name.contains('.')) {
        assert!(defined.contains(name), "{name} is not defined");
    }
    for name in &defined {
        let uses = lines.iter().filter(|line| line.contains(&format!("{name}("))).count();
        assert!(uses > 1 || *name == "Initialize" || agent.matches(name).count() > 1, "{name} is not used");
    }
}

#[test]
fn the_agent_handles_every_error_and_sends_no_text_of_a_request_to_the_console() {
    let agent = agent();
    let handled = agent.matches("On Error GoTo Failed").count();
    assert_eq!(handled, agent.matches("\nFailed:\n").count());
    let commands: Vec<&str> = agent.lines().filter(|line| line.contains("SendConsoleCommand(")).collect();
    assert_eq!(commands.len(), 2, "one for statistics, one for replication: {commands:#?}");
    let orders: Vec<&str> =
        agent.lines().filter(|line| line.contains("SendCommand(")).map(str::trim).collect();
    let fixed =
        ["|replicate \"| & ShortName(CStr(target)) & |\"|", "\"tell clrepl retry\"", "order As String"];
    for order in orders {
        assert!(fixed.iter().any(|text| order.contains(text)), "{order}");
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> String {
    let found = element.attributes().map(Result::unwrap).find(|a| a.key.as_ref() == name);
    found.map(|a| a.value.to_string()).unwrap_or_default()
}

/// The scripts, in order, and for each formula the name of its column or `selection`.
fn dxl() -> (Vec<String>, Vec<(String, String)>) {
    let text = read("conf/domino/icm.dxl");
    let mut reader = Reader::from_str(&text);
    let (mut scripts, mut formulas) = (Vec::new(), Vec::new());
    let (mut content, mut column, mut depth) = (String::new(), String::from("selection"), 0);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) => {
                depth += 1;
                content.clear();
                match element.local_name().as_ref() {
                    "database" => assert_eq!(attribute(&element, "xmlns"), "http://www.lotus.com/dxl"),
                    "agent" => assert_eq!(attribute(&element, "name"), "companion"),
                    "view" => assert_eq!(attribute(&element, "name"), "ICM Servers"),
                    "column" => column = attribute(&element, "itemname"),
                    _ => {}
                }
            }
            Event::Text(text) => content.push_str(&text),
            Event::GeneralRef(reference) => content.push_str(match reference.as_ref() {
                "amp" => "&",
                "lt" => "<",
                "gt" => ">",
                other => panic!("&{other};"),
            }),
            Event::End(element) => {
                depth -= 1;
                match element.local_name().as_ref() {
                    "lotusscript" => scripts.push(std::mem::take(&mut content)),
                    "formula" => formulas.push((column.clone(), std::mem::take(&mut content))),
                    _ => {}
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0, "an element is not closed");
    (scripts, formulas)
}

#[test]
fn the_dxl_has_the_agent_and_the_view_as_the_files_beside_it() {
    let (scripts, formulas) = dxl();
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(lines(&scripts.concat()), lines(&agent()));
    let recipe = read("conf/domino/icm-servers.view.txt");
    let selection = recipe.lines().find_map(|line| line.strip_prefix("Selection:")).unwrap().trim();
    let mut expected = vec![("selection".to_owned(), selection.to_owned())];
    expected.extend(recipe.lines().filter(|line| line.matches('|').count() == 2).skip(1).map(|line| {
        let mut cells = line.split('|').map(|cell| cell.trim().to_owned());
        (cells.next().unwrap(), cells.next().unwrap())
    }));
    assert_eq!(formulas, expected);
}

#[test]
fn the_view_has_the_columns_that_the_guide_names() {
    let (_, formulas) = dxl();
    let page = read("docs/directory.md");
    let section = page.split("## 3.").nth(1).unwrap().split("```").next().unwrap();
    assert!(section.contains(&formulas[0].1["SELECT ".len()..]), "the selection of the view");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut count = 0;
    for row in rows {
        let cells: Vec<Vec<&str>> =
            row.split(" | ").take(2).map(|cell| cell.split('`').skip(1).step_by(2).collect()).collect();
        for (name, formula) in cells[0].iter().zip(&cells[1]) {
            let column = ((*name).to_owned(), (*formula).to_owned());
            assert!(formulas.contains(&column), "{column:?} is not in conf/domino/icm.dxl");
            count += 1;
        }
    }
    assert!(count > 6, "only {count} columns were found");
}

//! Every format that real servers were seen to send, and malformed input.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const FLAT_XML: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/cldbdir-pathname-flat.readviewentries.xml"
));
const FLAT_JSON: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/cldbdir-pathname-flat.readviewentries.json"
));
const CATEGORISED_XML: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/cldbdir-replicaid-categorised.readviewentries.xml"
));
const CATEGORISED_JSON: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/cldbdir-replicaid-categorised.readviewentries.json"
));
const NAMES_XML: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/names-servers.readviewentries.xml"));
const NAMES_JSON: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/names-servers.readviewentries.json"));

fn xml(body: &str) -> Page {
    parse(ViewFormat::Xml, body.as_bytes()).unwrap()
}

fn json(body: &str) -> Page {
    parse(ViewFormat::Json, body.as_bytes()).unwrap()
}

fn number(n: u32) -> Column {
    Column::Number(n)
}

/// The values of a single column with the content `inner`.
fn in_xml(inner: &str) -> Vec<String> {
    let page = xml(&format!(
        "<viewentries toplevelentries=\"1\"><viewentry position=\"1\"><entrydata columnnumber=\"0\" name=\"A\">{inner}</entrydata></viewentry></viewentries>"
    ));
    page.rows[0].columns[0].values.clone()
}

fn in_json(inner: &str) -> Vec<String> {
    let page = json(&format!("{{\"viewentry\":{{\"entrydata\":{{{inner}}}}}}}"));
    page.rows[0].columns[0].values.clone()
}

#[test]
fn a_flat_view_reads_the_same_from_xml_and_json() {
    let page = parse(ViewFormat::Xml, FLAT_XML).unwrap();
    assert_eq!(page, parse(ViewFormat::Json, FLAT_JSON).unwrap());
    assert_eq!((page.top_level_entries, page.rows.len()), (Some(5), 5));
    let row = &page.rows[4];
    assert_eq!((row.position.as_str(), row.is_category), ("5", false));
    assert_eq!(row.text(&number(0)), "apps\\leads.nsf");
    assert_eq!(row.text(&Column::Name("servername".to_owned())), "CN=Web2/O=Acme");
    assert_eq!(row.text(&number(3)), "C1257A000041D2E0");
    assert_eq!(row.text(&number(9)), "");
}

#[test]
fn the_value_of_a_category_is_copied_to_its_documents() {
    let page = parse(ViewFormat::Xml, CATEGORISED_XML).unwrap();
    assert_eq!(page, parse(ViewFormat::Json, CATEGORISED_JSON).unwrap());
    assert_eq!(page.rows.iter().filter(|row| row.is_category).count(), 3);
    let mut categories = Categories::default();
    let rows: Vec<Row> = page.rows.into_iter().filter_map(|row| categories.take(row)).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.text(&number(0))).collect();
    assert_eq!(
        ids,
        ["852562F3007ABFD6", "852562F3007ABFD6", "C125790F002B11AA", "C1257A000041D2E0", "C1257A000041D2E0"]
    );
}

#[test]
fn nested_categories_end_where_their_position_ends() {
    let row = |position: &str, is_category: bool, column: u32, value: &str| Row {
        position: position.to_owned(),
        is_category,
        columns: vec![ColumnValue { number: column, name: String::new(), values: vec![value.to_owned()] }],
    };
    let mut categories = Categories::default();
    assert_eq!(categories.take(row("1", true, 0, "A")), None);
    assert_eq!(categories.take(row("1.1", true, 1, "a")), None);
    let deep = categories.take(row("1.1.1", false, 2, "x")).unwrap();
    assert_eq!([0, 1, 2].map(|n| deep.text(&number(n)).to_owned()), ["A", "a", "x"]);
    let blank = categories.take(row("1.2", false, 0, " ")).unwrap();
    assert_eq!((blank.text(&number(0)), blank.text(&number(1))), ("A", ""));
    let flat = categories.take(row("2", false, 2, "y")).unwrap();
    assert_eq!(flat.text(&number(0)), "");
}

#[test]
fn lists_and_empty_texts_read_the_same_from_xml_and_json() {
    let page = parse(ViewFormat::Xml, NAMES_XML).unwrap();
    assert_eq!(page, parse(ViewFormat::Json, NAMES_JSON).unwrap());
    assert_eq!(page.rows[0].values(&number(2)).unwrap(), ["web1.acme.example", "10.0.0.11"]);
    assert_eq!(page.rows[3].text(&number(1)), "");
}

#[test]
fn a_page_past_the_end_has_no_rows() {
    let body =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/readviewentries-past-end.json"));
    assert_eq!(parse(ViewFormat::Json, body).unwrap(), Page { top_level_entries: Some(5), rows: vec![] });
    assert_eq!(
        xml("<viewentries toplevelentries=\"5\"/>"),
        Page { top_level_entries: Some(5), rows: vec![] }
    );
    assert_eq!(json("{\"@toplevelentries\":\"5\",\"viewentry\":null}").rows, vec![]);
}

#[test]
fn a_single_row_or_column_need_not_be_in_a_list() {
    let body = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/readviewentries-single-entry.json"
    ));
    let page = parse(ViewFormat::Json, body).unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(page.rows[0].text(&Column::Name("PATHNAME".to_owned())), "mail\\jdoe.nsf");
    assert_eq!(json("{\"viewentry\":[{\"@position\":\"1\"}]}").rows[0].columns, vec![]);
}

#[test]
fn invalid_escapes_are_repaired() {
    let body = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/readviewentries-invalid-escapes.json.txt"
    ));
    let page = parse(ViewFormat::Json, body).unwrap();
    assert_eq!(page.rows[0].text(&number(0)), "apps\\qa.nsf");
    assert_eq!(page.rows[0].text(&number(1)), "Questions <internal> !important");
}

#[test]
fn a_login_page_is_not_an_empty_view() {
    let body =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/not-authorised-login-page.html"));
    for format in [ViewFormat::Xml, ViewFormat::Json] {
        assert_eq!(parse(format, body), Err(PageError::Html));
    }
}

#[test]
fn truncated_and_foreign_texts_are_errors() {
    for end in [0, 1, 40, 200, FLAT_XML.len() / 2, FLAT_XML.len() - 16] {
        assert!(parse(ViewFormat::Xml, &FLAT_XML[..end]).is_err(), "{end}");
    }
    for end in [0, 1, 40, 200, FLAT_JSON.len() / 2, FLAT_JSON.len() - 4] {
        assert!(parse(ViewFormat::Json, &FLAT_JSON[..end]).is_err(), "{end}");
    }
    assert!(matches!(parse(ViewFormat::Xml, FLAT_JSON), Err(PageError::NotViewEntries(_))));
    assert!(matches!(parse(ViewFormat::Json, FLAT_XML), Err(PageError::NotViewEntries(_))));
    let service =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dataservice-collection.json"));
    assert!(matches!(parse(ViewFormat::Json, service), Err(PageError::NotViewEntries(_))));
}

#[test]
fn xml_references_are_resolved_and_surrogates_joined() {
    assert_eq!(
        in_xml("<text>a &lt;b&gt; &amp;amp; &quot;&apos; &#228;&#xE4;</text>"),
        ["a <b> &amp; \"' ää"]
    );
    assert_eq!(
        in_xml("<text>&#55357;&#56832; &#55357; x &#56832;&#xd83d;&#xDE00;</text>"),
        ["😀 \u{fffd} x \u{fffd}😀"]
    );
    assert_eq!(
        in_xml("<text>&#0;&#x110000;&#99999999999;&nbsp;&euml;</text>"),
        ["\u{fffd}\u{fffd}\u{fffd}\u{a0}&euml;"]
    );
    assert_eq!(in_xml("<text>AT&T & Co &</text>"), ["AT&T & Co &"]);
    assert_eq!(in_xml("<text><![CDATA[a<b>&amp;]]></text>"), ["a<b>&amp;"]);
    let page = xml(
        "<viewentries><viewentry position='1&#46;2'><entrydata name=\"A&amp;B &x\"><text/></entrydata></viewentry></viewentries>",
    );
    assert_eq!((page.rows[0].position.as_str(), page.rows[0].columns[0].name.as_str()), ("1.2", "A&B &x"));
}

#[test]
fn values_of_every_type_become_text() {
    assert_eq!(in_xml("<text/>"), [""]);
    assert_eq!(in_xml("\n<text>a<br/>b<break/>c</text>\n"), ["a\nb\nc"]);
    assert_eq!(in_xml("<number>80</number>"), ["80"]);
    assert_eq!(in_xml("<datetime dst=\"true\">20100416T112140,02Z</datetime>"), ["20100416T112140,02Z"]);
    assert_eq!(in_xml("<numberlist><number>1</number><number>2</number></numberlist>"), ["1", "2"]);
    assert_eq!(in_xml("<textlist/>"), Vec::<String>::new());
    assert_eq!(in_xml(""), Vec::<String>::new());
    assert_eq!(in_json("\"text\":{\"0\":\"\"}"), [""]);
    assert_eq!(in_json("\"number\":{\"0\":\"80\"}"), ["80"]);
    assert_eq!(in_json("\"number\":{\"0\":80},\"@name\":\"x\""), ["80"]);
    assert_eq!(in_json("\"text\":\"plain\""), ["plain"]);
    assert_eq!(in_json("\"textlist\":{\"text\":[{\"0\":\"a\"},{\"0\":\"b\"}]}"), ["a", "b"]);
    assert_eq!(in_json("\"textlist\":{\"text\":{\"0\":\"a\",\"1\":\"b\"}}"), ["a", "b"]);
    assert_eq!(in_json("\"textlist\":{\"text\":[\"a\",\"b\"]}"), ["a", "b"]);
    assert_eq!(
        in_json("\"datetime\":{\"@dst\":\"true\",\"0\":\"20260902T193518,00Z\"}"),
        ["20260902T193518,00Z"]
    );
}

#[test]
fn a_column_without_a_number_is_numbered_by_its_position() {
    let page = xml(
        "<viewentries><viewentry><entrydata name='A'><text>a</text></entrydata><entrydata name='B'><text>b</text></entrydata></viewentry></viewentries>",
    );
    assert_eq!(page.rows[0].text(&number(1)), "b");
    let page = json("{\"viewentry\":[{\"entrydata\":[{\"text\":\"a\"},{\"text\":\"b\"}]}]}");
    assert_eq!(page.rows[0].text(&number(1)), "b");
}

#[test]
fn a_row_without_unid_but_with_children_is_a_category() {
    assert!(xml("<viewentries><viewentry position='1' children='2'/></viewentries>").rows[0].is_category);
    assert!(
        !xml("<viewentries><viewentry position='1' unid='A' children='2'/></viewentries>").rows[0]
            .is_category
    );
    assert!(json("{\"viewentry\":{\"@position\":\"1\",\"@descendants\":\"2\"}}").rows[0].is_category);
    assert!(!json("{\"viewentry\":{\"@unid\":\"A\",\"@descendants\":\"2\"}}").rows[0].is_category);
}

#[test]
fn latin_1_is_decoded_if_declared_and_is_never_an_error() {
    let body = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><viewentries><viewentry><entrydata><text>B\xfcro</text></entrydata></viewentry></viewentries>";
    assert_eq!(parse(ViewFormat::Xml, body).unwrap().rows[0].text(&number(0)), "Büro");
    let body = b"{\"viewentry\":{\"entrydata\":{\"text\":{\"0\":\"B\xfcro\"}}}}";
    assert_eq!(parse(ViewFormat::Json, body).unwrap().rows[0].text(&number(0)), "B\u{fffd}ro");
}

#[test]
fn excessive_depth_and_counts_are_refused() {
    let deep = format!("<viewentries>{}", "<a>".repeat(100_000));
    assert!(matches!(parse(ViewFormat::Xml, deep.as_bytes()), Err(PageError::LimitExceeded(_))));
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(parse(ViewFormat::Json, deep.as_bytes()).is_err());
    let deep = format!("{{\"viewentry\":{{\"entrydata\":{{\"text\":{}", "{\"0\":".repeat(100_000));
    assert!(parse(ViewFormat::Json, deep.as_bytes()).is_err());
    let wrapped = "{\"viewentries\":".repeat(100_000);
    assert!(parse(ViewFormat::Json, wrapped.as_bytes()).is_err());
    let many = format!("<viewentries>{}</viewentries>", "<viewentry/>".repeat(MAX_ROWS + 1));
    assert!(matches!(parse(ViewFormat::Xml, many.as_bytes()), Err(PageError::LimitExceeded(_))));
    let many = format!("{{\"viewentry\":[{}{{}}]}}", "{},".repeat(MAX_ROWS));
    assert!(matches!(parse(ViewFormat::Json, many.as_bytes()), Err(PageError::LimitExceeded(_))));
    let wide = format!("<viewentries><viewentry>{}</viewentry></viewentries>", "<entrydata/>".repeat(1000));
    assert_eq!(xml(&wide).rows[0].columns.len(), MAX_COLUMNS);
    assert_eq!(in_xml(&"<text>a</text>".repeat(5000)).len(), MAX_VALUES);
    assert_eq!(in_json(&format!("\"text\":[{}1]", "1,".repeat(5000))).len(), MAX_VALUES);
    let bomb = "<!DOCTYPE v [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;\">]><viewentries><viewentry><entrydata><text>&b;</text></entrydata></viewentry></viewentries>";
    assert_eq!(xml(bomb).rows[0].text(&number(0)), "&b;");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn write_xml(page: &Page) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<viewentries timestamp=\"x\"");
    if let Some(count) = page.top_level_entries {
        out.push_str(&format!(" toplevelentries=\"{count}\""));
    }
    out.push_str(">\n");
    for row in &page.rows {
        out.push_str(&format!("<viewentry position=\"{}\" unid=\"A\">\n", row.position));
        for column in &row.columns {
            let name = escape(&column.name).replace('"', "&quot;");
            out.push_str(&format!("<entrydata columnnumber=\"{}\" name=\"{name}\">\n", column.number));
            for value in &column.values {
                out.push_str(&format!("<text>{}</text>\n", escape(value)));
            }
            out.push_str("</entrydata>\n");
        }
        out.push_str("</viewentry>\n");
    }
    out.push_str("</viewentries>\n");
    out
}

fn write_json(page: &Page) -> String {
    use serde_json::{Map, Value, json};
    let text = |value: &String| json!({ "0": value });
    let mut root = Map::new();
    if let Some(count) = page.top_level_entries {
        root.insert("@toplevelentries".to_owned(), Value::String(count.to_string()));
    }
    let rows: Vec<Value> = page
        .rows
        .iter()
        .map(|row| {
            let columns: Vec<Value> = row
                .columns
                .iter()
                .map(|column| {
                    json!({
                        "@columnnumber": column.number.to_string(), "@name": column.name,
                        "textlist": { "text": column.values.iter().map(text).collect::<Vec<_>>() },
                    })
                })
                .collect();
            json!({ "@position": row.position, "@unid": "A", "entrydata": columns })
        })
        .collect();
    root.insert("viewentry".to_owned(), Value::Array(rows));
    Value::Object(root).to_string()
}

fn pages() -> impl Strategy<Value = Page> {
    let value = "[^\\x00]{0,12}";
    let column = (0_u32..9, "[^\\x00\\s]{0,6}", proptest::collection::vec(value, 0..4))
        .prop_map(|(number, name, values)| ColumnValue { number, name, values });
    let row = ("[0-9]{1,3}(\\.[0-9]{1,2}){0,2}", proptest::collection::vec(column, 0..4))
        .prop_map(|(position, columns)| Row { position, is_category: false, columns });
    (any::<Option<u64>>(), proptest::collection::vec(row, 0..5))
        .prop_map(|(top_level_entries, rows)| Page { top_level_entries, rows })
}

proptest! {
    #[test]
    fn a_page_written_as_xml_is_read_unchanged(page in pages()) {
        prop_assert_eq!(parse(ViewFormat::Xml, write_xml(&page).as_bytes()), Ok(page));
    }

    #[test]
    fn a_page_written_as_json_is_read_unchanged(page in pages()) {
        prop_assert_eq!(parse(ViewFormat::Json, write_json(&page).as_bytes()), Ok(page));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(ViewFormat::Xml, &bytes);
        let _ = parse(ViewFormat::Json, &bytes);
    }

    #[test]
    fn no_mutation_of_a_real_response_makes_a_parser_panic(
        at in 0_usize..2000, bytes in proptest::collection::vec(any::<u8>(), 0..6), cut in 0_usize..8
    ) {
        for (format, sample) in [(ViewFormat::Xml, CATEGORISED_XML), (ViewFormat::Json, CATEGORISED_JSON)] {
            let mut body = sample.to_vec();
            let end = (at + cut).min(body.len());
            body.splice(at.min(end)..end, bytes.iter().copied());
            let _ = parse(format, &body);
        }
    }
}

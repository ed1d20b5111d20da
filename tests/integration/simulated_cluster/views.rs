//! The views of the simulated cluster in Domino's shapes: the Cluster Database Directory and Server documents.

use crate::support::*;
use serde_json::{Value, json};

const PATHNAME: &str = "/cldbdir.nsf/($Pathname)?ReadViewEntries";

/// Without what differs between readings.
fn without_stamp(text: &str) -> String {
    let at = text.find("timestamp").unwrap();
    let end = at + text[at..].find("Z\"").unwrap();
    format!("{}{}", &text[..at], &text[end + 2..])
}

#[test]
fn the_flat_view_has_the_shape_of_domino_in_xml() {
    let acme = Acme::sample();
    let answer = Client::to(acme.http("Web1")).get(&format!("{PATHNAME}&Start=4&Count=1"));
    assert_eq!(answer.header("content-type"), Some("text/xml; charset=UTF-8"));
    assert_eq!(
        without_stamp(&answer.text()),
        without_stamp(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<viewentries timestamp="20261120T081500,12Z" toplevelentries="8">
<viewentry position="4" unid="E86886A81087A25805258E4F00502008" noteid="916" siblings="8">
<entrydata columnnumber="0" name="Pathname">
<text>cldbdir.nsf</text>
</entrydata>
<entrydata columnnumber="1" name="ServerName">
<text>CN=Web3/O=Acme</text>
</entrydata>
<entrydata columnnumber="2" name="$2">
<text/>
</entrydata>
<entrydata columnnumber="3" name="ReplicaID">
<text>C1256A2F00310002</text>
</entrydata>
</viewentry>
</viewentries>
"#
        )
    );
}

#[test]
fn the_flat_view_has_the_shape_of_domino_in_json() {
    let acme = Acme::sample();
    let mut client = Client::to(acme.http("Web2"));
    let got = client.get(&format!("{PATHNAME}&OutputFormat=JSON&Start=5&Count=2")).json();
    assert_eq!(got["@toplevelentries"], "8");
    assert_eq!(
        got["viewentry"][0],
        json!({
            "@position": "5", "@unid": "E86886A81087A25805258E4F00502001", "@noteid": "8FA", "@siblings": "8",
            "entrydata": [
                { "@columnnumber": "0", "@name": "Pathname", "text": { "0": "mail\\jdoe.nsf" } },
                { "@columnnumber": "1", "@name": "ServerName", "text": { "0": "CN=Web1/O=Acme" } },
                { "@columnnumber": "2", "@name": "$2", "text": { "0": "Jane Doe" } },
                { "@columnnumber": "3", "@name": "ReplicaID", "text": { "0": "852562F3007ABFD6" } },
            ],
        })
    );
    let one = client.get(&format!("{PATHNAME}&OutputFormat=JSON&Start=8")).json();
    assert_eq!(one["viewentry"]["@position"], "8", "one entry is no list");
    let none = client.get(&format!("{PATHNAME}&OutputFormat=JSON&Start=9")).json();
    let keys: Vec<&String> = none.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["@timestamp", "@toplevelentries"]);
}

#[test]
fn the_categorised_view_shows_documents_only_when_expanded() {
    let acme = Acme::sample();
    let mut client = Client::to(acme.http("Web1"));
    let view = "/cldbdir.nsf/Databases+by+Replica+ID?ReadViewEntries&OutputFormat=JSON";
    assert_eq!(client.get(view).json()["viewentry"].as_array().unwrap().len(), 4);
    let all = client.get(&format!("{view}&ExpandView")).json();
    let positions: Vec<&str> =
        all["viewentry"].as_array().unwrap().iter().map(|e| e["@position"].as_str().unwrap()).collect();
    assert_eq!(positions, ["1", "1.1", "1.2", "2", "2.1", "2.2", "2.3", "3", "3.1", "4", "4.1", "4.2"]);
    assert_eq!(
        all["viewentry"][0],
        json!({
            "@position": "1", "@noteid": "80000004", "@children": "2", "@descendants": "2", "@siblings": "4",
            "entrydata": [{ "@columnnumber": "0", "@name": "ReplicaID", "@category": "true",
                            "text": { "0": "852562F3007ABFD6" } }],
        })
    );
    assert_eq!(all["viewentry"][2]["@siblings"], "2");
    assert_eq!(all["viewentry"][2]["entrydata"][1]["text"]["0"], "mail\\jdoe.nsf");
    let from = client.get(&format!("{view}&ExpandView&Start=3.1&Count=1")).json();
    assert_eq!(from["viewentry"]["@position"], "3.1");
    let xml = client.get("/cldbdir.nsf/Databases%20by%20Replica%20ID?ReadViewEntries&Count=1").text();
    assert!(xml.contains(
        "<viewentry position=\"1\" noteid=\"80000004\" children=\"2\" descendants=\"2\" siblings=\"4\">\n\
         <entrydata columnnumber=\"0\" name=\"ReplicaID\" category=\"true\">\n<text>852562F3007ABFD6</text>"
    ));
}

#[test]
fn a_reading_stops_at_30_rows_and_at_1000() {
    let acme = Acme::start(
        "{servers: [{name: Web1/Acme}], generate: {databases: 1200, copies: 1},
          databases: [{path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all}]}",
    );
    let mut client = Client::to(acme.http("Web1"));
    let mut rows = |arguments: &str| {
        let answer = client.get(&format!("{PATHNAME}&OutputFormat=JSON{arguments}")).json();
        (answer["viewentry"].as_array().unwrap().len(), answer["@rangeentries"].clone())
    };
    assert_eq!(rows(""), (30, Value::Null));
    assert_eq!(rows("&Count=-1"), (1000, json!("1000")));
    assert_eq!(rows("&Count=1000&Start=1001"), (201, Value::Null));
}

#[test]
fn every_trap_of_the_directory_can_be_set() {
    let acme = Acme::sample();
    let mut client = Client::to(acme.http("Web1"));
    let json = format!("{PATHNAME}&OutputFormat=JSON");
    let mut with = |trap: Value, target: &str| {
        acme.set("Web1", json!({ "dir": trap }));
        client.get(target)
    };
    let answer = with(json!({"invalid_escapes": true}), &json);
    assert!(answer.text().contains(r"Leads \<internal\> \!important"));
    assert!(serde_json::from_str::<Value>(&answer.text()).is_err(), "no strict reader takes it");
    let answer = with(json!({"invalid_escapes": false, "surrogates": true}), PATHNAME);
    assert!(answer.text().contains("<text>Leads &#55357;&#56832;</text>"));
    let answer = with(json!({"surrogates": false, "duplicates": true}), &json);
    assert_eq!(answer.json()["@toplevelentries"], "16");
    let answer = with(json!({"duplicates": false, "truncated": true}), PATHNAME);
    assert!(answer.complete && !answer.text().contains("</viewentries>"));
    assert_eq!(with(json!({"truncated": false, "empty": true}), &json).json()["@toplevelentries"], "0");
    assert_eq!(with(json!({"empty": false, "keep_percent": 50}), &json).json()["@toplevelentries"], "4");
    assert_eq!(with(json!({"keep_percent": 100, "hidden_view_404": true}), PATHNAME).status, 404);
    assert_eq!(with(json!({}), "/cldbdir.nsf/Databases+by+Pathname?ReadViewEntries").status, 200);
    let answer = with(json!({"hidden_view_404": false, "unauthorised": true}), PATHNAME);
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("<form method=\"post\" action=\"/names.nsf?Login\" name=\"_DominoForm\">")
    );
    assert!(answer.text().contains("value=\"/cldbdir.nsf/($Pathname)?ReadViewEntries\""));
    assert_eq!(with(json!({"unauthorised": false, "error500": true}), PATHNAME).status, 500);
    let second = format!("{json}&Start=2");
    let answer = with(json!({"error500": false, "changes_while_paging": 1}), &second);
    assert_eq!(answer.json()["@toplevelentries"], "9");
    assert_eq!(client.get(&second).json()["@toplevelentries"], "9");
    acme.ask("POST", "/reset", None);
    assert_eq!(client.get(&json).json()["@toplevelentries"], "8");
}

#[test]
fn the_server_documents_show_ports_and_membership() {
    let acme = Acme::built_in();
    let mut client = Client::to(acme.http("Web3"));
    let view = "/names.nsf/ICM%20Servers?ReadViewEntries&OutputFormat=JSON";
    let value = |answer: &Value, row: usize, column: usize| {
        let cell = &answer["viewentry"][row]["entrydata"][column];
        let value = cell["text"]["0"].as_str().or(cell["number"]["0"].as_str()).unwrap().to_owned();
        (cell["@name"].as_str().unwrap().to_owned(), value)
    };
    let got = client.get(view).json();
    assert_eq!(got["@toplevelentries"], "5");
    let port = acme.http("Web2").port().to_string();
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(value(&got, 1, 0), named("ServerName", "CN=Web2/O=Acme"));
    assert_eq!(value(&got, 1, 1), named("HostName", "web2.acme.example"));
    let list = |column: usize| got["viewentry"][1]["entrydata"][column]["textlist"]["text"].clone();
    assert_eq!(list(2), json!([{ "0": "192.0.2.1" }, { "0": "127.0.0.1" }]), "a private port comes first");
    assert_eq!(list(8), json!([{ "0": "CLUSTER" }, { "0": "TCPIP" }]));
    assert_eq!(value(&got, 1, 3), named("ClusterName", "AcmeWeb"));
    assert_eq!(value(&got, 1, 4), named("HTTPPort", &port));
    assert_eq!(value(&got, 1, 5), named("HTTPStatus", "1"));
    assert_eq!(value(&got, 1, 7).0, "HTTPSStatus");
    assert_eq!(value(&got, 4, 3), named("ClusterName", ""));
    acme.set("Web2", json!({ "member": false }));
    assert_eq!(value(&client.get(view).json(), 1, 3), named("ClusterName", ""));
    let xml = client.get("/names.nsf/ICM+Servers?ReadViewEntries").text();
    assert!(xml.contains("<number>"));
    assert!(xml.contains("<textlist>\n<text>CLUSTER</text>\n<text>TCPIP</text>\n</textlist>"), "{xml}");
}

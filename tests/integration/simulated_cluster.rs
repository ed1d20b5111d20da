//! The simulated cluster itself: payloads in Domino's shapes, and what a client sees of each fault.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::*;
use serde_json::{Value, json};

/// Two servers and the databases of the published samples.
const SAMPLE: &str = "
servers:
  - { name: Web1/Acme, set: { index: 84, threshold: 20, users: 96 } }
  - { name: Web2/Acme }
  - { name: Web3/Acme, https: false, agent: false, metrics: false }
outsiders: [Hub1/Acme]
users: { ICM Reader/Acme: reader }
databases:
  - { path: mail/jdoe.nsf, replica_id: 852562F3007ABFD6, title: Jane Doe, replicas: [Web1, Web2] }
  - { path: sales/leads.nsf, replica_id: C1257A000041D2E0, title: Leads, replicas: [Web1, {server: Web2, path: apps/leads.nsf}] }
  - { path: sales/leads.nsf, replica_id: C125790F002B11AA, title: Leads (old project), replicas: [Web3] }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: [] }
";

/// The sample's directory, with cldbdir.nsf on every member, as it must be to be read.
fn sample() -> Acme {
    Acme::start(&SAMPLE.replace("replicas: []", "replicas: all"))
}

const PATHNAME: &str = "/cldbdir.nsf/($Pathname)?ReadViewEntries";

/// Without what differs between readings.
fn without_stamp(text: &str) -> String {
    let at = text.find("timestamp").unwrap();
    let end = at + text[at..].find("Z\"").unwrap();
    format!("{}{}", &text[..at], &text[end + 2..])
}

#[test]
fn the_flat_view_has_the_shape_of_domino_in_xml() {
    let acme = sample();
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
    let acme = sample();
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
    let acme = sample();
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
    let acme = sample();
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
    assert_eq!(value(&got, 1, 2), named("NetAddress", "127.0.0.1"));
    assert_eq!(value(&got, 1, 3), named("ClusterName", "AcmeWeb"));
    assert_eq!(value(&got, 1, 4), named("HTTPPort", &port));
    assert_eq!(value(&got, 1, 5), named("HTTPStatus", "1"));
    assert_eq!(value(&got, 1, 7).0, "HTTPSStatus");
    assert_eq!(value(&got, 4, 3), named("ClusterName", ""));
    acme.set("Web2", json!({ "member": false }));
    assert_eq!(value(&client.get(view).json(), 1, 3), named("ClusterName", ""));
    assert!(client.get("/names.nsf/ICM+Servers?ReadViewEntries").text().contains("<number>"));
}

#[test]
fn a_database_answers_where_it_lies_and_nowhere_else() {
    let acme = Acme::built_in();
    let get = |server: &str, target: &str| Client::to(acme.http(server)).get(target);
    let answer = get("Web2", "/APPS%5cLeads.nsf/by+name?OpenView&echo=json&rid=a1");
    assert_eq!((answer.status, answer.header("server")), (200, Some("Lotus-Domino")));
    assert_eq!(answer.header("x-acme-path"), Some("apps/leads.nsf"));
    let page = answer.json();
    assert_eq!(page["server"], "Web2/Acme");
    assert_eq!(page["replica_id"], "C1257A000041D2E0");
    assert_eq!(page["target"], "/APPS%5cLeads.nsf/by+name?OpenView&echo=json&rid=a1");
    assert_eq!(acme.executed_on("a1", "Web2"), (1, 1));
    let missing = get("Web4", "/apps/leads.nsf");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("HTTP Web Server: File does not exist"));
    for target in
        ["/__C1257A000041D2E0.nsf", "/C1257A000041D2E0.NSF/x?OpenPage", "/apps/leads.nsf!OpenDatabase"]
    {
        assert_eq!(get("Web2", target).header("x-acme-path"), Some("apps/leads.nsf"), "{target}");
    }
    let umlauts = get("Web4", "/B%C3%BCro/Vertr%C3%A4ge+2026.nsf");
    assert_eq!(umlauts.header("x-acme-path"), Some("b%C3%BCro/vertr%C3%A4ge%202026.nsf"));
    assert_eq!(get("Web1", "/homepage.nsf?size=70000&chunked=1").body.len(), 70_000);
    assert_eq!(get("Web1", "/homepage.nsf?status=418&size=0").status, 418);
    assert_eq!(get("Web1", "/fast").body.len(), 1024);
    let location = get("Web1", "/sales/leads.nsf?OpenDatabase&redirect=Web2");
    let port = acme.http("Web2").port();
    let wanted = format!("http://web2.acme.example:{port}/apps/leads.nsf?OpenDatabase&redirected=1");
    assert_eq!((location.status, location.header("location")), (302, Some(wanted.as_str())));
}

#[test]
fn a_page_names_its_server_in_every_header_that_a_proxy_has_to_rewrite() {
    let acme = Acme::built_in();
    let own = format!("http://web2.acme.example:{}/apps/leads.nsf", acme.http("Web2").port());
    let page = Client::to(acme.http("Web2")).get("/apps/leads.nsf/rewrite?OpenPage");
    assert_eq!(page.header("content-location"), Some(&*format!("{own}/rewrite?OpenPage")));
    assert_eq!(page.header("refresh"), Some(&*format!("600; url={own}/rewrite?OpenPage")));
    assert_eq!(page.header("x-xsplocation"), Some(&*format!("{own}/page.xsp")));
    let cookies = [
        "AcmeHost=1; Domain=web2.acme.example; Path=/apps/leads.nsf",
        "AcmeDomain=2; domain=.acme.example; path=/apps/leads.nsf/sub; HttpOnly",
        "AcmeRoot=3; Path=/; Secure; SameSite=Lax",
    ];
    assert_eq!(page.all("set-cookie"), cookies);
    assert_eq!(page.header("strict-transport-security"), Some("max-age=0"));
}

#[test]
fn an_xpage_is_lost_on_another_server() {
    let acme = Acme::built_in();
    let get = |server: &str, cookie: &str| {
        Client::to(acme.http(server)).get_with("/app.nsf/home.xsp?echo=json", &[("Cookie", cookie)])
    };
    let first = get("Web1", "other=1");
    assert_eq!(first.json()["xpages_state"], "new");
    let cookie = format!("SessionID={}", first.cookie("SessionID").unwrap());
    assert_eq!(get("Web1", &cookie).json()["xpages_state"], "known");
    assert_eq!(get("Web2", &cookie).json()["xpages_state"], "lost");
}

#[test]
fn databases_come_go_and_are_marked_while_it_runs() {
    let acme = Acme::built_in();
    let mut web4 = Client::to(acme.http("Web4"));
    let view = "/cldbdir.nsf/($ReplicaID)?ReadViewEntries&OutputFormat=JSON&Count=-1";
    let row = |client: &mut Client, path: &str| {
        let all = client.get(view).json();
        let cells = |e: &Value| -> Vec<String> {
            let text = |c: &Value| c["text"]["0"].as_str().unwrap().to_owned();
            e["entrydata"].as_array().unwrap().iter().map(text).collect()
        };
        all["viewentry"]
            .as_array()
            .unwrap()
            .iter()
            .map(cells)
            .find(|r| r[3] == path && r[2] == "CN=Web4/O=Acme")
    };
    assert_eq!(row(&mut web4, r"new\one.nsf"), None);
    let copy =
        json!({"server": "Web4", "path": "new/one.nsf", "replica_id": "C1257A000041FFFF", "title": "One"});
    acme.ask("POST", "/databases", Some(&copy));
    assert_eq!(web4.get("/new/one.nsf").status, 200);
    let wanted = |mark: &str| {
        Some(
            ["C1257A000041FFFF", "One", "CN=Web4/O=Acme", r"new\one.nsf", mark, ""]
                .map(String::from)
                .to_vec(),
        )
    };
    assert_eq!(row(&mut web4, r"new\one.nsf"), wanted(""));
    acme.ask(
        "POST",
        "/databases",
        Some(&json!({"server": "Web4", "path": "new/one.nsf", "mark": "out_of_service"})),
    );
    assert_eq!(row(&mut web4, r"new\one.nsf"), wanted("1"));
    acme.ask("DELETE", "/databases?server=Web4&path=new/one.nsf", None);
    assert_eq!((web4.get("/new/one.nsf").status, row(&mut web4, r"new\one.nsf")), (404, None));
}

#[test]
fn a_body_is_read_to_its_end_however_it_is_framed() {
    let acme = sample();
    let mut client = Client::to(acme.http("Web1"));
    let target = "/mail/jdoe.nsf/memo?CreateDocument&echo=json";
    let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let known = client.post(target, &[("Expect", "100-continue")], "abc");
    assert_eq!(known.informational, [100]);
    assert_eq!(
        (known.json()["body_length"].clone(), known.json()["body_sha256"].clone()),
        (json!(3), json!(sha))
    );
    let chunked = client.request(
        "POST",
        target,
        &[("Transfer-Encoding", "chunked"), ("X-Request-Id", "chunks")],
        b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\nTrailer: 1\r\n\r\n",
    );
    assert_eq!(chunked.unwrap().json()["body_sha256"], sha);
    assert_eq!(acme.executed_on("chunks", "Web1"), (1, 1));
    assert!(client.connected());
    client
        .send(b"POST /mail/jdoe.nsf HTTP/1.0\r\nX-Request-Id: half\r\nContent-Length: 10\r\n\r\nabc")
        .unwrap();
    client.close();
    assert!(eventually(Duration::from_secs(5), || acme.executed_on("half", "Web1") == (1, 0)));
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(client.read("POST").unwrap().status, 400);
}

#[test]
fn a_session_is_good_on_its_own_server_only() {
    let acme = Acme::built_in();
    let form = "Username=jane+doe&Password=secret&RedirectTo=%2Fmail%2Fjdoe.nsf%3FOpen";
    let (mut web1, mut web2) = (Client::to(acme.http("Web1")), Client::to(acme.http("Web2")));
    let asked = web1.get("/mail/jdoe.nsf?Open");
    assert_eq!(asked.status, 200);
    assert!(asked.text().contains("name=\"RedirectTo\" type=\"hidden\" value=\"/mail/jdoe.nsf?Open\""));
    assert!(web1.post("/names.nsf?Login", &[], "Username=jane+doe&Password=no").text().contains("invalid"));
    let login = web1.post("/names.nsf?Login", &[], form);
    assert_eq!((login.status, login.header("location")), (302, Some("/mail/jdoe.nsf?Open")));
    let cookie = format!("DomAuthSessId={}", login.cookie("DomAuthSessId").unwrap());
    let user = |client: &mut Client| {
        let page = client.get_with("/mail/jdoe.nsf?Open&echo=json", &[("Cookie", &cookie)]);
        serde_json::from_slice::<Value>(&page.body).map(|v| v["user"].clone()).unwrap_or_default()
    };
    assert_eq!(user(&mut web1), "CN=Jane Doe/O=Acme");
    assert_eq!(user(&mut web2), Value::Null, "another server shows its login form");
    web1.get_with("/names.nsf?Logout", &[("Cookie", &cookie)]);
    assert_eq!(user(&mut web1), Value::Null);
    let basic = ("Authorization", "Basic SUNNIFJlYWRlcjpyZWFkZXI=");
    assert_eq!(web2.get_with("/mail/jdoe.nsf?echo=json", &[basic]).json()["user"], "CN=ICM Reader/O=Acme");
    assert_eq!(web2.get_with("/mail/jdoe.nsf", &[("Authorization", "Basic eDp5")]).status, 401);
}

#[test]
fn cookies_are_named_as_the_scenario_says() {
    let login = |extra: &str| {
        let acme = Acme::start(&format!("{SAMPLE}\n{extra}").replace("replicas: []", "replicas: all"));
        let form = "Username=ICM+Reader&Password=reader";
        Client::to(acme.http("Web1"))
            .post("/names.nsf?Login", &[], form)
            .header("set-cookie")
            .unwrap()
            .to_owned()
    };
    // First 11 characters of Base64url(SHA-256("CN=Web1/O=Acme")).
    let unique = login("unique_cookie_names: true");
    assert!(unique.starts_with("DomAuthSessIdyDLwuHf1mGJ="), "{unique}");
    let ltpa = login("sso: true");
    assert!(ltpa.starts_with("LtpaToken=") && ltpa.ends_with("; domain=.acme.example"), "{ltpa}");
}

#[test]
fn statistics_are_published_in_the_shapes_of_the_originals() {
    let acme = sample();
    let web1 = acme.server("Web1").clone();
    let metrics = || Client::to(web1.metrics.unwrap()).get("/metrics").text();
    assert!(metrics().starts_with(
        "# HELP Domino_Server_AvailabilityIndex Domino Stat - Server.AvailabilityIndex\n\
         # TYPE Domino_Server_AvailabilityIndex gauge\nDomino_Server_AvailabilityIndex 84\n"
    ));
    assert!(metrics().contains("\nDomino_Server_ExpansionFactor 1.95\n"));
    assert!(metrics().contains("\nDominoHealth_state 0\n"));
    acme.set("Web1", json!({ "index": 20, "restricted": 2, "maintenance": true, "frozen": true }));
    let agent = || {
        let mut line = String::new();
        std::net::TcpStream::connect(web1.agent.unwrap()).unwrap().read_to_string(&mut line).unwrap();
        line
    };
    assert_eq!(agent(), "up maint 20%\n");
    acme.set("Web1", json!({ "agent": "down # HTTP task ended", "shutdown": true }));
    assert_eq!(agent(), "down # HTTP task ended\n");
    let shut = metrics();
    let names: Vec<&str> =
        shut.lines().filter(|l| !l.starts_with('#')).map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "DominoHealth_stat_update_timestamp",
            "DominoHealth_maintenance_start_timestamp",
            "DominoHealth_maintenance_end_timestamp",
            "DominoHealth_maintenance_status",
            "DominoHealth_server_restricted_status",
            "DominoHealth_stat_shutdown_timestamp",
        ]
    );
    acme.set("Web1", json!({ "prometheus": false }));
    assert_eq!(Client::to(web1.metrics.unwrap()).get("/metrics").status, 404);
    let built_in = Acme::built_in();
    let console = Client::to(built_in.http("Web1")).get("/icmstat.nsf/stat?OpenAgent").text();
    assert!(console.starts_with("> show stat server\n  Server.AvailabilityIndex = 84\n"));
    assert!(console.contains("\n  Server_Restricted = 0\n") && console.ends_with(" statistics found\n"));
}

#[test]
fn statistics_are_pushed_where_the_settings_say() {
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let acme = sample();
    let url = format!("http://{}/statpub/{{name}}", receiver.local_addr().unwrap());
    acme.set("Web1", json!({ "statpub_url": url, "statpub_token": "t0ken" }));
    let (mut stream, _) = receiver.accept().unwrap();
    let mut text = String::new();
    while !text.contains("OpenDocument") {
        let mut piece = [0; 2048];
        let n = stream.read(&mut piece).unwrap();
        assert_ne!(n, 0, "{text}");
        text.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    assert!(text.starts_with("POST /statpub/Web1 HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nAuthorization: Bearer t0ken\r\n"), "{text}");
    assert!(
        text.contains("\r\n\r\nDomino.Server.AvailabilityIndex 84\nDomino.Server.AvailabilityThreshold 20\n")
    );
    assert!(text.contains("\nDomino.Server.Name Web1/Acme\n"));
}

#[test]
fn every_fault_is_seen_as_what_it_is() {
    let acme = Acme::built_in();
    let address = acme.http("Web1");
    let target = "/sales/leads.nsf?OpenDatabase";
    let quick = || Client::to(address).timeout(Duration::from_millis(1500));
    let outcome = |fault: Value| {
        acme.fault("Web1", fault);
        match quick().request("GET", target, &[], b"") {
            Ok(answer) => answer.status.to_string(),
            Err(failure) => failure.name().to_owned(),
        }
    };
    assert_eq!(outcome(json!("refuse")), "connect");
    assert_eq!(outcome(json!("blackhole")), "connect");
    assert_eq!(outcome(json!("reset")), "reset");
    assert_eq!(outcome(json!("close")), "closed");
    assert_eq!(outcome(json!("hang")), "timeout");
    assert_eq!(outcome(json!({"kind": "slow", "delay_ms": 1})), "200");
    assert_eq!(outcome(json!({"kind": "status", "status": 502})), "502");
    assert_eq!(outcome(json!("die_mid_body")), "truncated");
    assert_eq!(outcome(json!({"kind": "die_mid_body", "chunked": true, "end": "rst"})), "truncated");
    assert_eq!(outcome(json!("die_mid_header")), "closed");
    assert_eq!(outcome(json!("not_found")), "404");
    assert_eq!(outcome(json!("early_response")), "503");
    assert_eq!(outcome(json!({"kind": "reset", "path": "/mail"})), "200");
    assert_eq!(outcome(json!({"kind": "reset", "method": "POST"})), "200");
    assert_eq!(outcome(json!({"kind": "reset", "count": 1})), "reset");
    assert_eq!(quick().get(target).status, 200, "the count is used up");
    acme.fault("Web1", json!({"kind": "reset"}));
    assert_eq!(quick().get("/").status, 200, "the probe is left alone");
    acme.fault("Web1", json!({"kind": "reset", "probe": true}));
    assert_eq!(quick().request("GET", "/", &[], b"").unwrap_err().name(), "reset");
    acme.fault("Web1", json!("reset_on_reuse"));
    let mut kept = quick();
    assert_eq!(kept.get(target).status, 200);
    assert_eq!(kept.request("GET", target, &[], b"").unwrap_err().name(), "reset");
    acme.heal("Web1");
    assert_eq!(quick().get(target).status, 200);
}

#[test]
fn only_a_request_that_was_read_counts_as_executed() {
    let acme = Acme::built_in();
    let post = |fault: Value, rid: &str| {
        acme.fault("Web1", fault);
        let mut client = Client::to(acme.http("Web1")).timeout(Duration::from_millis(700));
        let body = vec![b'x'; 4_000_000];
        let _ = client.request("POST", "/homepage.nsf?CreateDocument", &[("X-Request-Id", rid)], &body);
        acme.executed_on(rid, "Web1")
    };
    assert_eq!(post(json!({"kind": "reset", "at": "head"}), "x1"), (1, 0));
    assert_eq!(post(json!({"kind": "reset", "at": "body"}), "x2"), (1, 1));
    assert_eq!(post(json!("stall_upload"), "x3"), (1, 0));
    assert_eq!(post(json!("early_response"), "x4"), (1, 0));
    assert_eq!(post(json!(null), "x5"), (1, 1));
    assert_eq!(acme.executed("x5"), 1);
    assert_eq!(acme.ask("GET", "/executions/repeated", None)["repeated"], 0);
}

#[test]
fn a_server_that_is_switched_off_resets_what_is_open() {
    let acme = Acme::built_in();
    let mut client = Client::to(acme.http("Web1"));
    assert_eq!(client.get("/").status, 200);
    acme.fault("Web1", json!({"kind": "refuse", "kill": true}));
    assert!(client.peer_closes());
    assert!(eventually(Duration::from_secs(5), || {
        acme.ask("GET", "/connections", None)["Web1/Acme"]["current"] == 0
    }));
    acme.fault("Web1", json!({"kind": "refuse", "for_ms": 100}));
    assert!(eventually(Duration::from_secs(5), || Client::to(acme.http("Web1"))
        .request("GET", "/", &[], b"")
        .is_ok()));
}

#[test]
fn no_idle_connection_is_left_when_the_control_port_has_answered_that_a_server_refuses() {
    let acme = Acme::built_in();
    for fault in [json!("refuse"), json!({"kind": "refuse", "kill": true})] {
        let clients: Vec<TcpStream> = std::iter::repeat_with(|| {
            let mut client = TcpStream::connect(acme.http("Web1")).unwrap();
            client.write_all(b"GET /fast HTTP/1.1\r\nHost: web1\r\n\r\n").unwrap();
            assert!(client.read(&mut [0; 16_384]).unwrap() > 0);
            client.set_nonblocking(true).unwrap();
            client
        })
        .take(600)
        .collect();
        // The last answer has been sent a moment before its connection waits for the next request.
        assert!(eventually(Duration::from_secs(5), || {
            acme.ask("GET", "/connections", None)["Web1/Acme"]["idle"] == 600
        }));
        acme.fault("Web1", fault.clone());
        for mut client in &clients {
            let closed = match client.read(&mut [0; 1]) {
                Ok(n) => n == 0,
                Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
            };
            assert!(closed, "{fault}");
        }
        acme.heal("Web1");
    }
}

#[test]
fn certificates_are_good_expired_or_for_somebody_else() {
    let acme = Acme::built_in();
    let https = acme.server("Web2").https.unwrap();
    let get = |name: &str| Client::tls(https, name, &acme.ca_file).request("GET", "/", &[], b"");
    assert_eq!(get("web2.acme.example").unwrap().status, 200);
    assert_eq!(get("localhost").unwrap().status, 200);
    for fault in ["tls_expired", "tls_wrong_name", "tls_handshake"] {
        acme.fault("Web2", json!(fault));
        assert_eq!(get("web2.acme.example").unwrap_err().name(), "tls", "{fault}");
    }
    acme.heal("Web2");
    assert_eq!(get("web2.acme.example").unwrap().status, 200);
}

#[test]
fn a_websocket_greets_in_the_packet_of_its_header_and_echoes() {
    let acme = sample();
    let mut client = Client::to(acme.http("Web1"));
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = client.request("GET", "/ws", &upgrade, b"").unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.send(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"\x81\x14hello from Web1/Acme\x81\x02hi\x88\x00");
}

#[test]
fn one_server_can_have_a_process_of_its_own_to_be_stopped() {
    let scenario = format!(
        "servers: [{{name: Web1/Acme, http: {}}}, {{name: Web2/Acme, http: {}}}]",
        free_port(),
        free_port()
    );
    let (web1, web2) = (Acme::only(&scenario, "Web1"), Acme::only(&scenario, "web2/acme"));
    assert_eq!((web1.servers.len(), web2.servers[0].name.as_str()), (1, "Web2/Acme"));
    web2.signal("STOP");
    let mut client = Client::to(web2.http("Web2")).timeout(Duration::from_millis(300));
    assert_eq!(client.request("GET", "/", &[], b"").unwrap_err().name(), "timeout");
    web2.signal("CONT");
    assert_eq!(Client::to(web2.http("Web2")).get("/").status, 200);
    assert_eq!(Client::to(web1.http("Web1")).get("/").server(), "Web1/Acme");
}

#[test]
fn it_ends_with_its_parent_and_says_which_port_is_taken() {
    use std::process::{Command, Stdio};
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.yaml");
    std::fs::write(&file, format!("servers: [{{name: Web1/Acme, http: {port}}}]")).unwrap();
    let mut acme = Command::new(env!("CARGO_BIN_EXE_acme"));
    acme.arg("--scenario").arg(&file).args(["--quiet", "--exit-with-parent"]);
    let mut child = acme.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    assert!(eventually(Duration::from_secs(10), || {
        Client::to(([127, 0, 0, 1], port).into()).request("GET", "/", &[], b"").is_ok()
    }));
    let second = acme.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains(&port.to_string()), "{said}");
    drop(child.stdin.take());
    assert!(eventually(Duration::from_secs(10), || child.try_wait().unwrap().is_some_and(|s| s.success())));
}

#[test]
fn the_product_is_configured_for_the_ports_that_were_found() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    let wanted = acme.http("Web4").to_string();
    assert_eq!(config["clusters"][0]["servers"]["list"][3]["http"].as_str(), Some(wanted.as_str()));
    set(&mut config, "clusters.0.affinity.mode", "off");
    assert_eq!(config["clusters"][0]["affinity"]["mode"].as_str(), Some("off"));
}

#[test]
fn load_is_counted_by_outcome() {
    let acme = sample();
    let tally = load_get(acme.http("Web1"), "/mail/jdoe.nsf", "load", 4, Duration::from_millis(200));
    assert!(tally.total() >= 4);
    assert_eq!(tally.other_than("200"), 0, "{tally:?}");
    assert_eq!(acme.executed("load-3-0"), 1);
    acme.fault("Web1", json!("reset"));
    let tally = load_get(acme.http("Web1"), "/mail/jdoe.nsf", "dead", 2, Duration::from_millis(50));
    assert_eq!(tally.other_than("reset"), 0, "{tally:?}");
}

#[test]
fn work_occupies_a_worker_and_shows_in_a_measured_index() {
    let acme = sample();
    acme.set("Web1", json!({ "workers": 1, "speed": 0.5, "measure_index_ms": 300 }));
    let metrics = || Client::to(acme.server("Web1").metrics.unwrap()).get("/metrics").text();
    assert!(metrics().contains("Domino_Server_AvailabilityIndex 100\n"));
    // Three at once, one worker: 100, 200 and 300 ms for 50 each is a factor of 4.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let begun = std::time::Instant::now();
                Client::to(acme.http("Web1")).get("/sales/leads.nsf?OpenDatabase&work=50");
                assert!(begun.elapsed() >= Duration::from_millis(100));
            });
        }
    });
    let loaded = |text: &str| {
        let line = text.lines().find(|l| l.starts_with("Domino_Server_AvailabilityIndex ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap() <= 84
    };
    assert!(eventually(Duration::from_secs(30), || loaded(&metrics())), "{}", metrics());
    assert!(eventually(Duration::from_secs(30), || !loaded(&metrics())), "idle again");
}

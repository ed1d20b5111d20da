//! Pages, logins and statistics of the simulated cluster.

use std::io::Read;

use crate::support::*;
use serde_json::{Value, json};

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
    let acme = Acme::sample();
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
    assert!(eventually(MAX_WAIT, || acme.executed_on("half", "Web1") == (1, 0)));
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
        let acme = Acme::start(&format!("{SAMPLE}\n{extra}"));
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
    let acme = Acme::sample();
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
    let acme = Acme::sample();
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

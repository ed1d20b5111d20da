//! Servers from views with and without ports, and views that cannot be read.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::settings::{Auth, ViewFormat};
use crate::discovery::domino::testing::{TestReply, TestServer, client};

const NAMES_JSON: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/names-servers.readviewentries.json"));
const NAMES_XML: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/names-servers.readviewentries.xml"));

fn settings(from: &[&TestServer]) -> NamesView {
    let column = |name: &str| Column::Name(name.to_owned());
    let url = |server: &&TestServer| BaseUrl {
        https: false,
        at: HostPort { host: server.address.ip().to_string(), port: server.address.port() },
        path: "/".to_owned(),
    };
    NamesView {
        from: from.iter().map(url).collect(),
        database: "names.nsf".to_owned(),
        view: "ICM Servers".to_owned(),
        columns: NamesColumns {
            name: column("ServerName"),
            hostname: column("HostName"),
            address: column("NetAddress"),
            ports: column("Ports"),
            cluster: column("ClusterName"),
            http_port: column("HTTPPort"),
            http_status: column("HTTPStatus"),
            https_port: column("HTTPSPort"),
            https_status: column("HTTPSStatus"),
            site: column("Site"),
        },
        format: ViewFormat::Xml,
        auth: Auth::None,
        refresh: Duration::from_secs(60),
        cache: None,
        site_rules: None,
    }
}

const COLUMNS: [&str; 8] = [
    "ServerName",
    "HostName",
    "NetAddress",
    "ClusterName",
    "HTTPPort",
    "HTTPStatus",
    "HTTPSPort",
    "HTTPSStatus",
];

/// A row of a view; `-` leaves the column out.
fn row(values: [&str; 8]) -> String {
    let mut out = String::from("<viewentry position=\"1\" unid=\"A\">");
    for (n, (name, value)) in COLUMNS.iter().zip(values).enumerate() {
        if value != "-" {
            out.push_str(&format!(
                "<entrydata columnnumber=\"{n}\" name=\"{name}\"><text>{value}</text></entrydata>"
            ));
        }
    }
    out + "</viewentry>"
}

async fn read_rows(rows: &[[&str; 8]]) -> Result<ServersReading, ServersFailure> {
    let rows: Vec<String> = rows.iter().map(|values| row(*values)).collect();
    let page = format!("<viewentries toplevelentries=\"{}\">{}</viewentries>", rows.len(), rows.concat());
    let server = TestServer::start(move |_| TestReply::ok(page.clone())).await;
    read(&client(), &settings(&[&server]), "AcmeWeb", &LoginSessions::default()).await
}

fn port(host: &str, port: u16) -> Option<HostPort> {
    Some(HostPort { host: host.to_owned(), port })
}

#[tokio::test]
async fn a_view_with_our_columns_gives_only_the_servers_of_the_cluster() {
    let reading = read_rows(&[
        ["CN=Web1/O=Acme", "web1.acme.example", "10.0.0.11", "acmeweb", "80", "1", "443", "1"],
        ["CN=Web2/O=Acme", "web2.acme.example", "10.0.0.12", "AcmeWeb", "8080", "Enabled", "443", "Disabled"],
        ["CN=Mail1/O=Acme", "mail1.acme.example", "10.0.0.21", "AcmeMail", "80", "1", "443", "1"],
        ["CN=Hub1/O=Acme", "hub1.acme.example", "10.0.0.31", "", "80", "1", "443", "1"],
    ])
    .await
    .unwrap();
    assert_eq!(reading.warnings, Vec::<String>::new());
    let name = |text| ServerName::parse(text).unwrap();
    assert_eq!(
        reading.servers,
        [
            server_with_defaults(
                name("Web1/Acme"),
                "web1.acme.example".into(),
                port("10.0.0.11", 80),
                port("10.0.0.11", 443)
            ),
            server_with_defaults(
                name("Web2/Acme"),
                "web2.acme.example".into(),
                port("10.0.0.12", 8080),
                None
            ),
        ]
    );
    assert_eq!(reading.servers[0].weight, 1);
}

#[tokio::test]
async fn ports_have_defaults_and_a_port_without_status_is_enabled() {
    let ports = |server: &Server| {
        let port = |at: &Option<HostPort>| at.as_ref().map(|at| at.port);
        (port(&server.http), port(&server.https))
    };
    let reading = read_rows(&[
        ["A/Acme", "a.example", "10.0.0.1", "AcmeWeb", "-", "1", "-", "Enabled"],
        ["B/Acme", "b.example", "10.0.0.2", "AcmeWeb", "81", "-", "444", "-"],
        ["C/Acme", "c.example", "10.0.0.3", "AcmeWeb", "80", "2", "443", "1"],
        ["D/Acme", "d.example", "10.0.0.4", "AcmeWeb", "-", "-", "443", "-"],
        ["E/Acme", "e.example", "10.0.0.5", "AcmeWeb", "-", "-", "-", "-"],
    ])
    .await
    .unwrap();
    let all: Vec<_> = reading.servers.iter().map(ports).collect();
    assert_eq!(
        all,
        [
            (Some(80), Some(443)),
            (Some(81), Some(444)),
            (None, Some(443)),
            (None, Some(443)),
            (Some(80), None),
        ]
    );
    assert_eq!(reading.warnings.len(), 1);
    assert!(reading.warnings[0].contains("E/Acme"), "{:?}", reading.warnings);
}

#[tokio::test]
async fn rows_that_cannot_be_used_are_skipped_with_a_warning_each() {
    let reading = read_rows(&[
        ["A/Acme", "", "10.0.0.1", "AcmeWeb", "80", "1", "-", "-"],
        ["a/ACME", "a2.example", "10.0.0.2", "AcmeWeb", "80", "1", "-", "-"],
        ["", "c.example", "10.0.0.3", "AcmeWeb", "80", "1", "-", "-"],
        ["D/Acme", "", "", "AcmeWeb", "80", "1", "-", "-"],
        ["E/Acme", "e.example", "10.0.0.5", "AcmeWeb", "80", "0", "443", "0"],
        ["F/Acme", "f.example", "10.0.0.6", "AcmeWeb", "70000", "1", "-", "-"],
        ["G/Acme", "g example", "10.0.0.7", "AcmeWeb", "80", "1", "-", "-"],
        ["H/Acme", "h.example", "-", "AcmeWeb", "80", "1", "-", "-"],
    ])
    .await
    .unwrap();
    let hosts: Vec<_> = reading
        .servers
        .iter()
        .map(|server| (server.hostname.as_str(), server.http.as_ref().unwrap().host.as_str()))
        .collect();
    assert_eq!(hosts, [("10.0.0.1", "10.0.0.1"), ("h.example", "h.example")]);
    assert_eq!(reading.warnings.len(), 6, "{:?}", reading.warnings);
    for text in ["twice", "empty", "D/Acme", "neither HTTP nor HTTPS", "70000", "g example"] {
        assert!(
            reading.warnings.iter().any(|warning| warning.contains(text)),
            "{text}: {:?}",
            reading.warnings
        );
    }
}

#[tokio::test]
async fn a_view_with_net_addresses_is_read_in_both_formats() {
    for (format, page) in [(ViewFormat::Xml, NAMES_XML), (ViewFormat::Json, NAMES_JSON)] {
        let server = TestServer::start(move |_| TestReply::ok(page)).await;
        let mut settings = settings(&[&server]);
        settings.format = format;
        let reading = read(&client(), &settings, "AcmeWeb", &LoginSessions::default()).await.unwrap();
        let at: Vec<_> = reading.servers.iter().map(|server| server.http.clone()).collect();
        assert_eq!(at, [port("10.0.0.11", 80), port("10.0.0.12", 80), port("10.0.0.13", 80)]);
        let target = server.targets().remove(0);
        assert!(target.starts_with("/names.nsf/ICM%20Servers?ReadViewEntries&"), "{target}");
    }
}

#[tokio::test]
async fn the_first_view_that_can_be_read_is_used() {
    let broken = TestServer::start(|_| TestReply::status(404)).await;
    let good = TestServer::start(|_| TestReply::ok(NAMES_XML)).await;
    let both = settings(&[&broken, &good]);
    let reading = read(&client(), &both, "AcmeWeb", &LoginSessions::default()).await.unwrap();
    assert_eq!(reading.from, good.address.to_string());
    assert!(reading.warnings[0].contains("no view `ICM Servers`"), "{:?}", reading.warnings);
    let failure =
        read(&client(), &settings(&[&broken]), "AcmeWeb", &LoginSessions::default()).await.unwrap_err();
    assert!(matches!(&failure, ServersFailure::Unread { reasons } if reasons.len() == 1), "{failure}");
}

#[tokio::test]
async fn a_view_without_servers_of_the_cluster_is_an_error_with_the_reason() {
    let failure =
        read_rows(&[["A/Acme", "a.example", "10.0.0.1", "Other", "80", "1", "-", "-"]]).await.unwrap_err();
    assert!(failure.to_string().contains("`AcmeWeb`"), "{failure}");
    let failure =
        read_rows(&[["A/Acme", "a.example", "10.0.0.1", "-", "80", "1", "-", "-"]]).await.unwrap_err();
    assert!(failure.to_string().contains("no row has the column `ClusterName`"), "{failure}");
}

const LISTS_XML: &str = r#"<viewentries toplevelentries="1"><viewentry position="1" unid="A">
<entrydata columnnumber="0" name="ServerName"><text>CN=Web1/O=Acme</text></entrydata>
<entrydata columnnumber="1" name="ClusterName"><text>AcmeWeb</text></entrydata>
<entrydata columnnumber="2" name="NetAddresses"><textlist><text>192.168.9.1</text><text>10.0.0.11</text></textlist></entrydata>
<entrydata columnnumber="3" name="Ports"><textlist><text>CLUSTER</text><text>TCPIP</text></textlist></entrydata>
</viewentry></viewentries>"#;

#[tokio::test]
async fn the_port_of_an_address_is_found_by_position_in_xml_and_in_both_lists_of_json() {
    let json = |list: fn(&str, &str) -> String| {
        format!(
            r#"{{"@toplevelentries": "1", "viewentry": [{{"@position": "1", "@unid": "A", "entrydata": [
            {{"@columnnumber": "0", "@name": "ServerName", "text": {{"0": "CN=Web1/O=Acme"}}}},
            {{"@columnnumber": "1", "@name": "ClusterName", "text": {{"0": "AcmeWeb"}}}},
            {{"@columnnumber": "2", "@name": "NetAddresses", {}}},
            {{"@columnnumber": "3", "@name": "Ports", {}}}]}}]}}"#,
            list("192.168.9.1", "10.0.0.11"),
            list("CLUSTER", "TCPIP")
        )
    };
    let of_objects = json(|a, b| format!(r#""textlist": {{"text": [{{"0": "{a}"}}, {{"0": "{b}"}}]}}"#));
    let of_keys = json(|a, b| format!(r#""text": {{"0": "{a}", "1": "{b}"}}"#));
    for (format, page) in
        [(ViewFormat::Xml, LISTS_XML.to_owned()), (ViewFormat::Json, of_objects), (ViewFormat::Json, of_keys)]
    {
        let server = TestServer::start(move |_| TestReply::ok(page.clone())).await;
        let mut settings = settings(&[&server]);
        settings.format = format;
        let reading = read(&client(), &settings, "AcmeWeb", &LoginSessions::default()).await.unwrap();
        assert_eq!(reading.servers[0].http, port("10.0.0.11", 80), "{format:?}");
        assert!(!reading.warnings.iter().any(|w| w.contains("addresses")), "{:?}", reading.warnings);
    }
}

#[tokio::test]
async fn several_addresses_without_their_ports_are_a_warning_that_names_the_server() {
    let server = TestServer::start(|_| TestReply::ok(NAMES_XML)).await;
    let reading = read(&client(), &settings(&[&server]), "AcmeWeb", &LoginSessions::default()).await.unwrap();
    let warning = "Web2/Acme: 2 addresses are listed, but the view shows no ports: 10.0.0.12 is used";
    assert!(reading.warnings.iter().any(|w| w == warning), "{:?}", reading.warnings);
}

/// A view that announces `all` rows and returns one for each of `names`.
async fn incomplete(all: usize, names: &'static [&'static str]) -> TestServer {
    TestServer::start(move |asked| {
        let rows = match asked.query("Start").as_deref() {
            Some("1") => names
                .iter()
                .map(|name| row([name, "a.example", "10.0.0.1", "AcmeWeb", "80", "1", "-", "-"]))
                .collect(),
            _ => String::new(),
        };
        TestReply::ok(format!("<viewentries toplevelentries=\"{all}\">{rows}</viewentries>"))
    })
    .await
}

#[tokio::test]
async fn an_incomplete_view_is_used_only_if_none_is_complete() {
    let (half, other) = (incomplete(4, &["A/Acme"]).await, incomplete(4, &["A/Acme", "B/Acme"]).await);
    let whole = incomplete(3, &["A/Acme", "B/Acme", "C/Acme"]).await;
    let dead = TestServer::start(|_| TestReply::Close).await;
    let read = async |from: &[&TestServer]| {
        read(&client(), &settings(from), "AcmeWeb", &LoginSessions::default()).await.unwrap()
    };
    let reading = read(&[&half, &whole]).await;
    assert_eq!((reading.servers.len(), reading.truncated), (3, None));
    assert!(reading.warnings.iter().any(|w| w.contains("1 of 4")), "{:?}", reading.warnings);
    let reading = read(&[&half, &dead]).await;
    assert_eq!((reading.servers.len(), reading.disputed), (1, false));
    assert!(reading.truncated.is_some_and(|why| why.contains("1 of 4")), "{:?}", reading.warnings);
    assert!(read(&[&half, &other]).await.disputed);
    assert!(!read(&[&half, &half]).await.disputed);
}

#[tokio::test]
async fn the_site_of_a_server_comes_from_an_optional_column() {
    let with_site = |values: [&str; 8], site: &str| {
        let column = format!("<entrydata columnnumber=\"8\" name=\"Site\"><text>{site}</text></entrydata>");
        row(values).replace("</viewentry>", &format!("{column}</viewentry>"))
    };
    let values = |name| [name, "a.example", "10.0.0.1", "AcmeWeb", "80", "1", "-", "-"];
    let rows = [
        with_site(values("Web1/Acme"), " Graz "),
        with_site(values("Web2/Acme"), ""),
        row(values("Web3/Acme")),
    ];
    let page = format!("<viewentries toplevelentries=\"3\">{}</viewentries>", rows.concat());
    let server = TestServer::start(move |_| TestReply::ok(page.clone())).await;
    let reading = read(&client(), &settings(&[&server]), "AcmeWeb", &LoginSessions::default()).await.unwrap();
    let sites: Vec<_> = reading.servers.iter().map(|s| s.site.as_ref().map(ToString::to_string)).collect();
    assert_eq!(sites, [Some("Graz".to_owned()), None, None]);
}

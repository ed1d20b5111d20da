//! Every file in `conf/examples/` works: `icm` runs with it in front of the simulated cluster, and answers what the file
//! promises. Only addresses are replaced.

use std::path::Path;

use serde_yaml::Value;

use crate::support::*;

/// Host, method and target of a request, its status, and a server or a text in the answer.
type Example = (&'static str, &'static str, &'static str, u16, &'static str);

const WWW: &str = "www.acme.example";

/// What a file promises. A new file needs an entry.
fn promises(file: &str) -> &'static [Example] {
    match file {
        "vanity-urls.yaml" => &[
            (WWW, "GET", "/", 200, "Acme"),
            (WWW, "GET", "/orders/", 200, "Acme"),
            (WWW, "GET", "/ORDERS/by-date?OpenView", 200, "Acme"),
            ("forecast.acme.example", "GET", "/x?OpenView", 200, "Acme"),
            (WWW, "GET", "/catalogue?a=1", 301, "/orders/?a=1"),
            (WWW, "GET", "/sales/orders.nsf", 200, "Acme"),
        ],
        "maintenance.yaml" => &[
            (WWW, "GET", "/", 503, "We are working on this site"),
            (WWW, "POST", "/sales/orders.nsf/Form?CreateDocument", 503, "We are working on this site"),
            (WWW, "GET", "/robots.txt", 200, "Disallow:"),
            (WWW, "POST", "/Microsoft-Server-ActiveSync?Cmd=Ping", 200, "Web1/Acme"),
        ],
        "drapi-single-domain.yaml" => &[
            (WWW, "GET", "/api/v1/", 200, "pool drapi"),
            (WWW, "GET", "/admin/ui/", 200, "pool drapi"),
            (WWW, "GET", "/keep", 200, "pool drapi"),
            (WWW, "GET", "/metrics", 200, "pool drapi-metrics"),
            (WWW, "GET", "/keepsake.nsf", 404, "X-Acme-Server"),
            (WWW, "GET", "/sales/orders.nsf", 200, "Acme"),
        ],
        "traveler-verse-nomad.yaml" => &[
            ("nomad.acme.example", "GET", "/", 200, "pool nomad"),
            ("nomad.acme.example", "GET", "/mail/jdoe.nsf", 200, "pool nomad"),
            ("mail.acme.example", "GET", "/", 302, "/names.nsf?Login&RedirectTo=%2F"),
            ("mail.acme.example", "GET", "/mail", 302, "/names.nsf?Login&RedirectTo=%2Fmail"),
            ("mail.acme.example", "POST", "/Microsoft-Server-ActiveSync?Cmd=Ping", 200, "Acme"),
            ("mail.acme.example", "GET", "/traveler", 200, "Acme"),
            ("mail.acme.example", "GET", "/sales/orders.nsf", 200, "Acme"),
        ],
        other => {
            panic!("tests/integration/docs/examples.rs does not say what conf/examples/{other} promises")
        }
    }
}

/// A server for each pool of a file, which names the pool in its answers. TLS is left out.
fn replace_pools(config: &mut Value) -> Vec<RecordingServer> {
    let mut servers = Vec::new();
    for cluster in config["clusters"].as_sequence_mut().unwrap() {
        for pool in cluster["pools"].as_sequence_mut().into_iter().flatten() {
            let text = format!("pool {}", pool["name"].as_str().unwrap());
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
            let answer = format!("{head}: {}\r\n\r\n{text}", text.len());
            let server = RecordingServer::new(move |_| answer.clone());
            let list = format!("{{ list: [{{ name: Web1/Acme, http: \"{}\" }}] }}", server.address);
            set(pool, "servers", &list);
            set(pool, "upstream_scheme", "http");
            servers.push(server);
        }
    }
    servers
}

/// The file with the addresses of this test. Relative names of files begin at its folder.
fn with_test_addresses(text: &str, folder: &Path, acme: &Acme) -> Value {
    let mut config: Value = serde_yaml::from_str(text).unwrap();
    for listener in config["listeners"].as_sequence_mut().unwrap() {
        set(listener, "address", &format!("127.0.0.1:{}", free_port()));
    }
    set(&mut config, "admin", &format!("{{ address: 127.0.0.1:{} }}", free_port()));
    for cluster in config["clusters"].as_sequence_mut().unwrap() {
        for server in cluster["servers"]["list"].as_sequence_mut().unwrap() {
            let simulated = acme.server(server["name"].as_str().unwrap());
            for (key, address) in [("http", simulated.http), ("https", simulated.https)] {
                if !server[key].is_null() {
                    set(server, key, &address.unwrap().to_string());
                }
            }
        }
        for route in cluster["routes"].as_sequence_mut().into_iter().flatten() {
            if let Some(page) = route["respond"]["page"].as_str() {
                let page = folder.join(page).display().to_string();
                set(route, "respond.page", &page);
            }
        }
    }
    config
}

#[test]
fn every_example_does_what_it_promises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples");
    let acme = Acme::built_in();
    acme.set("all", serde_json::json!({ "companion": true }));
    let mut examples = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        let checked = icm_cli(&["check", "-c", file.to_str().unwrap()]);
        assert_eq!(checked.code, 0, "{name}: {}{}", checked.out, checked.err);
        let text = std::fs::read_to_string(&file).unwrap();
        let mut config = with_test_addresses(&text, &folder, &acme);
        let _pools = replace_pools(&mut config);
        let icm = Icm::start(config);
        for (host, method, target, status, part) in promises(name) {
            let answered = || {
                let mut client = icm.client().host(host);
                let answer = client.request(method, target, &[], b"").unwrap();
                let whole = format!("{}\n{}", answer.head, answer.text());
                (answer.status == *status && whole.contains(part), whole)
            };
            // The servers are probed first.
            let came = eventually(MAX_WAIT, || answered().0);
            assert!(came, "{name}: {method} {host}{target}: {status} {part}\n{}", answered().1);
        }
        examples += 1;
    }
    assert!(examples >= 4);
}

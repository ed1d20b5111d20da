//! A user in a real browser over HTTPS logs in and works in two databases on different servers, one of which fails. Skipped
//! without Chromium.

use crate::support::*;
use serde_json::json;

/// b.nsf is on Web1 and Web2, c.nsf on Web3 and Web4, both behind a login.
const SCENARIO: &str = "
servers: [ { name: Web1/Acme }, { name: Web2/Acme }, { name: Web3/Acme }, { name: Web4/Acme } ]
users: { Jane Doe/Acme: secret }
databases:
  - { path: names.nsf, replica_id: C1256A2F00310001, replicas: all }
  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }
  - { path: b.nsf, title: Orders, replica_id: C1257A000041D2E1, replicas: [Web1, Web2], login: true }
  - { path: c.nsf, title: Letters, replica_id: C1257A000041D2E2, replicas: [Web3, Web4], login: true }
";
const SITE: &str = "https://www.acme.example";

struct Journey {
    acme: Acme,
    browser: Chromium,
    _icm: Icm,
}

impl Journey {
    fn begin(scenario: &str) -> Option<Journey> {
        let acme = Acme::start(scenario);
        let mut config = config_with_equal_indexes(&acme);
        set(&mut config, "listeners.0.tls.certificates", &format!("[{}]", acme.certificate()));
        set(&mut config, "clusters.0.hostnames", "[www.acme.example]");
        let icm = Icm::start(config);
        let browser = Chromium::start(&[("www.acme.example", icm.address)])?;
        Some(Journey { acme, browser, _icm: icm })
    }

    /// Opens a page. Returns the server that made it, or `None` if it asks for a login.
    fn open(&mut self, target: &str) -> Option<String> {
        self.browser.goto(&format!("{SITE}{target}"));
        self.server_shown(target)
    }

    /// The server that made the page now shown for this target. Checks that the page names no server's host.
    fn server_shown(&mut self, target: &str) -> Option<String> {
        assert_eq!(self.browser.url(), format!("{SITE}{target}"), "{}", self.browser.source());
        self.assert_names_no_server();
        let asks_for_login = self.browser.title() == "Server Login";
        let server = self.browser.run("return document.querySelector('p > b')?.innerText");
        assert_eq!(asks_for_login, server.is_null(), "{}", self.browser.source());
        server.as_str().map(str::to_owned)
    }

    /// Fills in the login form and returns to the requested page.
    fn log_in(&mut self, target: &str) -> String {
        self.browser.type_into("[name=Username]", "Jane Doe");
        self.browser.type_into("[name=Password]", "secret");
        self.browser.click("[type=submit]");
        self.browser
            .wait_until("return document.readyState == 'complete' && document.title != 'Server Login'");
        self.server_shown(target).expect("the page after the login")
    }

    /// Checks the address bar, page, cookies and headers: all that a user or a script can see.
    fn assert_names_no_server(&mut self) {
        let headers = "return fetch(location.href).then(r => JSON.stringify([r.url, ...r.headers]))";
        let mut seen = vec![self.browser.url(), self.browser.source()];
        seen.push(self.browser.run(headers).as_str().unwrap().to_owned());
        seen.extend(self.browser.cookies().iter().map(ToString::to_string));
        for text in seen {
            let text = text.to_lowercase();
            for server in &self.acme.servers {
                assert!(!text.contains(&server.hostname), "{text}");
                for address in [server.http, server.https].into_iter().flatten() {
                    assert!(!text.contains(&address.to_string()), "{text}");
                }
            }
        }
    }

    fn cookies(&mut self, prefix: &str) -> Vec<String> {
        let name = |c: &serde_json::Value| c["name"].as_str().unwrap().to_owned();
        let mut names: Vec<_> = self.browser.cookies().iter().map(name).collect();
        names.retain(|n| n.starts_with(prefix));
        names
    }
}

fn common(server: &str) -> &str {
    server.split('/').next().unwrap()
}

#[test]
fn without_single_sign_on_a_failed_server_costs_one_login_that_returns_to_the_same_page() {
    let Some(mut journey) = Journey::begin(SCENARIO) else { return };
    let (orders, letters) = ("/b.nsf/v?OpenView&Start=30", "/c.nsf/v?OpenView");
    assert_eq!(journey.open(orders), None);
    let server_of_orders = journey.log_in(orders);
    assert_eq!(journey.open(letters), None, "another server, another login");
    let server_of_letters = journey.log_in(letters);
    // Two tabs in turn keep both logins.
    let first = journey.browser.tab();
    let second = journey.browser.new_tab();
    for _ in 0..3 {
        assert_eq!(journey.open(orders), Some(server_of_orders.clone()));
        journey.browser.switch_to(&first);
        assert_eq!(journey.open(letters), Some(server_of_letters.clone()));
        journey.browser.switch_to(&second);
    }
    assert_eq!(journey.cookies("DomAuthSessId~").len(), 2);
    // Domino redirects to the server's own name, which becomes the public one.
    journey.browser.goto(&format!("{SITE}/b.nsf?OpenDatabase&redirect=1"));
    assert_eq!(journey.server_shown("/b.nsf?OpenDatabase&redirected=1"), Some(server_of_orders.clone()));

    journey.acme.fault(common(&server_of_orders), json!({ "kind": "refuse", "kill": true }));
    assert_eq!(journey.open(orders), None, "the other server asks for a login");
    let now = journey.log_in(orders);
    assert_ne!(now, server_of_orders);
    for _ in 0..3 {
        assert_eq!(journey.open(orders), Some(now.clone()));
        assert_eq!(journey.open(letters), Some(server_of_letters.clone()));
    }
    journey.acme.heal(common(&server_of_orders));
    journey.browser.goto(&format!("{SITE}/names.nsf?Logout"));
    assert!(journey.cookies("DomAuthSessId").is_empty(), "{:?}", journey.browser.cookies());
    assert_eq!(journey.open(orders), None);
    assert_eq!(journey.open(letters), None);
}

#[test]
fn with_single_sign_on_the_user_does_not_notice_a_failed_server() {
    let Some(mut journey) = Journey::begin(&format!("{SCENARIO}sso: true\n")) else { return };
    let (orders, letters) = ("/b.nsf/v?OpenView", "/c.nsf/v?OpenView");
    assert_eq!(journey.open(orders), None);
    let server_of_orders = journey.log_in(orders);
    let server_of_letters = journey.open(letters).expect("one login for all");
    for (server, target) in [(server_of_orders, orders), (server_of_letters, letters)] {
        journey.acme.fault(common(&server), json!({ "kind": "refuse", "kill": true }));
        let now = journey.open(target).expect("still logged in");
        assert_ne!(now, server);
        assert_eq!(journey.open(target), Some(now));
    }
    assert_eq!(journey.cookies("LtpaToken").len(), 1);
    journey.browser.goto(&format!("{SITE}/names.nsf?Logout"));
    assert!(journey.cookies("DomAuthSessId").is_empty());
}

#[test]
fn our_own_error_page_names_no_server() {
    let Some(mut journey) = Journey::begin(SCENARIO) else { return };
    for server in ["Web1", "Web2"] {
        journey.acme.fault(server, json!({ "kind": "refuse", "kill": true }));
    }
    journey.browser.goto(&format!("{SITE}/b.nsf?OpenDatabase"));
    journey.assert_names_no_server();
    assert_eq!(
        journey.browser.run("return performance.getEntriesByType('navigation')[0].responseStatus"),
        503
    );
}

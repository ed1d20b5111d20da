//! `limits.logins`: attempts of an address and for a user name, in every form that reaches Domino's login.

use crate::support::*;
use serde_json::Value;

const WRONG: &str = "Password=wrong&RedirectTo=%2F";

fn start(logins: &str) -> (Acme, serde_yaml::Value, Icm) {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.logins", logins);
    set(&mut config, "limits.per_client.exempt", "[10.0.0.0/8]");
    set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.1]");
    let icm = Icm::start(config.clone());
    (acme, config, icm)
}

/// Posts the login form with a wrong password.
fn try_login(icm: &Icm, from: &str, target: &str, user: &str) -> Answer {
    let form = format!("Username={user}&{WRONG}");
    icm.client().post(target, &[("X-Forwarded-For", from), ("Accept", "application/json")], &form)
}

fn events(icm: &Icm) -> Vec<String> {
    let all = icm.admin("/events").json()["events"].as_array().unwrap().clone();
    let logins = all.iter().filter(|event| event["kind"] == "logins");
    logins.map(|event| event["cause"].as_str().unwrap().to_owned()).collect()
}

fn limited(icm: &Icm, by: &str) -> Option<f64> {
    icm.metric(&format!("icm_login_limited_total{{by=\"{by}\"}}"))
}

#[test]
fn an_address_has_so_many_attempts_whatever_the_names_and_other_addresses_have_their_own() {
    let (acme, mut config, icm) = start("{ per_address: 3, per_user: 0, window: 1h }");
    for user in ["anna", "bert", "carl"] {
        let answer = try_login(&icm, "192.0.2.1", "/names.nsf?Login", user);
        assert!(answer.status == 200 && answer.text().contains("invalid username"), "{}", answer.text());
    }
    let refused = try_login(&icm, "192.0.2.1", "/names.nsf?Login", "dora");
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (429, &"too_many_logins".into()),
        "{}",
        refused.text()
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((60..=2 * 3_600).contains(&wait), "{wait}");
    for other in
        ["/NAMES.nsf!Login", "/mail/jdoe.nsf?login", "/sales/orders.nsf?%4cogin&x=1", "/names.nsf%3FLogin"]
    {
        assert_eq!(try_login(&icm, "192.0.2.1", other, "emil").status, 429, "{other}");
    }
    assert_eq!(try_login(&icm, "192.0.2.2", "/names.nsf?Login", "anna").status, 200);
    assert!((0..9).all(|_| try_login(&icm, "10.1.2.3", "/names.nsf?Login", "anna").status == 200), "exempt");
    let page = icm.client().get_with("/sales/orders.nsf", &[("X-Forwarded-For", "192.0.2.1")]);
    assert_eq!(page.status, 200, "only logins are limited");
    assert_eq!((limited(&icm, "address"), limited(&icm, "user")), (Some(5.0), Some(0.0)));
    let told = events(&icm);
    assert!(told.len() == 1 && told[0].contains("192.0.2.1 tried 3 logins in 1h"), "{told:?}");
    let posts: usize = ["Web1", "Web2", "Web3", "Web4"]
        .iter()
        .flat_map(|server| acme.requests(server))
        .filter(|request| request["method"] == "POST")
        .count();
    assert_eq!(posts, 13, "a refused attempt reaches no server");
    // A reload switches it off.
    config["limits"].as_mapping_mut().unwrap().remove("logins");
    icm.reload(&config);
    assert!(eventually(MAX_WAIT, || try_login(&icm, "192.0.2.1", "/names.nsf?Login", "anna").status == 200));
}

#[test]
fn a_user_name_has_so_many_attempts_from_all_addresses_and_a_success_clears_them() {
    let acme_tls = Acme::built_in();
    let mut config = config(&acme_tls);
    set(&mut config, "limits.logins", "{ per_address: 0, per_user: 2, window: 1h }");
    set(&mut config, "listeners.0.trusted_proxies", "[127.0.0.1]");
    let secure = add_tls(&mut config, &acme_tls);
    let icm = Icm::start(config);
    wait_for(secure);
    let max = "Max+Muster%2FAcme";
    for _ in 0..3 {
        assert_eq!(try_login(&icm, "192.0.2.1", "/names.nsf?Login", max).status, 200);
        let good = icm.client().post(
            "/names.nsf?Login",
            &[],
            &format!("Username={max}&Password=geheim&RedirectTo=%2F"),
        );
        assert_eq!(good.status, 302, "{}", good.text());
    }
    // Two attempts, whatever the spelling of the name and the address.
    assert_eq!(try_login(&icm, "192.0.2.1", "/names.nsf?Login", "Jane+Doe%2FAcme").status, 200);
    assert_eq!(try_login(&icm, "192.0.2.2", "/names.nsf?Login", "CN%3DJANE++doe%2fO%3dacme+").status, 200);
    let refused = try_login(&icm, "192.0.2.3", "/mail/jdoe.nsf?Login", "jane+doe/acme");
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    assert!(!refused.closed, "the form was read to its end");
    let right = icm.client().post("/names.nsf?Login", &[], "Username=Jane+Doe%2FAcme&Password=secret");
    assert_eq!(right.status, 429, "not even the right password is tried");
    let body = format!("Username=Jane Doe/Acme&{WRONG}");
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let plain = ("Content-Type", "text/plain");
    let request = |headers: &[(&str, &str)], target: &str, body: &str, method: &str| {
        icm.client().request(method, target, headers, body.as_bytes()).unwrap().status
    };
    assert_eq!(request(&[("Transfer-Encoding", "chunked")], "/names.nsf?Login", &chunked, "POST"), 429);
    assert_eq!(request(&[plain], "/names.nsf?Login", &body, "POST"), 429);
    let in_url = "/names.nsf?Login&Username=Jane+Doe/Acme&Password=x";
    assert_eq!((request(&[], in_url, "", "GET"), request(&[], in_url, "", "POST")), (429, 429));
    let mut h2 = H2::connect(secure, "localhost", &acme_tls.ca_file);
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/names.nsf?Login"),
    ];
    let stream = h2.headers(&head, false);
    h2.data(stream, body.as_bytes(), true);
    assert_eq!(h2.end_of(stream).status(), 429);
    // Forms whose user cannot be told are not a way around it.
    assert_eq!(request(&[], "/names.nsf?Login", "Username=anna&Username=jane", "POST"), 400);
    assert_eq!(request(&[("Expect", "100-continue")], "/names.nsf?Login", &body, "POST"), 417);
    let long = format!("x={}&Username=Jane+Doe%2FAcme", "a".repeat(17_000));
    assert_eq!(request(&[], "/names.nsf?Login", &long, "POST"), 413);
    let odd = |n: usize| {
        request(
            &[("Content-Type", "multipart/form-data; boundary=b")],
            "/names.nsf?Login",
            &format!("--b{n}"),
            "POST",
        )
    };
    assert_eq!((0..3).map(odd).collect::<Vec<_>>(), [200, 200, 429]);
    // A body in chunks that passes arrives whole.
    let anna = "Username=anna&Password=x";
    let chunked = format!("{:x}\r\n{anna}\r\n0\r\n\r\n", anna.len());
    assert_eq!(request(&[("Transfer-Encoding", "chunked")], "/names.nsf?Login", &chunked, "POST"), 200);
    let all: Vec<Value> =
        ["Web1", "Web2", "Web3", "Web4"].iter().flat_map(|s| acme_tls.requests(s)).collect();
    let arrived = |request: &&Value| request["method"] == "POST" && request["body_length"] == anna.len();
    assert_eq!(all.iter().filter(arrived).count(), 1, "{all:#?}");
    let told = events(&icm);
    assert_eq!(told.len(), 2, "one for the name, one for the forms that cannot be read: {told:?}");
    assert!(told.iter().all(|text| text.contains("for one user name, at last from ")), "{told:?}");
    let log = icm.log();
    // The access log has the URL as it was sent.
    let mut own = log.lines().filter(|line| !line.starts_with('{'));
    assert!(!own.any(|line| line.to_lowercase().contains("jane")), "names are not logged:\n{log}");
    assert_eq!(limited(&icm, "user"), Some(8.0));
}

//! Users of a server that returned after an outage: it is CATCHING UP, and only those belong there whose last write or
//! login form it has.

use crate::support::*;
use serde_json::json;

/// A cluster whose queues never become empty, so that a server that returns keeps CATCHING UP. Everybody may log in to
/// login.nsf.
fn start() -> (Acme, Icm) {
    let acme = Acme::replicating("{ push_ms: 3600000 }");
    for server in ["Web1", "Web2", "Web3"] {
        let database =
            json!({ "server": server, "path": "login.nsf", "replica_id": "C1257A000041D209", "login": true });
        acme.ask("POST", "/databases", Some(&database));
    }
    let mut config = config_with_equal_indexes(&acme);
    set(&mut config, "clusters.0.catch_up", "{ after: 500ms, limit: 1h }");
    // A busy machine must not make a working server UNREACHABLE.
    set(&mut config, "clusters.0.probe.timeout", "10s");
    let icm = Icm::start(config);
    for server in ["Web2", "Web3"] {
        create_document(&mut Client::to(acme.http(server)), "all.nsf", &[("text", "waits to be pushed")]);
    }
    (acme, icm)
}

/// Lets Web1 disappear for longer than `catch_up.after`, and runs `meanwhile`.
fn outage_of_web1(acme: &Acme, icm: &Icm, meanwhile: impl FnOnce()) {
    acme.stop_server("Web1");
    icm.wait_for_state("Web1", "UNREACHABLE");
    meanwhile();
    pause(1_000);
    acme.start_server("Web1");
    icm.wait_for_state("Web1", "CATCHING UP");
}

#[test]
fn the_user_of_the_own_write_goes_back_to_a_server_that_catches_up_and_newcomers_do_not() {
    let (acme, icm) = start();
    let page = "/all.nsf?OpenDatabase";
    let mut browser = Browser::on(icm.address, page, "Web1");
    let saved = create_document(&mut browser, "all.nsf", &[("text", "mine")]);
    assert_eq!(saved["server"], "Web1/Acme");
    let unid = saved["unid"].as_str().unwrap();
    let mut meanwhile = String::new();
    outage_of_web1(&acme, &icm, || meanwhile = browser.server_of(page));
    assert_ne!(meanwhile, "Web1/Acme");
    let mut stays = Browser::new(icm.address).with_cookies_of(&browser);
    assert_eq!(
        stays.post("/all.nsf/Memo?CreateDocument", "text=x").server(),
        meanwhile,
        "the form is from there"
    );
    for _ in 0..3 {
        let document = read_document(&mut browser, "all.nsf", unid).expect("the own write is there");
        assert_eq!(document["server"], "Web1/Acme");
        assert_eq!(browser.server_of(page), "Web1/Acme");
        assert_eq!(stays.server_of(page), meanwhile, "its own last write is there");
        for _ in 0..4 {
            assert_ne!(Browser::new(icm.address).server_of(page), "Web1/Acme", "a newcomer");
        }
    }
    assert_eq!(browser.post("/all.nsf/Memo?CreateDocument", "text=x").server(), "Web1/Acme");
    assert_eq!(icm.state_of("Web1"), "CATCHING UP");
}

#[test]
fn a_user_without_writes_leaves_a_server_that_catches_up_with_the_forms_that_follow() {
    let (acme, icm) = start();
    let page = "/all.nsf?OpenDatabase";
    let users: Vec<_> = (0..6).map(|_| Browser::on(icm.address, page, "Web1")).collect();
    outage_of_web1(&acme, &icm, || {});
    for mut user in users {
        let server = user.server_of(page);
        assert_ne!(server, "Web1/Acme");
        for _ in 0..3 {
            assert_eq!(user.post("/all.nsf/Memo?OpenForm&Seq=1&status=404", "text=x").server(), server);
            assert_eq!(user.server_of(page), server);
        }
    }
    assert_eq!(icm.state_of("Web1"), "CATCHING UP");
}

#[test]
fn a_login_form_is_posted_to_the_server_that_showed_it_although_it_catches_up() {
    let (acme, icm) = start();
    let page = "/login.nsf?OpenDatabase";
    let mut browser = Browser::on(icm.address, page, "Web1");
    outage_of_web1(&acme, &icm, || {});
    assert_ne!(Browser::new(icm.address).with_cookies_of(&browser).server_of(page), "Web1/Acme");
    for _ in 0..4 {
        let posted = Browser::new(icm.address).with_cookies_of(&browser).log_in(page);
        assert_eq!(posted.server(), "Web1/Acme");
    }
    browser.cookies.clear();
    assert_ne!(browser.log_in(page).server(), "Web1/Acme", "nothing shows that the form is from there");
}

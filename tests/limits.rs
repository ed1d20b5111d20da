//! What a client may do before any cluster is chosen: how often, and how long it may keep a silent connection.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod support;

use std::time::Duration;

use support::*;

#[test]
fn a_client_that_asks_too_often_is_told_to_wait_and_its_connection_is_closed() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.per_client.requests_per_second", "3");
    let icm = Icm::start(config.clone());
    let mut refused = None;
    let mut served = 0;
    let asked = eventually(Duration::from_secs(30), || {
        let answer = icm.client().get("/fast");
        match answer.status {
            200 => served += 1,
            429 => refused = Some(answer),
            other => panic!("{other}"),
        }
        refused.is_some()
    });
    assert!(asked && served >= 3, "{served} were served");
    let refused = refused.unwrap();
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    assert_eq!(refused.header("server"), Some("domino-icm"));
    assert!(refused.closed, "{}", refused.head);
    assert!(eventually(Duration::from_secs(30), || icm.client().get("/fast").status == 200), "never again");
    // A reload takes the limit away.
    set(&mut config, "limits.per_client.requests_per_second", "0");
    icm.reload(&config);
    icm.wait_for_log("configuration reloaded");
    assert!((0..50).all(|_| icm.client().get("/fast").status == 200));
}

#[test]
fn a_connection_without_a_request_is_closed_after_the_idle_timeout_even_a_short_one() {
    let acme = Acme::built_in();
    let mut config = config(&acme);
    set(&mut config, "limits.idle_timeout", "300ms");
    let icm = Icm::start(config);
    let mut client = icm.client();
    assert_eq!(client.get("/fast").status, 200);
    assert!(client.connected() && client.peer_closes(), "an idle connection is kept for ever");
}

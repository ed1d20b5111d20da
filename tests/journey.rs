//! A person at work, in a real browser over HTTPS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod support;

use support::*;

#[test]
fn chromium_reads_a_page_of_the_cluster() {
    let acme = Acme::built_in();
    let icm = Icm::start(config(&acme));
    let Some(mut browser) = Chromium::start(&[("www.acme.example", icm.address)]) else { return };
    browser.goto("http://www.acme.example/?OpenServer");
    assert_eq!(browser.url(), "http://www.acme.example/?OpenServer");
    browser.resize(400, 800);
    assert!(browser.screenshot().starts_with(b"\x89PNG"));
    println!("{:?} {:?} {} {}", browser.console(), browser.cookies(), browser.title(), browser.text());
}

//! The status page in a real browser: what it shows, and what its buttons do.
//!
//! With `ICM_SCREENSHOTS=DIR` the tests write their screenshots there.

use crate::support::*;
use serde_json::json;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A cluster whose servers publish their index, with `icm` in front of it.
pub(super) fn running(settings: &[(&str, &str)]) -> (Acme, Icm) {
    let acme = Acme::built_in();
    let mut config = config_with_equal_indexes(&acme);
    for (key, value) in settings {
        set(&mut config, key, value);
    }
    let icm = Icm::start(config);
    wait_for(icm.admin);
    (acme, icm)
}

/// A browser that has opened the status page.
pub(super) fn opened(icm: &Icm) -> Option<Chromium> {
    let mut browser = Chromium::start(&[])?;
    browser.screen(1280, 900);
    browser.goto(&format!("http://{}/", icm.admin));
    Some(browser)
}

/// A script that returns the text of a part of a server's row.
fn part(server: &str, css: &str) -> String {
    format!("document.querySelector('tr[data-server=\"{server}/Acme\"] {css}')?.textContent")
}

pub(super) fn wait_for_state_shown(browser: &mut Chromium, server: &str, word: &str) {
    browser.wait_until(&format!("return {} === '{word}'", part(server, ".state .badge")));
}

/// Takes a screenshot, and writes it to `ICM_SCREENSHOTS` if that is set.
pub(super) fn screenshot(browser: &mut Chromium, name: &str) {
    let png = browser.screenshot();
    assert!(png.len() > 5_000, "{name} is empty");
    if let Some(dir) = std::env::var_os("ICM_SCREENSHOTS") {
        std::fs::write(std::path::Path::new(&dir).join(name), png).unwrap();
    }
}

/// Makes the screen as high as the page.
pub(super) fn fit_height(browser: &mut Chromium, width: u32) {
    let height = browser.run("return document.documentElement.scrollHeight").as_u64().unwrap();
    browser.screen(width, u32::try_from(height).unwrap());
}

pub(super) fn assert_fits_width(browser: &mut Chromium, width: u64) {
    let page_width = browser.run("return document.documentElement.scrollWidth").as_u64().unwrap();
    assert!(page_width <= width, "{page_width} pixels wide on a screen of {width}");
}

/// Checks that the console of the browser shows no message except those that contain one of `allowed`.
pub(super) fn assert_console_is_clean(browser: &mut Chromium, allowed: &[&str]) {
    let lines = browser.console();
    let wrong: Vec<_> = lines.iter().filter(|line| !allowed.iter().any(|b| line.contains(b))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Checks with axe-core, in both colour schemes.
pub(super) fn assert_accessible(browser: &mut Chromium, what: &str) {
    for scheme in ["dark", "light"] {
        browser.prefer(scheme);
        if let Some(faults) = browser.accessibility_faults() {
            assert!(faults.is_empty(), "{what}, {scheme}: {faults:#?}");
        }
    }
}

#[test]
fn the_page_shows_servers_become_busy_restricted_and_unreachable() {
    let (acme, icm) = running(&[]);
    let Some(mut browser) = opened(&icm) else { return };
    for server in ["Web1", "Web2", "Web3", "Web4"] {
        wait_for_state_shown(&mut browser, server, "AVAILABLE");
    }
    for n in 0_u32..40 {
        let target = if n.is_multiple_of(4) { "/legacy/archive2009.nsf" } else { "/sales/orders.nsf" };
        assert!(icm.client().get(target).status < 400);
    }
    acme.set("Web4", json!({ "index": 71, "threshold": 20 }));
    acme.set("Web1", json!({ "index": 15, "threshold": 20 }));
    acme.set("Web2", json!({ "restricted": 1 }));
    acme.fault("Web3", json!("refuse"));
    wait_for_state_shown(&mut browser, "Web1", "BUSY");
    wait_for_state_shown(&mut browser, "Web2", "RESTRICTED");
    wait_for_state_shown(&mut browser, "Web3", "UNREACHABLE");
    browser.wait_until(&format!(
        "return {}.includes('15 is at or under its threshold 20')",
        part("Web1", ".why")
    ));
    assert_eq!(browser.run("return document.title"), "icm: 3 of 4 not AVAILABLE");
    browser.wait_until("return document.querySelector('#events').textContent.includes('UNREACHABLE')");
    browser.wait_until(&format!("return {}.includes('71')", part("Web4", ".index")));
    browser.wait_until(&format!("return {}.includes('25 %')", part("Web4", "[data-label=Share]")));
    browser.type_into("#search", "leads");
    browser.wait_until("return document.querySelectorAll('#hits > li').length === 2");
    assert_fits_width(&mut browser, 1280);
    fit_height(&mut browser, 1280);
    screenshot(&mut browser, "wide.png");
    browser.prefer("dark");
    screenshot(&mut browser, "wide-dark.png");
    browser.screen(390, 844);
    assert_fits_width(&mut browser, 390);
    screenshot(&mut browser, "phone-dark.png");
    browser.prefer("light");
    fit_height(&mut browser, 390);
    screenshot(&mut browser, "phone.png");
    browser.screen(1280, 900);
    acme.heal("Web3");
    wait_for_state_shown(&mut browser, "Web3", "AVAILABLE");
    assert_console_is_clean(&mut browser, &[]);
}

#[test]
fn a_search_finds_databases_and_shows_a_hostile_title_as_text() {
    let (acme, icm) = running(&[]);
    let title = "<script>window.owned=1</script><img src=x onerror='window.owned=1'>\"'&amp;";
    let database = json!({ "server": "Web1", "path": "evil/<b>x.nsf", "replica_id": "C1257A000041BAD0", "title": title });
    acme.ask("POST", "/databases", Some(&database));
    let found = || !icm.admin("/databases?q=evil").json()["databases"].as_array().unwrap().is_empty();
    assert!(eventually(MAX_WAIT, found), "the directory is read again");
    let Some(mut browser) = opened(&icm) else { return };
    wait_for_state_shown(&mut browser, "Web1", "AVAILABLE");
    browser.type_into("#search", "evil");
    browser.wait_until("return document.querySelectorAll('#hits > li').length === 1");
    assert_eq!(browser.run("return document.querySelector('#hits .title').textContent"), title);
    assert_eq!(browser.run("return document.querySelector('#hits .path').textContent"), "evil/<b>x.nsf");
    assert_eq!(
        browser.run("return window.owned === undefined && !document.querySelector('#hits img, #hits b')"),
        true
    );
    browser.wait_until(
        "return document.querySelector('#hits').textContent.includes('would be served by Web1/Acme')",
    );
    // The hits are updated when the serving server changes.
    acme.fault("Web1", json!("refuse"));
    browser
        .wait_until("return document.querySelector('#hits').textContent.includes('no server can serve it')");
    browser.run("document.querySelector('#search').value = 'no such thing'; document.querySelector('#search-form').requestSubmit()");
    browser.wait_until("return document.querySelector('#found').textContent.startsWith('0 databases')");
    assert_console_is_clean(&mut browser, &[]);
}

#[test]
fn the_buttons_restrict_and_release_after_a_confirmation() {
    let (_acme, icm) = running(&[]);
    let Some(mut browser) = opened(&icm) else { return };
    wait_for_state_shown(&mut browser, "Web4", "AVAILABLE");
    assert_eq!(browser.run("return document.querySelector('#login').hidden"), true, "no token, no login");
    let button = "tr[data-server=\"Web4/Acme\"] .act button";
    browser.click(button);
    browser.wait_until("return document.querySelector('#confirm').open");
    assert_eq!(browser.run("return document.activeElement.value"), "no", "Enter alone changes nothing");
    assert_accessible(&mut browser, "the confirmation");
    screenshot(&mut browser, "ask.png");
    browser.type_into("#confirm button[value=no]", "\u{E007}");
    browser.wait_until("return !document.querySelector('#confirm').open");
    assert_eq!(icm.state_of("Web4"), "AVAILABLE");
    browser.click(button);
    browser.click("#confirm-yes");
    wait_for_state_shown(&mut browser, "Web4", "RESTRICTED");
    browser.wait_until("return document.querySelector('#result').textContent.includes('No other server can serve') && document.querySelector('#result').textContent.includes('legacy/archive2009.nsf')");
    assert_eq!(icm.state_of("Web4"), "RESTRICTED");
    browser.wait_until(&format!("return {} === 'Release'", part("Web4", ".act button")));
    browser.click(button);
    browser.click("#confirm-yes");
    wait_for_state_shown(&mut browser, "Web4", "AVAILABLE");
    assert_console_is_clean(&mut browser, &[]);
}

#[test]
fn with_a_token_set_the_page_asks_for_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let token = secret_file(dir.path(), "token", TOKEN);
    let port = free_port();
    let (_acme, mut icm) = {
        let acme = Acme::built_in();
        let mut config = config(&acme);
        set(&mut config, "admin", &format!("{{ address: \"0.0.0.0:{port}\", token_file: {token} }}"));
        (acme, Icm::start(config))
    };
    icm.admin.set_ip([127, 0, 0, 1].into());
    wait_for(icm.admin);
    let Some(mut browser) = opened(&icm) else { return };
    browser.wait_until("return !document.querySelector('#login').hidden");
    assert_eq!(
        browser.run("return document.querySelectorAll('tr').length"),
        0,
        "nothing is shown before the login"
    );
    assert_accessible(&mut browser, "the login");
    screenshot(&mut browser, "login.png");
    browser.type_into("#token", "wrong\u{E007}");
    browser.wait_until("return document.querySelector('#why-login').textContent.includes('not the token')");
    browser.run("document.querySelector('#token').value = ''");
    browser.type_into("#token", &format!("{TOKEN}\u{E007}"));
    wait_for_state_shown(&mut browser, "Web2", "AVAILABLE");
    let cookie = browser.cookies().remove(0);
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Strict")), "{cookie}");
    assert_eq!(browser.run("return document.cookie"), "", "scripts cannot read the cookie");
    browser.reload();
    wait_for_state_shown(&mut browser, "Web2", "AVAILABLE");
    browser.click("tr[data-server=\"Web2/Acme\"] .act button");
    browser.click("#confirm-yes");
    wait_for_state_shown(&mut browser, "Web2", "RESTRICTED");
    browser.click("#logout");
    browser.wait_until("return !document.querySelector('#login').hidden");
    assert_eq!(
        browser.run("return document.querySelectorAll('tr').length"),
        0,
        "nothing is shown after the logout"
    );
    // Chromium logs every 401 on the console.
    assert_console_is_clean(&mut browser, &["401 (Unauthorized)"]);
}

#[test]
fn the_page_shows_since_when_icm_does_not_answer() {
    let (_acme, icm) = running(&[]);
    let Some(mut browser) = opened(&icm) else { return };
    wait_for_state_shown(&mut browser, "Web1", "AVAILABLE");
    assert_eq!(browser.run("return document.querySelector('#offline').hidden"), true);
    let mut config: serde_yaml::Value =
        serde_yaml::from_str(&std::fs::read_to_string(&icm.file).unwrap()).unwrap();
    config.as_mapping_mut().unwrap().remove("state_dir");
    drop(icm);
    browser.wait_until("return !document.querySelector('#offline').hidden");
    let said = browser.run("return document.querySelector('#offline').textContent");
    assert!(said.as_str().unwrap().starts_with("No answer since "), "{said}");
    assert_eq!(browser.run("return document.body.classList.contains('stale')"), true);
    screenshot(&mut browser, "offline.png");
    // The same address again: the page goes on by itself.
    let _again = Icm::start(config);
    browser.wait_until("return document.querySelector('#offline').hidden");
    wait_for_state_shown(&mut browser, "Web1", "AVAILABLE");
    assert_console_is_clean(
        &mut browser,
        &["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"],
    );
}

#[test]
fn a_refused_reload_is_shown_with_its_error() {
    let (_acme, icm) = running(&[]);
    let Some(mut browser) = opened(&icm) else { return };
    wait_for_state_shown(&mut browser, "Web1", "AVAILABLE");
    std::fs::write(&icm.file, "clusters: 7\nnonsense: true\n").unwrap();
    icm.signal("HUP");
    browser.wait_until("return !document.querySelector('#reload').hidden");
    let message = browser.run("return document.querySelector('#reload').textContent");
    assert!(
        message.as_str().unwrap().contains("was refused") && message.as_str().unwrap().contains("nonsense"),
        "{message}"
    );
    screenshot(&mut browser, "reload.png");
    assert_console_is_clean(&mut browser, &[]);
}

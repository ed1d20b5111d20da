//! The charts of the status page in a real browser: what they show of a herd, a slow server and a failover, for eyes,
//! keyboards and screen readers; and that a page that stays open does not grow.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::status_page::*;
use crate::support::*;
use serde_json::{Value, json};

/// The arrow and End keys of WebDriver.
const LEFT: &str = "\u{E012}";
const END: &str = "\u{E010}";

/// Functions for scripts: `plot(server, n)` is the n-th chart of a server, `top(path)` how far its highest point is from the
/// upper edge.
const HELPERS: &str = "
    window.one = (server) => [...document.querySelectorAll('.one')].find((n) => n.getAttribute('aria-label') === `${server}/Acme`);
    window.plot = (server, n) => window.one(server).querySelectorAll('.chart')[n];
    window.top_of = (path) => Math.min(...(path.getAttribute('d') ?? '').split(/[MLZ]/).filter((p) => p.includes(' ')).map((p) => Number(p.split(/[ h]/)[1])));
";

/// Users who keep their cookies, until the value is dropped.
struct Users {
    stop: std::sync::Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Users {
    /// Each asks for a page of one database, with pauses, and keeps its server as browsers do.
    fn start(icm: &Icm, count: u32) -> Users {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|n| {
            let (stop, client) = (std::sync::Arc::clone(&stop), icm.client());
            std::thread::spawn(move || {
                let mut browser = Browser::of(client);
                while !stop.load(Relaxed) {
                    let delay = 2 + fastrand::u32(0..20);
                    let db = ["sales/orders", "homepage", "help/help12_client"][n as usize % 3];
                    let target = format!("/{db}.nsf/all?OpenView&delay={delay}");
                    let _ = browser.request("GET", &target, &[], b"");
                    std::thread::sleep(Duration::from_millis(u64::from(60 + fastrand::u32(0..120))));
                }
            })
        });
        let threads = threads.collect();
        Users { stop, threads }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn text_of(browser: &mut Chromium, css: &str) -> String {
    let script = format!("return document.querySelector('{css}')?.textContent ?? ''");
    browser.run(&script).as_str().unwrap().to_owned()
}

#[test]
fn a_slow_server_a_failover_a_drain_and_a_failed_request_are_seen_by_everyone() {
    // For the pictures of the guide: a sample each second, and time for each act of the play.
    let is_for_pictures = std::env::var_os("ICM_SCREENSHOTS").is_some();
    let interval = if is_for_pictures { "1s" } else { "200ms" };
    let act = |seconds| {
        if is_for_pictures {
            std::thread::sleep(Duration::from_secs(seconds));
        }
    };
    let (acme, icm) =
        running(&[("admin.history_interval", interval), ("clusters.0.failover.response_timeout", "3s")]);
    let users = Users::start(&icm, if is_for_pictures { 30 } else { 8 });
    let Some(mut browser) = opened(&icm) else { return };
    wait_for_state_shown(&mut browser, "Web1", "AVAILABLE");
    browser.run(HELPERS);
    act(70);
    slow_server(&acme, &mut browser);
    act(60);
    acme.heal("Web2");
    act(40);
    failover(&acme, &icm, &mut browser);
    act(50);
    acme.heal("Web3");
    icm.wait_for_state("Web3", "AVAILABLE");
    act(70);
    failed_request(&acme, &icm, &mut browser);
    let answer = Client::to(icm.admin).post("/servers/Web4/restrict?by=maintenance", &[], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    browser.wait_until("return document.querySelector('.drain')?.textContent.includes('draining for')");
    act(15);
    pictures(&mut browser);
    keyboard_and_pointer(&mut browser);
    screens(&mut browser);
    drop(users);
    assert_console_is_clean(&mut browser, &[]);
}

fn slow_server(acme: &Acme, browser: &mut Chromium) {
    acme.fault("Web2", json!({ "kind": "slow", "delay_ms": 900 }));
    browser.wait_until("return window.top_of(window.plot('Web2', 1).querySelector('.second')) < 10");
    assert_eq!(
        browser.run(
            "const top = (server) => window.top_of(window.plot(server, 1).querySelector('.second'));
             return Math.min(top('Web1'), top('Web3')) > top('Web2')"
        ),
        true,
        "the slow server's p99 is drawn higher than those of the others"
    );
    let label = browser.run("return window.plot('Web2', 1).querySelector('svg').getAttribute('aria-label')");
    let label = label.as_str().unwrap();
    assert!(label.starts_with("Web2/Acme, response time: now ") && label.contains("p99 from "), "{label}");
}

/// A server dies under load: first its requests fail over, then it is UNREACHABLE.
fn failover(acme: &Acme, icm: &Icm, browser: &mut Chromium) {
    acme.fault("Web3", json!({ "kind": "reset", "at": "head" }));
    icm.wait_for_server("Web3", "failed over", |s| s["counters"]["failed_over"].as_u64() > Some(0));
    acme.fault("Web3", json!({ "kind": "refuse", "kill": true }));
    icm.wait_for_state("Web3", "UNREACHABLE");
    browser
        .wait_until("return window.plot('Web3', 4).querySelector('.bars').getAttribute('d').includes('M')");
    browser.wait_until("return window.plot('Web3', 4).querySelector('.gone').getAttribute('d') !== ''");
    browser.wait_until(
        "return [...window.plot('Web3', 4).querySelectorAll('.flag:not([hidden])')].some((n) => n.textContent === 'UNREACHABLE')",
    );
    browser.wait_until("return window.one('Web3').querySelector('.who').textContent.includes('UNREACHABLE')");
    let script = "return window.plot('Web3', 4).querySelector('svg').getAttribute('aria-label')";
    let label = browser.run(script);
    assert!(!label.as_str().unwrap().contains(": 0 in"), "{label}");
}

fn failed_request(acme: &Acme, icm: &Icm, browser: &mut Chromium) {
    acme.fault("all", json!({ "kind": "reset", "path": "/names.nsf" }));
    assert_eq!(icm.client().get("/names.nsf/view?OpenView&token=hidden").status, 502);
    browser.wait_until("return document.querySelector('.failed')?.textContent.includes('502 bad_gateway')");
    let text = text_of(browser, ".failed");
    assert!(text.contains("GET /names.nsf/view ") && text.contains("closed the connection"), "{text}");
    assert!(!text.contains("hidden"), "the query is shown: {text}");
    let attempts = browser.run("return document.querySelectorAll('.failed ol > li').length").as_u64();
    assert!(attempts >= Some(2), "{text}");
    let failed = icm.admin("/history").json()["clusters"][0]["last_failed"].clone();
    assert_eq!((&failed["status"], &failed["path"]), (&json!(502), &json!("/names.nsf/view")), "{failed}");
    acme.heal("all");
}

fn pictures(browser: &mut Chromium) {
    browser.screen(1280, 900);
    browser.run("scrollTo(0, 0)");
    fit_height(browser, 1280);
    screenshot(browser, "charts.png");
    browser.prefer("dark");
    screenshot(browser, "charts-dark.png");
    browser.screen(390, 844);
    fit_height(browser, 390);
    screenshot(browser, "charts-phone-dark.png");
    browser.prefer("light");
    browser.screen(1280, 900);
}

fn keyboard_and_pointer(browser: &mut Chromium) {
    let at = "return document.querySelector('.when .at').textContent";
    assert_eq!(browser.run(at), "now");
    browser.type_into(".when input", &LEFT.repeat(3));
    browser.wait_until("return document.querySelector('.when .at').textContent !== 'now'");
    let cursor = "return document.querySelector('.plot .cursor').getAttribute('d') !== ''";
    browser.wait_until(cursor);
    let said = browser.run("return document.querySelector('.when input').getAttribute('aria-valuetext')");
    let said = said.as_str().unwrap();
    assert!(said.contains("Web1/Acme ") && said.contains("requests a second"), "{said}");
    browser.type_into(".when input", END);
    browser.wait_until("return document.querySelector('.when .at').textContent === 'now'");
    // The pointer shows the values below it.
    browser.run(
        "const plot = document.querySelector('.plot'), box = plot.getBoundingClientRect();
         plot.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right - 3, clientY: box.top + 5}))",
    );
    browser.wait_until("return document.querySelector('.when .at').textContent !== 'now'");
    browser.run("document.querySelector('.plot').dispatchEvent(new PointerEvent('pointerleave'))");
    browser.wait_until("return document.querySelector('.when .at').textContent === 'now'");
    browser.click(".numbers-table summary");
    browser
        .wait_until("return document.querySelectorAll('.numbers-table td')[0].textContent.includes(' to ')");
}

/// Every width, both colour schemes, and axe-core. A rehearsal is shown by a made-up status.
fn screens(browser: &mut Chromium) {
    let said = browser.run(
        "const now = Date.now(), iso = (ms) => new Date(ms).toISOString();
         showRehearsal({server: 'Web1/Acme', cluster: 'AcmeWeb', users_percent: 5, started: iso(now - 60000),
            ends: iso(now + 540000), requests: 120, moved: 6, failed: 0, not_found: 0, denied: 0, ended_because: null}, now);
         const running = document.querySelector('#rehearsal').textContent;
         showRehearsal({server: 'Web1/Acme', cluster: 'AcmeWeb', users_percent: 5, started: iso(now - 60000),
            ends: iso(now + 540000), requests: 120, moved: 6, failed: 9, not_found: 2, denied: 0, ended_because: 'errors'}, now);
         return running + document.querySelector('#rehearsal').textContent",
    );
    let said = said.as_str().unwrap();
    for part in [
        "for 9 min more: Web1/Acme counts as UNREACHABLE for 5 % of the users of AcmeWeb",
        "6 moved",
        "errors rose",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for width in [1280, 820, 390, 320] {
        browser.screen(width, 900);
        assert_fits_width(browser, u64::from(width));
        if width != 820 {
            assert_accessible(browser, &format!("the page, {width} pixels wide"));
        }
    }
}

/// One sample of 10 s and seven answers of /status, as a page gets them from a cluster whose states change. Time is passed
/// in, so hours pass in seconds.
const HOURS: &str = "
    window.rounds = (count) => {
        clearTimeout(timer);
        polling = true;
        for (let n = 0; n < count; n += 1) {
            window.round = (window.round ?? 0) + 1;
            const at = window.begin + window.round * 10000;
            for (let k = 0; k < 7; k += 1) {
                const status = structuredClone(window.first);
                status.now = at + k * 1500;
                status.requests.total += window.round * 70 + k;
                status.events = status.events.map((e, i) => ({...e, at: at - i, cause: `cause ${window.round} ${k}`}));
                for (const s of status.clusters[0].servers) {
                    s.state = ['AVAILABLE', 'BUSY', 'UNREACHABLE'][(window.round >> 3) % 3];
                    s.counters.answered += window.round * 7;
                    s.since_ms = k * 1000;
                }
                show(status);
            }
            const history = structuredClone(window.sample);
            history.at = [at];
            history.took_ms = [10000];
            for (const s of history.clusters[0].servers) {
                for (const name of ['requests', 'failed', 'failovers', 'in_flight', 'p50_ms', 'p99_ms', 'index', 'state']) s[name] = [0];
                s.requests = [Math.round(400 + 300 * Math.sin(window.round / 9))];
                s.failovers = [window.round % 50 ? 0 : 3];
                s.p50_ms = [5 + window.round % 7];
                s.p99_ms = [50 + window.round % 90];
                s.index = [window.round % 100];
                s.state = [[0, 1, 4][(window.round >> 3) % 3]];
            }
            history.clusters[0].last_failed = {at, method: 'GET', path: `/${window.round}.nsf`, status: 502, page: 'bad_gateway', why: 'lightest', total_ms: 5, attempts: [{server: 'Web1/Acme', cause: 'connect', ms: 5}]};
            showHistory(history);
            setCursor(window.round % 3 ? null : at - 600000);
            showDrains([{cluster: 'AcmeWeb', server: 'Web1/Acme', restrictions: window.round % 5 ? ['x'] : [], in_flight: k(window.round), tunnels: 0, may_return_ms: 60000, empty: false, reason: ''}]);
        }
        return past.at.length;
    };
    const k = (n) => n % 9;
    window.k = k;
";

/// The number of DOM nodes and the bytes of the JavaScript heap, after the garbage is collected.
fn size_of_page(browser: &mut Chromium) -> (u64, u64) {
    browser.cdp("HeapProfiler.collectGarbage", json!({}));
    let metrics = browser.cdp("Performance.getMetrics", json!({}));
    let value = |name: &str| {
        let all = metrics["metrics"].as_array().unwrap();
        all.iter().find(|m| m["name"] == name).unwrap()["value"].as_f64().unwrap() as u64
    };
    (value("Nodes"), value("JSHeapUsedSize"))
}

#[test]
fn a_page_that_stays_open_does_not_grow() {
    let (_acme, icm) = running(&[]);
    assert_eq!(icm.client().get("/sales/orders.nsf").status, 200);
    let Some(mut browser) = opened(&icm) else { return };
    wait_for_state_shown(&mut browser, "Web1", "AVAILABLE");
    browser.cdp("Performance.enable", json!({}));
    browser.run(
        "clearTimeout(timer); polling = true;
         return Promise.all([request('status'), request('history')]).then(([status, sample]) => {
             forgetPast();
             Object.assign(window, {first: status, sample, begin: Date.now()});
         })",
    );
    browser.run(HOURS);
    let run = |browser: &mut Chromium, rounds: u32| {
        for _ in 0..rounds / 40 {
            assert!(browser.run("return window.rounds(40)").as_u64() <= Some(360));
        }
        size_of_page(browser)
    };
    // An hour, so that every ring is full.
    let (nodes, heap) = run(&mut browser, 400);
    // Four more hours.
    let (nodes_after, heap_after) = run(&mut browser, 1_440);
    assert!(nodes_after <= nodes + 200, "{nodes} nodes became {nodes_after}");
    assert!(heap_after <= heap + heap / 4 + 500_000, "{heap} bytes became {heap_after}");
    let drawn: Value = browser.run("return document.querySelector('.plot .line').getAttribute('d').length");
    assert!(drawn.as_u64() > Some(1_000), "nothing was drawn: {drawn}");
    assert_console_is_clean(&mut browser, &[]);
}

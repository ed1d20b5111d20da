//! The same requests with the same faults through two proxies, one with the fast path and one without it: clients and servers
//! must see the same.
//!
//! `FAST_PATH_SEEDS=100..120` runs these exchanges alone; some depend on the connection that the one before left.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::client::{After, End, RawClient, Seen};
use super::exchange::Exchange;
use super::h2::H2Client;
use super::report::{Outcome, Report};
use super::site::{Setup, Shared, Site};
use crate::support::*;

/// The counter of requests that took the fast path; `None` until there is one.
const COUNTER: Option<&str> = Some("icm_fast_path_requests_total");
/// At least this share of the requests of a run takes the fast path.
const MIN_SHARE: f64 = 0.5;
/// A connection that stays open is watched for so long; one that should be closed, as long as needed.
const WATCHED: Duration = Duration::from_millis(4);
const MAX_CLOSE_WAIT: Duration = Duration::from_secs(3);

/// A client of one site.
enum AnyClient {
    Http1(RawClient),
    Http2(H2Client),
}

impl AnyClient {
    fn ask(&mut self, round: &[Exchange]) -> Vec<Seen> {
        match self {
            AnyClient::Http1(client) => client.ask(round),
            AnyClient::Http2(client) => round.iter().map(|exchange| client.ask(exchange)).collect(),
        }
    }

    fn after(&mut self, at_most: Duration) -> Option<After> {
        match self {
            AnyClient::Http1(client) => Some(client.after(at_most)),
            AnyClient::Http2(_) => None,
        }
    }

    fn close(&mut self) {
        if let AnyClient::Http1(client) = self {
            client.close();
        }
    }
}

/// The seeds of a run: those of the environment, or these.
fn seeds(all: Range<u64>) -> Range<u64> {
    let Ok(wanted) = std::env::var("FAST_PATH_SEEDS") else { return all };
    let (from, to) = wanted.split_once("..").expect("FAST_PATH_SEEDS=100..120");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Asks both sites at the same time.
fn ask_both(clients: &mut [AnyClient; 2], round: &[Exchange]) -> [Vec<Seen>; 2] {
    let [on, off] = clients;
    std::thread::scope(|scope| {
        let on = scope.spawn(|| on.ask(round));
        let off = off.ask(round);
        [on.join().unwrap(), off]
    })
}

/// The state of both connections. If only one is closed, the other gets more time.
fn after_both(clients: &mut [AnyClient; 2]) -> [Option<After>; 2] {
    let [on, off] = clients;
    let mut after = [on.after(WATCHED), off.after(WATCHED)];
    if after[0] != after[1] {
        for (after, client) in after.iter_mut().zip([on, off]) {
            if *after == Some(After::Open) {
                *after = client.after(MAX_CLOSE_WAIT);
            }
        }
    }
    after
}

fn run(setup: Setup, is_http2: bool, all: Range<u64>) {
    let shared = Shared::new();
    let sites = ["on", "off"].map(|fast_path| Site::start(&shared, setup, fast_path));
    let mut clients = sites.each_ref().map(|site| match is_http2 {
        true => AnyClient::Http2(H2Client::new(site.secure, &shared.authority)),
        false => AnyClient::Http1(RawClient::new(site.icm.address)),
    });
    let mut report = Report::new(setup.servers > 1);
    let mut exchanges = BTreeMap::new();
    let mut all = seeds(all).peekable();
    while let Some(seed) = all.next() {
        let mut round = vec![Exchange::of(seed)];
        // A pair that is sent at once.
        if !is_http2 && seed % 12 == 7 && round[0].may_be_pipelined() {
            round.extend(all.next_if(|next| Exchange::of(*next).may_be_pipelined()).map(Exchange::of));
        }
        let seen = ask_both(&mut clients, &round);
        let after = after_both(&mut clients);
        for (n, exchange) in round.iter().enumerate() {
            let outcome = |side: usize| {
                let (received, reused) = sites[side].origin.take(exchange.seed);
                let is_last = n + 1 == round.len();
                let seen = seen[side].get(n).cloned()?;
                Some(Outcome { seen, after: after[side].filter(|_| is_last), received, reused })
            };
            match (outcome(0), outcome(1)) {
                (Some(on), Some(off)) => report.compare(exchange, &on, &off),
                (None, None) => {}
                (on, off) => panic!("seed {}: answered by one only: {on:#?}\n{off:#?}", exchange.seed),
            }
            // What ends an idle connection must have arrived before the next request.
            if exchange.leaves || exchange.answer.ends_connection() {
                pause(50);
            }
            exchanges.insert(exchange.seed, exchange.clone());
        }
        if after != [Some(After::Open); 2] {
            clients.iter_mut().for_each(AnyClient::close);
        }
    }
    let count = exchanges.len();
    let logs = sites.each_ref().map(|site| site.log(count));
    report.compare_logs(&logs[0], &logs[1], &exchanges);
    let connections = sites.each_ref().map(|site| site.origin.connections());
    eprintln!(
        "{count} exchanges; connections to servers {connections:?}; reused differently {}",
        report.reused_differently
    );
    if let Some(counter) = COUNTER {
        let counted = sites.each_ref().map(|site| site.icm.metric(counter).unwrap_or_default());
        assert!(counted[0] >= MIN_SHARE * count as f64 && counted[1] == 0.0, "{counted:?} of {count}");
    }
    report.finish(count);
}

#[test]
#[should_panic(expected = "seed 5")]
fn a_difference_is_reported_with_its_seed() {
    let fields = |value: &str| vec![("Content-Type".to_owned(), value.to_owned())];
    let outcome = |value: &str| Outcome {
        seen: Seen {
            informational: Vec::new(),
            line: "HTTP/1.1 200 OK".to_owned(),
            fields: fields(value),
            body: b"text".to_vec(),
            end: End::Complete,
        },
        after: Some(After::Open),
        received: Vec::new(),
        reused: vec![true],
    };
    let mut report = Report::new(false);
    report.compare(&Exchange::of(4), &outcome("text/html"), &outcome("text/html"));
    report.compare(&Exchange::of(5), &outcome("text/html"), &outcome("text/plain"));
    report.finish(2);
}

const ONE: Setup = Setup { servers: 1, https: false };

#[test]
fn clients_of_http_1_and_one_server_see_the_same_with_the_fast_path_and_without() {
    run(ONE, false, 0..400);
}

#[test]
fn clients_of_http_1_and_a_server_with_tls_see_the_same_with_the_fast_path_and_without() {
    run(Setup { https: true, ..ONE }, false, 1_000..1_200);
}

#[test]
fn clients_of_http_2_see_the_same_with_the_fast_path_and_without() {
    run(ONE, true, 2_000..2_200);
}

#[test]
fn clients_of_a_cluster_that_fails_over_see_the_same_with_the_fast_path_and_without() {
    run(Setup { servers: 2, ..ONE }, false, 3_000..3_200);
}

//! Every fault of a server against every kind of request, on new and on reused connections: what the client gets, and how
//! often each server executed the request. `--nocapture` prints the table with the measured times.

use std::time::{Duration, Instant};

use crate::support::*;
use serde_json::{Value, json};

/// When a failing server has executed the request.
#[derive(Clone, Copy, PartialEq)]
enum Executed {
    No,
    Yes,
}

/// What a fault does to a request, as seen from the balancer.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    /// No connection: nothing was sent.
    NotConnected,
    /// Died before the answer's header.
    Broken(Executed),
    /// No answer in time.
    Silent(Executed),
    /// A whole answer with this status.
    Status(u16),
    /// Half of an answer.
    CutShort,
    /// An answer that is not HTTP. It is not retried, as another server would send the same.
    Malformed,
}

/// A kind of request.
#[derive(Clone, Copy)]
struct Request {
    name: &'static str,
    method: &'static str,
    command: &'static str,
    body: usize,
    /// Method, command and body allow a second execution.
    replayable: bool,
    /// Sent to the `icm` with `unknown_commands: once`.
    once: bool,
}

const fn request(name: &'static str, method: &'static str, command: &'static str) -> Request {
    Request { name, method, command, body: 0, replayable: true, once: false }
}

const REQUESTS: [Request; 13] = [
    request("GET", "GET", "?OpenDatabase"),
    request("HEAD", "HEAD", "?OpenDatabase"),
    Request { body: 1_000, replayable: false, ..request("POST 1k", "POST", "/form?CreateDocument") },
    Request { body: 200_000, replayable: false, ..request("POST 200k", "POST", "/form?CreateDocument") },
    // The command only reads, but the method is not among those that may be repeated.
    Request { body: 10, replayable: false, ..request("POST open", "POST", "?OpenDatabase") },
    Request { replayable: false, ..request("OpenAgent", "GET", "/agent?OpenAgent") },
    Request { replayable: false, ..request("DELETE..", "GET", "/0/ABCD?DELETEDOCUMENT") },
    Request { replayable: false, ..request("open%41gent", "GET", "/agent?open%41gent&x=1") },
    Request { replayable: false, ..request("!openAGENT", "GET", "/agent!openAGENT") },
    Request { replayable: false, ..request("%3FOpenAg", "GET", "/agent%3FOpenAgent") },
    Request { replayable: false, ..request("HEAD agent", "HEAD", "/agent?OpenAgent") },
    request("unknown", "GET", "/byname?CustomCommand"),
    Request { replayable: false, once: true, ..request("unk. once", "GET", "/byname?CustomCommand") },
];

fn faults(reused: bool) -> Vec<(&'static str, Value, Effect)> {
    use Executed::{No, Yes};
    // On an open connection a black hole is silence, not a connect that fails.
    let hole = if reused { Effect::Silent(No) } else { Effect::NotConnected };
    let dies = |chunked: bool, end: &str| json!({ "kind": "die_mid_body", "size": 60_000, "after": 20_000, "chunked": chunked, "end": end });
    vec![
        ("refuse", json!("refuse"), Effect::NotConnected),
        ("blackhole", json!("blackhole"), hole),
        ("reset at head", json!({ "kind": "reset", "at": "head" }), Effect::Broken(No)),
        ("reset at body", json!({ "kind": "reset", "at": "body" }), Effect::Broken(Yes)),
        ("close at head", json!({ "kind": "close", "at": "head" }), Effect::Broken(No)),
        ("close at body", json!({ "kind": "close", "at": "body" }), Effect::Broken(Yes)),
        ("half a header", json!("die_mid_header"), Effect::Broken(Yes)),
        ("garbage", json!("garbage"), Effect::Malformed),
        ("hang", json!("hang"), Effect::Silent(Yes)),
        ("503", json!({ "kind": "status", "status": 503 }), Effect::Status(503)),
        ("502", json!({ "kind": "status", "status": 502 }), Effect::Status(502)),
        ("500", json!({ "kind": "status", "status": 500 }), Effect::Status(500)),
        ("404 of holder", json!("not_found"), Effect::Status(404)),
        ("length, FIN", dies(false, "fin"), Effect::CutShort),
        ("length, RST", dies(false, "rst"), Effect::CutShort),
        ("chunked, FIN", dies(true, "fin"), Effect::CutShort),
        ("chunked, RST", dies(true, "rst"), Effect::CutShort),
    ]
}

/// What must happen in one cell.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    /// The simulated server that answered; empty for a page of `icm`.
    server: &'static str,
    complete: bool,
    /// Executed on the server that fails, and on the other.
    executed: (u64, u64),
}

fn expected(request: &Request, effect: Effect, reused: bool) -> Outcome {
    let of_other = |first| Outcome { status: 200, server: "Web2/Acme", complete: true, executed: (first, 1) };
    let own = |status, executed| Outcome { status, server: "", complete: true, executed: (executed, 0) };
    let of_first = |status, complete| Outcome { status, server: "Web1/Acme", complete, executed: (1, 0) };
    let count = |executed| u64::from(executed == Executed::Yes);
    match effect {
        Effect::NotConnected => of_other(0),
        // A pooled connection that breaks proves nothing about its server, which gets the request again on a new one.
        Effect::Broken(executed) if request.replayable => {
            of_other(count(executed) * if reused { 2 } else { 1 })
        }
        Effect::Broken(executed) => own(502, count(executed)),
        Effect::Silent(executed) if request.replayable => of_other(count(executed)),
        Effect::Silent(executed) => own(504, count(executed)),
        Effect::Status(404 | 502 | 503) if request.replayable => of_other(1),
        Effect::Status(status) => of_first(status, true),
        Effect::Malformed => own(502, 1),
        // HEAD has no body that could end too early.
        Effect::CutShort => of_first(200, request.method == "HEAD"),
    }
}

/// The cluster and two `icm`, which differ in `unknown_commands`.
struct FaultMatrix {
    acme: Acme,
    replay: Icm,
    once: Icm,
    cookies: [String; 2],
    next: usize,
    /// Probes failed with the last fault, too.
    met_by_probes: bool,
}

/// At least one for each cell: a 404 is retried only for a replica that never gave another answer.
const DATABASES: usize = 400;

impl FaultMatrix {
    fn new(reused: bool) -> FaultMatrix {
        let mut scenario = String::from("servers: [{ name: Web1/Acme }, { name: Web2/Acme }]\ndatabases:\n");
        scenario.push_str("  - { path: cldbdir.nsf, replica_id: C1256A2F00310002, replicas: all }\n");
        scenario.push_str("  - { path: warm.nsf, replica_id: C1256A2F00310003, replicas: all }\n");
        for n in 0..DATABASES {
            scenario.push_str(&format!(
                "  - {{ path: cell{n}.nsf, replica_id: \"C1257A00{n:08X}\", replicas: all }}\n"
            ));
        }
        let acme = Acme::start(&scenario);
        let start = |unknown: &str| {
            let mut config = config(&acme);
            for (key, value) in [
                ("directory.refresh", "1h"),
                // No server is UNREACHABLE before the request, so the request meets the fault.
                ("probe", "{ interval: 100ms, timeout: 1s, unreachable_after: 1000, healthy_after: 1 }"),
                ("failover.passive_failures", "0"),
                ("failover.connect_timeout", "500ms"),
                ("failover.response_timeout", "1s"),
                ("failover.retry_budget", "100%"),
                ("failover.unknown_commands", unknown),
            ] {
                set(&mut config, &format!("clusters.0.{key}"), value);
            }
            Icm::start(config)
        };
        let (replay, once) = (start("replay"), start("once"));
        let cookies = [&replay, &once].map(|icm| icm.cookie_for("Web1", "/warm.nsf?OpenDatabase"));
        acme.set("all", json!({ "max_requests": u64::from(!reused) }));
        FaultMatrix { acme, replay, once, cookies, next: 0, met_by_probes: false }
    }

    /// Runs one cell. Returns the outcome and the duration, or `None` if the connection was not new or reused as wanted: a
    /// connection returns to the pool a moment after its answer. A request that must not be repeated may use a new one.
    fn cell(&mut self, request: &Request, fault: &Value, reused: bool) -> Option<(Outcome, Duration)> {
        let (icm, cookie) = match request.once {
            false => (&self.replay, &self.cookies[0]),
            true => (&self.once, &self.cookies[1]),
        };
        let cookie = format!("ICM={cookie}");
        let rid = unique_id();
        let target = format!("/cell{}.nsf{}", self.next, request.command);
        self.next += 1;
        self.acme.heal("Web1");
        let met_by_probes = matches!(fault.as_str(), Some("refuse" | "blackhole"));
        if std::mem::replace(&mut self.met_by_probes, met_by_probes) || met_by_probes {
            // The probe that the last failed request triggered must not meet this fault.
            icm.wait_for_good_probe("Web1");
        }
        // Leaves a connection in the pool, or one that is closed on both sides.
        let warm = icm.client().get_with("/warm.nsf?OpenDatabase", &[("Cookie", &cookie)]);
        assert_eq!((warm.status, warm.server()), (200, "Web1/Acme"));
        // A connection that is still answering when its server begins to refuse breaks later, perhaps during the next
        // request.
        let settled = || {
            let all = self.acme.ask("GET", "/connections", None);
            all["Web1/Acme"]["idle"] == all["Web1/Acme"]["current"]
        };
        assert!(eventually(Duration::from_secs(5), settled));
        if reused {
            // A connection that is idle for so long is used for any request.
            pause(30);
        }
        self.acme.fault("Web1", fault.clone());

        let body = vec![b'x'; request.body];
        let start = Instant::now();
        let result = icm.client().request(
            request.method,
            &target,
            &[("Cookie", &cookie), ("X-Request-Id", &rid)],
            &body,
        );
        let took = start.elapsed();
        let (answer, complete) = match result {
            Ok(answer) => (answer, true),
            Err(Failure::Truncated(answer)) => (*answer, false),
            Err(other) => panic!("{} with {fault}: {other:?}", request.name),
        };
        check_body(request, &answer, complete);
        let server = match answer.server() {
            "Web1/Acme" => "Web1/Acme",
            "Web2/Acme" => "Web2/Acme",
            _ => "",
        };
        let counts = |server| self.acme.executed_on(&rid, server);
        let (first, second) = (counts("Web1"), counts("Web2"));
        let seen = self.acme.ask("GET", &format!("/requests?server=Web1&rid={rid}"), None);
        if (request.replayable || !reused) && first.0 > 0 && (seen[0]["nth"].as_u64().unwrap() > 1) != reused
        {
            return None;
        }
        Some((Outcome { status: answer.status, server, complete, executed: (first.1, second.1) }, took))
    }
}

/// Checks that the body is one answer of one server.
fn check_body(request: &Request, answer: &Answer, complete: bool) {
    let text = answer.text();
    if request.method == "HEAD" {
        assert_eq!(text, "");
        return;
    }
    if !complete {
        assert!(answer.body.len() <= 20_000, "more than was sent: {}", answer.body.len());
        let pattern = b"0123456789abcdef".iter().cycle();
        assert!(answer.body.iter().zip(pattern).all(|(got, sent)| got == sent), "spliced:\n{text}");
        return;
    }
    assert_eq!(text.matches("<html").count().max(1), 1, "two pages in one:\n{text}");
    for (own, other) in [("Web1/Acme", "Web2/Acme"), ("Web2/Acme", "Web1/Acme")] {
        assert!(answer.server() != own || !text.contains(other), "of {own} and yet of {other}:\n{text}");
    }
    if answer.server().is_empty() {
        assert!(!text.to_lowercase().contains("web1"), "names an internal host:\n{text}");
    }
}

fn matrix(reused: bool) {
    let mut matrix = FaultMatrix::new(reused);
    let mut table = format!("{:14}", if reused { "reused" } else { "fresh" });
    let mut wrong = Vec::new();
    for request in &REQUESTS {
        table.push_str(&format!("{:>16}", request.name));
    }
    for ((name, fault, effect), (_, _, on_new_connection)) in faults(reused).into_iter().zip(faults(false)) {
        table.push_str(&format!("\n{name:14}"));
        for request in &REQUESTS {
            let done = (0..5).find_map(|_| matrix.cell(request, &fault, reused));
            let (got, took) = done.expect("no connection of the wanted age in five attempts");
            let cut = if got.complete { "" } else { "~" };
            let cell =
                format!("{}{cut} {}+{} {}ms", got.status, got.executed.0, got.executed.1, took.as_millis());
            table.push_str(&format!("{cell:>16}"));
            let wanted = expected(request, effect, reused);
            let took_a_new_one =
                reused && !request.replayable && got == expected(request, on_new_connection, false);
            if got != wanted && !took_a_new_one {
                wrong.push(format!("{name} × {}: {got:?}, wanted {wanted:?}", request.name));
            }
        }
    }
    println!("status (~ cut short), executed on the failing server + the other, time\n{table}\n");
    assert!(wrong.is_empty(), "{table}\n{}", wrong.join("\n"));
}

#[test]
fn every_fault_on_fresh_connections_gives_each_request_the_answer_it_must_have() {
    matrix(false);
}

#[test]
fn every_fault_on_reused_connections_gives_each_request_the_answer_it_must_have() {
    matrix(true);
}

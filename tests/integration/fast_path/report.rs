//! Compares what two sites did with the same exchange, and says readably what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::client::{After, End, Seen};
use super::exchange::Exchange;
use super::origin::Received;

/// What happened at one site.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seen: Seen,
    /// After the last answer on the connection.
    pub after: Option<After>,
    pub received: Vec<Received>,
    /// For each attempt, whether the connection had carried a request before.
    pub reused: Vec<bool>,
}

/// The differences of a run.
#[derive(Debug)]
pub struct Report {
    /// Several servers could serve, so that it is left to chance which one does.
    any_server: bool,
    differences: Vec<String>,
    /// For each exchange, whether its attempts were on connections that had carried a request before.
    reused: BTreeMap<u64, [Vec<bool>; 2]>,
    /// Exchanges whose client did not wait: how much of the answer was sent is not defined.
    left: BTreeSet<u64>,
    /// Exchanges whose attempts depend on which connections were open, which is not defined.
    free_attempts: BTreeSet<u64>,
    /// Exchanges with a broken answer, at one site only on a connection that was an old one: the request may be sent again.
    undefined: BTreeSet<u64>,
    /// Exchanges whose first attempt was on a new connection at one site only.
    pub reused_differently: usize,
}

/// How many differences are printed.
const MAX_PRINTED: usize = 12;

impl Report {
    pub fn new(any_server: bool) -> Report {
        Report {
            any_server,
            differences: Vec::new(),
            reused: BTreeMap::new(),
            left: BTreeSet::new(),
            free_attempts: BTreeSet::new(),
            undefined: BTreeSet::new(),
            reused_differently: 0,
        }
    }

    /// The fields without what differs from one time and one server to the next, such as entries and stamps of cookies, and
    /// without what need not be equal: the spelling of names, and `Date`, which Pingora's sessions replace by their own.
    fn neutral(&self, fields: &[(String, String)]) -> Vec<(String, String)> {
        let neutral = |(name, value): &(String, String)| {
            let mut value = value.clone();
            if name.eq_ignore_ascii_case("set-cookie")
                && let Some((cookie, attributes)) = value.split_once(';')
                && let Some((cookie, content)) = cookie.split_once('=')
            {
                let content = if cookie.starts_with("ICM") { "<secret>" } else { content };
                let cookie = match cookie.split_once('~') {
                    Some((cookie, _)) if self.any_server => format!("{cookie}~<tag>"),
                    _ => cookie.to_owned(),
                };
                value = format!("{cookie}={content};{attributes}");
            }
            (name.to_ascii_lowercase(), value)
        };
        fields.iter().map(neutral).filter(|(name, _)| name != "date").collect()
    }

    /// Compares the outcomes of one exchange with the fast path and without it.
    pub fn compare(&mut self, exchange: &Exchange, on: &Outcome, off: &Outcome) {
        self.reused.insert(exchange.seed, [on.reused.clone(), off.reused.clone()]);
        let first = |outcome: &Outcome| outcome.reused.first().copied().unwrap_or(false);
        let same_reuse = first(on) == first(off);
        self.reused_differently += usize::from(!same_reuse);
        // A request whose answer does not begin is sent again if the connection was an old one.
        if exchange.leaves {
            self.left.insert(exchange.seed);
        }
        // After an old connection has broken, chance decides whether the same server is asked on a new one.
        let is_by_chance = self.any_server && first(on) && on.reused.len() > 1;
        if exchange.is_after_dead || !same_reuse || is_by_chance {
            self.free_attempts.insert(exchange.seed);
        }
        if !same_reuse && !exchange.answer.is_complete {
            self.undefined.insert(exchange.seed);
            return;
        }
        let mut text = String::new();
        let mut note = |what: &str, on: String, off: String| {
            if on != off {
                let _ = write!(text, "  {what}\n    on:  {on}\n    off: {off}\n");
            }
        };
        note("1xx answers", format!("{:?}", on.seen.informational), format!("{:?}", off.seen.informational));
        note("status line", format!("{:?}", on.seen.line), format!("{:?}", off.seen.line));
        let (more, fewer) = only_in_one(&self.neutral(&on.seen.fields), &self.neutral(&off.seen.fields));
        note("fields of the answer", more, fewer);
        note("end of the answer", format!("{:?}", on.seen.end), format!("{:?}", off.seen.end));
        if !same_body(&on.seen, &off.seen) {
            note("body of the answer", shown(&on.seen.body), shown(&off.seen.body));
        }
        note("connection afterwards", format!("{:?}", on.after), format!("{:?}", off.after));
        note("executions", on.received.len().to_string(), off.received.len().to_string());
        for (number, (on, off)) in on.received.iter().zip(&off.received).enumerate() {
            let what = |part: &str| format!("{part} of attempt {number}");
            note(&what("request line"), format!("{:?}", on.line), format!("{:?}", off.line));
            let (more, fewer) = only_in_one(&self.neutral(&on.fields), &self.neutral(&off.fields));
            note(&what("fields"), more, fewer);
            let complete = |r: &Received| format!("{}", r.body_is_complete);
            note(&what("completeness"), complete(on), complete(off));
            if on.body_is_complete {
                note(&what("body"), shown(&on.body), shown(&off.body));
            }
        }
        self.add(exchange, text);
    }

    fn add(&mut self, exchange: &Exchange, text: String) {
        if text.is_empty() {
            return;
        }
        let head = shown(&exchange.head());
        self.differences.push(format!(
            "seed {}, {:?} (FAST_PATH_SEEDS={}..{} repeats it)\n{text}  reused connections (on, off): {:?}\n  request {head}\n  answer, then {:?}{}: {}\n",
            exchange.seed,
            exchange.answer.name,
            exchange.seed.saturating_sub(3),
            exchange.seed + 1,
            self.reused.get(&exchange.seed),
            exchange.answer.ending,
            if exchange.answer.only_first { ", at the first attempt only" } else { "" },
            shown_steps(exchange),
        ));
    }

    /// Compares the access logs, by the exchange that each line names.
    pub fn compare_logs(&mut self, on: &[Value], off: &[Value], exchanges: &BTreeMap<u64, Exchange>) {
        let (on, off) = (self.by_seed(on), self.by_seed(off));
        for (seed, exchange) in exchanges {
            let lines = |log: &BTreeMap<u64, Vec<String>>| log.get(seed).cloned().unwrap_or_default();
            let (on, off) = (lines(&on), lines(&off));
            if on != off {
                let text = format!(
                    "  access log\n    on:  {}\n    off: {}\n",
                    on.join("\n         "),
                    off.join("\n         ")
                );
                self.add(exchange, text);
            }
        }
    }

    /// The lines without times, and without what is left to chance.
    fn by_seed(&self, log: &[Value]) -> BTreeMap<u64, Vec<String>> {
        let mut all: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for line in log {
            let target = line["target"].as_str().unwrap_or_default();
            let Some(seed) = target.rsplit("seed=").next().and_then(|seed| seed.parse().ok()) else {
                continue;
            };
            if self.undefined.contains(&seed) {
                continue;
            }
            let mut line = line.clone();
            // Only some lines have the states of the servers, by the time that has passed.
            let mut free = vec!["time", "ttfb_ms", "total_ms", "index", "servers"];
            if self.free_attempts.contains(&seed) {
                free.extend(["attempts", "server", "why"]);
            }
            if self.left.contains(&seed) {
                free.push("bytes");
            }
            for key in free {
                line[key] = Value::Null;
            }
            let mut text = line.to_string();
            if self.any_server {
                let order = line["attempts"].as_array().into_iter().flatten();
                let names: Vec<&str> = order.filter_map(|attempt| attempt["server"].as_str()).collect();
                for (name, neutral) in names.iter().zip(["<first>", "<second>", "<third>"]) {
                    text = text.replace(name, neutral);
                }
            }
            all.entry(seed).or_default().push(text);
        }
        all.values_mut().for_each(|lines| lines.sort());
        all
    }

    /// Fails the test if anything differs.
    pub fn finish(self, count: usize) {
        let printed = self.differences.iter().take(MAX_PRINTED).map(String::as_str).collect::<Vec<_>>();
        assert!(
            printed.is_empty(),
            "{} differences in {count} exchanges, the first of them:\n\n{}",
            self.differences.len(),
            printed.join("\n")
        );
    }
}

/// The fields that only one of them has; the values of a name must come in the same order.
fn only_in_one(on: &[(String, String)], off: &[(String, String)]) -> (String, String) {
    if on == off {
        return (String::new(), String::new());
    }
    let only = |a: &[(String, String)], b: &[(String, String)]| {
        let more = a.iter().filter(|field| !b.contains(field));
        more.map(|(name, value)| format!("{name:?}: {value:?}")).collect::<Vec<_>>().join(", ")
    };
    match (only(on, off), only(off, on)) {
        (more, fewer) if more == fewer => (format!("{on:?}"), format!("{off:?}")),
        texts => texts,
    }
}

/// How much of a body that was cut arrives is not defined.
fn same_body(on: &Seen, off: &Seen) -> bool {
    if on.end == End::Complete && off.end == End::Complete {
        return on.body == off.body;
    }
    on.body.starts_with(&off.body) || off.body.starts_with(&on.body)
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned();
    format!("{} bytes {text:?}", bytes.len())
}

fn shown_steps(exchange: &Exchange) -> String {
    use super::answers::Step;
    let show = |step: &Step| match step {
        Step::Send(bytes) => format!("send {}", shown(bytes)),
        Step::Pause(ms) => format!("pause {ms} ms"),
    };
    exchange.answer.steps.iter().take(6).map(show).collect::<Vec<_>>().join("; ")
}

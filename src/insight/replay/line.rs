//! One line of the JSON access log, as the replay needs it. Text is borrowed from the line, because a log has millions of
//! lines.

use std::borrow::Cow;

use serde::Deserialize;

use crate::domain::cluster::ServerState;
use crate::domain::url::{self, Locator};
use crate::telemetry::access_log::recorded::RecordedStates;

/// Borrows from the line unless the text has an escape. `Option<Cow<str>>` would always copy.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct LogText<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object")]
struct RawLine<'a> {
    #[serde(borrow)]
    time: LogText<'a>,
    #[serde(borrow, default)]
    client: Option<LogText<'a>>,
    #[serde(borrow, default)]
    client_subject: Option<LogText<'a>>,
    #[serde(borrow, default)]
    target: Option<LogText<'a>>,
    #[serde(borrow, default)]
    protocol: Option<LogText<'a>>,
    #[serde(default)]
    status: u16,
    #[serde(borrow, default)]
    user_agent: Option<LogText<'a>>,
    #[serde(borrow, default)]
    cluster: Option<LogText<'a>>,
    #[serde(borrow, default)]
    route: Option<LogText<'a>>,
    #[serde(borrow, default)]
    replica_id: Option<LogText<'a>>,
    #[serde(borrow, default)]
    state: Option<LogText<'a>>,
    #[serde(default)]
    index: Option<f32>,
    #[serde(borrow, default)]
    why: Option<LogText<'a>>,
    #[serde(borrow, default)]
    attempts: Vec<RawAttempt<'a>>,
    #[serde(default)]
    ttfb_ms: Option<u64>,
    #[serde(default)]
    total_ms: u64,
    #[serde(default)]
    servers: Option<RecordedStates>,
}

#[derive(Debug, Deserialize)]
struct RawAttempt<'a> {
    #[serde(borrow)]
    server: LogText<'a>,
    #[serde(borrow, default)]
    cause: Option<LogText<'a>>,
}

/// What tied the user to the server of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// Nothing: a new user, or one whose server could not be used.
    None,
    Entry,
    Hint,
    Recent,
    Session,
    OwnWrite,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoggedOutcome {
    Sent,
    /// No server could take it.
    Refused,
    /// The server of its NoteID could not be used, and the line does not name it.
    NoteIdRefused,
    /// Answered by `icm` itself, without a server.
    Own,
}

/// The parts of a line that do not depend on a configuration.
#[derive(Debug)]
pub(super) struct LogLine<'a> {
    /// The end of the request, in milliseconds since 1970.
    pub end_ms: u64,
    pub total_ms: u64,
    pub first_byte_ms: Option<u64>,
    pub status: u16,
    /// A hash of the client's address, its User-Agent and the subject of its certificate.
    pub user: u64,
    pub is_http2: bool,
    pub cluster: Option<Cow<'a, str>>,
    pub route: Option<Cow<'a, str>>,
    pub replica_id: Option<u64>,
    pub note_id: bool,
    pub state: Option<ServerState>,
    pub index: Option<f32>,
    pub tie: Tie,
    /// The server was set aside, and no better one was left.
    pub is_set_aside: bool,
    pub outcome: LoggedOutcome,
    /// Each attempt by its server, with its failure.
    pub attempts: Vec<(Cow<'a, str>, Option<Failure>)>,
    pub states: Option<RecordedStates>,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server could not be reached.
    Connect,
    Other,
}

/// Why a line cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not what `access_log.format: json` writes.
    #[error("not a line of the JSON access log: {0}")]
    NotJson(String),
    /// The time is not RFC 3339.
    #[error("the time {0:?} cannot be read")]
    Time(String),
}

/// Reads lines, and remembers the last day and second, because most lines have those of the line before.
#[derive(Debug)]
pub(super) struct LineParser {
    users: ahash::RandomState,
    minute: String,
    minute_ms: u64,
}

impl Default for LineParser {
    fn default() -> Self {
        // The same user has the same hash in every run.
        Self { users: ahash::RandomState::with_seeds(1, 2, 3, 4), minute: String::new(), minute_ms: 0 }
    }
}

impl LineParser {
    /// # Errors
    /// If it is no line of the JSON access log.
    pub fn parse<'a>(&mut self, line: &'a [u8]) -> Result<LogLine<'a>, LineError> {
        let raw: RawLine<'a> =
            serde_json::from_slice(line).map_err(|error| LineError::NotJson(error.to_string()))?;
        let time = &*raw.time.0;
        let end_ms = self.unix_ms(time).ok_or_else(|| LineError::Time(time.chars().take(40).collect()))?;
        let text = |text: &Option<LogText<'a>>| text.as_ref().map(|text| text.0.clone());
        let str_of = |text: &'_ Option<LogText<'a>>| text.as_ref().map(|text| text.0.to_string());
        let why = raw.why.as_ref().map_or("", |why| &*why.0);
        let outcome = outcome(why, raw.status, raw.attempts.is_empty());
        let tie = if raw.attempts.len() == 1 { tie(why) } else { Tie::None };
        let target = raw.target.as_ref().map_or("", |target| &*target.0);
        let note_id = tie == Tie::Entry && url::parse(target.as_bytes()).locator == Locator::NoteId;
        let plain = |text: &Option<LogText<'a>>| text.as_ref().map_or(0, |t| self.users.hash_one(&*t.0));
        let user = self.users.hash_one((
            plain(&raw.client),
            plain(&raw.user_agent),
            raw.client_subject.as_ref().map(|_| str_of(&raw.client_subject)),
        ));
        Ok(LogLine {
            end_ms,
            total_ms: raw.total_ms,
            first_byte_ms: raw.ttfb_ms,
            status: raw.status,
            user,
            is_http2: raw.protocol.as_ref().is_some_and(|protocol| protocol.0 == "HTTP/2.0"),
            cluster: text(&raw.cluster),
            route: text(&raw.route),
            replica_id: raw.replica_id.as_ref().and_then(|id| u64::from_str_radix(&id.0, 16).ok()),
            note_id,
            state: raw.state.as_ref().and_then(|state| state_of(&state.0)),
            index: raw.index,
            tie,
            is_set_aside: why == "set_aside",
            outcome,
            attempts: raw.attempts.into_iter().map(attempt).collect(),
            states: raw.servers,
        })
    }

    /// Reads `2026-11-22T05:07:38.123Z`, or any other RFC 3339 time.
    fn unix_ms(&mut self, text: &str) -> Option<u64> {
        let usual = text.len() == 24 && text.ends_with('Z') && text.get(19..20) == Some(".");
        let (Some(minute), Some(second), Some(ms), true) =
            (text.get(..16), text.get(17..19), text.get(20..23), usual)
        else {
            return rfc3339(text);
        };
        if minute != self.minute {
            self.minute_ms = rfc3339(&format!("{minute}:00Z"))?;
            minute.clone_into(&mut self.minute);
        }
        let (second, ms): (u64, u64) = (second.parse().ok()?, ms.parse().ok()?);
        Some(self.minute_ms + second * 1_000 + ms)
    }
}

fn rfc3339(text: &str) -> Option<u64> {
    let at = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(at.timestamp_millis()).ok()
}

/// Reads the time of a record.
pub(super) fn record_time(states: &RecordedStates) -> Option<u64> {
    rfc3339(&states.at)
}

/// The time of a line, to sort files.
///
/// # Errors
/// If it is no line of the JSON access log.
pub fn time_of(line: &[u8]) -> Result<u64, LineError> {
    LineParser::default().parse(line).map(|line| line.end_ms)
}

pub(super) fn state_of(text: &str) -> Option<ServerState> {
    ServerState::ALL.into_iter().find(|state| state.as_str() == text)
}

fn attempt<'a>(raw: RawAttempt<'a>) -> (Cow<'a, str>, Option<Failure>) {
    let failure = raw.cause.map(|cause| if cause.0 == "connect" { Failure::Connect } else { Failure::Other });
    (raw.server.0, failure)
}

/// The words are those of `SelectionReason::as_str` and of the log record.
fn tie(why: &str) -> Tie {
    match why {
        "entry" => Tie::Entry,
        "redirect_to" | "referer" => Tie::Hint,
        "recent" => Tie::Recent,
        "session" => Tie::Session,
        "own_write" => Tie::OwnWrite,
        _ => Tie::None,
    }
}

fn outcome(why: &str, status: u16, no_attempt: bool) -> LoggedOutcome {
    match why {
        _ if !no_attempt => LoggedOutcome::Sent,
        "no_server" | "out_of_service" | "full" if status == 503 => LoggedOutcome::Refused,
        "note_id" if status == 503 => LoggedOutcome::NoteIdRefused,
        _ => LoggedOutcome::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = r#"{"time":"2026-11-24T05:07:38.123Z","client":"10.0.0.7","method":"GET","host":"www","target":"/a.nsf/0/8F6?OpenDocument","protocol":"HTTP/1.1","status":200,"bytes":5,"user_agent":"a \"b\"","cluster":"AcmeWeb","route":null,"database":"a.nsf","replica_id":"C1257A000041D203","server":"Web2/Acme","state":"CATCHING UP","index":20.4,"why":"entry","attempts":[{"server":"Web1/Acme","cause":"connect"},{"server":"Web2/Acme","cause":null}],"page":null,"ttfb_ms":3,"total_ms":4,"servers":null}"#;

    #[test]
    fn a_line_is_read_with_what_selection_needs() {
        let mut parser = LineParser::default();
        let line = parser.parse(LINE.as_bytes()).unwrap();
        assert_eq!(line.end_ms, 1_795_496_858_123);
        assert_eq!((line.total_ms, line.first_byte_ms, line.status), (4, Some(3), 200));
        assert_eq!(line.replica_id, Some(0xC125_7A00_0041_D203));
        assert_eq!((line.state, line.index), (Some(ServerState::CatchingUp), Some(20.4)));
        assert_eq!((line.tie, line.outcome), (Tie::None, LoggedOutcome::Sent), "after a failover");
        let failures: Vec<_> = line.attempts.iter().map(|(_, failure)| *failure).collect();
        assert_eq!(failures, [Some(Failure::Connect), None]);
        assert!(matches!(line.cluster, Some(Cow::Borrowed("AcmeWeb"))), "borrowed");
        let other = LINE.replace("10.0.0.7", "10.0.0.8");
        assert_ne!(parser.parse(other.as_bytes()).unwrap().user, line.user);
        let old = LINE.replace(r#","servers":null"#, "");
        assert_eq!(parser.parse(old.as_bytes()).unwrap().user, line.user, "a log from before the field");
    }

    #[test]
    fn every_time_of_rfc_3339_is_read() {
        let mut parser = LineParser::default();
        for (text, expected) in [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("1970-01-01T00:01:02.003Z", Some(62_003)),
            ("1970-01-01T00:01:59.999Z", Some(119_999)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1969-12-31T23:59:59.000Z", None),
            ("yesterday", None),
            ("1970-01-01T00:00:0x.000Z", None),
        ] {
            assert_eq!(parser.unix_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_line_of_the_log_is_an_error() {
        let combined = br#"127.0.0.1 - - [22/Nov/2026:05:07:38 +0000] "GET / HTTP/1.1" 200 1"#;
        for text in [&combined[..], b"", b"{", b"{}", b"[]", b"\xff\xfe", br#"{"time":"x"}"#] {
            assert!(time_of(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_or_changed_line_is_read_or_refused(at in 0..LINE.len(), byte: u8, cut: bool) {
            let mut line = LINE.as_bytes().to_vec();
            if cut { line.truncate(at) } else { line[at] = byte }
            let _ = LineParser::default().parse(&line);
        }

        #[test]
        fn the_quick_reading_of_times_agrees_with_the_slow_one(ms in 0_u64..4_000_000_000_000) {
            let at = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap();
            let text = at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            prop_assert_eq!(LineParser::default().unix_ms(&text), Some(ms));
        }
    }
}

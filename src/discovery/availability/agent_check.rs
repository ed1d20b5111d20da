//! Parses one line of HAProxy's agent-check protocol (<https://docs.haproxy.org/>, `agent-check`).
//!
//! `NN%` is the index; the words set the administrative and the operational state, and the last of each counts. Unknown
//! words are ignored, as the protocol requires.

use super::statistics::{ParseError, ParsedReport};
use crate::discovery::domino::fault::single_line;
use crate::domain::cluster::{Administrative, AvailabilityReport, Operational};

/// Parses the first line.
///
/// # Errors
/// When the line has no word of the protocol.
pub fn parse(body: &[u8]) -> Result<ParsedReport, ParseError> {
    let text = String::from_utf8_lossy(body);
    let line = text.split(['\r', '\n']).next().unwrap_or_default();
    let (words, reason) = match line.split_once('#') {
        Some((words, reason)) => (words, reason.trim()),
        None => (line, ""),
    };
    let mut report = AvailabilityReport::default();
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        take(&mut report, word, reason);
    }
    if report.is_empty() {
        return Err(ParseError::UnknownWords(single_line(line)));
    }
    Ok(ParsedReport { report, warnings: Vec::new() })
}

fn take(report: &mut AvailabilityReport, word: &str, reason: &str) {
    let word = word.to_ascii_lowercase();
    match word.as_str() {
        "ready" => report.administrative = Some(Administrative::Ready),
        "drain" => report.administrative = Some(Administrative::Drain),
        "maint" => report.administrative = Some(Administrative::Maint),
        "up" => report.operational = Some(Operational::Up),
        "down" | "failed" | "stopped" => {
            report.operational = Some(Operational::Down(single_line(reason)));
        }
        word => {
            if let Some(percent) = word.strip_suffix('%').and_then(digits) {
                report.index = Some(u8::try_from(percent.min(100)).unwrap_or(100));
            } else if let Some(limit) = word.strip_prefix("maxconn:").and_then(digits) {
                report.max_connections = Some(limit);
            }
        }
    }
}

/// Accepts only digits; a number that is too large is clamped.
fn digits(text: &str) -> Option<u32> {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn report(
        index: Option<u8>,
        administrative: Option<Administrative>,
        operational: Option<Operational>,
        max_connections: Option<u32>,
    ) -> AvailabilityReport {
        AvailabilityReport {
            index,
            administrative,
            operational,
            max_connections,
            ..AvailabilityReport::default()
        }
    }

    #[test]
    fn every_line_of_the_sample_is_parsed() {
        use Administrative::{Drain, Maint, Ready};
        use Operational::{Down, Up};
        let expected = [
            report(Some(75), None, None, None),
            report(Some(75), None, Some(Up), None),
            report(Some(100), Some(Ready), Some(Up), None),
            report(None, Some(Drain), None, None),
            report(None, Some(Maint), None, None),
            report(None, None, Some(Down("HTTP task ended".to_owned())), None),
            report(Some(30), Some(Ready), Some(Up), Some(200)),
            report(None, None, Some(Down(String::new())), None),
        ];
        let lines =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/agent-check-replies.txt"))
                .lines();
        let parsed: Vec<AvailabilityReport> =
            lines.map(|line| parse(line.as_bytes()).unwrap().report).collect();
        assert_eq!(parsed, expected);
    }

    #[test]
    fn case_is_ignored_and_only_the_first_line_counts() {
        let parsed = parse(b"DRAIN,  Failed 0%\r\nready up 100%\n").unwrap().report;
        let expected =
            report(Some(0), Some(Administrative::Drain), Some(Operational::Down(String::new())), None);
        assert_eq!(parsed, expected);
    }

    #[test]
    fn unknown_words_are_ignored_but_a_line_of_them_is_an_error() {
        assert_eq!(
            parse(b"hello -5% 75.5% % maxconn: up x").unwrap().report.operational,
            Some(Operational::Up)
        );
        for line in ["", "\n75%", "hello", "# down", "%", "-1%"] {
            assert!(matches!(parse(line.as_bytes()), Err(ParseError::UnknownWords(_))), "{line}");
        }
    }

    #[test]
    fn a_weight_over_100_is_100() {
        for text in ["101%", "256%", "99999999999999999999%"] {
            assert_eq!(parse(text.as_bytes()).unwrap().report.index, Some(100), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}

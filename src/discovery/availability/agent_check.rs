//! One line of HAProxy's agent-check protocol (<https://docs.haproxy.org/>, `agent-check`).
//!
//! In: what an agent wrote before it closed the connection. Out: facts: `NN%` is the index, the words
//! are the two dimensions, the last of each counts. Unknown words are ignored, as the protocol wants
//! it, but a line of nothing else is an error. Weights over 100% are 100.

use super::statistics::{ParseError, Report};
use crate::domain::cluster::{Administrative, Facts, Operational};

/// Parses the first line.
///
/// # Errors
/// When no word of the protocol is in it.
pub fn parse(body: &[u8]) -> Result<Report, ParseError> {
    let text = String::from_utf8_lossy(body);
    let line = text.split(['\r', '\n']).next().unwrap_or_default();
    let (words, reason) = match line.split_once('#') {
        Some((words, reason)) => (words, reason.trim()),
        None => (line, ""),
    };
    let mut facts = Facts::default();
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        take(&mut facts, word, reason);
    }
    if facts.is_empty() {
        return Err(ParseError::UnknownWords(crate::discovery::domino::fault::short(line)));
    }
    Ok(Report { facts, warnings: Vec::new() })
}

fn take(facts: &mut Facts, word: &str, reason: &str) {
    let word = word.to_ascii_lowercase();
    match word.as_str() {
        "ready" => facts.administrative = Some(Administrative::Ready),
        "drain" => facts.administrative = Some(Administrative::Drain),
        "maint" => facts.administrative = Some(Administrative::Maint),
        "up" => facts.operational = Some(Operational::Up),
        "down" | "failed" | "stopped" => {
            let reason = crate::discovery::domino::fault::short(reason);
            facts.operational = Some(Operational::Down(reason));
        }
        word => {
            if let Some(percent) = word.strip_suffix('%').and_then(digits) {
                facts.index = Some(u8::try_from(percent.min(100)).unwrap_or(100));
            } else if let Some(limit) = word.strip_prefix("maxconn:").and_then(digits) {
                facts.max_connections = Some(limit);
            }
        }
    }
}

/// Digits only; what does not fit is the largest number.
fn digits(text: &str) -> Option<u32> {
    let number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    number.then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn facts(
        index: Option<u8>,
        administrative: Option<Administrative>,
        operational: Option<Operational>,
        max_connections: Option<u32>,
    ) -> Facts {
        Facts { index, administrative, operational, max_connections, ..Facts::default() }
    }

    #[test]
    fn every_line_of_the_sample_is_understood() {
        use Administrative::{Drain, Maint, Ready};
        use Operational::{Down, Up};
        let expected = [
            facts(Some(75), None, None, None),
            facts(Some(75), None, Some(Up), None),
            facts(Some(100), Some(Ready), Some(Up), None),
            facts(None, Some(Drain), None, None),
            facts(None, Some(Maint), None, None),
            facts(None, None, Some(Down("HTTP task ended".to_owned())), None),
            facts(Some(30), Some(Ready), Some(Up), Some(200)),
            facts(None, None, Some(Down(String::new())), None),
        ];
        let lines =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/agent-check-replies.txt"))
                .lines();
        let parsed: Vec<Facts> = lines.map(|line| parse(line.as_bytes()).unwrap().facts).collect();
        assert_eq!(parsed, expected);
    }

    #[test]
    fn case_makes_no_difference_and_only_the_first_line_counts() {
        let parsed = parse(b"DRAIN,  Failed 0%\r\nready up 100%\n").unwrap().facts;
        let expected =
            facts(Some(0), Some(Administrative::Drain), Some(Operational::Down(String::new())), None);
        assert_eq!(parsed, expected);
    }

    #[test]
    fn unknown_words_are_ignored_unless_there_is_nothing_else() {
        assert_eq!(
            parse(b"hello -5% 75.5% % maxconn: up x").unwrap().facts.operational,
            Some(Operational::Up)
        );
        for line in ["", "\n75%", "hello", "# down", "%", "-1%"] {
            assert!(matches!(parse(line.as_bytes()), Err(ParseError::UnknownWords(_))), "{line}");
        }
    }

    #[test]
    fn a_weight_over_100_is_100() {
        for text in ["101%", "256%", "99999999999999999999%"] {
            assert_eq!(parse(text.as_bytes()).unwrap().facts.index, Some(100), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&octets);
        }
    }
}

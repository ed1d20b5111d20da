//! Prometheus text, as `domprom` writes it for node_exporter (<https://github.com/nashcom/domino-grafana>).
//!
//! Other metrics and labels are skipped, `NaN` is no value. `DominoHealth_state` is not used: it is the verdict of another
//! prober. Old values are recognised later, by an `updated_at` that does not advance.

use super::statistics::{Collector, ParseError, ParsedReport, number, restricted};

/// Parses the text of an exporter.
///
/// # Errors
/// When it has none of the metrics that we know: node_exporter answers also without `domprom`.
pub fn parse(body: &[u8]) -> Result<ParsedReport, ParseError> {
    let text = String::from_utf8_lossy(body);
    let mut collector = Collector::default();
    let mut maintenance = None;
    let mut level = None;
    for line in text.lines() {
        let Some((name, value)) = sample(line) else { continue };
        if value.eq_ignore_ascii_case("nan") {
            continue;
        }
        match name {
            "DominoHealth_server_restricted_status" => match restricted(value) {
                Some(yes) => level = Some(yes),
                None => collector.warn(format!("{name} {value} is out of range and ignored")),
            },
            "DominoHealth_maintenance_status" => match number(value) {
                Some(1.0) => maintenance = Some(true),
                Some(0.0) => maintenance = Some(false),
                _ => collector.warn(format!("{name} {value} is out of range and ignored")),
            },
            "DominoHealth_stat_update_timestamp" => {
                if let Some(seconds) = number(value) {
                    collector.known(|report| report.updated_at = Some(seconds));
                }
            }
            name => collector.take(name.strip_prefix("Domino_").unwrap_or(name), value),
        }
    }
    if let Some(open) = maintenance.into_iter().chain(level).reduce(|a, b| a || b) {
        collector.known(|report| report.restricted = Some(open || report.restricted == Some(true)));
    }
    collector.finish("the exporter's text", body)
}

/// Name and value of `name{labels} value [timestamp]`.
fn sample(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at_checked(end)?;
    let rest = match rest.strip_prefix('{') {
        Some(labels) => behind_labels(labels)?,
        None => rest,
    };
    Some((name, rest.split_whitespace().next()?))
}

/// What follows the closing brace that is in no quotes.
fn behind_labels(labels: &str) -> Option<&str> {
    let mut quoted = false;
    let mut characters = labels.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if quoted => {
                characters.next();
            }
            '"' => quoted = !quoted,
            '}' if !quoted => return labels.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::cluster::AvailabilityReport;
    use proptest::prelude::*;

    #[test]
    fn the_exporters_file_is_understood() {
        let parsed =
            parse(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/domino.prom")))
                .unwrap();
        let expected = AvailabilityReport {
            index: Some(84),
            threshold: Some(20),
            restricted: Some(false),
            updated_at: Some(1_795_162_500.0),
            ..AvailabilityReport::default()
        };
        assert_eq!(parsed, ParsedReport { report: expected, warnings: vec![] });
    }

    #[test]
    fn after_a_shutdown_there_is_no_index_but_the_restriction_stays() {
        let report = parse(include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/domino-after-shutdown.prom"
        )))
        .unwrap()
        .report;
        assert_eq!((report.index, report.restricted), (None, Some(true)));
        assert_eq!(report.updated_at, Some(1_795_162_500.0));
    }

    #[test]
    fn a_maintenance_window_restricts_also_when_the_server_does_not() {
        let said = |text: &str| parse(text.as_bytes()).unwrap().report.restricted;
        assert_eq!(
            said("DominoHealth_maintenance_status 1\nDominoHealth_server_restricted_status 0\n"),
            Some(true)
        );
        assert_eq!(said("DominoHealth_maintenance_status 0\nServer_Restricted 1\n"), Some(true));
        assert_eq!(said("DominoHealth_maintenance_status 0\n"), Some(false));
        assert_eq!(said("Domino_Server_AvailabilityIndex 3\n"), None);
    }

    #[test]
    fn labels_timestamps_floats_and_other_metrics_are_tolerated() {
        let text = "node_load1 0.5\nDomino_Server_Users{server=\"a } \\\" b\",x=\"\"} 96 1795162500000\n\
            Domino_Server_AvailabilityIndex{} 8.4e1\r\nDomino_Server_AvailabilityThreshold NaN\nServer_MaxUsers 7\n{ \n";
        let report = parse(text.as_bytes()).unwrap().report;
        let expected = AvailabilityReport {
            index: Some(84),
            users: Some(96),
            max_users: Some(7),
            ..AvailabilityReport::default()
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn an_exporter_without_domino_is_an_error() {
        let text = b"node_load1 0.5\nDomino_Http_CurrentConnections 57\nDominoHealth_state 0\n";
        assert!(matches!(parse(text), Err(ParseError::NothingKnown(_))));
        assert_eq!(parse(b"Domino_Server_AvailabilityIndex 150\n").unwrap().warnings.len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_label_text_leaves_the_value_alone(label in "[^\"\\\\\r\n]{0,20}", index in 0_u8..=100) {
            let text = format!("Domino_Server_AvailabilityIndex{{a=\"{label}\"}} {index}\n");
            prop_assume!(text.lines().count() == 1);
            prop_assert_eq!(parse(text.as_bytes()).unwrap().report.index, Some(index));
        }
    }
}

//! Parses Prometheus text as `domprom` writes it for node_exporter (<https://github.com/nashcom/domino-grafana>).
//!
//! `DominoHealth_state` is not used, because it is the verdict of another prober. Stale values are recognised later, by an
//! `updated_at` that does not advance.

use super::statistics::{Collector, ParseError, ParsedReport, number, restricted};

/// # Errors
/// When the text has no known metric, because node_exporter also answers without `domprom`.
pub fn parse(body: &[u8]) -> Result<ParsedReport, ParseError> {
    let text = String::from_utf8_lossy(body);
    let mut collector = Collector::default();
    let mut maintenance = None;
    let mut restriction = None;
    for line in text.lines() {
        let Some((name, value)) = sample(line) else { continue };
        if value.eq_ignore_ascii_case("nan") {
            continue;
        }
        match name {
            "DominoHealth_server_restricted_status" => match restricted(value) {
                Some(yes) => restriction = Some(yes),
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
    if let Some(restricted) = maintenance.into_iter().chain(restriction).reduce(|a, b| a || b) {
        collector.known(|report| report.restricted = Some(restricted || report.restricted == Some(true)));
    }
    collector.finish("the metrics of the exporter", body)
}

/// Splits `name{labels} value [timestamp]` into name and value.
fn sample(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at_checked(end)?;
    let rest = match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        None => rest,
    };
    Some((name, rest.split_whitespace().next()?))
}

/// Returns what follows the first closing brace outside quotes.
fn after_labels(labels: &str) -> Option<&str> {
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
    fn the_file_of_the_exporter_is_parsed() {
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
    fn after_a_shutdown_the_report_has_a_restriction_but_no_index() {
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
    fn a_maintenance_window_restricts_even_if_the_server_does_not() {
        let parsed = |text: &str| parse(text.as_bytes()).unwrap().report.restricted;
        assert_eq!(
            parsed("DominoHealth_maintenance_status 1\nDominoHealth_server_restricted_status 0\n"),
            Some(true)
        );
        assert_eq!(parsed("DominoHealth_maintenance_status 0\nServer_Restricted 1\n"), Some(true));
        assert_eq!(parsed("DominoHealth_maintenance_status 0\n"), Some(false));
        assert_eq!(parsed("Domino_Server_AvailabilityIndex 3\n"), None);
    }

    #[test]
    fn labels_timestamps_floats_and_other_metrics_are_accepted() {
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
    fn the_exporter_publishes_the_cluster_replicator() {
        let text = "Domino_Replica_Cluster_Retry_Waiting 1\nDomino_Replica_Cluster_Retry_Skipped 7\n\
            Domino_Replica_Cluster_WorkQueueDepth 0\nDomino_Replica_Cluster_WorkQueueDepth_Avg 5\n\
            Domino_Replica_Cluster_Successful 1204\nDomino_Replica_Cluster_Failed 2\nDomino_Server_BootID 427\n";
        let replicator = parse(text.as_bytes()).unwrap().report.replicator;
        assert_eq!((replicator.retry_waiting, replicator.work_queue_depth), (Some(1), Some(0)));
        assert_eq!((replicator.successful, replicator.failed), (Some(1204), Some(2)));
        assert_eq!(replicator.run.as_deref(), Some("427"));
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
        fn no_label_changes_the_value(label in "[^\"\\\\\r\n]{0,20}", index in 0_u8..=100) {
            let text = format!("Domino_Server_AvailabilityIndex{{a=\"{label}\"}} {index}\n");
            prop_assume!(text.lines().count() == 1);
            prop_assert_eq!(parse(text.as_bytes()).unwrap().report.index, Some(index));
        }
    }
}

//! Parses what Domino's statistics publisher sends, in any format that an administrator can choose.
//!
//! `name value`, `name = value` or `name=value`, one per line or separated by commas (the default of
//! `STATPUB_METRIC_DELIMITER`), with or without the prefix `Domino.`. Rates (`Domino.Rate.`) are skipped, because they are
//! not the statistics whose names they have. Source:
//! <https://help.hcl-software.com/domino/11.0.1/admin/stats_publish_other_external.html>

use super::statistics::{Collector, ParseError, ParsedReport};

/// Parses the body of a POST; the caller limits its size.
///
/// # Errors
/// When the body has no known statistic.
pub fn parse(body: &[u8]) -> Result<ParsedReport, ParseError> {
    let text = String::from_utf8_lossy(body);
    let mut collector = Collector::default();
    for line in text.lines() {
        for metric in metrics(line) {
            if let Some((name, value)) = split(&metric) {
                take(&mut collector, name, value);
            }
        }
    }
    collector.finish("the published statistics", body)
}

fn take(collector: &mut Collector, name: &str, value: &str) {
    let name = name.trim_matches('"');
    let bare = match name.get(..7) {
        Some(prefix) if prefix.eq_ignore_ascii_case("domino.") => name.get(7..).unwrap_or_default(),
        _ => name,
    };
    if bare.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("rate.")) {
        return;
    }
    // The name of a server and a time may contain spaces; a number may be followed by a timestamp.
    let is_text = ["server.name", "server.time.start"].iter().any(|name| bare.eq_ignore_ascii_case(name));
    let value = if is_text { value } else { value.split_whitespace().next().unwrap_or_default() };
    collector.take(bare, value);
}

/// Splits at commas; three digits alone belong to the number before the comma.
fn metrics(line: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for piece in line.split(',') {
        let is_digit_group = piece.len() == 3 && piece.bytes().all(|byte| byte.is_ascii_digit());
        match out.last_mut() {
            Some(last) if is_digit_group => {
                last.push(',');
                last.push_str(piece);
            }
            _ => out.push(piece.to_owned()),
        }
    }
    out
}

fn split(metric: &str) -> Option<(&str, &str)> {
    let metric = metric.trim();
    let end = metric.find(|c: char| c == '=' || c.is_whitespace())?;
    let (name, rest) = metric.split_at_checked(end)?;
    let rest = rest.trim_start();
    Some((name, rest.strip_prefix('=').unwrap_or(rest).trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::cluster::AvailabilityReport;
    use proptest::prelude::*;

    fn report() -> AvailabilityReport {
        AvailabilityReport {
            index: Some(84),
            threshold: Some(20),
            users: Some(96),
            ..AvailabilityReport::default()
        }
    }

    #[test]
    fn a_post_from_domino_is_parsed() {
        let post = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/statpub-post.http"));
        let (_, body) = post.split_once("\n\n").unwrap();
        assert_eq!(parse(body.as_bytes()).unwrap(), ParsedReport { report: report(), warnings: vec![] });
    }

    #[test]
    fn every_format_that_an_administrator_can_choose_is_parsed() {
        for body in [
            "Server.AvailabilityIndex=84\r\nServer.AvailabilityThreshold = 20\r\nServer.Users 96\r\n",
            "Domino.Server.AvailabilityIndex 84,Domino.Server.AvailabilityThreshold 20,Domino.Server.Users 96,",
            "domino.server.availabilityindex 84 1795162500,Server_Availability_Threshold=20, Server.Users = 96",
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap().report, report(), "{body}");
        }
        assert_eq!(parse(b"Server.Users 1,204,Server.MaxUsers 5").unwrap().report.users, Some(1204));
    }

    #[test]
    fn statistics_of_the_cluster_replicator_alone_are_a_report() {
        let body = b"Domino.Replica.Cluster.Retry.Waiting 0,Domino.Replica.Cluster.WorkQueueDepth 2,Domino.Server.Time.Start 11/29/2026 10:00:00 PM";
        let replicator = parse(body).unwrap().report.replicator;
        assert_eq!((replicator.retry_waiting, replicator.work_queue_depth), (Some(0), Some(2)));
        assert_eq!(replicator.run.as_deref(), Some("11/29/2026 10:00:00 PM"));
        let rate = b"Domino.Server.Users 1\nDomino.Rate.Replica.Cluster.Retry.Waiting 5";
        assert_eq!(parse(rate).unwrap().report.replicator.retry_waiting, None);
    }

    #[test]
    fn rates_are_not_used_as_statistics() {
        let body = b"Domino.Server.AvailabilityIndex 84\nDomino.Rate.Server.AvailabilityIndex 3\nRate.Server.Users 1\n";
        assert_eq!(
            parse(body).unwrap().report,
            AvailabilityReport { index: Some(84), ..AvailabilityReport::default() }
        );
    }

    #[test]
    fn the_body_may_contain_the_name_of_the_server() {
        let body = b"Server.Name = CN=Web 1/O=Acme\nServer.Users 1\n";
        assert_eq!(parse(body).unwrap().report.name.as_deref(), Some("CN=Web 1/O=Acme"));
    }

    #[test]
    fn a_body_without_a_known_statistic_is_an_error() {
        for body in
            ["", "{}", "Domino.Http.CurrentConnections 57\n", "Domino.Rate.Server.Users 5", ",,,", "="]
        {
            assert!(matches!(parse(body.as_bytes()), Err(ParseError::NothingKnown(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(Domino\\.|Rate\\.|Server\\.|Users|[=, 0-9é\u{130}]){0,20}") {
            let _ = parse(text.as_bytes());
        }
    }
}

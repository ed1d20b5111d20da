//! Parses the output of `show stat server`: one `Name = value` per line.
//!
//! A Domino agent may wrap it in HTML and add lines such as `Server_Restricted = 1`. The output of `show cluster` is not
//! used, because its format is not documented.

use super::statistics::{Collector, ParseError, ParsedReport};

/// # Errors
/// When the text has no known statistic.
pub fn parse(body: &[u8]) -> Result<ParsedReport, ParseError> {
    let text = String::from_utf8_lossy(body);
    let mut collector = Collector::default();
    for line in without_tags(&text).lines() {
        if let Some((name, value)) = line.split_once('=') {
            // A timestamp and a thread number may precede the name.
            collector.take(name.split_whitespace().next_back().unwrap_or_default(), value);
        }
    }
    collector.finish("the console output", body)
}

/// Replaces each HTML tag by a line end.
fn without_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let is_tag = after.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!'));
        match after.split_once('>') {
            Some((_, behind)) if is_tag => {
                out.push('\n');
                rest = behind;
            }
            _ => {
                out.push('<');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::cluster::AvailabilityReport;
    use proptest::prelude::*;

    #[test]
    fn show_stat_server_is_parsed() {
        let parsed = parse(include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/show-stat-server.txt"
        )))
        .unwrap();
        let expected = AvailabilityReport {
            index: Some(84),
            threshold: Some(20),
            users: Some(96),
            name: Some("Web1/Acme".to_owned()),
            ..AvailabilityReport::default()
        };
        assert_eq!(parsed, ParsedReport { report: expected, warnings: vec![] });
    }

    #[test]
    fn html_around_the_output_of_an_agent_is_ignored() {
        let page = "<html><head></head>\n<body text=\"#000000\">Server.AvailabilityIndex = 70<br>Server_Restricted = 2<br/>\n\
            [1A4:2-F] 11/20/2026 08:15:00 AM  Server.Users = 1,204\nServer_MaxUsers=500 </body></html>";
        let report = parse(page.as_bytes()).unwrap().report;
        assert_eq!((report.index, report.restricted), (Some(70), Some(true)));
        assert_eq!((report.users, report.max_users), (Some(1204), Some(500)));
    }

    #[test]
    fn show_stat_replica_is_parsed_too() {
        let page = "Replica.Cluster.Failed = 0<br>Replica.Cluster.Retry.Waiting = 0<br>Replica.Cluster.SecondsOnQueue = 1\
            <br>Replica.Cluster.SecondsOnQueue.Max = 43<br>Replica.Cluster.Successful = 1,204<br>Replica.Cluster.WorkQueueDepth = 0";
        let replicator = parse(page.as_bytes()).unwrap().report.replicator;
        assert_eq!((replicator.successful, replicator.failed), (Some(1204), Some(0)));
        assert_eq!((replicator.retry_waiting, replicator.work_queue_depth), (Some(0), Some(0)));
        assert_eq!(replicator.seconds_on_queue, Some(1));
    }

    #[test]
    fn a_text_without_statistics_is_an_error_and_a_login_page_a_special_one() {
        assert!(matches!(parse(b"Server.Users.Peak = 3"), Err(ParseError::NothingKnown(_))));
        assert!(matches!(parse(b""), Err(ParseError::NothingKnown(_))));
        let page = include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/not-authorised-login-page.html"
        ));
        assert_eq!(parse(page), Err(ParseError::LoginPage));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_index_from_0_to_100_is_read_back(index in 0_u8..=100, indent in " {0,8}") {
            let text = format!("{indent}Server.AvailabilityIndex = {index}\r\n");
            prop_assert_eq!(parse(text.as_bytes()).unwrap().report.index, Some(index));
        }
    }
}

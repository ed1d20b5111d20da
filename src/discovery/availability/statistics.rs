//! Interprets Domino's statistics by name, for all text formats.
//!
//! A value out of range is ignored with a warning, because a clamped one would look like a measurement. For the names see
//! <https://help.hcltechsw.com/domino/12.0.2/admin/tune_clustermanagerstatistics_r.html> and NOTES.INI.

use crate::discovery::domino::{fault::single_line, login::is_login_page};
use crate::domain::cluster::AvailabilityReport;

/// Why a text has no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text has no known statistic.
    #[error("no availability statistic in {0}")]
    NothingKnown(&'static str),
    /// The text is a login form.
    #[error("the response is a login page instead of statistics: give Anonymous access to this URL")]
    LoginPage,
    /// The response is something else than the companion's document.
    #[error("not the companion's document: {0}")]
    NotCompanion(String),
    /// The companion reports for another server.
    #[error("the companion of {0} answered: check the URL")]
    OtherServer(String),
    /// The line of an agent has no word of the protocol.
    #[error("no word of the agent-check protocol in `{0}`")]
    UnknownWords(String),
}

/// The statistics of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedReport {
    /// The values that are in range.
    pub report: AvailabilityReport,
    /// One for each ignored value.
    pub warnings: Vec<String>,
}

impl ParsedReport {
    /// Logs the warnings and returns the report.
    #[must_use]
    pub fn logged(self) -> AvailabilityReport {
        for warning in &self.warnings {
            log::warn!(target: "icm::availability", "{warning}");
        }
        self.report
    }
}

/// Builds a report from single statistics.
#[derive(Debug, Default)]
pub(super) struct Collector {
    parsed: ParsedReport,
    any_known: bool,
    has_boot_id: bool,
}

impl Collector {
    /// Takes a statistic if its name is known: `Server.Users`, `Server_Restricted`, in any case.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        let value = value.trim().trim_matches(['"', '\'']).trim();
        let folded = name.trim().replace('_', ".").to_ascii_lowercase();
        if self.take_run(&folded, value) {
            return;
        }
        let report = &mut self.parsed.report;
        let replicator = &mut report.replicator;
        let good = match folded.as_str() {
            "server.availabilityindex" => percent(value).map(|number| report.index = Some(number)),
            "server.availabilitythreshold" | "server.availability.threshold" => {
                percent(value).map(|number| report.threshold = Some(number))
            }
            "server.users" => count(value).map(|number| report.users = Some(number)),
            "server.maxusers" => count(value).map(|number| report.max_users = Some(number)),
            "server.restricted" => restricted(value).map(|yes| report.restricted = Some(yes)),
            "server.name" => (!value.is_empty()).then(|| report.name = Some(value.to_owned())),
            // `.Avg` and `.Max` of these are other statistics
            // (<https://help.hcl-software.com/domino/12.0.0/admin/admn_viewingclusterreplicationeventsandstatistics_t.html>).
            "replica.cluster.successful" => total(value).map(|number| replicator.successful = Some(number)),
            "replica.cluster.failed" => total(value).map(|number| replicator.failed = Some(number)),
            "replica.cluster.retry.waiting" => {
                count(value).map(|number| replicator.retry_waiting = Some(number))
            }
            "replica.cluster.workqueuedepth" => {
                count(value).map(|number| replicator.work_queue_depth = Some(number))
            }
            "replica.cluster.secondsonqueue" => {
                count(value).map(|number| replicator.seconds_on_queue = Some(number))
            }
            _ => return,
        };
        self.any_known = true;
        if good.is_none() {
            let value = single_line(value);
            self.parsed.warnings.push(format!("{name} = `{value}` is out of range and ignored"));
        }
    }

    /// Takes what tells one run of the server from the next. It says nothing about availability, so a text with nothing
    /// else is no report.
    fn take_run(&mut self, folded: &str, value: &str) -> bool {
        let is_boot_id = folded == "server.bootid";
        if !is_boot_id && folded != "server.time.start" {
            return false;
        }
        if !value.is_empty() && (is_boot_id || !self.has_boot_id) {
            self.has_boot_id |= is_boot_id;
            self.parsed.report.replicator.run = Some(single_line(value));
        }
        true
    }

    /// Takes a statistic whose value needs no check, such as a timestamp.
    pub(super) fn known(&mut self, change: impl FnOnce(&mut AvailabilityReport)) {
        self.any_known = true;
        change(&mut self.parsed.report);
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.any_known = true;
        self.parsed.warnings.push(warning);
    }

    /// What was taken, even if that is nothing.
    pub(super) fn into_parsed(self) -> ParsedReport {
        self.parsed
    }

    pub(super) fn finish(self, what: &'static str, body: &[u8]) -> Result<ParsedReport, ParseError> {
        if self.any_known {
            Ok(self.parsed)
        } else if is_login_page(body) {
            Err(ParseError::LoginPage)
        } else {
            Err(ParseError::NothingKnown(what))
        }
    }
}

/// An index or a threshold, from 0 to 100.
fn percent(value: &str) -> Option<u8> {
    let number = number(value)?;
    if (0.0..=100.0).contains(&number) { Some(number.round() as u8) } else { None }
}

fn count(value: &str) -> Option<u32> {
    let number = number(value)?;
    if (0.0..=f64::from(u32::MAX)).contains(&number) { Some(number as u32) } else { None }
}

/// A counter since the start of the server.
fn total(value: &str) -> Option<u64> {
    let number = number(value)?;
    // Above 2^53 an `f64` is not exact.
    if (0.0..=9_007_199_254_740_992.0).contains(&number) { Some(number as u64) } else { None }
}

/// `Server_Restricted`: 0 = not restricted, 1 to 4 = RESTRICTED
/// (<http://www-01.ibm.com/support/docview.wss?uid=swg21279004>).
pub(super) fn restricted(value: &str) -> Option<bool> {
    match number(value)? {
        0.0 => Some(false),
        level if level.fract() == 0.0 && (1.0..=4.0).contains(&level) => Some(true),
        _ => None,
    }
}

/// A number as consoles print it in different countries: `1,204`, `1.204`, `1 204`, `84`, `1.95`.
pub(super) fn number(value: &str) -> Option<f64> {
    let value = value.trim();
    if let Some(grouped) = grouped(value) {
        return grouped.parse().ok();
    }
    if !value.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// The digits of an integer with groups of three digits, separated by the same character.
fn grouped(value: &str) -> Option<String> {
    let separator = value.chars().find(|c| !c.is_ascii_digit())?;
    if !matches!(separator, ',' | '.' | '\'' | '\u{2019}' | ' ' | '\u{a0}' | '\u{202f}') {
        return None;
    }
    let mut groups = value.split(separator);
    let first = groups.next()?;
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    // `0.500` is a fraction and `1.204` a count, because no count begins with a zero.
    if !(1..=3).contains(&first.len()) || !digits(first) || first.starts_with('0') {
        return None;
    }
    let mut out = first.to_owned();
    for group in groups {
        if group.len() != 3 || !digits(group) {
            return None;
        }
        out.push_str(group);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cluster::ReplicatorReport;

    #[test]
    fn integers_are_parsed_with_the_separators_of_any_country() {
        for text in ["1204", "1,204", "1.204", "1 204", "1'204", "1\u{a0}204", " 1,204 "] {
            assert_eq!(count(text), Some(1204), "{text}");
        }
        assert_eq!(count("1,234,567"), Some(1_234_567));
        for text in ["", "-", "-1", "x", "1,20", "1,2045", "nan", "inf", "1,204.567,8"] {
            assert_eq!(count(text), None, "{text}");
        }
    }

    #[test]
    fn an_index_out_of_range_is_ignored_with_a_warning() {
        for text in ["150", "-1", "100.6", "many", "NaN", "1e300"] {
            let mut collector = Collector::default();
            collector.take("Server.AvailabilityIndex", text);
            let parsed = collector.finish("a test", b"").unwrap();
            assert_eq!(parsed.report, AvailabilityReport::default(), "{text}");
            assert_eq!(parsed.warnings.len(), 1, "{text}");
        }
    }

    #[test]
    fn the_statistics_of_the_cluster_replicator_are_read_by_their_exact_names() {
        let mut collector = Collector::default();
        for (name, value) in [
            ("Replica.Cluster.Successful", "1,204"),
            ("Replica.Cluster.Failed", "3"),
            ("Replica.Cluster.Retry.Waiting", "2"),
            ("Replica.Cluster.Retry.Waiting.Avg", "9"),
            ("Replica.Cluster.Retry.Skipped", "9"),
            ("Replica_Cluster_WorkQueueDepth", "0"),
            ("Replica.Cluster.WorkQueueDepth.Max", "9"),
            ("replica.cluster.secondsonqueue", "1"),
            ("Replica.Cluster.SecondsOnQueue.Avg", "9"),
        ] {
            collector.take(name, value);
        }
        let parsed = collector.finish("a test", b"").unwrap();
        let expected = ReplicatorReport {
            successful: Some(1204),
            failed: Some(3),
            retry_waiting: Some(2),
            work_queue_depth: Some(0),
            seconds_on_queue: Some(1),
            run: None,
        };
        assert_eq!(parsed.report.replicator, expected);
        assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn the_boot_id_tells_runs_apart_and_else_the_start_time_but_neither_is_a_report() {
        for (lines, run) in [
            (&[("Server.Time.Start", "11/29/2026 10:00:00 PM"), ("Server.BootID", "4271853")][..], "4271853"),
            (&[("Server.BootID", "4271853"), ("Server.Time.Start", "yesterday")][..], "4271853"),
            (
                &[("Server.BootID", ""), ("Server.Time.Start", "11/29/2026 10:00:00 PM")][..],
                "11/29/2026 10:00:00 PM",
            ),
        ] {
            let mut collector = Collector::default();
            lines.iter().for_each(|(name, value)| collector.take(name, value));
            assert_eq!(collector.parsed.report.replicator.run.as_deref(), Some(run));
            assert!(collector.finish("a test", b"").is_err());
        }
    }

    #[test]
    fn an_unreadable_value_of_the_replicator_is_unknown_with_a_warning() {
        for value in ["-1", "many", "", "5000000000"] {
            let mut collector = Collector::default();
            collector.take("Replica.Cluster.Retry.Waiting", value);
            let parsed = collector.finish("a test", b"").unwrap();
            assert_eq!(parsed.report.replicator, ReplicatorReport::default(), "{value}");
            assert_eq!(parsed.warnings.len(), 1, "{value}");
        }
    }

    #[test]
    fn restricted_is_one_to_four() {
        assert_eq!(restricted("0"), Some(false));
        assert!(["1", "2", "3", "4"].iter().all(|text| restricted(text) == Some(true)));
        assert!(["5", "-1", "1.5", "yes", ""].iter().all(|text| restricted(text).is_none()));
    }

    #[test]
    fn both_names_of_the_threshold_are_known() {
        for name in ["Server.AvailabilityThreshold", "SERVER_AVAILABILITY_THRESHOLD"] {
            let mut collector = Collector::default();
            collector.take(name, "20");
            assert_eq!(collector.finish("a test", b"").unwrap().report.threshold, Some(20), "{name}");
        }
    }
}

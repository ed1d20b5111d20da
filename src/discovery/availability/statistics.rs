//! Domino's statistics by name, common to all texts they come in.
//!
//! A value out of its range gives a warning and is ignored, because a clamped one would look like a measurement. The names
//! are those of <https://help.hcltechsw.com/domino/12.0.2/admin/tune_clustermanagerstatistics_r.html> and of NOTES.INI.

use crate::domain::cluster::AvailabilityReport;

/// Why a text gave no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It has none of the statistics that we know.
    #[error("no availability statistic in {0}")]
    NothingKnown(&'static str),
    /// It is a login form.
    #[error("a login page came instead of statistics: give Anonymous access to this URL")]
    LoginPage,
    /// It is an agent's line without a word of the protocol.
    #[error("no word of the agent-check protocol in `{0}`")]
    UnknownWords(String),
}

/// A report, as far as the text could be understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedReport {
    /// Of all values that are in range.
    pub report: AvailabilityReport,
    /// One for each value that was ignored.
    pub warnings: Vec<String>,
}

impl ParsedReport {
    /// Logs the warnings.
    #[must_use]
    pub fn logged(self) -> AvailabilityReport {
        for warning in &self.warnings {
            log::warn!(target: "icm::availability", "{warning}");
        }
        self.report
    }
}

/// Makes a report of single statistics.
#[derive(Debug, Default)]
pub(super) struct Collector {
    parsed: ParsedReport,
    known: bool,
}

impl Collector {
    /// Takes a statistic if its name is known: `Server.Users`, `Server_Restricted`, in any case.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        let value = value.trim().trim_matches(['"', '\'']).trim();
        let report = &mut self.parsed.report;
        let good = match name.trim().replace('_', ".").to_ascii_lowercase().as_str() {
            "server.availabilityindex" => percent(value).map(|number| report.index = Some(number)),
            "server.availabilitythreshold" | "server.availability.threshold" => {
                percent(value).map(|number| report.threshold = Some(number))
            }
            "server.users" => count(value).map(|number| report.users = Some(number)),
            "server.maxusers" => count(value).map(|number| report.max_users = Some(number)),
            "server.restricted" => restricted(value).map(|yes| report.restricted = Some(yes)),
            "server.name" => (!value.is_empty()).then(|| report.name = Some(value.to_owned())),
            _ => return,
        };
        self.known = true;
        if good.is_none() {
            let value = crate::discovery::domino::fault::single_line(value);
            self.parsed.warnings.push(format!("{name} = `{value}` is out of range and ignored"));
        }
    }

    /// Takes a statistic whose value needs no check, such as a timestamp.
    pub(super) fn known(&mut self, change: impl FnOnce(&mut AvailabilityReport)) {
        self.known = true;
        change(&mut self.parsed.report);
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.known = true;
        self.parsed.warnings.push(warning);
    }

    pub(super) fn finish(self, what: &'static str, body: &[u8]) -> Result<ParsedReport, ParseError> {
        if self.known {
            Ok(self.parsed)
        } else if crate::discovery::domino::login::is_login_page(body) {
            Err(ParseError::LoginPage)
        } else {
            Err(ParseError::NothingKnown(what))
        }
    }
}

/// 0 to 100.
fn percent(value: &str) -> Option<u8> {
    let number = number(value)?;
    if (0.0..=100.0).contains(&number) { Some(number.round() as u8) } else { None }
}

fn count(value: &str) -> Option<u32> {
    let number = number(value)?;
    if (0.0..=f64::from(u32::MAX)).contains(&number) { Some(number as u32) } else { None }
}

/// `Server_Restricted`: 0 is open, 1 to 4 are RESTRICTED
/// (<http://www-01.ibm.com/support/docview.wss?uid=swg21279004>).
pub(super) fn restricted(value: &str) -> Option<bool> {
    match number(value)? {
        0.0 => Some(false),
        level if level.fract() == 0.0 && (1.0..=4.0).contains(&level) => Some(true),
        _ => None,
    }
}

/// A number as consoles print it in any country: `1,204`, `1.204`, `1 204`, `84`, `1.95`.
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

/// The digits of an integer whose groups of three are separated by one and the same character.
fn grouped(value: &str) -> Option<String> {
    let separator = value.chars().find(|c| !c.is_ascii_digit())?;
    if !matches!(separator, ',' | '.' | '\'' | '\u{2019}' | ' ' | '\u{a0}' | '\u{202f}') {
        return None;
    }
    let mut groups = value.split(separator);
    let first = groups.next()?;
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    // `0.500` is a fraction, `1.204` is not: no count begins with a zero.
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

    #[test]
    fn integers_are_read_with_the_separators_of_any_country() {
        for text in ["1204", "1,204", "1.204", "1 204", "1'204", "1\u{a0}204", " 1,204 "] {
            assert_eq!(count(text), Some(1204), "{text}");
        }
        assert_eq!(count("1,234,567"), Some(1_234_567));
        for text in ["", "-", "-1", "x", "1,20", "1,2045", "nan", "inf", "1,204.567,8"] {
            assert_eq!(count(text), None, "{text}");
        }
    }

    #[test]
    fn an_index_out_of_range_is_ignored_with_a_warning_and_never_clamped() {
        for text in ["150", "-1", "100.6", "many", "NaN", "1e300"] {
            let mut collector = Collector::default();
            collector.take("Server.AvailabilityIndex", text);
            let parsed = collector.finish("a test", b"").unwrap();
            assert_eq!(parsed.report, AvailabilityReport::default(), "{text}");
            assert_eq!(parsed.warnings.len(), 1, "{text}");
        }
    }

    #[test]
    fn restricted_is_one_to_four() {
        let said = |text| restricted(text);
        assert_eq!(said("0"), Some(false));
        assert!(["1", "2", "3", "4"].iter().all(|text| said(text) == Some(true)));
        assert!(["5", "-1", "1.5", "yes", ""].iter().all(|text| said(text).is_none()));
    }

    #[test]
    fn both_spellings_of_the_threshold_count() {
        for name in ["Server.AvailabilityThreshold", "SERVER_AVAILABILITY_THRESHOLD"] {
            let mut collector = Collector::default();
            collector.take(name, "20");
            assert_eq!(collector.finish("a test", b"").unwrap().report.threshold, Some(20), "{name}");
        }
    }
}

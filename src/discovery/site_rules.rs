//! The rules of the site, read from a view over the Web Site Rule documents. They are apart from the servers, which a
//! failure here must not touch.

use super::servers::read_rows;
use crate::config::settings::{Column, NamesView, SiteRuleColumns, SiteRulesView};
use crate::discovery::domino::fault::single_line;
use crate::discovery::domino::view_entries::Row;
use crate::discovery::domino::view_entries::reader::RowSink;
use crate::discovery::domino::{DominoClient, LoginSessions};
use crate::domain::rules::{SiteRule, SiteRules};

const MAX_RULES: usize = 1000;

/// Why no server gave a complete reading of the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("site rules cannot be read from any of `from`{}", .reasons.iter().map(|reason| format!("; {reason}")).collect::<String>())]
pub struct SiteRulesFailure {
    reasons: Vec<String>,
}

/// Reads the view from each of `from` in turn until a reading is complete.
///
/// # Errors
/// When none is. Rules are not taken from an incomplete reading, because a missing one leads requests elsewhere.
pub async fn read(
    client: &DominoClient,
    settings: &NamesView,
    rules: &SiteRulesView,
    sessions: &LoginSessions,
) -> Result<SiteRules, SiteRulesFailure> {
    let mut reasons = Vec::new();
    for url in &settings.from {
        let mut collector = Collector::new(&rules.columns);
        match read_rows(client, url, settings, &rules.view, sessions, &mut collector).await {
            Ok(summary) => match summary.truncated.or_else(|| collector.problem()) {
                None => return Ok(SiteRules::new(collector.rules, collector.unused, collector.ignored)),
                Some(why) => reasons.push(format!("{}: {why}", url.at)),
            },
            Err(reason) => reasons.push(reason),
        }
    }
    Err(SiteRulesFailure { reasons })
}

struct Collector<'a> {
    columns: &'a SiteRuleColumns,
    rules: Vec<SiteRule>,
    unused: Vec<String>,
    ignored: usize,
    rows: usize,
    /// Some row has the columns of the type and of the pattern.
    has_columns: bool,
}

impl<'a> Collector<'a> {
    fn new(columns: &'a SiteRuleColumns) -> Self {
        Self { columns, rules: Vec::new(), unused: Vec::new(), ignored: 0, rows: 0, has_columns: false }
    }

    /// What makes all rows useless.
    fn problem(&self) -> Option<String> {
        let name = |column: &Column| match column {
            Column::Number(number) => number.to_string(),
            Column::Name(name) => format!("`{name}`"),
        };
        if self.rows > MAX_RULES {
            return Some(format!("the view has more than {MAX_RULES} rules"));
        }
        let columns = [&self.columns.kind, &self.columns.incoming].map(name);
        (self.rows > 0 && !self.has_columns)
            .then(|| format!("no row has the columns {}", columns.join(" and ")))
    }
}

impl RowSink for Collector<'_> {
    fn reset(&mut self) {
        *self = Self::new(self.columns);
    }

    fn accept_row(&mut self, row: Row) {
        self.rows += 1;
        if self.rows > MAX_RULES {
            return;
        }
        let columns = self.columns;
        let (kind, incoming) = (row.text(&columns.kind), row.text(&columns.incoming));
        self.has_columns |= row.values(&columns.kind).is_some() && row.values(&columns.incoming).is_some();
        let hosts = row.values(&columns.host).unwrap_or_default();
        match SiteRule::parse(kind, incoming, row.text(&columns.replacement), hosts) {
            Ok(Some(rule)) => self.rules.push(rule),
            Ok(None) => self.ignored += 1,
            Err(reason) => {
                self.unused.push(format!("{}: {}", single_line(incoming), single_line(&reason.to_string())))
            }
        }
    }
}

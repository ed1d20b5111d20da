//! An explanation as the command line prints it.

use std::fmt::Write as _;

use super::{ExplainedWrite, Explanation};
use crate::util::control_chars;

impl Explanation {
    /// Formats the explanation as text with one line for each candidate.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.url);
        if let Some(cluster) = &self.cluster {
            let _ = writeln!(
                out,
                "cluster   {cluster}{}",
                self.mode.as_ref().map(|m| format!(" ({m})")).unwrap_or_default()
            );
        }
        if let Some(route) = &self.route {
            let _ = writeln!(out, "route     {route}");
        }
        if let Some(access) = &self.access {
            let _ = writeln!(out, "access    {}", access.text);
        }
        if let Some(database) = &self.database {
            let _ = writeln!(
                out,
                "database  {} ({}){}",
                database.path,
                database.replica_id,
                if database.title.is_empty() {
                    String::new()
                } else {
                    format!(" \"{}\"", control_chars::escape_all(&database.title))
                }
            );
        }
        if let Some(class) = &self.class {
            let _ = writeln!(out, "command   {class}");
        }
        if let Some(pattern) = &self.cached_path {
            let _ = writeln!(out, "cache     {pattern}");
        }
        if let Some(ExplainedWrite { server, time }) = &self.own_write {
            let _ = writeln!(out, "own write {server}, {time}");
        }
        if let Some(rehearsal) = &self.rehearsal {
            let _ = writeln!(out, "rehearsal {}", rehearsal.text);
        }
        let width = self.candidates.iter().map(|c| c.server.chars().count()).max().unwrap_or(0);
        for candidate in &self.candidates {
            let index = candidate.index.map_or_else(|| "-".to_owned(), |i| format!("{i:.0}"));
            let _ = writeln!(
                out,
                "  {} {:width$}  {:<11} index {index:>3}  {}{}{}{}",
                if candidate.chosen { "*" } else { " " },
                candidate.server,
                candidate.state,
                candidate.verdict,
                candidate.own_write.as_ref().map(|w| format!("  own write: {w}")).unwrap_or_default(),
                candidate.path.as_ref().map(|p| format!("  [{p}]")).unwrap_or_default(),
                candidate.site.as_ref().map(|s| format!("  site {s}")).unwrap_or_default(),
            );
        }
        let chosen = self.candidates.iter().find(|candidate| candidate.chosen);
        if let Some(target) = chosen.and_then(|candidate| candidate.target.as_ref()) {
            let _ = writeln!(out, "target    {}", control_chars::escape_all(target));
        }
        for note in &self.notes {
            let _ = writeln!(out, "note      {note}");
        }
        match (&self.server, &self.why) {
            (Some(server), Some(why)) if self.band.len() > 1 => {
                let _ = writeln!(out, "served by {server}: {why}; equal: {}", self.band.join(", "));
            }
            (Some(server), Some(why)) => {
                let _ = writeln!(out, "served by {server}: {why}");
            }
            _ => {
                let status = self.status.map(|s| format!(" ({s})")).unwrap_or_default();
                let _ = writeln!(out, "answer    {}{status}", self.outcome);
            }
        }
        out
    }
}

//! What became of every directive: taken over, not needed, or not possible. A directive about which a translator says nothing
//! is reported as not possible, so that none is dropped silently.

use std::collections::BTreeMap;

use super::directive::{Directive, without_breaks};

/// What became of one directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImportOutcome {
    /// A key of `icm.yaml` has its meaning.
    Taken,
    /// `icm` needs nothing in its place.
    NotNeeded,
    /// It, or a part of it, has no counterpart.
    Cannot,
}

impl ImportOutcome {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::NotNeeded => "not_needed",
            Self::Cannot => "cannot",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportItem {
    /// The file as it was named.
    pub file: String,
    /// The line of the directive, from 1.
    pub line: usize,
    /// The directive on one line.
    pub directive: String,
    /// What became of it.
    pub outcome: ImportOutcome,
    /// The keys that were written, or the reason.
    pub text: String,
    /// What to do in place of it; empty if nothing is to do.
    pub instead: String,
}

/// Collects what the translators say about directives.
#[derive(Debug, Default)]
pub(crate) struct ImportReport {
    /// By the number of the directive, and in the order of the statements about it.
    items: BTreeMap<(usize, usize), ImportItem>,
    statements: usize,
    seen: BTreeMap<usize, bool>,
}

impl ImportReport {
    fn add(&mut self, d: &Directive, outcome: ImportOutcome, text: &str, instead: &str) {
        let is_known = |item: &ImportItem| item.outcome == outcome && item.text == text;
        self.seen.insert(d.id, true);
        if self.items.range((d.id, 0)..(d.id + 1, 0)).any(|(_, item)| is_known(item)) {
            return;
        }
        let item = ImportItem {
            file: d.at.file.to_string(),
            line: d.at.line,
            directive: d.shown(),
            outcome,
            text: one_line_of_report(text),
            instead: one_line_of_report(instead),
        };
        self.items.insert((d.id, self.statements), item);
        self.statements += 1;
    }

    /// These keys have the meaning of the directive.
    pub fn taken(&mut self, d: &Directive, keys: &str) {
        self.add(d, ImportOutcome::Taken, keys, "");
    }

    /// `icm` needs nothing in its place.
    pub fn not_needed(&mut self, d: &Directive, why: &str) {
        self.add(d, ImportOutcome::NotNeeded, why, "");
    }

    /// It has no counterpart, wholly or in part.
    pub fn cannot(&mut self, d: &Directive, why: &str, instead: &str) {
        self.add(d, ImportOutcome::Cannot, why, instead);
    }

    /// A block that is not needed, with all that is inside.
    pub fn not_needed_block(&mut self, d: &Directive, why: &str) {
        self.not_needed(d, why);
        self.mark_inside(d);
    }

    /// A block without a counterpart, with all that is inside: one item for all.
    pub fn cannot_block(&mut self, d: &Directive, why: &str, instead: &str) {
        let inside = count(d.body());
        let more = match inside {
            0 => why.to_owned(),
            1 => format!("{why} (one directive inside)"),
            _ => format!("{why} ({inside} directives inside)"),
        };
        self.cannot(d, &more, instead);
        self.mark_inside(d);
    }

    /// The directive is a part of another one, which is reported.
    pub fn part_of_another(&mut self, d: &Directive) {
        self.seen.insert(d.id, true);
        self.mark_inside(d);
    }

    /// The directive was heard of, but others that are further inside replace it. Another statement about it counts more.
    pub fn overridden(&mut self, d: &Directive) {
        self.seen.entry(d.id).or_insert(false);
    }

    /// Whether something was said about the directive.
    pub fn is_known(&self, d: &Directive) -> bool {
        self.seen.contains_key(&d.id)
    }

    fn mark_inside(&mut self, d: &Directive) {
        for inner in d.body() {
            self.seen.insert(inner.id, true);
            self.mark_inside(inner);
        }
    }

    /// Adds the directives about which nothing was said.
    pub fn finish(mut self, all: &[Directive]) -> Vec<ImportItem> {
        self.add_unheard(all);
        self.items.into_values().collect()
    }

    fn add_unheard(&mut self, all: &[Directive]) {
        for d in all {
            match self.seen.get(&d.id) {
                Some(true) => {}
                Some(false) => self.not_needed(d, "directives further inside replace it"),
                None => {
                    self.cannot(d, "icm init does not know it here", "look for its purpose in docs/README.md")
                }
            }
            self.add_unheard(d.body());
        }
    }
}

fn count(directives: &[Directive]) -> usize {
    directives.iter().map(|d| 1 + count(d.body())).sum()
}

/// Reasons contain values of the configuration, which may be long or have control characters.
fn one_line_of_report(text: &str) -> String {
    without_breaks(&text.chars().take(400).collect::<String>())
}

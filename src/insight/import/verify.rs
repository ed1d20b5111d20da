//! The last step: the text is loaded as `icm check` does it. A value that `icm` refuses becomes a comment and an item of the
//! report, so that what is written loads, apart from files that are missing.

use std::path::Path;

use super::directive::{SourceLine, one_line};
use super::model::ImportModel;
use super::report::{ImportItem, ImportOutcome};
use super::yaml::{self, YamlLines};
use super::{ImportFormat, ImportedConfig};
use crate::config::{self, ConfigError, Disk};

/// Values that are taken out one after the other at most; more are left to `icm check`.
const MAX_ROUNDS: usize = 40;

/// The file with its head and the list at its end.
pub(super) fn finish(
    format: ImportFormat,
    shown: &str,
    model: &ImportModel,
    mut items: Vec<ImportItem>,
) -> ImportedConfig {
    let mut lines = yaml::lines(model, format.title());
    for _ in 0..MAX_ROUNDS {
        let Some((at, error)) = refused_line(&lines) else { break };
        let refused = take_out(&mut lines, at, &error);
        let (origin, text) = refused;
        items.push(ImportItem {
            file: origin.as_ref().map_or_else(|| shown.to_owned(), |at| at.file.to_string()),
            line: origin.map_or(0, |at| at.line),
            directive: one_line(&text),
            outcome: ImportOutcome::Cannot,
            text: one_line(&format!("icm does not take this value: {}", error.message)),
            instead: one_line(&error.hint.unwrap_or_default()),
        });
    }
    let yaml = format!("{}{}{}", head(format, shown, &items), lines.text(), tail(&items));
    ImportedConfig { format, yaml, items }
}

/// The first line with a value that is refused whatever files there are.
fn refused_line(lines: &YamlLines) -> Option<(usize, ConfigError)> {
    let text = lines.text();
    let errors = config::load_with(Path::new("icm.yaml"), &text, &Disk).err()?;
    let of_text = |error: &ConfigError| {
        error.line > 0 && !is_about_a_file(error) && error.file == Path::new("icm.yaml")
    };
    let error = errors.0.into_iter().find(of_text)?;
    let at = error.line.checked_sub(1)?;
    lines.0.get(at).filter(|line| line.at.is_some())?;
    Some((at, error))
}

/// Files and names may be there on the machine for which the file is written.
fn is_about_a_file(error: &ConfigError) -> bool {
    let key = error.key.rsplit('.').next().unwrap_or_default();
    matches!(key, "cert" | "key" | "ca_file" | "page" | "folder" | "files" | "address")
}

/// Makes a line, and those below it, comments; with them the keys above that have nothing left.
fn take_out(lines: &mut YamlLines, at: usize, error: &ConfigError) -> (Option<SourceLine>, String) {
    let Some(line) = lines.0.get(at).cloned() else { return (None, String::new()) };
    let indent = line.indent;
    let is_item = line.text.starts_with("- ");
    let below =
        lines.0.iter().skip(at + 1).take_while(|next| next.indent > indent && !next.text.is_empty()).count();
    for line in lines.0.iter_mut().skip(at).take(below + 1) {
        comment_out(line);
    }
    if let Some(line) = lines.0.get_mut(at) {
        line.text = format!("{} ({})", line.text, one_line(&error.message));
    }
    comment_out_empty_keys(lines, at, if is_item { indent.saturating_sub(2) } else { indent });
    (line.at, line.text)
}

fn comment_out(line: &mut yaml::YamlLine) {
    if !line.text.starts_with('#') {
        line.text = format!("# {}", line.text);
    }
    line.at = None;
}

/// Goes up from a line: a key without a line below it that counts would be a key without a value.
fn comment_out_empty_keys(lines: &mut YamlLines, from: usize, mut indent: usize) {
    for at in (0..from).rev() {
        let Some(line) = lines.0.get(at).cloned() else { return };
        if line.text.starts_with('#') || line.text.is_empty() {
            continue;
        }
        let is_parent =
            line.text.ends_with(':') && (line.indent < indent || line.indent == indent && at + 1 <= from);
        if !is_parent {
            return;
        }
        let below = |next: &&yaml::YamlLine| next.indent > line.indent && !next.text.is_empty();
        let children = lines.0.iter().skip(at + 1).take_while(below);
        if children.into_iter().any(|next| !next.text.starts_with('#')) {
            return;
        }
        if let Some(line) = lines.0.get_mut(at) {
            indent = line.indent;
            comment_out(line);
        }
    }
}

fn count(items: &[ImportItem], outcome: ImportOutcome) -> usize {
    items.iter().filter(|item| item.outcome == outcome).count()
}

fn head(format: ImportFormat, shown: &str, items: &[ImportItem]) -> String {
    format!(
        "# Made by `icm init --from {}`, a configuration of {}. The comment behind a value is the line that it comes from.\n\
         # Taken over: {}. Not needed: {}. Not possible, listed at the end: {}.\n\
         # Look for TODO: what only you know. Then: icm check --probe -c FILE. All keys are in conf/full.yaml.\n\n",
        one_line(shown),
        format.title(),
        count(items, ImportOutcome::Taken),
        count(items, ImportOutcome::NotNeeded),
        count(items, ImportOutcome::Cannot),
    )
}

fn tail(items: &[ImportItem]) -> String {
    let mut text = String::new();
    let mut cannot = items.iter().filter(|item| item.outcome == ImportOutcome::Cannot).peekable();
    if cannot.peek().is_some() {
        text.push_str("\n# What could not be taken over, wholly or in part:\n");
    }
    for item in cannot {
        text.push_str(&format!("#\n# {}:{}: {}\n#   {}\n", item.file, item.line, item.directive, item.text));
        if !item.instead.is_empty() {
            text.push_str(&format!("#   instead: {}\n", item.instead));
        }
    }
    let mut not_needed = items.iter().filter(|item| item.outcome == ImportOutcome::NotNeeded).peekable();
    if not_needed.peek().is_some() {
        text.push_str("\n# What icm does not need:\n#\n");
    }
    for item in not_needed {
        text.push_str(&format!("# {}:{}: {}: {}\n", item.file, item.line, item.directive, item.text));
    }
    text
}

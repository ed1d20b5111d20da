//! Output of the verbs: tables, durations, colours. On a terminal the last column of a table wraps; in a pipe or a file no
//! line is broken. Colours are used only on a terminal, and not if `NO_COLOR` is set. A closed pipe (`icm audit | head`)
//! is not an error, whereas `println!` of the standard library panics.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::util::control_chars;

/// Replaces the standard macro in the command line.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::print_escaped(format_args!($($text)*), "") };
}

/// Replaces the standard macro in the command line.
macro_rules! println {
    () => { $crate::cli::output::print_escaped(format_args!(""), "\n") };
    ($($text:tt)*) => { $crate::cli::output::print_escaped(format_args!($($text)*), "\n") };
}

/// Replaces the standard macro in the command line.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output::print_error(&format!($($text)*)) };
}

/// A logger that escapes control characters.
struct EscapingLogger(env_logger::Logger);

impl log::Log for EscapingLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.0.matches(record) {
            return;
        }
        let text = record.args().to_string();
        let mut escaped = log::Record::builder();
        escaped.metadata(record.metadata().clone()).module_path(record.module_path());
        escaped.file(record.file()).line(record.line());
        self.0.log(&escaped.args(format_args!("{}", control_chars::escape_except_newlines(&text))).build());
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Installs the logger of the process.
pub fn install_logger(logger: env_logger::Logger) {
    let level = logger.filter();
    if log::set_boxed_logger(Box::new(EscapingLogger(logger))).is_ok() {
        log::set_max_level(level);
    }
}

/// A write to standard output has failed, because its reader has gone.
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard error and escapes control characters.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", control_chars::escape_except_newlines(text));
}

/// Writes to standard output and escapes control characters, because titles and names may contain them. After a write error
/// verbs go on; those that would print forever check [`stdout_is_closed`].
pub fn print_escaped(text: std::fmt::Arguments<'_>, end: &str) {
    print_raw(&control_chars::escape_except_newlines(&text.to_string()), end);
}

fn print_raw(text: &str, end: &str) {
    if write!(std::io::stdout(), "{text}{end}").is_err() {
        STDOUT_CLOSED.store(true, Ordering::Relaxed);
    }
}

#[must_use]
pub fn stdout_is_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// A table. Each column is as wide as its widest text, the last one as wide as the space that is left.
#[derive(Debug)]
pub struct TextTable {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

const MIN_WRAP_WIDTH: usize = 20;

impl TextTable {
    /// A column whose heading begins with `>` is aligned to the right.
    #[must_use]
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| control_chars::escape_all(cell).into_owned()).collect());
    }

    /// The lines, at most `width` characters wide if the texts allow it; `None` = no limit.
    #[must_use]
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let heads: Vec<String> = self.head.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let widths: Vec<usize> = (0..heads.len())
            .map(|at| {
                let cells = std::iter::once(&heads).chain(&self.rows).filter_map(|row| row.get(at));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let before: usize = widths.iter().rev().skip(1).map(|w| w + 2).sum();
        let last = width.map_or(usize::MAX, |width| width.saturating_sub(before).max(MIN_WRAP_WIDTH));
        let mut lines = Vec::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let width = widths.get(at).copied().unwrap_or(0);
                let right = self.head.get(at).is_some_and(|h| h.starts_with('>'));
                if at + 1 == row.len() {
                    let mut parts = wrap(cell, last).into_iter();
                    line.push_str(&parts.next().unwrap_or_default());
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                    lines.extend(parts.map(|part| format!("{:before$}{part}", "")));
                } else if right {
                    line.push_str(&format!("{cell:>width$}  "));
                } else {
                    line.push_str(&format!("{cell:width$}  "));
                }
            }
        }
        lines
    }

    pub fn print(&self) {
        for text in self.lines(terminal_width()) {
            print_line(&text);
        }
    }
}

/// Breaks a text at blanks into lines of at most `width` characters; a longer word stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `None` if standard output is not a terminal.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Standard input and standard output are a terminal.
#[must_use]
pub fn is_interactive() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

fn colourise(line: &str) -> String {
    let wanted = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if !wanted {
        return line.to_owned();
    }
    let colours = [
        ("UNREACHABLE", "31"),
        ("RESTRICTED", "33"),
        ("MAXUSERS", "33"),
        ("BUSY", "33"),
        ("AVAILABLE", "32"),
        ("error", "31"),
        ("warning", "33"),
    ];
    for (word, colour) in colours {
        if let Some((before, after)) = line.split_once(word) {
            return format!("{before}\u{1b}[{colour}m{word}\u{1b}[0m{after}");
        }
    }
    line.to_owned()
}

/// Prints a line with coloured states.
pub fn print_line(text: &str) {
    print_raw(&colourise(&control_chars::escape_except_newlines(text)), "\n");
}

/// `850ms`, `12s`, `3m 4s`, `2h 5m`, `6days 1h`: at most two units.
#[must_use]
pub fn format_age(ms: u64) -> String {
    let duration = match ms {
        0..1_000 => Duration::from_millis(ms),
        1_000..3_600_000 => Duration::from_secs(ms / 1_000),
        3_600_000..86_400_000 => Duration::from_secs(ms / 60_000 * 60),
        _ => Duration::from_secs(ms / 3_600_000 * 3_600),
    };
    humantime::format_duration(duration).to_string()
}

/// The local date and time of a Unix time in milliseconds.
#[must_use]
pub fn local_time(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    at.map_or_else(String::new, |at| at.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_column_wraps_and_only_if_the_width_is_limited() {
        let mut table = TextTable::new(&["server", ">n", "why"]);
        table.row(vec!["Web1/Acme".into(), "7".into(), "the probe of its port was refused twice".into()]);
        assert_eq!(
            table.lines(None),
            ["server     n  why", "Web1/Acme  7  the probe of its port was refused twice"]
        );
        assert_eq!(
            table.lines(Some(36)),
            ["server     n  why", "Web1/Acme  7  the probe of its port", "              was refused twice"]
        );
    }

    #[test]
    fn a_duration_has_at_most_two_units() {
        assert_eq!(
            [format_age(850), format_age(12_345), format_age(7_512_345), format_age(522_000_000)],
            ["850ms", "12s", "2h 5m", "6days 1h"]
        );
    }
}

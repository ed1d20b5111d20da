//! Reads the text of a HAProxy configuration into sections of directives: words, quotes, escapes, comments, `.if` blocks.

use std::sync::Arc;

use super::super::directive::{Directive, ImportError, Numbering, SourceLine};

/// The words that begin a section.
const SECTIONS: [&str; 22] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "cache",
    "program",
    "http-errors",
    "ring",
    "log-forward",
    "log-profile",
    "crt-store",
    "acme",
    "traces",
    "fcgi-app",
    "namespace_list",
    "dynamic-update",
    "healthcheck",
];

/// Parses a file into its sections. Lines before the first section are directives of their own.
pub(super) fn parse(
    file: &Arc<str>,
    text: &str,
    numbers: &mut Numbering,
) -> Result<Vec<Directive>, ImportError> {
    let mut sections: Vec<Directive> = Vec::new();
    let mut condition: Option<(Directive, usize)> = None;
    let mut lines = text.lines().enumerate();
    while let Some((n, first)) = lines.next() {
        let text = joined(first, || lines.next().map(|(_, next)| next));
        let mut words = words(&text).map_err(|message| ImportError::Syntax {
            file: file.to_string(),
            line: n + 1,
            message: message.to_owned(),
        })?;
        if words.is_empty() {
            continue;
        }
        let syntax = |message: &str| ImportError::Syntax {
            file: file.to_string(),
            line: n + 1,
            message: message.to_owned(),
        };
        let name = words.remove(0);
        let id = numbers.next().ok_or_else(|| syntax("too many directives"))?;
        let at = SourceLine { file: Arc::clone(file), line: n + 1 };
        let mut directive = Directive { id, at, name, args: words, block: None };
        let opens = directive.name == ".if";
        let closes = directive.name == ".endif";
        if let Some((block, depth)) = &mut condition {
            match (opens, closes) {
                (true, _) => *depth += 1,
                (_, true) => *depth -= 1,
                _ => {}
            }
            block.block.get_or_insert_default().push(directive);
            if *depth == 0
                && let Some((block, _)) = condition.take()
            {
                push(&mut sections, block);
            }
        } else if opens {
            condition = Some((directive, 1));
        } else if SECTIONS.contains(&&*directive.name) && is_section(&directive, &sections) {
            directive.block = Some(Vec::new());
            sections.push(directive);
        } else {
            push(&mut sections, directive);
        }
    }
    if let Some((block, _)) = condition {
        let line = block.at.line;
        let message = "the `.if` that begins here has no `.endif`".to_owned();
        return Err(ImportError::Syntax { file: file.to_string(), line, message });
    }
    Ok(sections)
}

/// A line with those that a backslash at its end joins.
fn joined<'t>(first: &str, mut next: impl FnMut() -> Option<&'t str>) -> String {
    let mut text = first.to_owned();
    while text.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
        text.pop();
        let Some(next) = next() else { break };
        text.push(' ');
        text.push_str(next.trim_start());
    }
    text
}

/// `cache` and `acme` are also directives inside others.
fn is_section(directive: &Directive, sections: &[Directive]) -> bool {
    match &*directive.name {
        "global" | "defaults" | "frontend" | "backend" | "listen" => true,
        _ => !directive.args.is_empty() || sections.is_empty(),
    }
}

fn push(sections: &mut Vec<Directive>, directive: Directive) {
    match sections.last_mut().and_then(|section| section.block.as_mut()) {
        Some(block) => block.push(directive),
        None => sections.push(directive),
    }
}

/// The words of a line. Single quotes keep everything, double quotes all but escapes; `#` begins a comment.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    let mut quote: Option<char> = None;
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'', Some('\'')) | ('"', Some('"')) => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => {
                if let Some(next) = chars.next() {
                    word.get_or_insert_default().push(next);
                }
            }
            ('#', None) => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, String> {
        parse(&Arc::from("haproxy.cfg"), text, &mut Numbering::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn sections_quotes_escapes_and_joined_lines_are_read() {
        let text = "global\n  log /dev/log local0 # here\nfrontend www\n  bind :80\n  http-request set-header X \"a b\"'c\"' \\\n\
                    if { path /x\\ y }\n\nbackend b\n server s 1.2.3.4:80\n cache\n";
        let read = read(text).unwrap();
        assert_eq!(
            read.iter().map(Directive::shown).collect::<Vec<_>>(),
            ["global {}", "frontend www {}", "backend b {}"]
        );
        let rule = &read[1].body()[1];
        assert_eq!(rule.args, ["set-header", "X", "a bc\"", "if", "{", "path", "/x y", "}"]);
        assert_eq!((rule.at.line, read[2].body()[0].at.line, read[2].body().len()), (5, 9, 2));
    }

    #[test]
    fn an_if_is_one_block_with_all_that_is_inside() {
        let read = read("global\n.if defined(X)\n maxconn 1\n.if 1\n.endif\n.endif\n nbthread 2\n").unwrap();
        let names: Vec<_> = read[0].body().iter().map(|d| (&*d.name, d.body().len())).collect();
        assert_eq!(names, [(".if", 4), ("nbthread", 0)]);
    }

    #[test]
    fn what_breaks_the_grammar_has_its_line() {
        assert_eq!(read("global\n log 'x\n").unwrap_err(), "haproxy.cfg:2: a quote is not closed");
        let error = "haproxy.cfg:2: the `.if` that begins here has no `.endif`";
        assert_eq!(read("global\n.if 1\n").unwrap_err(), error);
    }
}

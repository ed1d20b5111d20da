//! Reads the text of an nginx configuration into directives: words, quotes, escapes, comments, braces, and blocks of Lua.

use std::sync::Arc;

use super::super::directive::{Directive, ImportError, Numbering, SourceLine};

/// nginx itself nests five blocks; a deeper text is something else.
const MAX_DEPTH: usize = 32;

/// Parses one file. `include` is a directive like all others here.
pub(super) fn parse(
    file: &Arc<str>,
    text: &str,
    numbers: &mut Numbering,
) -> Result<Vec<Directive>, ImportError> {
    let mut parser = Parser { chars: text.chars().peekable(), line: 1, file, numbers };
    parser.block(0)
}

struct Parser<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    file: &'a Arc<str>,
    numbers: &'a mut Numbering,
}

enum Token {
    Word(String),
    Open,
    Close,
    Semicolon,
    End,
}

impl Parser<'_> {
    fn error(&self, line: usize, message: &str) -> ImportError {
        ImportError::Syntax { file: self.file.to_string(), line, message: message.to_owned() }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    /// The directives up to the closing brace, or to the end of the file at depth 0.
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, ImportError> {
        let mut directives = Vec::new();
        let opened = self.line;
        loop {
            self.skip_blanks();
            let line = self.line;
            let name = match self.token()? {
                Token::Word(name) => name,
                Token::Semicolon => continue,
                Token::Open => return Err(self.error(line, "`{` without a directive before it")),
                Token::Close if depth > 0 => return Ok(directives),
                Token::Close => return Err(self.error(line, "`}` without an open block")),
                Token::End if depth == 0 => return Ok(directives),
                Token::End => return Err(self.error(opened, "the block that begins here is not closed")),
            };
            let id = self.numbers.next().ok_or_else(|| self.error(line, "too many directives"))?;
            let (args, opens) = self.arguments(line, &name)?;
            let block = match opens {
                false => None,
                true if depth >= MAX_DEPTH => return Err(self.error(line, "blocks are nested too deep")),
                true if name.ends_with("_by_lua_block") => {
                    self.skip_lua()?;
                    Some(Vec::new())
                }
                true => Some(self.block(depth + 1)?),
            };
            let at = SourceLine { file: Arc::clone(self.file), line };
            directives.push(Directive { id, at, name, args, block });
        }
    }

    /// The words up to `;` or `{`, and whether a block follows.
    fn arguments(&mut self, line: usize, name: &str) -> Result<(Vec<String>, bool), ImportError> {
        let mut args = Vec::new();
        loop {
            self.skip_blanks();
            match self.token()? {
                Token::Word(word) => args.push(word),
                Token::Semicolon => return Ok((args, false)),
                Token::Open => return Ok((args, true)),
                Token::Close | Token::End => {
                    return Err(self.error(line, &format!("`{name}` does not end with `;`")));
                }
            }
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(c) = self.chars.peek() {
            if c.is_whitespace() || *c == '\u{feff}' {
                self.bump();
            } else if *c == '#' {
                while self.bump().is_some_and(|c| c != '\n') {}
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Token, ImportError> {
        match self.chars.peek() {
            None => Ok(Token::End),
            Some(';') => {
                self.bump();
                Ok(Token::Semicolon)
            }
            Some('{') => {
                self.bump();
                Ok(Token::Open)
            }
            Some('}') => {
                self.bump();
                Ok(Token::Close)
            }
            Some('"' | '\'') => self.quoted().map(Token::Word),
            Some(_) => Ok(Token::Word(self.word())),
        }
    }

    /// A text in quotes. A backslash keeps the quote behind it; before other characters it stays, for regular expressions.
    fn quoted(&mut self) -> Result<String, ImportError> {
        let line = self.line;
        let quote = self.bump();
        let mut text = String::new();
        while let Some(c) = self.bump() {
            if Some(c) == quote {
                return Ok(text);
            }
            if c == '\\' {
                match self.bump() {
                    Some(next) if matches!(next, '"' | '\'' | '\\') => text.push(next),
                    Some(next) => text.extend([c, next]),
                    None => break,
                }
            } else {
                text.push(c);
            }
        }
        Err(self.error(line, "the quote that begins here is not closed"))
    }

    /// A word without quotes. The brace of `${name}` belongs to it.
    fn word(&mut self) -> String {
        let mut text = String::new();
        while let Some(&c) = self.chars.peek() {
            let in_variable = c == '{' && text.ends_with('$');
            if c.is_whitespace() || c == ';' || c == '{' && !in_variable {
                break;
            }
            if c == '}' && !text.rsplit_once("${").is_some_and(|(_, rest)| !rest.contains('}')) {
                break;
            }
            self.bump();
            text.push(c);
            if c == '\\'
                && let Some(next) = self.bump()
            {
                text.push(next);
            }
        }
        text
    }

    /// Lua up to the brace that closes the block; quotes and comments of Lua may hold braces.
    fn skip_lua(&mut self) -> Result<(), ImportError> {
        let line = self.line;
        let mut depth = 1;
        while let Some(c) = self.bump() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Ok(()),
                '}' => depth -= 1,
                '-' if self.chars.peek() == Some(&'-') => while self.bump().is_some_and(|c| c != '\n') {},
                '"' | '\'' => {
                    while let Some(inner) = self.bump().filter(|inner| *inner != c && *inner != '\n') {
                        if inner == '\\' {
                            self.bump();
                        }
                    }
                }
                _ => {}
            }
        }
        Err(self.error(line, "the block of Lua that begins here is not closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, String> {
        parse(&Arc::from("nginx.conf"), text, &mut Numbering::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn words_quotes_comments_and_blocks_are_read_with_their_lines() {
        let text = "user www; # the user\nhttp {\n  log_format main '$a \"b\"\n $c';\n  server { listen 80; }\n}\n\
                    set $x \"a\\\"b\" ${y}z /\\{q; location ~ ^/a\\;b$ { }";
        let read = read(text).unwrap();
        let lines: Vec<_> = read.iter().map(|d| (d.at.line, d.shown())).collect();
        assert_eq!(lines[0], (1, "user www".to_owned()));
        let http = read[1].body();
        assert_eq!(http[0].args, ["main", "$a \"b\"\n $c"]);
        assert_eq!((http[1].at.line, http[1].body()[0].shown()), (5, "listen 80".to_owned()));
        assert_eq!(read[2].args, ["$x", "a\"b", "${y}z", "/\\{q"]);
        assert_eq!(read[3].args, ["~", "^/a\\;b$"]);
    }

    #[test]
    fn lua_is_one_block_whatever_is_in_it() {
        let read = read("access_by_lua_block {\n local t = {} -- }\n x = '}'\n}\nlisten 80;").unwrap();
        assert_eq!(read.iter().map(|d| d.at.line).collect::<Vec<_>>(), [1, 5]);
    }

    #[test]
    fn what_breaks_the_grammar_has_its_line() {
        for (text, error) in [
            ("a;\nhttp {\n b;\n", "nginx.conf:2: the block that begins here is not closed"),
            ("a;\n}", "nginx.conf:2: `}` without an open block"),
            ("http {\n listen 80\n}", "nginx.conf:2: `listen` does not end with `;`"),
            ("a \"b;\n", "nginx.conf:1: the quote that begins here is not closed"),
            ("{ }", "nginx.conf:1: `{` without a directive before it"),
        ] {
            assert_eq!(read(text).unwrap_err(), error);
        }
        assert!(read(&"a {".repeat(100)).unwrap_err().contains("nested too deep"));
    }
}

//! Regular expressions on paths as the patterns of `icm.yaml`, in which `*` is any text. Only those that mean the same are
//! translated; others are reported.

use super::model::ImportedMatch;

/// Start and end of a text, while alternatives are expanded.
const START: char = '\u{2}';
const END: char = '\u{3}';
/// More alternatives than anybody writes on purpose.
const MAX_ALTERNATIVES: usize = 64;
const MAX_DEPTH: usize = 8;

/// The patterns that together match what the expression matches; `None` if there are none.
pub(crate) fn of_regex(regex: &str) -> Option<Vec<String>> {
    let regex = regex.strip_prefix("(?i)").unwrap_or(regex);
    let chars: Vec<char> = regex.chars().collect();
    let mut parser = Parser { chars: &chars, at: 0 };
    let alternatives = parser.alternatives(0)?;
    if parser.at != chars.len() {
        return None;
    }
    let mut patterns = Vec::new();
    for text in alternatives {
        let (open, rest) = match text.strip_prefix(START) {
            Some(rest) => ("", rest),
            None => ("*", &*text),
        };
        let (body, close) = match rest.strip_suffix(END) {
            Some(body) => (body, ""),
            None => (rest, "*"),
        };
        let mut pattern = format!("{open}{body}{close}");
        while pattern.contains("**") {
            pattern = pattern.replace("**", "*");
        }
        if !is_pattern(&pattern) {
            return None;
        }
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    (!patterns.is_empty()).then_some(patterns)
}

/// Whether `icm.yaml` takes the text as a `path`.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.starts_with(['/', '*'])
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%' | '"' | '\\'))
}

/// The patterns of a prefix: what begins with it, whole path segments or not.
pub(crate) fn of_prefix(prefix: &str) -> Option<Vec<String>> {
    let pattern = format!("{prefix}*");
    (is_pattern(&pattern) && !prefix.contains('*')).then(|| vec![pattern])
}

/// The databases that patterns denote, such as `names.nsf` for `/names.nsf*`; `None` if one of them is something else.
pub(crate) fn databases(patterns: &[String]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for pattern in patterns {
        let body = pattern.strip_suffix('*').unwrap_or(pattern);
        let body = body.strip_suffix('/').unwrap_or(body);
        let is_name = |name: &str| name.len() > 4 && name.to_ascii_lowercase().ends_with(".nsf");
        let stem = body.trim_start_matches(['*', '/']);
        if !is_name(stem) || stem.contains('*') {
            return None;
        }
        match body {
            _ if body.starts_with("*/") => names.extend([stem.to_owned(), format!("*/{stem}")]),
            _ if body.starts_with('*') => names.push(format!("*{stem}")),
            _ => names.push(stem.to_owned()),
        }
    }
    (!names.is_empty()).then_some(names)
}

/// A rule that denies the path of a database denies the database: Domino opens it by its replica ID, too.
pub(crate) fn by_database(mut condition: ImportedMatch) -> ImportedMatch {
    for (key, values) in &mut condition.lists {
        let patterns: Vec<String> = match *key {
            "path" => values.clone(),
            "path_prefix" => values.iter().map(|prefix| format!("{prefix}/*")).collect(),
            _ => continue,
        };
        if let Some(databases) = databases(&patterns) {
            (*key, *values) = ("database", databases);
        }
    }
    condition
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn alternatives(&mut self, depth: usize) -> Option<Vec<String>> {
        let mut all = self.sequence(depth)?;
        while self.peek() == Some('|') {
            self.at += 1;
            all.extend(self.sequence(depth)?);
            if all.len() > MAX_ALTERNATIVES {
                return None;
            }
        }
        Some(all)
    }

    fn sequence(&mut self, depth: usize) -> Option<Vec<String>> {
        let mut texts = vec![String::new()];
        while let Some(c) = self.peek().filter(|c| !matches!(c, '|' | ')')) {
            self.at += 1;
            let (mut options, is_group) = match c {
                '^' => (vec![START.to_string()], false),
                '$' => (vec![END.to_string()], false),
                '(' => (self.group(depth)?, true),
                '[' => (self.class()?, false),
                '\\' => (vec![self.take().filter(|c| c.is_ascii_punctuation())?.to_string()], false),
                '.' => (vec![self.any()], false),
                '*' | '+' | '?' | '{' | '}' => return None,
                c => (vec![c.to_string()], false),
            };
            let is_any = options == ["*"] && !is_group;
            match self.peek() {
                Some('?') if is_any => self.at += 1,
                Some('?') => {
                    self.at += 1;
                    options.push(String::new());
                }
                Some('*' | '+' | '{') => return None,
                _ => {}
            }
            texts = join(&texts, &options)?;
        }
        Some(texts)
    }

    /// Behind a dot: any text, or one character, for which the dot itself is meant as a rule.
    fn any(&mut self) -> String {
        match self.peek() {
            Some('*' | '+') => {
                self.at += 1;
                "*".to_owned()
            }
            _ => ".".to_owned(),
        }
    }

    fn group(&mut self, depth: usize) -> Option<Vec<String>> {
        if depth >= MAX_DEPTH {
            return None;
        }
        if self.peek() == Some('?') {
            self.at += 1;
            if self.take()? != ':' {
                return None;
            }
        }
        let inside = self.alternatives(depth + 1)?;
        (self.take()? == ')').then_some(inside)
    }

    /// A few characters in brackets, or both cases of a letter.
    fn class(&mut self) -> Option<Vec<String>> {
        let mut options: Vec<String> = Vec::new();
        loop {
            match self.take()? {
                ']' => break,
                '^' | '-' | '[' => return None,
                '\\' => options.push(self.take().filter(|c| c.is_ascii_punctuation())?.to_string()),
                c => options.push(c.to_ascii_lowercase().to_string()),
            }
        }
        options.sort();
        options.dedup();
        (1..=4).contains(&options.len()).then_some(options)
    }
}

fn join(texts: &[String], options: &[String]) -> Option<Vec<String>> {
    if texts.len() * options.len() > MAX_ALTERNATIVES {
        return None;
    }
    Some(texts.iter().flat_map(|text| options.iter().map(move |option| format!("{text}{option}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_becomes_patterns_that_mean_the_same() {
        let cases: [(&str, &[&str]); 9] = [
            (r"^/admin", &["/admin*"]),
            (r"\.(gif|jpe?g)$", &["*.gif", "*.jpeg", "*.jpg"]),
            (r"^/(names|log)\.nsf", &["/names.nsf*", "/log.nsf*"]),
            (r"^/old/.*$", &["/old/*"]),
            (r"^/exact\.html$", &["/exact.html"]),
            (r"/[Nn]ames.nsf", &["*/names.nsf*"]),
            (r"(?i)^/a$|^/b$", &["/a", "/b"]),
            (r"^/x(/.*)?$", &["/x/*", "/x"]),
            (r"^(.*)$", &["*"]),
        ];
        for (regex, patterns) in cases {
            assert_eq!(of_regex(regex).unwrap_or_default(), patterns, "{regex}");
        }
    }

    #[test]
    fn an_expression_without_such_patterns_is_none() {
        for regex in [r"^/\d+", "a{3}", "[^/]+", "(?!x)", "(a", "a)", "x+", "[a-z]", r"^/a\?b", "", r"\"] {
            let patterns = of_regex(regex);
            assert!(patterns.is_none() || patterns == Some(vec!["*".to_owned()]), "{regex}: {patterns:?}");
        }
    }

    #[test]
    fn patterns_of_a_database_name_it() {
        let of = |pattern: &str| databases(&[pattern.to_owned()]);
        assert_eq!(of("/names.nsf*"), Some(vec!["names.nsf".into()]));
        assert_eq!(of("*/log.nsf*"), Some(vec!["log.nsf".into(), "*/log.nsf".into()]));
        assert_eq!(of("/mail/*"), None);
        assert_eq!(of("*.nsf*"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_expression_makes_it_panic(regex in "[a-c/.*+?()|\\[\\]^$\\\\]{0,24}|\\PC{0,20}") {
            for pattern in of_regex(&regex).unwrap_or_default() {
                proptest::prop_assert!(is_pattern(&pattern));
            }
        }
    }
}

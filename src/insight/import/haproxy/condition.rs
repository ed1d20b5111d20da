//! `acl` and the conditions behind `if` and `unless`, as conditions of routes and rules. Only what compares the same part of
//! a request in the same way is translated.

use std::collections::HashMap;

use super::super::directive::Directive;
use super::super::model::ImportedMatch;
use super::super::pattern;

/// More ways to satisfy a condition than anybody writes on purpose.
const MAX_WAYS: usize = 32;

/// One test of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AclTest {
    Match(ImportedMatch),
    /// Whether the client uses TLS.
    OverTls,
    Always(bool),
    /// More requests of an address than this in the period of its stick-table.
    TooManyRequests(u64),
    TooManyConnections(u64),
    /// Behind a path that only nginx-like servers know, such as `nbsrv`.
    Unknown,
}

/// All tests of one way to satisfy a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AclWay {
    pub positive: ImportedMatch,
    /// What must not match.
    pub negative: Vec<ImportedMatch>,
    pub over_tls: Option<bool>,
    pub request_limit: Option<u64>,
    pub connection_limit: Option<u64>,
}

impl AclWay {
    /// Only conditions that a route has, too.
    pub fn is_plain(&self) -> bool {
        self.negative.is_empty()
            && self.over_tls.is_none()
            && self.request_limit.is_none()
            && self.connection_limit.is_none()
    }
}

/// The named conditions of a section: each name has the tests of all its lines.
#[derive(Debug, Default)]
pub(super) struct AclTable<'a> {
    tests: HashMap<&'a str, Vec<AclTest>>,
    pub lines: HashMap<&'a str, Vec<&'a Directive>>,
}

impl<'a> AclTable<'a> {
    pub fn read(levels: &[&'a [Directive]]) -> Self {
        let mut table = Self::default();
        for d in levels.iter().flat_map(|level| level.iter()).filter(|d| d.name == "acl") {
            table.tests.entry(d.arg(0)).or_default().push(test(d.args_from(1)));
            table.lines.entry(d.arg(0)).or_default().push(d);
        }
        table
    }

    /// The tests of a name; of those that compare the same part of a request, one with all values.
    fn named(&self, name: &str) -> Vec<AclTest> {
        let predefined = match name {
            "TRUE" | "HTTP" => Some(AclTest::Always(true)),
            "FALSE" => Some(AclTest::Always(false)),
            "LOCALHOST" => Some(AclTest::Match(ImportedMatch::of("client", vec!["127.0.0.0/8".to_owned()]))),
            name => name
                .strip_prefix("METH_")
                .map(|method| AclTest::Match(ImportedMatch::of("method", vec![method.to_owned()]))),
        };
        // A word that no line names is a test without values, such as `{ ssl_fc }`.
        let unnamed = || predefined.unwrap_or_else(|| test(&[name.to_owned()]));
        let Some(tests) = self.tests.get(name) else { return vec![unnamed()] };
        let mut merged: Vec<AclTest> = Vec::new();
        for test in tests {
            let same_key = merged.iter_mut().find_map(|known| match (known, test) {
                (AclTest::Match(known), AclTest::Match(new)) => {
                    let (known, new) = (known.lists.first_mut(), new.lists.first());
                    known.zip(new).filter(|(known, new)| known.0 == new.0)
                }
                _ => None,
            });
            match same_key {
                Some((known, new)) => known.1.extend(new.1.iter().cloned()),
                None => merged.push(test.clone()),
            }
        }
        merged
    }

    /// The ways to satisfy what stands behind `if` or `unless`; `None` if a part of it cannot be translated.
    pub fn ways(&self, words: &[String]) -> Option<Vec<AclWay>> {
        let mut ways: Vec<AclWay> = Vec::new();
        let negate_all = match words.first().map(String::as_str) {
            None => return Some(vec![AclWay::default()]),
            Some("if") => false,
            Some("unless") => true,
            Some(_) => return None,
        };
        let terms = terms(words.get(1..)?)?;
        if negate_all && (terms.len() != 1 || terms.first()?.len() != 1) {
            return None;
        }
        for all in terms {
            let mut partial = vec![AclWay::default()];
            for (negated, words) in all {
                let tests = match words.as_slice() {
                    [name] => self.named(name),
                    words => vec![test(words)],
                };
                partial = combine(&partial, negated != negate_all, &tests)?;
            }
            ways.extend(partial);
        }
        (ways.len() <= MAX_WAYS).then_some(ways)
    }
}

/// Alternatives (`||`, `or`) of terms that must all hold, each with whether it is negated.
fn terms(words: &[String]) -> Option<Vec<Vec<(bool, Vec<String>)>>> {
    let mut alternatives = vec![Vec::new()];
    let mut negated = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "||" | "or" => alternatives.push(Vec::new()),
            "!" => negated = !negated,
            "{" | "!{" => {
                let inside: Vec<String> = words.by_ref().take_while(|word| *word != "}").cloned().collect();
                alternatives.last_mut()?.push((negated != (word == "!{"), inside));
                negated = false;
            }
            name => {
                let bare = name.strip_prefix('!');
                alternatives
                    .last_mut()?
                    .push((negated != bare.is_some(), vec![bare.unwrap_or(name).to_owned()]));
                negated = false;
            }
        }
    }
    alternatives.iter().all(|all| !all.is_empty()).then_some(alternatives)
}

/// Adds a test, or its negation, to each way.
fn combine(ways: &[AclWay], negated: bool, tests: &[AclTest]) -> Option<Vec<AclWay>> {
    let mut combined = Vec::new();
    if negated {
        for way in ways {
            let mut way = way.clone();
            for test in tests {
                match test {
                    AclTest::Match(condition) => way.negative.push(condition.clone()),
                    AclTest::OverTls if way.over_tls != Some(true) => way.over_tls = Some(false),
                    AclTest::Always(false) => {}
                    _ => return None,
                }
            }
            combined.push(way);
        }
        return Some(combined);
    }
    for way in ways {
        for test in tests {
            let mut way = way.clone();
            match test {
                AclTest::Match(condition) => way.positive = way.positive.and(condition)?,
                AclTest::OverTls if way.over_tls != Some(false) => way.over_tls = Some(true),
                AclTest::Always(true) => {}
                AclTest::Always(false) => continue,
                AclTest::TooManyRequests(count) => way.request_limit = Some(*count),
                AclTest::TooManyConnections(count) => way.connection_limit = Some(*count),
                _ => return None,
            }
            combined.push(way);
        }
    }
    (combined.len() <= MAX_WAYS).then_some(combined)
}

/// A criterion with its flags and values, as in `path_beg -i /admin /private`.
fn test(words: &[String]) -> AclTest {
    let Some((criterion, rest)) = words.split_first() else { return AclTest::Unknown };
    let mut flag_method = "";
    let mut values: Vec<String> = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-i" | "-n" => {}
            "-m" => flag_method = rest.next().map_or("", String::as_str),
            "--" => values.extend(rest.by_ref().cloned()),
            // Values in a file, maps, identifiers.
            "-f" | "-M" | "-u" => return AclTest::Unknown,
            value => values.push(value.to_owned()),
        }
    }
    let (name, argument) = match criterion.split_once('(') {
        Some((name, rest)) => (name, rest.trim_end_matches(')')),
        None => (criterion.as_str(), ""),
    };
    if argument.contains([')', ',']) && !argument.ends_with(",lower") && !name.starts_with("sc") {
        return AclTest::Unknown;
    }
    let (name, suffix) = match name.rsplit_once('_') {
        Some((base, suffix))
            if matches!(suffix, "beg" | "end" | "dir" | "sub" | "reg" | "dom" | "len" | "str") =>
        {
            (base, suffix)
        }
        _ => (name, flag_method),
    };
    let argument = argument.trim_end_matches(",lower").trim_end_matches(",-1");
    by_name(name, argument, suffix, &values).unwrap_or(AclTest::Unknown)
}

fn by_name(name: &str, argument: &str, method: &str, values: &[String]) -> Option<AclTest> {
    let name = name.strip_prefix("req.").unwrap_or(name);
    let matched = |key, values: Option<Vec<String>>| {
        let values = values.filter(|values| !values.is_empty())?;
        Some(AclTest::Match(ImportedMatch::of(key, values)))
    };
    match name {
        "path" => matched("path", paths(method, values)),
        "hdr" | "fhdr" | "shdr" if argument.eq_ignore_ascii_case("host") => {
            matched("host", hosts(method, values))
        }
        "ssl_fc_sni" => matched("host", hosts(method, values)),
        "hdr" | "fhdr" => field(argument, method, values),
        "method" => matched("method", Some(values.to_vec())),
        "src" => {
            let networks = values
                .iter()
                .all(|v| v.parse::<ipnet::IpNet>().is_ok() || v.parse::<std::net::IpAddr>().is_ok());
            matched("client", networks.then(|| values.to_vec()))
        }
        "ssl_fc" => Some(AclTest::OverTls),
        "always_true" => Some(AclTest::Always(true)),
        "always_false" => Some(AclTest::Always(false)),
        _ if name.contains("http_req_rate") => limit(values).map(AclTest::TooManyRequests),
        _ if name.contains("conn_cur") => limit(values).map(AclTest::TooManyConnections),
        _ => None,
    }
}

/// `gt 100` or `ge 100`.
fn limit(values: &[String]) -> Option<u64> {
    match values {
        [operator, count] if matches!(&**operator, "gt" | "ge") => {
            count.parse().ok().filter(|count| *count > 0)
        }
        _ => None,
    }
}

fn paths(method: &str, values: &[String]) -> Option<Vec<String>> {
    let mut patterns = Vec::new();
    for value in values {
        match method {
            "" | "str" => patterns.push(value.clone()),
            // A prefix that ends with a slash, and one with a whole segment, are written alike for people.
            "beg" => patterns.push(format!("{value}*")),
            "end" => patterns.push(format!("*{value}")),
            "sub" => patterns.push(format!("*{value}*")),
            "dir" => {
                let folder = value.trim_matches('/');
                patterns.extend([format!("*/{folder}/*"), format!("*/{folder}")]);
            }
            "reg" => patterns.extend(pattern::of_regex(value)?),
            _ => return None,
        }
    }
    let stars = |pattern: &String| {
        method == "reg" || method == "dir" || pattern.trim_matches('*') == pattern.replace('*', "")
    };
    patterns.iter().all(|p| pattern::is_pattern(p) && stars(p)).then_some(patterns)
}

fn hosts(method: &str, values: &[String]) -> Option<Vec<String>> {
    let mut hosts = Vec::new();
    for value in values {
        let value = value.to_ascii_lowercase();
        let value = value.split(':').next().unwrap_or_default();
        let name = match method {
            "" | "str" => value.to_owned(),
            "end" | "dom" if value.starts_with('.') => format!("*{value}"),
            "beg" if value.contains('.') && crate::util::host::is_dns_name(value) => value.to_owned(),
            "dom" => {
                hosts.push(value.to_owned());
                format!("*.{value}")
            }
            _ => return None,
        };
        hosts.push(name);
    }
    let is_host = |name: &String| crate::util::host::is_dns_name(name.trim_start_matches("*."));
    hosts.iter().all(is_host).then_some(hosts)
}

fn field(name: &str, method: &str, values: &[String]) -> Option<AclTest> {
    let name = name.split(',').next().unwrap_or(name);
    let [value] = values else { return None };
    let text = match method {
        "" | "str" => value.clone(),
        "beg" => format!("{value}*"),
        "end" => format!("*{value}"),
        "sub" => format!("*{value}*"),
        "found" => "*".to_owned(),
        _ => return None,
    };
    http::HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some(AclTest::Match(ImportedMatch { lists: Vec::new(), headers: vec![(name.to_owned(), text)] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(text: &str) -> Option<Vec<AclWay>> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        AclTable::default().ways(&words)
    }

    fn flow(text: &str) -> Vec<String> {
        ways(text).unwrap_or_default().iter().map(|way| way.positive.flow()).collect()
    }

    #[test]
    fn a_condition_becomes_the_ways_to_satisfy_it() {
        assert_eq!(
            flow("if { path_beg /api /keep } METH_GET"),
            ["{ path: [\"/api*\", \"/keep*\"], method: GET }"]
        );
        assert_eq!(
            flow("if { hdr(host) -i www.acme.example } || { src 10.0.0.0/8 }"),
            ["{ host: www.acme.example }", "{ client: \"10.0.0.0/8\" }"]
        );
        assert_eq!(
            flow("if { hdr_dom(host) acme.example }"),
            ["{ host: [acme.example, \"*.acme.example\"] }"]
        );
        let way = &ways("if { path /x } !{ src 10.0.0.0/8 }").unwrap()[0];
        assert_eq!((way.negative.len(), way.is_plain()), (1, false));
        assert_eq!(ways("unless { ssl_fc }").unwrap()[0].over_tls, Some(false));
        assert_eq!(ways("if { sc_http_req_rate(0) gt 100 }").unwrap()[0].request_limit, Some(100));
    }

    #[test]
    fn what_cannot_be_compared_alike_is_none() {
        for text in [
            "if { nbsrv(x) lt 1 }",
            "if { path -f /etc/x }",
            "if { hdr(host) -m reg ^a }",
            "if unknown",
            "maybe x",
        ] {
            assert_eq!(ways(text), None, "{text}");
        }
    }
}

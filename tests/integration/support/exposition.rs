//! A strict parser of Prometheus' text format: it also refuses what `promtool check metrics` only warns about.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub struct Sample {
    /// Includes `_bucket`, `_sum` or `_count`.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Family {
    pub kind: String,
    pub samples: Vec<Sample>,
}

pub type Families = BTreeMap<String, Family>;

pub fn read(text: &str) -> Result<Families, String> {
    if !text.ends_with('\n') {
        return Err("does not end with a newline".to_owned());
    }
    let mut families = Families::new();
    let mut current = String::new();
    let mut series = BTreeSet::new();
    for line in text.split_terminator('\n') {
        let wrong = |what: &str| Err(format!("{what}: {line:?}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return wrong("no help text") };
            if !is_name(name) || help.trim().is_empty() || families.contains_key(name) {
                return wrong("a family that starts twice, or has no help text");
            }
            current = name.to_owned();
            families.insert(current.clone(), Family::default());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let family = families.get_mut(&current).ok_or("TYPE before HELP")?;
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            if name != current
                || !family.kind.is_empty()
                || !["counter", "gauge", "histogram"].contains(&kind)
            {
                return wrong("TYPE of another family, a second TYPE, or an unknown type");
            }
            if (kind == "counter") != name.ends_with("_total") {
                return wrong("counters end in _total, and nothing else does");
            }
            family.kind = kind.to_owned();
        } else {
            let sample = sample(line).map_err(|e| format!("{e}: {line:?}"))?;
            let family = families.get_mut(&current).ok_or("a sample without a family")?;
            let suffix = sample.name.strip_prefix(current.as_str()).unwrap_or("?");
            let fits = match family.kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                "" => false,
                _ => suffix.is_empty(),
            };
            if !fits || !series.insert((sample.name.clone(), sample.labels.clone())) {
                return wrong("a sample of another family, or a second sample of a series");
            }
            if family.kind != "gauge" && (sample.value < 0.0 || sample.value.is_nan()) {
                return wrong("counts are never negative");
            }
            family.samples.push(sample);
        }
    }
    for (name, family) in families.iter().filter(|(_, f)| f.kind == "histogram") {
        histogram(name, family)?;
    }
    Ok(families)
}

/// The buckets (bound and count) of one combination of labels, its count, and whether it has a sum.
type Histogram = (Vec<(f64, f64)>, Option<f64>, bool);

/// Checks that the buckets ascend, and that the last is `+Inf` and equals the count.
fn histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut groups: BTreeMap<BTreeMap<String, String>, Histogram> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le");
        let group = groups.entry(labels).or_default();
        match (sample.name.strip_prefix(name), bound) {
            (Some("_bucket"), Some(bound)) => group.0.push((number(&bound)?, sample.value)),
            (Some("_count"), None) => group.1 = Some(sample.value),
            (Some("_sum"), None) => group.2 = true,
            _ => return Err(format!("{name}: only buckets have the label `le`, and all have it")),
        }
    }
    for (labels, (buckets, count, has_sum)) in groups {
        let ascends = buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
        let last = buckets.last().copied();
        if !ascends || !has_sum || last.map(|b| b.0) != Some(f64::INFINITY) || last.map(|b| b.1) != count {
            return Err(format!("{name} {labels:?}: {buckets:?}, count {count:?}"));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("no name".to_owned());
    }
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("no label")?;
            if !is_name(label) || label.contains(':') || label.starts_with("__") {
                return Err(format!("not a label name: {label:?}"));
            }
            let (value, after) = text(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("label {label} twice"));
            }
            if let Some(after) = after.strip_prefix(',') {
                rest = after;
            } else {
                rest = after.strip_prefix('}').ok_or("labels do not end")?;
                break;
            }
        }
    }
    let value = number(rest.strip_prefix(' ').ok_or("no space before the value")?)?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// Splits text into a label's value, up to its closing quote, and the rest.
fn text(from: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = from.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &from[at + 1..])),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                _ => return Err("an unknown escape".to_owned()),
            }),
            c => value.push(c),
        }
    }
    Err("a label value without closing quote".to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            text.parse().map_err(|e| format!("{text:?}: {e}"))
        }
        _ => Err(format!("not a number: {text:?}")),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// The value of a series; fails the test unless exactly one has this name and these labels.
pub fn value(families: &Families, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted = |s: &&Sample| {
        s.name == name && labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|have| have == v))
    };
    let found: Vec<_> = families.values().flat_map(|f| &f.samples).filter(wanted).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0].value
}

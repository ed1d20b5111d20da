//! The Prometheus text format, version 0.0.4. Label values are escaped; nothing else is checked.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{Display, Write as _};

use crate::telemetry::statistics::traffic::{BUCKET_BOUNDS_MICROS, HistogramTotals};

/// Pairs of label name and value.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// Writes metric families and their samples.
#[derive(Debug)]
pub struct Exposition {
    out: String,
    name: &'static str,
}

impl Default for Exposition {
    fn default() -> Self {
        Self { out: String::with_capacity(32 * 1024), name: "" }
    }
}

impl Exposition {
    pub fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, help, "counter");
    }

    pub fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, help, "gauge");
    }

    pub fn histogram(&mut self, name: &'static str, help: &str) {
        self.family(name, help, "histogram");
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) {
        self.name = name;
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample to the current family.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Adds the samples of one histogram to the current family.
    pub fn histogram_samples(&mut self, labels: Labels<'_>, times: &HistogramTotals) {
        let mut cumulative = 0;
        for (bound, count) in BUCKET_BOUNDS_MICROS.iter().zip(&times.buckets) {
            cumulative += count;
            let seconds = *bound as f64 / 1e6;
            self.line("_bucket", labels, Some(&seconds), cumulative);
        }
        let count = times.count();
        self.line("_bucket", labels, Some(&"+Inf"), count);
        self.line("_sum", labels, None, times.micros as f64 / 1e6);
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&dyn Display>, value: impl Display) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut separator = '{';
        for (name, text) in labels {
            self.out.push(separator);
            self.out.push_str(name);
            self.out.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
            separator = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(self.out, "{separator}le=\"{bound}\"");
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut text = Exposition::default();
        text.gauge("x", "An x");
        text.sample(&[("server", "W\"e\\b\n1/Ä")], 1);
        text.sample(&[], 2.5);
        let expected = "# HELP x An x\n# TYPE x gauge\nx{server=\"W\\\"e\\\\b\\n1/Ä\"} 1\nx 2.5\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn buckets_are_cumulative_and_the_last_one_equals_the_count() {
        let mut times = HistogramTotals { micros: 1_500_000, ..HistogramTotals::default() };
        times.buckets[0] = 2;
        times.buckets[BUCKET_BOUNDS_MICROS.len()] = 1;
        let mut text = Exposition::default();
        text.histogram("t_seconds", "Times");
        text.histogram_samples(&[("cluster", "A")], &times);
        let text = text.finish();
        assert!(text.contains("t_seconds_bucket{cluster=\"A\",le=\"0.001\"} 2\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{cluster=\"A\",le=\"90\"} 2\n"), "{text}");
        let end = "le=\"+Inf\"} 3\nt_seconds_sum{cluster=\"A\"} 1.5\nt_seconds_count{cluster=\"A\"} 3\n";
        assert!(text.ends_with(end), "{text}");
    }
}

//! The tables and plots of the measurement, in `benches/results/scale.md` and SVG files beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::Sample;
use crate::process::Memory;
use crate::{Failure, Settings, catalogue};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Before,
    During,
    After,
}

const PARTS: [(Part, &str, &str); 3] = [
    (Part::Before, "before", "#8ecae6"),
    (Part::During, "during", "#d1495b"),
    (Part::After, "after", "#023047"),
];

/// A stretch of time.
pub struct Phase {
    pub part: Part,
    pub from: Instant,
    pub to: Instant,
}

impl Phase {
    /// Waits while the load continues.
    pub fn quiet(part: Part, length: Duration) -> Self {
        let from = Instant::now();
        std::thread::sleep(length);
        Self { part, from, to: Instant::now() }
    }
}

pub struct Report {
    latencies: String,
    memory: String,
    pub empty_kib: u64,
    pub starts: Vec<Duration>,
    replicas: u64,
}

impl Report {
    pub fn new(settings: &Settings) -> Self {
        Self {
            latencies: String::new(),
            memory: String::new(),
            empty_kib: 0,
            starts: Vec::new(),
            replicas: settings.databases * catalogue::REPLICAS_PER_DATABASE,
        }
    }

    pub fn note_memory(&mut self, what: &str, memory: Memory) {
        let each = memory.resident.saturating_sub(self.empty_kib) as f64 * 1024.0 / self.replicas as f64;
        let line = format!("| {what} | {} | {each:.0} | {} |", memory.resident >> 10, memory.peak >> 10);
        println!("{line}");
        let _ = writeln!(self.memory, "{line}");
    }

    /// Adds the measurement of one source.
    pub fn add(&mut self, name: &str, title: &str, phases: &[Phase], samples: &[Sample]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        let mut table = format!(
            "### {title}\n\n| part | through | requests | failed | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n"
        );
        let mut series = Vec::new();
        for (part, word, colour) in PARTS {
            let within =
                |s: &&Sample| phases.iter().any(|p| p.part == part && (p.from..p.to).contains(&s.at));
            for control in [false, true] {
                let of: Vec<&Sample> =
                    samples.iter().filter(|s| s.control == control).filter(within).collect();
                let mut times: Vec<f64> = of.iter().map(|s| s.took.as_secs_f64() * 1e3).collect();
                times.sort_by(f64::total_cmp);
                let failed = of.iter().filter(|s| !s.good).count();
                let _ = write!(table, "| {word} | {} | {} | {failed} |", path_label(control), times.len());
                for q in [0.5, 0.9, 0.99, 0.999, 1.0] {
                    let _ = write!(table, " {:.2} |", quantile(&times, q));
                }
                table.push('\n');
                if !control {
                    series.push((word, colour, times));
                }
            }
        }
        let lengths: Vec<String> = phases
            .iter()
            .filter(|p| p.part == Part::During)
            .map(|p| format!("{:.1}", (p.to - p.from).as_secs_f64()))
            .collect();
        let _ = writeln!(
            table,
            "\nSeconds from the signal or the first page to the swap: {}.",
            lengths.join(", ")
        );
        let (histogram, course) = (format!("scale-{name}.svg"), format!("scale-{name}-time.svg"));
        let _ = writeln!(table, "[Histogram]({histogram}), [course of the percentiles]({course}).\n");
        print!("{table}");
        self.latencies.push_str(&table);
        let written = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(histogram), histogram_svg(title, &series)))
            .and_then(|()| fs::write(folder.join(course), course_svg(title, phases, samples)));
        if let Err(error) = written {
            eprintln!("plots: {error}");
        }
    }

    pub fn write(&self, settings: &Settings) -> Result<(), Failure> {
        let mut starts: Vec<f64> = self.starts.iter().map(Duration::as_secs_f64).collect();
        starts.sort_by(f64::total_cmp);
        let text = format!(
            "# Directory at scale\n\n{} databases with {} replicas each; {} requests a second, every eighth of them directly \
             to an origin, as a control of the machine; `icm` with one worker on processor {}, load and servers on processor \
             {}. A sample counts from the moment when the request was due.\n\n## Latency while a directory is loaded, indexed \
             and swapped\n\n{}## Memory\n\nResident memory of the process, and what it is for each replica beyond the {} MiB \
             of a process with one database; the peak while the directory was read.\n\n| moment | MiB | bytes per replica | peak \
             MiB |\n|---|--:|--:|--:|\n{}\n## Cold start\n\nFrom the start of the process to the first answer from a server that \
             holds the database, with the copy on disk and a source that answers 503: median {:.2} s, slowest of {} {:.2} s.\n",
            settings.databases,
            catalogue::REPLICAS_PER_DATABASE,
            settings.per_second,
            settings.cpus.0,
            settings.cpus.1,
            self.latencies,
            self.empty_kib >> 10,
            self.memory,
            quantile(&starts, 0.5),
            starts.len(),
            quantile(&starts, 1.0),
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/scale.md");
        fs::write(&path, &text)?;
        println!("{text}\n{}", path.display());
        Ok(())
    }
}

fn path_label(control: bool) -> &'static str {
    if control { "no proxy" } else { "icm" }
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;

/// An empty plot with logarithmic milliseconds, and a labelled line for each decade.
fn plot(title: &str, decades: &[(f64, &str, bool)]) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="8" y="18">{title}</text>"#,
        LEFT + WIDTH + 30.0,
        TOP + HEIGHT + 40.0
    );
    for (at, word, vertical) in decades {
        let (x, y) = (LEFT + at * WIDTH, TOP + HEIGHT * (1.0 - at));
        let (line, label) = match vertical {
            true => ((x, TOP, x, TOP + HEIGHT), (x - 12.0, TOP + HEIGHT + 16.0)),
            false => ((LEFT, y, LEFT + WIDTH, y), (8.0, y + 4.0)),
        };
        let _ = write!(
            svg,
            "\n<path d=\"M{:.0} {:.0}L{:.0} {:.0}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.0}\">{word}</text>",
            line.0, line.1, line.2, line.3, label.0, label.1
        );
    }
    svg
}

/// The position from 0 to 1 on a logarithmic scale of 0.1 ms to 1 s.
fn log_position(ms: f64) -> f64 {
    ((ms.max(0.1).log10() + 1.0) / 4.0).min(1.0)
}

const DECADES: [(f64, &str); 5] =
    [(0.1, "0.1 ms"), (1.0, "1 ms"), (10.0, "10 ms"), (100.0, "0.1 s"), (1000.0, "1 s")];

fn histogram_svg(title: &str, series: &[(&str, &str, Vec<f64>)]) -> String {
    const BINS: usize = 80;
    let mut decades: Vec<_> = DECADES.map(|(ms, word)| (log_position(ms), word, true)).to_vec();
    // Shares of 1 to 1 in 100,000.
    let share = |share: f64| (share.max(1e-5).log10() + 5.0) / 5.0;
    decades.extend(
        [(1.0, "1"), (0.01, "1 in 10²"), (0.0001, "1 in 10⁴")].map(|(s, word)| (share(s), word, false)),
    );
    let mut svg = plot(&format!("Share of the requests by latency, {title}"), &decades);
    for (n, (word, colour, times)) in series.iter().enumerate() {
        let mut bins = [0_u32; BINS];
        for time in times {
            bins[((log_position(*time) * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
        let mut points = String::new();
        for (bin, count) in bins.iter().enumerate() {
            let y = TOP + HEIGHT * (1.0 - share(f64::from(*count) / times.len().max(1) as f64));
            for edge in [bin, bin + 1] {
                let _ = write!(points, "{:.0},{y:.0} ", LEFT + WIDTH * edge as f64 / BINS as f64);
            }
        }
        svg += &curve(&points, n, word, colour);
    }
    svg + "\n</svg>\n"
}

/// A line through these points, with its label in the `n`th row of the legend.
fn curve(points: &str, n: usize, word: &str, colour: &str) -> String {
    let (x, y) = (LEFT + WIDTH - 60.0, TOP + 16.0 + 16.0 * n as f64);
    format!(
        "\n<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/><text x=\"{x:.0}\" y=\"{y}\" fill=\"{colour}\">{word}</text>"
    )
}

/// The percentiles of every half second; readings are shaded.
fn course_svg(title: &str, phases: &[Phase], samples: &[Sample]) -> String {
    let decades: Vec<_> = DECADES.map(|(ms, word)| (log_position(ms), word, false)).to_vec();
    let mut svg =
        plot(&format!("Latency in every half second (shaded: a directory is read), {title}"), &decades);
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return svg + "</svg>\n" };
    let length = (last.at - first.at).as_secs_f64().max(1.0);
    let x = |at: Instant| LEFT + WIDTH * at.saturating_duration_since(first.at).as_secs_f64() / length;
    for phase in phases.iter().filter(|p| p.part == Part::During) {
        let _ = write!(
            svg,
            "\n<rect x=\"{:.0}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#d1495b\" opacity=\"0.15\"/>",
            x(phase.from),
            x(phase.to) - x(phase.from)
        );
    }
    let through: Vec<&Sample> = samples.iter().filter(|s| !s.control).collect();
    for (n, (q, word, colour)) in
        [(0.5, "p50", "#8ecae6"), (0.99, "p99", "#023047"), (1.0, "max", "#f4a261")].into_iter().enumerate()
    {
        let mut points = String::new();
        let slots = |s: &&Sample| ((s.at - first.at).as_secs_f64() * 2.0) as u64;
        for slot in through.chunk_by(|a, b| slots(a) == slots(b)) {
            let mut times: Vec<f64> = slot.iter().map(|s| s.took.as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            let y = TOP + HEIGHT * (1.0 - log_position(quantile(&times, q)));
            let _ = write!(points, "{:.1},{y:.0} ", x(slot[0].at));
        }
        svg += &curve(&points, n, word, colour);
    }
    svg + "\n</svg>\n"
}

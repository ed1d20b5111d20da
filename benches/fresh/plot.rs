//! Reads of an older state over time as SVG: one strip for each load balancer, with lines where the server stops, returns
//! and is true again. Its colours follow the reader's light or dark scheme.

use std::fmt::Write as _;

use super::experiment::judge::{Findings, StaleSecond};

const WIDTH: f64 = 760.0;
const STRIP: f64 = 76.0;
const GAP: f64 = 22.0;
const LEFT: f64 = 130.0;
const TOP: f64 = 62.0;

const STYLE: &str = "
text { font: 12px sans-serif; fill: #24292f } .faint { fill: #57606a } .axis { stroke: #8c959f; stroke-width: 1 }
.own { fill: #cf222e } .told { fill: #e6a5aa } .newcomers { fill: #bf8700 } .event { stroke: #0969da; stroke-width: 1; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .axis { stroke: #6e7681 }
.own { fill: #ff7b72 } .told { fill: #8e4a49 } .newcomers { fill: #e3b341 } .event { stroke: #58a6ff }
}
";

/// The plot; all strips have the same scale.
pub fn stale_reads(seconds: f64, runs: &[(String, Findings)]) -> String {
    let sum = |second: &StaleSecond| second.own + second.told + second.newcomers;
    let most = runs.iter().flat_map(|(_, f)| &f.seconds).map(sum).max().unwrap_or(0).max(1);
    let height = TOP + runs.len() as f64 * (STRIP + GAP) + 24.0;
    let x = |at: f64| LEFT + at / seconds * WIDTH;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {height}" role="img" aria-label="Reads of an older state in each second"><style>{STYLE}</style>"#,
        LEFT + WIDTH + 20.0
    );
    let _ =
        writeln!(svg, r#"<text x="8" y="18">Reads of an older state in each second, highest {most}</text>"#);
    let legend = [
        ("own", "a user without his own writes", 0.0),
        ("told", "the same, after a page that said so", 210.0),
        ("newcomers", "a newcomer on a replica that is behind", 450.0),
    ];
    for (class, text, at) in legend {
        let x = LEFT + at;
        let _ = writeln!(
            svg,
            r#"<rect class="{class}" x="{x}" y="28" width="10" height="10"/><text x="{}" y="37">{text}</text>"#,
            x + 15.0
        );
    }
    if let Some((_, first)) = runs.first() {
        for (at, name) in first.events.iter().zip(["Web1 stops", "returns", "forced replication"]) {
            let _ = writeln!(
                svg,
                r#"<text class="faint" x="{:.1}" y="{}">{name}</text>"#,
                x(*at) + 3.0,
                TOP - 6.0
            );
        }
    }
    for (row, (name, findings)) in runs.iter().enumerate() {
        let top = TOP + row as f64 * (STRIP + GAP);
        strip(&mut svg, top, name, findings, f64::from(most), &x);
    }
    for at in (0..=seconds as usize).step_by(10) {
        let _ = writeln!(
            svg,
            r#"<text class="faint" x="{:.1}" y="{}" text-anchor="middle">{at} s</text>"#,
            x(at as f64),
            height - 8.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn strip(svg: &mut String, top: f64, name: &str, findings: &Findings, most: f64, x: &impl Fn(f64) -> f64) {
    let bottom = top + STRIP;
    let _ = writeln!(svg, r#"<text x="8" y="{}">{name}</text>"#, top + STRIP / 2.0);
    let width = x(1.0) - x(0.0) - 1.0;
    for (second, stale) in findings.seconds.iter().enumerate() {
        let mut base = bottom;
        for (class, count) in [("own", stale.own), ("told", stale.told), ("newcomers", stale.newcomers)] {
            let tall = f64::from(count) / most * STRIP;
            base -= tall;
            if count > 0 {
                let _ = writeln!(
                    svg,
                    r#"<rect class="{class}" x="{:.1}" y="{base:.1}" width="{width:.1}" height="{tall:.1}"/>"#,
                    x(second as f64)
                );
            }
        }
    }
    let _ = writeln!(
        svg,
        r#"<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{:.1}" y2="{bottom}"/>"#,
        LEFT + WIDTH
    );
    for at in findings.events {
        let _ =
            writeln!(svg, r#"<line class="event" x1="{:.1}" y1="{top}" x2="{0:.1}" y2="{bottom}"/>"#, x(at));
    }
}

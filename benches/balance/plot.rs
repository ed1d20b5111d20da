//! The share of each server over time as SVG: one strip for each rule, in which the height of a colour is the share of a
//! server. `benches/live` uses it as well.

use std::fmt::Write as _;

/// Draws the strips; the whole width is `seconds`.
pub fn shares(title: &str, seconds: f64, strips: &[(&str, &[[u32; 3]])]) -> String {
    let mut svg = String::new();
    let (width, strip, left) = (760.0, 54.0, 150.0);
    let height = strips.len() as f64 * (strip + 10.0) + 40.0;
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="8" y="18">{title}</text>"#,
        width + left + 20.0
    );
    for (row, (name, per_second)) in strips.iter().enumerate() {
        let top = 30.0 + row as f64 * (strip + 10.0);
        let _ = writeln!(svg, r#"<text x="8" y="{}">{name}</text>"#, top + strip / 2.0);
        for (server, colour) in [(0, "#8ecae6"), (1, "#219ebc"), (2, "#023047")] {
            let mut points = String::new();
            let mut back = String::new();
            for (second, pair) in per_second.chunks(2).enumerate() {
                let counts: [u32; 3] = std::array::from_fn(|n| pair.iter().map(|c| c[n]).sum());
                let second = second * 2;
                let total: u32 = counts.iter().sum();
                if total == 0 {
                    continue;
                }
                let below: u32 = counts[..server].iter().sum();
                let x = left + second as f64 / seconds * width;
                let y = |n: u32| top + strip * (1.0 - f64::from(n) / f64::from(total));
                let _ = write!(points, "{x:.0},{:.0} ", y(below + counts[server]));
                back.insert_str(0, &format!("{x:.0},{:.0} ", y(below)));
            }
            let _ = writeln!(svg, r#"<polygon points="{points}{back}" fill="{colour}"/>"#);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

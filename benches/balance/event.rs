//! The scenarios of simulated and live runs: the request rate over time and the work of each request.

use fastrand::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// No event: three servers of capacity 1:2:4.
    Steady,
    /// The middle server takes ten times as long in the second third of the run.
    SlowsDown,
    /// The largest server is down from a sixth to a third of the run, and returns with cold caches: a third of its speed
    /// at first, full speed after half a minute.
    ReturnsCold,
    /// Every twenty seconds, five have twice the rate of the others.
    Bursts,
    /// A few requests take very long.
    HeavyTail,
}

impl Event {
    /// In the order of the reports.
    pub const ALL: [Event; 5] =
        [Event::Steady, Event::SlowsDown, Event::ReturnsCold, Event::Bursts, Event::HeavyTail];

    /// Load as a share of the capacity of all servers; without the largest, the others must be able to serve it.
    pub fn load(self) -> f64 {
        if self == Event::ReturnsCold { 0.35 } else { 0.6 }
    }

    /// The request rate at `now` (seconds) as a multiple of the mean.
    pub fn intensity(self, now: f64) -> f64 {
        match self {
            Event::Bursts if now % 20.0 < 5.0 => 1.5,
            Event::Bursts => 0.7,
            _ => 1.0,
        }
    }

    /// Work of one request in seconds: exponential, or bounded Pareto of shape 1.3 up to `max_work`.
    pub fn work(self, mean: f64, max_work: f64, random: &mut Rng) -> f64 {
        if self != Event::HeavyTail {
            return mean * exponential(random);
        }
        let (shape, low): (f64, f64) = (1.3, 0.27 * mean);
        let (a, b) = (low.powf(-shape), max_work.powf(-shape));
        (a - random.f64() * (a - b)).powf(-1.0 / shape)
    }
}

/// An exponentially distributed number with mean 1.
pub fn exponential(random: &mut Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

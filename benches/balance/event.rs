//! What happens in a run, simulated or live: the scenarios, how much comes when, and how much work a request is.
//!
//! In: an event, a clock, a generator. Out: intensities and sizes. Also part of the live runs.

use fastrand::Rng;

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing: three servers of capacity 1:2:4.
    Steady,
    /// The middle one takes ten times as long from a third of the run to two thirds.
    SlowsDown,
    /// The largest one is away from a sixth to a third of the run, and returns with cold caches: a third of its
    /// speed at first, all of it after half a minute.
    ReturnsCold,
    /// Five seconds out of twenty bring twice as much as the others.
    Bursts,
    /// A few requests take very long.
    HeavyTail,
}

impl Event {
    /// In the order of the reports.
    pub const ALL: [Event; 5] =
        [Event::Steady, Event::SlowsDown, Event::ReturnsCold, Event::Bursts, Event::HeavyTail];

    /// Share of all servers' capacity that is asked for: what remains when the largest is away must do.
    pub fn load(self) -> f64 {
        if self == Event::ReturnsCold { 0.35 } else { 0.6 }
    }

    /// How much comes at `now` (seconds), in multiples of the mean.
    pub fn intensity(self, now: f64) -> f64 {
        match self {
            Event::Bursts if now % 20.0 < 5.0 => 1.5,
            Event::Bursts => 0.7,
            _ => 1.0,
        }
    }

    /// Work of one request, seconds: exponential, or bounded Pareto of shape 1.3 up to `longest`.
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

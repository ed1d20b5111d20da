//! How well requests are balanced: a discrete-event simulation of `select::decide`, of the rules of other load balancers,
//! and of an oracle.
//!
//! `cargo bench --bench balance` (or `make balance`) writes `benches/results/balance.md` and plots beside it; `-- QUICK`
//! runs a part, and `SEEDS` in the environment sets the seeds. The clock is simulated, so the same seeds give the same figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may panic"
)]

mod event;
mod plot;
mod report;
mod rules;
mod run;
mod server;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use event::Event;
use run::{Case, Outcome, Size};

fn main() -> std::io::Result<()> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let quick = std::env::args().any(|a| a == "QUICK");
    let mut work = Vec::new();
    for size in [Size::Busy, Size::Calm] {
        for event in Event::ALL {
            for icms in [1, 4] {
                for affinity in if quick { vec![0.0] } else { vec![0.0, 0.5, 0.95] } {
                    for index_every in [60.0, 5.0, 0.0] {
                        for name in rules::RULES {
                            let case = Case { size, event, index_every, icms, affinity };
                            // A rule that does not read the index runs once; "highest index" needs one.
                            let impossible = name == "highest index" && index_every == 0.0;
                            if !impossible && (rules::reads_index(name) || index_every == 60.0) {
                                work.push((case, name));
                            }
                        }
                    }
                }
            }
        }
    }
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "42 1 2 3".to_owned());
    let seeds: Vec<u64> =
        seeds.split_whitespace().map(|seed| seed.parse().expect("SEEDS are numbers")).collect();
    let results: Mutex<Vec<(Case, &str, Outcome)>> = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((case, name)) = work.get(next.fetch_add(1, Relaxed)) {
                    let outcome = run::run(*case, name, &seeds);
                    results.lock().expect("no thread has failed").push((*case, *name, outcome));
                }
            });
        }
    });
    report::write(&results.into_inner().expect("no thread has failed"))
}

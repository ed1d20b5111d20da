//! The workers of a server, and the availability index that results from their load. Work only occupies a worker for
//! some time; it uses no CPU.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::clock;
use crate::settings::Settings;

pub struct Capacity {
    queue: Mutex<(usize, Arc<Semaphore>)>,
    measured: Mutex<Measured>,
}

struct Measured {
    /// Milliseconds that requests took since the last update, waiting included.
    took: f64,
    /// Milliseconds that the same requests would have taken on an idle server.
    alone: f64,
    index: f64,
    /// Time of the last update in seconds since 1970.
    at: u64,
    due: Option<Instant>,
    /// Length of the first interval as a fraction of the others.
    phase: f64,
}

/// Domino's index `100 * (1 - log2(XF) / 6)` for an expansion factor, rounded as Domino prints it.
fn index_of(expansion: f64) -> f64 {
    (100.0 * (1.0 - expansion.max(1.0).log2() / 6.0)).clamp(0.0, 100.0).round()
}

impl Capacity {
    /// `phase` is the fraction of an interval that passes before the first measured index.
    pub fn new(phase: f64) -> Capacity {
        let measured = Measured { took: 0.0, alone: 0.0, index: 100.0, at: clock::now(), due: None, phase };
        Capacity { queue: Mutex::new((0, Arc::new(Semaphore::new(0)))), measured: Mutex::new(measured) }
    }

    /// Waits for a worker and occupies it until the work is done.
    pub async fn work(&self, work_ms: u64, settings: impl Fn() -> Arc<Settings>) {
        let arrived = Instant::now();
        let queue = self.queue(settings().workers);
        // Never an error: no semaphore is closed.
        let _permit = queue.acquire().await;
        let work = Duration::from_millis(work_ms);
        tokio::time::sleep(work.div_f64(settings().speed)).await;
        let mut measured = self.measured.lock().unwrap();
        measured.took += arrived.elapsed().as_secs_f64() * 1000.0;
        measured.alone += work_ms as f64;
    }

    /// A changed number of workers starts a new queue; requests in the old queue are served by the old workers.
    fn queue(&self, workers: usize) -> Arc<Semaphore> {
        let workers = if workers == 0 { Semaphore::MAX_PERMITS } else { workers };
        let mut queue = self.queue.lock().unwrap();
        if queue.0 != workers {
            *queue = (workers, Arc::new(Semaphore::new(workers)));
        }
        queue.1.clone()
    }

    /// The index and the time of its last update. It is updated on read, when an update is due.
    pub fn index(&self, every_ms: u64) -> (f64, u64) {
        let mut m = self.measured.lock().unwrap();
        let every = Duration::from_millis(every_ms);
        let now = Instant::now();
        let phase = m.phase;
        let due = *m.due.get_or_insert_with(|| now + every.mul_f64(phase));
        if due <= now {
            let late = now.duration_since(due).as_millis() as u64 / every_ms.max(1);
            m.due = Some(due + every * (late + 1) as u32);
            m.index = if m.alone > 0.0 { index_of(m.took / m.alone) } else { 100.0 };
            m.at = clock::now();
            (m.took, m.alone) = (0.0, 0.0);
        }
        (m.index, m.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(workers: usize, speed: f64) -> impl Fn() -> Arc<Settings> {
        move || Arc::new(Settings { workers, speed, ..Settings::default() })
    }

    #[tokio::test]
    async fn one_worker_serves_requests_in_turn_and_the_index_falls() {
        let capacity = Capacity::new(0.0);
        assert_eq!(capacity.index(1).0, 100.0);
        let start = Instant::now();
        let one = || capacity.work(20, settings(1, 0.5));
        tokio::join!(one(), one(), one());
        assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
        // 40, 80 and 120 ms for 20 ms of work each: an expansion factor of 4, so the index falls by a third.
        let index = capacity.index(1).0;
        assert!(index <= 67.0, "{index}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(capacity.index(1).0, 100.0, "idle again");
    }

    #[tokio::test]
    async fn without_a_limit_all_requests_are_served_at_once() {
        let capacity = Capacity::new(0.0);
        capacity.index(1);
        let one = || capacity.work(200, settings(0, 1.0));
        tokio::join!(one(), one(), one(), one(), one(), one(), one(), one());
        assert!(capacity.index(1).0 > 70.0, "no request waited");
    }
}
